"""Pairs of texts: the verses that ship, and tasks with exact answers, which are generated."""

import datetime
import random
from collections.abc import Callable
from typing import NamedTuple

from harness import ROOT
from harness.text import read
from harness.words import join, split

HOME = ROOT / "data" / "verses"
VERSES = {  # the files and their MD5
    "train.tsv.gz": "2c01155aa63f0be680e9a4c3fca457d4",
    "validation.tsv.gz": "4f62c4713758d02bec3edd9f1eb46a21",
    "test.tsv.gz": "53bd59923af5ba23b9d6238ab05459d8",
}
GENERATED = {"train": 10_000, "validation": 500, "test": 500}  # pairs


class Kind(NamedTuple):
    """Where pairs come from, how a text falls into tokens, and whether answers are exact."""

    parts: Callable  # () to {part: [(source, target), ...]}
    split: Callable  # a text to its tokens
    join: Callable  # tokens to their text
    exact: bool


def verses():
    """English and Spanish verses of at most twenty words, split by chapter."""
    parts = {}
    for name, md5 in VERSES.items():
        lines = read(HOME / name, md5).splitlines()
        parts[name.partition(".")[0]] = [tuple(line.split("\t")[1:]) for line in lines]
    return parts


def generated(draw, seed):
    """Parts of different pairs, which a function draws; the same in every run."""
    draws = random.Random(seed)
    pairs = {}
    while len(pairs) < sum(GENERATED.values()):
        source, target = draw(draws)
        pairs[source] = target
    pairs, parts = iter(pairs.items()), {}
    for part, count in GENERATED.items():
        parts[part] = [next(pairs) for _ in range(count)]
    return parts


def reversal(draws):
    """Three to twenty letters, and the same from the end to the beginning."""
    text = "".join(draws.choices("abcdefghijklmnopqrstuvwxyz", k=draws.randint(3, 20)))
    return text, text[::-1]


def ordinal(number):
    """1st, 2nd, 3rd, 4th, 11th, up to 99th."""
    endings = {1: "st", 2: "nd", 3: "rd"} if number // 10 != 1 else {}
    return f"{number}{endings.get(number % 10, 'th')}"


def date(draws):
    """A day of two centuries as people write it, and as computers do."""
    day = datetime.date(1900, 1, 1) + datetime.timedelta(draws.randrange(73_049))
    months = "January February March April May June July August September October November December"
    month = months.split()[day.month - 1]
    short = month[:3] + "." * (month != "May")
    ways = (
        f"{day.day} {month} {day.year}",
        f"{month} {day.day}, {day.year}",
        f"{short} {day.day}, {day.year}",
        f"{day.day} {month[:3]} {day.year}",
        f"{day.day}/{day.month}/{day.year}",
        f"the {ordinal(day.day)} of {month.lower()} {day.year}",
    )
    return draws.choice(ways), day.isoformat()


KINDS = {
    "verses": Kind(verses, split, join, exact=False),
    "reversal": Kind(lambda: generated(reversal, 1), list, "".join, exact=True),
    "dates": Kind(lambda: generated(date, 2), list, "".join, exact=True),
}
