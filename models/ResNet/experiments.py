"""Show what shortcuts are for.

    python experiments.py degradation    plain and residual networks of 8 to 56 layers: which depth
                                         still trains, and what the layers and gradients look like
    python experiments.py ablations      32 layers: shortcuts A, B and C; half a shortcut;
                                         pre-activation; no batch normalization

Each takes up to half an hour on two CPU cores. `python experiments.py degradation --help` lists
what can be changed. Results go to checkpoints/ResNet/; the same command goes on with what was
stopped.
"""

import copy
from dataclasses import dataclass
from typing import Literal

from harness.compare import (
    compare,
    experiment,
    in_turn,
    mean_and_spread,
    need_some,
    need_whole_batches,
    seeds_of,
    unless_diverged,
)
from harness.errors import program
from harness.values import Count

import torch.nn.functional as F
import train
from torch import nn

Network = Literal["A", "B", "C", "half", "preactivation", "no-norm"]


@dataclass(frozen=True, kw_only=True)
class Deep(train.Recipe):
    """Narrow networks on images of 14x14 pixels, so that 56 layers take minutes."""

    depth: Count | None = None  # layers, 6n + 2; not set: 8, 20, 32 and 56
    shortcut: Literal["A", "B", "C", "none"] | None = None  # not set: none, and A


@dataclass(frozen=True, kw_only=True)
class Ablated(train.Recipe):
    """Narrow networks of one depth, each with one thing changed."""

    network: Network | None = None  # not set: all of NETWORKS


NARROW = {
    "data": "fashion-mnist",
    "epochs": 6,  # 1,200 steps
    "batch_size": 128,
    "lr": 3e-2,  # the best for 56 plain layers, of 0.01, 0.03, 0.1 and 0.3
    "limit": 25_600,
    "side": 14,
    "image_size": 14,
    "width": 0.5,
}
DEGRADATION = {"laptop": Deep(**NARROW)}
ABLATIONS = {"laptop": Ablated(**NARROW, depth=32)}
DEPTHS = (8, 20, 32, 56)
SHORTCUTS = ("none", "A")
NETWORKS = {  # what is different from the residual networks of degradation
    "A": {"shortcut": "A"},
    "B": {"shortcut": "B"},
    "C": {"shortcut": "C"},
    "half": {"shortcut_scale": 0.5},
    "preactivation": {"preactivation": True},
    "no-norm": {"norm": False, "lr": 1e-5},  # or another --lr than 0.03; with 1e-3 it diverges
}
SEEDS = 3


def probe(run, model, train, validation):
    """How signals and gradients go through a network: {column of history.csv: number}.

    On a batch of validation images, in training mode. response_<i>: the standard deviation of what
    the i-th normalization gives, before ReLU and addition (Figure 7). gradient_<i>: the length of
    the loss's gradient with respect to the i-th convolution's weights, as a multiple of their
    length. Those in shortcuts are left out.
    """
    model = copy.deepcopy(model).train()  # a copy: running statistics change
    layers = [layer for name, layer in model.named_modules() if "shortcut" not in name]
    responses, found = [], {}
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(lambda _, __, y: responses.append(y.float().std().item()))
    inputs, labels = next(iter(validation))
    F.cross_entropy(model(inputs), labels).backward()
    weights = [layer.weight for layer in layers if isinstance(layer, nn.Conv2d)]
    for i, weight in enumerate(weights, start=1):
        found[f"gradient_{i}"] = (weight.grad.norm() / weight.norm()).item()
    return found | {f"response_{i}": deviation for i, deviation in enumerate(responses, start=1)}


def race(title, recipe, panels):
    """Train networks with SEEDS seeds each, print what they come to, and write every point.

    panels: {title: {label: Settings}}, for the curves. A network that diverges is left out.
    """
    recipe.refuse_idle(views=True, test_scales=True)  # what is compared was not tested
    need_whole_batches(recipe)
    seeds = seeds_of(recipe, SEEDS)
    variants = {
        settings.but(seed=seed): (panel, label)
        for panel, networks in panels.items()
        for label, settings in networks.items()
        for seed in seeds
    }
    runs = {}
    for variant in in_turn(title, [*variants]):
        if run := unless_diverged(train.fit, variant, probe):
            runs.setdefault(variants[variant], []).append(run)
    if recipe.dry_run:
        return
    need_some(runs)
    columns = ("train_loss", "train_accuracy", "validation_accuracy", "gradient_1")
    print(f"\n{'In the last epoch':<22}", *(f"{name.replace('_', ' '):>21}" for name in columns))
    curves = {panel: {} for panel, _ in runs}
    for (panel, label), own in runs.items():
        cells = (mean_and_spread([run.history[-1][name] for run in own], 1, 3) for name in columns)
        print(f"{f'{panel}, {label}':<22}", *(f"{cell:>21}" for cell in cells))
        curves[panel][label] = [[row["train_loss"] for row in run.history] for run in own]
    compare("ResNet", recipe, sum(runs.values(), []), curves, "training loss")


def degradation(recipe):
    """Deeper plain networks train worse, deeper residual networks do not (Figure 6)."""
    depths = [recipe.depth] if recipe.depth else DEPTHS
    shortcuts = [recipe.shortcut] if recipe.shortcut else SHORTCUTS
    panels = {
        "plain" if shortcut == "none" else "residual": {
            f"{depth} layers": recipe.but(depth=depth, shortcut=shortcut) for depth in depths
        }
        for shortcut in shortcuts
    }
    race("Degradation", recipe, panels)


def ablations(recipe):
    """What else could be done with shortcuts, and without batch normalization."""
    compared = ("shortcut", "shortcut_scale", "preactivation", "norm")  # by --network
    recipe.refuse_idle(**dict.fromkeys(compared, True))
    names = [recipe.network] if recipe.network else NETWORKS
    given = {"lr": recipe.lr} if recipe.lr != ABLATIONS["laptop"].lr else {}
    networks = {name: recipe.but(network=name, **NETWORKS[name] | given) for name in names}
    race("Ablations", recipe, {f"{recipe.depth} layers": networks})


EXPERIMENTS = {"degradation": (degradation, DEGRADATION), "ablations": (ablations, ABLATIONS)}

if __name__ == "__main__":
    program(lambda: experiment(__doc__, EXPERIMENTS))
