"""Put the rectifier to the test.

    python experiments.py depth              sigmoid, tanh and ReLU in 2 to 16 plain layers: which
                                             depth still trains?
    python experiments.py activation         four activations race in a four-layer network
    python experiments.py activation --lr 0.003
                                             all at one learning rate, none tried out before
    python experiments.py activation --recipe paper
                                             the same race at full width, on CIFAR-10
    python experiments.py scaled             the race with scaled pixels and weights
    python experiments.py dead               ReLU, leaky ReLU and GELU at rates too high
    python experiments.py classifier         ReLU or softmax at the output
    python experiments.py classifier --recipe paper
                                             ten folds of 32 epochs, as in Agarap's code

They take 10, 12, 12, 3 and 15 minutes on two CPU cores. `python experiments.py dead --help` lists
what can be changed. Results go to checkpoints/ReLU/; the same command goes on with what was
stopped.
"""

import dataclasses
import math
import statistics
from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar, Literal

from harness import images
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
from harness.errors import Refusal, program
from harness.run import Run
from harness.schedule import constant
from harness.values import Count, Positive, Share
from networks import CNN, FFNN, ConvNet, Plain

import torch
import torch.nn.functional as F
from train import prepare

Activation = Literal["relu", "squash", "tanh", "sigmoid", "leaky", "gelu"]


@dataclass(frozen=True, kw_only=True)
class Race(images.Settings):
    """Figure 1 of the AlexNet paper; what the network was, and the rest, it does not say."""

    lr: Positive | None = None  # not set: each activation its best of RATES (dead: all of TOO_HIGH)
    activation: Activation | None = None  # not set: all that are compared
    width: Positive  # of the network; 1: 32, 32 and 64 feature maps
    start: Literal["fixed", "scaled"] = "fixed"  # of the weights; with it the scale of the pixels
    error: Share  # of the training images, that the race is to (not dead)


@dataclass(frozen=True, kw_only=True)
class Depths(images.Settings):
    """Plain networks, each with the initial weights that suit its activation."""

    lr: Positive | None = None  # not set: each network its best of DEPTH_RATES
    depth: Count | None = None  # layers of weights; not set: all of DEPTHS
    activation: Literal["sigmoid", "tanh", "relu"] | None = None  # not set: all of them
    width: Count = 128  # units of a hidden layer


@dataclass(frozen=True, kw_only=True)
class Folds(images.Settings):
    """Agarap's comparison. The accuracy is that of the last epoch: nothing is chosen."""

    folds: Count  # parts of the training images, each of which validates once
    fold: Count | None = None  # not set: all of them, one after the other
    network: Literal["cnn", "ffnn"] | None = None  # not set: both
    classifier: Literal["relu", "softmax"] | None = None  # not set: both
    reset: bool = True  # a new model for every fold; without, only the one that goes through all

    chooses: ClassVar[str | None] = None


LAPTOP = Race(data="fashion-mnist", epochs=9, batch_size=128, width=0.25, error=0.14)
PAPER = Race(data="cifar10", epochs=40, batch_size=128, width=1.0, error=0.25)
RACE = {"laptop": LAPTOP, "paper": PAPER}
SCALED = {name: dataclasses.replace(recipe, start="scaled") for name, recipe in RACE.items()}
DEAD = {"laptop": dataclasses.replace(LAPTOP, start="scaled", epochs=5)}
DEPTH = {"laptop": Depths(data="fashion-mnist", epochs=5, batch_size=128)}
AGARAP = Folds(data="fashion-mnist", epochs=10, batch_size=256, lr=1e-3, folds=5)
CLASSIFIER = {"laptop": AGARAP, "paper": dataclasses.replace(AGARAP, epochs=32, folds=10)}
COMPARED = ("relu", "squash", "tanh", "sigmoid")
SUCCESSORS = ("relu", "leaky", "gelu")
TOO_HIGH = (0.03, 0.1, 0.2, 0.3)
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
DEPTHS = (2, 4, 8, 16)
PARTS = ("train", "validation")
PLAIN = ("sigmoid", "tanh", "relu")
DEPTH_RATES = (*RATES, 0.3)
SEEDS = 3
IMAGES = 55_000  # of Fashion-MNIST, which the finals are run on
PART = 0.25  # of them or of --limit, that each rate is tried on, with one seed


