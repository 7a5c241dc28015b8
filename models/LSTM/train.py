"""Train an LSTM.

    python train.py                      the laptop recipe, on the Shakespeare that ships
    python train.py --sample "ROMEO:"    let the trained network write
    python train.py --data <text file>   the same on a text of yours
    python train.py --cell 1997          what if? --help lists such ablations
    python train.py --recipe paper       the training of 1997, on the adding problem
    python train.py --recipe paper --data temporal-order
    python train.py --dry-run            does everything work? one batch, nothing written

experiments.py puts the idea to the test: python experiments.py --help.
Results go to checkpoints/. The same command goes on with a run that was stopped.
"""

from dataclasses import dataclass
from typing import Literal

from harness import language
from harness.errors import program
from harness.run import Run
from harness.schedule import constant, one_cycle
from harness.settings import command_line
from harness.values import Count, Fraction, Positive
from model import LanguageModel, LastOutput

import tasks
import torch
import torch.nn.functional as F
from tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class Recipe(language.Settings):
    data: tasks.DataSet  # shakespeare, a text file of yours, adding, temporal-order
    cell: Literal["tanh", "1997", "2000", "today"] = "today"  # which layer of model.py
    blocks: Count  # memory blocks; of today's cells each is one
    size: Count = 1  # cells in a block (tanh, today: only a factor of --blocks)
    dropout: Fraction = 0.0  # share of the cells' output that is left out, of text alone
    optimizer: Literal["adam", "sgd"] = "adam"  # sgd: at a constant rate, as in 1997
    clip: Positive | None = 1.0  # the longest that a gradient may be; it is shortened to that

    def __post_init__(self):
        super().__post_init__()
        self.refuse_idle(dropout=self.data in TASKS)


RECIPES = {
    # Adam, a one-cycle schedule, clipping and many sequences a step are of today.
    "laptop": Recipe(
        data="shakespeare",
        epochs=2,
        batch_size=32,
        lr=4e-3,
        length=32,
        blocks=512,
    ),
    "paper": Recipe(
        data="adding",
        epochs=50,  # 100,000 sequences
        batch_size=1,
        lr=0.5,
        length=100,
        cell="1997",
        blocks=2,
        size=2,
        optimizer="sgd",
        clip=None,
    ),
}


def fit(recipe):
    """Train and test one network; the Run."""
    cells = recipe.cell, recipe.blocks, recipe.size
    if task := TASKS.get(recipe.data):
        run = Run("LSTM", recipe)
        train, validation, test = tasks.loaders(recipe, run.device)
        model = LastOutput(task.values, task.outputs, *cells, input_gate=task.input_gate)
        criterion = F.mse_loss
    else:
        text = language.Data(recipe)
        run = Run("LSTM", recipe, **text.identity)
        train = text.loader(run.device)
        model = LanguageModel(len(text.vocabulary), *cells, recipe.dropout)
        criterion = language.cross_entropy
    model = run.place(model)
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), recipe.lr)
        schedule = constant(optimizer)
    else:
        optimizer = torch.optim.Adam(model.parameters(), recipe.lr, fused=True)
        schedule = one_cycle(optimizer, recipe.lr, recipe.epochs * len(train))

    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        model.train()
        state = None
        for inputs, targets in run.batches(train):
            outputs, state = model(inputs, state)
            loss = criterion(outputs, targets)
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            schedule.step()
            run.log(loss=loss)
            # The text goes on where it was, but gradients do not flow back beyond this batch.
            state = None if task else tuple(part.detach() for part in state)
        if task:
            run.validate(model, tasks.evaluate(model, validation, task.close))
        else:
            run.validate(model, text.evaluate(model, text.validation))
    if task:
        run.finish(model, lambda: tasks.evaluate(model, test, task.close))
    else:
        language.finish(run, model, text)
    return run


if __name__ == "__main__":
    program(lambda: fit(command_line(__doc__, RECIPES)))
