"""What training costs, as ratios: every recipe against the usual way and against the machine.

    python benchmarks/all.py                 all branches, in about twenty minutes
    python benchmarks/all.py LeNet VGG       these
    python benchmarks/all.py --goals         instead, the seconds to the accuracy that d2l publishes

Of each laptop recipe: examples trained per second; the same network and batch in the usual way (a
DataLoader, a transform for each image, `.item()` at each step; the best of 0, 1 and 2 workers);
the share of the time outside forward, loss, backward and optimizer, and how much of it makes the
batches (gathers, prepares and augments images); its operations a second against those of a large
matrix product; seconds from the start of Python to the end of the first step; the
most memory. Then full-size steps against torchvision's networks (step.py), and images decoded a
second by one worker and brought to a square, against torchvision's transforms for the same. All
take turns in one run.
"""

import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import branches

from step import BATCH as FULL_SIZE
from watch import asked_for, photographs, product, watched

ROUNDS, SECONDS, WORKERS = 3, 3.0, (0, 1, 2)
SIDE = 256  # of the squares that photographs are brought to
GOALS = {"LeNet": 0.806, "AlexNet": 0.880, "VGG": 0.919, "GoogLeNet": 0.888, "ResNet": 0.912}


class OneByOne:
    """The images of a loader, each prepared by itself."""

    def __init__(self, loader):
        self.dataset, self.prepare = loader.dataset, loader.collate_fn

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, place):
        images, labels = self.prepare(self.dataset[[place]])
        return images[0], labels[0]


def usual(loader, workers):
    """The usual DataLoader for the images of one of ours: the same transform, image by image."""
    import torch

    made = torch.utils.data.DataLoader(
        OneByOne(loader), loader.sampler.batch_size, shuffle=True, num_workers=workers
    )
    order = importlib.import_module("harness.order").Order
    batches = torch.utils.data.BatchSampler(range(len(loader.dataset)), made.batch_size, False)
    made.order = order(batches, "part")
    return Fed(made)


class Fed:
    """A DataLoader with what a run asks of ours besides."""

    def __init__(self, loader):
        self.loader, self.sampler, self.dataset = loader, loader.order, loader.dataset

    def __iter__(self):
        return iter(self.loader)


def measure(in_memory):
    """In the folder of a branch: print what is measured of its laptop recipe, as JSON."""
    sys.path.insert(0, os.getcwd())
    train, table = map(importlib.import_module, ("train", "harness.table"))
    first = {}

    class Timed(importlib.import_module("harness.run").Run):
        def log(self, **values):
            first.setdefault("step", time.time() - float(os.environ["BEGAN"]))
            super().log(**values)

    importlib.import_module("harness.run").Run = Timed
    found = defaultdict(list)
    for _ in range(ROUNDS):
        ours = watched(train, [], SECONDS)
        macs = table.count(ours["run"].state["model"], ours["run"].meter.example)["macs"]
        found["speed"].append(ours["speed"])
        found["outside"].append(1 - ours["inside"])
        found["data"].append(ours["data"])
        found["flops"].append(6 * macs * ours["batch"] / ours["step"])
        found["product"].append(product())
        for workers in WORKERS if in_memory else ():
            feed = watched(train, [], SECONDS, lambda loader, w=workers: usual(loader, w), True)
            found[f"usual, {workers}"].append(feed["speed"])
    medians = {name: statistics.median(values) for name, values in found.items()}
    print(json.dumps(medians | {"first": first["step"], "peak": peak()}))


