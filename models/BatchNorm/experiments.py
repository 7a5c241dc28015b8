"""The experiments of `python train.py --experiment`: batch normalization put to the test.

figure1, figure2: the paper's, at laptop size (4.1, 4.2). dangers: where it goes wrong. Each trains
several networks one after another by fit() and googlenet(), which train.py hands over.
"""

import copy
import math
import statistics
from functools import partial

import torch
import torch.nn.functional as F

from harness.run import Diverged, Run, in_turn, random_state, set_random_state, share_right
from model import MLP

FIGURE_1 = {
    "laptop": {
        "data": "fashion-mnist",
        "epochs": 55,  # 50,435 steps of 60 images; the paper has 50,000
        "batch_size": 60,
        "lr": 0.1,
        "norm": None,  # None: with and without
        "pixels": "gray",
    },
}
FIGURE_1["paper"] = FIGURE_1["laptop"] | {"data": "mnist", "pixels": "binary"}
FIGURE_2 = {
    "laptop": {
        "data": "fashion-mnist",
        "epochs": 8,
        "batch_size": 128,
        "lr": 1e-2,  # of the network without normalization: good for it, of 0.0025 to 0.04
        "network": None,  # all of NETWORKS
        "side": 64,
        "area": (0.9, 1.0),
        "image_size": 64,
        "width": 0.25,
        "averaging": 0.0,
        "aux": "off",
    },
}
DANGERS = {
    "laptop": {
        "data": "fashion-mnist",
        "epochs": 2,
        "batch_size": None,  # all of SIZES
        "lr": 0.1,
        "norm": None,
        "pixels": "gray",
    },
}
RECIPES = {
    "figure1": ("three layers of sigmoids with and without; 12 minutes", FIGURE_1),
    "figure2": ("GoogLeNet with and without, at three learning rates; 42 minutes", FIGURE_2),
    "dangers": ("small batches, and evaluation mode forgotten; 3 minutes", DANGERS),
}
SEEDS = 3
# GoogLeNet's, but for a rate that falls every epoch, not every eight: there are few.
BEFORE = {"lrn": "on", "dropout": 0.4, "weight_decay": 2e-4, "decay_every": 1}
AFTER = {"lrn": "off", "dropout": 0.0, "weight_decay": 4e-5, "decay_every": 1 / 6}  # (4.2.1)
NETWORKS = {  # how many times the learning rate; what else (4.2.2)
    "Inception": (1, {"norm": "none", **BEFORE}),
    "BN-Baseline": (1, {"norm": "torch", **BEFORE}),
    "BN-x5": (5, {"norm": "torch", **AFTER}),
    "BN-x30": (30, {"norm": "torch", **AFTER}),
    "BN-x5-Sigmoid": (5, {"norm": "torch", **AFTER, "activation": "sigmoid"}),
    # Ours: whether it is the rate's faster fall that helps.
    "Inception-decay": (1, {"norm": "none", **BEFORE, "decay_every": AFTER["decay_every"]}),
}
TIMES = (1, 5, 30, 150)  # the learning rate of figure2, for predictiveness()
SIZES = (2, 8, 60)  # of the batches in dangers, in training and with evaluation mode forgotten


def run(options, fit, googlenet):
    """The experiment that --experiment names; fit, googlenet: of train.py."""
    if options.experiment == "figure1":
        figure1(options, fit)
    elif options.experiment == "figure2":
        figure2(options, googlenet)
    else:
        dangers(options, fit)


def prepare(images, pixels):
    """Raw values [B, C, H, W] to [B, C, 28, 28], from 0 to 1; or 0 and 1, where "binary"."""
    images = F.adaptive_avg_pool2d(images.float(), 28)
    return (images > 127).float() if pixels == "binary" else images / 255


