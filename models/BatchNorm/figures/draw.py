"""Draw the pictures of summary.md and notes.md that train.py does not draw.

    python experiments.py figure1 && python experiments.py figure1 --lr 1
    python experiments.py figure2, and the same with --seed 1 and --seed 2
    python experiments.py rates
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/BatchNorm) has those runs; the pictures go to FOLDER (default: RUNS).
What cannot be drawn, since a run is not there, is said. `make figures` on main calls this.
"""

import csv
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import NETWORKS, RATES, SEEDS, TIMES
from harness import ROOT, images
from harness.diagrams import BLUE, GREEN, ORANGE, arrow, box
from harness.plots import draw_finished, read_points, save
from model import INCEPTION, GoogLeNet, Normalization

import torch
from matplotlib.figure import Figure
from train import RECIPES, prepare

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "BatchNorm"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
SLOW, FAST = (RUNS / f"laptop-experiment-figure1{rate}-seed0" for rate in ("", "-lr-1.0"))
FIGURE_2 = [RUNS / f"laptop-experiment-figure2-seed{seed}" for seed in range(3)]
RATES_RUN = RUNS / "laptop-experiment-rates-seed0"
NORMS = {"none": ("without", "tab:gray"), "batch": ("with batch normalization", "tab:orange")}
SUMS = (10.0, 2.0, 4.0, 4.0)  # the example of summary.md
DRAWS = 10_000  # of companions for one image; 400 of them are drawn
COLORS = ("tab:red", "tab:blue", "tab:green", "tab:purple")


def architecture():
    """The layer in training and in evaluation, and its place before the nonlinearity."""
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    axes = figure.subplots()
    term = partial(box, axes, size=11)
    for y, title in ((2.2, "in training"), (0, "in evaluation")):
        axes.text(-1.2, y, title, ha="right", va="center", fontweight="bold", fontsize=11)
        term(0, y, "$x = Wu$", BLUE, 1.5)
        term(6.3, y, r"$y = \gamma\,\hat{x} + \beta$", ORANGE, 1.5)
        term(8.6, y, "$f(y)$", BLUE, 1.5)
        arrow(axes, (7.05, y), (7.85, y))
    term(3.4, 2.2, r"$\hat{x} = (x - \mu_B)\,/\,\sqrt{\sigma_B^2 + \epsilon}$", ORANGE, 3)
    term(3.4, 0, r"$\hat{x} = (x - E[x])\,/\,\sqrt{Var[x] + \epsilon}$", ORANGE, 3)
    term(1.5, 3.4, r"$\mu_B,\ \sigma_B^2$ of the batch", ORANGE, 2.8)
    term(1.35, 1.1, r"running $E[x]$, $Var[x]$", GREEN, 2.8)
    for y in (2.2, 0):
        arrow(axes, (0.75, y), (1.9, y))
        arrow(axes, (4.9, y), (5.55, y))
    arrow(axes, (0.3, 2.5), (0.9, 3.1))
    arrow(axes, (2.2, 3.1), (2.8, 2.5))
    arrow(axes, (1.35, 3.1), (1.35, 1.4), style="--")
    arrow(axes, (1.8, 0.8), (2.5, 0.3))
    axes.set(xlim=(-3, 9.6), ylim=(-0.5, 3.8))
    axes.axis("off")
    save(figure, FOLDER / "architecture.png")


