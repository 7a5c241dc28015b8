"""Put batch normalization to the test.

    python experiments.py figure1        a small network with and without it, over 50,000 steps
    python experiments.py figure1 --recipe paper
                                         the same on MNIST in black and white, as in the paper
    python experiments.py figure2        GoogLeNet with and without, at learning rates up to 30-fold
    python experiments.py rates          GoogLeNet with and without, at rates from 0.01 to 1
    python experiments.py dangers        batches of two; and evaluation mode forgotten

figure1 and figure2 are the paper's, at laptop size (4.1, 4.2); in rates, all else stays the same;
dangers shows where it goes wrong. rates takes 33 minutes on one CPU core; figure1, figure2 and
dangers take 12, 42 and 3 on two. `python experiments.py figure1 --help` lists what can be changed.
Results go to checkpoints/BatchNorm/; the same command goes on with what was stopped.
"""

import copy
import math
import statistics
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from harness import images
from harness.checkpoint import random_state, set_random_state
from harness.classification import evaluate, finish
from harness.compare import (
    compare,
    experiment,
    in_turn,
    mean_and_spread,
    need_whole_batches,
    percent,
    seeds_of,
    unless_diverged,
)
from harness.errors import Diverged, program
from harness.run import Run
from harness.schedule import constant
from harness.values import Count, Positive
from harness.vision import resize
from model import MLP

import torch
import torch.nn.functional as F
import train

Network = Literal["Inception", "BN-Baseline", "BN-x5", "BN-x30", "BN-x5-Sigmoid", "Inception-decay"]


@dataclass(frozen=True, kw_only=True)
class Small(images.Settings):
    """The network of section 4.1. The weights of the last epoch are tested: nothing is chosen."""

    batch_size: Count | None  # images a step; not set (dangers): all of SIZES
    norm: Literal["batch", "torch", "none"] | None = None  # not set: with and without
    pixels: Literal["gray", "binary"] = "gray"  # binary: black and white, as in the paper

    chooses: ClassVar[str | None] = None


@dataclass(frozen=True, kw_only=True)
class Large(train.Recipe):
    """GoogLeNet as in section 4.2."""

    lr: Positive  # of Inception at the start; the networks named x5 and x30 have so many times it
    network: Network | None = None  # not set: all of NETWORKS


@dataclass(frozen=True, kw_only=True)
class Rates(train.Recipe):
    """The laptop recipe, shorter, without auxiliary classifiers and averaged weights."""

    lr: Positive | None = None  # not set: all of RATES
    norm: Literal["batch", "torch", "none"] | None = None  # not set: with and without


# 50,435 steps of 60 images; the paper has 50,000.
FIGURE_1 = {"laptop": Small(data="fashion-mnist", epochs=55, batch_size=60, lr=0.1)}
FIGURE_1["paper"] = replace(FIGURE_1["laptop"], data="mnist", pixels="binary")
GOOGLENET = {  # as in the laptop recipe, without averaged weights and auxiliary classifiers
    "data": "fashion-mnist",
    "batch_size": 128,
    "side": 64,
    "area": (0.9, 1.0),
    "image_size": 64,
    "width": 0.25,
    "averaging": 0.0,
    "aux": False,
}
# The rate of the network without normalization: good for it, of 0.0025 to 0.04.
FIGURE_2 = {"laptop": Large(**GOOGLENET, epochs=8, lr=1e-2)}
RATES_RECIPE = {"laptop": Rates(**GOOGLENET, epochs=3, limit=20_000)}
DANGERS = {"laptop": Small(data="fashion-mnist", epochs=2, batch_size=None, lr=0.1)}
SEEDS = 3
# GoogLeNet's, but for a rate that falls every epoch, not every eight: there are few.
BEFORE = {"lrn": True, "dropout": 0.4, "weight_decay": 2e-4, "decay_every": 1}
AFTER = {"lrn": False, "dropout": 0.0, "weight_decay": 4e-5, "decay_every": 1 / 6}  # (4.2.1)
NETWORKS = {  # how many times the learning rate; what else (4.2.2)
    "Inception": (1, {"norm": "none", **BEFORE}),
    "BN-Baseline": (1, {"norm": "torch", **BEFORE}),
    "BN-x5": (5, {"norm": "torch", **AFTER}),
    "BN-x30": (30, {"norm": "torch", **AFTER}),
    "BN-x5-Sigmoid": (5, {"norm": "torch", **AFTER, "activation": "sigmoid"}),
    # Ours: whether it is the rate's faster fall that helps.
    "Inception-decay": (1, {"norm": "none", **BEFORE, "decay_every": AFTER["decay_every"]}),
}
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
TIMES = (1, 5, 30, 150)  # the learning rate of figure2, for predictiveness()
SIZES = (2, 8, 60)  # of the batches in dangers, in training and with evaluation mode forgotten


