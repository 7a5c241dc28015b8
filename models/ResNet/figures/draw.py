"""Draw the pictures of summary.md that train.py does not draw.

    python experiments.py degradation
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/ResNet) has those runs; the pictures go to FOLDER (default: RUNS).
What cannot be drawn, since a run is not there, is said. `make figures` on main calls this.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import ROOT
from harness.diagrams import BLUE, GREEN, ORANGE, arrow, box
from harness.plots import draw_finished, read_points, save

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "ResNet"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
DEGRADATION = RUNS / "laptop-experiment-degradation-seed0"
KINDS = {"none": ("plain", "tab:gray"), "A": ("residual", "tab:blue")}
DEPTHS = (8, 20, 32, 56)


def column(axes, x, title, layers):
    """A block as a column of layers from the top down; the shortcut leads to "+"."""
    axes.text(x, 1.0, title, ha="center", va="center", fontweight="bold")
    axes.text(x, 0.45, "x", ha="center", va="center", style="italic")
    y = 0.3
    for layer in layers:
        arrow(axes, (x, y), (x, y - 0.3))
        y -= 0.55
        if layer == "+":
            axes.text(x, y, "$+$", ha="center", va="center", fontsize=15)
            axes.plot([x, x + 1.3, x + 1.3], [0.18, 0.18, y], color="#444", lw=1.2)
            arrow(axes, (x + 1.3, y), (x + 0.15, y))
        else:
            color = BLUE if "conv" in layer else ORANGE if "norm" in layer else GREEN
            box(axes, x, y, layer, color, 2.0, 0.5)
        y -= 0.25
    arrow(axes, (x, y), (x, y - 0.3))
    return y


def architecture():
    """A plain block; the basic block and the bottleneck of 2015; pre-activation, of 2016."""
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    axes = figure.subplots()
    norm, relu = "normalization", "ReLU"
    columns = {
        "plain": ["3x3 conv", norm, relu] * 2,
        "basic block": ["3x3 conv", norm, relu, "3x3 conv", norm, "+", relu],
        "bottleneck": ["1x1 conv, 64", norm, relu, "3x3 conv, 64", norm, relu]
        + ["1x1 conv, 256", norm, "+", relu],
        "pre-activation (2016)": [norm, relu, "3x3 conv"] * 2 + ["+"],
    }
    lowest = min(column(axes, 3.6 * i, *what) for i, what in enumerate(columns.items()))
    axes.set(xlim=(-1.4, 12.5), ylim=(lowest - 0.5, 1.3))
    axes.axis("off")
    save(figure, FOLDER / "architecture.png")


def of(points, shortcut, depth, name):
    """A column of the runs of a network: [seeds, epochs]."""
    own = [row for row in points if (row["shortcut"], row["depth"]) == (shortcut, str(depth))]
    seeds = sorted({row["seed"] for row in own}, key=int)
    return torch.tensor([[float(row[name]) for row in own if row["seed"] == one] for one in seeds])


def degradation():
    """Training loss by epoch of two depths, and the last epoch's against depth."""
    points = read_points(DEGRADATION)
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    curves, against = figure.subplots(1, 2)
    for shortcut, (label, color) in KINDS.items():
        for depth, style in ((20, "--"), (56, "-")):
            losses = of(points, shortcut, depth, "train_loss")
            epochs = range(1, losses.shape[1] + 1)
            curves.plot(
                epochs, losses.mean(0), style, color=color, label=f"{label}, {depth} layers"
            )
            low, high = losses.min(0).values, losses.max(0).values
            curves.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
        last = [of(points, shortcut, depth, "train_loss")[:, -1] for depth in DEPTHS]
        against.plot(DEPTHS, [losses.mean() for losses in last], color=color, label=label)
        for depth, losses in zip(DEPTHS, last):
            against.plot([depth] * len(losses), losses, ".", color=color)
    curves.set(xlabel="epoch (200 steps)", ylabel="training loss")
    against.set(xlabel="layers", ylabel="training loss, last epoch", xticks=DEPTHS)
    for axes in (curves, against):
        axes.grid(alpha=0.3)
        axes.legend()
    save(figure, FOLDER / "degradation.png")


def layers():
    """By layer, what it gives after normalization (Figure 7), and the gradient of its weights."""
    points = read_points(DEGRADATION)
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    responses, gradients = figure.subplots(1, 2)
    for axes, name in ((responses, "response"), (gradients, "gradient")):
        for shortcut, (label, color) in KINDS.items():
            for depth, style in ((20, "--"), (56, "-")):
                places = range(1, depth)
                values = [of(points, shortcut, depth, f"{name}_{i}")[:, -1].mean() for i in places]
                axes.plot(places, values, style, color=color, label=f"{label}, {depth} layers")
        axes.set_xlabel("layer")
        axes.grid(alpha=0.3)
    responses.set_ylabel("standard deviation after normalization")
    gradients.set(ylabel="length of gradient / length of weights", ylim=(0, None))
    responses.legend()
    save(figure, FOLDER / "layers.png")


if __name__ == "__main__":
    draw_finished({architecture: [], degradation: [DEGRADATION], layers: [DEGRADATION]})
