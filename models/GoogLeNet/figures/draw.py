"""Draw the pictures of summary.md and notes.md that train.py does not draw.

    python train.py --seed 0             and 1, and 2
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/GoogLeNet) has those runs; the pictures go to FOLDER (default: RUNS).
What cannot be drawn, since a run is not there, is said. `make figures` on main calls this.
"""

import sys
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import ROOT, checkpoint
from harness.diagrams import BLUE, GRAY, GREEN, ORANGE, YELLOW, arrow, box
from harness.images import load
from harness.plots import draw_finished, mean_curve, save
from model import BRANCHES, INCEPTION, GoogLeNet

from train import RECIPES, prepare

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "GoogLeNet"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
SEEDS = (0, 1, 2)
LAPTOP = [RUNS / f"laptop-seed{seed}" for seed in SEEDS]


def row_of_stages(axes, stages, y):
    """Stages (name, output, color) as a row of boxes, and an arrow before each."""
    for x, (name, output, color) in enumerate(stages):
        box(axes, x, y, name, color, 0.84, 0.8)
        axes.text(x, y - 0.48, output, ha="center", va="top", fontsize=8.5)
        arrow(axes, (x - 0.62, y), (x - 0.4, y))


def architecture():
    """Figure 3 as two rows of boxes, and the block 3a with the numbers of Table 1."""
    figure = Figure(figsize=(9, 7.2), layout="constrained")
    network, block = figure.subplots(2, 1, height_ratios=(1.15, 1))
    blocks = {}
    for name, (n1x1, _, n3x3, _, n5x5, proj) in INCEPTION.items():
        blocks[name] = (name, f"{n1x1 + n3x3 + n5x5 + proj}", BLUE)
    first = [("conv1\n7×7/2", "64@\n112×112", ORANGE), ("pool", "64@\n56×56", GRAY)]
    first += [("LRN", "", "white"), ("conv2\n1×1\n3×3", "192", ORANGE), ("LRN", "", "white")]
    first += [("pool", "192@\n28×28", GRAY), blocks["3a"], blocks["3b"]]
    first += [("pool", "480@\n14×14", GRAY)]
    second = [blocks[name] for name in ("4a", "4b", "4c", "4d", "4e")]
    second += [("pool", "832@\n7×7", GRAY), blocks["5a"], blocks["5b"]]
    second += [("average", "1024", GRAY), ("linear", "1000", ORANGE)]
    network.text(-0.68, 0, "image\n3@\n224×224", ha="right", va="center", fontsize=9)
    row_of_stages(network, first, 0)
    row_of_stages(network, second, -3.1)
    for x, name in ((0, "4a"), (3, "4d")):
        arrow(network, (x, -2.7), (x, -2.26))
        text = f"auxiliary classifier on {name}"
        box(network, x + 0.35, -1.9, text, YELLOW, 2.6, 0.7)
    network.set(xlim=(-1.6, 9.6), ylim=(-4.2, 0.6))
    n1x1, n3x3_reduce, n3x3, n5x5_reduce, n5x5, proj = INCEPTION["3a"]
    rows = {
        "1x1": (None, f"1×1: {n1x1}", ORANGE),
        "3x3": (f"1×1: {n3x3_reduce}", f"3×3: {n3x3}", BLUE),
        "5x5": (f"1×1: {n5x5_reduce}", f"5×5: {n5x5}", GREEN),
        "pool": ("3×3 max pooling", f"1×1: {proj}", ORANGE),
    }
    box(block, 0, 0, "192\nfeature maps\nof 28×28", "white", 1.5, 1.3, 10)
    total = n1x1 + n3x3 + n5x5 + proj
    box(block, 8, 0, f"{total}\nfeature maps\nof 28×28", "white", 1.5, 1.3, 10)
    for y, (name, (reduce, last, color)) in zip((1.5, 0.5, -0.5, -1.5), rows.items()):
        arrow(block, (0.75, 0), (1.85, y))
        if reduce:
            box(block, 2.9, y, reduce, GRAY if name == "pool" else ORANGE, 2.0, 0.7, 10)
            arrow(block, (3.95, y), (4.35, y))
            box(block, 5.1, y, last, color, 1.4, 0.7, 10)
        else:
            box(block, 3.85, y, last, color, 3.9, 0.7, 10)
        arrow(block, (5.85, y), (7.2, 0))
    block.set(xlim=(-1, 9), ylim=(-2, 2))
    block.set_title("block 3a", fontsize=11)
    for axes in (network, block):
        axes.axis("off")
    save(figure, FOLDER / "architecture.png")


