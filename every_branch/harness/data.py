"""Reading data: the Fashion-MNIST that ships with every branch, torchvision's data sets, folders.

The first two fit in memory, so a data set is one uint8 tensor of images and one of labels, and a
batch is cut out of them and transformed as a whole: one call for 128 images, not 128 calls. The
images of a folder are decoded by worker processes, which bring them to one size; from there on
they take the same way.
"""

import copy
import gzip
import hashlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)
from tqdm import tqdm

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
COLORED = 2_000  # images of a folder that its mean colour is taken from
BROKEN = 10  # unreadable files that are put up with in a split of a folder


class Data(NamedTuple):
    """A data set. A split is (uint8 images [N, C, H, W], int64 labels [N]), or Images of a folder.

    test is None where there are no images to test on but those of the validation.
    """

    classes: tuple[str, ...]
    channels: int
    train: "tuple[Tensor, Tensor] | Images"
    validation: "tuple[Tensor, Tensor] | Images"
    test: "tuple[Tensor, Tensor] | Images | None"


def refuse(message):
    """One line on stderr and exit code 2: something the user has to put right."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    raise SystemExit(2)


def data_set(text):
    """The argument of --data: one of NAMES, or the absolute path of a folder that is there."""
    if text in NAMES:
        return text
    if not Path(text).is_dir():
        refuse(f"--data {text}: it should be one of {', '.join(NAMES)}, or a folder of images")
    return str(Path(text).resolve())


def load(name, folder, limit=None, size=None):
    """The data set `name`, by data_set(); `limit` keeps that many training images.

    folder: where those of NAMES are. size: the side that the images of a folder are brought to.
    """
    if name not in NAMES:
        return from_folder(Path(name), limit, size)
    if name == "fashion-mnist":
        classes, train, test = fashion_mnist(folder)
    else:
        classes, train, test = from_torchvision(name, folder)
    (images, labels), cut = train, len(train[0]) - VALIDATION
    limit = min(limit or cut, cut)
    train, validation = (images[:limit], labels[:limit]), (images[cut:], labels[cut:])
    return Data(classes, images.shape[1], train, validation, test)


def fold(loaded, number, folds):
    """The same Data for one fold, from 1 to `folds`, of a stratified cross-validation.

    Of each class, every folds-th training image validates, and all others train.
    """
    images, labels = loaded.train
    held = torch.zeros(len(labels), dtype=torch.bool)
    held[labels.argsort(stable=True)[number - 1 :: folds]] = True
    train, validation = ((images[mask], labels[mask]) for mask in (~held, held))
    return loaded._replace(train=train, validation=validation)


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
    """A loader over a split of a Data, which yields (transform(images), labels) on `device`.

    Of a split in memory it asks for a whole batch at a time (that is what batch_size=None means),
    so that the images are cut out by one indexing operation.
    """
    if isinstance(split, Images):
        return FolderLoader(split, batch_size, transform, shuffle, device)
    dataset = TensorDataset(*(part.to(device) for part in split))
    order = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
    return DataLoader(
        dataset,
        sampler=BatchSampler(order, batch_size, drop_last=False),
        batch_size=None,
        collate_fn=lambda batch: (transform(batch[0]), batch[1]),
    )


def colors(split):
    """Mean [C] and covariance [C, C] of the colours of a split's pixels, from 0 to 255.

    Of a folder, the first COLORED images are looked at; they are in random order.
    """
    if isinstance(split, Images):
        split = copy.copy(split)
        split.files = split.files[:COLORED]
    count, total, products = 0, 0.0, 0.0
    for images, _ in batches(split, 100, Tensor.double, False, "cpu"):
        pixels = images.transpose(0, 1).flatten(1)
        count += pixels.shape[1]
        total += pixels.sum(1)
        products += pixels @ pixels.T
    mean = total / count
    return mean.float(), (products / count - mean.outer(mean)).float()


# Folders of images


class Images(Dataset):
    """The images of one split of a folder: (uint8 tensor [3, H, W], class, path).

    size: the shorter side is brought to it, and the middle is cut out, a square, unless `whole`.
    The tensor of a file that cannot be read is None. broken: the paths already reported as
    unreadable.
    """

    def __init__(self, files, size):
        self.files, self.size, self.whole, self.broken = files, size, False, set()

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        path, label = self.files[index]
        try:
            return decode(path, self.size, self.whole), label, path
        except Exception:  # Pillow raises nearly anything on a broken file
            return None, label, path


def decode(path, size, whole=False):
    """An image file (the first frame, in colour, on white) as a uint8 tensor [3, size, size].

    whole: as [3, H, W], of which the shorter is `size`, and nothing cut off.
    """
    from PIL import Image
    from torchvision.transforms.v2 import functional as transforms

    with Image.open(path) as image:
        image.draft("RGB", (2 * size, 2 * size))  # a large JPEG gets a fraction of its pixels
        if image.mode == "F":
            raise ValueError("what is black or white among floating-point pixels, no one knows")
        if image.mode.startswith("I"):  # 16 bits, which convert() would cut off at 255
            image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
        if image.has_transparency_data:
            image = Image.alpha_composite(
                Image.new("RGBA", image.size, "white"), image.convert("RGBA")
            )
        image = transforms.resize(image.convert("RGB"), size)
    return transforms.pil_to_tensor(image if whole else transforms.center_crop(image, size))


def collate(samples):
    """(images, labels, paths of the files that could not be read) of one batch."""
    whole = [(image, label) for image, label, _ in samples if image is not None]
    broken = [path for image, _, path in samples if image is None]
    images = torch.stack([image for image, _ in whole]) if whole else None
    return images, torch.tensor([label for _, label in whole]), broken


class FolderLoader:
    """Batches of (transform(images), labels) on `device`, decoded by worker processes.

    A file that cannot be read is named once and left out; more than BROKEN of them stop the run.
    """

    def __init__(self, dataset, batch_size, transform, shuffle, device):
        self.dataset, self.transform, self.device = dataset, transform, device
        if hasattr(os, "sched_getaffinity"):
            cores = len(os.sched_getaffinity(0))
        else:
            cores = os.cpu_count() or 1
        self.loader = DataLoader(
            dataset,
            batch_size,
            sampler=RandomSampler(dataset) if shuffle else None,
            num_workers=min(cores, 16),
            collate_fn=collate,
            pin_memory=torch.device(device).type == "cuda",
            persistent_workers=shuffle,
            # Of its own, so that starting workers draws nothing from the state that is saved.
            generator=torch.Generator(),
        )

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        seen = False
        for images, labels, broken in self.loader:
            for path in sorted(set(broken) - self.dataset.broken):
                self.dataset.broken.add(path)
                tqdm.write(f"{path} is no image that can be read, and left out", file=sys.stderr)
            if len(self.dataset.broken) > BROKEN:
                refuse(f"more than {BROKEN} image files cannot be read: is this data set whole?")
            if images is not None:
                seen = True
                yield self.transform(images.to(self.device)), labels.to(self.device)
        if not seen:
            refuse(f"none of the {len(self.dataset)} image files can be read")


def from_folder(folder, limit, size):
    """The images in train*/<class>/, val*/<class>/ and, if there is one, test*/<class>/.

    Several train folders, as ImageNet-100 comes in, count as one. Classes are numbered by their
    sorted names; one that a split lacks is reported. Names that start with a dot are left out.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    homes = {
        split: [home for home in folder.glob(f"{split}*/[!.]*") if home.is_dir()]
        for split in ("train", "val", "test")
    }
    if not (homes["train"] and homes["val"]):
        refuse(f"{folder} should have the folders train/<class>/ and val/<class>/ of images")
    classes = sorted({home.name for home in homes["train"]})
    numbers = {name: number for number, name in enumerate(classes)}
    splits = {}
    for split, found in homes.items():
        unknown = {home.name for home in found} - numbers.keys()
        if unknown:
            refuse(f"{folder / split} has a class that is not trained: {min(unknown)}")
        files = sorted(
            (path.as_posix(), numbers[home.name])
            for home in found
            for path in home.rglob("[!.]*")
            if path.suffix.lower() in (*IMG_EXTENSIONS, ".gif")
        )
        if found and not files:
            refuse(f"{folder / split} has no images")
        lacking = numbers.keys() - {classes[number] for _, number in files}
        if found and lacking:
            names = ", ".join(sorted(lacking))
            print(f"{folder / split} has no images of: {names}", file=sys.stderr)
        # In one random order, the same everywhere, so that the first N images are of all classes.
        order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
        files = [files[i] for i in order[: limit if split == "train" else None]]
        splits[split] = Images(files, size) if files else None
    return Data(tuple(classes), 3, *splits.values())


def digest(loaded):
    """What files a Data of a folder consists of, in a few letters."""
    splits = [split.files if split else None for split in loaded[2:]]
    return hashlib.sha256(repr(splits).encode()).hexdigest()[:12]


# Augmentation of a batch of images [B, C, H, W], with one draw per image


def random_flip(images):
    """Mirror each image left to right with probability one half."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)


def random_crop(images, side):
    """Cut a square of `side` pixels out of each image, at a place of its own."""
    count, channels, height, width = images.shape
    device, pixel = images.device, torch.arange(side, device=images.device)
    rows = torch.randint(height - side + 1, (count, 1), device=device) + pixel
    columns = torch.randint(width - side + 1, (count, 1), device=device) + pixel
    image = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    return images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
