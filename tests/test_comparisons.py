"""Comparisons of several runs, the layer table, and pictures."""

import csv
import os
from types import SimpleNamespace

from conftest import clean, run_python
from toys import FOLDER, WORDS

import pytest
import torch


def test_one_after_the_other_with_a_line_that_says_which(tiny, capsys, monkeypatch):
    """The time left is that of those which were trained; the first of the four had been before."""
    clock = [0]
    monkeypatch.setattr(tiny.compare.time, "perf_counter", lambda: clock[0])
    recipe, lines = tiny.parse(), []
    variants = [recipe.but(seed=seed) for seed in range(4)]
    for variant, seconds in zip(tiny.compare.in_turn("A race", variants), (1, 20, 40, 30)):
        lines.append((variant.seed, capsys.readouterr().out.strip()))
        clock[0] += seconds
    assert lines == [
        (0, "A race, 1 of 4: seed 0"),
        (1, "A race, 2 of 4: seed 1"),
        (2, "A race, 3 of 4: seed 2, about 0:40 min left"),
        (3, "A race, 4 of 4: seed 3, about 0:30 min left"),
    ]
    assert not list(tiny.compare.in_turn("No race", []))


def test_where_all_have_diverged_there_is_nothing_to_compare(tiny):
    with pytest.raises(tiny.errors.Diverged, match="nothing to compare"):
        tiny.compare.compare("Toy", tiny.parse(*WORDS), [], {}, "height")
    assert not (tiny.home / "checkpoints" / "Toy").exists()


def test_a_comparison_writes_every_epoch_of_every_run_and_draws_means_and_bands(
    tiny, monkeypatch, tmp_path
):
    """Between the lowest and the highest; what only one run measured is left empty."""
    recipe, figures = tiny.parse(*WORDS), []
    runs = [
        SimpleNamespace(settings=recipe.but(gate=gate, seed=seed, lr=seed + 0.5), history=history)
        for gate, seed, history in (
            (True, 0, [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 2.0, "lr": 0.7}]),
            (False, 1, [{"epoch": 1, "loss": 3.0, "flat": 5}, {"epoch": 2, "loss": 6.0}]),
        )
    ]

    class Kept(tiny.plots.Figure):
        def savefig(self, *words, **kwargs):
            figures.append(self)
            super().savefig(*words, **kwargs)

    monkeypatch.setattr(tiny.plots, "Figure", Kept)
    curves = [[row["loss"] for row in run.history] for run in runs]
    panels = {"left": {"a $b$": curves, "c": [[5.0, 5.0]]}, "right": {"a": [[4.0]]}}
    with tiny.imported():
        tiny.compare.compare("Toy", recipe, runs, panels, "height", level=2.5)
    folder = tiny.home / "checkpoints" / "Toy" / FOLDER
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    with open(folder / "points.csv", encoding="utf-8") as file:
        assert [tuple(row.values()) for row in csv.DictReader(file)] == [
            ("0.5", "0", "True", "1", "1.0", ""),
            ("0.5", "0", "True", "2", "2.0", ""),
            ("1.5", "1", "False", "1", "3.0", "5"),
            ("1.5", "1", "False", "2", "6.0", ""),
        ]
    left, right = figures[0].axes
    assert figures[0].get_suptitle() == "Toy: laptop recipe, epochs 3, batch size 100, seeds 0 1"
    assert (left.get_title(), right.get_title(), left.get_ylabel()) == ("left", "right", "height")
    mean, other, level = left.lines
    assert [*mean.get_xdata()] == [1, 2] and mean.get_ydata().tolist() == [2, 4]
    assert other.get_ydata().tolist() == [5, 5] and [*level.get_ydata()] == [2.5, 2.5]
    corners = left.collections[0].get_paths()[0].vertices.tolist()
    assert {tuple(corner) for corner in corners} == {(1, 1), (1, 3), (2, 2), (2, 6)}
    assert right.lines[0].get_ydata().tolist() == [4] and left.get_ylim() == right.get_ylim()
    tiny.plots.comparison(tmp_path / "x.png", panels, {"left": "m", "right": "kg"})
    left, right = figures[1].axes  # of two quantities, each has its own axis
    assert (left.get_ylabel(), right.get_ylabel()) == ("m", "kg")
    assert left.get_ylim() != right.get_ylim()


def test_a_run_that_diverges_is_left_out_of_a_comparison(tiny, capsys):
    def diverge(recipe):
        raise tiny.errors.Diverged("the loss is nan")

    assert tiny.compare.unless_diverged(diverge, None) is None
    assert "the loss is nan" in capsys.readouterr().out
    assert tiny.compare.unless_diverged(lambda recipe: recipe, 7) == 7


def test_the_layer_table_says_where_a_network_differs(tiny, capsys):
    """What is text is quoted, and not compared."""
    net, example = tiny.model.Toy(), torch.zeros(1, 12, dtype=torch.long)

    def table(paper):
        met = tiny.table.layer_table(net, example, paper)
        return met, capsys.readouterr().out

    met, printed = table({"hidden": {"parameters": 2113}, "output": {"output": (12, 8)}})
    assert not met and "hidden: parameters is 2,112 here, 2,113 in the paper" in printed
    met, printed = table({"hidden": {"output": (12, 64), "MACs": 12 * 32 * 64}})
    assert met and printed.endswith("Every figure on the right is met.\n")
    met, printed = table({"hidden": {"parameters": "2.1K"}})
    assert met and '"2.1K"' in printed and printed.endswith("in quotes are not compared.\n")
    assert not table({"hidden": {"MACs": 5}, "output": {"parameters": "0.5K"}})[0]
    assert tiny.table.count(net, example) == {"parameters": 2760, "macs": 12 * (32 + 8) * 64}


