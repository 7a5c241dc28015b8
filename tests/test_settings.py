"""Settings, the command line, and how a program ends."""

import dataclasses
import os
import runpy
import subprocess
import sys
from typing import Literal

from conftest import run_python
from toys import WORDS, one_line

import pytest
import torch


def test_settings_have_types_that_are_checked(harness):
    values = harness.values

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Recipe(harness.settings.Settings):
        area: tuple[values.Share, ...] = (0.25, 0.5)
        lrn: bool = True
        side: Literal["left", 2] = "left"
        decay: values.Positive | None = None

    recipe = Recipe(data="x", epochs=1, batch_size=2, lr=1)
    good = {"area": (0, 1.0), "lrn": False, "side": 2, "decay": 0.1, "lr": 1e-9, "seed": 2**32 - 1}
    assert dataclasses.replace(recipe, **good).side == 2
    wrong = {"lr": [0, True, "1", float("nan"), float("inf")], "lrn": [1, "on", None]}
    wrong |= {
        "area": [(), (0, 2), (0.5, 0.25), [0, 0.5], 0.5],
        "side": ["2", "right", True],
        "decay": [0, "none"],
    }
    wrong |= {"epochs": [0, 1.0, True, 2**63], "seed": [-1, 2**32], "limit": [0], "data": [3]}
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(harness.errors.Refusal, match=f"--(no-)?{name} .*it should be"):
                dataclasses.replace(recipe, **{name: value})


def test_flags_override_the_recipe_that_is_chosen(harness):
    """Texts become what the types say; a run's folder is named for what differs from the recipe."""
    values = harness.values

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Recipe(harness.settings.Settings):
        scales: tuple[values.Count, ...] = (1, 2)
        lrn: bool = True
        groups: values.Literal[2, 1] = 2
        decay: values.Positive | None = None

    laptop = Recipe(data="a", epochs=3, batch_size=10, lr=0.5)
    recipes = {"laptop": laptop, "paper": dataclasses.replace(laptop, lr=0.25, lrn=False, decay=2)}

    def parse(*words):
        return harness.settings.command_line("About.", recipes, words)

    def title(*words):
        return parse(*words).title()

    assert parse() == dataclasses.replace(laptop, name="laptop") and title() == "laptop-seed0"
    chosen = parse("--recipe", "paper", "--scales", "4", "5", "--groups", "1", "--no-lrn")
    assert (chosen.lr, chosen.decay, chosen.scales, chosen.groups) == (0.25, 2, (4, 5), 1)
    assert chosen.title() == "paper-scales-4-5-groups-1-seed0"
    assert title("--recipe", "paper", "--lrn") == "paper-lrn-seed0"
    assert title("--no-lrn", "--seed", "3", "--lr", "1e-2") == "laptop-lr-0.01-no-lrn-seed3"
    assert title("--lr", "0.5", "--device", "cpu", "--fresh", "--dry-run") == "laptop-seed0"
    assert parse("--lr", "0.1").but(lr=0.5, seed=1).title() == "laptop-seed1"
    assert chosen.in_words() == "paper recipe, scales 4 5, groups 1, seed 0"
    named = dataclasses.replace(chosen, name="laptop-experiment-depth")
    assert named.in_words() == "laptop recipe, depth, scales 4 5, groups 1, seed 0"
    assert named.in_words(0, 2) == "laptop recipe, depth, scales 4 5, groups 1, seeds 0 2"
    for scales in (["4", "5", "6"], ["5", "4"], ["x", "y"]):
        with pytest.raises(harness.errors.Refusal, match="--scales"):
            parse("--scales", *scales)
    assert parse("--lr", "1e-5").in_words() == "laptop recipe, lr 1e-05, seed 0"
    odd = os.fsdecode(b"/x/im\xffges")  # no letter in UTF-8
    assert title("--data", odd).startswith("laptop-data-") and title("--data", "/x/b")
    titles = {title(*words) for words in ([], ["--data", "/x/b"], ["--data", "/y/b"])}
    assert len(titles) == 3 and all("/" not in one for one in titles)