def sigmoids(options, fit, measure, **variant):
    """A run of the network of 4.1: stochastic gradient descent, at one rate from end to end."""
    run = Run("BatchNorm", options, **variant)
    loaders = run.data(partial(prepare, pixels=options.pixels), side=28)
    inputs = run.channels * 28**2
    model = run.place(MLP(len(run.classes), inputs, run.settings["norm"]))
    optimizer = torch.optim.SGD(model.parameters(), run.settings["lr"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1)
    fit(run, model, loaders, optimizer, schedule, measure=measure, choose=False)
    return run


@torch.inference_mode()
def progress(run, model, loaders):
    """What Figure 1 shows: {column of history.csv: number}.

    step; test_accuracy; unit_15, unit_50, unit_85: percentiles, over the validation images, of
    what the first sigmoid of the last hidden layer is given.
    """
    train, validation, test = loaders
    _, predicted, true = run.evaluate(model, test)  # for the curve alone: nothing is chosen by it
    sums = []
    hook = model.fc3.norm.register_forward_hook(lambda _, __, output: sums.append(output[:, 0]))
    run.evaluate(model, validation)
    hook.remove()
    levels = torch.tensor([0.15, 0.5, 0.85], device=run.device)
    percentiles = torch.cat(sums).quantile(levels).tolist()
    found = {"step": run.epoch * len(train), "test_accuracy": share_right(predicted[:, 0], true)}
    return found | dict(zip(("unit_15", "unit_50", "unit_85"), percentiles))


def figure1(options, fit):
    """--experiment figure1: Figure 1 of the paper."""
    seeds = range(options.seed, options.seed + SEEDS)
    variants = [{"norm": norm, "seed": seed} for norm in ("none", "batch") for seed in seeds]
    runs = [
        sigmoids(options, fit, progress, **variant) for variant in in_turn("Figure 1", variants)
    ]
    if options.dry_run:
        return
    curves = {}
    for run in runs:
        curve = [100 * row["test_accuracy"] for row in run.history]
        curves.setdefault(f"norm {run.settings['norm']}", []).append(curve)
    print("\nTest accuracy, %, by seed and in the mean: after the first epoch; after the last")
    for label, own in curves.items():
        print(label, *(spread([curve[at] for curve in own]) for at in (0, -1)), sep="   ")
    Run("BatchNorm", options).compare(runs, {"": curves}, "test accuracy, %")


def spread(values):
    return f"{', '.join(f'{value:.2f}' for value in values)}; {statistics.mean(values):.2f}"


def predictiveness(run, model, loaders, rates):
    """How far the gradient can be trusted: {column of history.csv: number}.

    step; and for a step along it at each of several learning rates, {name: rate}, on some images:
    fall: of their loss, as a share of what the gradient promises, which is rate * |gradient|^2.
    turn: the cosine between their gradients before and after.
    """
    images, labels = next(iter(loaders[1]))
    model = copy.deepcopy(model).train()
    parameters = [*model.parameters()]
    start = [p.detach().clone() for p in parameters]

    def look():
        state = random_state(run.device)
        torch.manual_seed(0)  # the same units are dropped each time
        loss = F.cross_entropy(model(images)[0], labels)
        set_random_state(state, run.device)
        return loss.item(), torch.autograd.grad(loss, parameters)

    def product(one, other):
        return sum((a * b).sum().item() for a, b in zip(one, other))

    loss, gradient = look()
    square = product(gradient, gradient)
    found = {"step": run.epoch * len(loaders[0])}
    for name, rate in rates.items():
        with torch.no_grad():
            for p, before, g in zip(parameters, start, gradient):
                p.copy_(before - rate * g)
        after, turned = look()
        found[f"fall_{name}"] = (loss - after) / (rate * square)
        found[f"turn_{name}"] = product(gradient, turned) / math.sqrt(
            square * product(turned, turned)
        )
    return found


def figure2(options, googlenet):
    """--experiment figure2: Figure 2 of the paper, and its table."""
    measure = partial(predictiveness, rates={f"x{times}": times * options.lr for times in TIMES})
    runs = {}
    for variant in in_turn("Figure 2", [{"network": name} for name in NETWORKS]):
        times, settings = NETWORKS[variant["network"]]
        try:
            run = googlenet(options, measure, **variant, lr=times * options.lr, **settings)
        except Diverged as error:
            if variant["network"] == "Inception":  # to which the others are compared
                raise
            print(error)
        else:
            runs[variant["network"]] = run
    if options.dry_run:
        return
    level = max(accuracies(runs["Inception"]))
    print(f"\nSteps to {level:.2%} of the validation images, Inception's best; the best of each")
    reference = None
    for name, run in runs.items():
        steps = steps_to(run.history, level)
        reference = reference or steps
        words = f"{steps:>6,.0f} ({reference / steps:.1f} times as fast)" if steps else "never"
        print(f"{name:<15}  {words:<25}  {max(accuracies(run)):.2%}")
    curves = {name: [[100 * value for value in accuracies(run)]] for name, run in runs.items()}
    Run("BatchNorm", options).compare([*runs.values()], {"": curves}, "validation accuracy, %")


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
def forgotten(run, model, loaders):
    """Accuracy on validation images in training mode: {column of history.csv: number}.

    training_<size>: on so many images at once; training_sorted: 60 at once, sorted by class.
    """
    images, labels = (torch.cat(parts) for parts in zip(*loaders[1]))
    order = labels.argsort(stable=True)
    found = {
        f"training_{size}": accuracy_in_training(model, images, labels, size) for size in SIZES
    }
    found["training_sorted"] = accuracy_in_training(model, images[order], labels[order], 60)
    return found


def accuracy_in_training(model, images, labels, size):
    """The share right of images given in batches of a size, to a model in training mode."""
    model = copy.deepcopy(model).train()  # whose running statistics would change
    right = [
        model(some)[0].argmax(1) == true
        for some, true in zip(images.split(size), labels.split(size))
        if len(some) > 1
    ]
    return torch.cat(right).float().mean().item()


def dangers(options, fit):
    """--experiment dangers: small batches, and evaluation mode forgotten."""
    sizes = [options.batch_size] if options.batch_size else SIZES
    variants = [{"batch_size": size, "norm": norm} for size in sizes for norm in ("none", "batch")]
    runs = [
        sigmoids(options, fit, forgotten, **variant) for variant in in_turn("Dangers", variants)
    ]
    if options.dry_run:
        return
    modes = [*(f"training_{size}" for size in SIZES), "training_sorted"]
    print("\nAccuracy on the validation images, %, in evaluation mode, and in training mode")
    print(f"{'':<30}", *(f"{mode:>15}" for mode in ("evaluation", *modes)))
    curves = {}
    for run in runs:
        title = f"norm {run.settings['norm']}, batches of {run.settings['batch_size']}"
        found = [run.history[-1][column] for column in ("validation_accuracy", *modes)]
        print(f"{title:<30}", *(f"{100 * value:>15.2f}" for value in found))
        curves[title] = [[100 * value for value in accuracies(run)]]
    Run("BatchNorm", options).compare(runs, {"": curves}, "validation accuracy, %")
