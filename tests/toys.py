"""What the tests of the harness's core share: short runs of the toy, and how they end."""

import torch

WORDS = ("--epochs", 3, "--batch-size", 100)
FOLDER = "laptop-epochs-3-batch-size-100-seed0"


def load(path):
    return torch.load(path, weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def one_line(done, *words, code=2):
    assert done.code == code and len(done.err.splitlines()) == 1, done
    assert all(word in done.err for word in words), done.err


class Death(BaseException):
    """What ends a process; no `except Exception` stops it."""
