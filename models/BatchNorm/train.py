"""Train GoogLeNet with batch normalization, and put batch normalization to the test.

    python train.py                      the laptop recipe, on the Fashion-MNIST that ships
    python train.py --data cifar10       the same on small photographs, which are downloaded
    python train.py --norm none --lr 0.02
                                         what if? see the ablations below
    python train.py --experiment figure1 a small network with and without it, over 50,000 steps
    python train.py --experiment figure1 --recipe paper
                                         the same on MNIST in black and white, as in the paper
    python train.py --experiment figure2 GoogLeNet with and without, at learning rates up to 30-fold
    python train.py --experiment dangers batches of two; and evaluation mode forgotten
    python train.py --recipe paper --data <folder with ImageNet>
                                         the training of 2015, on your photographs
    python train.py --dry-run            does everything work? one batch, nothing written

Sections (4.1) and (4.2) are those of the paper on batch normalization, others are GoogLeNet's.
Results go to checkpoints/BatchNorm/. The same command goes on with what was stopped.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import experiments
from harness.data import random_flip, refuse
from harness.run import Run, command_line
from model import ACTIVATIONS, BRANCHES, NORMS, GoogLeNet

RECIPES = {
    "laptop": {
        "data": "fashion-mnist",
        "epochs": 15,
        "batch_size": 128,
        "lr": 1e-1,  # five times that of GoogLeNet
        "side": 64,  # of an image
        "area": (0.9, 1.0),  # the share of it that a patch covers in training
        "image_size": 64,  # of what the network sees of it
        "width": 0.25,
        "averaging": 0.995,  # the decay of the average of the weights, in a step
        "weight_decay": 2e-4,  # GoogLeNet's
        "decay_every": None,  # epochs to four percent less; None: a rate that rises and falls
        "norm": "torch",  # PyTorch's is faster than ours, and does the same
        "lrn": "off",  # as in the paper (4.2.1), and so is the dropout
        "dropout": 0.0,
    },
    "paper": {
        "data": None,
        "epochs": 150,  # the 6 million steps of BN-x30
        "batch_size": 32,
        "lr": 4.5e-2,  # 30 times that of the network without normalization
        "side": 352,
        "area": (0.08, 1.0),
        "image_size": 224,
        "width": 1.0,
        "averaging": 0.9999,  # ours
        "weight_decay": 4e-5,  # a fifth (4.2.1) of what we gave GoogLeNet
        "decay_every": 8 / 6,  # six times as fast (4.2.1) as GoogLeNet
        "norm": "torch",
        "lrn": "off",
        "dropout": 0.0,
    },
}
SCALES = (256, 288, 320, 352)  # that the shorter side is brought to at test (7)
AT_ONCE = 250  # crops that the network is given together at test
ABLATIONS = {
    "norm": tuple(NORMS),
    "activation": tuple(ACTIVATIONS),
    "aux": ("on", "off"),
    "lrn": ("on", "off"),
    "dropout": (0.4, 0.0),
    "reduction": ("on", "off"),
    "without": ("none", *BRANCHES),
}


def resize(images, side):
    """Images [B, C, H, W] with the shorter of H and W brought to `side`."""
    sides = [round(side / min(images.shape[2:]) * length) for length in images.shape[2:]]
    return F.interpolate(images, size=sides, mode="bilinear")


def prepare(images, side, mean):
    """Raw values [B, C, H, W] less the mean colour [C], the shorter side now `side` (5)."""
    return resize(images.float(), side) - mean[:, None, None]


def patches(images, area, size):
    """Random parts of images [B, C, H, H], brought to [B, C, size, size] (6).

    Each covers a share of its image between the two of `area`, all equally likely. Its aspect
    ratio is between 3/4 and 4/3, with a logarithm drawn evenly, and narrower where the patch
    would not fit in otherwise; the paper says neither.
    """
    count, device = len(images), images.device
    share = torch.empty(count, device=device).uniform_(*area)
    limit = share.log().neg().clamp(max=math.log(4 / 3))
    aspect = (limit * (2 * torch.rand(count, device=device) - 1)).exp()
    sides = torch.stack([share * aspect, share / aspect], 1).sqrt()  # of the image's: [B, 2]
    transform = torch.zeros(count, 2, 3, device=device)
    transform[:, [0, 1], [0, 1]] = sides
    transform[:, :, 2] = (1 - sides) * (2 * torch.rand(count, 2, device=device) - 1)
    grid = F.affine_grid(transform, [*images.shape[:2], size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def principal_components(covariance):
    """The eigenvectors of the colours' covariance [C, C], as columns, times eigenvalues.

    The eigenvalues are those of colours from 0 to 1, as in AlexNet, which the shift is taken from.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance / 255**2)
    return 255 * eigenvectors * eigenvalues


def shift_colors(images, components):
    """Add to all pixels of an image the same sum of components, times draws from N(0, 0.1^2)."""
    alphas = 0.1 * torch.randn(len(images), len(components), device=images.device)
    return images + (alphas @ components.T)[:, :, None, None]


def augment(images, area, size, components):
    """Random patches (6), mirrored or not, with their colours shifted as in AlexNet."""
    return shift_colors(random_flip(patches(images, area, size)), components)


