"""Draw the pictures of summary.md that train.py does not draw.

    python train.py && python train.py --seed 1 && python train.py --seed 2
    python experiments.py activation && python experiments.py scaled
    python experiments.py dead
    python figures/draw.py [RUNS] [FOLDER]

RUNS (default: checkpoints/ReLU) has those runs; the pictures go to FOLDER (default: RUNS).
What cannot be drawn, since a run is not there, is said. `make figures` on main calls this.
"""

import sys
from pathlib import Path
from statistics import mean

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import COMPARED, SUCCESSORS, slope
from harness import ROOT
from harness.checkpoint import finished
from harness.images import load
from harness.plots import draw_finished, read_points, save
from model import ACTIVATIONS, LeNet5

from train import RECIPES, prepare

WORDS = [Path(word) for word in sys.argv[1:]]
RUNS = WORDS[0] if WORDS else ROOT / "checkpoints" / "ReLU"
FOLDER = WORDS[1] if len(WORDS) > 1 else RUNS
RACE, SCALED, DEAD = (
    RUNS / f"laptop-experiment-{name}-seed0" for name in ("activation", "scaled", "dead")
)
LAPTOP = [RUNS / f"laptop-seed{seed}" for seed in range(3)]
LAYERS = ("conv1", "conv2", "conv3")
NETWORKS = {  # as the words in their boxes; a star: an activation follows
    "LeNet-5": "C1 5×5, 6*|S2*|C3 5×5, 16*|S4*|C5 5×5, 120*|F6 84*|distances 10",
    "ConvNet": "conv1 5×5, 32*|max|conv2 5×5, 32*|max|conv3 5×5, 64*|max|fc4 10",
    "CNN": "conv1 3×3, 32*|conv2 3×3, 32*|max|conv3 3×3, 64*|conv4 3×3, 64*|max|fc5 256*|fc6 10*",
    "FFNN": "fc1 512*|fc2 512*|fc3 512*|fc4 10*",
}


def architecture():
    """The networks as rows of boxes, from the input on the left; orange: an activation follows."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axes = figure.subplots()
    for row, (name, boxes) in enumerate(NETWORKS.items()):
        axes.text(-0.15, -row, name, ha="right", va="center", fontweight="bold")
        for column, words in enumerate(boxes.split("|")):
            active = words.endswith("*")
            kind, _, size = words.strip("*").partition(" ")
            color = "#f6c88f" if active else "#dbe9f6"
            box = Rectangle((column, -row - 0.32), 0.86, 0.64, facecolor=color, edgecolor="#1f4e79")
            axes.add_patch(box)
            label = f"{kind}\n{size}".strip()
            axes.text(column + 0.43, -row, label, ha="center", va="center", fontsize=8)
    axes.set(xlim=(-1.2, 8), ylim=(-3.5, 0.5))
    axes.axis("off")
    save(figure, FOLDER / "architecture.png")


def functions():
    """Each activation, and its slope."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    a = torch.linspace(-5, 5, 1001)
    for name in ("sigmoid", "tanh", "squash", "relu", "leaky", "gelu"):
        f = ACTIVATIONS[name]
        style = "--" if name in ("leaky", "gelu") else "-"
        left.plot(a, f(a), style, label=name)
        right.plot(a, slope(f, a), style, label=name)
    left.set(title="the activation f(a)", xlabel="a", ylim=(-2, 3))
    right.set(title="its slope f'(a)", xlabel="a")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend()
    save(figure, FOLDER / "functions.png")


def signals():
    """What a gradient meets, by layer: how much of each layer is flat, and what is left of it."""
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    rows = figure.subplots(2, 2, sharey="col")
    for (shares, norms), comparison, title in zip(
        rows, (RACE, SCALED), ("raw pixels, weights of 0.01", "pixels and weights scaled")
    ):
        points = [row for row in read_points(comparison) if not row["limit"]]
        for i, name in enumerate(COMPARED):
            own = [row for row in points if row["activation"] == name]
            ends = [row for row in own if row["epoch"] == max(points, key=epoch)["epoch"]]
            starts = [row for row in own if row["epoch"] == "1"]
            flat = [100 * mean(float(row[f"flat_{layer}"]) for row in ends) for layer in LAYERS]
            norm = [mean(float(row[f"gradient_{layer}"]) for row in starts) for layer in LAYERS]
            places = [j + 0.2 * (i - 1.5) for j in range(len(LAYERS))]
            shares.bar(places, flat, 0.18, label=name)
            norms.bar(places, norm, 0.18, label=name)
        shares.set(title=f"{title}: flat in the last epoch, %", xticks=range(3), xticklabels=LAYERS)
        norms.set(title="gradient by the weights, before training", yscale="log")
        norms.set(xticks=range(3), xticklabels=LAYERS)
    handles, labels = rows[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    save(figure, FOLDER / "signals.png")


def epoch(row):
    return int(row["epoch"])


@torch.no_grad()
def silent_share(net, images):
    """{stage: the share of its units, or maps, with no positive sum in any of the images}."""
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
    """The silent units of LeNet-5 with ReLU, before and after the default run, three seeds."""
    loaded = load(RECIPES["laptop"])
    images = prepare(loaded.validation[0])
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    for side, label in ((-0.2, "before training"), (0.2, "after")):
        shares = []
        for seed, run in enumerate(LAPTOP):
            torch.manual_seed(seed)
            net = LeNet5()
            if label == "after":
                net.load_state_dict(finished(run)["weights"])
            shares.append(silent_share(net, images))
        print(label, [{name: f"{share:.0%}" for name, share in each.items()} for each in shares])
        places = [i + side for i in range(len(shares[0]))]
        heights = [100 * mean(each[stage] for each in shares) for stage in shares[0]]
        axes.bar(places, heights, 0.36, label=label)
        for each in shares:
            axes.plot(places, [100 * share for share in each.values()], "k.", markersize=4)
    axes.set(ylabel="silent for every image, %", ylim=(0, 100))
    axes.set_xticks(range(len(shares[0])), shares[0])
    axes.legend()
    save(figure, FOLDER / "silent-lenet.png")


def dead_units():
    """Training error and dead maps by learning rate: a column an activation, a point a seed."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    points = read_points(DEAD)
    rates, last = sorted({row["lr"] for row in points}, key=float), max(map(epoch, points))
    for i, name in enumerate(SUCCESSORS):
        ends = [row for row in points if row["activation"] == name and epoch(row) == last]
        places = [rates.index(row["lr"]) + 0.15 * (i - 1) for row in ends]
        errors = [100 - 100 * float(row["train_accuracy"]) for row in ends]
        left.plot(places, errors, "o", label=name)
        right.plot(places, [100 * float(row["dead_conv2"]) for row in ends], "o", label=name)
    left.set(title="training error in the last epoch, %")
    right.set(title="maps of conv2 that are flat for every image, %")
    for axes in (left, right):
        axes.set(xlabel="learning rate", xticks=range(len(rates)), xticklabels=rates)
        axes.grid(alpha=0.3)
    left.legend()
    save(figure, FOLDER / "dead-units.png")


def main():
    draw_finished(
        {
            functions: [],
            architecture: [],
            signals: [RACE, SCALED],
            silent_lenet: LAPTOP,
            dead_units: [DEAD],
        }
    )


if __name__ == "__main__":
    main()
