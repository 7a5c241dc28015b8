"""Image data sets by their names: the Fashion-MNIST that ships, and those that are downloaded."""

import gzip
import hashlib

import torch

from harness import ROOT
from harness.errors import Refusal, reason

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
TORCHVISION = {  # where a file goes that was downloaded by hand
    "mnist": ("MNIST", f"the four files {', '.join(FASHION_MNIST)} into", "MNIST/raw"),
    "cifar10": ("CIFAR10", "the file cifar-10-python.tar.gz into", "."),
}
NAMES = ("fashion-mnist", *TORCHVISION)


def by_name(name):
    """(classes, (training images, labels), (test images, labels)) of one of NAMES.

    Images are uint8 [N, C, H, W], labels int64 [N]. Refusal if its files cannot be had.
    """
    return fashion_mnist() if name == "fashion-mnist" else from_torchvision(name)


def fashion_mnist():
    """Fashion-MNIST out of the official files: (classes, (images, labels), (images, labels))."""
    raw = ROOT / "data" / "FashionMNIST" / "raw"
    files = [read_idx(raw / name, md5) for name, md5 in FASHION_MNIST.items()]
    images, labels = files[0::2], files[1::2]
    train, test = [(x.unsqueeze(1), y.long()) for x, y in zip(images, labels)]
    return FASHION_MNIST_CLASSES, train, test


def read_idx(path, md5):
    """The uint8 tensor in a gzipped IDX file: two bytes of zero, type, rank, sizes, the values."""
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise Refusal(
            f"{path} cannot be read ({reason(error)}): git checkout -- data brings it back"
        ) from None
    if hashlib.md5(packed, usedforsecurity=False).hexdigest() != md5:
        raise Refusal(f"{path} is not the official file (its MD5 differs): git checkout -- data")
    values = bytearray(gzip.decompress(packed))
    rank = values[3]
    sizes = [int.from_bytes(values[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    return torch.frombuffer(values, dtype=torch.uint8, offset=4 + 4 * rank).view(sizes)


def from_torchvision(name):
    """A data set by torchvision's own loader, downloaded and checked against its own sums."""
    from torchvision import datasets  # a second to import, which Fashion-MNIST does not need

    kind, files, place = TORCHVISION[name]
    home = ROOT / "data"
    try:
        parts = [getattr(datasets, kind)(home, train, download=True) for train in (True, False)]
    except Exception as error:  # no network, a full disk, a broken file: it raises them all
        raise Refusal(
            f"--data {name} could not be had ({reason(error)}). Without a network, put {files} "
            f"{home / place}"
        ) from None
    splits = []
    for part in parts:
        images = torch.as_tensor(part.data)
        images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2)
        splits.append((images.contiguous(), torch.as_tensor(part.targets)))
    return tuple(parts[0].classes), *splits
