"""Train LeNet-5 with the rectifier, and put the rectifier to the test.

    python train.py                          LeNet-5 with max(0, a) for its squashing function
    python train.py --activation squash      what if? see the ablations below
    python train.py --experiment activation  four activations race in a four-layer network
    python train.py --experiment activation --lr 0.003
                                             all at one learning rate, none tried out before
    python train.py --experiment activation --recipe paper
                                             the same race at full width, on CIFAR-10
    python train.py --experiment classifier --recipe paper
                                             ten folds of 32 epochs, as in Agarap's code
    python train.py --dry-run                does everything work? one batch, nothing written

Results go to checkpoints/ReLU/. The same command goes on with what was stopped.
"""

import math
import statistics
from functools import cache, partial

import torch
import torch.nn.functional as F

from harness.data import NAMES, refuse
from harness.run import Diverged, Run, command_line, in_turn
from model import ACTIVATIONS, CNN, FFNN, POOLINGS, ConvNet, LeNet5

RECIPES = {
    "laptop": {
        "data": "fashion-mnist",
        "epochs": 20,
        "batch_size": 128,
        "lr": 4e-3,
    },
}
ACTIVATION = {
    "laptop": {
        "data": "fashion-mnist",
        "epochs": 9,
        "batch_size": 128,
        "lr": None,  # None: each activation its best of RATES
        "activation": None,  # all of COMPARED
        "width": 0.25,
        "start": "fixed",  # of the weights, and with it the scale of the pixels
        "error": 0.14,  # of the training images, that the race is to
    },
    "paper": {  # its data and its error; what else it had, the paper does not say
        "data": "cifar10",
        "epochs": 40,
        "batch_size": 128,
        "lr": None,
        "activation": None,
        "width": 1.0,
        "start": "fixed",
        "error": 0.25,
    },
}
SCALED = {name: recipe | {"start": "scaled"} for name, recipe in ACTIVATION.items()}
DEAD = {"laptop": SCALED["laptop"] | {"epochs": 5}}
CLASSIFIER = {
    "laptop": {
        "data": "fashion-mnist",
        "epochs": 10,
        "batch_size": 256,
        "lr": 1e-3,
        "folds": 5,
        "fold": None,  # None: all of them, and so on
        "network": None,
        "classifier": None,
        "reset": "on",  # a new model for every fold
    },
}
CLASSIFIER["paper"] = CLASSIFIER["laptop"] | {"epochs": 32, "folds": 10}
EXPERIMENTS = {
    "activation": ("four activations race, as in 2012; 12 minutes", ACTIVATION),
    "scaled": ("the same with scaled pixels and weights; 12 minutes", SCALED),
    "dead": ("ReLU, leaky ReLU and GELU at rates too high; 3 minutes", DEAD),
    "classifier": ("ReLU or softmax at the output; 15 minutes", CLASSIFIER),
}
COMPARED = ("relu", "squash", "tanh", "sigmoid")
SUCCESSORS = ("relu", "leaky", "gelu")
TOO_HIGH = (0.03, 0.1, 0.2, 0.3)
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
IMAGES = 55_000  # the race is run on all of them
PART = 0.25  # of them or of --limit, that each rate is tried on, with one seed
J = 20.0  # of equation 9; the paper does not give it, and the validation images chose among 1 to 84
ABLATIONS = {
    "activation": ACTIVATIONS,
    "pooling": POOLINGS,
    "output": ("rbf", "softmax"),
    "c3": ("table", "full"),
}


def prepare(images):
    """Center the images in 32x32, and scale them: background -0.1, ink 1.175 (II.B)."""
    margin = (32 - images.shape[-1]) // 2
    return F.pad(images, [margin] * 4).float() * (1.275 / 255) - 0.1


def raw(images, mean):
    """Center the images in 32x32, not scaled: from 0 to 255, less the mean colour [C] (AlexNet)."""
    margin = (32 - images.shape[-1]) // 2
    return F.pad(images, [margin] * 4).float() - mean[:, None, None]


def with_none_of_these(scores):
    """Scores with those of one more class, which is always at distance j: [B, 10] to [B, 11]."""
    return torch.cat([scores, torch.full_like(scores[:, :1], -J)], dim=1)


def equation_9(scores, labels):
    """The distance of the right class, plus log(e^-j + sum of e^-distance).

    It is cross-entropy with one more class, "none of these", always at distance j: the right class
    has to come nearer than that too, not only nearer than the other classes.
    """
    return F.cross_entropy(with_none_of_these(scores), labels)


def measure(model, images, labels):
    """Why one activation learns and another does not: {column of history.csv: number}.

    For each layer that an activation f follows, with its sums a over some images:
    gradient: the norm of the loss's gradient by the layer's weights.
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


def principal_components(images, count=256):
    """A function from images [B, C, H, W] to their first principal components [B, 1, 16, 16].

    Fitted to uint8 images: each pixel is brought to mean 0 and deviation 1 first.
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


