"""The pictures of a finished run that models language."""

import math

from harness import plots
from harness.plots import Figure

import torch
import torch.nn.functional as F

LENGTH = 256  # characters that the picture by position goes through
AT_ONCE = 32  # pieces of that length that the model is given together


def draw(run, model, data):
    """The pictures of a finished run, into its folder."""
    drawn = {
        "positions.png": lambda path: positions(path, by_position(model, data.test), run.words),
        # The last: that it is there says that all are.
        "curves.png": lambda path: plots.learning_curves(path, run.history, run.words),
    }
    names = plots.draw(run.folder, drawn)
    print(f"Pictures there: {', '.join(names)}")


@torch.inference_mode()
def by_position(model, text, length=LENGTH):
    """The mean bits of a text's characters by how many the model has seen before them [length]."""
    model.eval()
    length, device = min(length, len(text) - 1), next(model.parameters()).device
    rows = text[: (len(text) - 1) // length * length + 1].unfold(0, length + 1, length)
    total = torch.zeros(length)
    for some in rows.split(AT_ONCE):
        some = some.to(device)
        scores, _ = model(some[:, :-1], None)
        losses = F.cross_entropy(scores.transpose(1, 2), some[:, 1:], reduction="none")
        total += losses.sum(0).cpu()
    return total / len(rows) / math.log(2)


@plots.literal
def positions(path, bits, title):
    """The bits [length] that a character costs, by how many the model has seen before it."""
    edges = sorted({round(2 ** (k / 2)) - 1 for k in range(40)} & {*range(len(bits))})
    spans = [*zip(edges, [*edges[1:], len(bits)])]  # longer and longer, for there is less in each
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    means = [bits[start:end].mean() for start, end in spans]
    axes.plot([start + 1 for start, _ in spans], means, marker=".")
    axes.set(xlabel="n-th character that it sees", ylabel="bits per character", title=title)
    axes.set_xscale("log", base=2)
    shown = [2**k for k in range(0, 12, 2) if 2**k <= len(bits)]
    axes.set_xticks(shown, map(str, shown))
    axes.grid(alpha=0.3)
    figure.savefig(path, format="png", dpi=110)
