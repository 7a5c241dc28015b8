"""The pictures of a finished run that classifies images."""

from harness import plots
from harness.plots import Figure

import torch


def draw(run, model, data, loader, predicted, true):
    """The pictures of a finished run, into its folder.

    predicted, true: classes [N] of the images of the loader.
    """
    count = min(40, len(true))
    images = []
    for batch, _ in loader:
        images += batch[: count - len(images)].cpu()
        if len(images) == count:
            break
    classes = len(data.classes)
    matrix = torch.bincount(true * classes + predicted, minlength=classes**2).view(classes, -1)
    drawn = {
        "predictions.png": lambda path: predictions(
            path, images, true[:count], predicted[:count], data.classes, data.last_split
        ),
        "confusion.png": lambda path: confusion_matrix(path, matrix, data.classes, data.last_split),
    }
    kernels = next((p.detach().cpu() for p in model.parameters() if p.dim() == 4), None)
    if kernels is not None:
        title = "Filters of the first convolution"
        drawn["filters.png"] = lambda path: filters(path, kernels, title)
    # The last: that it is there says that all are.
    drawn["curves.png"] = lambda path: plots.learning_curves(path, run.history, run.title)
    names = plots.draw(run.folder, drawn)
    print(f"Pictures there: {', '.join(names)}")


@plots.literal
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


@plots.literal
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


@plots.literal
def filters(path, weight, title):
    """The kernels [K, C, H, W] of a convolution: in color if C is 3, else its first input map."""
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
