"""Ask whether depth and small filters pay, on clothes that are turned by any angle.

    python experiments.py depth              8 to 19 layers, 3x3 and 5x5, with three seeds each
    python experiments.py depth --no-turned  the same on clothes as they are

It takes 33 minutes on one CPU core. `python experiments.py depth --help` lists what can be
changed. Results go to checkpoints/VGG/; the same command goes on with what was stopped.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from harness import images
from harness.classification import evaluate, finish
from harness.compare import compare, experiment, in_turn, mean_and_spread, percent, seeds_of
from harness.errors import program
from harness.run import Run
from harness.schedule import one_cycle
from harness.values import Positive
from model import CONFIGURATIONS, VGG

import torch
import torch.nn.functional as F
from train import prepare

Config = Literal["F", "S", "A", "B", "D", "E"]


@dataclass(frozen=True, kw_only=True)
class Depth(images.Settings):
    """The laptop recipe, but for its width, its length and its augmentation."""

    width: Positive  # share of the paper's feature maps and units
    config: Config | None = None  # column of Table 1, or of CONTROLS; not set: all of CONFIGS
    turned: bool = True  # the clothes, by any angle, and moved by up to a tenth of the image


DEPTH = {"laptop": Depth(data="fashion-mnist", epochs=6, batch_size=128, lr=3e-2, width=0.125)}
CONTROLS = {
    "F": ((5,),) * 5,  # the paper's control: a 5x5 in place of each pair of 3x3 in B (4.1)
    "S": ((3,),) * 5,  # shallow: one 3x3 a block, so 8 layers with the last three
}
CONFIGURATIONS |= CONTROLS
CONFIGS = ("F", "S", "A", "B", "D", "E")
SIDE = 32  # pixels
SEEDS = 3


def turn(images, background, random=None):
    """Images [B, C, H, H] turned by random angles and moved by up to a tenth of H each way.

    They are made 1.15 times smaller, so that less is cut off. background: [C], of what comes in.
    random: a torch.Generator; None for PyTorch's own.
    """
    count = len(images)
    draws = torch.rand(count, 3, generator=random).to(images.device)
    angles, shifts = 2 * math.pi * draws[:, 0], 0.4 * draws[:, 1:] - 0.2  # H is 2 long in a grid
    cosines, sines = 1.15 * angles.cos(), 1.15 * angles.sin()
    rows = torch.stack([cosines, -sines, sines, cosines], 1).view(count, 2, 2)
    grid = F.affine_grid(
        torch.cat([rows, shifts[:, :, None]], 2), images.shape, align_corners=False
    )
    background = background[:, None, None]
    return F.grid_sample(images - background, grid, align_corners=False) + background


def view(model, images, background):
    """Scores of images turned by the same draws in every batch and every run."""
    return model(turn(images, background, torch.Generator().manual_seed(0)))


def fit(recipe):
    """Train and test one network; the Run."""
    data = images.load(recipe, SIDE)
    run = Run("VGG", recipe, **data.identity)
    mean = data.colors()[0].to(run.device)
    turned = {"background": -mean} if recipe.turned else None
    train, validation, test = data.loaders(
        run.device,
        partial(prepare, side=SIDE, mean=mean),
        partial(turn, **turned) if turned else None,
    )
    model = run.place(VGG(data.channels, len(data.classes), SIDE, recipe.width, recipe.config))
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, momentum=0.9, weight_decay=5e-4)
    schedule = one_cycle(optimizer, recipe.lr, recipe.epochs * len(train))
    scores_of = partial(view, **turned) if turned else None

    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        model.train()
        for inputs, labels in run.batches(train):
            scores = model(inputs)
            loss = F.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            run.log(loss=loss, accuracy=scores.argmax(1) == labels)
        run.validate(model, evaluate(model, validation, scores_of=scores_of))
    finish(run, model, data, test, scores_of=scores_of, pictures=False)
    return run


def depth(recipe):
    """Networks of 8 to 19 layers under one recipe: is the deeper one the better one?"""
    seeds = seeds_of(recipe, SEEDS)
    runs = {config: [] for config in ([recipe.config] if recipe.config else CONFIGS)}
    variants = [recipe.but(config=config, seed=seed) for config in runs for seed in seeds]
    for variant in in_turn("Depth", variants):
        runs[variant.config].append(fit(variant))
    if recipe.dry_run:
        return

    print("\nMean and standard deviation, %: training accuracy, last epoch; test accuracy")
    curves = {}
    for config, own in runs.items():
        fitted = mean_and_spread([run.history[-1]["train_accuracy"] for run in own])
        tested = mean_and_spread([run.result["metrics"]["accuracy"] for run in own])
        print(f"{config}  {fitted}  {tested}")
        curves[config] = percent(
            [[row["validation_accuracy"] for row in run.history] for run in own]
        )
    compare("VGG", recipe, sum(runs.values(), []), {"": curves}, "validation accuracy, %")


EXPERIMENTS = {"depth": (depth, DEPTH)}

if __name__ == "__main__":
    program(lambda: experiment(__doc__, EXPERIMENTS))
