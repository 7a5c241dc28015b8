"""Train GoogLeNet.

    python train.py                      the laptop recipe, on the Fashion-MNIST that ships
    python train.py --data cifar10       the same on small photographs, which are downloaded
    python train.py --no-aux             what if? --help lists such ablations
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
from harness.schedule import one_cycle, running_average
from harness.settings import command_line
from harness.values import Count, Fraction, Positive, Share
from harness.vision import (
    affine_grid,
    center_crop,
    crop,
    principal_components,
    random_flip,
    resize,
    shift_colors,
)
from model import GoogLeNet

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel


@dataclass(frozen=True, kw_only=True)
class Recipe(images.Settings):
    side: Count  # pixels that the shorter side of an image is brought to
    area: tuple[Share, ...]  # smallest and largest share of an image that a patch covers
    scales: tuple[Count, ...] | None = None  # sides for many crops at test (7); not set: all of it
    image_size: Count  # pixels of a crop, which is what the network sees
    width: Positive  # share of the paper's feature maps and units
    averaging: Share  # decay of the average of the weights in a step, at most
    aux: bool = True  # auxiliary classifiers
    lrn: bool = True  # local response normalization
    dropout: Fraction = 0.4  # share of the units before the last layer that is dropped
    reduction: bool = True  # 1x1 convolutions before those of 3x3 and 5x5
    without: Literal["none", "1x1", "3x3", "5x5", "pool"] = "none"  # branch that all blocks lack

    def __post_init__(self):
        super().__post_init__()
        if self.scales and self.scales[0] < self.image_size:
            raise Refusal("--image-size is cut out of --scales: none of these may be smaller")


RECIPES = {
    "laptop": Recipe(
        data="fashion-mnist",
        epochs=15,
        batch_size=128,
        lr=2e-2,
        side=64,
        area=(0.9, 1.0),
        image_size=64,
        width=0.25,
        averaging=0.995,
    ),
    "paper": Recipe(
        data=None,
        epochs=90,
        batch_size=128,
        lr=1e-2,
        side=352,
        area=(0.08, 1.0),
        scales=(256, 288, 320, 352),
        image_size=224,
        width=1.0,
        averaging=0.9999,  # ours, as are epochs, batch, rate and weight decay: it gives none
    ),
}
AT_ONCE = 250  # crops that the network is given together at test


def prepare(images, side, mean):
    """Raw values [B, C, H, W] less the mean color [C], the shorter side now `side` (5)."""
    return resize(images.float(), side) - mean[:, None, None]


def random_patches(images, area, size):
    """Random parts of images [B, C, H, H], brought to [B, C, size, size] (6).

    Each covers a share of its image drawn evenly from `area`. The logarithm of its aspect ratio is
    drawn evenly, from 3/4 to 4/3 or less, where the patch would not fit in; the paper says neither.
    """
    count, device = len(images), images.device
    share = torch.empty(count, device=device).uniform_(area[0], area[-1])
    limit = share.log().neg().clamp(max=math.log(4 / 3))
    aspect = (limit * (2 * torch.rand(count, device=device) - 1)).exp()
    sides = torch.stack([share * aspect, share / aspect], 1).sqrt()  # of the image's: [B, 2]
    shift = (1 - sides) * (2 * torch.rand(count, 2, device=device) - 1)
    transform = torch.cat([sides.diag_embed(), shift[:, :, None]], 2)  # [B, 2, 3]
    grid = affine_grid(transform, size, size)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def augment(images, area, size, components):
    """Random patches (6), mirrored or not, with their colors shifted as in AlexNet."""
    return shift_colors(random_flip(random_patches(images, area, size)), components)


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
            crops = [resize(square, size)] + [crop(square, *place, size) for place in places]
            views = torch.cat(crops + [view.flip(3) for view in crops])
            softmaxes += [model(part).softmax(1) for part in views.split(AT_ONCE)]
    return torch.cat(softmaxes).view(-1, len(images), softmaxes[0].shape[1]).mean(0).log()


def head(model, images, view, number):
    """Scores [B, classes] of an auxiliary classifier: 1 is that on 4a, 2 that on 4d."""
    return view(partial(model, heads=True), images)[number]


def fit(recipe):
    """Train and test one network; the Run."""
    side, size, width = recipe.side, recipe.image_size, recipe.width
    data = images.load(recipe, side, whole=recipe.name == "paper")
    run = Run("GoogLeNet", recipe, **data.identity)
    mean, covariance = data.colors()
    mean, components = mean.to(run.device), principal_components(covariance).to(run.device)
    train, validation, test = data.loaders(
        run.device,
        partial(prepare, side=side, mean=mean),
        partial(augment, area=recipe.area, size=size, components=components),
    )
    ablations = recipe.aux, recipe.lrn, recipe.dropout, recipe.reduction, recipe.without
    model = run.place(GoogLeNet(data.channels, len(data.classes), size, width, *ablations))
    # Polyak's averaging (6). Over what, the paper does not say.
    average = running_average(recipe.averaging, recipe.epochs * len(train))
    averaged = AveragedModel(model, multi_avg_fn=average)
    criterion = F.cross_entropy
    one_view = views = partial(center_crop, size=size, scale=(recipe.scales or (size,))[0])
    if recipe.scales:
        views = partial(many_crops, size=size, scales=recipe.scales)

    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, momentum=0.9, weight_decay=2e-4)
    if recipe.name == "paper":
        # Four percent less every eight epochs (6).
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 8 * len(train), 0.96)
    else:
        # A schedule of today: the paper's is too slow for so few epochs.
        schedule = one_cycle(optimizer, recipe.lr, recipe.epochs * len(train))

    for epoch in run.epochs(model=model, averaged=averaged, optimizer=optimizer, schedule=schedule):
        model.train()
        for inputs, labels in run.batches(train):
            scores, *others = model(inputs)
            loss = criterion(scores, labels)
            optimizer.zero_grad()
            (loss + 0.3 * sum(criterion(other, labels) for other in others)).backward()  # (5)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(model)
            run.log(loss=loss, accuracy=scores.argmax(1) == labels)
        metrics = evaluate(averaged.module, validation, criterion, one_view)
        heads = ("aux_4a", "aux_4d") if recipe.aux and recipe.name == "laptop" else ()
        for number, name in enumerate(heads, start=1):  # each looks at the images again
            look = partial(head, view=one_view, number=number)
            seen = evaluate(averaged.module, validation, criterion, look)
            metrics[f"accuracy_{name}"] = seen["accuracy"]
        run.validate(averaged.module, metrics)
    finish(run, averaged.module, data, test, criterion, views)
    return run


if __name__ == "__main__":
    program(lambda: fit(command_line(__doc__, RECIPES)))
