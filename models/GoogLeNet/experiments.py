"""Ask what accuracy costs: GoogLeNet and VGG, at several widths, with equal arithmetic.

    python experiments.py budgets               all networks, with three seeds each
    python experiments.py budgets --network VGG one of them

It takes an hour or two on one CPU core. `python experiments.py budgets --help` lists what can be
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

Network = Literal["GoogLeNet", "VGG", "VGG-average", "VGG-32"]


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
    "VGG": (64, 2e-2, (0.056, 0.113)),
    "VGG-average": (64, 2e-2, (0.057, 0.115)),  # global average pooling, for its hidden layers
    "VGG-32": (32, 2e-2, (0.11, 0.218)),
}
SEEDS = 3
PIXELS = (0, 2, 4, 6)  # that images are moved by after training


def vgg(in_channels, num_classes, side, width, average=False):
    """VGG's configuration A, with its dropout, and Glorot's weights as GoogLeNet's: nn.Sequential.

    In: [B, in_channels, side, side], side a multiple of 32. average: in place of the two hidden
    layers, the mean of each feature map.
    """
    check_number(float, 0.008, width=width)  # below, a layer would be empty
    layers = []
    for full, count in ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2)):
        for _ in range(count):
            maps = round(width * full)
            layers += [nn.Conv2d(in_channels, maps, 3, padding=1), nn.ReLU()]
            in_channels = maps
        layers += [nn.MaxPool2d(2)]
    if average:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes)]
    else:
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
    if recipe.network == "GoogLeNet":
        model = GoogLeNet(*sizes, aux=False)
    else:
        model = vgg(*sizes, average=recipe.network == "VGG-average")
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


def accuracies(run):
    """The accuracy of a finished run on validation images moved to the right by each of PIXELS."""
    side, *_ = NETWORKS[run.settings.network]
    data = images.load(run.settings, side)
    mean, _ = data.colors()

    def look(images, pixels):
        moved = F.pad(images, (pixels, -pixels))  # what comes in from the left is background
        return prepare(moved, side, mean.to(images.device))

    found = []
    for pixels in PIXELS:
        _, validation, _ = data.loaders(run.device, partial(look, pixels=pixels))
        found.append(evaluate(run.model, validation)["accuracy"])
    return found


def budgets(recipe):
    """GoogLeNet and VGG's A under one recipe, each at two widths: accuracy against arithmetic."""
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

    print("\nWidth; multiply-accumulates; parameters; accuracy, %, training and test images, and")
    print(f"validation images, moved to the right by {PIXELS} pixels")
    curves = {}
    for (name, width), own in runs.items():
        results = [run.result for run in own]
        fitted = mean_and_spread([run.history[-1]["train_accuracy"] for run in own])
        accuracy = mean_and_spread([result["metrics"]["accuracy"] for result in results])
        costs = f"{results[0]['macs']:>10,}  {results[0]['parameters']:>7,}"
        moved = "  ".join(map(mean_and_spread, zip(*map(accuracies, own))))
        print(f"{name:<15} {width:<5g}  {costs}  {fitted}  {accuracy}    {moved}")
        found = [[row["validation_accuracy"] for row in run.history] for run in own]
        curves[f"{name}, width {width:g}"] = percent(found)
    compare("GoogLeNet", recipe, sum(runs.values(), []), {"": curves}, "validation accuracy, %")


EXPERIMENTS = {"budgets": (budgets, BUDGETS)}

if __name__ == "__main__":
    program(lambda: experiment(__doc__, EXPERIMENTS))
