"""Draw the pictures of summary.md that train.py does not draw.

    python train.py && python experiments.py depth
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/VGG) has those runs; the pictures go to FOLDER (default: RUNS).
What cannot be drawn, since a run is not there, is said. `make figures` on main calls this.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import CONFIGS
from harness import ROOT, checkpoint
from harness.images import load
from harness.plots import draw_finished, read_points, save
from model import CONFIGURATIONS, LAYERS, MAPS, VGG

from train import RECIPES, prepare

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "VGG"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
LAPTOP = RUNS / "laptop-seed0"
DEPTH_RUN = RUNS / "laptop-experiment-depth-seed0"
SHADES = ("#eef4fb", "#d6e6f5", "#b5d2ec", "#8fb9de", "#6699c9")
DEPTHS = {config: sum(map(len, blocks)) + 3 for config, blocks in CONFIGURATIONS.items()}


def architecture():
    """Table 1 as a picture: a column for each configuration, a cell for each layer."""
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    axes = figure.subplots()
    columns = {config: CONFIGURATIONS[config] for config in LAYERS}
    tallest = [max(len(blocks[i]) for blocks in columns.values()) for i in range(5)]
    tops = [sum(tallest[:i]) + 0.7 * i for i in range(6)]
    for column, (config, blocks) in enumerate(columns.items()):
        axes.text(column, -0.85, config, ha="center", weight="bold", fontsize=12)
        axes.text(column, -0.25, f"{DEPTHS[config]} layers", ha="center", fontsize=10)
        cells = []
        for i, kernels in enumerate(blocks):
            for j, kernel in enumerate(kernels):
                color = SHADES[i] if kernel == 3 else "#f4c7a1"
                cells.append((tops[i] + j, f"{kernel}x{kernel}, {MAPS[i]}", color))
        for j, units in enumerate((4096, 4096, 1000)):
            cells.append((tops[5] + j, f"fc{6 + j}, {units}", "#ddd"))
        for top, text, color in cells:
            corner = (column - 0.44, top + 0.08)
            axes.add_patch(Rectangle(corner, 0.88, 0.84, facecolor=color, edgecolor="#666", lw=0.6))
            axes.text(column, top + 0.52, text, ha="center", va="center", fontsize=10)
        if config == "A-LRN":
            axes.text(column, tops[0] + 1.4, "normalization", ha="center", va="center", fontsize=10)
    for top, side in zip(tops[1:], (112, 56, 28, 14, 7)):
        axes.plot((-0.5, 5.5), (top - 0.35,) * 2, color="#c0392b", lw=0.8)
        axes.text(5.55, top - 0.35, f"pooled: {side}x{side}", va="center", fontsize=10)
    axes.text(5.55, 0.52, "image: 224x224", va="center", fontsize=10)
    axes.set(xlim=(-0.6, 6.7), ylim=(tops[5] + 3.2, -1.3))
    axes.axis("off")
    save(figure, FOLDER / "architecture.png")


def stack():
    """In one dimension: what a sum sees through three filters of width 3, and through one of 7."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, reaches, title in (
        (left, (3, 2, 1, 0), "three filters of width 3"),
        (right, (3, 0), "one filter of width 7"),
    ):
        paths = [1]  # how many lead from each position to the one on top
        heights = [3 * i / (len(reaches) - 1) for i in range(len(reaches))]
        levels = [*zip(reaches, heights)]
        for (wide, low), (narrow, high) in zip(levels, levels[1:]):
            side = wide - narrow
            for to in range(-narrow, narrow + 1):
                for start in range(to - side, to + side + 1):
                    axes.plot((start, to), (low, high), color="#9ab8d8", lw=1, zorder=1)
        for level, (reach, y) in reversed([*enumerate(levels)]):
            if reach:
                side = reach - levels[level + 1][0]
                paths = [
                    sum(paths[max(0, i - 2 * side) : i + 1]) for i in range(len(paths) + 2 * side)
                ]
            for x, count in zip(range(-reach, reach + 1), paths):
                color = SHADES[0] if level == 0 else SHADES[2]
                axes.scatter(x, y, s=420, color=color, edgecolor="#444", zorder=2)
                axes.text(x, y, f"{count}", ha="center", va="center", zorder=3)
        name = "input"
        for y in heights:
            axes.text(-4.1, y, name, ha="right", va="center", fontsize=10)
            name = f"layer {heights.index(y) + 1}"
        axes.set_title(title, fontsize=11)
        axes.set(xlim=(-5.8, 3.6), ylim=(-0.5, 3.5))
        axes.axis("off")
    save(figure, FOLDER / "stack.png")


