"""Train a Transformer.

    python train.py                      the laptop recipe: verses, from English to Spanish
    python train.py --translate "In the beginning God created the heavens and the earth."
                                         let the trained network translate
    python train.py --data reversal      the letters of a word from the end: what attention draws
    python train.py --data dates         "March 5, 1987" to "1987-03-05"
    python train.py --positions none     what if? --help lists such ablations
    python train.py --recipe paper       the base model and the training of 2017, on the verses
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
from harness.settings import command_line
from harness.values import Count, Fraction, Positive
from harness.words import END, PAD, Vocabulary
from model import Transformer

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel


@dataclass(frozen=True, kw_only=True)
class Recipe(translation.Settings):
    layers: Count  # N, of the encoder, and of the decoder
    d_model: Count  # dimension of a position
    d_ff: Count  # units of a feed-forward network
    heads: Count  # h, of each attention
    dropout: Fraction = 0.1  # P_drop, of each sub-layer's output and of the embeddings
    positions: Literal["sinusoids", "learned", "none"] = "sinusoids"  # how a position is told
    norm: Literal["post", "pre"] = "post"  # where layers are normalized; pre: as they are today
    lr: Positive = 1.0  # factor of the learning rate that equation 3 gives
    warmup: Count  # steps until the learning rate falls
    rise: bool = True  # False: no warm-up, the learning rate begins at its highest
    smoothing: Fraction = 0.1  # probability that the target gives to all other tokens
    averaging: Count  # last epochs, whose weights are averaged; of all epochs the best is kept


RECIPES = {
    "laptop": Recipe(
        data="verses",
        epochs=15,
        batch_size=64,
        merges=3_000,
        layers=2,
        d_model=128,
        d_ff=512,
        heads=4,
        warmup=400,
        averaging=3,  # of 15 epochs; the paper averages the last 7 % of its training
    ),
    "paper": Recipe(
        data="verses",
        epochs=8_334,  # 100,000 steps on the verses
        batch_size=1_000,  # about 19,000 tokens; the paper's have 25,000
        merges=37_000,
        layers=6,
        d_model=512,
        d_ff=2048,
        heads=8,
        warmup=4_000,
        averaging=5,
    ),
}


def vocabularies(sides, kind):
    """The one vocabulary of both sides, twice: of letters, or whole words; pieces: --merges."""
    vocabulary = Vocabulary([*sides[0], *sides[1]], split=kind.split, join=kind.join)
    return vocabulary, vocabulary


def rate(step, recipe):
    """The learning rate of a step, counted from 1 (equation 3)."""
    early = step * recipe.warmup**-1.5 if recipe.rise else recipe.warmup**-0.5
    return recipe.d_model**-0.5 * min(step**-0.5, early)


def smoothed(scores, following, smoothing):
    """Cross-entropy with label smoothing (5.4), and without, in nats a token.

    The share `smoothing` of a target's chance goes to the other tokens that could stand there, in
    equal parts: none to padding, none to a beginning. Padded places do not count.
    """
    log_p, there = scores.log_softmax(2), following != PAD
    right = log_p.gather(2, following[..., None])[..., 0]
    others = (log_p[..., END:].sum(2) - right) / (scores.shape[2] - END - 1)
    wanted = (1 - smoothing) * right + smoothing * others
    return -(wanted * there).sum() / there.sum(), -(right * there).sum() / there.sum()


def fit(recipe):
    """Train and test one network; the Run."""
    run = Run("Transformer", recipe)
    data = translation.Data(recipe, vocabularies)
    train = data.loader("train", run.device)
    sizes = recipe.layers, recipe.d_model, recipe.d_ff, recipe.heads, recipe.dropout
    how = {"positions": recipe.positions, "norm": recipe.norm}
    model = run.place(Transformer(len(data.target), *sizes, **how))
    averaged = AveragedModel(model)
    criterion = partial(smoothed, smoothing=recipe.smoothing)
    optimizer = torch.optim.Adam(
        model.parameters(), recipe.lr, betas=(0.9, 0.98), eps=1e-9, fused=True
    )
    schedule = LambdaLR(optimizer, lambda steps: rate(steps + 1, recipe))

    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule, averaged=averaged):
        model.train()
        for inputs, following in run.batches(train):
            scores = model(*inputs)
            loss, nats = criterion(scores, following)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            run.log(loss=nats)
        if epoch > recipe.epochs - recipe.averaging:
            averaged.update_parameters(model)
        final = averaged.module if averaged.n_averaged else model
        run.validate(final, data.evaluate(final, "validation", run.device))
    translation.finish(run, model, data)
    return run


if __name__ == "__main__":
    program(lambda: fit(command_line(__doc__, RECIPES)))
