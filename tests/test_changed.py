"""What changed between two runs, on six images that were counted by hand; and main's figures.py."""

from types import SimpleNamespace

import figures
from conftest import MODELS, clean

import pytest
import torch

CLASSES = ("cat", "a $dog$", "owl")
TRUE = ("cat", "cat", "cat", "a $dog$", "a $dog$", "owl")
OLD = ("a $dog$", "cat", "owl", "a $dog$", "owl", "owl")
NEW = ("cat", "cat", "cat", "owl", "a $dog$", "cat")
PRINTED = """\
Of 6 test images both get 1 right; 3 became right, 2 became wrong

         Old  New  became right  became wrong
cat        1    3             2             0
a $dog$    1    1             1             1
owl        1    0             0             1
"""


def write(folder, guesses, true=TRUE, model="New", data="fashion-mnist"):
    """A finished run, as far as changed.py asks."""
    folder.mkdir(parents=True)
    torch.save({"settings": {"model": model, "data": data}}, folder / "weights.pt")
    lines = [
        "image,true,predicted",
        *(f"{i},{a},{b}" for i, (a, b) in enumerate(zip(true, guesses))),
    ]
    (folder / "predictions.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def lenet(every_branch, monkeypatch):
    """A branch whose data set is six images, each of one shade, its number."""
    lenet = every_branch["LeNet"]
    shades = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
    labels = torch.tensor([CLASSES.index(name) for name in TRUE])
    monkeypatch.setattr(lenet.images, "by_name", lambda name: (CLASSES, None, (shades, labels)))
    yield lenet
    clean(lenet)


@pytest.fixture
def drawn(lenet, monkeypatch):
    """The figures that are drawn meanwhile."""
    kept = []

    class Kept(lenet.plots.Figure):
        def __init__(self, *words, **kwargs):
            super().__init__(*words, **kwargs)
            kept.append(self)

    monkeypatch.setattr(lenet.plots, "Figure", Kept)
    return kept


def test_what_became_right_and_what_became_wrong(lenet, drawn, tmp_path):
    old, new = write(tmp_path / "old", OLD, model="Old"), write(tmp_path / "new", NEW)
    done = lenet("harness/changed.py", old, new)
    assert done.code == 0 and done.err == ""
    assert done.out == f"{PRINTED}\n{new / 'changed.png'}: drawn\n"
    assert (new / "changed.png").read_bytes().startswith(b"\x89PNG")
    (figure,) = drawn
    assert figure.get_suptitle() == "New against Old: 3 test images became right, 2 became wrong"
    right, bars, wrong = figure.subfigs
    assert [axes.get_title() for axes in right.axes] == [*CLASSES, "", "", ""]
    assert shown(right) == [(0, "a $dog$"), (4, "owl"), (2, "owl")]
    assert shown(wrong) == [(3, "owl"), (5, "cat")]
    heights = [bar.get_height() for bar in bars.axes[0].patches]
    assert heights == [2, 1, 0, 0, -1, -1]


def shown(figure):
    """[(shade, text below)] of the images in a figure, row by row."""
    full = [axes for axes in figure.axes if axes.images]
    return [(int(axes.images[0].get_array().max()), axes.get_xlabel()) for axes in full]


def test_two_runs_of_one_model_are_told_apart_by_their_folders(lenet, drawn, tmp_path):
    runs = [write(tmp_path / f"laptop-seed{seed}", NEW) for seed in range(2)]
    assert lenet("harness/changed.py", *runs).code == 0
    title = "laptop-seed1 against laptop-seed0: 0 test images became right, 0 became wrong"
    assert drawn[0].get_suptitle() == title


def test_examples_are_spread_over_the_whole_list(lenet):
    some = lenet.changed.some
    assert some([*range(100)], 2) == [25, 75] and some([*"abcde"], 2) == ["b", "d"]
    assert some([7], 2) == [7] and some([7, 8], 2) == [7, 8] and some([], 2) == []


def test_runs_that_cannot_be_compared_are_refused(lenet, tmp_path):
    """In one line that names the file; nothing is drawn."""
    new = write(tmp_path / "new", NEW)
    other = ("owl", *TRUE[1:])

    def refused(before, *words, after=new):
        done = lenet("harness/changed.py", before, after)
        assert done.code == 2 and len(done.err.splitlines()) == 1, done.err
        assert all(word in done.err for word in words), done.err
        assert not (after / "changed.png").exists()

    refused(tmp_path / "nowhere", "weights.pt", "cannot be read")
    refused(write(tmp_path / "mnist", OLD, data="mnist"), "fashion-mnist", "is of", "of mnist")
    refused(write(tmp_path / "labels", OLD, other), "labels", "not the 6 test images")
    refused(write(tmp_path / "few", OLD[:2], TRUE[:2]), "2 images", "not the 6 test images")
    here = write(tmp_path / "photographs", OLD, data="photographs")
    refused(here, "folder of images", after=here)
    missing = write(tmp_path / "missing", OLD)
    (missing / "predictions.csv").unlink()
    refused(missing, "predictions.csv is missing", "the command that trained the run adds it")
    for number, content in enumerate((b"a,b\n1,2\n", b"\xff\xfe", b"")):
        broken = write(tmp_path / f"broken{number}", OLD)
        (broken / "predictions.csv").write_bytes(content)
        refused(broken, str(broken / "predictions.csv"))
    for number, content in enumerate(({}, {"settings": 3}, {"settings": {"model": "New"}})):
        stranger = write(tmp_path / f"stranger{number}", OLD)
        torch.save(content, stranger / "weights.pt")
        refused(stranger, str(stranger / "weights.pt"))


def test_its_help_teaches_and_two_folders_are_needed(lenet):
    done = lenet("harness/changed.py", "--help")
    assert done.code == 0 and "python -m harness.changed checkpoints/LeNet" in done.out
    done = lenet("harness/changed.py", "one")
    assert done.code == 2 and len(done.err.splitlines()) == 1 and "after" in done.err


def test_a_model_is_compared_with_the_last_that_it_builds_on():
    parents = {model["name"]: figures.parent(model, MODELS) for model in MODELS}
    assert parents["LeNet"] is None and parents["AlexNet"] == "ReLU"
    assert parents["GoogLeNet"] == "AlexNet" and parents["ResNet"] == "BatchNorm"
    assert parents["LSTM"] is None and parents["Transformer"] == "Attention"


def test_make_figures_draws_what_changed_where_both_runs_are(monkeypatch, tmp_path, capsys):
    """Those in .branches/ count; without them the picture stays."""
    monkeypatch.setattr(figures.branches, "ROOT", tmp_path)
    home, calls = tmp_path / "models" / "New", []
    home.mkdir(parents=True)

    def run(command, cwd):
        calls.append((command[1:], cwd))
        (command[-1] / "changed.png").write_bytes(b"drawn")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(figures.subprocess, "run", run)
    figures.draw_changed(home, "Old", "New", tmp_path)
    assert not calls and "MISSING, no laptop-seed0 of Old and New" in capsys.readouterr().out
    old = write(tmp_path / "checkpoints" / "Old" / "laptop-seed0", OLD)
    write(tmp_path / "checkpoints" / "New" / "laptop-seed0", NEW)
    new = write(tmp_path / ".branches" / "New" / "checkpoints" / "New" / "laptop-seed0", NEW)
    figures.draw_changed(home, "Old", "New", tmp_path)
    assert calls == [(["-m", "harness.changed", old, new], tmp_path)]
    assert (home / "figures" / "changed.png").read_bytes() == b"drawn"
    (old / "weights.pt").unlink()
    capsys.readouterr()
    figures.draw_changed(home, "Old", "New", tmp_path)
    assert len(calls) == 1 and "changed.png: left as it is" in capsys.readouterr().out
