"""What the tests share: every branch laid out as a learner would get it, and a way to run it."""

import importlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import branches  # noqa: E402

MODELS = branches.read_path((ROOT / "path.toml").read_text(encoding="utf-8"))


def run_python(*words, cwd=None, **kwargs):
    """Run Python on `words`, with its output captured."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        stdin=subprocess.DEVNULL,
        **{"env": {**os.environ, "PYTHONIOENCODING": "utf-8"}, **kwargs},
    )


@pytest.fixture(scope="session")
def laid_out(tmp_path_factory):
    """A folder, with spaces and letters beyond ASCII in its name, that holds every branch."""
    folder = tmp_path_factory.mktemp("branches") / "Tiefes Lernén 深度"
    branches.preview(folder)
    return folder


@pytest.fixture(scope="session")
def layer_table():
    """What `python model.py` prints, run once a branch and from another working directory."""

    @cache
    def printed(branch):
        done = run_python(branch / "model.py", cwd=branch.parent)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return printed


def import_branch(folder):
    """The modules model and train of a branch; harness is the same on all, and imported once."""
    sys.path.insert(0, str(folder))
    try:
        return [importlib.import_module(name) for name in ("model", "train")]
    finally:
        sys.path.remove(str(folder))
        for name in ("model", "train"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def lenet(laid_out):
    """The branch LeNet as (folder, module model, module train)."""
    return laid_out / "LeNet", *import_branch(laid_out / "LeNet")


@pytest.fixture(scope="session")
def harness(lenet):
    """The modules harness.run, harness.data and harness.plots."""
    names = ("run", "data", "plots")
    return SimpleNamespace(**{name: importlib.import_module(f"harness.{name}") for name in names})


@pytest.fixture(scope="module")
def folder(request, laid_out):
    """The branch that a test file is about, which it names as NAME."""
    return laid_out / request.module.NAME


@pytest.fixture(scope="module")
def modules(folder, harness):
    return import_branch(folder)


@pytest.fixture(scope="module")
def model(modules):
    return modules[0]


@pytest.fixture(scope="module")
def train(modules):
    return modules[1]


def folder_of_images(home, width):
    """A folder of two classes that hardly differ, in images of several heights."""
    draws = numpy.random.default_rng(0)
    for split, count in (("train", 12), ("val", 10)):
        for name, red in (("cat", 20), ("dog", 0)):
            for i in range(count):
                path = home / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = draws.integers(0, 230, (260 + 9 * i, width, 3), dtype=numpy.uint8)
                pixels[:, :, 0] += red
                Image.fromarray(pixels).save(path)
    return home


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    return folder_of_images(tmp_path_factory.mktemp("photographs"), 300)


@pytest.fixture(scope="session")
def panoramas(tmp_path_factory):
    return folder_of_images(tmp_path_factory.mktemp("panoramas"), 800)
