"""Make the pictures to try --predict on: six test images of Fashion-MNIST, as a shop shows them.

    python data/examples/make_examples.py

Each is the first of its class in the test set, dark on white, enlarged eight times, in a margin.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from harness.sets import by_name  # noqa: E402

from PIL import Image, ImageOps  # noqa: E402

EXAMPLES = ("Ankle boot", "Bag", "Dress", "Pullover", "Sandal", "Trouser")


def example(pixels):
    """A picture of 280x280 of a test image, uint8 [28, 28]."""
    large = Image.fromarray(255 - pixels).resize((224, 224), Image.Resampling.BICUBIC)
    return ImageOps.expand(large, 28, 255)


if __name__ == "__main__":
    classes, _, (images, labels) = by_name("fashion-mnist")
    for name in EXAMPLES:
        first = labels.tolist().index(classes.index(name))
        path = HERE / f"{name.lower().replace(' ', '-')}.png"
        example(images[first, 0].numpy()).save(path, optimize=True)
        print(f"{path}: test image {first}")
