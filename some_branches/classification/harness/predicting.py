"""What a finished run says of pictures of your own, as --predict asks.

    python train.py --predict shoe.jpg bag.png    the best classes of each, and where it looks
    python train.py --predict pictures            the same of all images in a folder, and a table

What the network is given of an image file is made in pixels.py; where it looks, in gradcam.py.
"""

import math
import os
from pathlib import Path
from typing import NamedTuple

from harness import plots, ranks, use
from harness.errors import Refusal, reason
from harness.files import readable, write_csv
from harness.folder import Images
from harness.gradcam import grad_cam
from harness.pixels import READABLE, centered, decode, read
from harness.sets import LONGEST
from harness.vision import center_crop

import torch
import torch.nn.functional as F

BEST = 5  # classes of a picture that are told
MOST = 12  # pictures that are drawn
SIDE = 280  # pixels of a picture as it is drawn


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
        raise Refusal("--predict is for one process: start it without torchrun")
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
        write_csv(table, rows)
        print(f"{table}: written")
    draw(run.folder / f"predict-{shown[0].path.stem}.png", shown, run.words)


def row(path, guesses):
    """The row of a picture in predict.csv."""
    cells = {"file": path.as_posix()}
    for place, (name, chance) in enumerate(guesses, start=1):
        cells |= {f"class_{place}": name, f"probability_{place}": f"{chance:.4f}"}
    return cells


@plots.literal
def draw(path, shown, title):
    """Each picture as it was given, as the network sees it, and with its Grad-CAM; its classes."""
    across = 1 if len(shown) < 3 else 2
    down = math.ceil(len(shown) / across)
    figure = plots.Figure(figsize=(6.8 * across, 0.5 + 1.9 * down), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(down, 4 * across, squeeze=False).reshape(-1, 4)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    for axes in (*grid[len(shown) :].flat, *grid[:, 3]):
        axes.axis("off")
    for one, (given, seen, where, classes) in zip(shown, grid):
        image = read(one.path, SIDE)
        image.thumbnail((2 * SIDE, 2 * SIDE))
        given.imshow(image)
        given.set_title(one.path.name, fontsize=8)
        low, high = one.view.aminmax()
        view = ((one.view - low) / (high - low).clamp(min=1e-9)).permute(1, 2, 0).numpy()
        height, width, _ = view.shape
        seen.imshow(view, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        seen.set_title(f"as the network sees it\n{height} × {width}", fontsize=8)
        strength = F.interpolate(one.cam[None, None], (height, width), mode="bilinear")[0, 0]
        strength = (strength / strength.max().clamp(min=1e-9)).numpy()
        where.imshow(view.mean(2), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        where.imshow(strength, cmap="inferno", vmin=0, vmax=1, alpha=0.8 * strength)
        rows, columns = one.cam.shape
        about = f"{rows} × {columns} positions" if one.cam.any() else "nothing speaks for it"
        where.set_title(f"Grad-CAM: {one.guesses[0][0]}\n{about}", fontsize=8)
        places = range(len(one.guesses))
        classes.barh(places, [chance for _, chance in one.guesses], color="lightsteelblue")
        for place, (name, chance) in zip(places, one.guesses):
            classes.text(0.02, place, f"{name}  {chance:.1%}", va="center", fontsize=8)
        classes.set(xlim=(0, 1), ylim=(BEST - 0.5, -0.5))
    plots.save(figure, path)
