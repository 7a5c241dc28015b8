"""Draw the pictures of summary.md that train.py does not draw.

    python train.py, and the runs of sections 5 and 8, which say their commands
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/VGG) has those runs; the pictures go to FOLDER (default: RUNS).
What cannot be drawn, since a run is not there, is said. `make figures` on main calls this.
"""

import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import ROOT, checkpoint
from harness.folder import decode
from harness.images import load
from harness.plots import draw_finished, mean_curve, save
from model import CONFIGURATIONS, MAPS, VGG

from train import CARRIED_OVER, RECIPES, prepare, scale_jitter

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "VGG"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
LAPTOP = RUNS / "laptop-seed0"
EPOCHS = 8  # of the ladder and of the ablations
SHADES = ("#eef4fb", "#d6e6f5", "#b5d2ec", "#8fb9de", "#6699c9")


def architecture():
    """Table 1 as a picture: a column for each configuration, a cell for each layer."""
    figure = Figure(figsize=(10, 6.2), layout="constrained")
    axes = figure.subplots()
    tallest = [max(len(blocks[i]) for blocks in CONFIGURATIONS.values()) for i in range(5)]
    tops = [sum(tallest[:i]) + 0.7 * i for i in range(6)]
    for column, (config, blocks) in enumerate(CONFIGURATIONS.items()):
        layers = sum(map(len, blocks)) + 3
        axes.text(column, -0.75, config, ha="center", weight="bold", fontsize=11)
        axes.text(column, -0.25, f"{layers} layers", ha="center", fontsize=8)
        cells = []
        for i, kernels in enumerate(blocks):
            for j, kernel in enumerate(kernels):
                color = SHADES[i] if kernel == 3 else "#f4c7a1"
                cells.append((tops[i] + j, f"{kernel}×{kernel}, {MAPS[i]}", color))
        cells += [(tops[5] + j, f"full, {units}", "#ddd") for j, units in enumerate((4096,) * 2)]
        cells.append((tops[5] + 2, "full, 1000", "#ddd"))
        for top, text, color in cells:
            corner = (column - 0.42, top + 0.08)
            axes.add_patch(Rectangle(corner, 0.84, 0.84, facecolor=color, edgecolor="#666", lw=0.6))
            axes.text(column, top + 0.5, text, ha="center", va="center", fontsize=8)
        if config == "A-LRN":
            axes.text(column, tops[0] + 1.4, "normalization", ha="center", va="center", fontsize=8)
    for top, side in zip(tops[1:], (112, 56, 28, 14, 7)):
        axes.plot((-0.5, 5.5), (top - 0.35,) * 2, color="#c0392b", lw=0.8)
        axes.text(5.55, top - 0.35, f"maxima of 2×2: {side}×{side}", va="center", fontsize=8)
    axes.text(-0.62, -0.25, "3@224×224", ha="right", fontsize=8)
    axes.set(xlim=(-1.1, 6.7), ylim=(tops[5] + 3.2, -1.2))
    axes.axis("off")
    save(figure, FOLDER / "architecture.png")


