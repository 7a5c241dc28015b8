"""Training on a GPU: each laptop recipe in several ways, and fifty steps of each paper recipe.

    python benchmarks/gpu.py                 all branches, in some ten minutes
    python benchmarks/gpu.py LeNet VGG       these
    python benchmarks/gpu.py --laptop        the laptop recipes alone; --paper: the others alone
    python benchmarks/gpu.py --compile VGG   the laptop recipe alone, compiled and not

Of each laptop recipe: examples trained per second in float32 and in bf16, with convolutions in the
layout that train.py gives them (channels_last), and in PyTorch's ordinary one. Of each paper
recipe, in the ways that train.py chooses, on synthetic photographs where it has no data of its own:
examples per second, the same when one batch is trained on again and again, so that nothing is
loaded; the operations a second of the latter; and the most memory. From the second step on; one
branch after another, so that nothing else uses the GPU.
"""

import importlib
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import branches

from watch import asked_for, photographs, watched

SECONDS, STEPS, LONGEST = 1.0, 50, 12.0
PHOTOGRAPHS, CLASSES, EACH = 200, 1000, 14
FREE = {
    "LeNet": ["--data", "fashion-mnist"],  # MNIST would have to be downloaded
    "Transformer": ["--merges", "3000"],  # 37,000 take minutes to be learned
}


class Again:
    """A loader whose first batch comes again and again."""

    def __init__(self, loader):
        self.sampler, self.dataset = loader.sampler, loader.dataset
        self.batch = next(iter(loader))

    def __iter__(self):
        return itertools.repeat(self.batch)


def layout(contiguous):
    """From now on, models are placed in this layout; without it, in the harness's."""
    import torch

    run = importlib.import_module("harness.run")

    def place(self, model):
        model = run.device.place(model, self.device, self.settings)
        return model.to(memory_format=torch.contiguous_format) if contiguous else model

    run.Run.place = place


def laptop(images, compiled):
    """In the folder of a branch: print {way: examples a second} of its laptop recipe, as JSON."""
    sys.path.insert(0, os.getcwd())
    train, found = importlib.import_module("train"), {}
    for precision in ("fp32", "bf16"):
        for other in (False, True) if images or compiled else (False,):
            layout(other and not compiled)
            words = ["--precision", precision, *["--compile"] * (other and compiled)]
            began = time.perf_counter()
            here = watched(train, words, SECONDS)
            way = ("compiled" if compiled else "contiguous") if other else "as it is"
            found[f"{precision}, {way}"] = here["speed"]
            found[f"{precision}, {way}, from the start"] = time.perf_counter() - began
    print(json.dumps(found))


def paper(words):
    """In the folder of a branch: print what is measured of its paper recipe, as JSON."""
    sys.path.insert(0, os.getcwd())
    import torch

    train, table = map(importlib.import_module, ("train", "harness.table"))
    if "paper" not in train.RECIPES:
        return print("null")
    words = ["--recipe", "paper", *words]
    few = []
    if Path("harness", "images.py").exists():
        importlib.import_module("harness.images").COLORED = 200  # for a mean color, not measured
        few = ["--workers", "2"]  # which then soon have nothing more to do
    ours = watched(train, words, LONGEST, most=STEPS)
    found = {"examples/s": ours["speed"], "batch": ours["batch"], "steps": ours["steps"]}
    found["chosen"] = ours["run"].made_by["precision"]
    for precision in ("fp32", "bf16"):
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()  # by the networks before
        again = [*words, *few, "--precision", precision]
        alone = watched(train, again, LONGEST / 2, Again, most=STEPS)
        macs = table.count(alone["run"].state["model"], alone["run"].meter.example)["macs"]
        found[f"{precision} alone"] = alone["speed"]
        found[f"{precision} TFLOP/s"] = 6 * macs * alone["speed"] / 1e12
        found[f"{precision} GB"] = (torch.cuda.max_memory_allocated() - held) / 1e9
    print(json.dumps(found))


def child(folder, *words):
    """What a part of this program prints in the folder of a branch, from its JSON; or its error."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, words)],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    return json.loads(done.stdout.splitlines()[-1])


def show(name, found):
    """Print what was measured of a branch, in a line."""
    if isinstance(found, dict):
        found = ", ".join(f"{key}: {rounded(value)}" for key, value in found.items())
    print(f"{name}: {found or 'has no paper recipe'}", flush=True)


def rounded(value):
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def folder_of_photographs(home):
    """A folder like ImageNet's, of few different photographs."""
    paths = photographs(home / "made", PHOTOGRAPHS)
    for split, each in (("train", EACH), ("val", 1)):
        for number in range(CLASSES * each):
            path = home / "imagenet" / split / f"{number % CLASSES:03}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(paths[number % PHOTOGRAPHS], path)
    return home / "imagenet"


def main():
    wanted, options = asked_for(
        __doc__,
        compile="the laptop recipes, compiled and not",
        laptop="the laptop recipes alone",
        paper="the paper recipes alone",
    )
    import torch

    if not torch.cuda.is_available():
        print("gpu.py: PyTorch sees no NVIDIA GPU here", file=sys.stderr)
        sys.exit(2)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "all")
        branches.preview(home)
        for model in wanted if not options.paper else ():
            images, compiled = "images" in model["parts"], options.compile
            words = [*["images"] * images, *["compiled"] * compiled]
            show(model["name"], child(home / model["name"], "--measure", *words))
        papers = [] if options.compile or options.laptop else wanted
        made = folder_of_photographs(Path(folder)) if papers else None
        for model in papers:
            words = FREE.get(model["name"], ["--data", made] if "images" in model["parts"] else [])
            show(model["name"], child(home / model["name"], "--paper-recipe", *words))
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    print(f"{torch.cuda.get_device_name()}, {machine}, PyTorch {torch.__version__}")


if __name__ == "__main__":
    if "--measure" in sys.argv:
        laptop("images" in sys.argv, "compiled" in sys.argv)
    elif "--paper-recipe" in sys.argv:
        paper(sys.argv[2:])
    else:
        main()
