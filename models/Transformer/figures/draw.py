"""Draw the pictures of summary.md that train.py and experiments.py do not draw.

    python train.py                       with --seed 0, 1 and 2
    python train.py --merges 3000 --units 176 --embedding 64 --maxout 64 --alignment 64 --epochs 13
                                          with the same seeds, on the branch Attention
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/Transformer) has those runs, the folder Attention beside it the second
three; the pictures go to FOLDER (default: RUNS).
What cannot be drawn, since a run is not there, is said. `make figures` on main calls this.
"""

import sys
from itertools import product
from pathlib import Path

import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import ROOT, checkpoint, translation
from harness.diagrams import BLUE, GRAY, GREEN, RED, arrow, box
from harness.plots import draw_finished, mean_curve, save
from harness.words import END
from model import Transformer, attention, sinusoids

from train import RECIPES, vocabularies

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "Transformer"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
TRANSFORMER = [RUNS / f"laptop-seed{seed}" for seed in range(3)]
LAPTOP = TRANSFORMER[0]
SMALL = "laptop-epochs-13-merges-3000-units-176-embedding-64-maxout-64-alignment-64"
RNNSEARCH = [RUNS.parent / "Attention" / f"{SMALL}-seed{seed}" for seed in range(3)]
PATH = {"color": RED, "width": 1.8}
SENTENCE = "the", "king", "saw", "his", "son"


def columns(axes, title):
    """An embedding and a state above each word of a sentence; {(word, 0 or 1): its place}."""
    places = {(x, y): (1.3 * x, 1.5 * y) for x in range(len(SENTENCE)) for y in (0, 1)}
    for (x, y), place in places.items():
        box(axes, *place, "", BLUE if y == 0 else GREEN, 0.6, 0.5)
        if y == 0:
            axes.text(place[0], -0.75, SENTENCE[x], ha="center", va="center")
            arrow(axes, (place[0], -0.58), (place[0], -0.25), shrink=0)
    axes.set_title(title)
    axes.set(xlim=(-0.6, 5.8), ylim=(-1.0, 2.0))
    axes.axis("off")
    return places


def paths():
    """How far "son" is from "the": four steps in a recurrent network, one in self-attention."""
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = columns(left, "Recurrent network: one state after the other")
    for x in range(len(SENTENCE)):
        (a, b), (_, top) = places[x, 0], places[x, 1]
        style = PATH if x == 0 else {}
        arrow(left, (a, b + 0.25), (a, top - 0.25), shrink=0, **style)
        if x:
            arrow(left, (a - 1.0, top), (a - 0.3, top), shrink=0, **PATH)
    places = columns(right, "Self-attention: all positions at once, each sees all")
    last = len(SENTENCE) - 1
    pairs = [pair for pair in product(range(len(SENTENCE)), repeat=2) if pair != (0, last)]
    for seen, x in [*pairs, (0, last)]:  # the red one on top of the others
        (a, b), (c, top) = places[seen, 0], places[x, 1]
        style = {"color": "#bbb", "width": 0.7} if (seen, x) in pairs else PATH
        arrow(right, (a, b + 0.25), (c, top - 0.25), shrink=0, **style)
    save(figure, FOLDER / "paths.png", 120)


def masked():
    """Equation 1 in numbers, in the decoder, where a position sees none that comes later."""
    written = "[BEGIN]", "Y", "el", "rey"
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, len(written), 64, generator=generator)
    here = torch.arange(len(written))
    mask = here[:, None] >= here
    _, weights = attention(q, k, k, mask)
    scores = q @ k.T / 64**0.5
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, values, title, nothing, ends in (
        (left, scores, "Scores: q · k / √64", "-∞", (-1.5, 3)),
        (right, weights, "Weights: the softmax of each row", "0", (0, 1.4)),
    ):
        least, most = ends
        axes.imshow(values.masked_fill(~mask, torch.nan), cmap="Blues", vmin=least, vmax=most)
        axes.set_facecolor(GRAY)  # of what is masked
        for row, column in product(range(len(written)), repeat=2):
            text = f"{values[row, column]:.2f}" if mask[row, column] else nothing
            axes.text(column, row, text, ha="center", va="center")
        axes.set_xticks(here, written)
        axes.set_yticks(here, written)
        axes.xaxis.tick_top()
        axes.set_title(title)
    save(figure, FOLDER / "masked.png", 120)


def positions():
    """Left: the sines that each position adds. Right: how alike two positions are."""
    table = sinusoids(60, 128)
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    left.imshow(table[:, ::2], cmap="RdBu", vmin=-1.2, vmax=1.2, aspect="auto")
    left.set(xlabel="i: the wavelength grows", ylabel="position")
    left.set_title("What each position adds: 64 sines (and as many cosines)")
    for position, color in ((20, "tab:blue"), (40, "tab:orange")):
        right.plot(table @ table[position] / 64, color=color, label=f"position {position}")
    right.set(xlabel="position", title="Cosine similarity")
    right.grid(alpha=0.3)
    right.legend()
    save(figure, FOLDER / "positions.png", 120)


@torch.no_grad()
def heads():
    """Where each head of the encoder's first layer looks in a sentence."""
    recipe = RECIPES["laptop"]
    data = translation.Data(recipe, vocabularies)
    sizes = recipe.layers, recipe.d_model, recipe.d_ff, recipe.heads
    model = Transformer(len(data.source), *sizes).eval()
    model.load_state_dict(checkpoint.weights(LAPTOP))
    tokens = [*data.source.encode("The king of Israel went up to the house of God."), END]
    x, everywhere = model.embed(torch.tensor([tokens])), torch.ones(1, 1, 1, len(tokens)).bool()
    _, weights = model.encoder.layers[0].attention(x, x, everywhere)  # [1, heads, S, S]
    figure = Figure(figsize=(12, 3.7), layout="constrained")
    names = [name.strip() for name in data.source.names(tokens)]
    for number, (axes, own) in enumerate(zip(figure.subplots(1, 4), weights[0]), 1):
        axes.imshow(own, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_title(f"head {number}")
    save(figure, FOLDER / "heads.png", 110)


def against():
    """The Transformer and RNNsearch with as many parameters, on the same pieces."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for label, runs, color in (
        ("RNNsearch, 13 epochs", RNNSEARCH, "tab:gray"),
        ("Transformer, 15 epochs", TRANSFORMER, "tab:blue"),
    ):
        curves = [mean_curve([run], "validation_bits") for run in runs]
        x = [100 * (epoch + 1) / len(curves[0]) for epoch in range(len(curves[0]))]
        axes.plot(x, mean_curve(runs, "validation_bits"), color=color, marker=".", label=label)
        low, high = ([end(values) for values in zip(*curves)] for end in (min, max))
        axes.fill_between(x, low, high, color=color, alpha=0.25, linewidth=0)
    axes.set(xlabel="share of the training, %", ylabel="bits per character")
    axes.set(title="Validation verses, equal parameters", ylim=(1.1, 2.6))
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, FOLDER / "against.png")


if __name__ == "__main__":
    draw_finished(
        {paths: [], masked: [], positions: [], heads: [LAPTOP], against: TRANSFORMER + RNNSEARCH}
    )