# Which rate?


def tried(train, recipe, networks, rates):
    """Train each of some networks at each rate, on PART of the images, with one seed.

    networks: dicts of settings. The Runs, and for each network {rate: the last training loss}.
    """
    limit = math.ceil(PART * (recipe.limit or IMAGES))
    rates = rates[: 1 if recipe.dry_run else None]
    trials = [(i, lr) for i in range(len(networks)) for lr in rates]
    variants = [recipe.but(**networks[i], lr=lr, limit=limit) for i, lr in trials]
    runs, losses = [], [dict.fromkeys(rates, math.inf) for _ in networks]
    for (i, lr), variant in zip(trials, in_turn("Trial of a rate", variants)):
        if run := unless_diverged(train, variant):
            runs.append(run)
            losses[i][lr] = run.history[-1]["train_loss"]
    return runs, losses


# Depth


def deep(recipe):
    """One run of Plain: stochastic gradient descent at one rate, nothing that regularizes."""
    need_whole_batches(recipe)
    data = images.load(recipe, side=32)
    run = Run("ReLU", recipe, **data.identity)
    train, validation, _ = data.loaders(run.device, prepare)
    knobs = recipe.depth, recipe.width, recipe.activation
    model = run.place(Plain(data.channels, len(data.classes), *knobs))
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, momentum=0.9)
    before = partial(measure, model, *next(iter(validation)))
    fit(run, model, (train, validation), F.cross_entropy, optimizer, before)
    run.finish(model)  # it is about training: nothing is tested
    return run


def depth(recipe):
    """Sigmoid, tanh and ReLU in plain networks of 2 to 16 layers, each at its best rate."""
    networks = [
        {"activation": name, "depth": layers}
        for name in ([recipe.activation] if recipe.activation else PLAIN)
        for layers in ([recipe.depth] if recipe.depth else DEPTHS)
    ]
    runs, losses = [], [{recipe.lr: 0}] * len(networks)
    if not recipe.lr:
        runs, losses = tried(deep, recipe, networks, DEPTH_RATES)
    seeds = seeds_of(recipe, SEEDS)
    finals = [
        recipe.but(**network, lr=min(found, key=found.get), seed=seed)
        for network, found in zip(networks, losses)
        for seed in seeds
    ]
    ends, panels = {}, {name: {} for name in PLAIN}
    for final in in_turn("Training on all images", finals):
        run = unless_diverged(deep, final)
        if run:
            runs.append(run)
            ends.setdefault((final.activation, final.depth), []).append(run)
    if recipe.dry_run:
        return

    print("\nLast epoch, mean ± spread: training loss, training and validation accuracy, %")
    for (name, layers), own in ends.items():
        last = [run.history[-1] for run in own]
        words = [mean_and_spread([row["train_loss"] for row in last], 1, 3)]
        words += [mean_and_spread([row[f"{part}_accuracy"] for row in last]) for part in PARTS]
        print(f"{name:<8} {layers:>2} layers, lr {own[0].settings.lr:<6g}", *words, sep="  ")
        curves = [[1 - row["train_accuracy"] for row in run.history] for run in own]
        panels[name][f"{layers} layers"] = percent(curves)
    panels = {name: curves for name, curves in panels.items() if curves}
    compare("ReLU", recipe, runs, panels, "training error, %")


# The race


def raw(images, mean):
    """Center the images in 32x32, not scaled: from 0 to 255, less the mean color [C] (AlexNet)."""
    margin = (32 - images.shape[-1]) // 2
    return F.pad(images, [margin] * 4).float() - mean[:, None, None]


def measure(model, images, labels):
    """Why one activation learns and another does not: {column of history.csv: number}.

    For each layer that an activation f follows, with its sums a over some images:
    gradient: the norm of the loss's gradient with respect to the layer's weights.
    flat: the share of sums where |f'| is below a twentieth of its largest value: of a unit that is
    saturated at either end, or silent. The negative side of the leaky one counts, too.
    dead: the share of units (in a convolution, maps) that are flat at every place of every image.
    """
    *layers, _ = model.named_children()
    sums = {}
    hooks = [
        layer.register_forward_hook(lambda _, __, a, name=name: sums.update({name: a}))
        for name, layer in layers
    ]
    loss = F.cross_entropy(model(images), labels)
    for hook in hooks:
        hook.remove()
    everywhere = torch.linspace(-6, 6, 1201, device=images.device)
    steepest = slope(model.activation, everywhere).abs().max()
    found = {}
    for name, layer in layers:
        (gradient,) = torch.autograd.grad(loss, layer.weight, retain_graph=True)
        flat = slope(model.activation, sums[name]).abs() < steepest / 20
        found[f"gradient_{name}"] = gradient.norm().item()
        found[f"flat_{name}"] = flat.float().mean().item()
        found[f"dead_{name}"] = flat.transpose(0, 1).flatten(1).all(1).float().mean().item()
    return found


