"""Train the toy.

    python train.py                      the laptop recipe, a second
    python train.py --gate               what if? --help lists such ablations
    python train.py --dry-run            does everything work? one batch, nothing written

Results go to checkpoints/. The same command goes on with a run that was stopped.
"""

from dataclasses import dataclass

from harness import symbols
from harness.errors import program
from harness.run import Run
from harness.schedule import one_cycle
from harness.settings import command_line
from harness.values import Count
from model import Toy

import torch
import torch.nn.functional as F


@dataclass(frozen=True, kw_only=True)
class Recipe(symbols.Settings):
    units: Count  # of the hidden layer
    gate: bool = False  # multiply the units with a sigmoid of them


RECIPES = {"laptop": Recipe(data="counting", epochs=4, batch_size=20, lr=1e-2, units=64)}


def fit(recipe):
    """Train and test one network; the Run."""
    run = Run("Toy", recipe)
    train, validation, test = symbols.load(recipe, run.device)
    model = run.place(Toy(symbols.SYMBOLS, recipe.units, recipe.gate))
    optimizer = torch.optim.Adam(model.parameters(), recipe.lr)
    schedule = one_cycle(optimizer, recipe.lr, recipe.epochs * len(train))

    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        model.train()
        for inputs, following in run.batches(train):
            scores = model(inputs)
            loss = F.cross_entropy(scores.flatten(0, 1), following.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            run.log(loss=loss)
        run.validate(model, symbols.evaluate(model, validation))
    run.finish(model, lambda: symbols.evaluate(model, test))
    return run


if __name__ == "__main__":
    program(lambda: fit(command_line(__doc__, RECIPES)))