def receptive_fields():
    """What one position of the output depends on: one convolution of 7x7, and three of 3x3."""
    maps, field = 64, 15
    stacks = {
        "one 7x7": nn.Sequential(nn.Conv2d(maps, maps, 7, padding=3, bias=False), nn.ReLU()),
        "three 3x3, with ReLUs": nn.Sequential(
            *(nn.Conv2d(maps, maps, 3, padding=1, bias=False), nn.ReLU()),
            *(nn.Conv2d(maps, maps, 3, padding=1, bias=False), nn.ReLU()),
            *(nn.Conv2d(maps, maps, 3, padding=1, bias=False), nn.ReLU()),
        ),
    }
    figure = Figure(figsize=(8, 3.9), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, (name, layers) in zip(panels, stacks.items()):
        torch.manual_seed(0)
        for layer in layers[::2]:
            nn.init.xavier_uniform_(layer.weight)
        x = torch.randn(200, maps, field, field, requires_grad=True)
        layers(x)[:, :, field // 2, field // 2].sum().backward()
        gradient = x.grad.abs().mean((0, 1))
        reached = gradient > 0
        rows, columns = (int(reached.any(i).sum()) for i in (1, 0))
        weights = sum(p.numel() for p in layers.parameters())
        shown = axes.imshow(
            (gradient / gradient.max()).where(reached, torch.nan), cmap="Blues", vmin=0
        )
        axes.set_title(
            f"{name}: sees {rows}x{columns},\n{weights:,} weights for {maps} feature maps",
            fontsize=11,
        )
        axes.set_xticks(torch.arange(field) - 0.5, [])
        axes.set_yticks(torch.arange(field) - 0.5, [])
        axes.grid(lw=0.4)
        axes.tick_params(length=0)
    figure.colorbar(shown, ax=panels, shrink=0.8, label="gradient, largest = 1")
    save(figure, FOLDER / "receptive-fields.png")


def fashion():
    """(the Data of Fashion-MNIST, its mean)."""
    loaded = load(RECIPES["laptop"])
    return loaded, loaded.colors()[0]


@torch.no_grad()
def spreads(net, images):
    """{layer: how much its sums differ from image to image} of a network."""
    found = {}
    for name, layer in net.named_children():
        layer.register_forward_hook(
            lambda layer, inputs, sums, name=name: found.update({name: sums.std(0).mean().item()})
        )
    net.eval()(images)
    return found


def start():
    """How much the sums of each layer of a full-size D differ from image to image, untrained."""
    loaded, mean = fashion()
    images = prepare(loaded.train[0][:8], 224, mean)
    print(f"start: pixels have a standard deviation of {images.std():.0f}")
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for init, name, color in (
        ("0.1", "standard deviation 0.1", "tab:red"),
        ("he", "He et al. (2015)", "tab:green"),
        ("glorot", "Glorot and Bengio (2010)", "tab:blue"),
        ("0.01", "standard deviation 0.01", "black"),
    ):
        torch.manual_seed(0)
        net = VGG(1, config="D", init="glorot" if init == "he" else init)
        if init == "he":
            for layer in net.children():
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        found = spreads(net, images)
        print(f"start: {name}: " + ", ".join(f"{key} {value:.2g}" for key, value in found.items()))
        axes.semilogy(*zip(*found.items()), "o-", color=color, markersize=4)
        axes.text(len(found) - 0.7, found["fc8"], name, color=color, va="center", fontsize=10)
    axes.set_title("How much the sums differ from image to image, before training", fontsize=11)
    axes.set_xlim(-0.5, len(found) + 5.5)
    axes.tick_params(axis="x", rotation=90)
    axes.grid(alpha=0.3)
    save(figure, FOLDER / "start.png")


def narrow():
    """The network of the laptop recipe."""
    recipe = RECIPES["laptop"]
    return VGG(1, 10, recipe.image_size, recipe.width, recipe.config)


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
                fontsize=9,
                color="tab:green" if right else "tab:red",
                backgroundcolor="#fffc",
            )
    axes.set_title(
        f"One dense pass over all: {int((places == labels).sum())} of {labels.numel()} are right. "
        f"Each image alone: {int((alone == labels).sum())}",
        fontsize=11,
    )
    axes.axis("off")
    save(figure, FOLDER / "scan.png")


# Table 3 of the paper, top-1 error: trained and tested at S = Q = 256; trained with scale jitter,
# tested at Q = 384.
ONE_SCALE = {"A": 29.6, "A-LRN": 29.7, "B": 28.7, "C": 28.1, "D": 27.0, "E": 27.3}
JITTERED = {"C": 27.3, "D": 25.6, "E": 25.5}


def depth():
    """Error by configuration: the paper's on ImageNet, and ours on clothes turned by any angle."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    theirs, ours = figure.subplots(1, 2)
    for errors, color, name in (
        (ONE_SCALE, "tab:blue", "trained at one scale"),
        (JITTERED, "tab:orange", "trained with scale jitter"),
    ):
        places = [[*ONE_SCALE].index(config) for config in errors]
        theirs.plot(places, [*errors.values()], "o", color=color, label=name)
        for x, error in zip(places, errors.values()):
            theirs.annotate(f"{error}", (x, error), xytext=(0, 7), textcoords="offset points",
                            ha="center", fontsize=10)  # fmt: skip
    theirs.set_xticks(range(len(ONE_SCALE)), [f"{c}\n{DEPTHS[c]}" for c in ONE_SCALE])
    theirs.set(title="ImageNet: top-1 error, % (paper)", xlim=(-0.5, 5.5), ylim=(24.5, 31))
    theirs.legend(loc="lower left")
    points = read_points(DEPTH_RUN)
    last = max(int(row["epoch"]) for row in points)
    for part, color, shift in (("train", "tab:gray", -0.12), ("validation", "tab:blue", 0.12)):
        for x, config in enumerate(CONFIGS):
            errors = [
                100 - 100 * float(row[f"{part}_accuracy"])
                for row in points
                if row["config"] == config and int(row["epoch"]) == last
            ]
            name = f"{part.replace('train', 'training')} images" if x == 0 else None
            ours.plot([x + shift] * len(errors), errors, "o", color=color, alpha=0.8, label=name)
    names = [f"{c}, 5x5" if c == "F" else c for c in CONFIGS]
    layers = [DEPTHS[c] for c in CONFIGS]
    ours.set_xticks(range(len(names)), [f"{n}\n{count}" for n, count in zip(names, layers)])
    ours.set(title="Turned clothes, 6 epochs: error, % (here)", xlim=(-0.5, 5.5))
    ours.legend(loc="upper left")
    for axes in (theirs, ours):
        axes.set_xlabel("configuration, and its layers with weights")
        axes.grid(alpha=0.3)
    save(figure, FOLDER / "depth.png")


def main():
    draw_finished({architecture: [], stack: [], receptive_fields: [], start: []})
    draw_finished({scan: [LAPTOP], depth: [DEPTH_RUN]})


if __name__ == "__main__":
    main()
