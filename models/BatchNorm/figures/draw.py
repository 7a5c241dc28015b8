"""Draw the pictures of summary.md that train.py does not draw.

    python experiments.py figure1 && python experiments.py figure1 --lr 1
    python experiments.py figure2, and the same with --seed 1 and --seed 2
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/BatchNorm) has those runs; the pictures go to FOLDER (default: RUNS).
What cannot be drawn, since a run is not there, is said. `make figures` on main calls this.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import NETWORKS, TIMES
from harness import ROOT
from harness.plots import draw_finished, read_points, save

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "BatchNorm"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
SLOW, FAST = (RUNS / f"laptop-experiment-figure1{rate}-seed0" for rate in ("", "-lr-1.0"))
FIGURE_2 = [RUNS / f"laptop-experiment-figure2-seed{seed}" for seed in range(3)]
NORMS = {"none": ("without", "tab:gray"), "batch": ("with batch normalization", "tab:orange")}


def box(axes, x, y, text, color, width=1.5):
    axes.add_patch(
        Rectangle((x - width / 2, y - 0.3), width, 0.6, facecolor=color, edgecolor="#666", lw=0.6)
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=9)


def arrow(axes, start, end, style="-"):
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=9, color="#666", linestyle=style
        )
    )


def architecture():
    """The layer in training and in evaluation, and its place before the nonlinearity."""
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    axes = figure.subplots()
    blue, orange, green = "#b5d2ec", "#f4c7a1", "#a9d8b8"
    for y, title in ((2.2, "in training"), (0, "in evaluation")):
        axes.text(-1.2, y, title, ha="right", va="center", fontweight="bold")
        box(axes, 0, y, "$x = Wu$", blue)
        box(axes, 6.3, y, r"$y = \gamma\,\hat{x} + \beta$", orange)
        box(axes, 8.6, y, "$f(y)$", blue)
        arrow(axes, (7.05, y), (7.85, y))
    box(axes, 3.4, 2.2, r"$\hat{x} = (x - \mu_B)\,/\,\sqrt{\sigma_B^2 + \epsilon}$", orange, 3)
    box(axes, 3.4, 0, r"$\hat{x} = (x - E[x])\,/\,\sqrt{Var[x] + \epsilon}$", orange, 3)
    box(axes, 1.5, 3.4, r"$\mu_B,\ \sigma_B^2$ of the batch", orange, 2.6)
    box(axes, 1.35, 1.1, r"running $E[x]$, $Var[x]$", green, 2.6)
    for y in (2.2, 0):
        arrow(axes, (0.75, y), (1.9, y))
        arrow(axes, (4.9, y), (5.55, y))
    arrow(axes, (0.3, 2.5), (0.9, 3.1))
    arrow(axes, (2.2, 3.1), (2.8, 2.5))
    arrow(axes, (1.35, 3.1), (1.35, 1.4), "--")
    arrow(axes, (1.8, 0.8), (2.5, 0.3))
    axes.set(xlim=(-3, 9.6), ylim=(-0.5, 3.8))
    axes.axis("off")
    save(figure, FOLDER / "architecture.png")


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
    """Test accuracy by step at two learning rates; and what a sigmoid is given, at the lower."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    axes = figure.subplots(1, 4)
    for panel, run, title in zip(axes, (SLOW, FAST), ("learning rate 0.1", "learning rate 1")):
        steps, accuracies = curves(read_points(run), "test_accuracy")
        for norm, (label, color) in NORMS.items():
            values = 100 * accuracies[norm]
            panel.plot(steps, values.mean(0), color=color, label=label)
            low, high = values.min(0).values, values.max(0).values
            panel.fill_between(steps, low, high, color=color, alpha=0.3, linewidth=0)
        panel.set(title=title, xlabel="step", ylim=(60, 92))
        panel.legend(loc="lower right", fontsize=8)
    axes[0].set_ylabel("test accuracy, %")
    points = read_points(SLOW)
    for panel, (norm, (label, color)) in zip(axes[2:], NORMS.items()):
        for level, style in ((15, "--"), (50, "-"), (85, "--")):
            steps, values = curves(points, f"unit_{level}")
            panel.plot(steps, values[norm][0], style, color=color, label=f"{level} %")
        panel.set(title=f"a sigmoid's input, {label.replace(' batch normalization', '')}")
        panel.set(xlabel="step")
    axes[2].legend(fontsize=8, loc="lower right")
    axes[3].sharey(axes[2])
    for panel in axes:
        panel.grid(alpha=0.3)
    save(figure, FOLDER / "figure1.png")


def of_network(name, column):
    """A column of the runs of a network of figure2: [seeds, epochs]."""
    return torch.tensor(
        [
            [float(row[column]) for row in read_points(run) if row["network"] == name]
            for run in FIGURE_2
        ]
    )


def figure2():
    """Validation accuracy and training loss by step."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for name in NETWORKS:
        steps = of_network(name, "step")[0]
        accuracy = 100 * of_network(name, "validation_accuracy")
        for axes, values in zip(panels, (accuracy, of_network(name, "train_loss"))):
            (line,) = axes.plot(steps, values.mean(0), marker=".", label=name)
            low, high = values.min(0).values, values.max(0).values
            axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    panels[0].set(ylabel="validation accuracy, %", ylim=(70, 93))
    panels[0].legend(loc="lower right")
    panels[1].set(ylabel="training loss", ylim=(0.15, 1))
    for axes in panels:
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    save(figure, FOLDER / "figure2.png")


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
    architecture()
    draw_finished({figure1: [SLOW, FAST], figure2: FIGURE_2, gradients: FIGURE_2})
