"""Training speed of LeNet-5: train.py against the usual way of feeding a network.

    python benchmarks/loading.py

The usual way: torchvision's FashionMNIST behind a DataLoader, with Pad, ToTensor and Normalize on
each PIL image and `.item()` at each step; with 0, 1 and 2 workers, of which the best counts.
Against it, train.py as it is. Both train the same network in the same memory layout with the same
optimizer and batch size, and take turns in one process. A figure is the median over the
rounds of the images trained per second, without the start of the workers and without validation.
"Feed alone" is the same loop over the batches with no network at the end of it.
"""

import importlib
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import branches

ROUNDS, IMAGES = 3, 12_800


def ours(train, batch_size):
    """Images per second of train.py, as it reports them itself."""
    words = f"--limit {IMAGES} --epochs 1 --batch-size {batch_size} --no-distort --fresh"
    recipe = train.command_line(train.__doc__, train.RECIPES, words.split())
    return train.fit(recipe).history[0]["examples_per_second"]


def usual(train, dataset, batch_size, workers):
    """Images per second of the usual loop, from its second batch on."""
    loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=workers)
    model = train.LeNet5().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 4e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=len(loader))
    total, seen, began = 0.0, 0, None
    for images, labels in loader:
        loss = train.equation_9(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
        if began is None:
            began = time.perf_counter()
        else:
            seen += len(labels)
    return seen / (time.perf_counter() - began)


def feed_alone(batches):
    """Images per second of a loader whose batches nobody trains on."""
    began = time.perf_counter()
    seen = sum(len(labels) for _, labels in batches)
    return seen / (time.perf_counter() - began)


def main():
    with tempfile.TemporaryDirectory() as folder:
        branches.preview(Path(folder))
        branch = Path(folder, "LeNet")
        sys.path.insert(0, str(branch))
        train = importlib.import_module("train")
        images = importlib.import_module("harness.images")
        laptop = train.RECIPES["laptop"]
        steps = [transforms.Pad(2), transforms.ToTensor()]
        # pixel * 1.275 - 0.1, as (pixel - mean) / deviation
        steps.append(transforms.Normalize(0.1 / 1.275, 1 / 1.275))
        dataset = datasets.FashionMNIST(
            branch / "data", download=True, transform=transforms.Compose(steps)
        )
        dataset = Subset(dataset, range(IMAGES))
        data = images.load(laptop.but(limit=IMAGES))
        speeds = defaultdict(list)
        sizes = sorted({64, 128, laptop.batch_size})
        for number in range(ROUNDS):
            for size in sizes:
                print(f"round {number + 1} of {ROUNDS}, batch {size}", flush=True)
                speeds[size, "train.py"].append(ours(train, size))
                for workers in (0, 1, 2):
                    way = f"usual, {workers} workers"
                    speeds[size, way].append(usual(train, dataset, size, workers))
                feed = data.loader(data.train, size, train.prepare, shuffle=True)
                speeds[size, "train.py, feed alone"].append(feed_alone(feed))
                feed = DataLoader(dataset, size, shuffle=True)
                speeds[size, "usual, feed alone"].append(feed_alone(feed))

    print(
        f"\nPyTorch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {torch.get_num_threads()} threads; images per second, "
        f"median of {ROUNDS} rounds (lowest to highest)\n"
    )
    for (size, way), values in speeds.items():
        median, lowest, highest = statistics.median(values), min(values), max(values)
        print(f"batch {size:>3}  {way:<20} {median:>9,.0f}  ({lowest:,.0f} to {highest:,.0f})")
    for size in sizes:
        medians = {way: statistics.median(v) for (s, way), v in speeds.items() if s == size}
        best = max(value for way, value in medians.items() if way.endswith("workers"))
        print(
            f"batch {size:>3}  train.py is {medians['train.py'] / best:.1f} times the best of them"
        )


if __name__ == "__main__":
    main()