def prepare(images, pixels):
    """Raw values [B, C, H, W] to [B, C, 28, 28], from 0 to 1; or 0 and 1, where "binary"."""
    images = F.adaptive_avg_pool2d(images.float(), 28)
    return (images > 127).float() if pixels == "binary" else images / 255


def sigmoids(recipe, measure):
    """A run of the network of 4.1: stochastic gradient descent, at one rate from end to end.

    measure(run, model, train, validation, test): further numbers for history.csv, after an epoch.
    """
    data = images.load(recipe, side=28)
    run = Run("BatchNorm", recipe, **data.identity)
    loaders = data.loaders(run.device, partial(prepare, pixels=recipe.pixels), smallest=2)
    loader, validation, test = loaders
    model = run.place(MLP(len(data.classes), data.channels * 28**2, recipe.norm))
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr)
    schedule = constant(optimizer)
    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        model.train()
        for inputs, labels in run.batches(loader):
            (scores,) = model(inputs)
            loss = F.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            run.log(loss=loss, accuracy=scores.argmax(1) == labels)
        measured = measure(run, model, *loaders)
        run.validate(model, evaluate(model, validation), **measured)
    finish(run, model, data, test, pictures=False)
    return run


@torch.inference_mode()
def progress(run, model, train, validation, test):
    """What Figure 1 shows: {column of history.csv: number}.

    step; test_accuracy; unit_15, unit_50, unit_85: percentiles, over the validation images, of
    what the first sigmoid of the last hidden layer is given.
    """
    tested = evaluate(model, test)  # for the curve alone: nothing is chosen by it
    sums = []
    hook = model.fc3.norm.register_forward_hook(lambda _, __, output: sums.append(output[:, 0]))
    evaluate(model, validation)
    hook.remove()
    levels = torch.tensor([0.15, 0.5, 0.85], device=run.device)
    percentiles = torch.cat(sums).quantile(levels).tolist()
    found = {"step": run.epoch * len(train), "test_accuracy": tested["accuracy"]}
    return found | dict(zip(("unit_15", "unit_50", "unit_85"), percentiles))


def figure1(recipe):
    """Figure 1 of the paper: three layers of sigmoids with and without normalization."""
    seeds = seeds_of(recipe, SEEDS)
    norms = [recipe.norm] if recipe.norm else ["none", "batch"]
    variants = [recipe.but(norm=norm, seed=seed) for norm in norms for seed in seeds]
    runs = [sigmoids(variant, progress) for variant in in_turn("Figure 1", variants)]
    if recipe.dry_run:
        return
    curves = {}
    for run in runs:
        curve = [100 * row["test_accuracy"] for row in run.history]
        curves.setdefault(f"norm {run.settings.norm}", []).append(curve)
    print("\nTest accuracy, %, by seed and on average: after the first epoch; after the last")
    for label, own in curves.items():
        print(label, *(spread([curve[at] for curve in own]) for at in (0, -1)), sep="   ")
    compare("BatchNorm", recipe, runs, {"": curves}, "test accuracy, %")