@pytest.fixture
def lenet(every_branch, small):
    branch = every_branch["LeNet"]
    small(branch, pictures=True)
    yield branch
    clean(branch)


def test_a_finished_run_has_its_picture_and_one_that_fails_is_a_warning(lenet, monkeypatch):
    """Whatever stops it: weights, result and predictions are there before anything is drawn."""
    words, written = ("--limit", 100, "--epochs", 1), {"weights.pt", "history.csv"}
    predictions, curves = {"predictions.csv"}, {"curves.png"}

    def fail(*_):
        raise ValueError("Expected a symbol\nmore")

    def run(*more):
        done = lenet("train.py", *words, *more)
        (folder,) = (lenet.home / "checkpoints" / "LeNet").glob("*")
        assert done.code == 0
        return folder, done.err.strip(), {path.name for path in folder.glob("[!.]*")} - written

    with monkeypatch.context() as patch:
        patch.setattr(lenet.plots, "learning_curves", fail)
        folder, warning, there = run()
        assert warning == f"Warning: {folder / 'curves.png'} could not be drawn: Expected a symbol"
        assert there == predictions
    with monkeypatch.context() as patch:
        patch.setattr(lenet.plots, "draw", fail)
        assert run("--fresh")[1:] == ("Warning: no pictures: Expected a symbol", predictions)
    with monkeypatch.context() as patch:
        patch.setattr(lenet.classification, "write_csv", fail)
        warning = "Warning: no predictions.csv: Expected a symbol"
        assert run("--fresh")[1:] == (warning, curves)
    assert run()[1:] == ("", predictions | curves)
    picture = (folder / "curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) < 300_000


@pytest.mark.parametrize("finished_before", [False, True])
def test_a_finished_run_tells_what_each_test_image_was_taken_for(
    lenet, fashion_mnist, finished_before
):
    """In the order of the test images, whether it is written at once or added later."""
    run = lenet.train.fit(lenet.parse("--limit", 100, "--epochs", 1))
    if finished_before:
        (run.folder / "predictions.csv").unlink()
        lenet.lock.held.clear()
        assert lenet("train.py", "--limit", 100, "--epochs", 1).code == 0
    with open(run.folder / "predictions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes, _, (images, labels) = fashion_mnist
    assert [row["image"] for row in rows] == [str(image) for image in range(100)]
    assert [row["true"] for row in rows] == [classes[label] for label in labels[:100]]
    guesses = run.model.eval()(lenet.train.prepare(images[:100])).argmax(1)
    assert [row["predicted"] for row in rows] == [classes[guess] for guess in guesses]


def test_names_are_drawn_literally(lenet, tmp_path):
    """A dollar sign is not the beginning of mathematics."""
    rows = [{"epoch": 1, "train_loss": 1.0, "validation_loss": 2.0}]
    for number, name in enumerate(("price_$_in_$", r"a$\frac{1}$", "50%_^")):
        lenet.plots.learning_curves(tmp_path / str(number), rows, name)
        assert (tmp_path / str(number)).stat().st_size > 1000


def test_no_backend_is_ever_asked_for(lenet):
    """Jupyter and Colab leave the name of theirs, which matplotlib refuses elsewhere."""
    env = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    code = "from harness import plots; plots.learning_curves('x.png', "
    code += "[{'epoch': 1, 'train_loss': 1.0, 'validation_loss': 2.0}], 'title')"
    done = run_python("-c", code, cwd=lenet.home, env=env)
    assert done.returncode == 0, done.stderr
    (lenet.home / "x.png").unlink()
    assert "matplotlib" not in (lenet.home / "harness" / "table.py").read_text(encoding="utf-8")


def test_classification_is_measured_as_usual(lenet):
    """Seven classes; the scores are handed over by way of the images."""
    scores, labels = torch.rand(30, 7), torch.arange(30) % 7
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(scores, labels), 8)
    net = torch.nn.Identity()
    _, ranked, true = lenet.classification.predict(net, loader)
    assert (ranked[:, 0] == scores.argmax(1)).all() and (true == labels).all()
    found = lenet.classification.metrics(0.0, ranked, true)
    assert found["top5"] == sum(labels[i] in scores[i].topk(5).indices for i in range(30)) / 30
    found = lenet.classification.evaluate(net, loader)
    assert found["accuracy"] == (scores.argmax(1) == labels).sum().item() / 30
    expected = torch.nn.functional.cross_entropy(scores, labels).item()
    assert found["loss"] == pytest.approx(expected) and net.training
    lowest = lenet.classification.evaluate(net, loader, scores_of=lambda model, x: -model(x))
    assert lowest["accuracy"] == (scores.argmin(1) == labels).sum().item() / 30


def test_an_image_that_is_surely_wrong_does_not_make_the_loss_infinite(lenet):
    """As where all of ten softmaxes are 0 in float32: a trained run would be lost at its test."""
    data = torch.utils.data.TensorDataset(1000.0 * torch.eye(3), torch.tensor([0, 1, 0]))
    loader, net = torch.utils.data.DataLoader(data, 3), torch.nn.Identity()
    found = lenet.classification.evaluate(
        net, loader, scores_of=lambda model, x: model(x).softmax(1).log()
    )
    assert found["accuracy"] == pytest.approx(2 / 3) and 100 / 3 < found["loss"] < 104 / 3


def test_where_one_run_is_left_there_is_no_spread(tiny):
    assert tiny.compare.mean_and_spread([0.5, 0.7]) == "60.00 ± 14.14"
    assert tiny.compare.mean_and_spread([0.1234], 1, 3) == "0.123, one run"
