"""Batch normalization by hand against PyTorch's own, at the sizes of the laptop recipe.

    python benchmarks/normalization.py

Every normalization of GoogLeNet at a quarter of its width, on 128 images of 64 pixels, and of the
network of section 4.1, on 60: forward and backward in training, in turns in one process. A figure
is the median time over the rounds.
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
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import branches

ROUNDS = 15


def inputs(network, images):
    """{shape: how many normalizations of the network are given it}."""
    shapes = defaultdict(int)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.register_forward_hook(
                lambda _, given, __: shapes.update({given[0].shape: shapes[given[0].shape] + 1})
            )
    network(images)
    return shapes


def main():
    with tempfile.TemporaryDirectory() as folder:
        branches.preview(Path(folder))
        sys.path.insert(0, str(Path(folder, "BatchNorm")))
        model = importlib.import_module("model")
    networks = {
        "GoogLeNet": inputs(
            model.GoogLeNet(1, 10, 64, 0.25, norm="torch"), torch.rand(128, 1, 64, 64)
        ),
        "MLP": inputs(model.MLP(norm="torch"), torch.rand(60, 784)),
    }
    print(
        f"PyTorch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{torch.get_num_threads()} threads; milliseconds, median of {ROUNDS} rounds"
    )
    for name, shapes in networks.items():
        totals, ratios = defaultdict(float), {}
        for shape, count in shapes.items():
            x = torch.randn(shape)
            if len(shape) == 4:
                x = x.to(memory_format=torch.channels_last)
            gradient = torch.randn_like(x)
            x.requires_grad_()
            number = 0 if len(shape) == 2 else 1
            layers = {norm: model.NORMS[norm][number](shape[1]) for norm in ("batch", "torch")}
            times = defaultdict(list)
            for _ in range(ROUNDS + 2):
                for norm, layer in layers.items():
                    began = time.perf_counter()
                    torch.autograd.grad(layer(x), (x, *layer.parameters()), gradient)
                    times[norm].append(time.perf_counter() - began)
            medians = {norm: statistics.median(values[2:]) for norm, values in times.items()}
            ratios[shape] = medians["batch"] / medians["torch"]
            for norm, value in medians.items():
                totals[norm] += 1000 * count * value
        worst = max(ratios, key=ratios.get)
        print(
            f"{name}, {sum(shapes.values())} normalizations: by hand {totals['batch']:.1f}, "
            f"PyTorch's {totals['torch']:.1f}: {totals['batch'] / totals['torch']:.2f} times; "
            f"at worst {ratios[worst]:.2f}, for {tuple(worst)}"
        )


if __name__ == "__main__":
    main()
