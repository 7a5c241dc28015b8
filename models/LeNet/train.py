"""Train LeNet-5.

    python train.py                      the laptop recipe, on the Fashion-MNIST that ships
    python train.py --data mnist         the same on the digits of 1998, which are downloaded
    python train.py --activation tanh    what if? --help lists such ablations
    python train.py --recipe paper       the training of 1998, on MNIST, which is downloaded
    python train.py --dry-run            does everything work? one batch, nothing written

experiments.py puts the idea to the test: python experiments.py --help.
Results go to checkpoints/. The same command goes on with a run that was stopped.
"""

from dataclasses import dataclass
from typing import Literal

from harness import images
from harness.classification import evaluate, finish
from harness.errors import program
from harness.run import Run
from harness.schedule import one_cycle
from harness.settings import command_line
from harness.values import Positive
from harness.vision import distort
from model import LeNet5

import torch
import torch.nn.functional as F
from optimizer import DiagonalLevenbergMarquardt, need_1998, schedule_of_1998, second_derivatives


@dataclass(frozen=True, kw_only=True)
class Recipe(images.Settings):
    mu: Positive = 0.02  # keeps step sizes finite (III.B; recipe paper)
    distort: bool = False  # move, scale, squeeze and shear training images at random (III.B)
    activation: Literal["squash", "tanh", "relu"] = "squash"  # squash: the paper's scaled tanh
    pooling: Literal["subsampling", "average", "max"] = "subsampling"  # between convolutions
    output: Literal["rbf", "softmax"] = "rbf"  # distances to fixed codes, or a linear layer
    c3: Literal["table", "full"] = "table"  # which feature maps of S2 those of C3 see


RECIPES = {
    # Adam, many images a step and a one-cycle schedule are today's: they take minutes.
    "laptop": Recipe(data="fashion-mnist", epochs=40, batch_size=64, lr=4e-3, distort=True),
    "paper": Recipe(data="mnist", epochs=20, batch_size=1, lr=2e-5),
}
J = 20.0  # of equation 9; the paper does not give it, and from 1 to 20 it makes little difference


def prepare(images):
    """Center the images in 32x32, and scale them: background -0.1, ink 1.175 (II.B)."""
    margin = (32 - images.shape[-1]) // 2
    return F.pad(images, [margin] * 4).float() * (1.275 / 255) - 0.1


def equation_9(scores, labels):
    """The distance of the right class, plus log(e^-j + sum of e^-distance).

    It is cross-entropy with one more class, "none of these", always at distance j: the right class
    has to come nearer than that too, not only nearer than the other classes.
    """
    none_of_these = torch.full_like(scores[:, :1], -J)
    return F.cross_entropy(torch.cat([scores, none_of_these], dim=1), labels)


def fit(recipe):
    """Train and test one network; the Run."""
    data = images.load(recipe, side=32)
    run = Run("LeNet", recipe, **data.identity)
    augment = distort if recipe.distort else None
    train, validation, test = data.loaders(run.device, prepare, augment)
    ablations = recipe.activation, recipe.pooling, recipe.output, recipe.c3
    model = run.place(LeNet5(data.channels, len(data.classes), *ablations))
    criterion = equation_9 if recipe.output == "rbf" else F.cross_entropy

    if recipe.name == "paper":
        need_1998(recipe)
        optimizer = DiagonalLevenbergMarquardt(model.parameters(), recipe.lr, recipe.mu)
        schedule = schedule_of_1998(optimizer, len(train))
    else:
        optimizer = torch.optim.Adam(model.parameters(), recipe.lr, fused=True)
        schedule = one_cycle(optimizer, recipe.lr, recipe.epochs * len(train))

    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        model.train()
        if recipe.name == "paper":
            some, _ = train.dataset[torch.randperm(len(train.dataset))[:500]]
            optimizer.estimate(second_derivatives(model, prepare(some), J))
        for inputs, labels in run.batches(train):
            scores = model(inputs)
            loss = criterion(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            run.log(loss=loss, accuracy=scores.argmax(1) == labels)
        run.validate(model, evaluate(model, validation, criterion))
    finish(run, model, data, test, criterion)
    return run


if __name__ == "__main__":
    program(lambda: fit(command_line(__doc__, RECIPES)))
