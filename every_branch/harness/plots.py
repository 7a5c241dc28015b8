"""What a run shows: its pictures as PNG files, and the table of a network's layers.

No function opens a window, so that everything works on a machine without a screen.
"""

import csv

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch.utils.flop_counter import FlopCounterMode

from harness.run import load_file, replace


def learning_curves(path, history, title):
    """Loss and accuracy by epoch. history: one dict an epoch, as in history.csv."""
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy")):
        for part, style in (("train", "--"), ("validation", "-")):
            values = [row[f"{part}_{quantity}"] for row in history]
            axes.plot(epochs, values, style, marker=".", label=part)
        axes.set(xlabel="epoch", title=quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=110)


def comparison(path, panels, quantity, level=None, title=None):
    """Curves by epoch, each the mean over runs in a band from the lowest to the highest.

    panels: {title: {label: [the values by epoch, one list a run]}}. level: of a dotted line.
    """
    figure = Figure(figsize=(1.5 + 4 * len(panels), 3.8), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (panel, curves) in zip(all_axes, panels.items()):
        for label, values in curves.items():
            values = torch.tensor(values)
            epochs = range(1, values.shape[1] + 1)
            (line,) = axes.plot(epochs, values.mean(0), marker=".", label=label)
            low, high = values.min(0).values, values.max(0).values
            axes.fill_between(epochs, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        if level is not None:
            axes.axhline(level, color="gray", linestyle=":")
        axes.set(xlabel="epoch", title=panel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    all_axes[0].set_ylabel(quantity)
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=110)


def predictions(path, images, labels, predicted, classes, split, columns=10):
    """A grid of images with the predicted class; a wrong one in red, with the true class below."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.25 * columns, 1.55 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, image, label, guess in zip(figure.axes, images, labels, predicted):
        low, high = image.min(), image.max()
        picture = ((image - low) / (high - low).clamp(min=1e-6)).permute(1, 2, 0)
        axes.imshow(picture.numpy(), cmap="gray_r")
        right = label == guess
        text = classes[guess] if right else f"✗ {classes[guess]}\n({classes[label]})"
        axes.set_title(text, fontsize=8, color="black" if right else "tab:red")
    wrong = int((labels != predicted).sum())
    first = f"The first {len(images)} {split} images"
    figure.suptitle(f"{first}: {wrong} wrong, in red (true class)")
    figure.savefig(path, format="png", dpi=90)


def confusion_matrix(path, matrix, classes, split):
    """Counts [true class, predicted class], shaded by the share of the true class."""
    matrix = matrix.float()
    share = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    side = 2.5 + 0.42 * min(len(classes), 30)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title=f"Confusion matrix, {split} images")
    if len(classes) <= 30:
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
        for i, j in matrix.nonzero().tolist():
            color = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, f"{matrix[i, j]:.0f}", ha="center", va="center", size=7, color=color)
    figure.savefig(path, format="png", dpi=110)


def filters(path, weight, title):
    """The kernels [K, C, H, W] of a convolution: in colour if C is 3, else its first input map."""
    count, channels = weight.shape[:2]
    columns = min(count, 16)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(columns, 4), rows + 0.5), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    limit = weight.abs().max()
    for axes, kernel in zip(figure.axes, weight):
        if channels == 3:
            axes.imshow((kernel / limit / 2 + 0.5).permute(1, 2, 0).numpy())
        else:
            axes.imshow(kernel[0].numpy(), cmap="gray", vmin=-limit, vmax=limit)
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=110)


def save(figure, path, dpi=110):
    """Write a picture of a summary, whole or not at all, and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, lambda part: figure.savefig(part, format="png", dpi=dpi))
    print(f"{path}: drawn")


def finished(run):
    """What weights.pt of a finished run holds: "identity", "result" and "weights"."""
    return load_file(run / "weights.pt")


def mean_curve(runs, column):
    """A column of history.csv by epoch, as the mean over runs of equal length."""
    curves = []
    for run in runs:
        with open(run / "history.csv", encoding="utf-8") as file:
            curves.append([float(row[column]) for row in csv.DictReader(file)])
    return [sum(values) / len(values) for values in zip(*curves, strict=True)]


def read_points(comparison):
    """points.csv of a comparison: a dict of texts for each epoch of each run."""
    with open(comparison / "points.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def draw_finished(pictures):
    """Call each function whose runs are finished; say which run another one lacks.

    pictures: {function: folders of the runs that it draws}.
    """
    for draw, runs in pictures.items():
        products = ("weights.pt", "points.csv")  # of a run, of a comparison
        missing = [run for run in runs if not any((run / name).exists() for name in products)]
        if missing:
            print(f"{draw.__name__}: not drawn, there is no finished run {missing[0]}")
        else:
            draw()


def layer_table(model, image, paper, **columns):
    """Print what each stage of a network does beside the paper's figures; False if they differ.

    model: its direct children are the stages. image: the shape [C, H, W] of one input.
    paper: {stage: {"output": (C, H, W), "parameters": ..., "MACs": ...}}, as far as the paper says.
        What is text there, such as "159K", is quoted, and not compared.
    columns: further things counted, name={stage: number}, that the paper has figures for.
    MACs are the multiply-accumulates of the stages' convolutions and matrix products, as PyTorch
    counts them.
    """
    outputs = {}
    for stage, module in model.named_children():
        module.register_forward_hook(
            lambda module, inputs, output, stage=stage: outputs.update({stage: output})
        )
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *image, device=device))
    flops = counter.get_flop_counts()

    def count(module, path):
        return {
            "parameters": sum(p.numel() for p in module.parameters()),
            "MACs": sum(flops.get(path, {}).values()) // 2,
        }

    top = type(model).__name__
    table = {
        stage: {"output": tuple(output.shape[1:])}
        | count(getattr(model, stage), f"{top}.{stage}")
        | {name: column.get(stage) for name, column in columns.items()}
        for stage, output in outputs.items()
    }
    sums = {name: sum(column.values()) for name, column in columns.items()}
    sums |= {"MACs": sum(row["MACs"] for row in table.values())}
    table["total"] = {"output": ""} | count(model, top) | sums

    names = ["output", "parameters", "MACs", *columns]
    known = [name for name in names if any(name in row for row in paper.values())]
    lines = [["stage", *names, *(f"paper: {name}" for name in known)]]
    for stage, row in table.items():
        theirs = (paper.get(stage, {}).get(name) for name in known)
        lines.append([stage, *map(show, row.values()), *map(show, theirs)])
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)).rstrip())

    differing = [
        f"{stage}: {name} is {show(table[stage][name])} here, {show(value)} in the paper"
        for stage, row in paper.items()
        for name, value in row.items()
        if not isinstance(value, str) and table[stage][name] != value
    ]
    quoted = any(isinstance(value, str) for row in paper.values() for value in row.values())
    met = "Every figure of the paper is met" + quoted * ", but for those in quotes, not compared"
    print("\n".join(differing) or f"{met}.")
    return not differing


def show(value):
    """A cell of the table: 1,516 or 6x28x28, or nothing."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if isinstance(value, str):
        return f'"{value}"' if value else ""
    return "" if value is None else f"{value:,}"