def spread(values):
    return f"{', '.join(f'{value:.2f}' for value in values)}; {statistics.mean(values):.2f}"


def predictiveness(run, model, train, validation, rates, size=None):
    """How far the gradient can be trusted: {column of history.csv: number}.

    step; and for a step along it at each of several learning rates, {name: rate}, on some images,
    which are brought to `size`:
    fall: of their loss, as a share of what the gradient promises, which is rate * |gradient|^2.
    turn: the cosine between their gradients before and after. 0 where a gradient is 0.
    """
    inputs, labels = next(iter(validation))
    inputs = resize(inputs, size) if size else inputs
    model = copy.deepcopy(model).train()
    parameters = [*model.parameters()]
    start = [p.detach().clone() for p in parameters]

    def look():
        state = random_state(run.device)
        torch.manual_seed(0)  # the same units are dropped each time
        loss = F.cross_entropy(model(inputs)[0], labels)
        set_random_state(state, run.device)
        return loss.item(), torch.autograd.grad(loss, parameters)

    def product(one, other):
        return sum((a * b).sum().item() for a, b in zip(one, other))

    def share(part, whole):
        return part / whole if whole else 0.0

    loss, gradient = look()
    square = product(gradient, gradient)
    found = {"step": run.epoch * len(train)}
    for name, rate in rates.items():
        with torch.no_grad():
            for p, before, g in zip(parameters, start, gradient):
                p.copy_(before - rate * g)
        after, turned = look()
        lengths = math.sqrt(square * product(turned, turned))
        found[f"fall_{name}"] = share(loss - after, rate * square)
        found[f"turn_{name}"] = share(product(gradient, turned), lengths)
    return found


def figure2(recipe):
    """Figure 2 of the paper, and its table: GoogLeNet with and without, at three learning rates.

    NETWORKS has each network's norm, lrn, dropout, weight decay, decay and, of one, activation.
    """
    recipe.refuse_idle(**dict.fromkeys(("norm", *BEFORE), True))
    need_whole_batches(recipe)
    lengths = {f"x{times}": times * recipe.lr for times in TIMES}
    measure = partial(predictiveness, rates=lengths, size=recipe.image_size)
    runs = {}
    variants = []
    for name in [recipe.network] if recipe.network else NETWORKS:
        times, settings = NETWORKS[name]
        variants.append(recipe.but(network=name, lr=times * recipe.lr, **settings))
    for variant in in_turn("Figure 2", variants):
        if run := unless_diverged(train.fit, variant, measure):
            runs[variant.network] = run
    if recipe.dry_run or recipe.network:  # one network alone is compared to nothing
        return
    level = max(accuracies(runs["Inception"])) if "Inception" in runs else 0
    if not level:
        raise Diverged("Inception has learned nothing: there is nothing to compare the others to")
    print(f"\nSteps to {level:.2%} of the validation images, Inception's best; the best of each")
    reference = steps_to(runs["Inception"].history, level)
    for name, run in runs.items():
        steps = steps_to(run.history, level)
        words = f"{steps:>6,.0f} ({reference / steps:.1f} times as fast)" if steps else "never"
        print(f"{name:<15}  {words:<25}  {max(accuracies(run)):.2%}")
    curves = {name: percent([accuracies(run)]) for name, run in runs.items()}
    compare("BatchNorm", recipe, [*runs.values()], {"": curves}, "validation accuracy, %")