def crop(images, top, left, size):
    """The same window of all images, [B, C, size, size]."""
    return images[:, :, top : top + size, left : left + size]


def center_crop(model, images, size, scale):
    """Scores [B, classes] of the middle of each image, whose shorter side is `scale` before."""
    images = resize(images, scale)
    top, left = ((length - size) // 2 for length in images.shape[2:])
    return model(crop(images, top, left, size))


def squares(images):
    """Left, middle and right of images [B, C, H, W], or top, middle and bottom of tall ones (7)."""
    height, width = images.shape[2:]
    side = min(height, width)
    for part in range(3):
        yield crop(images, part * (height - side) // 2, part * (width - side) // 2, side)


def many_crops(model, images, size, scales):
    """Log of the mean of all softmaxes [B, classes]; of four scales, 144 (7).

    Of each scale three squares, of each square the corners, the middle and all of it, brought to
    `size`, and each of these mirrored and not. images: [B, C, H, W], of any shape.
    """
    softmaxes = []
    for scale in scales:
        for square in squares(resize(images, scale)):
            last = scale - size
            places = [(0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2)]
            crops = [crop(square, top, left, size) for top, left in places]
            crops.append(resize(square, size))
            views = torch.cat(crops + [view.flip(3) for view in crops])
            softmaxes += [model(part).softmax(1) for part in views.split(AT_ONCE)]
    return torch.cat(softmaxes).view(-1, len(images), softmaxes[0].shape[1]).mean(0).log()


def head(model, images, number):
    """Scores [B, classes] of an auxiliary classifier: 1 is that on 4a, 2 that on 4d."""
    return model(images, heads=True)[number]


def googlenet(options, measure=None, **variant):
    """A run of GoogLeNet, with what `variant` changes of the options; measure: see fit()."""
    side, area, size, width = options.side, options.area, options.image_size, options.width
    run = Run("BatchNorm", options, **variant)
    mean, covariance = run.colors(side)
    mean, components = mean.to(run.device), principal_components(covariance).to(run.device)
    train, validation, test = run.data(
        partial(prepare, side=side, mean=mean),
        partial(augment, area=area, size=size, components=components),
        side,
        whole=options.recipe == "paper",
    )
    model = run.place(GoogLeNet(run.channels, len(run.classes), size, width, **run.ablations))
    # Polyak's averaging (6). Over what, the paper does not say: here mostly over the last
    # 1 / (1 - decay) steps, and not over more than a tenth of the training.
    decay = max(0, min(options.averaging, 1 - 10 / (options.epochs * len(train))))
    one_view = views = None  # the image as it is
    if options.recipe == "paper":
        one_view = partial(center_crop, size=size, scale=SCALES[0])
        views = partial(many_crops, size=size, scales=SCALES)
    heads = {}
    if run.ablations["aux"] == "on" and options.recipe == "laptop":  # two more looks at the images
        heads = {"aux_4a": partial(head, number=1), "aux_4d": partial(head, number=2)}

    lr, weight_decay = run.settings["lr"], run.settings["weight_decay"]
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=weight_decay)
    if run.settings["decay_every"] is None:
        # Of today, not of 2015: a rate that rises and falls, since so short a training needs it.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            lr,
            total_steps=max(6, options.epochs * len(train)),  # at 5, it divides by zero
            pct_start=0.2,
            cycle_momentum=False,
        )
    else:
        # Four percent less, six times as often as without normalization (4.2.1).
        steps = max(1, round(run.settings["decay_every"] * len(train)))
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, steps, 0.96)
    loaders = train, validation, test
    fit(run, model, loaders, optimizer, schedule, decay, one_view, heads, views, measure)
    return run


def fit(
    run,
    model,
    loaders,
    optimizer,
    schedule,
    decay=0.0,  # of the weights' average, in a step; 0: no average
    one_view=None,  # at a validation image
    heads=None,  # others' looks at it
    views=None,  # at a test image
    measure=None,  # of run, model and loaders: further numbers for history.csv, after an epoch
    choose=True,  # see run.validate()
):
    """The training loop of every run."""
    train, validation, test = loaders
    size = run.settings["batch_size"]
    normalized = run.settings["norm"] != "none" or run.settings["experiment"]
    if normalized and 1 in (size, len(train.dataset) % size):
        refuse("a batch would be one image, which has no variance: another --batch-size or --limit")
    # use_buffers: the running statistics are averaged, too; the last weights' would not fit.
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    criterion = F.cross_entropy
    for epoch in run.epochs(model=model, averaged=averaged, optimizer=optimizer, schedule=schedule):
        model.train()
        for images, labels in run.batches(train):
            scores, *others = model(images)
            loss = criterion(scores, labels)
            optimizer.zero_grad()
            (loss + 0.3 * sum(criterion(other, labels) for other in others)).backward()  # (5)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(model)
            run.log(loss, scores, labels)
        measured = measure(run, averaged.module, loaders) if measure else None
        run.validate(averaged.module, validation, criterion, one_view, heads, measured, choose)
    run.finish(averaged.module, test, views, pictures=not run.settings["experiment"])


def main():
    options = command_line(__doc__, RECIPES, experiments=experiments.RECIPES, **ABLATIONS)
    if options.experiment:
        experiments.run(options, fit, googlenet)
    else:
        googlenet(options)


if __name__ == "__main__":
    main()
