"""The pictures of a finished run that translates."""

from harness import plots
from harness.decoding import ALPHA, BEAM, MORE, beam_search
from harness.plots import Figure
from harness.words import BEGIN, END

import torch

SHOWN = 4  # sentences of the validation part
LONGEST = 16  # tokens of a source that is shown


def draw(run, model, data):
    """The pictures of a finished run, into its folder."""
    sources = dict.fromkeys(source for source, _ in data.parts["validation"])
    sources = [text for text in sources if 6 <= len(data.source.encode(text)) < LONGEST][:SHOWN]
    found = [alignment(model, data, text, run.device) for text in sources]
    drawn = {}
    if found and found[0] is not None:
        drawn["alignments.png"] = lambda path: alignments(path, found, run.words)
    # The last: that it is there says that all are.
    drawn["curves.png"] = lambda path: plots.learning_curves(path, run.history, run.words)
    print(f"Pictures there: {', '.join(plots.draw(run.folder, drawn))}")


@torch.inference_mode()
def alignment(model, data, text, device):
    """(source's tokens, tokens of its translation, where each of them looked: [T, S]) of a text.

    None if the model does not look anywhere.
    """
    model.eval()
    source = torch.tensor([[*data.source.encode(text), END]], device=device)
    (written,) = beam_search(model, source, BEAM, source.shape[1] + MORE, ALPHA)
    prefix = torch.tensor([[BEGIN, *written]], device=device)
    _, weights = model.decode(prefix, model.encode(source))
    if weights is None:
        return None
    names = data.source.names(source[0].tolist()), data.target.names([*written, END])
    return *names, weights[0].cpu()


@plots.literal
def alignments(path, found, title):
    """Maps of attention, as alignment() gives them: rows are what was written, columns read."""
    figure = Figure(figsize=(10, 10), layout="constrained")
    all_axes = figure.subplots(2, 2).flat
    for (read, written, weights), axes in zip(found, all_axes):
        axes.imshow(weights.numpy(), cmap="gray", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(read)), read, rotation=90)
        axes.set_yticks(range(len(written)), written)
        axes.xaxis.tick_top()
    for axes in [*all_axes]:  # those that are left
        axes.remove()
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=110)
