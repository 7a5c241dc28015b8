"""The baseline of README's table: a linear classifier on Fashion-MNIST, in less than a minute.

    python benchmarks/linear.py            train it, and put its row into results.csv
    python benchmarks/linear.py --seed 1   the same with another seed

One linear layer from the 784 pixels to the ten classes: what a network has to beat to be worth its
name. Adam with a one-cycle schedule, as LeNet; its learning rate was the best of 0.001, 0.003 and
0.01 on the validation images.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import branches
import results


def fit(recipe):
    """Train and test one linear classifier; the Run."""
    from harness import images
    from harness.classification import evaluate, finish
    from harness.run import Run
    from harness.schedule import one_cycle

    import torch

    data = images.load(recipe, side=28)
    run = Run("Linear", recipe, **data.identity)
    train, validation, test = data.loaders(run.device, lambda images: images.float() / 255)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, len(data.classes)))
    optimizer = torch.optim.Adam(model.parameters(), recipe.lr)
    schedule = one_cycle(optimizer, recipe.lr, recipe.epochs * len(train))
    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        for inputs, labels in run.batches(train):
            scores = model(inputs)
            loss = torch.nn.functional.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            run.log(loss=loss, accuracy=scores.argmax(1) == labels)
        run.validate(model, evaluate(model, validation))
    finish(run, model, data, test, pictures=False)
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--trial", action="store_true", help="write nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        branches.preview(Path(folder, "all"))
        sys.path.insert(0, str(Path(folder, "all", "LeNet")))
        from harness.images import Settings

        recipe = Settings(data="fashion-mnist", epochs=20, batch_size=128, lr=options.lr)
        run = fit(recipe.but(name=results.LAPTOP, seed=options.seed))
        row = results.finished(run.folder)
    if not options.trial:
        baseline = results.TASKS["classification"].baselines[0]
        results.add(row | {"branch": baseline, "code": "", "seconds": ""})


if __name__ == "__main__":
    main()
