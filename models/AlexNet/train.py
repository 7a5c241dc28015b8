"""Train AlexNet.

    python train.py                      the laptop recipe, on the Fashion-MNIST that ships
    python train.py --data cifar10       the same on small photographs, which are downloaded
    python train.py --activation tanh    what if? --help lists such ablations
    python train.py --recipe paper --data <folder with ImageNet>
                                         the training of 2012, on your photographs
    python train.py --dry-run            does everything work? one batch, nothing written

experiments.py puts the idea to the test: python experiments.py --help.
Results go to checkpoints/. The same command goes on with a run that was stopped.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from harness import images
from harness.classification import evaluate, finish
from harness.errors import program
from harness.run import Run
from harness.schedule import one_cycle
from harness.settings import command_line
from harness.values import Count, Fraction, Positive
from harness.vision import random_crop, random_flip
from model import AlexNet

import torch
import torch.nn.functional as F


@dataclass(frozen=True, kw_only=True)
class Recipe(images.Settings):
    side: Count  # pixels that the shorter side of an image is brought to
    image_size: Count  # pixels of a crop, which is what the network sees
    width: Positive  # share of the paper's feature maps and units
    activation: Literal["relu", "tanh"] = "relu"  # of a unit
    pooling: Literal["overlapping", "separate"] = "overlapping"  # windows of 3x3, or of 2x2
    lrn: bool = True  # local response normalization
    dropout: Fraction = 0.5  # share of the units that are dropped in training
    groups: Literal[2, 1] = 2  # halves that conv2, conv4 and conv5 consist of


RECIPES = {
    "laptop": Recipe(
        data="fashion-mnist",
        epochs=22,
        batch_size=128,
        lr=2e-2,
        side=96,  # no crops: in so short a training they cost half a point
        image_size=96,
        width=0.25,
    ),
    "paper": Recipe(
        data=None,
        epochs=90,
        batch_size=128,
        lr=1e-2,
        side=256,
        image_size=224,
        width=1.0,
    ),
}
PATIENCE = 5  # epochs to wait for a better validation accuracy; not in the paper


def prepare(images, side, mean):
    """Raw values less the mean color [C], enlarged: [B, C, H, W] to [B, C, side, side] (2)."""
    return F.interpolate(images.float(), size=side, mode="bilinear") - mean[:, None, None]


def principal_components(covariance):
    """The eigenvectors of the colors' covariance [C, C], as columns, times eigenvalues (4.1).

    The eigenvalues are those of colors from 0 to 1, which the paper does not say; with those of
    colors from 0 to 255, the shifts would be 255 times as large.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance / 255**2)
    return 255 * eigenvectors * eigenvalues


def shift_colors(images, components):
    """Add to all pixels of an image the same sum of components, times draws from N(0, 0.1^2)."""
    alphas = 0.1 * torch.randn(len(images), len(components), device=images.device)
    return images + (alphas @ components.T)[:, :, None, None]


def augment(images, size, components):
    """Random crops [B, C, size, size], mirrored or not, with their colors shifted (4.1)."""
    return shift_colors(random_flip(random_crop(images, size)), components)


def crop(images, top, left, size):
    """The same window of all images, [B, C, size, size]."""
    return images[:, :, top : top + size, left : left + size]


def center_crop(model, images, size):
    """Scores [B, classes] of the middle of each image."""
    top, left = ((length - size) // 2 for length in images.shape[2:])
    return model(crop(images, top, left, size))


def ten_crops(model, images, size):
    """Log of the mean of ten softmaxes [B, classes]: corners, middle, and all mirrored (4.1)."""
    last = images.shape[-1] - size
    places = [(0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2)]
    crops = [crop(images, top, left, size) for top, left in places]
    crops += [images.flip(3) for images in crops]
    return torch.stack([model(images).softmax(1) for images in crops]).mean(0).log()


def fit(recipe):
    """Train and test one network; the Run."""
    side, size, width = recipe.side, recipe.image_size, recipe.width
    data = images.load(recipe, side)
    run = Run("AlexNet", recipe, **data.identity)
    mean, covariance = data.colors()
    mean, components = mean.to(run.device), principal_components(covariance).to(run.device)
    train, validation, test = data.loaders(
        run.device,
        partial(prepare, side=side, mean=mean),
        partial(augment, size=size, components=components),
    )
    ablations = recipe.activation, recipe.pooling, recipe.lrn, recipe.dropout, recipe.groups
    model = AlexNet(data.channels, len(data.classes), size, width, *ablations)
    # Sums over fewer inputs spread less: from conv2 to conv5 this gives them that of full width.
    model.initialize(std=0.01 / width**0.5)
    model = run.place(model)
    criterion = F.cross_entropy
    one_view = views = partial(center_crop, size=size)
    if recipe.name == "paper":
        views = partial(ten_crops, size=size)

    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, momentum=0.9, weight_decay=5e-4)
    if recipe.name == "paper":
        # Divided by ten where the validation accuracy stops rising, three times (5).
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "max", 0.1, PATIENCE, threshold=0, min_lr=recipe.lr / 1000
        )
    else:
        # A schedule of today: the paper's is too slow for so few epochs.
        schedule = one_cycle(optimizer, recipe.lr, recipe.epochs * len(train))

    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        model.train()
        for inputs, labels in run.batches(train):
            scores = model(inputs)
            loss = criterion(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if recipe.name != "paper":
                schedule.step()
            run.log(loss=loss, accuracy=scores.argmax(1) == labels)
        metrics = evaluate(model, validation, criterion, one_view)
        run.validate(model, metrics)
        if recipe.name == "paper":
            schedule.step(metrics["accuracy"])
    finish(run, model, data, test, criterion, views)
    return run


if __name__ == "__main__":
    program(lambda: fit(command_line(__doc__, RECIPES)))