def peak():
    """The most memory that this process had, in MB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def goal(accuracy):
    """In the folder of a branch: print the seconds of training until validation reaches it."""
    sys.path.insert(0, os.getcwd())
    train = importlib.import_module("train")

    class Reached(Exception):
        pass

    class Racing(importlib.import_module("harness.run").Run):
        def validate(self, model, metrics, **measured):
            super().validate(model, metrics, **measured)
            if metrics["accuracy"] >= accuracy:
                raise Reached(json.dumps([sum(r["seconds"] for r in self.history), self.epoch]))

    train.Run = Racing
    try:
        train.fit(train.command_line("", train.RECIPES, ["--fresh"]))
        print("null")
    except Reached as reached:
        print(reached)


def decoding(folder):
    """(images a second that a worker of ours decodes, the same with torchvision's transforms).

    Either brings the shorter side to SIDE and cuts out the middle, and no more.
    """
    import torch
    from torchvision import datasets, transforms

    sys.path.insert(0, str(folder / "VGG"))
    folders, loader_of = map(importlib.import_module, ("harness.folder", "harness.loader"))
    home = folder / "photographs"
    files = [(str(path), 0) for path in photographs(home / "train" / "a", 400)]
    reference = transforms.Compose(
        [transforms.Resize(SIDE), transforms.CenterCrop(SIDE), transforms.PILToTensor()]
    )
    split = folders.Images(files, SIDE)
    rates = defaultdict(list)
    for _ in range(ROUNDS):
        for way in ("ours", "torchvision's"):
            if way == "ours":
                loader = loader_of.FolderLoader(split, 50, torch.nn.Identity(), True, "cpu", 1)
            else:
                data = datasets.ImageFolder(home / "train", reference)
                loader = torch.utils.data.DataLoader(data, 50, shuffle=True, num_workers=1)
            batches, count = iter(loader), 0
            next(batches)  # the worker has started
            began = time.perf_counter()
            for images, _ in batches:
                count += len(images)
            rates[way].append(count / (time.perf_counter() - began))
    return [statistics.median(values) for values in rates.values()]


def child(folder, *words):
    """What a part of this program prints in the folder of a branch, from its JSON."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, words)],
        cwd=folder,
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "BEGAN": str(time.time())},
    )
    return json.loads(done.stdout.splitlines()[-1])


def main():
    models, options = asked_for(__doc__, goals="how long to d2l's accuracy")
    wanted = [model["name"] for model in models]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "all")
        branches.preview(home)
        for name in [name for name in GOALS if name in wanted] if options.goals else ():
            found = child(home / name, "--goal", GOALS[name])
            reached = "{:.0f} s, in epoch {}".format(*found) if found else "not reached"
            print(f"{name}: {GOALS[name]} on the validation images: {reached}", flush=True)
        if options.goals:
            return
        heads = (
            "examples/s",
            "usual",
            "ratio",
            "outside",
            "for data",
            "GFLOP/s",
            "of product",
            "first",
            "peak MB",
        )
        print(f"{'':<12}" + "".join(f"{head:>11}" for head in heads))
        for model in models:
            in_memory = "images" in model["parts"]
            found = child(home / model["name"], "--measure", *["images"] * in_memory)
            best = max((found[f"usual, {n}"] for n in WORKERS), default=0) if in_memory else 0
            cells = [f"{found['speed']:,.0f}"]
            cells += [f"{best:,.0f}", f"{found['speed'] / best:.2f}"] if best else ["", ""]
            cells += [f"{found['outside']:.1%}", f"{found['data']:.1%}"]
            cells += [f"{found['flops'] / 1e9:,.0f}"]
            cells += [f"{found['flops'] / found['product']:.0%}", f"{found['first']:.1f} s"]
            cells += [f"{found['peak'] or 0:,.0f}"]
            print(f"{model['name']:<12}" + "".join(f"{cell:>11}" for cell in cells), flush=True)
        print("JPEG files decoded a second by one worker: {:.0f}, {:.0f}".format(*decoding(home)))
    for name in [name for name in FULL_SIZE if name in wanted]:
        subprocess.run([sys.executable, ROOT / "benchmarks" / "step.py", name], check=True)
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")


if __name__ == "__main__":
    if "--measure" in sys.argv:
        measure("images" in sys.argv)
    elif "--goal" in sys.argv:
        goal(float(sys.argv[-1]))
    else:
        main()
