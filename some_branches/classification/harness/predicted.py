"""The picture of what --predict shows of some images; predicting.py says what that is."""

import math

from harness import plots
from harness.pixels import read

import torch.nn.functional as F

SIDE = 280  # pixels of a picture as it is drawn


@plots.literal
def draw(path, shown, title):
    """Each picture as it was given, as the network sees it, and with its Grad-CAM; its classes."""
    across, most = 1 if len(shown) < 3 else 2, max(len(one.guesses) for one in shown)
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
        classes.set(xlim=(0, 1), ylim=(most - 0.5, -0.5))
    plots.save(figure, path)
