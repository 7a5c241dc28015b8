"""Train RNNsearch, a translator with attention.

    python train.py                      the laptop recipe: verses, from English to Spanish
    python train.py --translate "In the beginning God created the heavens and the earth."
                                         let the trained network translate
    python train.py --data reversal      the letters of a word from the end: what attention draws
    python train.py --data dates         "March 5, 1987" to "1987-03-05"
    python train.py --no-attention       what if? RNNencdec: one vector holds the whole sentence
    python train.py --recipe paper       the network and the training of 2014, on the verses
    python train.py --dry-run            does everything work? one batch, nothing written

experiments.py puts the idea to the test: python experiments.py --help.
Results go to checkpoints/. The same command goes on with a run that was stopped.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from harness import translation
from harness.errors import program
from harness.run import Run
from harness.schedule import constant, one_cycle
from harness.settings import command_line
from harness.values import Count, Positive
from harness.words import Vocabulary
from model import RNNsearch

import torch


@dataclass(frozen=True, kw_only=True)
class Recipe(translation.Settings):
    words: Count  # known on either side: the most frequent, if they occur twice; not with --merges
    units: Count  # n, of a recurrent layer
    embedding: Count  # m, its dimension
    maxout: Count  # units l of the maxout layer
    alignment: Count  # units n' of the alignment model, which --no-attention has not
    attention: bool = True  # False: RNNencdec
    optimizer: Literal["adam", "adadelta"] = "adam"  # adadelta: as in 2014, with --lr 1
    clip: Positive | None = 1.0  # the longest that a gradient may be; it is shortened to that (B.2)

    def __post_init__(self):
        super().__post_init__()
        self.refuse_idle(words=bool(self.merges), alignment=self.attention is False)


RECIPES = {
    # Adam and a one-cycle schedule are of today: they need fewer epochs than Adadelta.
    "laptop": Recipe(
        data="verses",
        epochs=8,
        batch_size=64,
        lr=4e-3,
        words=5_000,
        units=256,
        embedding=128,
        maxout=128,
        alignment=128,
    ),
    "paper": Recipe(
        data="verses",
        epochs=2_014,  # 288,000 updates on the verses
        batch_size=80,
        lr=1.0,
        words=30_000,
        units=1000,
        embedding=620,
        maxout=500,
        alignment=1000,
        optimizer="adadelta",
    ),
}


def vocabularies(sides, kind, most):
    """The vocabularies of source and target: words, or the letters of a generated task."""
    least = 1 if kind.exact else 2
    return [Vocabulary(side, most, least, kind.split, kind.join) for side in sides]


def fit(recipe):
    """Train and test one network; the Run."""
    run = Run("Attention", recipe)
    data = translation.Data(recipe, partial(vocabularies, most=recipe.words))
    train = data.loader("train", run.device)
    sizes = recipe.units, recipe.embedding, recipe.maxout, recipe.alignment
    model = run.place(RNNsearch(len(data.source), len(data.target), *sizes, recipe.attention))
    criterion = translation.cross_entropy
    if recipe.optimizer == "adadelta":
        optimizer = torch.optim.Adadelta(model.parameters(), recipe.lr, rho=0.95, eps=1e-6)
        schedule = constant(optimizer)
    else:
        optimizer = torch.optim.Adam(model.parameters(), recipe.lr, fused=True)
        schedule = one_cycle(optimizer, recipe.lr, recipe.epochs * len(train))

    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        model.train()
        for inputs, following in run.batches(train):
            scores = model(*inputs)
            loss = criterion(scores, following)
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            schedule.step()
            run.log(loss=loss)
        run.validate(model, data.evaluate(model, "validation", run.device))
    translation.finish(run, model, data)
    return run


if __name__ == "__main__":
    program(lambda: fit(command_line(__doc__, RECIPES)))
