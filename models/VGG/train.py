"""Train VGG.

    python train.py                      the laptop recipe, on the Fashion-MNIST that ships
    python train.py --data cifar10       the same on small photographs, which are downloaded
    python train.py --config D           sixteen layers instead of eleven
    python train.py --init 0.01          what if? see the ablations below
    python train.py --config D --init 0.01 --start-from checkpoints/VGG/laptop-seed0
                                         with layers of the network A that the first line trained
    python train.py --recipe paper --data <folder with ImageNet>
                                         the training of 2014, on your photographs
    python train.py --dry-run            does everything work? one batch, nothing written

Results go to checkpoints/VGG/. The same command goes on with a run that was stopped.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F

from harness.data import random_flip
from harness.run import Run, command_line
from model import CONFIGURATIONS, INITIALIZATIONS, VGG

RECIPES = {
    "laptop": {
        "data": "fashion-mnist",
        "epochs": 25,
        "batch_size": 128,
        "lr": 3e-2,
        "side": 32,  # of an image
        "scales": (32, 36),  # that it is enlarged to in training, before a crop
        "image_size": 32,  # of what the network sees of it
        "width": 0.25,
        "config": "A",  # in 8 epochs D gains 0.3 points, in 1.7 times the time
    },
    "paper": {
        "data": None,
        "epochs": 74,
        "batch_size": 256,
        "lr": 1e-2,
        "side": 512,
        "scales": (256, 384, 512),  # in training, any from the first to the last; at test, all
        "image_size": 224,
        "width": 1.0,
        "config": "D",
    },
}
PATIENCE = 5  # epochs without a better validation accuracy that are put up with; not in the paper
ABLATIONS = {
    "config": tuple(CONFIGURATIONS),
    "dropout": (0.5, 0.0),
    "init": INITIALIZATIONS,
}
# What a deeper network takes from a trained A, with --start-from: the first four convolutions and
# the fully connected layers (3.1).
CARRIED_OVER = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")


def resize(images, side):
    """Images [B, C, H, W] with the shorter of H and W brought to `side` (3.1)."""
    sides = [round(side / min(images.shape[2:]) * length) for length in images.shape[2:]]
    return F.interpolate(images, size=sides, mode="bilinear")


def prepare(images, side, mean):
    """Raw values [B, C, H, W] less the mean colour [C], the shorter side now `side` (2.1)."""
    return resize(images.float(), side) - mean[:, None, None]


def principal_components(covariance):
    """The eigenvectors of the colours' covariance [C, C], as columns, times eigenvalues (3.1).

    The eigenvalues are those of colours from 0 to 1, as in AlexNet, which the shift is taken from.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance / 255**2)
    return 255 * eigenvectors * eigenvalues


def shift_colors(images, components):
    """Add to all pixels of an image the same sum of components, times draws from N(0, 0.1^2)."""
    alphas = 0.1 * torch.randn(len(images), len(components), device=images.device)
    return images + (alphas @ components.T)[:, :, None, None]


def scale_jitter(images, scales, size):
    """Crops [B, C, size, size] of images brought to sides S from scales[0] to scales[-1] (3.1).

    images: squares. Each gets an S and a place of its own. A crop of `size` out of S pixels is the
    share size / S of the image's side, so it is sampled in one go, and not after resizing. To save
    time, the paper trains at S = 384 before; this does not.
    """
    count, device = len(images), images.device
    share = size / torch.randint(scales[0], scales[-1] + 1, (count, 1), device=device)
    transform = torch.zeros(count, 2, 3, device=device)
    transform[:, [0, 1], [0, 1]] = share
    transform[:, :, 2] = (1 - share) * (2 * torch.rand(count, 2, device=device) - 1)
    grid = F.affine_grid(transform, [*images.shape[:2], size, size], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def augment(images, size, scales, components):
    """Random crops at random scales, mirrored or not, with their colours shifted (3.1)."""
    return shift_colors(random_flip(scale_jitter(images, scales, size)), components)


def multi_scale(model, images, scales):
    """Log of the mean softmax [B, classes] over scales, each mirrored and not (3.2, 4.2).

    images: [B, C, H, W], of any shape, not smaller than those of training.
    """
    views = [resize(images, side) for side in scales]
    views += [images.flip(3) for images in views]
    scores = [model.dense(images).mean((2, 3)) for images in views]
    total = torch.stack([score.log_softmax(1) for score in scores]).logsumexp(0)
    return total - math.log(len(scores))


def main():
    options = command_line(
        __doc__, RECIPES, start_from="begin with layers of this finished run", **ABLATIONS
    )
    side, scales, size = options.side, options.scales, options.image_size
    run = Run("VGG", options)
    mean, covariance = run.colors(side)
    mean, components = mean.to(run.device), principal_components(covariance).to(run.device)
    train, validation, test = run.data(
        partial(prepare, side=side, mean=mean),
        partial(augment, size=size, scales=scales, components=components),
        side,
        whole=options.recipe == "paper",
    )
    model = VGG(run.channels, len(run.classes), size, options.width, **run.ablations)
    if options.start_from:
        run.carry_over(model, CARRIED_OVER)
    model = run.place(model)
    criterion = F.cross_entropy
    one_view = views = None  # the image as it is
    if options.recipe == "paper":
        one_view = partial(multi_scale, scales=scales[1:2])  # the middle one, as in Table 3
        views = partial(multi_scale, scales=scales)

    optimizer = torch.optim.SGD(model.parameters(), options.lr, momentum=0.9, weight_decay=5e-4)
    if options.recipe == "laptop":
        # Of today, not of 2014: a rate that rises and falls, since there is no time for plateaus.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            options.lr,
            total_steps=max(6, options.epochs * len(train)),  # at 5, it divides by zero
            pct_start=0.2,
            cycle_momentum=False,
        )
    else:
        # Divided by ten where the validation accuracy stops rising, three times (3.1).
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