def receptive_fields():
    """What one position of the output depends on: one convolution of 7x7, and three of 3x3."""
    maps, field = 64, 15
    stacks = {
        "one 7×7": nn.Sequential(nn.Conv2d(maps, maps, 7, padding=3, bias=False), nn.ReLU()),
        "three 3×3, with ReLUs": nn.Sequential(
            *(nn.Conv2d(maps, maps, 3, padding=1, bias=False), nn.ReLU()),
            *(nn.Conv2d(maps, maps, 3, padding=1, bias=False), nn.ReLU()),
            *(nn.Conv2d(maps, maps, 3, padding=1, bias=False), nn.ReLU()),
        ),
    }
    figure = Figure(figsize=(8, 3.7), layout="constrained")
    for axes, (name, stack) in zip(figure.subplots(1, 2), stacks.items()):
        torch.manual_seed(0)
        for layer in stack[::2]:
            nn.init.xavier_uniform_(layer.weight)
        x = torch.randn(200, maps, field, field, requires_grad=True)
        stack(x)[:, :, field // 2, field // 2].sum().backward()
        gradient = x.grad.abs().mean((0, 1))
        reached = gradient > 0
        rows, columns = (int(reached.any(i).sum()) for i in (1, 0))
        weights = sum(p.numel() for p in stack.parameters())
        shown = axes.imshow(
            (gradient / gradient.max()).where(reached, torch.nan), cmap="Blues", vmin=0
        )
        figure.colorbar(shown, ax=axes, shrink=0.8)
        axes.set_title(
            f"{name}: reaches {rows}×{columns}\n{weights:,} weights, as many multiply-accumulates\n"
            f"a position, {weights // maps**2} $C^2$ with $C$ = {maps} maps",
            fontsize=9,
        )
        axes.set_xticks(torch.arange(field) - 0.5, [])
        axes.set_yticks(torch.arange(field) - 0.5, [])
        axes.grid(lw=0.4)
        axes.tick_params(length=0)
    save(figure, FOLDER / "receptive-fields.png")


def scales():
    """The same photograph at the smallest and largest side, and what a crop sees of it."""
    photograph = get_sample_data("grace_hopper.jpg", asfileobj=False)
    image = torch.from_numpy(decode(photograph, 512))[None]
    figure = Figure(figsize=(10, 3.1), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 2))
    for axes, side in zip(left.subplots(1, 2, width_ratios=(256, 512)), (256, 512)):
        whole = F.interpolate(image.float(), size=side, mode="bilinear")
        axes.imshow(whole[0].byte().permute(1, 2, 0).numpy())
        corner = ((side - 224) / 2, (side - 224) / 2)
        axes.add_patch(Rectangle(corner, 223, 223, fill=False, edgecolor="white", linestyle="--"))
        axes.set_title(f"$S$ = {side}, and 224", fontsize=9)
        axes.axis("off")
    torch.manual_seed(3)
    crops = scale_jitter(image.float().repeat(8, 1, 1, 1), RECIPES["paper"].scales, 224)
    right.suptitle("eight crops of 224×224 at random scales", fontsize=9)
    for axes, crop in zip(right.subplots(2, 4).flat, crops):
        axes.imshow(crop.byte().permute(1, 2, 0).numpy())
        axes.axis("off")
    save(figure, FOLDER / "scales.png", dpi=70)


def fashion():
    """(the Data of Fashion-MNIST, its mean)."""
    loaded = load(RECIPES["laptop"])
    return loaded, loaded.colors()[0]


def narrow(channels=1, **knobs):
    """The network of the laptop recipe."""
    recipe = RECIPES["laptop"]
    knobs = {"config": recipe.config, **knobs}
    return VGG(channels, 10, recipe.image_size, recipe.width, **knobs)


@torch.no_grad()
def scan():
    """Forty test images as one large image, and what one dense pass says of each place."""
    net, (loaded, mean) = narrow().eval(), fashion()
    net.load_state_dict(checkpoint.weights(LAPTOP))
    rows, columns, side = 4, 10, RECIPES["laptop"].image_size
    tiles = prepare(loaded.test[0][: rows * columns], side, mean)
    whole = tiles.view(rows, columns, side, side).transpose(1, 2)
    whole = whole.reshape(1, 1, rows * side, columns * side)
    places = net.dense(whole)[0].argmax(0)
    alone = net(tiles).argmax(1).view(rows, columns)
    labels = loaded.test[1][: rows * columns].view(rows, columns)
    figure = Figure(figsize=(10, 4.3), layout="constrained")
    axes = figure.subplots()
    axes.imshow(whole[0, 0].numpy(), cmap="gray_r")
    for y in range(rows):
        for x in range(columns):
            right = places[y, x] == labels[y, x]
            axes.text(
                (x + 0.5) * side,
                (y + 0.96) * side,
                loaded.classes[places[y, x]],
                ha="center",
                fontsize=7,
                color="tab:green" if right else "tab:red",
                backgroundcolor="#fffc",
            )
    axes.set_title(
        f"dense, one pass: {int((places == labels).sum())} of {labels.numel()} right;  "
        f"each image alone: {int((alone == labels).sum())}",
        fontsize=9,
    )
    axes.axis("off")
    save(figure, FOLDER / "scan.png")


def gradient_norms(net, images, labels):
    """{layer: norm of the gradient of its weights} of the mean loss."""
    F.cross_entropy(net(images), labels).backward()
    return {name: layer.weight.grad.norm().item() for name, layer in net.named_children()}


A = RUNS / f"laptop-epochs-{EPOCHS}-seed0"
D = RUNS / f"laptop-epochs-{EPOCHS}-config-D-seed0"
RANDOM_A = RUNS / f"laptop-epochs-{EPOCHS}-init-0.01-seed0"
RANDOM_D = RUNS / f"laptop-epochs-{EPOCHS}-config-D-init-0.01-seed0"
STARTED_D = RUNS / f"laptop-epochs-{EPOCHS}-config-D-init-0.01-start-from-{A.name}-seed0"


