"""Reading data: the Fashion-MNIST that ships with every branch, and torchvision's data sets.

Everything here fits in memory, so a data set is one uint8 tensor of images and one of labels, and
a batch is cut out of them and transformed as a whole: one call for 128 images, not 128 calls.
"""

import gzip
import hashlib
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

VALIDATION = 5_000  # images, the last of the official training set: the same on every branch

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
    "mnist": (
        "MNIST",
        "the four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
        "t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz into",
        "MNIST/raw",
    ),
    "cifar10": ("CIFAR10", "the file cifar-10-python.tar.gz into", "."),
}
NAMES = ("fashion-mnist", *TORCHVISION)


class Data(NamedTuple):
    """A data set: images are uint8 tensors [N, C, H, W], labels int64 tensors [N]."""

    classes: tuple[str, ...]
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def refuse(message):
    """One line on stderr and exit code 2: something the user has to put right."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    raise SystemExit(2)


def load(name, folder, limit=None):
    """The data set `name`, one of NAMES, from `folder`; `limit` keeps that many training images."""
    if name == "fashion-mnist":
        classes, train, test = fashion_mnist(folder)
    elif name in TORCHVISION:
        classes, train, test = from_torchvision(name, folder)
    else:
        refuse(f"--data {name}: it should be one of {', '.join(NAMES)}")
    (images, labels), cut = train, len(train[0]) - VALIDATION
    limit = min(limit or cut, cut)
    return Data(classes, (images[:limit], labels[:limit]), (images[cut:], labels[cut:]), test)


def fashion_mnist(folder):
    """Fashion-MNIST out of the official files: (classes, (images, labels), (images, labels))."""
    raw = folder / "FashionMNIST" / "raw"
    files = [read_idx(raw / name, md5) for name, md5 in FASHION_MNIST.items()]
    images, labels = files[0::2], files[1::2]
    train, test = [(x.unsqueeze(1), y.long()) for x, y in zip(images, labels)]
    return FASHION_MNIST_CLASSES, train, test


def read_idx(path, md5):
    """The uint8 tensor in a gzipped IDX file: two bytes of zero, type, rank, sizes, the values."""
    if not path.is_file():
        refuse(f"{path} is missing: git checkout -- data brings it back")
    packed = path.read_bytes()
    if hashlib.md5(packed, usedforsecurity=False).hexdigest() != md5:
        refuse(f"{path} is not the official file (its MD5 differs): git checkout -- data")
    values = bytearray(gzip.decompress(packed))
    rank = values[3]
    sizes = [int.from_bytes(values[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    return torch.frombuffer(values, dtype=torch.uint8, offset=4 + 4 * rank).view(sizes)


def from_torchvision(name, folder):
    """A data set by torchvision's own loader, downloaded and checked against its own sums."""
    from torchvision import datasets  # a second to import, which Fashion-MNIST does not need

    kind, files, place = TORCHVISION[name]
    try:
        parts = [getattr(datasets, kind)(folder, train, download=True) for train in (True, False)]
    except (
        Exception
    ) as error:  # no network, a full disk, a broken file: torchvision raises them all
        reason = " ".join(str(error).split())
        refuse(
            f"--data {name} could not be had ({reason}). Without a network, put {files} "
            f"{folder / place}"
        )
    splits = []
    for part in parts:
        images = torch.as_tensor(part.data)
        images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2)
        splits.append((images.contiguous(), torch.as_tensor(part.targets)))
    return tuple(parts[0].classes), *splits


def batches(split, batch_size, transform, shuffle, device):
    """A DataLoader over a split in memory, which yields (transform(images), labels) on `device`.

    It asks its data set for a whole batch at a time (that is what batch_size=None means), so that
    the images are cut out by one indexing operation.
    """
    dataset = TensorDataset(*(part.to(device) for part in split))
    order = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
    return DataLoader(
        dataset,
        sampler=BatchSampler(order, batch_size, drop_last=False),
        batch_size=None,
        collate_fn=lambda batch: (transform(batch[0]), batch[1]),
    )


# Augmentation of a batch of images [B, C, H, W], with one draw per image


def random_flip(images):
    """Mirror each image left to right with probability one half."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)
