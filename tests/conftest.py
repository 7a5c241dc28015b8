"""What the tests share: every branch laid out as a learner would get it, and a way to run it."""

import contextlib
import functools
import importlib
import io
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import branches  # noqa: E402
from repos import branched, original, original_branched, published, repo  # noqa: E402, F401

MODELS = branches.read_path((ROOT / "path.toml").read_text(encoding="utf-8"))
NAMES = [model["name"] for model in MODELS]
TOY = "Toy"
PARENTS = {model["name"]: model["builds_on"] for model in MODELS}
PARTS = {model["name"]: model["parts"] for model in MODELS}

# The same seed gives the same bits on a CPU, so GPUs are left alone; GPU=1 is for test_gpu.py.
if os.environ.get("GPU") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
# Small networks on all cores wait for whatever else the machine does, in what is started as well.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


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


class Branch:
    """A branch in a folder: its modules as attributes (train, model, run, ...), and its commands.

    Starting Python with torch takes seconds, so all of it happens in this process. Each branch has
    modules of its own, harness included, under names that the others have, too.
    """

    def __init__(self, home):
        self.home, self.name, self.modules = home, home.name, {}
        self.own = {path.stem for path in home.glob("*.py")}
        self.ours = {"harness", *self.own}

    @contextlib.contextmanager
    def imported(self):
        """Meanwhile, `import harness` and `import model` mean this branch's."""
        outside = self.taken_out()
        sys.modules.update(self.modules)
        sys.path.insert(0, str(self.home))
        try:
            yield
        finally:
            sys.path.remove(str(self.home))
            self.modules = self.taken_out()
            sys.modules.update(outside)

    def taken_out(self):
        """{name: module} of what goes by this branch's names, no longer in sys.modules."""
        names = [name for name in sys.modules if name.partition(".")[0] in self.ours]
        return {name: sys.modules.pop(name) for name in names}

    def __getattr__(self, name):
        name = name if name in self.own else f"harness.{name}"
        if name in self.modules:
            return self.modules[name]
        with self.imported():
            return importlib.import_module(name)

    def __call__(self, script, *words):
        """Run a script as a command: its exit code, and what it writes to stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        argv, sys.argv, code = sys.argv, [script, *map(str, words)], 0
        try:
            with self.imported(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                runpy.run_path(str(self.home / script), run_name="__main__")
        except SystemExit as stopped:
            code = stopped.code or 0
        finally:
            sys.argv = argv
        return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())

    @functools.cached_property
    def layers(self):
        """What `python model.py` comes to; for some networks it takes seconds, so once."""
        return self("model.py")

    def runs(self):
        """{name of its folder: what weights.pt holds} of the finished runs."""
        return {
            path.parent.name: torch.load(path, weights_only=True)
            for path in sorted((self.home / "checkpoints").glob("*/*/weights.pt"))
        }

    def parse(self, *words, script="train"):
        """The settings that a command line of train.py asks for."""
        recipes, parse = getattr(self, script).RECIPES, self.settings.command_line
        with self.imported():  # the comments of a class are read from its module's file
            return parse("", recipes, [*map(str, words)])


@pytest.fixture(scope="session")
def laid_out(tmp_path_factory):
    """A folder, with spaces and letters beyond ASCII in its name, that holds every branch."""
    folder = tmp_path_factory.mktemp("branches") / "Tiefes Lernén 深度"
    branches.preview(folder)
    return folder


@pytest.fixture(scope="session")
def every_branch(laid_out):
    """{name: Branch}."""
    return {name: Branch(laid_out / name) for name in NAMES}


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A branch of another task, laid out from a main with a part of its own."""
    main = tmp_path_factory.mktemp("toy") / "main"
    shutil.copytree(ROOT / "tests" / "toy", main)
    shutil.copytree(ROOT / "every_branch", main / "every_branch")
    for name in ("branches.py", *branches.FROM_ROOT):
        shutil.copyfile(ROOT / name, main / name)
    subprocess.run(["git", "init", "-q", main], check=True)
    done = run_python(main / "branches.py", "--preview", main.parent / "branches")
    assert done.returncode == 0, done.stderr
    return Branch(main.parent / "branches" / TOY)


