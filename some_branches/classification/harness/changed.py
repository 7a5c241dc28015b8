"""What changed from one finished run to another: test images that became right or wrong.

    python -m harness.changed checkpoints/LeNet/laptop-seed0 checkpoints/AlexNet/laptop-seed0

A rise from 90 to 91 percent hides that some images were lost while more were won. This counts both,
in all and by class, and draws some of each into changed.png in the second folder.

Checkpoints stay when you check out another branch: train a model, go on to the next, train that,
and compare. Two runs of one model show what a flag changes, or, with two seeds, how much is chance.
Both runs need the same data set, one that is held in memory, and a predictions.csv. Where an older
run lacks it, the command that trained the run adds it, without training again.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

from harness import checkpoint, images, plots
from harness.errors import Refusal, program
from harness.likeness import need_keys
from harness.settings import Parser

ROWS = 2  # of images that became right, and as many of images that became wrong


@dataclass
class Tested:
    """A finished run, with the class of each test image and the class it was taken for, by name."""

    folder: Path
    model: str
    data: str
    true: list[str]
    predicted: list[str]

    def right(self, image):
        return self.true[image] == self.predicted[image]


def read(folder):
    """The Tested run of a folder; Refusal if there is none."""
    path, weights = folder / "predictions.csv", folder / "weights.pt"
    with checkpoint.fitting(weights):
        saved = checkpoint.load(weights)
        need_keys(saved, ["settings"], "it", others=True)
        need_keys(saved["settings"], ["model", "data"], "settings", others=True)
    if not path.exists():
        raise Refusal(f"{path} is missing: the command that trained the run adds it")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        true, predicted = ([row[column] for row in rows] for column in ("true", "predicted"))
    except (KeyError, ValueError, csv.Error):
        raise Refusal(f"{path} is not the table that a run writes") from None
    return Tested(folder, saved["settings"]["model"], saved["settings"]["data"], true, predicted)


def test_set(before, after):
    """(classes, uint8 images [N, C, H, W]) that both runs were tested on; Refusal if they differ.

    That the labels of all images agree says that the images are the same, and in the same order.
    """
    if before.data != after.data:
        raise Refusal(f"{after.folder} is of {after.data}, {before.folder} of {before.data}")
    if after.data not in images.NAMES:
        named = ", ".join(images.NAMES)
        raise Refusal(f"{after.data} is a folder of images; what can be compared is {named}")
    classes, _, (pictures, labels) = images.by_name(after.data)
    true = [classes[label] for label in labels.tolist()]
    for run in (before, after):
        if run.true != true:
            raise Refusal(
                f"{run.folder / 'predictions.csv'} has {len(run.true):,} images, which are not the "
                f"{len(true):,} test images of {run.data}"
            )
    return classes, pictures


def by_class(classes, before, after):
    """{class: (images that became right, images that became wrong)}, by their numbers."""
    found = {name: ([], []) for name in classes}
    for image, name in enumerate(after.true):
        if before.right(image) != after.right(image):
            found[name][before.right(image)].append(image)
    return found


def some(items, count):
    """As many items of a list, or all it has, evenly spaced over it."""
    count = min(count, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def names(before, after):
    """What tells the two runs apart: their models, or else their folders."""
    runs = before, after
    return [run.folder.name if before.model == after.model else run.model for run in runs]


def totals(found):
    """How many images became right, and how many became wrong."""
    return [sum(map(len, sides)) for sides in zip(*found.values())]


@plots.literal
def draw(path, pictures, found, before, after):
    """A column for each class: images that became right, how many, and those that became wrong."""
    old, new = names(before, after)
    won, lost = totals(found)
    figure = plots.Figure(figsize=(8, 6.3), layout="constrained")
    title = f"{new} against {old}: {won:,} test images became right, {lost:,} became wrong"
    figure.suptitle(title, fontweight="bold", fontsize=11)
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=(3, 2, 3))
    for part, side, run, words in (
        (top, 0, before, f"Became right (in red: {old}'s wrong guess)"),
        (bottom, 1, after, f"Became wrong (in red: {new}'s wrong guess)"),
    ):
        part.suptitle(words, fontsize=10)
        grid = part.subplots(ROWS, len(found))
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for column, (name, both) in zip(grid.T, found.items()):
            column[0].set_title(name, fontsize=8, fontweight="bold")
            for axes, image in zip(column, some(both[side], ROWS)):
                pixels = pictures[image].permute(1, 2, 0).numpy()
                axes.imshow(pixels, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
                axes.set_xlabel(run.predicted[image], fontsize=8, color="tab:red", labelpad=2)
    axes = middle.subplots()
    for sign, side, color in ((1, 0, "tab:blue"), (-1, 1, "tab:red")):
        heights = [sign * len(both[side]) for both in found.values()]
        bars = axes.bar(range(len(heights)), heights, color=color)
        axes.bar_label(bars, [f"{height:+}" if height else "" for height in heights], fontsize=8)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlim(-0.5, len(found) - 0.5)  # under the columns of images
    axes.margins(y=0.15)
    axes.axis("off")
    plots.save(figure, path)


def table(found, before, after):
    """The lines of a table by class: images right before and after, became right, became wrong."""
    old, new = names(before, after)
    rows = [("", old, new, "became right", "became wrong")]
    for name, (won, lost) in found.items():
        right = sum(before.right(i) for i, label in enumerate(before.true) if label == name)
        counts = right, right + len(won) - len(lost), len(won), len(lost)
        rows.append((name, *(f"{count:,}" for count in counts)))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(row[1:], widths[1:]))])
        for row in rows
    ]


def main(argv=None):
    parser = Parser(
        "python -m harness.changed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("before", type=Path, help="the folder of a finished run")
    parser.add_argument("after", type=Path, help="that of the run that is held against it")
    options = parser.parse_args(argv)
    before, after = read(options.before), read(options.after)
    classes, pictures = test_set(before, after)
    found = by_class(classes, before, after)
    won, lost = totals(found)
    both = sum(before.right(i) and after.right(i) for i in range(len(pictures)))
    print(
        f"Of {len(pictures):,} test images both get {both:,} right; "
        f"{won:,} became right, {lost:,} became wrong\n"
    )
    print(*table(found, before, after), "", sep="\n")
    draw(options.after / "changed.png", pictures, found, before, after)


if __name__ == "__main__":
    program(main)
