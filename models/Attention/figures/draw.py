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
from harness.diagrams import BLUE, GREEN, ORANGE, arrow, box
from harness.plots import draw_finished, save

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "Attention"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
RED = "#c44e52"
SOURCE = "the", "black", "cat"
TARGET = "el", "gato", "negro"
SCORES = 0.0, 1.0, 3.0  # of the source's words, before the second word is written


def row(axes, y, texts, color, left=0.0, backwards=False):
    """Boxes from left to right, with an arrow from each to the next."""
    for number, text in enumerate(texts):
        box(axes, left + 1.5 * number, y, text, color, 0.8, 0.62)
        if number:
            ends = left + 1.5 * number - 1.1, left + 1.5 * number - 0.4
            start, end = ends[::-1] if backwards else ends
            arrow(axes, (start, y), (end, y), shrink=0)


def one_vector(axes):
    """RNNencdec: the encoder's last state is all that the decoder knows."""
    row(axes, 1, ["h₁", "h₂", "h₃"], BLUE)
    row(axes, 3, ["s₀", "s₁", "s₂"], GREEN)
    for number, (read, written) in enumerate(zip(SOURCE, TARGET)):
        x = 1.5 * number
        axes.text(x, 0, read, ha="center", va="center")
        arrow(axes, (x, 0.2), (x, 0.69), shrink=0)
        axes.text(x, 4, written, ha="center", va="center")
        arrow(axes, (x, 3.31), (x, 3.8), shrink=0)
        arrow(axes, (3.0, 1.31), (x, 2.69), RED, width=1.8, shrink=0)
    axes.text(3.5, 1.9, "c, the same\nat every step", color=RED, va="center")
    axes.set_title("Before: one vector for the sentence")


def search(axes):
    """RNNsearch, at the moment when it writes its second word."""
    row(axes, 0.8, ["→h₁", "→h₂", "→h₃"], BLUE)
    row(axes, 1.42, ["←h₁", "←h₂", "←h₃"], BLUE, backwards=True)
    for x, text, color in ((-0.6, "s₁", GREEN), (1.5, "c₂", ORANGE), (3.6, "s₂", GREEN)):
        box(axes, x, 3.4, text, color, 0.8, 0.62)
    for number, word in enumerate(SOURCE):
        weight = torch.tensor(SCORES).softmax(0)[number].item()
        x = 1.5 * number
        axes.text(x, 0, word, ha="center", va="center")
        arrow(axes, (x, 0.2), (x, 0.49), shrink=0)
        arrow(axes, (x, 1.73), (1.3 + 0.2 * number, 3.09), RED, width=0.6 + 4 * weight)
        side, align = (-0.1, "right") if number == 0 else (0.12, "left")
        axes.text(x + side, 2.1, f"{weight:.2f}", ha=align, va="center", color=RED)
    arrow(axes, (-0.2, 3.4), (1.1, 3.4), style="--", shrink=0)
    axes.text(0.45, 3.52, "where to look?", ha="center", va="bottom", fontsize=8)
    arrow(axes, (1.9, 3.4), (3.2, 3.4), shrink=0)
    arrow(axes, (-0.6, 3.71), (3.6, 3.71), curve=-0.25, shrink=0)
    arrow(axes, (-0.4, 3.71), (1.25, 4.9), shrink=0)
    arrow(axes, (1.5, 3.71), (1.5, 4.85), shrink=0)
    axes.text(1.5, 5.05, TARGET[1], ha="center", va="center")
    axes.set_title("Attention: every word is kept, and looked at again")


def mechanism():
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    one_vector(left)
    search(right)
    left.set(xlim=(-0.8, 5.2), ylim=(-0.3, 4.4))
    right.set(xlim=(-1.5, 4.5), ylim=(-0.3, 5.4))
    for axes in (left, right):
        axes.axis("off")
    save(figure, FOLDER / "mechanism.png", 120)


if __name__ == "__main__":
    draw_finished({mechanism: []})
