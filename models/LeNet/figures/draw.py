"""Draw the pictures of summary.md that train.py does not draw.

    python train.py && python train.py --recipe paper --data fashion-mnist
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/LeNet) has those two runs; the pictures go to FOLDER (default: RUNS).
What cannot be drawn, since a run is not there, is said. `make figures` on main calls this.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import ROOT
from harness.checkpoint import finished
from harness.images import load
from harness.plots import draw_finished, mean_curve, save
from model import C3_TABLE, LeNet5, digit_codes

from train import RECIPES, prepare

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "LeNet"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
LAPTOP, PAPER = RUNS / "laptop-seed0", RUNS / "paper-data-fashion-mnist-seed0"


def architecture():
    """Every map of LeNet-5 in one scale, with the field that one unit of the next layer sees."""
    stages = [("input", 1, 32), ("C1", 6, 28), ("S2", 6, 14), ("C3", 16, 10), ("S4", 16, 5)]
    fields = {"input": 5, "C1": 2, "S2": 5, "C3": 2, "S4": 5}
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    axes = figure.subplots()
    left = 0
    for stage, maps, side in stages:
        for i in reversed(range(maps)):
            corner = (left + 1.4 * i, -side / 2 + 0.9 * i)
            axes.add_patch(Rectangle(corner, side, side, facecolor="#dbe9f6", edgecolor="#1f4e79"))
        field = fields[stage]
        inset = min(1, side - field)
        corner = (left + inset, side / 2 - inset - field)
        axes.add_patch(Rectangle(corner, field, field, color="#d9822b"))
        width = side + 1.4 * (maps - 1)
        axes.text(
            left + side / 2,
            -side / 2 - 1.5,
            f"{stage}\n{maps}@{side}×{side}",
            ha="center",
            va="top",
        )
        left += width + 7
    for stage, units in (("C5", 120), ("F6", 84), ("output", 10)):
        height = units / 4
        axes.add_patch(
            Rectangle((left, -height / 2), 1.2, height, facecolor="#dbe9f6", edgecolor="#1f4e79")
        )
        axes.text(left + 0.6, -height / 2 - 1.5, f"{stage}\n{units}", ha="center", va="top")
        left += 11
    axes.set(xlim=(-3, left), ylim=(-24, 20), aspect="equal")
    axes.axis("off")
    save(figure, FOLDER / "architecture.png")


def c3_and_codes():
    """Table I, and the bitmaps that F6 is trained to draw."""
    figure = Figure(figsize=(10, 2.6), layout="constrained")
    table, codes = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    axes = table.subplots()
    sees = torch.zeros(6, 16)
    for i, inputs in enumerate(C3_TABLE):
        sees[list(inputs), i] = 1
    axes.imshow(sees.numpy(), cmap="Blues", vmin=0, vmax=1.6)
    axes.set(xlabel="map of C3", ylabel="map of S2", xticks=range(16), yticks=range(6))
    for edge in range(16):
        axes.axvline(edge - 0.5, color="white")
        axes.axhline(min(edge, 6) - 0.5, color="white")
    table.suptitle("What each map of C3 sees", fontsize=10)
    for axes, code in zip(codes.subplots(2, 5).flat, digit_codes()):
        axes.imshow(code.view(12, 7).numpy(), cmap="gray_r")
        axes.axis("off")
    codes.suptitle("The codes of the ten classes", fontsize=10)
    save(figure, FOLDER / "c3-and-codes.png")


def trained():
    """LeNet-5 with the weights of the laptop recipe."""
    net = LeNet5()
    net.load_state_dict(finished(LAPTOP)["weights"])
    return net.eval()


@torch.no_grad()
def maps():
    """One test image on its way through the trained network, layer by layer."""
    loaded, net = load(RECIPES["laptop"]), trained()
    images, labels = loaded.test
    x, rows = prepare(images[:1]), []
    for stage in ("C1", "S2", "C3", "S4"):
        x = net.activation(getattr(net, stage)(x))
        rows.append((stage, x[0]))
    x = net.activation(net.F6(net.activation(net.C5(x)).flatten(1)))
    distances = -net.output(x)[0]
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(4, 2.2))
    for band, (stage, layer) in zip(upper.subfigures(4, 1), rows):
        title = f"{stage}: {len(layer)} maps, {layer.shape[1]}×{layer.shape[2]}"
        band.suptitle(title, x=0.005, ha="left", fontsize=9)
        for axes, map_ in zip(band.subplots(1, 16), layer):
            axes.imshow(map_.numpy(), cmap="gray", vmin=-1.7159, vmax=1.7159)
        for axes in band.axes:
            axes.axis("off")
    parts = lower.subplots(1, 4, width_ratios=(1, 0.7, 0.7, 2))
    parts[0].imshow(images[0, 0].numpy(), cmap="gray_r")
    parts[0].set_title(f"the image: {loaded.classes[labels[0]]}", fontsize=9)
    parts[1].imshow(x.view(12, 7).numpy(), cmap="gray_r", vmin=-1, vmax=1)
    parts[1].set_title("F6, as 7×12", fontsize=9)
    nearest = int(distances.argmin())
    parts[2].imshow(net.output.codes[nearest].view(12, 7).numpy(), cmap="gray_r", vmin=-1, vmax=1)
    parts[2].set_title("nearest code", fontsize=9)
    for axes in parts[:3]:
        axes.axis("off")
    colors = ["tab:orange" if i == nearest else "tab:blue" for i in range(10)]
    parts[3].barh(loaded.classes, distances.tolist(), color=colors)
    parts[3].invert_yaxis()
    parts[3].tick_params(labelsize=8)
    parts[3].set_title("distance from F6 to each code", fontsize=9)
    save(figure, FOLDER / "maps.png")


def two_trainings():
    """Validation accuracy by pass: the laptop recipe and the training of 1998."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for folder, label in ((LAPTOP, "laptop recipe"), (PAPER, "training of 1998")):
        for part, style in (("validation", "-"), ("train", ":")):
            values = [100 - 100 * a for a in mean_curve([folder], f"{part}_accuracy")]
            passes = range(1, len(values) + 1)
            color = "tab:blue" if folder == LAPTOP else "tab:orange"
            axes.plot(passes, values, style, color=color, marker=".", label=f"{label}, {part}")
    axes.set(xlabel="passes over the training images", ylabel="error, %", ylim=(0, 25))
    axes.set_xticks(range(0, 21, 5))
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, FOLDER / "two-trainings.png")


def main():
    draw_finished(
        {architecture: [], c3_and_codes: [], maps: [LAPTOP], two_trainings: [LAPTOP, PAPER]}
    )


if __name__ == "__main__":
    main()