def rates(recipe):
    """GoogLeNet with and without batch normalization at rates from 0.01 to 1, all else the same."""
    seeds = seeds_of(recipe, SEEDS)
    variants = [
        recipe.but(norm=norm, lr=lr, seed=seed)
        for norm in ([recipe.norm] if recipe.norm else ("none", "torch"))
        for lr in ([recipe.lr] if recipe.lr else RATES)
        for seed in seeds
    ]
    runs = {(variant.norm, variant.lr): [] for variant in variants}
    for variant in in_turn("Rates", variants):
        if run := unless_diverged(train.fit, variant):
            runs[variant.norm, variant.lr].append(run)
    if recipe.dry_run:
        return
    print("\nLast epoch: training loss of each seed; validation accuracy, %, mean and spread")
    panels = {}
    for (norm, lr), own in runs.items():
        losses = ", ".join(f"{run.history[-1]['train_loss']:.3f}" for run in own)
        lost = f"{len(seeds) - len(own)} of {len(seeds)} diverged" if len(own) < len(seeds) else ""
        ends = mean_and_spread([accuracies(run)[-1] for run in own]) if own else ""
        print("  ".join(filter(None, [f"norm {norm:<5}  lr {lr:<5g}", losses, ends, lost])))
        if own:
            curves = percent([accuracies(run) for run in own])
            panels.setdefault(f"norm {norm}", {})[f"lr {lr:g}"] = curves
    compare("BatchNorm", recipe, sum(runs.values(), []), panels, "validation accuracy, %")


def accuracies(run):
    return [row["validation_accuracy"] for row in run.history]


def steps_to(history, level):
    """How many steps a run takes to a validation accuracy; None if it never has it.

    Between two epochs, and before the first, where it is 0, accuracy is a straight line.
    """
    step = accuracy = 0
    for row in history:
        rise, steps = row["validation_accuracy"] - accuracy, row["step"] - step
        if row["validation_accuracy"] >= level:
            return step + steps * (level - accuracy) / rise
        step, accuracy = row["step"], row["validation_accuracy"]
    return None


@torch.inference_mode()
def forgotten(run, model, train, validation, test):
    """Accuracy on validation images in training mode: {column of history.csv: number}.

    training_<size>: on so many images at once; training_sorted: 60 at once, sorted by class.
    """
    inputs, labels = (torch.cat(parts) for parts in zip(*validation))
    order = labels.argsort(stable=True)
    found = {
        f"training_{size}": accuracy_in_training(model, inputs, labels, size) for size in SIZES
    }
    found["training_sorted"] = accuracy_in_training(model, inputs[order], labels[order], 60)
    return found


def accuracy_in_training(model, images, labels, size):
    """The accuracy on images given in batches of a size, to a model in training mode."""
    model = copy.deepcopy(model).train()  # whose running statistics would change
    right = [
        model(some)[0].argmax(1) == true
        for some, true in zip(images.split(size), labels.split(size))
        if len(some) > 1
    ]
    return torch.cat(right).float().mean().item()


def dangers(recipe):
    """Where batch normalization goes wrong: small batches, and evaluation mode forgotten."""
    sizes = [recipe.batch_size] if recipe.batch_size else SIZES
    norms = [recipe.norm] if recipe.norm else ["none", "batch"]
    variants = [recipe.but(batch_size=size, norm=norm) for size in sizes for norm in norms]
    runs = [sigmoids(variant, forgotten) for variant in in_turn("Dangers", variants)]
    if recipe.dry_run:
        return
    modes = [*(f"training_{size}" for size in SIZES), "training_sorted"]
    print("\nAccuracy on the validation images, %, in evaluation mode, and in training mode")
    print(f"{'':<30}", *(f"{mode:>15}" for mode in ("evaluation", *modes)))
    curves = {}
    for run in runs:
        title = f"norm {run.settings.norm}, batches of {run.settings.batch_size}"
        found = [run.history[-1][column] for column in ("validation_accuracy", *modes)]
        print(f"{title:<30}", *(f"{100 * value:>15.2f}" for value in found))
        curves[title] = percent([accuracies(run)])
    compare("BatchNorm", recipe, runs, {"": curves}, "validation accuracy, %")


EXPERIMENTS = {
    "figure1": (figure1, FIGURE_1),
    "figure2": (figure2, FIGURE_2),
    "rates": (rates, RATES_RECIPE),
    "dangers": (dangers, DANGERS),
}

if __name__ == "__main__":
    program(lambda: experiment(__doc__, EXPERIMENTS))