def four_sums():
    """A unit's sums for four images, normalized, then scaled by 2 and shifted by 1."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    sums = torch.tensor(SUMS)[:, None]
    normalized, _, _ = Normalization.apply(sums, torch.ones(1), torch.zeros(1), 0.0)
    rows = [  # y, values, what they are
        (2, sums, "$x$, the sums:\nmean 5, variance 9"),
        (1, normalized, "$\\hat{x}$, normalized:\nmean 0, variance 1"),
        (0, 2 * normalized + 1, "$y = 2\\,\\hat{x} + 1$:\nmean 1, variance 4"),
    ]
    axes.plot([0, 0], [-0.35, 2.25], ":", color="#999", lw=1, zorder=0)
    axes.text(0, -0.4, "0", ha="center", va="top", color="#777")
    for y, values, label in rows:
        axes.plot([-1.8, 11], [y, y], color="#999", lw=0.8, zorder=0)
        axes.text(-2.2, y, label, ha="right", va="center", fontsize=11)
        for image, (value, color) in enumerate(zip(values.flatten().tolist(), COLORS)):
            above = y + (0.15 if image == 3 else 0)  # the last two are equal
            axes.plot(value, above, "o", color=color, ms=8)
            if image < 3:
                side = ("left", "right", "left")[image]
                text = f"{value:.0f}" if value == round(value) else f"{value:.2f}"
                axes.text(value, y - 0.12, text, ha=side, va="top")
    for (upper, high, _), (lower, low, _) in zip(rows, rows[1:]):
        for start, end, color in zip(high.flatten().tolist(), low.flatten().tolist(), COLORS):
            axes.plot([start, end], [upper, lower], color=color, lw=0.8, alpha=0.5, zorder=0)
    axes.set(xlim=(-8.3, 11), ylim=(-0.6, 2.35))
    axes.axis("off")
    save(figure, FOLDER / "four-sums.png")


@torch.no_grad()
def before():
    """Before any training: the standard deviation of the sums along the 3x3 branch."""
    recipe = RECIPES["laptop"]
    data = images.load(recipe, recipe.side)
    mean, _ = data.colors()
    prepared = partial(prepare, side=recipe.side, mean=mean)
    _, validation, _ = data.loaders(torch.device("cpu"), prepared, lambda images: images)
    inputs, _ = next(iter(validation))
    path = ["conv1", "conv2.0", "conv2.1"]
    path += [f"inception_{name}.branches.3x3.{i}" for name in INCEPTION for i in (0, 1)]
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for norm, (label, color) in NORMS.items():
        found = []
        for seed in range(3):
            torch.manual_seed(seed)
            net = GoogLeNet(data.channels, len(data.classes), 64, 0.25, norm, aux=False)
            sums = {}
            for name in path:
                norm_layer = net.get_submodule(name).norm
                norm_layer.register_forward_hook(partial(keep, sums, name))
            net(inputs)
            found.append([sums[name] for name in path])
        found = torch.tensor(found)
        places = range(1, len(path) + 1)
        axes.plot(places, found.mean(0), marker=".", color=color, label=label)
        low, high = found.min(0).values, found.max(0).values
        axes.fill_between(places, low, high, color=color, alpha=0.25, linewidth=0)
        print(label, *(f"{value:.2f}" for value in found.mean(0)))
    axes.set_yscale("log")
    ticks = (0.1, 0.3, 1, 3, 10, 30)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_xticks([1, 5, 10, 15, 21])
    axes.set(xlabel="layer, along the 3x3 branch", ylabel="standard deviation of the sums")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, FOLDER / "before.png")


def keep(found, name, layer, inputs, output):
    """Put the standard deviation of a feature map over images and places, on average over all
    feature maps, into found[name]."""
    found[name] = output.std((0, 2, 3)).mean().item()


def noise():
    """What one image's sum becomes beside random companions, by the size of the batch."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    torch.manual_seed(0)
    sizes = (512, 60, 8, 2)
    for row, size in enumerate(sizes):
        sums = torch.randn(size, DRAWS)
        sums[0] = 1
        normalized, _, _ = Normalization.apply(sums, torch.ones(DRAWS), torch.zeros(DRAWS), 0.0)
        print(f"batches of {size}: standard deviation {normalized[0].std():.3f}")
        heights = row + 0.6 * (torch.rand(400) - 0.5)
        axes.plot(normalized[0, :400], heights, ".", color="tab:orange", ms=4, alpha=0.6)
    axes.axvline(1, color="#444", lw=1)
    axes.set_yticks(range(4), [f"batches of {size}" for size in sizes])
    axes.set(xlabel=r"$\hat{x}$ of the same image", xlim=(-1.5, 2.8))
    axes.grid(axis="x", alpha=0.3)
    save(figure, FOLDER / "noise.png")