def grid(axes, values, left, title, color, marked=None):
    """A feature map as a square of numbers, whose left upper corner is at (left, 0)."""
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            here = (i, j) == marked
            face = YELLOW if here else color
            corner = (left + j, -i - 1)
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=face, edgecolor="#666", lw=0.8))
            middle = (left + j + 0.5, -i - 0.5)
            axes.text(*middle, f"{value:g}", ha="center", va="center", fontsize=12)
    axes.text(left + 1.5, 0.25, title, ha="center", va="bottom", fontsize=10)


def one_by_one():
    """A 1x1 convolution from two feature maps to one, with numbers, and the mean of the result."""
    a = torch.tensor([[3.0, 0, 1], [2, 4, 0], [0, 1, 2]])
    b = torch.tensor([[1.0, 0, 3], [1, 2, 0], [2, 0, 2]])
    sums = F.conv2d(torch.stack([a, b])[None], torch.tensor([2.0, -1]).view(1, 2, 1, 1))[0, 0]
    output = torch.relu(sums)
    figure = Figure(figsize=(9, 1.9), layout="constrained")
    axes = figure.subplots()
    grid(axes, a.tolist(), 0, "feature map a", BLUE, (0, 0))
    grid(axes, b.tolist(), 4.2, "feature map b", BLUE, (0, 0))
    grid(axes, sums.tolist(), 10.2, "2a - b", "white", (0, 0))
    grid(axes, output.tolist(), 15, "after ReLU", ORANGE, (0, 0))
    mean = f"{output.mean():g}"
    words = "1x1 convolution\nwith weights\n2 and -1, bias 0"
    axes.text(8.7, -1.15, words, ha="center", va="bottom", fontsize=9)
    arrow(axes, (7.5, -1.5), (9.9, -1.5))
    arrow(axes, (13.5, -1.5), (14.8, -1.5))
    axes.text(19.9, -1.15, "global average\npooling", ha="center", va="bottom", fontsize=9)
    arrow(axes, (18.3, -1.5), (21.4, -1.5))
    axes.add_patch(Rectangle((21.7, -2), 1, 1, facecolor=GRAY, edgecolor="#666", lw=0.8))
    axes.text(22.2, -1.5, mean, ha="center", va="center", fontsize=12)
    axes.set(xlim=(-0.2, 22.9), ylim=(-3.1, 1), aspect="equal")
    axes.axis("off")
    save(figure, FOLDER / "one-by-one.png")


def slab(axes, left, middle, maps, color):
    """Feature maps as a box in oblique view, as long as they are many; its right end."""
    side, deep, length = 1.0, 0.3, maps / 80
    x, y = left, middle - side / 2
    faces = [[(x, y), (x + length, y), (x + length, y + side), (x, y + side)]]
    top = [(x, y + side), (x + length, y + side)]
    faces += [[*top, (x + length + deep, y + side + deep), (x + deep, y + side + deep)]]
    end = [(x + length, y), (x + length + deep, y + deep)]
    faces += [[*end, (x + length + deep, y + side + deep), (x + length, y + side)]]
    for corners in faces:
        axes.add_patch(Polygon(corners, facecolor=color, edgecolor="#444", linewidth=0.8))
    words = f"{maps} feature maps" if maps > 40 else f"{maps}"
    axes.text(x + length / 2, y - 0.1, words, ha="center", va="top", fontsize=10)
    return x + length + deep