@pytest.fixture(scope="session")
def harness(every_branch):
    """A branch, for the modules of its harness: harness.folder, harness.settings, ..."""
    return every_branch["LeNet"]


def pytest_generate_tests(metafunc):
    """Where a test file names no branch, its tests are asked of every one, and of the toy."""
    if "branch" in metafunc.fixturenames and not hasattr(metafunc.module, "NAME"):
        metafunc.parametrize("branch", [*NAMES, TOY], indirect=True)


@pytest.fixture
def branch(request, every_branch, small):
    """The branch that a test file names as NAME; or each, with few images where it has any."""
    if not hasattr(request, "param"):
        branch = every_branch[request.module.NAME]
    elif request.param == TOY:
        branch = request.getfixturevalue("toy")
    else:
        branch = every_branch[request.param]
        small(branch)
    yield branch
    clean(branch)


def clean(branch):
    branch.lock.held.clear()  # Windows removes no file that is open
    for path in sorted((branch.home / "checkpoints").rglob("*"), reverse=True):
        if path.name != "README.md":
            path.rmdir() if path.is_dir() else path.unlink()


@pytest.fixture
def model(branch):
    return branch.model


@pytest.fixture
def train(branch):
    return branch.train


@pytest.fixture(scope="session")
def fashion_mnist(every_branch):
    """(classes, (images, labels), (images, labels)), read once."""
    return every_branch["LeNet"].sets.by_name("fashion-mnist")


@pytest.fixture
def small(monkeypatch, fashion_mnist):
    """A function that leaves a branch little data: 600, 100 and 100 images, or a page of text.

    cifar10 is Fashion-MNIST in 32x32 pixels and three channels. No pictures are drawn, which take
    longer than all the rest, unless pictures is true.
    """

    def few(branch, train=600, other=100, pictures=False):
        if "language" in PARTS.get(branch.name, ()):
            first = [text[:20_000] for text in branch.language.shakespeare()]
            first[1:] = (text[:1_000] for text in first[1:])
            monkeypatch.setattr(branch.language, "shakespeare", lambda: [*first])
            if not pictures:
                monkeypatch.setattr(branch.language, "draw", lambda *_: None)
            return
        if "translation" in PARTS.get(branch.name, ()):
            sizes, kinds = {"train": 200, "validation": 20, "test": 20}, branch.pairs.KINDS
            verses = branch.pairs.verses()
            for name, part in verses.items():  # the shortest: an untrained network writes no end
                verses[name] = sorted(part, key=lambda pair: len(pair[0]))[: sizes[name]]
            kind = kinds["verses"]._replace(parts=lambda: dict(verses))
            monkeypatch.setitem(kinds, "verses", kind)
            monkeypatch.setattr(branch.pairs, "GENERATED", sizes)
            if not pictures:
                monkeypatch.setattr(branch.translation, "draw", lambda *_: None)
            return

        def by_name(name):
            classes, *splits = fashion_mnist
            if name == "cifar10":
                pad = torch.nn.functional.pad
                splits = [(pad(x[:9000].expand(-1, 3, -1, -1), [2] * 4), y) for x, y in splits]
            (images, labels), test = splits
            count = train + other
            return classes, (images[:count], labels[:count]), tuple(part[:other] for part in test)

        monkeypatch.setattr(branch.images, "by_name", by_name)
        monkeypatch.setattr(branch.images, "VALIDATION", other)
        if not pictures:
            monkeypatch.setattr(branch.classification, "draw", lambda *_: None)

    return few


def folder_of_images(home, width):
    """A folder of two classes that hardly differ, in images of several heights."""
    draws = numpy.random.default_rng(0)
    for split, count in (("train", 8), ("val", 5)):
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


@pytest.fixture
def tiny(toy):
    """The toy, with nothing trained."""
    yield toy
    clean(toy)


@pytest.fixture
def folder(tiny):
    return tiny.home / "checkpoints" / TOY / "laptop-epochs-3-batch-size-100-seed0"


def images_only(branch):
    if "images" not in PARTS.get(branch.name, ()):
        pytest.skip("has no images")
