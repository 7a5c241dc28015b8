"""What a finished run says of pictures of your own, as --predict asks.

    python train.py --predict shoe.jpg bag.png    the best classes of each, and where it looks
    python train.py --predict pictures            the same of all images in a folder, and a table

What the network is given of an image file is made in pixels.py; where it looks, in gradcam.py; the
picture of all that, in predicted.py.
"""

import os
from pathlib import Path
from typing import NamedTuple

from harness import ranks, use
from harness.errors import Refusal, RefusalOfAll, harmless, reason
from harness.files import readable, write_csv
from harness.folder import Images
from harness.gradcam import grad_cam
from harness.pixels import READABLE, centered, decode
from harness.sets import LONGEST
from harness.vision import center_crop

import torch

BEST = 5  # classes of a picture that are told
MOST = 12  # pictures that are drawn


class Shown(NamedTuple):
    """What is drawn of a picture."""

    path: Path
    view: torch.Tensor  # [C, H, W], what the network sees
    guesses: list  # of (class, probability), the best first
    cam: torch.Tensor  # [h, w], of the best class


def files(named):
    """Yield the files of some paths; of a folder, the images in it, in the order of their names."""
    for path in map(Path, named):
        if not os.path.isdir(path):
            yield path
            continue
        inside = [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
        inside = [file for file in inside if file.suffix.lower() in READABLE]
        if not inside:
            raise Refusal(f"--predict {path}: there are no images in this folder")
        yield from inside


def pixels(path, data):
    """An image file as images of a data set are: uint8 [1, C, H, W]; Refusal if it is none."""
    split, name = data.validation, data.settings.data
    readable(path)
    try:
        if isinstance(split, Images):
            found = decode(path, split.size, split.whole)
        elif name in LONGEST:
            found = centered(path, split[0].shape[-1], LONGEST[name])
        else:
            found = decode(path, split[0].shape[-1])
    except Exception as error:  # Pillow raises nearly anything on a broken file
        raise Refusal(f"{path} is no image that can be read: {reason(error)}") from None
    return torch.tensor(found)[None]


def predict(run, model, data, scores_of=None):
    """Print the best classes of each picture that --predict names; write a picture, and a table.

    data: has the classes, and what images go through. scores_of: see predict() in classification.
    Nothing is written if one of the files is no image.
    """
    if ranks.WORLD > 1:
        raise RefusalOfAll("--predict is for one process: start it without torchrun")
    use.bring_back(run, model)
    model.eval()
    named, rows, shown = run.settings.predict, [], []
    print(f"With the weights in {run.folder}:")
    for path in files(named):
        images = data.prepare(pixels(path, data).to(run.device))
        with torch.no_grad():
            scores = scores_of(model, images) if scores_of else model(images)
        chances, best = scores.softmax(1)[0].topk(min(BEST, len(data.classes)))
        guesses = [(data.classes[i], chance) for i, chance in zip(best, chances.tolist())]
        print(f"{path}:", ", ".join(f"{name} {chance:.1%}" for name, chance in guesses))
        rows.append(row(path, guesses))
        if len(shown) < MOST:
            side = run.finished["input"][-1]  # of a training image, which may be a crop
            view = center_crop(lambda images: images, images, side, scale=side)
            cam = grad_cam(model, view, best[:1])
            shown.append(Shown(path, view[0].cpu(), guesses, cam[0].cpu()))
    if any(map(os.path.isdir, named)):
        table = run.folder / "predict.csv"
        with harmless(table.name):
            write_csv(table, rows)
            print(f"{table}: written")
    picture = run.folder / f"predict-{shown[0].path.stem}.png"
    with harmless(picture.name):
        from harness import predicted  # matplotlib takes a second to import, and may be broken

        predicted.draw(picture, shown, run.words)


def row(path, guesses):
    """The row of a picture in predict.csv."""
    cells = {"file": path.as_posix()}
    for place, (name, chance) in enumerate(guesses, start=1):
        cells |= {f"class_{place}": name, f"probability_{place}": f"{chance:.4f}"}
    return cells
