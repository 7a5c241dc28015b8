"""Train LeNet-5.

    python train.py                   the laptop recipe, on the Fashion-MNIST that ships
    python train.py --data mnist      the same on the digits of 1998, which are downloaded
    python train.py --dry-run         does everything work? one batch, nothing written

Results go to checkpoints/LeNet/. The same command goes on with a run that was stopped.
"""

import torch
import torch.nn.functional as F

from harness.run import Run, command_line
from model import ACTIVATIONS, POOLINGS, LeNet5

RECIPES = {
    "laptop": {"data": "fashion-mnist", "epochs": 15, "batch_size": 64, "lr": 3e-3},
}
ABLATIONS = {
    "activation": ACTIVATIONS,
    "pooling": POOLINGS,
    "output": ("rbf", "softmax"),
    "c3": ("table", "full"),
}


def prepare(images):
    """Center the images in 32x32, and scale them: background -0.1, ink 1.175 (II.B)."""
    margin = (32 - images.shape[-1]) // 2
    return F.pad(images, [margin] * 4).float() * (1.275 / 255) - 0.1


def equation_9(scores, labels, j=20.0):
    """The distance of the right class, plus log(e^-j + sum of e^-distance).

    It is cross-entropy with one more class, "none of these", which is always at distance j: wrong
    classes are pushed away until they are farther than j, and no further. The paper does not give
    its j; 20 was chosen on the validation images (1, 20 and 84 were tried).
    """
    none_of_these = torch.full_like(scores[:, :1], -j)
    return F.cross_entropy(torch.cat([scores, none_of_these], dim=1), labels)


def main():
    options = command_line(__doc__, RECIPES, **ABLATIONS)
    run = Run("LeNet", options)
    train, validation, test = run.data(prepare)
    model = run.place(LeNet5(run.channels, len(run.classes), **run.ablations))
    criterion = equation_9 if options.output == "rbf" else F.cross_entropy

    # Of today, not of 1998: Adam and a rate that rises and falls do in minutes what a step size per
    # weight, from its second derivative, did in days.
    optimizer = torch.optim.Adam(model.parameters(), options.lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.lr, total_steps=options.epochs * len(train), cycle_momentum=False
    )

    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        model.train()
        for images, labels in run.batches(train):
            scores = model(images)
            loss = criterion(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            run.log(loss, scores, labels)
        run.validate(model, validation, criterion)
    run.finish(model, test)


if __name__ == "__main__":
    main()
