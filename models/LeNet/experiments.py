"""LeNet-5 and a fully connected network on images that are moved by a few pixels.

    python experiments.py shifts    what is left of their accuracy? And after training on distorted
                                    images, as train.py does? One to two hours on two cores
    python experiments.py shifts --epochs 20 --no-distort
                                    the first question alone, in a quarter of an hour

`python experiments.py shifts --help` lists what can be changed. Results go to checkpoints/LeNet/;
the same command goes on with what was stopped.
"""

import dataclasses

from harness import images
from harness.classification import evaluate
from harness.compare import compare, experiment, in_turn, mean_and_spread, percent, seeds_of
from harness.errors import program
from harness.run import Run
from harness.schedule import one_cycle
from harness.vision import distort

import torch
import torch.nn.functional as F
import train
from torch import nn

LAPTOP = train.RECIPES["laptop"]
RATE = 1e-3  # of the fully connected network: the best of 5e-4, 1e-3, 2e-3 and 4e-3
PIXELS = range(7)
SEEDS = 3


def fully_connected(in_channels, num_classes):
    """The paper's network of one hidden layer, 300 units (III.C), for images of 32x32 pixels."""
    hidden = nn.Linear(in_channels * 32 * 32, 300)
    return nn.Sequential(nn.Flatten(), hidden, nn.Tanh(), nn.Linear(300, num_classes))


def fit(recipe):
    """Train the fully connected network as train.py trains LeNet-5; the Run."""
    data = images.load(recipe, side=32)
    run = Run("LeNet", recipe, **data.identity)
    augment = distort if recipe.distort else None
    loader, validation, _ = data.loaders(run.device, train.prepare, augment)
    model = run.place(fully_connected(data.channels, len(data.classes)))
    optimizer = torch.optim.Adam(model.parameters(), recipe.lr, fused=True)
    schedule = one_cycle(optimizer, recipe.lr, recipe.epochs * len(loader))

    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        model.train()
        for inputs, labels in run.batches(loader):
            scores = model(inputs)
            loss = F.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            run.log(loss=loss, accuracy=scores.argmax(1) == labels)
        run.validate(model, evaluate(model, validation))
    run.finish(model)  # validation images are moved, not test images
    return run


def moved(images, pixels):
    """Images [B, C, H, W] moved to the right; what comes in from the left is background."""
    return F.pad(images, (pixels, -pixels), value=-0.1)


def accuracies(run):
    """The accuracy of a finished run on validation images that are moved by each of PIXELS."""
    data = images.load(run.settings, side=32)
    _, validation, _ = data.loaders(run.device, train.prepare)
    batches = [*validation]
    views = ([(moved(inputs, n), labels) for inputs, labels in batches] for n in PIXELS)
    return [evaluate(run.model, view)["accuracy"] for view in views]


def shifts(recipe):
    """LeNet-5 and a fully connected network on images that are moved to the right.

    --lr and the flags of the network are LeNet-5's: the other one has a rate and units of its own.
    """
    seeds = seeds_of(recipe, SEEDS)
    # LeNet-5's runs are those of train.py: what it has finished is not trained again.
    laptop = dataclasses.replace(recipe, name="laptop")
    networks = {"LeNet-5": (train.fit, laptop), "fully connected": (fit, recipe.but(lr=RATE))}
    runs, found = [], {}
    for distorted in (False, True) if recipe.distort else (False,):
        for network, (function, variant) in networks.items():
            name = f"{network}, distorted" if distorted else network
            variants = [variant.but(seed=seed, distort=distorted) for seed in seeds]
            for settings in in_turn(name, variants):
                runs.append(function(settings))
                found.setdefault(name, []).append(accuracies(runs[-1]))
    if recipe.dry_run:
        return

    print("\nAccuracy on validation images, %, mean and standard deviation, by pixels to the right")
    for name, curves in found.items():
        for pixels, values in zip(PIXELS, zip(*curves)):
            print(f"{name:<26} {pixels} {mean_and_spread(values)}")
    panels = {"": {name: percent(curves) for name, curves in found.items()}}
    along = {"along": "pixels to the right", "places": [*PIXELS]}
    compare("LeNet", recipe, runs, panels, "validation accuracy, %", **along)


EXPERIMENTS = {"shifts": (shifts, {"laptop": LAPTOP})}

if __name__ == "__main__":
    program(lambda: experiment(__doc__, EXPERIMENTS))