def start():
    """Gradients by layer, at full size and narrow, and the loss of real runs by epoch."""
    loaded, mean = fashion()
    size = RECIPES["laptop"].image_size
    torch.manual_seed(0)
    started = narrow(config="D", init="0.01")
    carried = checkpoint.weights(A)
    carried = {key: carried[key] for key in carried if key.split(".")[0] in CARRIED_OVER}
    started.load_state_dict(carried, strict=False)
    learned = narrow(config="D")
    learned.load_state_dict(checkpoint.weights(D))
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    full, laptop, training = figure.subplots(1, 3, width_ratios=(1, 1, 0.9))
    for axes, make, side, count in ((full, VGG, 224, 4), (laptop, narrow, size, 128)):
        torch.manual_seed(0)
        networks = {
            "deviation 0.1, as printed": (make(1, init="0.1", config="D"), "tab:red", "^-"),
            "Glorot": (make(1, config="D"), "tab:blue", "o-"),
            "deviation 0.01": (make(1, init="0.01", config="D"), "black", "s-"),
        }
        if make is narrow:
            networks["deviation 0.01, layers of A"] = (started, "tab:green", "D-")
            networks[f"Glorot, after {EPOCHS} epochs"] = (learned, "tab:blue", "o:")
        images, labels = (part[:count] for part in loaded.train)
        for name, (net, color, style) in networks.items():
            norms = gradient_norms(net, prepare(images, side, mean), labels)
            axes.semilogy(*zip(*norms.items()), style, color=color, label=name, markersize=4)
        axes.set_ylabel("norm of the gradient")
        axes.tick_params(axis="x", rotation=90, labelsize=7)
        axes.grid(alpha=0.3)
    full.set_title("D at full size", fontsize=10)
    laptop.set_title("D of the laptop recipe", fontsize=10)
    laptop.legend(fontsize=7)
    for run, name, color, style in (
        (RANDOM_D, "D, deviation 0.01", "black", "-"),
        (RANDOM_A, "A, deviation 0.01", "black", ":"),
        (STARTED_D, "D, deviation 0.01, layers of A", "tab:green", "-"),
        (D, "D, Glorot", "tab:blue", "-"),
    ):
        losses = mean_curve([run], "train_loss")
        epochs = range(1, len(losses) + 1)
        training.plot(epochs, losses, style, color=color, marker=".", label=name)
    training.axhline(math.log(10), color="#999", lw=0.8, zorder=0)
    training.set_title("training loss, laptop recipe", fontsize=10)
    training.set_xlabel("epoch")
    training.grid(alpha=0.3)
    training.legend(fontsize=7)
    save(figure, FOLDER / "start.png")


TABLE_3 = {"A": 29.6, "B": 28.7, "C": 28.1, "D": 27.0, "E": 27.3}  # top-1 error, S = Q = 256


def rung(config):
    flags = "" if config == "A" else f"-config-{config}"
    return [RUNS / f"laptop-epochs-{EPOCHS}{flags}-seed{seed}" for seed in (0, 1)]


def ladder():
    """Depth against error: the paper's on ImageNet, ours on Fashion-MNIST, seed by seed."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    theirs, ours = figure.subplots(1, 2)
    depth = {config: sum(map(len, CONFIGURATIONS[config])) + 3 for config in TABLE_3}
    errors = {
        config: [
            100 - 100 * checkpoint.load(run / "weights.pt")["result"]["metrics"]["accuracy"]
            for run in rung(config)
        ]
        for config in TABLE_3
    }
    means = {config: sum(values) / len(values) for config, values in errors.items()}
    for axes, heights, title in (
        (theirs, TABLE_3, "ImageNet, top-1 error, % (paper, Table 3)"),
        (ours, means, f"Fashion-MNIST, test error, % (here, {EPOCHS} epochs)"),
    ):
        line = [config for config in TABLE_3 if config != "C"]
        axes.plot([depth[c] for c in line], [heights[c] for c in line], "o-", color="tab:blue")
        axes.plot(depth["C"], heights["C"], "o", color="tab:orange")
        for config, height in heights.items():
            axes.annotate(
                config, (depth[config], height), xytext=(6, 5), textcoords="offset points"
            )
        axes.set(xlabel="layers with weights", xticks=sorted(set(depth.values())))
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
    for config, values in errors.items():
        color = "tab:orange" if config == "C" else "tab:blue"
        ours.plot([depth[config]] * len(values), values, "x", color=color, alpha=0.6)
    save(figure, FOLDER / "ladder.png")


def main():
    draw_finished(
        {
            architecture: [],
            receptive_fields: [],
            scales: [],
            scan: [LAPTOP],
            start: [A, D, RANDOM_A, RANDOM_D, STARTED_D],
            ladder: [run for config in TABLE_3 for run in rung(config)],
        }
    )


if __name__ == "__main__":
    main()
