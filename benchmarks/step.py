"""A training step of AlexNet at full size, against torchvision's AlexNet.

    python benchmarks/step.py

Both get the same images, memory layout, threads, batch size and optimizer, and take turns in one
process. A figure is the median time of a step (forward, loss, backward, update) over the rounds.
torchvision's network is not the paper's: one tower with fewer maps, and no normalization. What
that costs, the other rows say: ours without it, and ours with PyTorch's own function for it.
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
import torch.nn.functional as F
import torchvision

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import branches

ROUNDS, STEPS, BATCH = 8, 2, 32


def step(model, optimizer, images, labels):
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main():
    with tempfile.TemporaryDirectory() as folder:
        branches.preview(Path(folder))
        sys.path.insert(0, str(Path(folder, "AlexNet")))
        AlexNet = importlib.import_module("model").AlexNet

    class StockNormalization(AlexNet):
        def normalize(self, x):
            return F.local_response_norm(x, 5, 5 * 1e-4, 0.75, 2.0)

    networks = {
        "torchvision": torchvision.models.alexnet(),
        "AlexNet": AlexNet(),
        "AlexNet, lrn off": AlexNet(lrn="off"),
        "AlexNet, stock lrn": StockNormalization(),
    }
    torch.manual_seed(0)
    images = torch.randn(BATCH, 3, 224, 224).to(memory_format=torch.channels_last)
    labels = torch.randint(1000, (BATCH,))
    times = defaultdict(list)
    for number in range(ROUNDS + 1):  # the first is a warm-up
        print(f"round {number} of {ROUNDS}", flush=True)
        for name, model in networks.items():
            model.to(memory_format=torch.channels_last)
            optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4)
            step(model, optimizer, images, labels)  # makes the momentum
            for _ in range(STEPS):
                began = time.perf_counter()
                step(model, optimizer, images, labels)
                times[name].append(time.perf_counter() - began)
            model.zero_grad()
        if number == 0:
            times.clear()

    print(
        f"\nPyTorch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}, "
        f"{torch.get_num_threads()} threads, batch {BATCH}; seconds a step, median of "
        f"{ROUNDS * STEPS} (lowest to highest)\n"
    )
    base = statistics.median(times["torchvision"])
    for name, values in times.items():
        median, lowest, highest = statistics.median(values), min(values), max(values)
        print(
            f"{name:<18} {median:.3f}  ({lowest:.3f} to {highest:.3f})  "
            f"{median / base:.2f} times torchvision's"
        )


if __name__ == "__main__":
    main()
