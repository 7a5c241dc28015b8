"""What a network is given of an image file of one's own: its pixels, as its data set has them."""

import runpy
import sys

from conftest import ROOT

import numpy
import pytest
import torch
from PIL import Image

NAME = "LeNet"
EXAMPLES = ROOT / "some_branches" / "images" / "data" / "examples"


@pytest.fixture
def script(branch, monkeypatch):
    """make_examples.py, as it lies on a branch."""
    with branch.imported():
        monkeypatch.setattr(sys, "path", [*sys.path])
        return runpy.run_path(str(branch.home / "data" / "examples" / "make_examples.py"))


@pytest.fixture
def centered(branch):
    """A function from an image to the pixels [28, 28] of its object."""
    return lambda path: branch.pixels.centered(path, 28, 28)[0]


def nearest(found, fashion_mnist):
    """The class of the test image that pixels [28, 28] differ least from: no network of ours."""
    classes, _, (images, labels) = fashion_mnist
    distances = (images[:, 0] - torch.tensor(found).float()).square().sum((1, 2))
    return classes[labels[distances.argmin()]]


def test_the_examples_are_test_images_and_come_back_to_them(script, centered, fashion_mnist):
    classes, _, (images, labels) = fashion_mnist
    assert {path.stem for path in EXAMPLES.glob("*.png")} == {
        name.lower().replace(" ", "-") for name in script["EXAMPLES"]
    }
    for name in script["EXAMPLES"]:
        number = labels.tolist().index(classes.index(name))
        original = images[number, 0].numpy()
        path = EXAMPLES / f"{name.lower().replace(' ', '-')}.png"
        assert numpy.array_equal(script["example"](original), Image.open(path)), name
        assert path.stat().st_size < 20_000
        found = centered(path)
        assert found.shape == (28, 28) and found.dtype == numpy.uint8
        assert abs(found - original.astype(float)).mean() < 16, name
        assert nearest(found, fashion_mnist) == name


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "LA", "P", "CMYK", "I;16", "negative", "turned"])
def test_an_image_of_any_mode_and_ground_is_the_same_to_the_network(centered, tmp_path, kind):
    original = Image.open(EXAMPLES / "ankle-boot.png")
    path, pixels = tmp_path / "0.png", numpy.array(original)
    if kind in ("RGBA", "LA"):  # black, and as much of it as the picture is dark
        black = Image.new(kind, original.size, 0)
        black.putalpha(Image.fromarray(255 - pixels))
        black.save(path)
    elif kind == "I;16":
        Image.fromarray(pixels.astype(numpy.uint16) * 257).save(path)
    elif kind == "negative":
        Image.fromarray(255 - pixels).save(path)
    elif kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter to the right
        original.rotate(90).save(path, exif=exif)
    else:
        path = tmp_path / ("0.tif" if kind == "CMYK" else "0.png")
        original.convert("RGB").convert(kind, palette=Image.Palette.ADAPTIVE).save(path)
    expected = centered(EXAMPLES / "ankle-boot.png").astype(float)
    assert abs(centered(path) - expected).max() <= 3


def test_a_photograph_is_cropped_and_uneven_light_is_no_object(centered, tmp_path, fashion_mnist):
    """Gray paper that is lit from one side, with noise, and the object in a corner."""
    draws = numpy.random.default_rng(0)
    paper = numpy.linspace(150, 200, 900)[None] * numpy.linspace(1, 0.9, 700)[:, None]
    large = Image.fromarray(255 - fashion_mnist[2][0][1, 0].numpy()).resize((392, 392))
    paper[250:642, 40:432] *= numpy.array(large) / 255
    noisy = (paper + draws.normal(0, 4, paper.shape)).clip(0, 255).astype(numpy.uint8)
    Image.fromarray(noisy).save(tmp_path / "photograph.jpg")
    found = centered(tmp_path / "photograph.jpg")
    assert nearest(found, fashion_mnist) == "Pullover" and found[0].any() and found[-1].any()


@pytest.mark.parametrize("shade", [0, 100, 255])
@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (60, 60)])
def test_an_image_without_an_object_is_black(centered, tmp_path, shade, size):
    Image.new("L", size, shade).save(tmp_path / "0.png")
    assert not centered(tmp_path / "0.png").any()


def test_a_digit_is_as_large_as_mnists(branch):
    found = branch.pixels.centered(EXAMPLES / "ankle-boot.png", 28, 20)[0]
    rows, columns = (numpy.flatnonzero(found.any(axis)) for axis in (1, 0))
    assert columns[0] == 4 and columns[-1] == 23 and 10 < len(rows) < 20


def test_small_color_images_are_the_middle_of_a_photograph(branch, small, tmp_path):
    small(branch)
    data = branch.images.load(branch.parse("--data", "cifar10"))
    pixels = numpy.zeros((64, 128, 3), numpy.uint8)
    pixels[:, 32:96] = (200, 100, 50)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    found = branch.predicting.pixels(tmp_path / "0.png", data)
    assert found.shape == (1, 3, 32, 32) and found.dtype == torch.uint8
    assert found[0, :, 16, 16].tolist() == [200, 100, 50]
    assert (found[0, :, :, 1:-1] == torch.tensor([200, 100, 50])[:, None, None]).all()
