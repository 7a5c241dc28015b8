"""Draw the pictures of summary.md and notes.md that train.py does not draw.

    python train.py
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/LeNet) has those runs; the pictures go to FOLDER (default: RUNS).
What cannot be drawn, since a run is not there, is said. `make figures` on main calls this. The
picture of notes.md is of two more runs, which notes.md names.
"""

import colorsys
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import ROOT, checkpoint
from harness.images import load
from harness.plots import draw_finished, mean_curve, save
from model import C3_TABLE, LeNet5, digit_codes

from train import RECIPES, prepare

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "LeNet"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
LAPTOP = RUNS / "laptop-seed0"
LARGE = RUNS / "laptop-epochs-20-batch-size-128-no-distort-seed0"
PAPER = RUNS / "paper-data-fashion-mnist-seed0"


def grid(axes, corner, values, colors, words=None, side=1.0):
    """A matrix as cells from its upper left corner down, with a number in each."""
    left, top = corner
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            color = colors(i, j, value)
            place = (left + side * j, top - side * (i + 1))
            axes.add_patch(Rectangle(place, side, side, facecolor=color, edgecolor="#999", lw=0.7))
            word = f"{value:g}".replace("-", "−") if words is None else words(value)
            ink = "white" if color == "#444444" else "black"
            middle = (place[0] + side / 2, place[1] + side / 2)
            axes.text(*middle, word, ha="center", va="center", fontsize=10, color=ink)


def frame(axes, corner, side, color="#d9822b"):
    """An empty square from its upper left corner down."""
    place = (corner[0], corner[1] - side)
    axes.add_patch(Rectangle(place, side, side, facecolor="none", edgecolor=color, lw=2.5))


def hues(count, order):
    """Light colors, all different; neighbors differ much, since they are `order` apart."""
    shades = [(i * order % count) / count for i in range(count)]
    return [
        colorsys.hls_to_rgb(hue, (0.78, 0.66, 0.86)[i % 3], 0.8) for i, hue in enumerate(shades)
    ]


def convolution():
    """A 3x3 filter on a 4x4 image, the same with the image moved, and both kinds of matrices."""
    image = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]])
    weights = torch.tensor([[-1, 2, -1]] * 3)
    nine, all_64 = hues(9, 4), hues(64, 27)
    matrix = [[None] * 16 for _ in range(4)]  # which weight stands where
    for place in range(4):
        for weight in range(9):
            row, column = place // 2 + weight // 3, place % 2 + weight % 3
            matrix[place][4 * row + column] = weight

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = figure.subplots()

    def ink(i, j, value):
        return "#444444" if value else "white"

    def tied(i, j, value):
        return nine[3 * i + j]

    def plain(i, j, value):
        return "#eeeeee"

    titles = {2: "image", 8.5: "filter", 13: "output"}
    titles |= {22: "image, moved right", 28.5: "the same filter", 33: "output"}
    for x, title in titles.items():
        axes.text(x, 0.5, title, ha="center", fontsize=11)
    for left, moved in ((0, 0), (20, 1)):
        shifted = image.roll(moved, 1)
        output = F.conv2d(shifted[None, None].float(), weights[None, None].float())[0, 0]
        grid(axes, (left, 0), shifted.tolist(), ink)
        axes.text(left + 5.5, -2, "∗", ha="center", va="center", fontsize=16)
        grid(axes, (left + 7, -0.5), weights.tolist(), tied)
        axes.text(left + 11, -2, "=", ha="center", va="center", fontsize=16)
        grid(axes, (left + 12, -1), output.tolist(), plain)
        frame(axes, (left + moved, -1), 3)
        frame(axes, (left + 12 + moved, -2), 1)

    flat = weights.flatten().tolist()
    for left, title in ((0, "convolution: 36 connections, 9 weights"), (20, "")):
        title = title or "fully connected: 64 connections, 64 weights"
        axes.text(left + 8, -6.2, title, ha="center", fontsize=11)
        axes.text(left + 8, -11.3, "16 pixels, row by row", ha="center", va="top", fontsize=10)
    axes.text(-0.4, -8.7, "4 outputs", ha="right", va="center", fontsize=10, rotation=90)
    grid(
        axes,
        (0, -6.7),
        matrix,
        lambda i, j, weight: "white" if weight is None else nine[weight],
        lambda weight: "" if weight is None else f"{flat[weight]}".replace("-", "−"),
    )
    dense = torch.arange(64).view(4, 16).tolist()
    grid(axes, (20, -6.7), dense, lambda i, j, weight: all_64[weight], lambda weight: "")
    axes.set(xlim=(-1.5, 36.5), ylim=(-12.3, 1.3), aspect="equal")
    axes.axis("off")
    save(figure, FOLDER / "convolution.png")


