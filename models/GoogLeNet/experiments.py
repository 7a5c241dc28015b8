"""Ask what accuracy costs: GoogLeNet, the same without reductions, and VGG, with equal arithmetic.

    python experiments.py budgets               all networks, with three seeds each
    python experiments.py budgets --network VGG one of them

It takes 36 minutes on one CPU core. `python experiments.py budgets --help` lists what can be
changed. Results go to checkpoints/GoogLeNet/; the same command goes on with what was stopped.
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
from harness.values import Positive
from harness.vision import principal_components
from model import GoogLeNet, check_number

import torch
import torch.nn.functional as F
from torch import nn
from train import augment, prepare

Network = Literal["GoogLeNet", "naive", "VGG", "VGG-32"]


@dataclass(frozen=True, kw_only=True)
class Budgets(images.Settings):
    """GoogLeNet's laptop recipe, shorter, without auxiliary classifiers and averaged weights."""

    lr: Positive | None = None  # not set: each network's of NETWORKS
    network: Network | None = None  # not set: all of NETWORKS
    width: Positive | None = None  # share of the paper's feature maps; not set: all of NETWORKS


BUDGETS = {"laptop": Budgets(data="fashion-mnist", epochs=3, batch_size=128)}
# Pixels of an image; the best rate of 0.01, 0.02 and 0.04, GoogLeNet's of 0.005 too, tried at 64
# pixels, 4 epochs and 20,000 images; widths for about 2 and 8 million multiply-accumulates.
NETWORKS = {
    "GoogLeNet": (64, 1e-2, (0.12, 0.25)),
    "naive": (64, 1e-2, (0.074, 0.1485)),  # without reductions, as Figure 2(a), but for its pooling
    "VGG": (64, 2e-2, (0.056, 0.113)),
    "VGG-32": (32, 2e-2, (0.11, 0.218)),
}
SEEDS = 3


def vgg(in_channels, num_classes, side, width):
    """VGG's configuration A, with its dropout, and Glorot's weights as GoogLeNet's: nn.Sequential.

    In: [B, in_channels, side, side], side a multiple of 32.
    """
    check_number(float, 0.008, width=width)  # below, a layer would be empty
    layers = []
    for full, count in ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2)):
        for _ in range(count):
            maps = round(width * full)
            layers += [nn.Conv2d(in_channels, maps, 3, padding=1), nn.ReLU()]
            in_channels = maps
        layers += [nn.MaxPool2d(2)]
    units = round(width * 4096)
    layers += [nn.Flatten(), nn.Linear(in_channels * (side // 32) ** 2, units)]
    layers += [nn.ReLU(), nn.Dropout(), nn.Linear(units, units), nn.ReLU(), nn.Dropout()]
    layers += [nn.Linear(units, num_classes)]
    for layer in layers:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def scores(outputs):
    """GoogLeNet gives a tuple in training."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def fit(recipe):
    """Train and test one network at one width; the Run."""
    side, *_ = NETWORKS[recipe.network]
    data = images.load(recipe, side)
    run = Run("GoogLeNet", recipe, **data.identity)
    mean, covariance = data.colors()
    mean, components = mean.to(run.device), principal_components(covariance).to(run.device)
    train, validation, test = data.loaders(
        run.device,
        partial(prepare, side=side, mean=mean),
        partial(augment, area=(0.9, 1.0), size=side, components=components),
    )
    sizes = data.channels, len(data.classes), side, recipe.width
    if recipe.network in ("GoogLeNet", "naive"):
        model = GoogLeNet(*sizes, aux=False, reduction=recipe.network == "GoogLeNet")
    else:
        model = vgg(*sizes)
    model = run.place(model)
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, momentum=0.9, weight_decay=2e-4)
    schedule = one_cycle(optimizer, recipe.lr, recipe.epochs * len(train))

    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        model.train()
        for inputs, labels in run.batches(train):
            found = scores(model(inputs))
            loss = F.cross_entropy(found, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            run.log(loss=loss, accuracy=found.argmax(1) == labels)
        run.validate(model, evaluate(model, validation))
    finish(run, model, data, test, pictures=False)
    return run


def budgets(recipe):
    """GoogLeNet, with and without reductions, and VGG's A under one recipe, each at two widths."""
    seeds = seeds_of(recipe, SEEDS)
    variants = [
        recipe.but(network=name, width=width, lr=recipe.lr or NETWORKS[name][1], seed=seed)
        for name in ([recipe.network] if recipe.network else NETWORKS)
        for width in ([recipe.width] if recipe.width else NETWORKS[name][2])
        for seed in seeds
    ]
    runs = {}
    for variant in in_turn("Budgets", variants):
        runs.setdefault((variant.network, variant.width), []).append(fit(variant))
    if recipe.dry_run:
        return

    print("\nWidth; multiply-accumulates; parameters; accuracy, %, training and test images")
    curves = {}
    for (name, width), own in runs.items():
        results = [run.result for run in own]
        fitted = mean_and_spread([run.history[-1]["train_accuracy"] for run in own])
        accuracy = mean_and_spread([result["metrics"]["accuracy"] for result in results])
        costs = f"{results[0]['macs']:>10,}  {results[0]['parameters']:>7,}"
        print(f"{name:<15} {width:<6g}  {costs}  {fitted}  {accuracy}")
        found = [[row["validation_accuracy"] for row in run.history] for run in own]
        curves[f"{name}, width {width:g}"] = percent(found)
    compare("GoogLeNet", recipe, sum(runs.values(), []), {"": curves}, "validation accuracy, %")


EXPERIMENTS = {"budgets": (budgets, BUDGETS)}

if __name__ == "__main__":
    program(lambda: experiment(__doc__, EXPERIMENTS))
