"""Draw the pictures of summary.md that train.py does not draw.

    python train.py, and the runs of sections 5 and 8, which say their commands
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
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import ROOT, checkpoint
from harness.images import load
from harness.plots import draw_finished, mean_curve, save
from model import BRANCHES, INCEPTION, GoogLeNet

from train import RECIPES, prepare

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "GoogLeNet"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
SEEDS = (0, 1, 2)
LAPTOP = [RUNS / f"laptop-seed{seed}" for seed in SEEDS]
EPOCHS = 5  # of the ablations
COLORS = dict(zip(BRANCHES, ("#f4c7a1", "#b5d2ec", "#a9d8b8", "#ddd")))


def box(axes, x, y, text, color, width=1.0, height=0.6):
    """A rectangle around (x, y) with a text in it."""
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(Rectangle(corner, width, height, facecolor=color, edgecolor="#666", lw=0.6))
    axes.text(x, y, text, ha="center", va="center", fontsize=8)


def arrow(axes, start, end):
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, color="#666"))


def architecture():
    """Figure 3 as one row of boxes, and the block 3a with the numbers of Table 1."""
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    network, block = figure.subplots(2, 1, height_ratios=(1, 1.5))
    stages = [
        ("conv1\n7×7/2", "112²\n64"),
        ("pool", "56²\n64"),
        ("LRN", ""),
        ("conv2\n1×1\n3×3", "192"),
    ]
    stages += [("LRN", ""), ("pool", "28²\n192")]
    for name, (n1x1, _, n3x3, _, n5x5, proj) in INCEPTION.items():
        stages.append((name, str(n1x1 + n3x3 + n5x5 + proj)))
        if name in ("3b", "4e"):
            stages.append(("pool", "14²" if name == "3b" else "7²"))
    stages += [("mean", "1024"), ("linear", "1000")]
    for x, (name, output) in enumerate(stages):
        color = {"pool": "#ddd", "LRN": "#fff", "mean": "#ddd"}.get(name, "#f4c7a1")
        color = "#b5d2ec" if name in INCEPTION else color
        box(network, x, 0, name, color, 0.86, 0.8)
        network.text(x, -0.62, output, ha="center", va="top", fontsize=7)
        if x:
            arrow(network, (x - 0.57, 0), (x - 0.43, 0))
        if name in ("4a", "4d"):
            arrow(network, (x, 0.4), (x, 0.95))
            text = f"classifier on {name}:\nmean of 5×5/3, 1×1,\n1024, 1000"
            box(network, x, 1.45, text, "#fbe9a7", 2.6, 1.0)
    network.set(xlim=(-0.6, len(stages) - 0.4), ylim=(-1.25, 2.1))
    n1x1, n3x3_reduce, n3x3, n5x5_reduce, n5x5, proj = INCEPTION["3a"]
    rows = {
        "1x1": (None, f"1×1: {n1x1}"),
        "3x3": (f"1×1: {n3x3_reduce}", f"3×3: {n3x3}"),
        "5x5": (f"1×1: {n5x5_reduce}", f"5×5: {n5x5}"),
        "pool": ("maxima of 3×3", f"1×1: {proj}"),
    }
    box(block, 0, 0, "192 maps\nof 28×28", "#fff", 1.0, 1.2)
    box(block, 7, 0, f"{n1x1 + n3x3 + n5x5 + proj} maps\nof 28×28", "#fff", 1.0, 1.2)
    for y, (name, (first, last)) in zip((1.5, 0.5, -0.5, -1.5), rows.items()):
        arrow(block, (0.5, 0), (1.9, y))
        if first:
            box(block, 2.6, y, first, "#ddd" if name == "pool" else "#f4c7a1", 1.4)
            arrow(block, (3.3, y), (3.8, y))
            box(block, 4.5, y, last, "#f4c7a1" if name == "pool" else COLORS[name], 1.4)
        else:
            box(block, 3.55, y, last, COLORS[name], 3.3)
        arrow(block, (5.2, y), (6.5, 0))
    block.set(xlim=(-2, 9), ylim=(-2, 2))
    block.set_title("inception_3a", fontsize=9)
    for axes in (network, block):
        axes.axis("off")
    save(figure, FOLDER / "architecture.png")


KINDS = ("11×11 or 7×7", "5×5", "3×3", "1×1", "fully connected")
KIND_COLORS = ("#8c6bb1", "#a9d8b8", "#b5d2ec", "#f4c7a1", "#bbb")
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
    figure = Figure(figsize=(11, 2.9), layout="constrained")
    panels = figure.subplots(1, 3)
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
            panels[panel].text(lefts[panel], y, text, va="center", fontsize=8)
    titles = "multiply-accumulates, $10^9$", "the same, % of the network", "weights, millions"
    for axes, title, limit in zip(panels, titles, (18.5, 100, 165)):
        axes.set_yticks(range(3), networks)
        axes.set(xlim=(0, limit), title=title)
        axes.title.set_fontsize(10)
        axes.invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles[: len(KINDS)], labels[: len(KINDS)], loc="outside lower center", ncols=5, fontsize=8
    )
    save(figure, FOLDER / "costs.png")


def fashion():
    """(the Data of Fashion-MNIST, its mean)."""
    loaded = load(RECIPES["laptop"])
    return loaded, loaded.colors()[0]


def narrow(**knobs):
    """The network of the laptop recipe."""
    recipe = RECIPES["laptop"]
    return GoogLeNet(1, 10, recipe.image_size, recipe.width, **knobs)


REACH = {"1x1": 27, "3x3": 43, "5x5": 59, "pool": 43}  # pixels that a position of 3a depends on


@torch.no_grad()
def branches():
    """Of two maps of each branch of 3a, the windows of test images that excite them most."""
    net, (loaded, mean) = narrow().eval(), fashion()
    net.load_state_dict(checkpoint.weights(LAPTOP[0]))
    side, count, shown = RECIPES["laptop"].image_size, 2000, 6
    images = prepare(loaded.test[0][:count], side, mean)
    responses = {}
    for name, branch in net.inception_3a.branches.items():
        branch.register_forward_hook(
            lambda layer, inputs, output, name=name: responses.update({name: output})
        )
    net(images)
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    grid = figure.subplots(len(BRANCHES), 2 * shown)
    for row, (name, response) in zip(grid, responses.items()):
        peaks, places = response.flatten(2).max(2)  # of each image and map: [count, maps]
        # The two that are most choosy: far above their mean on a few images.
        choosy = (peaks.topk(shown, 0).values.mean(0) / (peaks.mean(0) + 1e-6)) * (
            peaks.mean(0) > peaks.mean() / 4
        )
        for number, unit in enumerate(choosy.topk(2).indices.tolist()):
            best = peaks[:, unit].topk(shown).indices
            for axes, image in zip(row[number * shown :], best.tolist()):
                y, x = divmod(places[image, unit].item(), response.shape[3])
                half = REACH[name] // 2
                padded = F.pad(images[image, 0], (half,) * 4, value=float("nan"))
                top, left = 8 * y + 6, 8 * x + 6  # the middle of the window, padded by half
                window = padded[top : top + REACH[name], left : left + REACH[name]]
                axes.set_facecolor("#e8eef5")
                axes.imshow(
                    window.numpy(), cmap="gray_r", vmin=-mean.item(), vmax=255 - mean.item()
                )
                axes.set_xticks([])
                axes.set_yticks([])
            row[number * shown].set_title(f"map {unit}", fontsize=8, loc="left")
        row[0].set_ylabel(f"{name}\n{REACH[name]} pixels", fontsize=9)
    save(figure, FOLDER / "branches.png")


HEADS = {
    "validation_accuracy": ("the classifier at the end", "black"),
    "validation_accuracy_aux_4d": ("on 4d", "tab:orange"),
    "validation_accuracy_aux_4a": ("on 4a", "tab:blue"),
}


def heads():
    """Validation accuracy of the three classifiers by epoch, mean over seeds, and the gap."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    accuracy, gap = figure.subplots(1, 2)
    last = mean_curve(LAPTOP, "validation_accuracy")
    epochs = range(1, len(last) + 1)
    for column, (name, color) in HEADS.items():
        curves = [mean_curve([run], column) for run in LAPTOP]
        mean = mean_curve(LAPTOP, column)
        accuracy.plot(epochs, [100 * a for a in mean], marker=".", color=color, label=name)
        low, high = ([100 * f(values) for values in zip(*curves)] for f in (min, max))
        accuracy.fill_between(epochs, low, high, color=color, alpha=0.15, lw=0)
        if column != "validation_accuracy":
            points = [100 * (a - b) for a, b in zip(mean, last)]
            gap.plot(epochs, points, marker=".", color=color, label=name)
    accuracy.set(xlabel="epoch", title="validation accuracy, %")
    gap.set(xlabel="epoch", title="points against the classifier at the end")
    gap.axhline(0, color="black", lw=0.8)
    for axes in (accuracy, gap):
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    save(figure, FOLDER / "heads.png")


