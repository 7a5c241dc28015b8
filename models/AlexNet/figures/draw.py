"""Draw the pictures of summary.md that train.py does not draw.

    python train.py, and the runs of sections 5 and 8, which say their commands
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/AlexNet) has those runs; the pictures go to FOLDER (default: RUNS).
What cannot be drawn, since a run is not there, is said. `make figures` on main calls this.
"""

import sys
from pathlib import Path

import torch
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import ROOT
from harness.checkpoint import finished
from harness.folder import decode
from harness.images import Data, load
from harness.plots import draw_finished, mean_curve, save
from harness.vision import random_crop
from model import AlexNet, local_response_norm

from train import RECIPES, center_crop, prepare, principal_components, shift_colors

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "AlexNet"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
LAPTOP = RUNS / "laptop-seed0"
EPOCHS = 15  # of the ablations
GPUS = ("#dbe9f6", "#fbe3c8")


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
    axes.text(-44, -64, "image\n3@224×224\n(half the scale)", ha="center", va="top", fontsize=8)
    left, ends = 15, [(-20, 0), (-20, 0)]
    for stage, side, maps in stages:
        length, starts = maps / 3, []
        for middle, color in zip(rows, GPUS):
            end = block(axes, left, middle - side / 2, side, length, color)
            starts.append((left, middle))
        for i, (x, y) in enumerate(ends):
            for j, (u, v) in enumerate(starts):
                if i == j or stage == "conv3":
                    axes.plot((x, u), (y, v), color="#1f4e79" if i == j else "#c0392b", lw=1)
        for middle in rows:
            axes.text(
                left + length / 2,
                middle - side / 2 - 5,
                f"{stage}\n{maps}@{side}×{side}",
                ha="center",
                va="top",
                fontsize=8,
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
                      va="top", fontsize=8)  # fmt: skip
        for x, y in ends:
            for u, v in starts:
                axes.plot((x, u), (y, v), color="#1f4e79" if y == v else "#c0392b", lw=1)
        ends = [(left + 5, middle) for middle in rows]
        left += 50
    axes.text(-60, 118, "first GPU", fontsize=9)
    axes.text(-60, -135, "second GPU", fontsize=9)
    axes.set(xlim=(-70, left - 20), ylim=(-150, 135), aspect="equal")
    axes.axis("off")
    save(figure, FOLDER / "architecture.png")


def augmentation():
    """A photograph, some of its crops and mirrored crops, and some shifts of its colours."""
    photograph = get_sample_data("grace_hopper.jpg", asfileobj=False)
    image = torch.from_numpy(decode(photograph, 256))[None]
    torch.manual_seed(2)
    crops = random_crop(image.repeat(5, 1, 1, 1), 224)
    crops[3:] = crops[3:].flip(3)
    alone = Data(("",), 3, (image, torch.zeros(1)), None, None, RECIPES["paper"])
    components = principal_components(alone.colors()[1])
    shifted = shift_colors(image.repeat(5, 1, 1, 1).float(), components)
    strong = shift_colors(image.repeat(5, 1, 1, 1).float(), 10 * components)
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 3.2))
    axes = left.subplots()
    axes.imshow(image[0].permute(1, 2, 0).numpy())
    axes.add_patch(Rectangle((16, 16), 223, 223, fill=False, edgecolor="white", linestyle="--"))
    axes.set_title("256×256, and the middle 224", fontsize=9)
    axes.axis("off")
    titles = (
        "random crops of 224×224, the last two mirrored",
        "colours shifted, as strongly as in the recipe",
        "the same, ten times as strong",
    )
    for row, title, pictures in zip(right.subfigures(3, 1), titles, (crops, shifted, strong)):
        row.suptitle(title, fontsize=9)
        for axes, picture in zip(row.subplots(1, 5), pictures):
            axes.imshow(picture.clamp(0, 255).byte().permute(1, 2, 0).numpy())
            axes.axis("off")
    save(figure, FOLDER / "augmentation.png", dpi=80)


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


def trained(run):
    """AlexNet with the weights of a run of the laptop recipe."""
    recipe = RECIPES["laptop"]
    net = AlexNet(1, 10, recipe.image_size, recipe.width)
    net.load_state_dict(finished(run)["weights"])
    return net.eval()


