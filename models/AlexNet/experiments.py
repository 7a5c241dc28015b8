"""Climb from LeNet-5 to AlexNet, one change at a time.

    python experiments.py ladder                 every rung, with three seeds each
    python experiments.py ladder --rung dropout  one of them
    python experiments.py ladder --rung wide-dropout
                                                 what is a method worth beside the ladder?

The first five rungs are on the branch LeNet: python train.py --epochs 20 --no-distort there, then
with --pooling max, with --activation relu as well, and so on; summary.md has all the commands. It
takes an hour on two CPU cores. Results go to checkpoints/AlexNet/; the same command goes on with
what was stopped.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from harness import images
from harness.classification import evaluate, finish
from harness.compare import compare, experiment, in_turn, mean_and_spread, percent, seeds_of
from harness.errors import program
from harness.run import Run
from harness.schedule import one_cycle
from harness.vision import random_crop, random_flip
from model import AlexNet

import torch
import torch.nn.functional as F
from torch import nn
from train import center_crop

Rung = Literal["start", "wide", "deep", "large", "crops", "dropout", "wide-crops", "wide-dropout"]


@dataclass(frozen=True, kw_only=True)
class Ladder(images.Settings):
    """LeNet's laptop recipe for every rung, but 20 epochs and no distorted images."""

    rung: Rung | None = None  # not set: all of RUNGS


LADDER = {"laptop": Ladder(data="fashion-mnist", epochs=20, batch_size=64, lr=4e-3)}
RUNGS = {  # each has what the one before has, and
    "start": "initial weights of variance 2 / fan-in, biases 0",
    "wide": "twice the feature maps and units",
    "deep": "three 3x3 convolutions more",
    "large": "64x64 pixels, and AlexNet's filters and units, at an eighth of its width",
    "crops": "random crops and mirrors",
    "dropout": "dropout",
}
BESIDE = {  # the ladder
    "wide-crops": "wide, and random crops and mirrors",
    "wide-dropout": "wide, and dropout",
}
LARGE = ("large", "crops", "dropout")
SEEDS = 3


def network(rung, in_channels, num_classes):
    """The network of a rung, for images of 32x32 pixels; of those of LARGE, of 64x64."""
    if rung in LARGE:
        dropout = 0.5 if rung == "dropout" else 0
        knobs = {"pooling": "separate", "lrn": False, "dropout": dropout, "groups": 1}
        model = AlexNet(in_channels, num_classes, 64, 0.125, **knobs)
    else:
        k = 1 if rung == "start" else 2
        pool, relu = nn.MaxPool2d(2), nn.ReLU()
        drop = nn.Dropout(0.5 if rung == "wide-dropout" else 0)
        layers = [nn.Conv2d(in_channels, 6 * k, 5), relu, pool]
        layers += [nn.Conv2d(6 * k, 16 * k, 5), relu, pool]
        if rung == "deep":
            for narrow, wide in ((32, 48), (48, 48), (48, 32)):
                layers += [nn.Conv2d(narrow, wide, 3, padding=1), relu]
        layers += [nn.Conv2d(16 * k, 120 * k, 5), relu, nn.Flatten(), drop]
        layers += [nn.Linear(120 * k, 84 * k), relu, drop, nn.Linear(84 * k, num_classes)]
        model = nn.Sequential(*layers)
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return model


def prepare(images, side):
    """Raw values, LeNet's scale: [B, C, H, W] centered in [B, C, side, side], from 64 enlarged."""
    if side < 64:
        margin = (side - images.shape[-1]) // 2
        images = F.pad(images, [margin] * 4).float()
    else:
        images = F.interpolate(images.float(), size=side, mode="bilinear")
    return images * (1.275 / 255) - 0.1


def crop_and_mirror(images, size):
    """Random crops [B, C, size, size], mirrored or not, without train.py's shift of the colors."""
    return random_flip(random_crop(images, size))


def fit(recipe):
    """Train and test the network of one rung; the Run."""
    large, augment = recipe.rung in LARGE, None
    side = size = 64 if large else 32
    if recipe.rung in ("crops", "dropout", "wide-crops"):
        side = 73 if large else 36  # to 64 or 32 about as 256 to 224
        augment = partial(crop_and_mirror, size=size)
    data = images.load(recipe, side)
    run = Run("AlexNet", recipe, **data.identity)
    train, validation, test = data.loaders(run.device, partial(prepare, side=side), augment)
    model = run.place(network(recipe.rung, data.channels, len(data.classes)))
    criterion, view = F.cross_entropy, partial(center_crop, size=size)
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
        run.validate(model, evaluate(model, validation, criterion, view))
    finish(run, model, data, test, criterion, view, pictures=False)
    return run


def ladder(recipe):
    """From LeNet-5, as it is built today, to AlexNet: one change a rung."""
    rungs = [recipe.rung] if recipe.rung else [*RUNGS]
    seeds = seeds_of(recipe, SEEDS)
    runs = {rung: [] for rung in rungs}
    for variant in in_turn(
        "The ladder", [recipe.but(rung=rung, seed=seed) for rung in rungs for seed in seeds]
    ):
        runs[variant.rung].append(fit(variant))
    if recipe.dry_run:
        return

    print("\nAccuracy on test images, %, mean and standard deviation; parameters")
    curves = {}
    for rung, own in runs.items():
        results = [run.result for run in own]
        accuracy = mean_and_spread([result["metrics"]["accuracy"] for result in results])
        print(f"{rung:<12} {accuracy}  {results[0]['parameters']:>9,}  {(RUNGS | BESIDE)[rung]}")
        curves[rung] = percent([[row["validation_accuracy"] for row in run.history] for run in own])
    every = sum(runs.values(), [])
    compare("AlexNet", recipe, every, {"": curves}, "validation accuracy, %")


EXPERIMENTS = {"ladder": (ladder, LADDER)}

if __name__ == "__main__":
    program(lambda: experiment(__doc__, EXPERIMENTS))
