"""Train GoogLeNet with batch normalization.

    python train.py                      the laptop recipe, on the Fashion-MNIST that ships
    python train.py --data cifar10       the same on small photographs, which are downloaded
    python train.py --norm none --lr 0.02
                                         what if? --help lists such ablations
    python train.py --recipe paper --data <folder with ImageNet>
                                         the training of 2015, on your photographs
    python train.py --dry-run            does everything work? one batch, nothing written

experiments.py puts the idea to the test: python experiments.py --help.
Sections (4.1) and (4.2) are those of the paper on batch normalization, others are GoogLeNet's.
Results go to checkpoints/. The same command goes on with a run that was stopped.
"""

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
    center_crop,
    many_crops,
    principal_components,
    random_flip,
    random_patches,
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
    weight_decay: Positive = 2e-4  # GoogLeNet's
    decay_every: Positive | None = None  # epochs per cut of 4 %; not set: one-cycle schedule
    norm: Literal["batch", "torch", "none"] = "torch"  # PyTorch's is faster than ours, and the same
    activation: Literal["relu", "sigmoid"] = "relu"  # of a unit
    aux: bool = True  # auxiliary classifiers
    lrn: bool = False  # local response normalization; none, as in the paper (4.2.1)
    dropout: Fraction = 0.0  # share of the units before the last layer that is dropped
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
        lr=1e-1,  # five times that of GoogLeNet
        side=64,
        area=(0.9, 1.0),
        image_size=64,
        width=0.25,
        averaging=0.995,
    ),
    "paper": Recipe(
        data=None,
        epochs=150,  # the 6 million steps of BN-x30
        batch_size=32,
        lr=4.5e-2,  # 30 times that of the network without normalization
        side=352,
        area=(0.08, 1.0),
        scales=(256, 288, 320, 352),
        image_size=224,
        width=1.0,
        averaging=0.9999,  # ours
        weight_decay=4e-5,  # a fifth (4.2.1) of what we gave GoogLeNet
        decay_every=8 / 6,  # six times as fast (4.2.1) as GoogLeNet
    ),
}


def prepare(images, side, mean):
    """Raw values [B, C, H, W] less the mean color [C], the shorter side now `side` (5)."""
    return resize(images.float(), side) - mean[:, None, None]


def augment(images, area, size, components):
    """Random patches (6), mirrored or not, with their colors shifted as in AlexNet."""
    return shift_colors(random_flip(random_patches(images, area, size)), components)


def head(model, images, view, number):
    """Scores [B, classes] of an auxiliary classifier: 1 is that on 4a, 2 that on 4d."""
    return view(partial(model, heads=True), images)[number]


def fit(recipe, measure=None):
    """Train and test one network; the Run. measure: see experiments.figure2."""
    side, size, width = recipe.side, recipe.image_size, recipe.width
    data = images.load(recipe, side, whole=recipe.name == "paper")
    run = Run("BatchNorm", recipe, **data.identity)
    mean, covariance = data.colors()
    mean, components = mean.to(run.device), principal_components(covariance).to(run.device)
    train, validation, test = data.loaders(
        run.device,
        partial(prepare, side=side, mean=mean),
        partial(augment, area=recipe.area, size=size, components=components),
        smallest=1 if recipe.norm == "none" and not measure else 2,
    )
    ablations = recipe.norm, recipe.activation
    ablations += recipe.aux, recipe.lrn, recipe.dropout, recipe.reduction, recipe.without
    model = run.place(GoogLeNet(data.channels, len(data.classes), size, width, *ablations))
    # Polyak's averaging (6). Over what, the paper does not say.
    average = running_average(recipe.averaging, recipe.epochs * len(train))
    # use_buffers: the running statistics are averaged, too; the last weights' would not fit.
    averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    criterion = F.cross_entropy
    one_view = views = partial(center_crop, size=size, scale=(recipe.scales or (size,))[0])
    if recipe.scales:
        views = partial(many_crops, size=size, scales=recipe.scales)

    optimizer = torch.optim.SGD(
        model.parameters(), recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay
    )
    if recipe.decay_every:
        # Four percent less, six times as often as without normalization (4.2.1).
        steps = max(1, round(recipe.decay_every * len(train)))
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, steps, 0.96)
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
        measured = measure(run, averaged.module, train, validation) if measure else {}
        run.validate(averaged.module, metrics, **measured)
    finish(run, averaged.module, data, test, criterion, views, pictures=not measure)
    return run


if __name__ == "__main__":
    program(lambda: fit(command_line(__doc__, RECIPES)))
