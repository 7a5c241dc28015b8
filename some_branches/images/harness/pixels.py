"""Image files as pixels: of any format that Pillow alone reads, of any mode, on white."""

import numpy as np
from PIL import Image, ImageOps

FORMATS = Image.registered_extensions()  # {extension: format}; this fills Image.OPEN, too
FOREIGN = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # what Pillow alone cannot decode
READABLE = {end for end, name in FORMATS.items() if name in {*Image.OPEN, "MPO"} - FOREIGN}
FAINT = 0.1  # what differs by less from the background, of 1 from white to black, belongs to it


def read(path, size):
    """An image file (first frame, upright, on white) in RGB.

    size: what its shorter side will be brought to. Of a large JPEG only a fraction of the pixels.
    """
    with Image.open(path) as image:
        image.draft("RGB", (2 * size, 2 * size))
        image = ImageOps.exif_transpose(image)  # turned as its camera says
        if image.mode == "F":
            raise ValueError("no one knows which floating-point values are black and white")
        if image.mode.startswith("I"):  # 16 bits, which convert() would cut off at 255
            image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        return image.convert("RGB")


def decode(path, size, whole=False):
    """An image file as a uint8 array [3, size, size], its middle; whole: [3, H, W]."""
    image = read(path, size)
    sides = [size * side // min(image.size) for side in image.size]
    pixels = np.array(image.resize(sides, Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    top, left = (round((side - size) / 2) for side in pixels.shape[1:])
    return pixels if whole else pixels[:, top : top + size, left : left + size]


def background(gray):
    """The brightness [H, W] that an image would have without its object: light falls off evenly.

    It is the plane through the image's border, but for what lies across it.
    """
    border = np.ones(gray.shape, bool)
    border[1:-1, 1:-1] = False
    border &= abs(gray - np.median(gray[border])) < 255 / 4
    rows, columns = np.indices(gray.shape)
    plane = np.stack([np.ones_like(gray), rows, columns], -1)
    return plane @ np.linalg.lstsq(plane[border], gray[border], rcond=None)[0]


def centered(path, side, longest):
    """The one object in an image file as MNIST and Fashion-MNIST have theirs: [1, side, side].

    In shades of gray, light on black, cropped, its longer side brought to `longest` pixels, and put
    in the middle: what was done to make Fashion-MNIST (Xiao et al., arXiv 1708.07747, 2), except
    that a photograph's background is not as even as a shop's, and that nothing is sharpened.
    """
    image = read(path, 4 * side).convert("L")
    image.thumbnail((4 * side, 4 * side))  # the mean over a few pixels has less noise
    gray = np.float32(image)
    around = background(gray)
    if around.mean() < gray.mean():  # a light object on dark ground, as the data set has it
        gray, around = 255 - gray, 255 - around
    ink = (around - gray) / around.clip(1)  # the background counts as white
    ink[ink < FAINT] = 0
    rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
    if len(rows):
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    sides = [max(1, round(longest * length / max(ink.shape))) for length in reversed(ink.shape)]
    small = Image.fromarray(np.uint8(np.rint(255 * ink))).resize(sides, Image.Resampling.BOX)
    black = Image.new("L", (side, side))
    black.paste(small, [(side - length + 1) // 2 for length in sides])
    return np.array(black)[None]
