"""A training step of a model at full size, against torchvision's network of the same name.

    python benchmarks/step.py AlexNet
    python benchmarks/step.py VGG
    python benchmarks/step.py GoogLeNet
    python benchmarks/step.py ResNet

Both get the same images, memory layout, threads, batch size and optimizer, and take turns in one
process. A figure is the median time of a step (forward, loss, backward, update) over the rounds;
beside it stand the operations a second (three passes), as a share of a large matrix product's.

torchvision's AlexNet is not the paper's: one tower with fewer maps, and no normalization. What
that costs, the other rows say: ours without it, and ours with PyTorch's own function for it. Its
vgg16 is configuration D, the same network. Its googlenet has batch normalization, 3x3 where the
paper has 5x5, and no local response normalization; both have the auxiliary classifiers. Its
resnet50 has the stride of a bottleneck in the 3x3, for 6 % more multiply-accumulates; in the last
row it is moved to the first 1x1, as in the paper.
"""

import argparse
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
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import branches

from watch import product

ROUNDS, STEPS = 8, 2
BATCH = {"AlexNet": 32, "VGG": 8, "GoogLeNet": 16, "ResNet": 16}


def step(model, optimizer, images, labels):
    scores = model(images)
    scores = scores if isinstance(scores, tuple) else (scores,)
    loss = sum(F.cross_entropy(each, labels) for each in scores)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def operations(model, image):
    """Floating-point operations of one image's way through a network."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(image)
    return counter.get_total_flops()


def networks(name):
    """{row of the table: a network}, torchvision's first."""
    with tempfile.TemporaryDirectory() as folder:
        branches.preview(Path(folder))
        sys.path.insert(0, str(Path(folder, name)))
        model = importlib.import_module("model")
    if name == "GoogLeNet":
        return {
            "torchvision": torchvision.models.googlenet(init_weights=False),
            "GoogLeNet": model.GoogLeNet(),
            "GoogLeNet, lrn=False": model.GoogLeNet(lrn=False),
        }
    if name == "VGG":
        return {"torchvision": torchvision.models.vgg16(), "VGG, D": model.VGG()}
    if name == "ResNet":
        moved = torchvision.models.resnet50()
        for block in moved.modules():
            if isinstance(block, torchvision.models.resnet.Bottleneck):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
        return {
            "torchvision": torchvision.models.resnet50(),
            "ResNet, 50 layers": model.ResNet(),
            "torchvision, moved": moved,
        }

    class StockNormalization(model.AlexNet):
        def normalize(self, x):
            return F.local_response_norm(x, 5, 5 * 1e-4, 0.75, 2.0)

    return {
        "torchvision": torchvision.models.alexnet(),
        "AlexNet": model.AlexNet(),
        "AlexNet, lrn=False": model.AlexNet(lrn=False),
        "AlexNet, stock lrn": StockNormalization(),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=BATCH)
    name = parser.parse_args().model
    batch, compared = BATCH[name], networks(name)
    torch.manual_seed(0)
    images = torch.randn(batch, 3, 224, 224).to(memory_format=torch.channels_last)
    labels = torch.randint(1000, (batch,))
    times, products = defaultdict(list), []
    for number in range(ROUNDS + 1):  # the first is a warm-up
        print(f"round {number} of {ROUNDS}", flush=True)
        for name, model in compared.items():
            model.to(memory_format=torch.channels_last)
            optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4)
            step(model, optimizer, images, labels)  # makes the momentum
            for _ in range(STEPS):
                began = time.perf_counter()
                step(model, optimizer, images, labels)
                times[name].append(time.perf_counter() - began)
            model.zero_grad()
        products.append(product())
        if number == 0:
            times.clear()

    print(
        f"\nPyTorch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}, "
        f"{torch.get_num_threads()} threads, batch {batch}; seconds a step, median of "
        f"{ROUNDS * STEPS} (lowest to highest)\n"
    )
    base, peak = statistics.median(times["torchvision"]), statistics.median(products)
    for name, values in times.items():
        median, lowest, highest = statistics.median(values), min(values), max(values)
        share = 3 * batch * operations(compared[name], images[:1]) / median / peak
        print(
            f"{name:<20} {median:.3f}  ({lowest:.3f} to {highest:.3f})  "
            f"{median / base:.2f} times torchvision's, {share:.0%} of a product's speed"
        )


if __name__ == "__main__":
    main()
