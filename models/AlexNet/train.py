"""Train AlexNet.

    python train.py                      the laptop recipe, on the Fashion-MNIST that ships
    python train.py --data cifar10       the same on small photographs, which are downloaded
    python train.py --dropout 0          what if? see the ablations below
    python train.py --recipe paper --data <folder with ImageNet>
                                         the training of 2012, on your photographs
    python train.py --dry-run            does everything work? one batch, nothing written

Results go to checkpoints/AlexNet/. The same command goes on with a run that was stopped.
"""

from functools import partial

import torch
import torch.nn.functional as F

from harness.data import random_crop, random_flip
from harness.run import Run, command_line
from model import ACTIVATIONS, POOLINGS, AlexNet

RECIPES = {
    "laptop": {
        "data": "fashion-mnist",
        "epochs": 30,
        "batch_size": 128,
        "lr": 2e-2,
        "side": 64,  # of an image; no crops: in so short a training they cost a point
        "image_size": 64,  # of what the network sees of it
        "width": 0.25,
    },
    "paper": {
        "data": None,
        "epochs": 90,
        "batch_size": 128,
        "lr": 1e-2,
        "side": 256,
        "image_size": 224,
        "width": 1.0,
    },
}
PATIENCE = 5  # epochs without a better validation accuracy that are put up with; not in the paper
ABLATIONS = {
    "activation": ACTIVATIONS,
    "pooling": POOLINGS,
    "lrn": ("on", "off"),
    "dropout": (0.5, 0.0),
    "groups": (2, 1),
}


def prepare(images, side, mean):
    """Raw values less the mean colour [C], enlarged: [B, C, H, W] to [B, C, side, side] (2)."""
    return F.interpolate(images.float(), size=side, mode="bilinear") - mean[:, None, None]


def principal_components(covariance):
    """The eigenvectors of the colours' covariance [C, C], as columns, times eigenvalues (4.1).

    The eigenvalues are those of colours from 0 to 1, which the paper does not say; with those of
    colours from 0 to 255, the shifts would be 255 times as large.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance / 255**2)
    return 255 * eigenvectors * eigenvalues


def shift_colors(images, components):
    """Add to all pixels of an image the same sum of components, times draws from N(0, 0.1^2)."""
    alphas = 0.1 * torch.randn(len(images), len(components), device=images.device)
    return images + (alphas @ components.T)[:, :, None, None]


def augment(images, size, components):
    """Random crops [B, C, size, size], mirrored or not, with their colours shifted (4.1)."""
    return shift_colors(random_flip(random_crop(images, size)), components)


def crop(images, top, left, size):
    """The same window of all images, [B, C, size, size]."""
    return images[:, :, top : top + size, left : left + size]


def center_crop(model, images, size):
    """Scores [B, classes] of the middle of each image."""
    start = (images.shape[-1] - size) // 2
    return model(crop(images, start, start, size))


def ten_crops(model, images, size):
    """Log of the mean of ten softmaxes [B, classes]: corners, middle, and all mirrored (4.1)."""
    last = images.shape[-1] - size
    places = [(0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2)]
    crops = [crop(images, top, left, size) for top, left in places]
    crops += [images.flip(3) for images in crops]
    return torch.stack([model(images).softmax(1) for images in crops]).mean(0).log()


def main():
    options = command_line(__doc__, RECIPES, **ABLATIONS)
    side, size, width = options.side, options.image_size, options.width
    run = Run("AlexNet", options)
    mean, covariance = run.colors(side)
    mean, components = mean.to(run.device), principal_components(covariance).to(run.device)
    train, validation, test = run.data(
        partial(prepare, side=side, mean=mean),
        partial(augment, size=size, components=components),
        side,
    )
    model = AlexNet(run.channels, len(run.classes), size, width, **run.ablations)
    # Sums over fewer inputs spread less: from conv2 to conv5 this gives them that of full width.
    model.initialize(std=0.01 / width**0.5)
    model = run.place(model)
    criterion = F.cross_entropy
    one_view = partial(center_crop, size=size)
    views = partial(ten_crops, size=size) if options.recipe == "paper" else one_view

    optimizer = torch.optim.SGD(model.parameters(), options.lr, momentum=0.9, weight_decay=5e-4)
    if options.recipe == "laptop":
        # Of today, not of 2012: a rate that rises and falls, since there is no time for plateaus.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            options.lr,
            total_steps=max(6, options.epochs * len(train)),  # at 5, it divides by zero
            pct_start=0.2,
            cycle_momentum=False,
        )
    else:
        # Divided by ten where the validation accuracy stops rising, three times (5).
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "max", 0.1, PATIENCE, threshold=0, min_lr=options.lr / 1000
        )

    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        model.train()
        for images, labels in run.batches(train):
            scores = model(images)
            loss = criterion(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if options.recipe == "laptop":
                schedule.step()
            run.log(loss, scores, labels)
        accuracy = run.validate(model, validation, criterion, one_view)
        if options.recipe == "paper":
            schedule.step(accuracy)
    run.finish(model, test, views)


if __name__ == "__main__":
    main()