def reduction():
    """The 5x5 filters of block 3a with a reduction before them and without: their weights."""
    _, _, _, reduce, n5x5, _ = INCEPTION["3a"]
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for middle, steps in ((2.4, [(5, n5x5)]), (0, [(1, reduce), (5, n5x5)])):
        left, maps, total = slab(axes, 0, middle, 192, BLUE), 192, 0
        for side, into in steps:
            weights = side**2 * maps * into
            start, end = left + 0.2, (8.9 if into == n5x5 else 5.3)
            arrow(axes, (start, middle + 0.1), (end, middle + 0.1))
            words = f"{side}×{side}" if side == 1 else f"{side}×{side} filters"
            text = (start + end) / 2, middle + 0.2
            axes.text(*text, words, ha="center", va="bottom", fontsize=10)
            text = (start + end) / 2, middle
            axes.text(*text, f"{weights:,} weights", ha="center", va="top", fontsize=10)
            left = slab(axes, end + 0.1, middle, into, ORANGE if side == 1 else GREEN)
            maps, total = into, total + weights
        words = f"{total:,} weights,\n{total * 28**2 / 1e6:.1f} million\nmultiply-accumulates"
        axes.text(10.1, middle, words, ha="left", va="center", fontsize=11)
    axes.set(xlim=(-0.1, 12.9), ylim=(-1, 3.4))
    axes.axis("off")
    save(figure, FOLDER / "reduction.png")


KINDS = ("11×11 or 7×7", "5×5", "3×3", "1×1", "fully connected")
KIND_COLORS = ("#8c6bb1", GREEN, BLUE, ORANGE, "#bbb")
# Multiply-accumulates and weights of the branches AlexNet and VGG, as their model.py counts them.
ALEXNET = {
    "11×11 or 7×7": (105_415_200, 34_848),
    "5×5": (223_948_800, 307_200),
    "3×3": (336_420_864, 1_990_656),
    "fully connected": (58_621_952, 58_621_952),
}
VGG_16 = {
    "3×3": (15_346_630_656, 14_710_464),
    "fully connected": (123_633_664, 123_633_664),
}


@torch.no_grad()
def by_kind(net, size):
    """{kind: [multiply-accumulates, weights]} of a network, by the side of its kernels."""
    kinds = {kind: [0, 0] for kind in KINDS}

    def add(layer, inputs, output):
        side = layer.weight.shape[-1] if layer.weight.dim() == 4 else 0
        kind = {7: KINDS[0], 5: KINDS[1], 3: KINDS[2], 1: KINDS[3], 0: KINDS[4]}[side]
        weights = layer.weight.numel()
        kinds[kind][0] += weights * output[0, 0].numel()
        kinds[kind][1] += weights

    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(add)
    net.eval()(torch.zeros(1, 3, size, size))
    return kinds


