"""Image data sets by their names: the Fashion-MNIST that ships, and those that are downloaded."""

import gzip
from functools import cache
from typing import Annotated

from harness import ROOT, ranks
from harness.errors import Refusal, reason
from harness.files import checked
from harness.values import Rule, is_folder, relative

import torch

FASHION_MNIST = {  # the four official files and their MD5
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
FASHION_MNIST_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
BY_HAND = {  # what to download, and where it goes, if the program cannot
    "mnist": (f"the four files {', '.join(FASHION_MNIST)} into", "MNIST/raw"),
    "cifar10": ("the file cifar-10-python.tar.gz into", "."),
}
NAMES = ("fashion-mnist", *BY_HAND)
LONGEST = {"fashion-mnist": 28, "mnist": 20}  # pixels of the one object in an image, on black

DataSet = Annotated[
    str,
    Rule(
        f"one of {', '.join(NAMES)}, or a folder of images",
        lambda value: value in NAMES or is_folder(value),
        lambda text: text if text in NAMES else relative(text),
    ),
]


def by_name(name):
    """(classes, (training images, labels), (test images, labels)) of one of NAMES.

    Images are uint8 [N, C, H, W], labels int64 [N]. Refusal if its files cannot be had.
    """
    if name != "fashion-mnist":
        return from_torchvision(name)
    advice = "git checkout -- data brings it back"
    raw = ROOT / "data" / "FashionMNIST" / "raw"
    return FASHION_MNIST_CLASSES, *official(raw, FASHION_MNIST, advice)


def official(raw, sums, advice):
    """(training images, labels), (test images, labels) out of a folder's four official files."""
    files = [read_idx(raw / name, md5, advice) for name, md5 in sums.items()]
    images, labels = files[0::2], files[1::2]
    return [(x.unsqueeze(1), y.long()) for x, y in zip(images, labels)]


def read_idx(path, md5, advice):
    """The uint8 tensor in a gzipped IDX file; several runs in a process share it."""
    checked(path, md5, advice)
    return unpacked(path, md5)


@cache
def unpacked(path, md5):
    """The same of a file with this sum: two bytes of zero, type, rank, sizes, the values."""
    values = bytearray(gzip.decompress(path.read_bytes()))
    rank = values[3]
    sizes = [int.from_bytes(values[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    return torch.frombuffer(values, dtype=torch.uint8, offset=4 + 4 * rank).view(sizes)


def from_torchvision(name):
    """A data set that torchvision downloads, checked against torchvision's sums at each start."""
    from torchvision import datasets  # a second to import, which Fashion-MNIST does not need

    files, place = BY_HAND[name]
    home = ROOT / "data"
    advice = f"Without a network, put {files} {home / place}"
    kind = getattr(datasets, name.upper())
    try:
        with ranks.first_goes_ahead():
            parts = [kind(home, train, download=True) for train in (True, False)]
    except Exception as error:  # no network, a full disk, a broken file: it raises them all
        raise Refusal(f"--data {name} could not be had ({reason(error)}). {advice}") from None
    if name == "mnist":  # once unpacked, torchvision does not look at their sums again
        return tuple(kind.classes), *official(home / place, dict(kind.resources), advice)
    splits = []
    for part in parts:
        images = torch.as_tensor(part.data).permute(0, 3, 1, 2).contiguous()
        splits.append((images, torch.as_tensor(part.targets)))
    return tuple(parts[0].classes), *splits