def short(flags="", seed=0):
    """The folder of a run of the ablations."""
    return RUNS / f"laptop-epochs-{EPOCHS}{flags}-seed{seed}"


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
    """Gradients by stage with and without the heads' losses, and what training makes of it."""
    loaded, mean = fashion()
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    full, laptop, training = figure.subplots(1, 3)
    learned = checkpoint.weights(short("-no-aux"))
    cases = [("full size, before training", full, lambda: GoogLeNet(1), 224, 8)]
    cases.append(("laptop recipe", laptop, narrow, RECIPES["laptop"].image_size, 128))
    for title, axes, make, side, count in cases:
        images, labels = (part[:count] for part in loaded.train)
        images = prepare(images, side, mean)
        for weight, name, color in ((0.3, "with heads", "tab:orange"), (0, "without", "black")):
            torch.manual_seed(0)
            norms = gradient_norms(make(), images, labels, weight)
            axes.semilogy(*zip(*norms.items()), "o-", color=color, label=name, markersize=4)
        if make is narrow:
            net = narrow(aux=False)
            net.load_state_dict(learned)
            norms = gradient_norms(net, images, labels, 0)
            text = f"without, after {EPOCHS} epochs"
            axes.semilogy(*zip(*norms.items()), "o:", color="black", label=text, markersize=4)
        axes.set_title(f"norm of the gradient, {title}", fontsize=10)
        axes.tick_params(axis="x", rotation=90, labelsize=7)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    for flags, name, color in (("", "with heads", "tab:orange"), ("-no-aux", "without", "black")):
        for seed, style in ((0, "-"), (1, "--")):
            losses = mean_curve([short(flags, seed)], "train_loss")
            label = f"{name}, seed {seed}"
            epochs = range(1, len(losses) + 1)
            training.plot(epochs, losses, style, color=color, marker=".", label=label)
    training.set_title(f"training loss, {EPOCHS} epochs", fontsize=10)
    training.set_xlabel("epoch")
    training.set_xticks(range(1, EPOCHS + 1))
    training.grid(alpha=0.3)
    training.legend(fontsize=7)
    save(figure, FOLDER / "gradients.png")


def main():
    draw_finished(
        {
            architecture: [],
            costs: [],
            branches: LAPTOP[:1],
            heads: LAPTOP,
            gradients: [short(flags, seed) for flags in ("", "-no-aux") for seed in (0, 1)],
        }
    )


if __name__ == "__main__":
    main()
