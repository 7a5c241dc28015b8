"""The types of settings: what a value may be, in words, as a check, and as read from a text.

A tuple of numbers is a range or a ladder: its values ascend.
"""

import math
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Union, get_args, get_origin

from harness import ROOT


class Rule(NamedTuple):
    """What a value has to be, in words and as a function of it; how to read it from a text."""

    words: str
    holds: Callable
    read: Callable | None = None


MANY = 10**9  # more than anything here is counted to, and less than what overflows
Count = Annotated[
    int, Rule("a whole number from 1 to 1,000,000,000", lambda value: 1 <= value <= MANY)
]
Natural = Annotated[
    int, Rule("a whole number from 0 to 1,000,000,000", lambda value: 0 <= value <= MANY)
]


def cores():
    """The processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on Windows and macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


CORES = cores()
Threads = Annotated[
    int, Rule(f"from 1 to {CORES}, the cores here", lambda value: 1 <= value <= CORES)
]
Positive = Annotated[float, Rule("a number above 0", lambda value: value > 0)]
Fraction = Annotated[float, Rule("a number from 0 to below 1", lambda value: 0 <= value < 1)]
Share = Annotated[float, Rule("a number from 0 to 1", lambda value: 0 <= value <= 1)]
Seed = Annotated[int, Rule("a whole number from 0 to 4294967295", lambda value: 0 <= value < 2**32)]


def relative(text):
    """A path as settings have it: relative to the branch if inside it, else absolute."""
    path = Path(os.path.realpath(text))  # Path.resolve() fails at links that lead in a circle
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def is_folder(text):
    """Whether a folder is there, by its path as settings have it."""
    try:
        return (ROOT / text).is_dir()
    except OSError:  # such as a name that is too long
        return False


def is_file(text):
    """Whether a file is there, by its path as settings have it."""
    try:
        return (ROOT / text).is_file()
    except OSError:
        return False


Folder = Annotated[str, Rule("a folder that is there", is_folder, relative)]


def parts(kind):
    """(what a type is made of, its arguments): a Union, whichever way it is written, is Union."""
    origin = get_origin(kind)
    return Union if origin is types.UnionType else origin, get_args(kind)


def inner(kind):
    """The type without the None that it may be."""
    origin, of = parts(kind)
    return of[0] if origin is Union else kind


def expected(kind):
    """In words, what a value of this type is."""
    origin, of = parts(kind)
    if origin is Annotated:
        return of[1].words
    if origin is Literal:
        return f"one of {', '.join(map(str, of))}"
    if origin is Union:
        return expected(of[0])
    if origin is tuple:
        return f"{expected(of[0])}, or several{' in ascending order' * (of[0] is not str)}"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a text")


def fits(kind, value):
    """Whether a value is of a type. No bool is a number, and every number is finite."""
    origin, of = parts(kind)
    if origin is Annotated:
        return fits(of[0], value) and of[1].holds(value)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in of)
    if origin is Union:
        return value is None or fits(of[0], value)
    if origin is tuple:
        return (
            type(value) is tuple
            and len(value) > 0
            and all(fits(of[0], v) for v in value)
            and (of[0] is str or sorted(value) == list(value))
        )
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind


def parse(kind, given):
    """The value that a flag's text means, or the text as it is if it means none."""
    origin, of = parts(kind)
    if isinstance(given, list):
        return tuple(parse(parts(inner(kind))[1][0], text) for text in given)
    if origin is Annotated and of[1].read:
        return of[1].read(given)
    if origin in (Annotated, Union):
        return parse(of[0], given)
    if origin is Literal:
        return next((choice for choice in of if str(choice) == given), given)
    try:
        return kind(given)
    except ValueError:
        return given
