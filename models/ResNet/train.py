"""Train ResNet.

    python train.py                      the laptop recipe, on the Fashion-MNIST that ships
    python train.py --data cifar10       the same on small photographs, which are downloaded
    python train.py --shortcut none      what if? --help lists such ablations
    python train.py --recipe cifar --depth 110 --warm-up 400
                                         the training of 2015 on CIFAR-10, here of 110 layers
    python train.py --recipe paper --data <folder with ImageNet>
                                         the training of 2015, on your photographs
    python train.py --dry-run            does everything work? one batch, nothing written

experiments.py puts the idea to the test: python experiments.py --help.
Results go to checkpoints/. The same command goes on with a run that was stopped.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from harness import images
from harness.classification import evaluate, finish
from harness.errors import Refusal, program
from harness.run import Run
from harness.schedule import one_cycle
from harness.settings import command_line
from harness.values import Count, Natural, Positive
from harness.vision import (
    center_crop,
    multi_scale,
    principal_components,
    random_crop,
    random_flip,
    resize,
    scale_jitter,
    shift_colors,
    squares,
    ten_crops,
)
from model import CifarResNet, ResNet

import torch
import torch.nn.functional as F


@dataclass(frozen=True, kw_only=True)
class Recipe(images.Settings):
    side: Count  # pixels that the shorter side of an image is brought to
    scales: tuple[Count, ...] | None = None  # sides S of photographs, first to last (recipe paper)
    image_size: Count  # pixels of a training crop; laptop, cifar: the test is on all of the image
    padding: Natural = 0  # zeros around a small image, which is then cropped (4.2; not paper)
    views: Literal["one", "ten", "dense"] = "one"  # at test: one, ten crops, or all of it at scales
    test_scales: tuple[Count, ...] | None = None  # sides for --views dense; not set: --side
    width: Positive = 1.0  # share of the paper's feature maps
    depth: Count  # layers: 18, 34, 50, 101, 152 (recipe paper); 6n + 2, in basic blocks (others)
    shortcut: Literal["A", "B", "C", "none"] = "A"  # zeros; projections; these everywhere; plain
    norm: bool = True  # batch normalization
    preactivation: bool = False  # normalization and ReLU before each convolution, as in 2016
    shortcut_scale: Positive = 1.0  # factor of what a shortcut passes on, where there is one
    warm_up: Natural = 0  # steps at the start, at a tenth of the learning rate (recipe cifar)

    def __post_init__(self):
        super().__post_init__()
        if (self.scales or (self.side,))[0] < self.image_size:
            raise Refusal("--image-size is cut out of --scales, or --side: none may be smaller")
        self.refuse_idle(scales=self.name != "paper", padding=self.name == "paper")
        self.refuse_idle(test_scales=self.views != "dense", warm_up=self.name != "cifar")
        self.refuse_idle(shortcut_scale=self.shortcut == "none")


RECIPES = {
    "laptop": Recipe(
        data="fashion-mnist",
        epochs=15,
        batch_size=128,
        lr=1e-1,
        side=28,
        image_size=28,
        padding=1,
        depth=14,  # 20 layers, or 8 but wider, did worse in equal time (one seed)
    ),
    "cifar": Recipe(
        data="cifar10",
        epochs=182,  # 64,000 steps
        batch_size=128,
        lr=1e-1,
        side=32,
        image_size=32,
        padding=4,
        depth=20,
    ),
    "paper": Recipe(
        data=None,
        epochs=120,  # 600,000 steps
        batch_size=256,
        lr=1e-1,
        side=640,
        scales=(256, 480),
        image_size=224,
        views="dense",
        test_scales=(224, 256, 384, 480, 640),
        depth=50,
        shortcut="B",
    ),
}
PATIENCE = 5  # epochs to wait for a better validation accuracy; not in the paper


def prepare(images, side, mean):
    """Raw values [B, C, H, W] less the mean color [C], the shorter side now `side` (3.4)."""
    return resize(images.float(), side) - mean[:, None, None]


def augment(images, size, scales, components):
    """Random crops at random scales, mirrored or not, with their colors shifted (3.4)."""
    return shift_colors(random_flip(scale_jitter(images, scales, size)), components)


def augment_small(images, size, padding):
    """Random crops of images with zeros around them, mirrored or not (4.2)."""
    return random_flip(random_crop(F.pad(images, [padding] * 4), size))


def ten_crops_at(model, images, size, scale):
    """Ten crops of the middle square of images whose shorter side is brought to `scale` (3.4)."""
    _, middle, _ = squares(resize(images, scale))
    return ten_crops(model, middle, size)


def factor(step, steps, warm_up):
    """Of the rate: a tenth in warm_up, and from half of the steps; a hundredth from 3/4 (4.2)."""
    return 0.1 if step < warm_up else 0.1 ** ((2 * step >= steps) + (4 * step >= 3 * steps))


def fit(recipe, measure=None):
    """Train and test one network; the Run. measure: see experiments.probe."""
    side, size, width = recipe.side, recipe.image_size, recipe.width
    scales, test_scales = recipe.scales or (side,), recipe.test_scales or (side,)
    data = images.load(recipe, side, whole=recipe.name == "paper")
    run = Run("ResNet", recipe, **data.identity)
    mean, covariance = data.colors()
    mean, components = mean.to(run.device), principal_components(covariance).to(run.device)
    one_view = None  # the image as it is (4.2)
    random_views = partial(augment_small, size=size, padding=recipe.padding)
    if recipe.name == "paper":
        one_view = partial(center_crop, size=size, scale=scales[0])
        random_views = partial(augment, size=size, scales=scales, components=components)
    train, validation, test = data.loaders(
        run.device,
        partial(prepare, side=side, mean=mean),
        random_views,
        smallest=2,
    )
    network = ResNet if recipe.name == "paper" else CifarResNet
    ablations = recipe.shortcut, recipe.norm, recipe.preactivation, recipe.shortcut_scale
    model = network(data.channels, len(data.classes), width, recipe.depth, *ablations)
    model = run.place(model)
    criterion = F.cross_entropy
    views = {
        "one": one_view,
        "ten": partial(ten_crops_at, size=size, scale=scales[0]),
        "dense": partial(multi_scale, scales=test_scales),  # each mirrored and not
    }

    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, momentum=0.9, weight_decay=1e-4)
    if recipe.name == "paper":
        # Divided by ten where the validation accuracy stops rising (3.4).
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "max", 0.1, PATIENCE, threshold=0, min_lr=recipe.lr / 1000
        )
    elif recipe.name == "cifar":
        falling = partial(factor, steps=recipe.epochs * len(train), warm_up=recipe.warm_up)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, falling)
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
        measured = measure(run, model, train, validation) if measure else {}
        run.validate(model, metrics, **measured)
        if recipe.name == "paper":
            schedule.step(metrics["accuracy"])
    finish(run, model, data, test, criterion, views[recipe.views], pictures=not measure)
    return run


if __name__ == "__main__":
    program(lambda: fit(command_line(__doc__, RECIPES)))
