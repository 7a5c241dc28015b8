"""Show what local fields, shared weights and subsampling are for.

    python experiments.py shifts    LeNet-5 and a fully connected network: what is left of their
                                    accuracy when the images are moved by a few pixels?

It takes ten minutes on two CPU cores. `python experiments.py shifts --help` lists what can be
changed. Results go to checkpoints/LeNet/; the same command goes on with what was stopped. Then
`python figures/draw.py` draws accuracy against pixels.
"""

from dataclasses import dataclass
from typing import Literal

from harness import images
from harness.classification import evaluate
from harness.compare import compare, experiment, in_turn, mean_and_spread, percent
from harness.errors import program
from harness.run import Run
from harness.schedule import one_cycle
from harness.values import Positive
from model import LeNet5

import torch
import torch.nn.functional as F
from torch import nn
from train import RECIPES, equation_9, prepare

LAPTOP = RECIPES["laptop"]


@dataclass(frozen=True, kw_only=True)
class Shifts(images.Settings):
    """The laptop recipe for both networks, but for the rate."""

    lr: Positive | None = None  # not set: each network its own
    network: Literal["lenet", "full"] | None = None  # not set: both


SHIFTS = {
    "laptop": Shifts(data=LAPTOP.data, epochs=LAPTOP.epochs, batch_size=LAPTOP.batch_size),
}
RATES = {"lenet": LAPTOP.lr, "full": 1e-3}  # full: the best of 5e-4, 1e-3, 2e-3, 4e-3
PIXELS = range(7)
SEEDS = 3


def fully_connected(in_channels, num_classes):
    """The paper's network of one hidden layer, 300 units (III.C), for images of 32x32 pixels."""
    hidden = nn.Linear(in_channels * 32 * 32, 300)
    return nn.Sequential(nn.Flatten(), hidden, nn.Tanh(), nn.Linear(300, num_classes))


def moved(images, pixels):
    """Images [B, C, H, W] moved to the right; what comes in from the left is background."""
    return F.pad(images, (pixels, -pixels), value=-0.1)


def fit(recipe):
    """Train one of the networks; the Run, its metrics those on validation images, moved or not."""
    data = images.load(recipe, side=32)
    run = Run("LeNet", recipe, **data.identity)
    train, validation, _ = data.loaders(run.device, prepare)
    network, criterion = {
        "lenet": (LeNet5, equation_9),
        "full": (fully_connected, F.cross_entropy),
    }[recipe.network]
    model = run.place(network(data.channels, len(data.classes)))
    optimizer = torch.optim.Adam(model.parameters(), recipe.lr, fused=True)
    schedule = one_cycle(optimizer, recipe.lr, recipe.epochs * len(train))

    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        model.train()
        for inputs, labels in run.batches(train):
            scores = model(inputs)
            loss = criterion(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            run.log(loss=loss, accuracy=scores.argmax(1) == labels)
        run.validate(model, evaluate(model, validation, criterion))

    def test():
        found = evaluate(model, validation, criterion)
        for pixels in PIXELS:
            view = [(moved(inputs, pixels), labels) for inputs, labels in validation]
            found[f"moved_{pixels}"] = evaluate(model, view, criterion)["accuracy"]
        return found

    run.finish(model, test, "validation")
    return run


def shifts(recipe):
    """LeNet-5 and a fully connected network on images that are moved to the right."""
    networks = [recipe.network] if recipe.network else [*RATES]
    seeds = range(recipe.seed, recipe.seed + (1 if recipe.dry_run else SEEDS))
    variants = [
        recipe.but(network=name, lr=recipe.lr or RATES[name], seed=seed)
        for name in networks
        for seed in seeds
    ]
    runs = {name: [] for name in networks}
    for variant in in_turn("Moved images", variants):
        runs[variant.network].append(fit(variant))
    if recipe.dry_run:
        return

    print("\nAccuracy on validation images, %, mean and standard deviation, by pixels to the right")
    for name, own in runs.items():
        for pixels in PIXELS:
            values = [run.result["metrics"][f"moved_{pixels}"] for run in own]
            print(f"{name:<6} {pixels} {mean_and_spread(values)}")
    panels = {
        "validation": {
            name: percent([[row["validation_accuracy"] for row in run.history] for run in own])
            for name, own in runs.items()
        }
    }
    compare("LeNet", recipe, sum(runs.values(), []), panels, "accuracy, %")


EXPERIMENTS = {"shifts": (shifts, SHIFTS)}

if __name__ == "__main__":
    program(lambda: experiment(__doc__, EXPERIMENTS))
