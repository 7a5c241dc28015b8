"""What --help tells of settings: the comments on their lines, and the values in the recipes."""

import contextlib
import functools
import inspect
import re


@functools.cache
def own_comments(kind):
    """[(field, the comment on its line)] of a class of settings."""
    with contextlib.suppress(OSError, TypeError):  # a class without a file, as in a notebook
        return re.findall(r"^    (\w+):[^#\n]*# (.+)$", inspect.getsource(kind), re.M)
    return []


def comments(kind):
    """{field: the comment on its line} of a class of settings and those it is derived from."""
    return dict(pair for part in reversed(kind.__mro__[:-1]) for pair in own_comments(part))


def defaults_of(name, recipes):
    """What --help says of the values that the recipes have."""
    values = {key: getattr(recipe, name) for key, recipe in recipes.items()}
    values = {key: "not set" if value is None else str(value) for key, value in values.items()}
    if len({*values.values()}) == 1:
        return f"default: {next(iter(values.values()))}"
    return "default: " + ", ".join(f"{value} ({key})" for key, value in values.items())