def receptive_fields():
    """What one unit of each layer sees: on a test image, and from the side, unit by unit."""
    image = prepare(load(RECIPES["laptop"]).test[0][:1])[0, 0]
    layers = {"C1": (5, 1), "S2": (2, 2), "C3": (5, 1), "S4": (2, 2), "C5": (5, 1)}  # size, stride
    starts = {"C1": 12, "S2": 12, "C3": 8, "S4": 8, "C5": 0}
    colors = ["#c62828", "#c06a10", "#2e7d32", "#1565c0", "#6a1b9a"]
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    axes, side = figure.subplots(1, 2, width_ratios=(1, 1.25))
    axes.imshow(image, cmap="gray_r", vmax=1.9, extent=(0, 32, 32, 0))
    axes.set_title("one unit of each layer on the image", fontsize=11)
    side.set_title("from the side: one unit of C3 and what it sees", fontsize=11)
    field, apart, units, inset = 1, 1, 32, 0.9
    below = [i + 0.5 for i in range(units)]  # where the middle of each unit's field is
    side.plot(below, [0] * units, "s", color="#777", markersize=4)
    side.text(-1, 0, "input", ha="right", va="center", fontsize=11)
    seen = {"C3": {4}}
    seen["S2"] = {i for unit in seen["C3"] for i in range(unit, unit + 5)}
    seen["C1"] = {i for unit in seen["S2"] for i in (2 * unit, 2 * unit + 1)}
    for height, ((layer, (size, stride)), color) in enumerate(zip(layers.items(), colors), 1):
        field, apart = field + (size - 1) * apart, apart * stride
        units = (units - size) // stride + 1
        inset -= 0.15  # so that edges that coincide are both seen
        start, edge = starts[layer] + inset / 2, field - inset
        place = (start, start)
        axes.add_patch(Rectangle(place, edge, edge, facecolor="none", edgecolor=color, lw=2.2))
        words = f"{layer}: {field}x{field}"
        inside = layer in ("C1", "C3", "C5")
        x, y = start + 0.5, start + (0.4 if inside else -0.3)
        across = "top" if inside else "bottom"
        small = 8 if layer == "C1" else 10
        axes.text(x, y, words, color=color, fontsize=small, va=across, fontweight="bold")

        middles = [apart * i + field / 2 for i in range(units)]
        for i in seen.get(layer, ()):
            for j in range(stride * i, stride * i + size):
                side.plot([middles[i], below[j]], [height, height - 1], color=color, lw=0.6)
        side.plot(middles, [height] * units, "o", color=color, markersize=5)
        own = [middles[i] for i in seen.get(layer, ())]
        side.plot(own, [height] * len(own), "o", color="black", markersize=5)
        side.text(-1, height, layer, ha="right", va="center", fontsize=11, color=color)
        side.text(33, height, f"sees {field}", va="center", fontsize=11, color=color)
        below = middles
    axes.set(xlim=(-0.3, 32.3), ylim=(32.3, -0.3))
    side.set(xlim=(-5, 39), ylim=(-0.4, 5.4))
    axes.axis("off")
    side.axis("off")
    save(figure, FOLDER / "receptive-fields.png")


def architecture():
    """Every feature map of LeNet-5 in one scale, with the field of one unit of the next layer."""
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
    axes.set(xlabel="feature map of C3", ylabel="feature map of S2")
    axes.set(xticks=range(16), yticks=range(6))
    for edge in range(16):
        axes.axvline(edge - 0.5, color="white")
        axes.axhline(min(edge, 6) - 0.5, color="white")
    table.suptitle("What each feature map of C3 sees", fontsize=10)
    for axes, code in zip(codes.subplots(2, 5).flat, digit_codes()):
        axes.imshow(code.view(12, 7).numpy(), cmap="gray_r")
        axes.axis("off")
    codes.suptitle("The codes of the ten classes", fontsize=10)
    save(figure, FOLDER / "c3-and-codes.png")


def trained():
    """LeNet-5 with the weights of the laptop recipe."""
    net = LeNet5()
    net.load_state_dict(checkpoint.weights(LAPTOP))
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
        title = f"{stage}: {len(layer)} feature maps, {layer.shape[1]}×{layer.shape[2]}"
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
    parts[3].set_title("squared distance from F6 to each code", fontsize=9)
    save(figure, FOLDER / "maps.png")


def two_trainings():
    """Error by pass: the training of 1998, and one of today in batches of 128."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    trainings = {LARGE: ("Adam, batches of 128", "tab:blue")}
    trainings[PAPER] = ("training of 1998", "tab:orange")
    for run, (label, color) in trainings.items():
        for part, style, word in (("validation", "-", "validation"), ("train", ":", "training")):
            values = [100 - 100 * a for a in mean_curve([run], f"{part}_accuracy")]
            passes = range(1, len(values) + 1)
            axes.plot(passes, values, style, color=color, marker=".", label=f"{label}: {word}")
    axes.set(xlabel="passes over the training images", ylabel="error, %", ylim=(0, 25))
    axes.set_xticks(range(0, 21, 5))
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, FOLDER / "two-trainings.png")


if __name__ == "__main__":
    draw_finished(
        {
            convolution: [],
            receptive_fields: [],
            architecture: [],
            c3_and_codes: [],
            maps: [LAPTOP],
            two_trainings: [LARGE, PAPER],
        }
    )
