"""Draw the pictures of summary.md that train.py does not draw.

    python experiments.py lags
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/LSTM) has those runs; the pictures go to FOLDER (default: RUNS).
What cannot be drawn, since a run is not there, is said. `make figures` on main calls this.
"""

import csv
import sys
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Circle

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import ROOT
from harness.diagrams import BLUE, ORANGE, arrow
from harness.plots import draw_finished, read_points, save

from tasks import EPOCH

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "LSTM"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
LAGS = RUNS / "laptop-experiment-lags-seed0"
CELLS = {
    "tanh": ("tanh network", "tab:gray"),
    "1997": ("cells of 1997", "tab:blue"),
    "2000": ("cells of 2000", "tab:green"),
    "today": ("cells of today", "tab:orange"),
}


def node(axes, x, y, text, color="#f2f2f2", radius=0.32):
    axes.add_patch(Circle((x, y), radius, facecolor=color, edgecolor="#444", lw=0.8, zorder=2))
    size = 11 if len(text) < 4 or radius > 0.4 else 8
    axes.text(x, y, text, ha="center", va="center", fontsize=size, zorder=3)


def cell(axes, title, forgets, squash):
    """A memory cell from left to right: squash, input gate, state, squash, output gate."""
    places = {"in": 0.0, "*in": 1.3, "s": 2.8, "out": 4.3, "*out": 5.5}
    for start, end in ((-1.0, 0.0), (0.0, 1.3), (1.3, 2.8), (2.8, 4.3), (4.3, 5.5), (5.5, 6.6)):
        begin = start + (0.32 if start >= 0 else 0) + (0.13 if start == 2.8 else 0)
        stop = end - (0.32 if end < 6 else 0) - (0.13 if end == 2.8 else 0)
        arrow(axes, (begin, 0), (stop, 0))
    node(axes, places["in"], 0, squash[0])
    node(axes, places["*in"], 0, "×")
    node(axes, places["s"], 0, "s, +", BLUE, 0.45)
    node(axes, places["out"], 0, squash[1])
    node(axes, places["*out"], 0, "×")
    gates = {"*in": "input gate", "*out": "output gate"}
    for place, name in gates.items():
        x = places[place]
        node(axes, x, -1.3, "σ", ORANGE)
        arrow(axes, (x, -0.98), (x, -0.32))
        axes.text(x, -1.95, name, ha="center", fontsize=9)
    curve = 1.6 if forgets else 2.2
    arrow(axes, (3.15, 0.3), (2.45, 0.3), "tab:blue", width=1.8, curve=curve)
    if forgets:
        node(axes, 2.8, 1.0, "×")
        node(axes, 1.6, 1.9, "σ", ORANGE)
        arrow(axes, (1.85, 1.7), (2.55, 1.2))
        axes.text(1.2, 1.9, "forget gate", ha="right", va="center", fontsize=9)
    else:
        axes.text(2.8, 1.25, "× 1", ha="center", fontsize=10, color="tab:blue")
    axes.text(-1.05, 0, "x(t), y(t-1)", ha="right", va="center", fontsize=9)
    axes.text(6.65, 0, "y(t)", ha="left", va="center", fontsize=9)
    axes.set_title(title, fontsize=11)
    axes.set(xlim=(-3.2, 7.4), ylim=(-2.3, 2.5), aspect="equal")
    axes.axis("off")


def architecture():
    figure = Figure(figsize=(10, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    cell(left, "1997: the state is only added to", False, "gh")
    cell(right, "Today: a third gate decides what is kept", True, ("tanh", "tanh"))
    save(figure, FOLDER / "architecture.png", 120)


def lags():
    """Left: what is left of a gradient, by how far back. Right: the share of right answers."""
    with open(LAGS / "gradients.csv", encoding="utf-8") as file:
        left_over = [row for row in csv.DictReader(file) if row["data"] == "adding"]
    points = [row for row in read_points(LAGS) if row["data"] == "adding"]
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, (label, color) in CELLS.items():
        rows = [row for row in left_over if row["cell"] == name and row["training"] == "before"]
        values = [float(row["gradient"]) for row in rows]
        left.plot([max(value, 1e-16) for value in values], color=color, label=label)
        own = [row for row in points if row["cell"] == name]
        for number, seed in enumerate(sorted({row["seed"] for row in own})):
            run = [row for row in own if row["seed"] == seed]
            x = [int(row["epoch"]) * EPOCH / 1000 for row in run]
            y = [100 * float(row["validation_correct"]) for row in run]
            right.plot(x, y, color=color, lw=1.2, label=label if number == 0 else None)
    left.set(xlabel="steps back in time", title="What is left of a gradient, before training")
    left.set(yscale="log", ylim=(1e-15, 30))
    right.set(xlabel="thousand sequences", ylabel="right answers, %", title="Adding problem")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    right.legend(fontsize=9)
    save(figure, FOLDER / "lags.png")


if __name__ == "__main__":
    draw_finished({architecture: [], lags: [LAGS]})