def normalized_cross_entropy(scores, labels):
    """-log of the right unit's share of the outputs' sum, for outputs that are not negative.

    What Keras computes of outputs that are no softmax's, with its bounds on the share. Outside of
    them the loss is flat: an image whose right unit is silent teaches nothing.
    """
    share = scores / scores.sum(1, keepdim=True).clamp(min=1e-7)
    return F.nll_loss(share.clamp(1e-7, 1 - 1e-7).log(), labels)


def fit(run, model, loaders, criterion, optimizer, schedule, before=None, after=None, **keep):
    """The training loop of every run.

    before, after: functions that give further numbers for history.csv, called before and after
    the training of each epoch. keep: choose= of run.validate().
    """
    train, validation, test = loaders
    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        measured = before() if before else {}
        model.train()
        for images, labels in run.batches(train):
            scores = model(images)
            loss = criterion(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            run.log(loss, scores, labels)
        measured |= after() if after else {}
        run.validate(model, validation, criterion, measured=measured, **keep)
    run.finish(model, test, pictures=not run.settings["experiment"])


def lenet(options):
    """The branch's row in the table of all models."""
    run = Run("ReLU", options)
    loaders = train, *_ = run.data(prepare, side=32)
    model = run.place(LeNet5(run.channels, len(run.classes), **run.ablations))
    criterion = equation_9 if options.output == "rbf" else F.cross_entropy
    # Of today, not of 1998: many images a step, Adam, a rate that rises and falls.
    optimizer = torch.optim.Adam(model.parameters(), options.lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        options.lr,
        total_steps=max(6, options.epochs * len(train)),  # at 5, it divides by zero
        pct_start=0.2,
        cycle_momentum=False,
    )
    fit(run, model, loaders, criterion, optimizer, schedule)


def constant(optimizer):
    """A schedule that leaves the learning rate as it is."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1)


def race(options, **variant):
    """One run of ConvNet: stochastic gradient descent at one rate, nothing that regularizes."""
    run = Run("ReLU", options, **variant)
    scaled = options.start == "scaled"
    train, validation, _ = run.data(
        prepare if scaled else partial(raw, mean=run.colors(32)[0].to(run.device)), side=32
    )
    model = run.place(
        ConvNet(
            run.channels,
            len(run.classes),
            options.width,
            run.settings["activation"],
            options.start,
        )
    )
    optimizer = torch.optim.SGD(model.parameters(), run.settings["lr"], momentum=0.9)
    some = next(iter(validation))
    fit(
        run,
        model,
        (train, validation, None),  # it is about training: nothing is tested
        F.cross_entropy,
        optimizer,
        constant(optimizer),
        before=lambda: measure(model, *some),
    )
    return run


def try_race(options, **variant):
    """The run, or None if it diverged."""
    try:
        return race(options, **variant)
    except Diverged as error:
        print(error)
        return None


def activation(options):
    """--experiment activation, scaled: each at its best learning rate, to one training error."""
    rates = [options.lr] if options.lr else RATES[: 1 if options.dry_run else None]
    limit = math.ceil(PART * (options.limit or IMAGES))
    trials = [{"activation": name, "lr": lr, "limit": limit} for name in COMPARED for lr in rates]
    runs, losses = [], {name: dict.fromkeys(rates, math.inf) for name in COMPARED}
    for trial in in_turn("Trial of a rate", trials if len(rates) > 1 else []):
        run = try_race(options, **trial)
        if run:
            runs.append(run)
            losses[trial["activation"]][trial["lr"]] = run.history[-1]["train_loss"]
    best = {name: min(tried, key=tried.get) for name, tried in losses.items()}

    seeds = range(options.seed, options.seed + 3)
    finals = [
        {"activation": name, "lr": best[name], "seed": seed} for name in COMPARED for seed in seeds
    ]
    errors = {name: [] for name in COMPARED}
    for final in in_turn("Training on all images", finals):
        run = try_race(options, **final)
        if run:
            runs.append(run)
            errors[final["activation"]].append([1 - row["train_accuracy"] for row in run.history])
    if options.dry_run:
        return

    if len(rates) > 1:
        print(f"\nTraining loss at the last epoch, on {limit:,} images, by learning rate")
        for name, tried in losses.items():
            print(f"{name:<8}", *(f"{lr:g}: {loss:.4f}  " for lr, loss in tried.items()))
    print(f"\nEpochs to a training error of {options.error:.0%}, by seed, and in the mean of seeds")
    times = {}
    for name, curves in errors.items():
        reached = [crossing(curve, options.error) for curve in curves]
        if len(reached) == len(seeds) and all(map(math.isfinite, reached)):
            times[name] = statistics.mean(reached)
            words = f"{', '.join(f'{epochs:.2f}' for epochs in reached)}; {times[name]:.2f}"
            words += f", {times[name] / times['relu']:.1f} times ReLU's" if "relu" in times else ""
        else:
            words = f"not by every seed in {options.epochs} epochs"
        print(f"{name:<8} lr {best[name]:<5g} {words}")
    panels = {"": {name: percent(curves) for name, curves in errors.items() if curves}}
    Run("ReLU", options).compare(runs, panels, "training error, %", level=100 * options.error)


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


def dead(options):
    """--experiment dead: what becomes of units that can fall silent, as the learning rate rises."""
    rates = [options.lr] if options.lr else TOO_HIGH
    limit = math.ceil(PART * (options.limit or IMAGES))
    seeds = range(options.seed, options.seed + (1 if options.dry_run else 3))
    variants = [
        {"lr": lr, "activation": name, "limit": limit, "seed": seed}
        for lr in rates
        for name in SUCCESSORS
        for seed in seeds
    ]
    runs = {}
    for variant in in_turn("Dead units", variants):
        run = try_race(options, **variant)
        runs.setdefault((variant["lr"], variant["activation"]), []).append(run)
    if options.dry_run:
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
    Run("ReLU", options).compare(finished, panels, "training error, %")


def percent(curves):
    """Lists of shares as lists of percents."""
    return [[100 * value for value in curve] for curve in curves]


def classify(options, prepare, model=None, **variant):
    """A run of Agarap's comparison, of a new model if none is given: (run, model as it ended).

    Its accuracies are those of the last epoch: no epoch is chosen on the images left out.
    """
    run = Run("ReLU", options, **variant)
    train, validation, test = run.data(prepare, side=28)
    if model is None:
        network = {"cnn": CNN, "ffnn": FFNN}[run.settings["network"]]
        model = run.place(network(len(run.classes), run.settings["classifier"]))
    optimizer = torch.optim.Adam(model.parameters(), options.lr, fused=True)
    rectified = run.settings["classifier"] == "relu"
    fit(
        run,
        model,
        (train, validation, test),
        normalized_cross_entropy if rectified else F.cross_entropy,
        optimizer,
        constant(optimizer),
        after=partial(silent, model, validation) if rectified else None,
        choose=False,
    )
    return run, model


@torch.inference_mode()
def silent(model, loader):
    """What is silent at the output of a ReLU classifier: {column of history.csv: number}.

    silent_classes: outputs that are 0 for all images. silent_right: the share of images whose own
    class has an output of 0.
    """
    model.eval()
    active, right, count = False, 0, 0
    for images, labels in loader:
        positive = model(images) > 0
        active = active | positive.any(0)
        right += positive.gather(1, labels[:, None]).sum().item()
        count += len(labels)
    model.train()
    return {"silent_classes": (~active).sum().item(), "silent_right": 1 - right / count}


def classifier(options):
    """--experiment classifier: Agarap's comparison, with a new model for every fold.

    And once, as in his code, with one model that goes through all folds, so that from the second
    on it has been trained on the images that validate.
    """
    if options.data not in NAMES:
        refuse(f"--experiment classifier needs images that fit in memory: {', '.join(NAMES)}")
    if options.limit and options.limit < options.folds:
        refuse(f"--limit {options.limit}: {options.folds} folds need an image each")
    kinds = [(network, "on", name) for network in ("ffnn", "cnn") for name in ("softmax", "relu")]
    kinds += [("ffnn", "off", name) for name in ("softmax", "relu")]
    folds = range(1, 2 if options.dry_run else options.folds + 1)
    variants = [
        {"network": network, "classifier": name, "reset": reset, "fold": fold}
        | {"seed": options.seed + fold - 1}
        for fold in folds
        for network, reset, name in kinds
    ]

    @cache
    def prepared(fold):
        return principal_components(Run("ReLU", options, fold=fold).load(28).train[0])

    runs, models = {kind: [] for kind in kinds}, {}
    for variant in in_turn("Fold by fold", variants):
        kind = variant["network"], variant["reset"], variant["classifier"]
        goes_on = variant["reset"] == "off"
        # A model that goes on needs the same components in every fold: those of all images.
        components = prepared(None if goes_on else variant["fold"])
        before = models.get(kind) if goes_on else None
        run, models[kind] = classify(options, components, before, **variant)
        runs[kind].append(run)
    if options.dry_run:
        return

    print("\nAccuracy, %, mean and standard deviation: on the fold left out; on the test images")
    panels = {}
    for (network, reset, name), own in runs.items():
        curves = [[row["validation_accuracy"] for row in run.history] for run in own]
        left_out = spread([curve[-1] for curve in curves])
        tested = spread([run.result["test_accuracy"] for run in own])
        print(f"{network:<4}  {name:<7}  reset {reset:<3}  {left_out}  {tested}")
        panel = network.upper()
        if reset == "off":
            panel, curves = f"{panel}, one model through all folds", [sum(curves, [])]
        panels.setdefault(panel, {})[name] = percent(curves)
    Run("ReLU", options).compare(sum(runs.values(), []), panels, "accuracy on the fold left out, %")


def spread(values):
    """Mean and standard deviation of some shares, in percent."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0
    return f"{100 * statistics.mean(values):.2f} ± {100 * deviation:.2f}"


def main():
    options = command_line(__doc__, RECIPES, experiments=EXPERIMENTS, **ABLATIONS)
    experiments = {"activation": activation, "scaled": activation, "dead": dead}
    experiments |= {"classifier": classifier, None: lenet}
    experiments[options.experiment](options)


if __name__ == "__main__":
    main()
