"""Pictures as PNG files: learning curves, comparisons, and what a summary shows.

No function opens a window or asks for a backend, so that all works without a screen.
"""

import csv
import os

from harness import ranks
from harness.errors import reason, warn
from harness.files import replace

import torch

# A notebook leaves the name of its backend here, which matplotlib elsewhere does not know.
backend = os.environ.pop("MPLBACKEND", None)
from matplotlib import rc_context  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

if backend is not None:
    os.environ["MPLBACKEND"] = backend

literal = rc_context({"text.parse_math": False})  # a decorator: a $ in a name is a dollar


def draw(folder, pictures):
    """Write {file name: function of a path} into a folder; the names of those that did not fail."""
    drawn = []
    if ranks.RANK:
        return drawn
    for name, picture in pictures.items():
        try:
            replace(folder / name, picture)
            drawn.append(name)
        except Exception as error:  # nothing is lost by it, whatever it is
            warn(f"{folder / name} could not be drawn: {reason(error)}")
    return drawn


@literal
def learning_curves(path, history, title):
    """By epoch, each quantity that training and validation both have; history as in the CSV."""
    epochs = [row["epoch"] for row in history]
    trained = [key.removeprefix("train_") for key in history[0] if key.startswith("train_")]
    quantities = [name for name in trained if f"validation_{name}" in history[0]]
    figure = Figure(figsize=(4.5 * len(quantities), 3.6), layout="constrained")
    all_axes = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, quantity in zip(all_axes, quantities):
        for part, style in (("train", "--"), ("validation", "-")):
            values = [row[f"{part}_{quantity}"] for row in history]
            axes.plot(epochs, values, style, marker=".", label=part)
        axes.set(xlabel="epoch", title=quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=110)


@literal
def comparison(path, panels, quantity, level=None, title=None, along="epoch", places=None):
    """Curves by epoch, each the mean over runs in a band from the lowest to the highest.

    panels: {title: {label: [the values by epoch, one list a run]}}. quantity: what all values are,
    or {title of a panel: what they are there}. level: of a dotted line. along, places: what the
    values are by, and at which numbers of it, if not by epoch.
    """
    each = quantity if isinstance(quantity, dict) else {next(iter(panels)): quantity}
    figure = Figure(figsize=(1.5 + 4 * len(panels), 3.8), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=each is not quantity, squeeze=False)[0]
    for axes, (panel, curves) in zip(all_axes, panels.items()):
        for label, values in curves.items():
            values = torch.tensor(values)
            x = places or range(1, values.shape[1] + 1)
            (line,) = axes.plot(x, values.mean(0), marker=".", label=label)
            low, high = values.min(0).values, values.max(0).values
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        if level is not None:
            axes.axhline(level, color="gray", linestyle=":")
        axes.set(xlabel=along, ylabel=each.get(panel), title=panel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=110)


def save(figure, path, dpi=110):
    """Write a picture of a summary, whole or not at all, and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, lambda part: figure.savefig(part, format="png", dpi=dpi))
    print(f"{path}: drawn")


def mean_curve(runs, column):
    """A column of history.csv by epoch, as the mean over runs of equal length."""
    curves = []
    for run in runs:
        with open(run / "history.csv", encoding="utf-8") as file:
            curves.append([float(row[column]) for row in csv.DictReader(file)])
    return [sum(values) / len(values) for values in zip(*curves, strict=True)]


def read_points(comparison):
    """points.csv of a comparison: a dict of texts for each epoch of each run."""
    with open(comparison / "points.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def draw_finished(pictures):
    """Call each function whose runs are finished; say which run another one lacks.

    pictures: {function: folders of the runs that it draws}.
    """
    for draw, runs in pictures.items():
        products = ("weights.pt", "points.csv")  # of a run, of a comparison
        missing = [run for run in runs if not any((run / name).exists() for name in products)]
        if missing:
            print(f"{draw.__name__}: not drawn, there is no finished run {missing[0]}")
        else:
            draw()