def slope(f, a):
    """f'(a), elementwise."""
    a = a.detach().requires_grad_()
    return torch.autograd.grad(f(a).sum(), a)[0]


def fit(run, model, loaders, criterion, optimizer, before=None, after=None):
    """Train at one learning rate; before, after: further numbers for history.csv, each epoch."""
    train, validation = loaders
    schedule = constant(optimizer)
    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        measured = before() if before else {}
        model.train()
        for inputs, labels in run.batches(train):
            scores = model(inputs)
            loss = criterion(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            run.log(loss=loss, accuracy=scores.argmax(1) == labels)
        measured |= after() if after else {}
        run.validate(model, evaluate(model, validation, criterion), **measured)


def race(recipe):
    """One run of ConvNet: stochastic gradient descent at one rate, nothing that regularizes."""
    need_whole_batches(recipe)
    data = images.load(recipe, side=32)
    run = Run("ReLU", recipe, **data.identity)
    scaled = recipe.start == "scaled"
    pixels = prepare if scaled else partial(raw, mean=data.colors()[0].to(run.device))
    train, validation, _ = data.loaders(run.device, pixels)
    knobs = recipe.width, recipe.activation, recipe.start
    model = run.place(ConvNet(data.channels, len(data.classes), *knobs))
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, momentum=0.9)
    some = next(iter(validation))
    before = partial(measure, model, *some)
    fit(run, model, (train, validation), F.cross_entropy, optimizer, before)
    run.finish(model)  # it is about training: nothing is tested
    return run


def activation(recipe):
    """Four activations race to one training error, each at its best learning rate."""
    names = [recipe.activation] if recipe.activation else COMPARED
    runs, losses = [], [{recipe.lr: 0}] * len(names)
    if not recipe.lr:
        runs, losses = tried(race, recipe, [{"activation": name} for name in names], RATES)
    best = {name: min(found, key=found.get) for name, found in zip(names, losses)}

    seeds = seeds_of(recipe, SEEDS)
    finals = [
        recipe.but(activation=name, lr=best[name], seed=seed) for name in names for seed in seeds
    ]
    errors = {name: [] for name in names}
    for final in in_turn("Training on all images", finals):
        run = unless_diverged(race, final)
        if run:
            runs.append(run)
            errors[final.activation].append([1 - row["train_accuracy"] for row in run.history])
    if recipe.dry_run:
        return

    if not recipe.lr:
        limit = math.ceil(PART * (recipe.limit or IMAGES))
        print(f"\nTraining loss at the last epoch, on {limit:,} images, by learning rate")
        for name, found in zip(names, losses):
            print(f"{name:<8}", *(f"{lr:g}: {loss:.4f}  " for lr, loss in found.items()))
    print(f"\nEpochs to a training error of {recipe.error:.0%}, by seed, and on average")
    times = {}
    for name, curves in errors.items():
        reached = [crossing(curve, recipe.error) for curve in curves]
        if len(reached) == len(seeds) and all(map(math.isfinite, reached)):
            times[name] = statistics.mean(reached)
            words = f"{', '.join(f'{epochs:.2f}' for epochs in reached)}; {times[name]:.2f}"
            words += f", {times[name] / times['relu']:.1f} times ReLU's" if "relu" in times else ""
        else:
            words = f"not by every seed in {recipe.epochs} epochs"
        print(f"{name:<8} lr {best[name]:<5g} {words}")
    panels = {"": {name: percent(curves) for name, curves in errors.items() if curves}}
    compare("ReLU", recipe, runs, panels, "training error, %", level=100 * recipe.error)


