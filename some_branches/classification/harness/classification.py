"""Classification: the metrics of a model on a data set, and how a run ends."""

import math

from harness import predicting, ranks
from harness.errors import harmless
from harness.files import write_csv
from harness.meter import progress

import torch
from torch.nn import functional as F

LEAST = math.log(2**-149)  # of the smallest number in float32: a mean of softmaxes below it is 0


@torch.inference_mode()
def predict(model, loader, criterion=F.cross_entropy, scores_of=None):
    """(mean loss, up to five classes with the best scores [N, 5], true classes [N]).

    Each rank looks at its part of the images, and all return the whole, in the loader's order.

    scores_of(model, images): the scores [B, classes], where they are not simply model(images).
    """
    training = model.training
    model.eval()
    loss, predicted, true = 0.0, [], []
    with progress(loader, "evaluating") as batches:
        for images, labels in batches:
            scores = scores_of(model, images) if scores_of else model(images)
            if scores_of:  # an image that is surely wrong would make the loss infinite
                scores = scores.masked_fill(scores == -math.inf, LEAST)
            loss += criterion(scores, labels) * len(labels)
            ranked = scores.sort(dim=1, descending=True, stable=True).indices
            predicted.append(ranked[:, :5])
            true.append(labels)
    model.train(training)
    predicted, true = (whole(parts, loader) for parts in (predicted, true))
    return ranks.total(loss)[0] / len(true), predicted, true


def whole(parts, loader):
    """What all ranks found of a loader's images, in its order; parts: this rank's, by batch."""
    if ranks.WORLD > 1 and hasattr(loader.dataset, "gather"):  # a folder: dealt out one by one
        rows = [row for part in parts for row in part.tolist()]
        return torch.tensor(loader.dataset.gather(rows))
    return torch.cat(ranks.gather([part.cpu() for part in parts]))


def metrics(loss, predicted, true):
    """{"loss": ..., "accuracy": ...} of what predict() returns; with five ranks, "top5" as well."""
    right = predicted == true[:, None]
    found = {"loss": loss, "accuracy": right[:, 0].sum().item() / len(true)}
    return found | ({"top5": right.any(1).sum().item() / len(true)} if right.shape[1] > 4 else {})


def evaluate(model, loader, criterion=F.cross_entropy, scores_of=None):
    """{"loss": ..., "accuracy": ...} of a model in evaluation mode on all images of a loader."""
    loss, predicted, true = predict(model, loader, criterion, scores_of)
    return metrics(loss, predicted[:, :1], true)


def finish(run, model, data, loader, criterion=F.cross_entropy, scores_of=None, pictures=True):
    """Test the chosen weights of a run, once; write result, weights, predictions, then pictures.

    data: has the classes and says which split the loader is of. The result, None of a dry run, and
    where --predict asks for something else.
    """
    if run.settings.predict:
        return predicting.predict(run, model, data, scores_of)
    seen = []

    def test():
        seen.append(predict(model, loader, criterion, scores_of))
        loss, predicted, true = seen[0]
        return metrics(loss, predicted if len(data.classes) > 10 else predicted[:, :1], true)

    about = {"classes": data.classes} | ({} if data.mean is None else {"mean": data.mean})
    result = run.finish(model, test, data.last_split, **about)
    if result and not (run.folder / "predictions.csv").exists():
        if not seen:  # finished before, and stopped before they were written
            test()
        paths = getattr(loader.dataset, "readable", None)
        record(run, data.classes, seen[0][1][:, 0], seen[0][2], paths)
    if result and pictures and not (run.folder / "curves.png").exists():
        draw(run)
    return result


def record(run, classes, predicted, true, paths=None):
    """predictions.csv: each test image's class and the class it was taken for, [N] both.

    paths: of the images, where they are files.
    """
    rows = [
        {"image": image, "true": classes[label], "predicted": classes[guess]}
        for image, (label, guess) in enumerate(zip(true.tolist(), predicted.tolist()))
    ]
    for row, path in zip(rows, paths or ()):
        row["file"] = path
    with harmless("predictions.csv"):
        write_csv(run.folder / "predictions.csv", rows)


def draw(run):
    """Draw what a finished run shows."""
    with harmless("pictures"):
        from harness import plots  # matplotlib takes a second to import, and may be broken

        curves = {"curves.png": lambda path: plots.learning_curves(path, run.history, run.words)}
        if plots.draw(run.folder, curves):
            print("The learning curves are in curves.png there")