def test_the_commands_of_a_notebook_raise_and_print_nothing(tiny, capsys):
    with pytest.raises(tiny.errors.Refusal, match="--epochs 0"):
        tiny.train.fit(tiny.train.RECIPES["laptop"].but(epochs=0))
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(tiny):
    one_line(tiny("train.py", "--device", "cuda"), "--device cuda", "--device cpu")


@pytest.mark.parametrize(
    "error, code, words",
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), 2, "--batch-size"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 2, "smaller"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to"), 2, "smaller"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB"), 2, "smaller"),
        (MemoryError(), 2, "--batch-size"),
        (
            RuntimeError("DataLoader worker (pid 3) is killed by signal: Bus error."),
            2,
            "--workers 0",
        ),
        (KeyboardInterrupt(), 130, "goes on"),
        (RuntimeError("Storage size calculation overflowed with sizes=[9, 9]"), 2, "too large"),
        (OverflowError("Python int too large to convert to C long"), 2, "too large"),
        (OverflowError("int too big to convert"), 2, "too large"),
        (OSError(5, "Input/output error", "/data/a\nb"), 2, r"a\nb: Input/output error"),
    ],
    ids=repr,
)
def test_what_ends_a_program_is_one_line(tiny, monkeypatch, error, code, words):
    def fail(self, values):
        raise error

    monkeypatch.setattr(tiny.meter.Meter, "log", fail)
    one_line(tiny("train.py", *WORDS), words, code=code)
    monkeypatch.undo()
    assert tiny("train.py", *WORDS).code == 0  # from where it was


@pytest.mark.skipif(os.name == "nt", reason="Windows has other pipes, and no full device")
@pytest.mark.parametrize("full", [False, True], ids=["nobody reads", "a full disk"])
def test_an_output_that_cannot_be_written_is_one_line(tiny, full):
    """As of `python train.py | head`; what was trained is kept."""
    if full and not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    process = subprocess.Popen(
        [sys.executable, tiny.home / "train.py", *map(str, WORDS)],
        stdout=open("/dev/full", "w") if full else subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    if not full:
        process.stdout.close()
    (line,) = process.stderr.read().splitlines()
    assert process.wait() in (1, 2) and ("No space" in line if full else "nobody reads on" in line)
    process.stderr.close()
    assert tiny("train.py", *WORDS).code == 0


def test_a_fault_of_the_program_keeps_its_traceback(tiny, monkeypatch):
    monkeypatch.setattr(tiny.meter.Meter, "log", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tiny("train.py", *WORDS)


def test_a_check_in_model_py_is_one_line_and_a_mistake_there_keeps_its_traceback(harness, tmp_path):
    path = tmp_path / "model.py"
    path.write_text("def check():\n    raise ValueError('n is 3')\n\ndef slip():\n    a, b = [0]\n")
    found = runpy.run_path(str(path))
    for name, refused in (("check", True), ("slip", False)):
        with pytest.raises(ValueError) as error:
            found[name]()
        assert harness.errors.refused_by_model(error.value) == refused


def test_a_run_is_named_for_its_data_and_no_other(harness):
    short = harness.settings.short
    assert (short("data/cats"), short("checkpoints/VGG/best-seed0")) == ("cats", "best-seed0")
    for one, other in (("data/cats/new", "data/dogs/new"), ("/cats/new", "/dogs/new")):
        assert short(one).startswith("new-") and short(one) != short(other)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_to_itself_is_no_folder(tiny, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    kind = tiny.values.Folder
    assert not tiny.values.fits(kind, tiny.values.parse(kind, str(tmp_path / "loop")))


def test_an_old_python_is_turned_away(tiny):
    code = "import sys; sys.version_info = (3, 10); import harness"
    done = run_python("-c", code, cwd=tiny.home)
    assert done.returncode == 2 and "3.11 or newer" in done.stderr
    assert len(done.stderr.splitlines()) == 1