def crossing(curve, level):
    """How many epochs a curve of training errors takes to come down to a level; inf if it does not.

    The error of an epoch, taken while the weights change, stands for the epoch's middle; between
    two of them the curve is a straight line.
    """
    for epoch, (before, after) in enumerate(zip([curve[0], *curve], curve), start=1):
        if after <= level:
            step = (level - after) / (before - after) if before > after else 0
            return epoch - 0.5 - step
    return math.inf


def dead(recipe):
    """What becomes of units that can fall silent, as the learning rate rises.

    On PART of the images, or on --limit.
    """
    recipe.refuse_idle(error=True)
    rates = [recipe.lr] if recipe.lr else TOO_HIGH
    names = [recipe.activation] if recipe.activation else SUCCESSORS
    limit = recipe.limit or math.ceil(PART * IMAGES)
    seeds = seeds_of(recipe, SEEDS)
    variants = [
        recipe.but(lr=lr, activation=name, limit=limit, seed=seed)
        for lr in rates
        for name in names
        for seed in seeds
    ]
    runs = {}
    for variant in in_turn("Dead units", variants):
        run = unless_diverged(race, variant)
        runs.setdefault((variant.lr, variant.activation), []).append(run)
    if recipe.dry_run:
        return

    panels = {}
    print("\nTraining error in the last epoch (share of maps in conv2 dead at its start), by seed")
    for (lr, name), tried in runs.items():
        ends = [run and run.history[-1] for run in tried]
        words = [
            f"{1 - end['train_accuracy']:.1%} ({end['dead_conv2']:.0%})" if end else "diverged"
            for end in ends
        ]
        print(f"lr {lr:<5g} {name:<6}", ", ".join(words))
        curves = [[1 - row["train_accuracy"] for row in run.history] for run in tried if run]
        if curves:
            panels.setdefault(f"lr {lr:g}", {})[name] = percent(curves)
    finished = [run for tried in runs.values() for run in tried if run]
    compare("ReLU", recipe, finished, panels, "training error, %")


# ReLU as the classifier


def normalized_cross_entropy(scores, labels):
    """-log of the right unit's share of the outputs' sum, for outputs that are not negative.

    What Keras computes of outputs that are no softmax's, with its bounds on the share. Outside of
    them the loss is flat: an image whose right unit is silent teaches nothing.
    """
    share = scores / scores.sum(1, keepdim=True).clamp(min=1e-7)
    return F.nll_loss(share.clamp(1e-7, 1 - 1e-7).log(), labels)


def principal_components(images, count=256):
    """A function from images [B, C, H, W] to their first principal components [B, 1, 16, 16].

    Fitted to uint8 images: each pixel is brought to mean 0 and standard deviation 1 first.
    """
    pixels = images.flatten(1).double()
    deviation, mean = torch.std_mean(pixels, dim=0, correction=0)
    deviation[deviation == 0] = 1
    scaled = (pixels - mean) / deviation
    _, directions = torch.linalg.eigh(scaled.T @ scaled)  # by rising variance
    directions = (directions.flip(1)[:, :count] / deviation[:, None]).float()
    mean = mean.float()

    def components(images):
        centered = images.flatten(1).float() - mean.to(images.device)
        return (centered @ directions.to(images.device)).view(-1, 1, 16, 16)

    return components


def fold(data, number, folds):
    """The same images.Data for one fold, from 1 to `folds`, of a stratified cross-validation.

    Of each class, every folds-th training image validates, and all others train.
    """
    inputs, labels = data.train
    held = torch.zeros(len(labels), dtype=torch.bool)
    held[labels.argsort(stable=True)[number - 1 :: folds]] = True
    train, validation = ((inputs[mask], labels[mask]) for mask in (~held, held))
    return dataclasses.replace(data, train=train, validation=validation)


def classify(recipe, data, prepare, model=None):
    """A run of Agarap's comparison, of a new model if none is given: (run, model as it ended)."""
    run = Run("ReLU", recipe)
    train, validation, test = data.loaders(run.device, prepare)
    if model is None:
        network = {"cnn": CNN, "ffnn": FFNN}[recipe.network]
        model = run.place(network(len(data.classes), recipe.classifier))
    optimizer = torch.optim.Adam(model.parameters(), recipe.lr, fused=True)
    rectified = recipe.classifier == "relu"
    criterion = normalized_cross_entropy if rectified else F.cross_entropy
    after = partial(silent, model, validation) if rectified else None
    fit(run, model, (train, validation), criterion, optimizer, after=after)
    finish(run, model, data, test, criterion, pictures=False)
    return run, model