def curves(points, column):
    """Steps, and {norm: values of a column [seeds, epochs]}."""
    seeds = sorted({row["seed"] for row in points}, key=int)
    found = {
        norm: torch.tensor(
            [
                [float(row[column]) for row in points if (row["norm"], row["seed"]) == (norm, seed)]
                for seed in seeds
            ]
        )
        for norm in NORMS
    }
    steps = [int(row["step"]) for row in points if row["seed"] == seeds[0]]
    return steps[: len(steps) // 2], found


def figure1():
    """Test accuracy by step of the small network, at two learning rates."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for panel, run, title in zip(axes, (SLOW, FAST), ("learning rate 0.1", "learning rate 1")):
        steps, accuracies = curves(read_points(run), "test_accuracy")
        for norm, (label, color) in NORMS.items():
            values = 100 * accuracies[norm]
            panel.plot(steps, values.mean(0), color=color, label=label)
            low, high = values.min(0).values, values.max(0).values
            panel.fill_between(steps, low, high, color=color, alpha=0.3, linewidth=0)
        panel.set(title=title, xlabel="step", ylim=(60, 92))
        panel.grid(alpha=0.3)
        panel.legend(loc="lower right")
    axes[0].set_ylabel("test accuracy, %")
    save(figure, FOLDER / "figure1.png")


def percentiles():
    """What a sigmoid of the small network is given, at the lower rate, seed 0."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    points = read_points(SLOW)
    for panel, (norm, (label, color)) in zip(axes, NORMS.items()):
        for level, style in ((15, "--"), (50, "-"), (85, "--")):
            steps, values = curves(points, f"unit_{level}")
            panel.plot(steps, values[norm][0], style, color=color, label=f"{level} %")
        panel.set(title=f"a sigmoid's input, {label.replace(' batch normalization', '')}")
        panel.set(xlabel="step")
        panel.grid(alpha=0.3)
    axes[0].legend(loc="lower right")
    save(figure, FOLDER / "percentiles.png")


def of_network(name, column):
    """A column of the runs of a network of figure2: [seeds, epochs]."""
    return torch.tensor(
        [
            [float(row[column]) for row in read_points(run) if row["network"] == name]
            for run in FIGURE_2
        ]
    )


def figure2():
    """Training loss of GoogLeNet by step, with and without, at several rates."""
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.subplots()
    for name in NETWORKS:
        steps = of_network(name, "step")[0]
        losses = of_network(name, "train_loss")
        (line,) = axes.plot(steps, losses.mean(0), marker=".", label=name)
        low, high = losses.min(0).values, losses.max(0).values
        axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set(xlabel="step", ylabel="training loss", ylim=(0.15, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, FOLDER / "figure2.png")


def rates():
    """What GoogLeNet has learned in three epochs, by learning rate, with and without."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, 2)
    for norm, (label, color) in NORMS.items():
        found = {rate: [last_epoch(rate, norm, seed) for seed in range(SEEDS)] for rate in RATES}
        for axes, column, times in zip(panels, ("train_loss", "validation_accuracy"), (1, 100)):
            values = {
                rate: [times * float(row[column]) for row in rows if row]
                for rate, rows in found.items()
            }
            whole = [rate for rate in RATES if len(values[rate]) == SEEDS]
            axes.plot(whole, [sum(values[r]) / SEEDS for r in whole], color=color, label=label)
            for rate in RATES:
                dots = [rate] * len(values[rate])
                axes.plot(dots, values[rate], "o", color=color, ms=5, alpha=0.7)
    for axes in panels:
        axes.set_xscale("log")
        axes.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("learning rate, the highest of the schedule")
        axes.grid(alpha=0.3)
    panels[0].set_title("training loss, last epoch", fontsize=11)
    panels[1].set_title("validation accuracy, %, last epoch", fontsize=11)
    panels[1].legend()
    save(figure, FOLDER / "rates.png")


def last_epoch(rate, norm, seed):
    """The last row of a run's history.csv; None if it has diverged."""
    name = norm.replace("batch", "torch")
    run = RUNS / f"laptop-experiment-rates-lr-{rate}-norm-{name}-seed{seed}"
    if not (run / "weights.pt").exists():
        return None
    with open(run / "history.csv", encoding="utf-8") as file:
        return [*csv.DictReader(file)][-1]


def gradients():
    """How much of the promised fall of the loss a step brings, and how far the gradient turns."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("fall", "turn")):
        for name, color in (("Inception", "tab:gray"), ("BN-Baseline", "tab:orange")):
            values = torch.stack(
                [of_network(name, f"{quantity}_x{times}").flatten() for times in TIMES]
            )
            axes.plot(TIMES, values.median(1).values, marker="o", color=color, label=name)
            low, high = values.quantile(torch.tensor([0.15, 0.85]), 1)
            axes.fill_between(TIMES, low, high, color=color, alpha=0.25, linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(TIMES, [f"×{times}" for times in TIMES])
        axes.grid(alpha=0.3)
        axes.legend()
        axes.set_xlabel("length of the step, in learning rates")
    figure.axes[0].set(ylim=(-3, 1.1), title="fall of the loss / fall promised by the gradient")
    figure.axes[1].set_title("cosine between the gradients before and after")
    save(figure, FOLDER / "gradients.png")


if __name__ == "__main__":
    untrained = {architecture: [], four_sums: [], before: [], noise: []}
    small = {figure1: [SLOW, FAST], percentiles: [SLOW]}
    large = {figure2: FIGURE_2, gradients: FIGURE_2, rates: [RATES_RUN]}
    draw_finished(untrained | small | large)
