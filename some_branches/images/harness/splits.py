"""Which split an image of a folder is in, by its path."""

import hashlib
import os
from collections import defaultdict

SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


def split_of(path):
    """The split that the first folder of a path is, or is a part of; None if it is neither."""
    folder, inside, _ = path.partition("/")
    return SPLITS.get(folder.split(".")[0].lower()) if inside else None


def divide(paths):
    """(whether folders are splits, {path: the same path below a split}).

    A class may be called train, as one of vehicles is: so folders are splits if one named as such
    has folders inside, or if there are no others.
    """
    inner = [path for path in paths if "/" in path]
    named = any(split_of(path) and path.count("/") > 1 for path in inner)
    if named or inner and all(map(split_of, inner)):
        return True, {path: path for path in paths}
    validates = held_out(inner)
    return False, {path: f"{'val' if path in validates else 'train'}/{path}" for path in paths}


def held_out(paths):
    """The images of <class>/ folders that validate: a tenth, by a sum of the path.

    So a new file moves no other, except where it has to: each class keeps an image to train on, and
    one image validates, if a class has two.
    """
    chosen, classes = set(), defaultdict(list)
    for path in paths:
        classes[path.split("/")[0]].append(path)
    for files in classes.values():
        tenth = {path for path in files if not hashed(path) % 10}
        chosen |= tenth if len(tenth) < len(files) else {*files[1:]}
    largest = max(classes.values(), key=len, default=[])
    return chosen or {*largest[1:][-1:]}


def hashed(path):
    """A number that depends on the path alone."""
    return int(hashlib.sha256(os.fsencode(path)).hexdigest(), 16)