def costs():
    """Where the multiply-accumulates and the weights of three networks are."""
    networks = {"AlexNet": ALEXNET, "VGG-16": VGG_16, "GoogLeNet": by_kind(GoogLeNet(), 224)}
    figure = Figure(figsize=(9, 3), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for y, (name, kinds) in enumerate(networks.items()):
        macs, weights = (sum(kind[i] for kind in kinds.values()) for i in (0, 1))
        lefts = Counter()
        for kind, color in zip(KINDS, KIND_COLORS):
            mine = kinds.get(kind, (0, 0))
            widths = mine[0] / 1e9, 100 * mine[0] / macs, mine[1] / 1e6
            for panel, width in enumerate(widths):
                panels[panel].barh(y, width, 0.7, lefts[panel], color=color, label=kind)
                lefts[panel] += width
        for panel, text in ((0, f" {macs / 1e9:.2f}"), (2, f" {weights / 1e6:.1f}")):
            panels[panel].text(lefts[panel], y, text, va="center", fontsize=10)
    titles = "multiply-accumulates, billions", "the same, % of the network", "weights, millions"
    for axes, title, limit in zip(panels, titles, (19.5, 100, 175)):
        axes.set_yticks(range(3), networks)
        axes.set(xlim=(0, limit))
        axes.set_title(title, fontsize=11)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    handles, labels = handles[: len(KINDS)], labels[: len(KINDS)]
    place = "outside lower center"
    figure.legend(handles, labels, loc=place, ncols=5, fontsize=10, columnspacing=1.2)
    save(figure, FOLDER / "costs.png")


# From results.csv on main, under each branch's laptop recipe: parameters (those of GoogLeNet and
# BatchNorm with auxiliary classifiers), multiply-accumulates, % of the test images right by seed.
RESULTS = {
    "LeNet": (60_000, 415_680, (91.52, 91.30, 91.26)),
    "ReLU": (60_806, 416_520, (91.13, 91.45, 91.67)),
    "AlexNet": (1_469_882, 8_290_776, (92.34, 92.28, 92.51)),
    "VGG": (1_768_778, 10_774_528, (92.89, 92.82, 92.76)),
    "GoogLeNet": (407_898, 8_272_896, (91.73, 91.39, 91.70)),
    "BatchNorm": (410_294, 8_272_896, (93.13, 93.09, 93.25)),
    "ResNet": (172_218, 19_983_232, (93.44, 93.34, 93.63)),
}
LABELS = {  # where a name stands, in points from its mean, if not to the right: in each panel
    "LeNet": ((10, -7, "left"), (10, -7, "left")),
    "ReLU": ((10, 5, "left"), (10, 5, "left")),
    "AlexNet": ((-10, 0, "right"), (-10, 0, "right")),
    "VGG": ((10, -3, "left"), (10, 0, "left")),
    "GoogLeNet": ((0, -14, "center"), (0, -14, "center")),
    "BatchNorm": ((-10, 2, "right"), (10, 0, "left")),
    "ResNet": ((-10, 4, "right"), (10, 2, "left")),
}


def words_of(number, _):
    """60000 as 60,000, and 2000000 as 2 million."""
    return f"{number / 1e6:g} million" if number >= 1e6 else f"{number:,.0f}"


def budget():
    """Accuracy of all branches' networks against their arithmetic and their parameters."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for name, (parameters, macs, accuracies) in RESULTS.items():
        mean, mine = sum(accuracies) / len(accuracies), name == "GoogLeNet"
        color = "tab:orange" if mine else "tab:blue"
        for panel, (axes, x) in enumerate(zip(panels, (macs, parameters))):
            axes.plot([x] * len(accuracies), accuracies, ".", color=color, alpha=0.5, ms=7)
            axes.plot(x, mean, "_", color=color, ms=16, mew=2)
            dx, dy, side = LABELS.get(name, ((10, 0, "left"),) * 2)[panel]
            axes.annotate(
                name,
                (x, mean),
                (dx, dy),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=10,
                fontweight="bold" if mine else "normal",
            )
    limits, titles = ((2.5e5, 4e7), (4e4, 4e6)), ("multiply-accumulates an image", "parameters")
    ticks = ((3e5, 1e6, 3e6, 1e7, 3e7), (6e4, 2e5, 6e5, 2e6))
    for axes, limit, title, marks in zip(panels, limits, titles, ticks):
        axes.set_xscale("log")
        axes.set(xlim=limit, xlabel=title)
        axes.set_xticks(marks)
        axes.xaxis.set_major_formatter(FuncFormatter(words_of))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy on test images, %")
    save(figure, FOLDER / "budget.png")


def fashion():
    """(the Data of Fashion-MNIST, its mean)."""
    loaded = load(RECIPES["laptop"])
    return loaded, loaded.colors()[0]


def narrow(**knobs):
    """The network of the laptop recipe."""
    recipe = RECIPES["laptop"]
    return GoogLeNet(1, 10, recipe.image_size, recipe.width, **knobs)


FIELD = {"1x1": 27, "3x3": 43, "5x5": 59, "pool": 43}  # receptive fields of the branches of 3a


@torch.no_grad()
def branches():
    """Windows of test images that excite two feature maps of each branch of 3a most."""
    net, (loaded, mean) = narrow().eval(), fashion()
    net.load_state_dict(checkpoint.weights(LAPTOP[0]))
    side, count, shown = RECIPES["laptop"].image_size, 2000, 5
    images = prepare(loaded.test[0][:count], side, mean)
    responses = {}
    for name, branch in net.inception_3a.branches.items():
        branch.register_forward_hook(
            lambda layer, inputs, output, name=name: responses.update({name: output})
        )
    net(images)
    figure = Figure(figsize=(9, 3.7))
    halves = figure.subplots(
        len(BRANCHES),
        2 * shown + 1,
        width_ratios=[1] * shown + [0.25] + [1] * shown,
        gridspec_kw=dict(left=0.11, right=0.995, top=0.99, bottom=0.01, wspace=0.06, hspace=0.06),
    )
    for row, (name, response) in zip(halves, responses.items()):
        row[shown].axis("off")
        peaks, places = response.flatten(2).max(2)  # of each image and feature map: [count, maps]
        # The two that are most choosy: far above their mean on a few images.
        choosy = (peaks.topk(shown, 0).values.mean(0) / (peaks.mean(0) + 1e-6)) * (
            peaks.mean(0) > peaks.mean() / 4
        )
        for start, unit in zip((0, shown + 1), choosy.topk(2).indices.tolist()):
            best = peaks[:, unit].topk(shown).indices
            for axes, image in zip(row[start:], best.tolist()):
                y, x = divmod(places[image, unit].item(), response.shape[3])
                half = FIELD[name] // 2
                padded = F.pad(images[image, 0], (half,) * 4, value=float("nan"))
                top, left = 8 * y + 6, 8 * x + 6  # the middle of the window, padded by half
                window = padded[top : top + FIELD[name], left : left + FIELD[name]]
                axes.set_facecolor("#cfdff0")
                axes.imshow(
                    window.numpy(), cmap="gray_r", vmin=-mean.item(), vmax=255 - mean.item()
                )
                axes.set_xticks([])
                axes.set_yticks([])
        words = name.replace("pool", "pooling")
        row[0].set_ylabel(f"{words},\n{FIELD[name]} pixels", fontsize=10, rotation=0, ha="right")
        row[0].yaxis.set_label_coords(-0.1, 0.35)
    save(figure, FOLDER / "branches.png")


def heads():
    """How far the auxiliary classifiers are behind the one at the end, on validation images."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for stage, color in (("4d", "tab:orange"), ("4a", "tab:blue")):
        gaps = []
        for run in LAPTOP:
            columns = f"validation_accuracy_aux_{stage}", "validation_accuracy"
            here, end = (mean_curve([run], column) for column in columns)
            gaps.append([100 * (a - b) for a, b in zip(here, end)])
        epochs = range(1, len(gaps[0]) + 1)
        means = [sum(values) / len(values) for values in zip(*gaps)]
        axes.plot(epochs, means, color=color, label=f"classifier on {stage}")
        for gap in gaps:
            axes.plot(epochs, gap, ".", color=color, alpha=0.6)
    axes.axhline(0, color="black", lw=0.8)
    axes.set(xlabel="epoch", ylabel="points of accuracy")
    axes.set_title("behind the classifier at the end", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, FOLDER / "heads.png")


def gradient_norms(net, images, labels, weight):
    """{stage: norm of the gradient of its weights} of the loss, the heads' counted for `weight`."""
    scores, *others = net.train()(images)
    loss = F.cross_entropy(scores, labels)
    (loss + weight * sum(F.cross_entropy(other, labels) for other in others)).backward()
    return {
        name: sum(p.grad.square().sum() for p in stage.parameters() if p.dim() > 1).sqrt().item()
        for name, stage in net.named_children()
        if not name.startswith("aux")
    }


def gradients():
    """Gradients by stage before training, with and without the auxiliary classifiers' losses."""
    loaded, mean = fashion()
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    full, laptop = figure.subplots(1, 2, sharey=True)
    for title, axes, make, side, count in (
        ("full size, 224 pixels", full, lambda: GoogLeNet(1), 224, 8),
        ("laptop recipe, 64 pixels", laptop, narrow, RECIPES["laptop"].image_size, 128),
    ):
        images, labels = (part[:count] for part in loaded.train)
        images = prepare(images, side, mean)
        for weight, name, color in (
            (0.3, "with auxiliary classifiers", "tab:orange"),
            (0, "without", "black"),
        ):
            norms = []
            for seed in SEEDS:
                torch.manual_seed(seed)
                norms.append(gradient_norms(make(), images, labels, weight))
            stages = [stage.removeprefix("inception_") for stage in norms[0]]
            mean_norms = [sum(values) / len(values) for values in zip(*(n.values() for n in norms))]
            axes.semilogy(stages, mean_norms, color=color, label=name)
            for one in norms:
                axes.semilogy(stages, list(one.values()), ".", color=color, alpha=0.5)
        axes.set_title(title, fontsize=11)
        axes.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", rotation=90)
        axes.grid(alpha=0.3)
    full.set_ylabel("length of the gradient\nwith respect to a stage's weights")
    full.legend(fontsize=9)
    save(figure, FOLDER / "gradients.png")


def main():
    draw_finished(
        {
            architecture: [],
            one_by_one: [],
            reduction: [],
            costs: [],
            budget: [],
            gradients: [],
            branches: LAPTOP[:1],
            heads: LAPTOP,
        }
    )


if __name__ == "__main__":
    main()