def silent(model, loader):
    """What is silent at the output of a ReLU classifier: {column of history.csv: number}.

    silent_classes: outputs that are 0 for all images. silent_right: the share of images whose own
    class has an output of 0.
    """
    model.eval()
    active, right, count = False, 0, 0
    for inputs, labels in loader:
        positive = model(inputs) > 0
        active = active | positive.any(0)
        right += positive.gather(1, labels[:, None]).sum().item()
        count += len(labels)
    model.train()
    return {"silent_classes": (~active).sum().item(), "silent_right": 1 - right / count}


def classifier(recipe):
    """ReLU or softmax at the output: Agarap's comparison, with a new model for every fold.

    And once, as in his code, with one model that goes through all folds, so that from the second
    on it has been trained on the images that validate.
    """
    if recipe.data not in images.NAMES:
        raise Refusal(f"classifier needs images in memory: {', '.join(images.NAMES)}")
    if recipe.limit and recipe.limit < recipe.folds:
        raise Refusal(f"--limit {recipe.limit}: {recipe.folds} folds need an image each")
    if recipe.folds < 2:
        raise Refusal(f"--folds {recipe.folds}: there should be 2 or more, to train on the others")
    if recipe.fold and recipe.fold > recipe.folds:
        raise Refusal(f"--fold {recipe.fold}: there are {recipe.folds} --folds")
    kinds = [(network, True, name) for network in ("ffnn", "cnn") for name in ("softmax", "relu")]
    kinds += [("ffnn", False, name) for name in ("softmax", "relu")]
    kinds = [
        (network, reset, name)
        for network, reset, name in kinds
        if recipe.network in (None, network) and recipe.classifier in (None, name)
        if recipe.reset or not reset
        if reset or recipe.fold in (None, 1)  # the one model goes through all folds, in turn
    ]
    if not kinds:
        raise Refusal("--no-reset is for --network ffnn and all folds")
    folds = range(1, 2 if recipe.dry_run else recipe.folds + 1)
    if recipe.fold:
        folds = [recipe.fold]
    variants = [
        recipe.but(
            network=network,
            classifier=name,
            reset=reset,
            fold=number,
            seed=recipe.seed + number - 1,
        )
        for number in folds
        for network, reset, name in kinds
    ]

    whole = images.load(recipe)

    @cache
    def prepared(number):
        """The data of a fold, and its principal components; None: of all training images."""
        data = fold(whole, number, recipe.folds) if number else whole
        return data, principal_components(data.train[0])

    runs, models = {kind: [] for kind in kinds}, {}
    for variant in in_turn("Fold by fold", variants):
        kind = variant.network, variant.reset, variant.classifier
        data, components = prepared(variant.fold)
        before = None
        if not variant.reset:
            # A model that goes on needs the same components in every fold: those of all images.
            components, before = prepared(None)[1], models.get(kind)
        run, models[kind] = classify(variant, data, components, before)
        runs[kind].append(run)
    if recipe.dry_run:
        return

    print("\nAccuracy, %, mean and standard deviation: on the fold left out; on the test images")
    panels = {}
    for (network, reset, name), own in runs.items():
        curves = [[row["validation_accuracy"] for row in run.history] for run in own]
        left_out = mean_and_spread([curve[-1] for curve in curves])
        tested = mean_and_spread([run.result["metrics"]["accuracy"] for run in own])
        print(
            f"{network:<4}  {name:<7}  {'reset' if reset else 'no reset':<8}  {left_out}  {tested}"
        )
        panel = network.upper()
        if not reset:
            panel, curves = f"{panel}, one model through all folds", [sum(curves, [])]
        panels.setdefault(panel, {})[name] = percent(curves)
    every = sum(runs.values(), [])
    compare("ReLU", recipe, every, panels, "accuracy on the fold left out, %")


EXPERIMENTS = {
    "depth": (depth, DEPTH),
    "activation": (activation, RACE),
    "scaled": (activation, SCALED),
    "dead": (dead, DEAD),
    "classifier": (classifier, CLASSIFIER),
}

if __name__ == "__main__":
    program(lambda: experiment(__doc__, EXPERIMENTS))
