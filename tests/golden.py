"""Golden curves: the first losses of every recipe, so that no refactoring changes the results.

    python tests/golden.py --record LeNet ...    write tests/golden/<Name>.json anew

Record one only where the results are meant to change, and say so in the commit's message.
"""

import argparse
import contextlib
import json
import tempfile
from pathlib import Path
from unittest import mock

import conftest

import torch

FOLDER = Path(__file__).resolve().parent / "golden"
# How the recipes that are too large for a test are made small: few steps, few images, narrow.
SMALL = {
    "LeNet paper": "--data fashion-mnist --limit 600 --batch-size 40",
    "AlexNet paper": "--data fashion-mnist --limit 24 --batch-size 8 --width 0.0625",
    "VGG paper": "--data fashion-mnist --limit 24 --batch-size 8 --width 0.0625 --image-size 64 "
    "--side 96 --scales 64 80 96",
    "GoogLeNet paper": "--data fashion-mnist --limit 24 --batch-size 8 --width 0.125",
    "BatchNorm paper": "--data fashion-mnist --limit 24 --batch-size 8 --width 0.125",
    "LSTM laptop": "--blocks 64",
    "Attention laptop": "--units 32 --batch-size 16",
    "Attention paper": "--units 32 --embedding 32 --maxout 16 --alignment 32 --batch-size 8",
    "Transformer laptop": "--batch-size 16 --d-model 32 --d-ff 64 --merges 50",
    "Transformer paper": "--batch-size 8 --layers 2 --d-model 32 --d-ff 64 --merges 50",
    "ResNet laptop": "--batch-size 32",
    "ResNet cifar": "--data fashion-mnist --limit 24 --batch-size 8",
    "ResNet paper": "--data fashion-mnist --limit 96 --batch-size 32 --width 0.125 --image-size 64 "
    "--side 96 --scales 64 96",
}
STEPS = {"laptop": 20, "paper": 3, "cifar": 3}
# In these, the last digit grows ten-thousandfold a step: few steps, all in double precision, since
# the last digits of initial weights and of augmented images differ between processors.
CHAOTIC = {"BatchNorm": 2, "ResNet": 2}


class EnoughError(Exception):
    """So many steps as are compared."""


def curve(branch, recipe):
    """What a recipe does in its first steps, with seed 0: optimizer, learning rates, losses."""
    words = ["--recipe", recipe, "--fresh", "--epochs", 2]
    words += SMALL.get(f"{branch.name} {recipe}", "").split()
    steps = min(STEPS[recipe], CHAOTIC.get(branch.name, 20))
    dtype = torch.double if branch.name in CHAOTIC else torch.float
    found = {"losses": [], "rates": []}

    class Recorder(branch.run.Run):
        def save(self):
            pass

        def epochs(self, **state):
            self.optimizer = state["optimizer"]
            group = self.optimizer.state_dict()["param_groups"][0]
            found["optimizer"] = {
                key: group[key]
                for key in ("lr", "initial_lr", "betas", "mu", "momentum", "weight_decay")
                if key in group
            }
            found["optimizer"]["name"] = type(self.optimizer).__name__
            found["schedule"] = schedule_of(state["schedule"])
            yield from super().epochs(**state)

        def batches(self, loader):
            """In order, with a seed each: what a DataLoader draws depends on PyTorch's version."""
            size = loader.sampler.batch_size
            for step in range(steps):
                torch.manual_seed(step)
                places = [*range(step * size, (step + 1) * size)]
                yield loader.collate_fn(loader.dataset[places])
            raise EnoughError

        def log(self, **values):
            found["losses"].append(values["loss"].item())
            found["rates"].append(self.optimizer.param_groups[0]["lr"])

    def colors(data):
        state = torch.get_rng_state()
        mean_and_covariance = original_colors(data)
        torch.set_rng_state(state)
        return mean_and_covariance

    known = contextlib.nullcontext()
    if "images" in conftest.PARTS[branch.name]:
        original_colors = branch.images.Data.colors
        known = mock.patch.object(branch.images.Data, "colors", colors)
    with (
        precision(dtype),
        mock.patch.object(branch.train, "Run", Recorder),
        known,
        mock.patch.object(torch.nn.functional, "dropout", dropout),
        contextlib.suppress(EnoughError),
    ):
        branch.train.fit(branch.parse(*words))
    return found


@contextlib.contextmanager
def precision(dtype):
    """Floating-point tensors are made in this type."""
    torch.set_default_dtype(dtype)
    try:
        with mock.patch.object(torch.Tensor, "float", lambda tensor: tensor.to(dtype)):
            yield
    finally:
        torch.set_default_dtype(torch.float)


def schedule_of(schedule):
    """A schedule's name, and its numbers."""
    keys = ("total_steps", "step_size", "gamma", "factor", "patience", "threshold")
    state = schedule.state_dict()
    return {"name": type(schedule).__name__, **{key: state[key] for key in keys if key in state}}


def dropout(x, p=0.5, training=True, inplace=False):
    """Dropout whose draws are the same in every version of PyTorch."""
    return x * (torch.rand_like(x) >= p) / (1 - p) if training else x


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--record", nargs="+", choices=conftest.NAMES, required=True)
    with tempfile.TemporaryDirectory() as folder:
        conftest.branches.preview(Path(folder, "all"))
        for name in parser.parse_args().record:
            branch = conftest.Branch(Path(folder, "all", name))
            curves = {recipe: curve(branch, recipe) for recipe in branch.train.RECIPES}
            text = json.dumps(curves, indent=1) + "\n"
            (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
            print(f"tests/golden/{name}.json: {', '.join(curves)}")


if __name__ == "__main__":
    main()
