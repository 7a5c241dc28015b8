"""Image data sets: the Fashion-MNIST that ships, torchvision's, and folders of images.

The first two fit in memory, so a data set is one uint8 tensor of images and one of labels, and a
batch is cut out of them and transformed as a whole: one call for 128 images, not 128 calls. The
images of a folder are decoded by worker processes (loader.py), which bring them to one size; from
there on they are treated the same.
"""

from dataclasses import dataclass
from typing import ClassVar

from harness import ROOT, ranks, settings, use
from harness.errors import Refusal
from harness.folder import Images, digest, find
from harness.loader import FolderLoader
from harness.order import Order
from harness.sets import NAMES, DataSet, by_name
from harness.values import CORES, Folder, Natural

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

VALIDATION = 5_000  # images, the last of the official training set: the same on every branch
COLORED = 2_000  # images of a folder that its mean color is taken from
AT_ONCE = 250  # images that are evaluated together, or more where a batch has more


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    """The settings of a run that classifies images: the validation accuracy chooses."""

    data: DataSet | None  # fashion-mnist, mnist, cifar10, or a folder of images
    workers: Natural = min(CORES, 16)  # processes that decode a folder's images; 0: this one
    predict: tuple[str, ...] | None = None  # train nothing: what do these images, or folders, show?
    run: Folder | None = None  # of --predict: whose weights; not set: this command's, or the newest

    ASIDE: ClassVar = (*settings.Settings.ASIDE, "workers", "predict", "run")
    USES: ClassVar = ("predict",)
    chooses: ClassVar[str | None] = "accuracy"
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        self.refuse_idle(run=not self.predict)

    def home(self, name):
        return self.run or super().home(name)

    def resolved(self, recipes):
        return use.resolved(self, recipes) if self.predict else self


@dataclass
class Data:
    """A data set. A split is (uint8 images [N, C, H, W], int64 labels [N]), or Images of a folder.

    test is None where there are no images to test on but those of the validation.
    """

    classes: tuple[str, ...]
    channels: int
    train: "tuple[torch.Tensor, torch.Tensor] | Images"
    validation: "tuple[torch.Tensor, torch.Tensor] | Images"
    test: "tuple[torch.Tensor, torch.Tensor] | Images | None"
    settings: Settings
    mean: torch.Tensor | None = None  # color of the training pixels [C], once colors() was asked

    def __len__(self):
        """How many training images there are."""
        return len(self.train) if isinstance(self.train, Images) else len(self.train[0])

    @property
    def last_split(self):
        """What the third of the loaders is of: validation images where there are no others."""
        return "validation" if self.test is None else "test"

    @property
    def identity(self):
        """What tells runs on this data from others: for a folder, which files it consists of."""
        if not isinstance(self.train, Images):
            return {}
        splits = [part and part.files for part in (self.train, self.validation, self.test)]
        return {"files": digest(splits, ROOT / self.settings.data)}

    def colors(self):
        """Mean [C] and covariance [C, C] of the training pixels' colors, from 0 to 255.

        Of a folder, the first COLORED images are looked at; they are in random order.
        """
        split = self.train
        if isinstance(split, Images):
            split = first(split, COLORED)
        count, total, products = 0, 0.0, 0.0
        for images, _ in self.loader(split, 100, torch.Tensor.double, share="all"):
            pixels = images.transpose(0, 1).flatten(1)
            count += pixels.shape[1]
            total += pixels.sum(1)
            products += pixels @ pixels.T
        mean = total / count
        self.mean = mean.float()
        return self.mean, (products / count - mean.outer(mean)).float()

    def loaders(self, device, prepare, augment=None, smallest=1):
        """Three loaders of (images, labels) on a device: training, validation and test.

        prepare: uint8 images [B, C, H, W] to the network's float input; augment: what training
        images go through after that. smallest: the least images that a training batch may have.
        Where there are no test images, the third loader is the second.
        """

        self.prepare = prepare  # for pictures that are in none of the splits

        def augmented(images):
            return augment(prepare(images)) if augment else prepare(images)

        size, count = self.settings.batch_size, len(self)
        # A folder's files may be broken: its loader leaves out a last batch that is too small.
        last = min(size, count) if isinstance(self.train, Images) else count % size or size
        if min(size // ranks.WORLD, last) < smallest:
            raise Refusal(
                f"a batch would be fewer than {smallest} images, which have no variance: choose "
                "another --batch-size or --limit"
            )
        train = self.loader(self.train, size, augmented, True, device, smallest)
        validation, test = (
            self.loader(split, max(size, AT_ONCE), prepare, False, device) if split else None
            for split in (self.validation, self.test)
        )
        return train, validation, validation if test is None else test

    def loader(
        self, split, batch_size, transform, shuffle=False, device="cpu", smallest=1, share=None
    ):
        """Batches of (transform(images), labels) of a split; share: as in Order."""
        share = share or ("part" if shuffle else "turn")
        if isinstance(split, Images):
            how = transform, shuffle, device, self.settings.workers, smallest, share
            return FolderLoader(split, 1 if split.whole else batch_size, *how)
        dataset = InMemory(*(part.to(device) for part in split))
        order = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        return DataLoader(
            dataset,
            sampler=Order(BatchSampler(order, batch_size, drop_last=False), share, smallest),
            batch_size=None,  # a whole batch is asked for at a time, by one indexing operation
            collate_fn=lambda batch: (transform(batch[0]), batch[1]),
        )


class InMemory(TensorDataset):
    """Images and labels; some of them are gathered by one operation for each, not row by row."""

    def __getitem__(self, places):
        places = torch.as_tensor(places, device=self.tensors[0].device)
        return tuple(part.index_select(0, places) for part in self.tensors)


def load(settings, side=224, whole=False):
    """The Data that --data names, of --limit training images; of a dry run, a batch of each split.

    side: of the square that a folder's images are brought to. whole: only its training images are
    cut to a square; of the others the shorter side is brought to it, and they come one at a time.
    """
    name, limit = settings.data, settings.limit
    if name is None:
        raise Refusal(f"--recipe {settings.name} needs --data <folder of images>, or a data set")
    if name in NAMES:
        classes, train, test = by_name(name)
        cut = len(train[0]) - VALIDATION
        splits = {
            "train": tuple(part[: min(limit or cut, cut)] for part in train),
            "validation": tuple(part[cut:] for part in train),
            "test": test,
        }
        channels = train[0].shape[1]
    else:
        classes, files = find(ROOT / name, limit)
        splits = {split: Images(files[split], side, whole and split != "train") for split in files}
        channels = 3
    if settings.dry_run:
        splits = {name: first(split, settings.batch_size) for name, split in splits.items()}
    return Data(
        classes, channels, splits["train"], splits["validation"], splits.get("test"), settings
    )


def first(split, count):
    """The first images of a split."""
    if isinstance(split, Images):
        part = Images(split.files[:count], split.size, split.whole)
        part.broken = split.broken  # so that a file is reported once
        return part
    return tuple(part[:count] for part in split)
