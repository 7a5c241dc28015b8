"""Train VGG.

    python train.py                      the laptop recipe, on the Fashion-MNIST that ships
    python train.py --data cifar10       the same on small photographs, which are downloaded
    python train.py --config D           sixteen layers instead of eleven
    python train.py --init 0.01          what if? --help lists such ablations
    python train.py --config D --init 0.01 --start-from checkpoints/VGG/laptop-seed0
                                         with layers of the network A that the first line trained
    python train.py --recipe paper --data <folder with ImageNet>
                                         the training of 2014, on your photographs
    python train.py --dry-run            does everything work? one batch, nothing written

experiments.py puts the idea to the test: python experiments.py --help.
Results go to checkpoints/. The same command goes on with a run that was stopped.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from harness import images
from harness.classification import evaluate, finish
from harness.errors import Refusal, program
from harness.run import Run
from harness.schedule import one_cycle
from harness.settings import command_line
from harness.start import Start
from harness.values import Count, Folder, Fraction, Positive
from harness.vision import principal_components, random_flip, shift_colors
from model import VGG

import torch
import torch.nn.functional as F


@dataclass(frozen=True, kw_only=True)
class Recipe(images.Settings):
    side: Count  # pixels that the shorter side of an image is brought to
    scales: tuple[Count, ...]  # sides S: training draws one from first to last (3.1)
    image_size: Count  # pixels of a crop, which is what the network sees
    width: Positive  # share of the paper's feature maps and units
    config: Literal["A", "A-LRN", "B", "C", "D", "E"]  # column of Table 1, from 11 layers to 19
    dropout: Fraction = 0.5  # share of the units that are dropped in training
    init: Literal["glorot", "0.1", "0.01"] = "glorot"  # Glorot's, or of this standard deviation
    start_from: Folder | None = None  # begin with layers of this finished run

    def __post_init__(self):
        super().__post_init__()
        if self.scales[0] < self.image_size:
            raise Refusal("--image-size is cut out of --scales: none of these may be smaller")
        if self.name == "laptop" and self.side != self.image_size:
            raise Refusal("--side and --image-size have to be the same in this recipe")


RECIPES = {
    "laptop": Recipe(
        data="fashion-mnist",
        epochs=40,
        batch_size=128,
        lr=3e-2,
        side=32,
        scales=(32, 40),
        image_size=32,
        width=0.25,
        config="A",  # in 8 epochs D gains 0.3 points, less than seeds vary, in 1.7 times the time
    ),
    "paper": Recipe(
        data=None,
        epochs=74,
        batch_size=256,
        lr=1e-2,
        side=512,
        scales=(256, 384, 512),
        image_size=224,
        width=1.0,
        config="D",
    ),
}
PATIENCE = 5  # epochs to wait for a better validation accuracy; not in the paper
# What a deeper network takes from a trained A, with --start-from: the first four convolutions and
# the fully connected layers (3.1).
CARRIED_OVER = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")


def resize(images, side):
    """Images [B, C, H, W] with the shorter of H and W brought to `side` (3.1)."""
    sides = [round(side / min(images.shape[2:]) * length) for length in images.shape[2:]]
    return F.interpolate(images, size=sides, mode="bilinear")


def prepare(images, side, mean):
    """Raw values [B, C, H, W] less the mean color [C], the shorter side now `side` (2.1)."""
    return resize(images.float(), side) - mean[:, None, None]


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
    """Random crops at random scales, mirrored or not, with their colors shifted (3.1)."""
    return shift_colors(random_flip(scale_jitter(images, scales, size)), components)


def multi_scale(model, images, scales):
    """Log of the mean softmax [B, classes] over scales, each mirrored and not (3.2, 4.2).

    images: [B, C, H, W], of any shape, not smaller than those of training.
    """
    views = [resize(images, side) for side in scales]
    views += [view.flip(3) for view in views]
    # 32 images together, since one of 512 pixels takes 67 MB in conv1_1 alone.
    parts = [[model.dense(part).mean((2, 3)) for part in view.split(32)] for view in views]
    total = torch.stack([torch.cat(scores).log_softmax(1) for scores in parts]).logsumexp(0)
    return total - math.log(len(views))


def fit(recipe):
    """Train and test one network; the Run."""
    side, size, width, scales = recipe.side, recipe.image_size, recipe.width, recipe.scales
    data = images.load(recipe, side, whole=recipe.name == "paper")
    start = Start(recipe.start_from)
    run = Run("VGG", recipe, **data.identity, **start.identity)
    mean, covariance = data.colors()
    mean, components = mean.to(run.device), principal_components(covariance).to(run.device)
    train, validation, test = data.loaders(
        run.device,
        partial(prepare, side=side, mean=mean),
        partial(augment, size=size, scales=scales, components=components),
    )
    ablations = recipe.config, recipe.dropout, recipe.init
    model = VGG(data.channels, len(data.classes), size, width, *ablations)
    start.carry_over(model, CARRIED_OVER)
    model = run.place(model)
    criterion = F.cross_entropy
    one_view = views = None  # the image as it is
    if recipe.name == "paper":
        middle = scales[len(scales) // 2]
        one_view = partial(multi_scale, scales=[middle])  # as in Table 3
        views = partial(multi_scale, scales=scales)

    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, momentum=0.9, weight_decay=5e-4)
    if recipe.name == "paper":
        # Divided by ten where the validation accuracy stops rising, three times (3.1).
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
