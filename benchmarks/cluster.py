"""What a full-size training on ImageNet takes, reckoned from the networks themselves.

    python benchmarks/cluster.py

For each recipe on images but `laptop`: floating-point operations of the whole training (two for a
multiply-accumulate, three passes: forward, and back to inputs and to weights), the bytes that the
activations of a batch take in training (what PyTorch keeps for the backward pass, counted here),
and the hours of one GPU at an assumed speed. Estimates: nothing is trained.
"""

import argparse
import importlib
import inspect
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import branches

IMAGES = {None: 1_281_167, "mnist": 55_000, "cifar10": 45_000}  # None: ImageNet of 2012
DATA = {None: (3, 224, 1000), "mnist": (1, 32, 10), "cifar10": (3, 32, 10)}
GPUS = 4  # where a batch can be divided between them
SHORT = 1e-3  # seconds of a step, below which a GPU waits for Python
# What is trained, where it is not the class that the branch is named for.
NETWORKS = {("BatchNorm", None): "GoogLeNet", ("ResNet", "cifar10"): "CifarResNet"}
OWN = ("train", "model", "experiments", "optimizer", "tasks")


def kept(model, images):
    """The bytes of different tensors that PyTorch keeps for the backward pass, weights aside."""
    import torch

    parameters, storages = {p.data_ptr() for p in model.parameters()}, {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model.train()(images)
    del output
    return sum(storages.values())


def network(model, branch, recipe):
    """The network that a recipe trains on its data, and two images as it gets them."""
    import torch

    channels, side, classes = DATA[recipe.data]
    kind = getattr(model, NETWORKS.get((branch["name"], recipe.data), branch["class"]))
    flags = inspect.signature(kind).parameters.keys() & vars(recipe).keys()
    made = kind(channels, classes, **{flag: getattr(recipe, flag) for flag in flags})
    return made, torch.randn(2, channels, side, side)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--teraflops", type=float, default=40.0, help="useful 10^12 operations a second of a GPU"
    )
    teraflops = parser.parse_args().teraflops
    print(f"at {teraflops:g} teraflops a GPU; activations in float32, less of them in bf16")
    print("recipe, epochs, batch: operations, GPU hours; GB for a batch: activations + weights;")
    print("GPUs, and images a second that they take; -: a step is too short to reckon with")
    models = branches.read_path((ROOT / "path.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        branches.preview(Path(folder))
        for entry in models:
            branch = Path(folder, entry["name"])
            for name in [name for name in sys.modules if name.split(".")[0] in ("harness", *OWN)]:
                del sys.modules[name]
            sys.path.insert(0, str(branch))
            train, model, table = map(importlib.import_module, ("train", "model", "harness.table"))
            for name, recipe in train.RECIPES.items():
                if name == "laptop" or recipe.data not in DATA:
                    continue
                made, images = network(model, entry, recipe)
                counted = table.count(made, images[:1])
                seen = IMAGES[recipe.data] * recipe.epochs
                operations = 6 * counted["macs"] * seen
                seconds = operations / teraflops / 1e12
                activations = kept(made, images) / 2 * recipe.batch_size / 1e9
                # With gradient, momentum, and what is sent.
                weights = 16 * counted["parameters"] / 1e9
                gpus = GPUS if recipe.batch_size % GPUS == 0 else 1
                cells = ["-", "-"]
                if seconds / (seen / recipe.batch_size) > SHORT:
                    cells = [f"{seconds / 3600:.1f}", f"{gpus * seen / seconds:,.0f}"]
                print(
                    f"{entry['name']:<10} {name:<5} {recipe.epochs:>4} {recipe.batch_size:>4}: "
                    f"{operations:.1e} {cells[0]:>5}; {activations:5.1f} + {weights:.1f}; "
                    f"{gpus}, {cells[1]}"
                )
            sys.path.remove(str(branch))


if __name__ == "__main__":
    main()
