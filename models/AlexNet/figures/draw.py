"""Draw the pictures of summary.md and notes.md that train.py does not draw.

    python experiments.py ladder, and the other runs of the summary's ladder, with seeds 0, 1, 2
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/AlexNet) has those runs, and a folder LeNet beside it those of the branch
LeNet; the pictures go to FOLDER (default: RUNS). What cannot be drawn, since a run is not there, is
said. `make figures` on main calls this.
"""

import dataclasses
import sys
from io import BytesIO
from pathlib import Path

import torch
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import ROOT, checkpoint
from harness.files import replace
from harness.folder import decode
from harness.images import Data, load
from harness.plots import draw_finished, mean_curve, save
from model import AlexNet

from train import RECIPES, crop, prepare, principal_components, shift_colors

WORDS = [Path(word).resolve() for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "AlexNet"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
LENET = RUNS.parent / "LeNet"
if not LENET.exists():  # where `make results` trains, each branch has a folder of its own
    LENET = RUNS.parent.parent.parent / "LeNet" / "checkpoints" / "LeNet"
SEEDS = (0, 1, 2)
GPUS = ("#dbe9f6", "#fbe3c8")
ACROSS = "#c0392b"  # what goes from one GPU to the other


def block(axes, left, bottom, side, length, color):
    """A box of maps in oblique view: `side` high and deep, `length` long; returns its right end."""
    deep = side * 0.35
    front = [(left, bottom), (left + length, bottom)]
    front += [(left + length, bottom + side), (left, bottom + side)]
    top = [(left, bottom + side), (left + length, bottom + side)]
    top += [(left + length + deep, bottom + side + deep), (left + deep, bottom + side + deep)]
    end = [(left + length, bottom), (left + length + deep, bottom + deep)]
    end += [(left + length + deep, bottom + side + deep), (left + length, bottom + side)]
    for corners in (front, top, end):
        axes.add_patch(Polygon(corners, facecolor=color, edgecolor="#444", linewidth=0.8))
    return left + length + deep


def architecture():
    """The layers of both GPUs: sides and numbers of maps each to one scale."""
    stages = [("conv1", 55, 48), ("conv2", 27, 128), ("conv3", 13, 192)]
    stages += [("conv4", 13, 192), ("conv5", 13, 128)]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    rows = (70, -70)
    block(axes, -62, -56, 112, 1, "#eee")
    axes.text(-44, -64, "image\n3@224×224\n(half the scale)", ha="center", va="top", fontsize=10)
    left, ends = 15, [(-20, 0), (-20, 0)]
    for stage, side, maps in stages:
        length, starts = maps / 3, []
        for middle, color in zip(rows, GPUS):
            end = block(axes, left, middle - side / 2, side, length, color)
            starts.append((left, middle))
        for i, (x, y) in enumerate(ends):
            for j, (u, v) in enumerate(starts):
                if i == j or stage == "conv3":
                    axes.plot((x, u), (y, v), color="#1f4e79" if i == j else ACROSS, lw=1)
        for middle in rows:
            axes.text(
                left + length / 2,
                middle - side / 2 - 5,
                f"{stage}\n{maps}@{side}×{side}",
                ha="center",
                va="top",
                fontsize=10,
            )
        ends = [(end, middle) for middle in rows]
        left = end + 34
    for stage, units in (("fc6", 2048), ("fc7", 2048), ("fc8", 1000)):
        height, starts = units / 20, []
        for middle, color in zip(rows, GPUS) if stage != "fc8" else [(0, "#eee")]:
            corner = (left, middle - height / 2)
            axes.add_patch(Rectangle(corner, 5, height, facecolor=color, edgecolor="#444", lw=0.8))
            starts.append((left, middle))
            axes.text(left + 2.5, middle - height / 2 - 5, f"{stage}\n{units}", ha="center",
                      va="top", fontsize=10)  # fmt: skip
        for x, y in ends:
            for u, v in starts:
                axes.plot((x, u), (y, v), color="#1f4e79" if y == v else ACROSS, lw=1)
        ends = [(left + 5, middle) for middle in rows]
        left += 50
    axes.text(-60, 118, "first GPU", fontsize=11)
    axes.text(-60, -135, "second GPU", fontsize=11)
    axes.set(xlim=(-70, left - 20), ylim=(-150, 135), aspect="equal")
    axes.axis("off")
    save(figure, FOLDER / "architecture.png")


def blocks(axes, inputs, outputs, drawn):
    """A matrix of feature maps in by feature maps out, as blocks: {(left, top): color}."""
    wide, high = inputs / 2, outputs / 2
    for (column, row), color in drawn.items():
        corner = (column * wide, row * high)
        axes.add_patch(Rectangle(corner, wide, high, facecolor=color, edgecolor="#444", lw=0.8))
    axes.add_patch(Rectangle((0, 0), inputs, outputs, fill=False, edgecolor="#444", lw=1.2))
    axes.set(xlim=(0, inputs), ylim=(outputs, 0), aspect="equal")
    axes.set(xticks=[0, wide, inputs], yticks=[0, high, outputs])
    axes.set(xlabel="feature maps in", ylabel="feature maps out")


def groups():
    """Which feature maps see which: conv2 with one group and with two, and conv3."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    panels = figure.subplots(1, 3, width_ratios=(96, 96, 170))
    first, second = GPUS
    every = [(0, 0), (1, 0), (0, 1), (1, 1)]
    halves = {(0, 0): first, (1, 1): second}
    for axes, name, inputs, side, outputs, drawn in (
        (panels[0], "conv2, if it had one group", 96, 5, 256, dict.fromkeys(every, "#ddd")),
        (panels[1], "conv2, two groups", 96, 5, 256, halves),
        (panels[2], "conv3, one group", 256, 3, 384, dict.fromkeys(every, "#f3c0b8") | halves),
    ):
        blocks(axes, inputs, outputs, drawn)
        weights = inputs * outputs * side**2 * len(drawn) // 4
        axes.set_title(f"{name}:\n{weights:,} weights", fontsize=10)
    for x, y in ((72, 64), (24, 192)):
        panels[1].text(x, y, "no\nweights", ha="center", va="center", fontsize=9)
    for axes in panels[1:]:
        wide, high = (limit / 4 for limit in (axes.get_xlim()[1], axes.get_ylim()[0]))
        for i, name in enumerate(("first\nGPU", "second\nGPU")):
            place = ((2 * i + 1) * wide, (2 * i + 1) * high)
            axes.text(*place, name, ha="center", va="center", fontsize=9)
    for x, y in ((3, 1), (1, 3)):
        words = "from one\nto the other"
        axes.text(x * wide, y * high, words, ha="center", va="center", fontsize=9)
    save(figure, FOLDER / "groups.png")


def dropout():
    """Four units that feed one, for two training images and at test."""
    units = (2, 1, 4, 3)
    figure = Figure(figsize=(9, 3), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, title, mask, scale in (
        (panels[0], "training, one image", (1, 0, 1, 0), 2),
        (panels[1], "training, another image", (0, 1, 0, 1), 2),
        (panels[2], "test", (1, 1, 1, 1), 1),
    ):
        total = sum(scale * unit * kept for unit, kept in zip(units, mask))
        for i, (unit, kept) in enumerate(zip(units, mask)):
            y = 3 - i
            if kept:
                axes.plot((0, 2), (y, 1.5), color="#1f4e79", lw=1.2, zorder=1)
            color = GPUS[0] if kept else "white"
            axes.scatter(0, y, s=650, color=color, edgecolor="#444" if kept else "#bbb", zorder=2)
            words = f"{scale * unit}" if kept else "0"
            axes.text(0, y, words, ha="center", va="center", color="black" if kept else "#999")
            if scale > 1:
                how = f"{unit} / 0.5" if kept else f"{unit}, dropped"
                axes.text(-0.32, y, how, ha="right", va="center", fontsize=9, color="#666")
        axes.scatter(2, 1.5, s=900, color=GPUS[1], edgecolor="#444", zorder=2)
        axes.text(2, 1.5, f"{total}", ha="center", va="center")
        axes.set_title(title, fontsize=10)
        axes.set(xlim=(-1.35, 2.5), ylim=(-0.5, 3.5))
        axes.axis("off")
    save(figure, FOLDER / "dropout.png")


def augmentation():
    """A photograph and two crops of it, one mirrored; a shift of its colors, as is and tenfold."""
    photograph = get_sample_data("grace_hopper.jpg", asfileobj=False)
    image = torch.from_numpy(decode(photograph, 256))[None]
    windows = {"tab:orange": (4, 2), "white": (26, 28)}  # color: top, left
    crops = [crop(image, top, left, 224)[0] for top, left in windows.values()]
    alone = Data(("",), 3, (image, torch.zeros(1)), None, None, RECIPES["paper"])
    components = principal_components(alone.colors()[1])
    torch.manual_seed(2)
    shifts = shift_colors(torch.zeros(5, 3, 1, 1), components)
    shift = max(shifts, key=lambda one: one.square().sum())  # the largest of five draws
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    panels = figure.subplots(2, 3)
    for axes, title, picture in (
        (panels[0, 0], "the photograph, 256x256", image[0]),
        (panels[0, 1], "a crop of 224x224 (orange)", crops[0]),
        (panels[0, 2], "another (white), mirrored", crops[1].flip(2)),
        (panels[1, 0], "colors shifted, as in training", image[0] + shift),
        (panels[1, 1], "the same, ten times as strong", image[0] + 10 * shift),
        (panels[1, 2], "the opposite, ten times as strong", image[0] - 10 * shift),
    ):
        axes.imshow(picture.clamp(0, 255).byte().permute(1, 2, 0).numpy())
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    for color, (top, left) in windows.items():
        window = Rectangle((left, top), 223, 223, fill=False, edgecolor=color, linestyle="--", lw=2)
        panels[0, 0].add_patch(window)
    # With 256 colors the file has less than half the size.
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    full = Image.open(drawn).convert("RGB")
    few = full.quantize(palette=full.quantize(256, Image.Quantize.MAXCOVERAGE))
    replace(FOLDER / "augmentation.png", lambda part: few.save(part, format="png", optimize=True))
    print(f"{FOLDER / 'augmentation.png'}: drawn")


def fashion():
    """(the Data of Fashion-MNIST, its mean)."""
    loaded = load(RECIPES["laptop"])
    return loaded, loaded.colors()[0]


@torch.no_grad()
def spreads(net, images):
    """{stage: how much its output differs from image to image} of a network."""
    spread = {}
    for stage, layer in net.named_children():
        layer.register_forward_hook(
            lambda layer, inputs, output, stage=stage: spread.update(
                {stage: output.std(0).mean().item()}
            )
        )
    net.eval()(images)
    return spread


def start():
    """How much the output of each layer differs from image to image before any training."""
    loaded, mean = fashion()
    laptop = RECIPES["laptop"]
    size, width = laptop.image_size, laptop.width
    small = {"image_size": size, "width": width, "in_channels": 1, "num_classes": 10}
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    for knobs, std, divisor, style, name in (
        ({}, 0.01, 1, "o-", "full size, pixels from 0 to 255"),
        ({}, 0.01, 255, "o--", "full size, pixels from 0 to 1"),
        (small, 0.01 / width**0.5, 1, "s-", "laptop recipe: quarter width, N(0, 0.02²)"),
        (small, 0.01, 1, "s--", "quarter width, N(0, 0.01²)"),
    ):
        torch.manual_seed(0)
        net = AlexNet(**knobs)
        net.initialize(std)
        images = prepare(loaded.train[0][:64], knobs.get("image_size", 224), mean) / divisor
        spread = spreads(net, images.expand(-1, net.conv1.in_channels, -1, -1))
        axes.semilogy(*zip(*spread.items()), style, label=name)
    axes.set(ylabel="spread from image to image", title="Before training, seed 0")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, FOLDER / "start.png")


ALIKE = "-epochs-20-no-distort"  # the recipe of rungs 0 to 4, on the branch LeNet
RUNGS = [  # what it is called in the picture, the branch, and what differs from its laptop recipe
    ("LeNet-5 of 1998", LENET, ALIKE),
    ("max pooling", LENET, f"{ALIKE}-pooling-max"),
    ("ReLU", LENET, f"{ALIKE}-activation-relu-pooling-max"),
    ("trained softmax output", LENET, f"{ALIKE}-activation-relu-pooling-max-output-softmax"),
    ("full C3", LENET, f"{ALIKE}-activation-relu-pooling-max-output-softmax-c3-full"),
    ("weights of He et al.", RUNS, "-experiment-ladder-rung-start"),
    ("twice as wide", RUNS, "-experiment-ladder-rung-wide"),
    ("three more convolutions", RUNS, "-experiment-ladder-rung-deep"),
    ("64x64 pixels", RUNS, "-experiment-ladder-rung-large"),
    ("crops and mirrors", RUNS, "-experiment-ladder-rung-crops"),
    ("dropout", RUNS, "-experiment-ladder-rung-dropout"),
    ("AlexNet's own recipe", RUNS, "-epochs-30-side-64-image-size-64"),
]


def rung(branch, flags):
    return [branch / f"laptop{flags}-seed{seed}" for seed in SEEDS]


def ladder():
    """Accuracy on test images of each rung, from the bottom up: a dot a seed, and the mean."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    means = []
    for y, (_, branch, flags) in enumerate(RUNGS):
        weights = [checkpoint.load(run / "weights.pt") for run in rung(branch, flags)]
        values = [100 * saved["result"]["metrics"]["accuracy"] for saved in weights]
        means.append(sum(values) / len(values))
        axes.plot(values, [y] * len(values), "o", color="tab:blue", alpha=0.45)
        axes.text(1.01, y, f"{means[-1]:.2f}", transform=axes.get_yaxis_transform(), va="center")
    axes.plot(means, range(len(means)), "|-", color="black", lw=1, markersize=12, markeredgewidth=2)
    axes.set_yticks(range(len(RUNGS)), [f"{name}  {y}" for y, (name, *_) in enumerate(RUNGS)])
    axes.set(xlabel="accuracy on test images, %: a dot for each seed, and their mean")
    axes.set_ylim(-0.6, len(RUNGS) - 0.3)
    axes.grid(alpha=0.3)
    save(figure, FOLDER / "ladder.png")


LITTLE = {"with dropout": 0.5, "without": 0.0}


def little_data(dropout):
    """The runs on a tenth of the images, at 64 pixels."""
    then = {"epochs": 100, "limit": 5500, "side": 64, "image_size": 64, "dropout": dropout}
    recipe = dataclasses.replace(RECIPES["laptop"], name="laptop")
    return [RUNS / recipe.but(**then, seed=seed).title() for seed in (0, 1)]


def overfitting():
    """Loss and accuracy on 5,500 training images and on validation images; mean of two seeds."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy")):
        for (name, dropout), color in zip(LITTLE.items(), ("black", "tab:red")):
            for part, style in (("train", ":"), ("validation", "-")):
                means = mean_curve(little_data(dropout), f"{part}_{quantity}")
                axes.plot(
                    range(1, len(means) + 1), means, style, color=color, label=f"{name}, {part}"
                )
        axes.set(xlabel="epoch", title=quantity)
        axes.grid(alpha=0.3)
    axes.legend()
    save(figure, FOLDER / "overfitting.png")


def main():
    rungs = [run for _, *where in RUNGS for run in rung(*where)]
    little = [run for dropout in LITTLE.values() for run in little_data(dropout)]
    draw_finished({architecture: [], dropout: [], groups: [], augmentation: [], start: []})
    draw_finished({ladder: rungs, overfitting: little})


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    main()
