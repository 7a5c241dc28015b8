"""Draw the pictures of summary.md and notes.md that are no curves of one run.

    python train.py --epochs 20 --batch-size 128 --no-distort --pooling subsampling --output rbf,
        with --seed 0, 1 and 2
    python experiments.py depth && python experiments.py dead
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/ReLU) has those runs; the pictures go to FOLDER (default: RUNS).
What cannot be drawn, since a run is not there, is said. `make figures` on main calls this.
"""

import sys
from math import log
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import DEPTH, DEPTHS, PLAIN, SUCCESSORS, slope
from harness import ROOT, checkpoint
from harness.images import load
from harness.plots import draw_finished, read_points, save
from model import LeNet5
from networks import ACTIVATIONS, Plain

from train import RECIPES, prepare

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "ReLU"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
DEPTH_RUN, DEAD_RUN = (RUNS / f"laptop-experiment-{name}-seed0" for name in ("depth", "dead"))
FLAGS = "epochs-20-batch-size-128-no-distort-pooling-subsampling-output-rbf"
SUBSAMPLED = [RUNS / f"laptop-{FLAGS}-seed{seed}" for seed in range(3)]
NAMES = {"relu": "ReLU", "leaky": "leaky ReLU", "gelu": "GELU"}  # others as they are
COLORS = {"sigmoid": "tab:red", "tanh": "tab:green", "relu": "tab:blue"}  # those of the race