def filters_of_two_groups():
    """The kernels of conv1, those that feed each half of conv2 beside each other."""
    weight = trained(LAPTOP).conv1.weight.detach()[:, 0]
    figure = Figure(figsize=(10, 2.2), layout="constrained")
    limit = weight.abs().max()
    halves = figure.subfigures(1, 2, wspace=0.05)
    for half, kernels, name in zip(halves, weight.chunk(2), ("first", "second")):
        half.suptitle(f"conv1, {name} group", fontsize=10)
        for axes, kernel in zip(half.subplots(2, len(kernels) // 2).flat, kernels):
            axes.imshow(kernel.numpy(), cmap="gray", vmin=-limit, vmax=limit)
            axes.axis("off")
    save(figure, FOLDER / "two-groups.png")


@torch.no_grad()
def normalization():
    """What local response normalization does to the maps of conv1, for one test image."""
    net, (loaded, mean) = trained(LAPTOP), fashion()
    side = RECIPES["laptop"].side
    seen = []
    net.conv1.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    images = loaded.test[0][:1]
    center_crop(net, prepare(images, side, mean), RECIPES["laptop"].image_size)
    before = torch.relu(seen[0])
    after = local_response_norm(before)
    divisor = (before / after.clamp(min=1e-9)).where(before > 0, torch.nan)
    i = int((before.amax((2, 3)) * (before > 0).float().mean((2, 3))).argmax())
    figure = Figure(figsize=(10, 3), layout="constrained")
    panels = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.6))
    panels[0].imshow(images[0, 0].numpy(), cmap="gray_r")
    panels[0].set_title("the image", fontsize=9)
    for axes, values, title in (
        (panels[1], before[0, i], f"map {i} of conv1, after ReLU"),
        (panels[2], after[0, i], "the same, normalized"),
    ):
        shown = axes.imshow(values.numpy(), cmap="gray", vmin=0)
        figure.colorbar(shown, ax=axes, shrink=0.7)
        axes.set_title(title, fontsize=9)
    for axes in panels[:3]:
        axes.axis("off")
    keep = before > 0
    panels[3].scatter(before[keep].numpy(), divisor[keep].numpy(), s=4, alpha=0.5)
    panels[3].axhline(2**0.75, color="tab:orange", label="$k^\\beta$, with silent neighbours")
    panels[3].set(xlabel="activity, all maps", ylabel="divided by")
    panels[3].legend(fontsize=8)
    save(figure, FOLDER / "normalization.png")


ABLATIONS = {
    "as published": "",
    "no normalization": "-no-lrn",
    "separate pooling": "-pooling-separate",
    "tanh": "-activation-tanh",
    "one group": "-groups-1",
    "no dropout": "-dropout-0.0",
}


def runs_of(flags):
    return [RUNS / f"laptop-epochs-{EPOCHS}{flags}-seed{seed}" for seed in (0, 1)]


def ablations():
    """Validation error by epoch, each idea switched off in turn; mean of two seeds."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, flags in ABLATIONS.items():
        errors = [100 - 100 * a for a in mean_curve(runs_of(flags), "validation_accuracy")]
        style = {"color": "black", "linewidth": 2.5} if not flags else {}
        axes.plot(range(1, len(errors) + 1), errors, marker=".", label=name, **style)
    axes.set(xlabel="epoch", ylabel="error on validation images, %", yscale="log")
    ticks = (8, 10, 15, 20, 30, 50, 90)
    axes.set_yticks(ticks, ticks)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, FOLDER / "ablations.png")


LITTLE = {"with dropout": "", "without": "-dropout-0.0"}


def little_data(flags):
    return [RUNS / f"laptop-epochs-100-limit-5500{flags}-seed{seed}" for seed in (0, 1)]


def overfitting():
    """Loss and accuracy on 5,500 training images and on validation images; mean of two seeds."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy")):
        for (name, flags), color in zip(LITTLE.items(), ("black", "tab:red")):
            for part, style in (("train", ":"), ("validation", "-")):
                means = mean_curve(little_data(flags), f"{part}_{quantity}")
                axes.plot(
                    range(1, len(means) + 1), means, style, color=color, label=f"{name}, {part}"
                )
        axes.set(xlabel="epoch", title=quantity)
        axes.grid(alpha=0.3)
    axes.legend()
    save(figure, FOLDER / "overfitting.png")


def main():
    tried = [run for flags in ABLATIONS.values() for run in runs_of(flags)]
    little = [run for flags in LITTLE.values() for run in little_data(flags)]
    draw_finished({architecture: [], augmentation: [], start: []})
    draw_finished({filters_of_two_groups: [LAPTOP], normalization: [LAPTOP]})
    draw_finished({ablations: tried, overfitting: little})


if __name__ == "__main__":
    main()
