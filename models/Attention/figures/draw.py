"""Draw the pictures of summary.md that train.py and experiments.py do not draw.

    python figures/draw.py [RUNS] [FOLDER]

The pictures go to FOLDER (default: RUNS, checkpoints/Attention). `make figures` on main calls this.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import ROOT
from harness.diagrams import BLUE, GREEN, ORANGE, RED, arrow, box
from harness.plots import draw_finished, save

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "Attention"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
SOURCE = "the", "black", "cat"
TARGET = "gato"
SCORES = 0.0, 1.0, 3.0  # of the source's words, before the second word is written


def row(axes, y, name, backwards=False):
    """The states of an encoder that reads in one direction, an arrow from each to the next."""
    for number in range(3):
        x = 1.5 * number
        box(axes, x, y, f"{name}{'₁₂₃'[number]}", BLUE, 0.8, 0.62)
        if number:
            start, end = (x - 0.4, x - 1.1) if backwards else (x - 1.1, x - 0.4)
            arrow(axes, (start, y), (end, y), shrink=0)


def step(axes, title, weights):
    """The decoder writes its second word; weights: what the context has of each place."""
    row(axes, 0.8, "→h")
    top = 1.11
    if all(weights):
        row(axes, 1.42, "←h", backwards=True)
        top = 1.73
    for number, (word, weight) in enumerate(zip(SOURCE, weights)):
        x = 1.5 * number
        axes.text(x, 0, word, ha="center", va="center")
        arrow(axes, (x, 0.2), (x, 0.49), shrink=0)
        if weight:
            width = 0.6 + 4 * weight
            arrow(axes, (x, top), (1.3 + 0.2 * number, 3.09), RED, width=width, shrink=0)
            side, align = (0.0, "right") if number == 0 else (0.12, "left")
            text = f"{weight:.2f}" if weight < 1 else "1, at every step"
            axes.text(x + side, top + 0.32, text, ha=align, va="center", color=RED)
    for x, text, color in ((-0.6, "s₁", GREEN), (1.5, "c₂", ORANGE), (3.6, "s₂", GREEN)):
        box(axes, x, 3.4, text, color, 0.8, 0.62)
    arrow(axes, (1.9, 3.4), (3.2, 3.4), shrink=0)
    arrow(axes, (-0.6, 3.71), (3.6, 3.71), curve=-0.25, shrink=0)
    arrow(axes, (-0.4, 3.71), (1.25, 4.9), shrink=0)
    arrow(axes, (1.5, 3.71), (1.5, 4.85), shrink=0)
    axes.text(1.5, 5.05, TARGET, ha="center", va="center")
    axes.set_title(title)
    axes.set(xlim=(-2.1, 5.1), ylim=(-0.3, 5.4))
    axes.axis("off")


def mechanism():
    """A step of RNNencdec, and the same one of RNNsearch."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    step(left, "Before: one vector for the sentence", (0, 0, 1))
    step(
        right, "Attention: every word is kept, and looked at again", torch.tensor(SCORES).softmax(0)
    )
    arrow(right, (-0.6, 3.09), (0.42, 2.3), style="--", shrink=0)
    right.text(-0.35, 2.65, "where to look?", ha="right", va="center", fontsize=9)
    save(figure, FOLDER / "mechanism.png", 120)


if __name__ == "__main__":
    draw_finished({mechanism: []})