def functions():
    """Three activations, and their slopes."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    a = torch.linspace(-5, 5, 1001)
    places = {"relu": ((0.6, 2.2), (2.6, 1.03)), "tanh": ((2.9, 1.06), (0.75, 0.72))}
    places["sigmoid"] = ((2.9, 0.68), (2.0, 0.16))
    for name in PLAIN:
        f, color = ACTIVATIONS[name], COLORS[name]
        for axes, values, place in zip((left, right), (f(a), slope(f, a)), places[name]):
            axes.plot(a, values, color=color, linewidth=2)
            axes.text(*place, NAMES.get(name, name), color=color, fontweight="bold")
    left.set(title="activation f(a)", xlabel="weighted sum a", ylim=(-1.2, 3))
    right.set(title="its slope f'(a)", xlabel="weighted sum a", ylim=(-0.05, 1.15))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save(figure, FOLDER / "functions.png")


def fading():
    """Signal and gradient, layer by layer, in plain networks of 16 layers before training."""
    loaded = load(DEPTH["laptop"])
    images, labels = prepare(loaded.validation[0][:1000]), loaded.validation[1][:1000]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in PLAIN:
        found = []
        for seed in range(3):
            torch.manual_seed(seed)
            found.append(measured(Plain(depth=16, activation=name), images, labels))
        signal, gradient, weights = ([mean(values) for values in zip(*c)] for c in zip(*found))
        print(
            f"{name:<8} depends on the image: {signal[0]:.2g} to {signal[-1]:.2g}",
            f"gradient with respect to the sums: {gradient[-1]:.2g} to {gradient[0]:.2g}",
            f"to the first layer's weights: {weights[0]:.2g}",
            sep="  ",
        )
        for axes, values in ((left, signal), (right, gradient)):
            axes.plot(range(1, 17), values, ".-", color=COLORS[name], label=NAMES.get(name, name))
    left.set(title="share of the sums that depends on the image")
    right.set(title="length of the gradient with respect to the sums")
    for axes in (left, right):
        axes.set(yscale="log", xlabel="layer", xticks=(1, 4, 8, 12, 16))
        axes.grid(alpha=0.3)
    left.legend(loc="lower left")
    save(figure, FOLDER / "fading.png")


def measured(net, images, labels):
    """What a network has in each layer: (signal, gradient, gradient with respect to the weights).

    signal: of the mean square of the layer's sums, the share that depends on the image.
    gradient: the length of the loss's gradient with respect to the sums of all images.
    """
    layers, sums = [*net.children()], []
    for layer in layers:
        layer.register_forward_hook(lambda layer, inputs, a: sums.append(a))
    loss = F.cross_entropy(net(images), labels)
    weights = [layer.weight for layer in layers]
    found = torch.autograd.grad(loss, sums + weights)
    signal = [(a.var(0).mean() / a.square().mean()).item() for a in sums]
    lengths = [gradient.norm().item() for gradient in found]
    return signal, lengths[: len(sums)], lengths[len(sums) :]


def depth():
    """Training loss in the last epoch against depth: a line an activation, a dot a seed."""
    points = [row for row in read_points(DEPTH_RUN) if not row["limit"]]
    last = max(map(epoch, points))
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for shift, name in zip((0, 0.05, -0.05), PLAIN):
        own = [row for row in points if row["activation"] == name and epoch(row) == last]
        losses = {
            i: [float(row["train_loss"]) for row in own if row["depth"] == str(layers)]
            for i, layers in enumerate(DEPTHS)
        }
        means = {i + shift: mean(found) for i, found in losses.items() if found}
        label = NAMES.get(name, name)
        axes.plot([*means], [*means.values()], color=COLORS[name], label=label)
        for i, found in losses.items():
            places = [i + shift] * len(found)
            axes.plot(places, found, "o", color=COLORS[name], markersize=5, alpha=0.7)
    axes.axhline(log(10), color="gray", linestyle=":")
    axes.text(0, log(10), "guessing", color="gray", va="bottom")
    axes.set(xlabel="layers of weights", ylabel="training loss, last epoch", ylim=(0, 2.5))
    axes.set_xticks(range(len(DEPTHS)), DEPTHS)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left")
    save(figure, FOLDER / "depth.png")


def epoch(row):
    return int(row["epoch"])


@torch.no_grad()
def silent_share(net, images):
    """{stage: the share of its units, or feature maps, with no positive sum in any image}."""
    silent = {}
    for name, stage in list(net.named_children())[:-1]:
        stage.register_forward_hook(
            lambda stage, inputs, a, name=name: silent.update(
                {name: (a <= 0).transpose(0, 1).flatten(1).all(1).float().mean().item()}
            )
        )
    net.eval()(images)
    return silent


def silent_lenet():
    """Silent units of LeNet-5 with ReLU and trained subsampling, and what max pooling changes."""
    loaded = load(RECIPES["laptop"])
    images = prepare(loaded.validation[0])
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots()
    kinds = [("max", "before"), ("subsampling", "before"), ("subsampling", "after")]
    for side, color, (pooling, when) in zip((-0.27, 0, 0.27), ("silver", "C0", "C1"), kinds):
        shares = []
        for seed, run in enumerate(SUBSAMPLED):
            torch.manual_seed(seed)
            net = LeNet5(pooling=pooling, output="rbf")
            if when == "after":
                net.load_state_dict(checkpoint.weights(run))
            shares.append(silent_share(net, images))
        means = {stage: mean(each[stage] for each in shares) for stage in shares[0]}
        label = f"{pooling.replace('max', 'max pooling')}, {when} training"
        print(label, {stage: f"{share:.0%}" for stage, share in means.items()})
        places = [i + side for i in range(len(means))]
        heights = [100 * share for share in means.values()]
        axes.bar(places, heights, 0.25, color=color, label=label)
        for each in shares:
            axes.plot(places, [100 * share for share in each.values()], "k.", markersize=4)
    axes.set(ylabel="silent for every image, %", ylim=(0, 100))
    axes.set_xticks(range(len(means)), means)
    axes.legend(loc="upper left")
    save(figure, FOLDER / "silent-lenet.png")


def dead_units():
    """Training error and dead feature maps by learning rate: a dot for each seed."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    points = read_points(DEAD_RUN)
    rates, last = sorted({row["lr"] for row in points}, key=float), max(map(epoch, points))
    for i, name in enumerate(SUCCESSORS):
        ends = [row for row in points if row["activation"] == name and epoch(row) == last]
        places = [rates.index(row["lr"]) + 0.15 * (i - 1) for row in ends]
        errors = [100 - 100 * float(row["train_accuracy"]) for row in ends]
        left.plot(places, errors, "o", label=NAMES[name])
        right.plot(places, [100 * float(row["dead_conv2"]) for row in ends], "o")
    left.set(title="training error in the last epoch, %")
    right.set(title="dead feature maps in conv2, %")
    for axes in (left, right):
        axes.set(xlabel="learning rate", xticks=range(len(rates)), xticklabels=rates)
        axes.grid(alpha=0.3)
    left.legend()
    save(figure, FOLDER / "dead-units.png")


def main():
    draw_finished(
        {
            functions: [],
            fading: [],
            depth: [DEPTH_RUN],
            silent_lenet: SUBSAMPLED,
            dead_units: [DEAD_RUN],
        }
    )


if __name__ == "__main__":
    main()
