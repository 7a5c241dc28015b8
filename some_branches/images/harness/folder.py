"""Folders of images: what is in them, and each as a data set."""

import hashlib
import os
from collections import Counter, defaultdict
from pathlib import Path

from harness import ranks
from harness.errors import Refusal, reason
from harness.pixels import READABLE, decode
from harness.splits import SPLITS, divide, split_of

import torch
from torch.utils.data import Dataset

LAYOUT = "train/<class>/ and val/<class>/, or only <class>/, a tenth of which then validates"
FEW = 10  # classes, or kinds of files, that a line of the report spells out


def find(folder, limit=None):
    """The images in a folder: (class names, {split: [(path, number of the class), ...]}).

    They are in train/<class>/, val/<class>/ and perhaps test/<class>/; train.X1 is a part of train.
    Without such folders, each folder is a class, and a tenth of the images is for validation (see
    splits.py).
    A split's files are in one random order, the same everywhere, and train's end at `limit`.
    Prints what it found and left out. Refusal if a split is missing, or has a class train lacks.
    """
    root, left_out = Path(folder).as_posix(), defaultdict(Counter)
    paths = sorted(walk(root, left_out))
    named, placed = divide(paths)
    found = {split: [] for split in SPLITS.values()}
    for path in paths:
        split, inside = split_of(placed[path]), placed[path].split("/")[1:]
        if not named and len(inside) > 2 and path.lower().startswith(tuple(SPLITS)):
            raise Refusal(f"{root}/{inside[0]} looks like a split: name it train, val or test")
        if split and len(inside) > 1:
            found[split].append((f"{root}/{path}", inside[0]))
        else:
            left_out["in no class of a split"][f"in {os.path.dirname(path) or root}"] += 1
    for why, kinds in sorted(left_out.items()):
        print(f"left out: {spell(kinds)}: {why}")
    if missing := [split for split in ("train", "validation") if not found[split]]:
        raise Refusal(f"{root} has no images for {missing[0]}; it should have {LAYOUT}")
    if not named:
        print("no train/ and val/: each folder is a class, a tenth of the images for validation")
    numbers = {name: n for n, name in enumerate(sorted({name for _, name in found["train"]}))}
    splits = {split: files for split, files in found.items() if files}
    for split, files in splits.items():
        counts = Counter(name for _, name in files)
        if unknown := counts.keys() - numbers.keys():
            raise Refusal(f"{root}: {split} has a class that train lacks: {min(unknown)}")
        parts = sorted({path.split("/")[0] for path in paths if split_of(path) == split})
        print(f"{split} images: {len(files)} in {', '.join(parts) or root}: {spell(counts)}")
        if lacking := numbers.keys() - counts.keys():
            print(f"{split} has no images of: {', '.join(sorted(lacking))}")
        order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
        order = order[: limit if split == "train" else None]
        splits[split] = [(files[i][0], numbers[files[i][1]]) for i in order]
    if len(numbers) == 1:
        print("only one class: every prediction is right")
    return tuple(numbers), splits


def digest(splits, folder):
    """What files of a folder its splits consist of, in 12 hexadecimal digits, wherever it lies."""
    start = len(str(folder)) + 1
    inside = [split and [(path[start:], label) for path, label in split] for split in splits]
    return hashlib.sha256(repr(inside).encode()).hexdigest()[:12]


def walk(root, left_out, home=""):
    """Yield the path, relative to `root`, of each image in `home`, and count what is none."""
    try:
        entries = list(os.scandir(f"{root}/{home}"))
    except OSError as error:
        left_out[reason(error)]["folder(s)"] += 1
        return
    for entry in entries:
        kind = os.path.splitext(entry.name)[1].lower() or "without extension"
        # A link to a class is followed, but none below that: it may lead in circles.
        linked = entry.is_symlink() and home.count("/") < 2 and os.path.isdir(entry)
        if entry.name.startswith("."):
            left_out["hidden"][kind] += 1
        elif linked or entry.is_dir(follow_symlinks=False):
            yield from walk(root, left_out, f"{home}{entry.name}/")
        elif not (entry.is_file(follow_symlinks=False) or os.path.isfile(entry)):
            left_out["no regular file"][kind] += 1
        elif kind not in READABLE:
            left_out["no image format that Pillow reads here"][kind] += 1
        else:
            yield home + entry.name


def spell(counts):
    """A Counter in words; if it counts many things, its smallest and its largest count."""
    ranked = [f"{count} {name}" for name, count in counts.most_common()]
    many = f"from {ranked[-1]} to {ranked[0]}, {len(ranked)} in all"
    return many if len(ranked) > FEW else ", ".join(ranked)


class Images(Dataset):
    """The images of a split: (uint8 array [3, H, W], class, path); of a broken file, no array."""

    def __init__(self, files, size, whole=False):
        self.files, self.size, self.whole, self.broken = files, size, whole, set()

    def __len__(self):
        return len(self.files)

    def gather(self, rows):
        """What all ranks have of the files that can be read, in order; rows: what this rank has.

        The files were dealt to the ranks in turn, one by one.
        """
        rows, mine = iter(rows), self.files[ranks.RANK :: ranks.WORLD]
        return ranks.gather([None if path in self.broken else next(rows) for path, _ in mine])

    @property
    def readable(self):
        """The paths of its files, in order, but for those that turned out to be broken."""
        mine = self.files[ranks.RANK :: ranks.WORLD]
        return self.gather(path for path, _ in mine if path not in self.broken)

    def __getitem__(self, index):
        path, label = self.files[index]
        try:
            return decode(path, self.size, self.whole), label, path
        except Exception:  # Pillow raises nearly anything on a broken file
            return None, label, path
