"""Show what attention is for.

    python experiments.py lengths        how good translations are by the length of a sentence,
                                         with and without attention: the paper's Figure 2, on
                                         verses and on letters to be reversed; about an hour on one
                                         CPU core
    python experiments.py maps           where the decoder looks while it translates

Both use the runs of train.py, and train those that are missing. `python experiments.py lengths
--help` lists what can be changed. Results go to checkpoints/Attention/; the same command goes on
with what was stopped.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from harness import ROOT, files
from harness.chrf import chrf
from harness.compare import compare, experiment, in_turn, need_some, seeds_of, unless_diverged
from harness.errors import Refusal, harmless, program
from harness.settings import flags

import train

GROUPS = (8, 12, 16, 20)  # sentences of up to 8 words or letters, of 9 to 12, and so on
SEEDS = 3
SENTENCES = (
    "The king said to Moses, Go up to the mountain.",
    "He has given us the good land of our fathers.",
    "You shall not kill the two sons of the priest.",
)
WORD = "attention"
QUALITY = {"verses": "chrF", "reversal": "exact answers, %"}


@dataclass(frozen=True, kw_only=True)
class Lengths(train.Recipe):
    """The laptop recipe, with what is compared left open."""

    data: Literal["verses", "reversal"] | None = None  # not set: both
    attention: bool | None = None  # not set: with and without


LAPTOP = dataclasses.replace(train.RECIPES["laptop"], name="laptop")
WITHOUT = {"attention": False, "alignment": LAPTOP.alignment}  # of which nothing is there
LENGTHS = {"laptop": Lengths(**vars(LAPTOP) | {"data": None, "attention": None})}


def variants(recipe):
    """Settings of the runs that a recipe leaves open: train.py's own, which it may have done."""
    names = {field.name for field in flags(train.Recipe)} - {"data", "attention"}
    same = LAPTOP.but(**{name: getattr(recipe, name) for name in names})
    return [
        same.but(data=data, seed=seed, **({} if attention else WITHOUT))
        for data in ([recipe.data] if recipe.data else ["verses", "reversal"])
        for attention in ([True, False] if recipe.attention is None else [recipe.attention])
        for seed in seeds_of(recipe, SEEDS)
    ]


def lengths(recipe):
    """How good translations are by the length of a sentence, with and without attention."""
    settings = variants(recipe)
    runs = [unless_diverged(train.fit, one) for one in in_turn("By length", settings)]
    runs = [run for run in runs if run]
    if recipe.dry_run:
        return
    need_some(runs)
    losses, by_length, rows = {}, {}, []
    for run in runs:
        data, attention = run.settings.data, run.settings.attention
        label, found = f"with{'' if attention else 'out'} attention", measure(run)
        curve = [row["validation_loss"] for row in run.history]
        losses.setdefault(data, {}).setdefault(label, []).append(curve)
        by_length.setdefault(data, {}).setdefault(label, []).append(found)
        about = {"data": data, "attention": attention, "seed": run.settings.seed}
        rows += [about | {"up to": most, "quality": value} for most, value in zip(GROUPS, found)]
    compare("Attention", recipe, runs, losses, "validation loss, nats per token")
    folder = ROOT / "checkpoints" / "Attention" / recipe.title()
    with harmless("lengths.csv"):
        files.write_csv(folder / "lengths.csv", rows)
        print(f"By length: {folder / 'lengths.csv'}")
    words = {data: QUALITY[data] for data in by_length}
    seeds = sorted({run.settings.seed for run in runs})
    axis = {"along": "words or letters of the source, up to", "places": GROUPS}
    axis["title"] = f"Attention: {recipe.in_words(*seeds)}"
    with harmless("lengths.png"):
        from harness import plots  # matplotlib takes a second to import, and may be broken

        drawn = {"lengths.png": lambda path: plots.comparison(path, by_length, words, **axis)}
        if plots.draw(folder, drawn):
            print(f"The same as a picture: {folder / 'lengths.png'}")


def measure(run):
    """How good a run's translations of the validation part are, by GROUPS of their lengths.

    chrF of verses; the share of exact answers, in percent, of letters.
    """
    data = run.data
    sources, targets = zip(*data.parts["validation"])
    written = data.translate(run.model, sources, run.device)
    found, least = [], 0
    for most in GROUPS:
        sizes = [len(text if data.kind.exact else text.split()) for text in sources]
        here = [n for n, size in enumerate(sizes) if least < size <= most]
        ours, theirs = [written[n] for n in here], [targets[n] for n in here]
        right = sum(one == other for one, other in zip(ours, theirs))
        found.append(100 * right / len(here) if data.kind.exact else chrf(ours, theirs))
        least = most
    return found


def maps(recipe):
    """Where the decoder looks in SENTENCES, and in a WORD that it is to write backwards."""
    if not recipe.attention:
        raise Refusal("--no-attention: then there are no maps")
    if recipe.data != LAPTOP.data:
        raise Refusal("--data: the maps are of verses and of reversal, both")
    own = dataclasses.replace(recipe, name=LAPTOP.name)  # as train.py names its runs
    both = [own.but(data=data) for data in ("verses", "reversal")]  # before one of them is trained
    verses, reversal = map(train.fit, both)
    if recipe.dry_run:
        return
    with harmless("maps.png"):
        from harness import plots
        from harness.maps import alignment, alignments

        found = [alignment(verses.model, verses.data, text, verses.device) for text in SENTENCES]
        found.append(alignment(reversal.model, reversal.data, WORD, reversal.device))
        title = "Where the decoder looked: three sentences, and a word to be written backwards"
        if plots.draw(verses.folder, {"maps.png": lambda path: alignments(path, found, title)}):
            print(f"The maps are in {verses.folder / 'maps.png'}")


EXPERIMENTS = {"lengths": (lengths, LENGTHS), "maps": (maps, {"laptop": LAPTOP})}

if __name__ == "__main__":
    program(lambda: experiment(__doc__, EXPERIMENTS))
