"""The harness: command line, checkpoints, resuming after real kills, refusals, progress."""

import csv
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from conftest import run_python

SHORT = ("--limit", "1200", "--epochs", "3", "--batch-size", "100")
SHORT_FOLDER = "laptop-epochs-3-batch-size-100-limit-1200-seed0"
RECIPES = {
    "laptop": {"data": "fashion-mnist", "epochs": 3, "batch_size": 10, "lr": 0.5},
    "paper": {"data": "mnist", "epochs": 20, "batch_size": 1, "lr": 0.25, "momentum": 0.9},
}


# The command line


@pytest.fixture
def parse(harness):
    def parse(*words):
        ablations = {"pooling": ("subsampling", "max")}
        return harness.run.command_line("About.", RECIPES, words, **ablations)

    return parse


def test_a_recipe_may_have_a_default_of_its_own_for_an_ablation(harness, capsys):
    recipes = {**RECIPES, "paper": {**RECIPES["paper"], "pooling": "max"}}

    def title(*words):
        options = harness.run.command_line("About.", recipes, words, pooling=("average", "max"))
        return options.pooling, harness.run.Run("LeNet", options).folder.name

    assert title() == ("average", "laptop-seed0")
    assert title("--pooling", "max") == ("max", "laptop-pooling-max-seed0")
    assert title("--recipe", "paper") == ("max", "paper-seed0")
    assert title("--recipe", "paper", "--pooling", "average")[1] == "paper-pooling-average-seed0"
    with pytest.raises(SystemExit):
        title("--help")
    assert "default: average (laptop), max (paper)" in capsys.readouterr().out


def test_a_recipe_gives_the_defaults_and_flags_override_them(parse):
    options = parse()
    assert (options.recipe, options.data, options.epochs, options.lr) == (
        "laptop",
        "fashion-mnist",
        3,
        0.5,
    )
    assert (options.pooling, options.limit, options.seed, options.device) == (
        "subsampling",
        None,
        0,
        "auto",
    )
    options = parse("--recipe", "paper", "--epochs", "2", "--batch-size", "7", "--pooling", "max")
    assert (options.data, options.epochs, options.batch_size, options.lr) == ("mnist", 2, 7, 0.25)
    assert (options.momentum, options.pooling) == (0.9, "max")


@pytest.mark.parametrize(
    "words",
    [
        ["--colour", "red"],
        ["--recipe", "feast"],
        ["--pooling", "median"],
        ["--epoch", "3"],
        ["--epochs", "0"],
        ["--epochs", "2.5"],
        ["--batch-size", "-1"],
        ["--lr", "nan"],
        ["--lr", "0"],
        ["--lr", "inf"],
        ["--limit", "0"],
        ["--seed", "-1"],
        ["--seed", "4294967296"],
        ["--device", "tpu"],
        ["surplus"],
    ],
    ids=" ".join,
)
def test_a_bad_flag_is_one_line_and_exit_code_2(parse, capsys, words):
    with pytest.raises(SystemExit) as stopped:
        parse(*words)
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert words[0].removeprefix("--") in error and "--help" in error
    assert len(error.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(harness, capsys):
    with pytest.raises(SystemExit) as stopped:
        harness.run.choose_device("cuda")
    assert stopped.value.code == 2 and "--device cpu" in capsys.readouterr().err


@pytest.fixture
def parse_experiment(harness):
    """A command line with two experiments, whose recipes leave two settings open."""
    own = {"laptop": {**RECIPES["laptop"], "epochs": 2, "lr": None, "pooling": None, "width": 4}}
    own["paper"] = {**own["laptop"], "data": "cifar10", "width": 64, "fold": None, "folds": 3}
    ordinary = {"laptop": RECIPES["laptop"]}
    experiments = {"race": ("who is first", own), "walk": ("who is there", ordinary)}

    def parse(*words):
        return harness.run.command_line(
            "About.", ordinary, words, experiments=experiments, pooling=("subsampling", "max")
        )

    return parse


def test_an_experiment_has_recipes_of_its_own(parse_experiment, capsys):
    options = parse_experiment()
    assert (options.experiment, options.epochs, options.lr) == (None, 3, 0.5)
    assert options.pooling == "subsampling" and not hasattr(options, "width")
    options = parse_experiment("--experiment", "race")
    assert (options.experiment, options.epochs, options.width) == ("race", 2, 4)
    assert options.lr is None and options.pooling is None
    words = ("--experiment", "race", "--recipe", "paper", "--epochs", "9", "--lr", "0.1")
    options = parse_experiment(*words)
    assert (options.data, options.epochs, options.lr, options.width) == ("cifar10", 9, 0.1, 64)
    with pytest.raises(SystemExit):
        parse_experiment("--help")
    assert "race: who is first" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, named",
    [
        (["--experiment", "race", "--pooling", "max"], "--pooling"),
        (["--experiment", "race", "--pooling", "subsampling"], "--pooling"),
        (["--experiment", "swim"], "--experiment"),
        (["--recipe", "paper"], "--recipe paper is there for --experiment race ("),
        (["--experiment", "walk", "--recipe", "paper"], "--recipe paper"),
    ],
    ids=str,
)
def test_what_does_not_go_with_an_experiment_is_refused(parse_experiment, capsys, words, named):
    with pytest.raises(SystemExit) as stopped:
        parse_experiment(*words)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and named in error and len(error.splitlines()) == 1


def test_the_runs_of_an_experiment_have_folders_of_their_own(harness, parse_experiment):
    def title(*words, **variant):
        return harness.run.Run("LeNet", parse_experiment(*words), **variant).folder.name

    race = ("--experiment", "race")
    assert title() == "laptop-seed0" and title("--pooling", "max") == "laptop-pooling-max-seed0"
    assert title(*race) == "laptop-experiment-race-seed0"
    variants = [
        {"pooling": pooling, "lr": lr, "limit": limit, "seed": seed}
        for pooling in ("subsampling", "max")
        for lr in (0.1, 0.01)
        for limit in (None, 30)
        for seed in (0, 1)
    ]
    names = [title(*race, **variant) for variant in variants]
    names += [title(*race, "--recipe", "paper", fold=fold) for fold in (None, 1, 2)]
    assert len(set(names)) == len(names) == 19
    assert all("experiment-race" in name for name in names)


# Runs of a small network in this process


@pytest.fixture
def drawing(harness):
    return harness.run.Run.draw


@pytest.fixture
def world(harness, parse, tmp_path, monkeypatch):
    """A root folder of its own, a data set of 60 images, and a function that trains on it.

    Without pictures, which take longer than all the rest.
    """
    monkeypatch.setattr(harness.run.Run, "draw", lambda *_: None)
    monkeypatch.setattr(harness.run, "ROOT", tmp_path)
    (tmp_path / "harness").mkdir()
    for name in harness.run.CODE:
        (tmp_path / name).write_text("# code\n")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(100) % 2
    images = torch.randint(0, 100, (100, 1, 4, 4), generator=generator) + 100 * labels.view(
        -1, 1, 1, 1
    )
    parts = [(images[a:b].to(torch.uint8), labels[a:b]) for a, b in ((0, 60), (60, 80), (80, 100))]
    tiny = harness.data.Data(("dark", "bright"), 1, *parts)
    monkeypatch.setattr(harness.data, "load", lambda *_: tiny)

    def train(
        *words,
        loss_scale=lambda epoch: 1.0,
        measured=None,
        choose=True,
        test=True,
        pictures=True,
        **variant,
    ):
        run = harness.run.Run("Tiny", parse(*words), **variant)
        train, validation, loader = run.data(lambda images: images / 255.0)
        model = run.place(
            nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(27, 2))
        )
        optimizer = torch.optim.SGD(model.parameters(), run.settings["lr"], momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 7)
        for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
            for images, labels in run.batches(train):
                scores = model(images)
                loss = F.cross_entropy(scores, labels) * loss_scale(epoch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                run.log(loss, scores, labels)
            run.validate(model, validation, F.cross_entropy, measured=measured, choose=choose)
        return run, model, run.finish(model, loader if test else None, pictures=pictures)

    return SimpleNamespace(train=train, root=tmp_path, data=tiny)


def weights_of(folder):
    return torch.load(folder / "weights.pt", weights_only=True)["weights"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_what_a_finished_run_leaves(drawing, world, harness, monkeypatch):
    monkeypatch.setattr(harness.run.Run, "draw", drawing)
    run, model, result = world.train()
    assert run.folder == world.root / "checkpoints" / "Tiny" / "laptop-seed0"
    assert {path.name for path in run.folder.iterdir()} == {
        *(
            "weights.pt",
            "history.csv",
            "curves.png",
            "predictions.png",
            "confusion.png",
            "filters.png",
        )
    }
    for picture in run.folder.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 300_000
    with open(run.folder / "history.csv", encoding="utf-8") as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history] == ["1", "2", "3"]
    best = max(history, key=lambda row: float(row["validation_accuracy"]))
    assert result["epoch"] == int(best["epoch"])
    assert same(weights_of(run.folder), model.state_dict())
    images, labels = world.data.test
    right = (model.eval()(images / 255.0).argmax(1) == labels).float().mean().item()
    assert result["test_accuracy"] == pytest.approx(right) and right > 0.8


def test_the_epochs_figures_weigh_every_image_alike(world, harness, parse):
    """60 images in batches of 10, 10, ..., or in one of 60: the mean loss is over images."""
    run = harness.run.Run("Tiny", parse("--batch-size", "50"))
    loader, *_ = run.data(lambda images: images / 255.0)
    for images, labels in run.batches(loader):
        scores = torch.stack([images.mean((1, 2, 3)), images.amax((1, 2, 3))], 1)
        run.log(F.cross_entropy(scores, labels), scores, labels)
    images, labels = world.data.train
    images = images / 255.0
    scores = torch.stack([images.mean((1, 2, 3)), images.amax((1, 2, 3))], 1)
    assert run.trained["loss"] == pytest.approx(F.cross_entropy(scores, labels).item())
    assert run.trained["accuracy"] == (scores.argmax(1) == labels).sum().item() / 60


def test_augmentation_reaches_all_training_images_and_no_others(world, harness, parse):
    run = harness.run.Run("Tiny", parse())
    loaders = run.data(lambda images: images / 255.0, lambda images: images + 10)
    for loader, raised, count in zip(loaders, (True, False, False), (60, 20, 20)):
        images = torch.cat([images for images, _ in loader])
        assert len(images) == count
        assert ((images >= 10) == raised).all()


def test_a_prediction_of_several_views_and_the_five_best_count(world, harness, parse):
    """Seven classes; the scores are handed over by way of the images."""
    run = harness.run.Run("Tiny", parse())
    run.classes = tuple("abcdefg")
    scores, labels = torch.rand(30, 7), torch.arange(30) % 7
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(scores, labels), 8)
    _, ranked, true = run.evaluate(torch.nn.Identity(), loader)
    assert (ranked[:, 0] == scores.argmax(1)).all() and (true == labels).all()
    five_best = [labels[i] in scores[i].topk(5).indices for i in range(30)]
    assert harness.run.share_right(ranked, true[:, None]) == sum(five_best) / 30
    _, lowest, _ = run.evaluate(torch.nn.Identity(), loader, predict=lambda model, x: -model(x))
    assert (lowest[:, 0] == scores.argmin(1)).all()


def test_further_predictions_get_a_column_of_history_and_decide_nothing(world, harness, parse):
    run = harness.run.Run("Tiny", parse("--fresh"))
    train, validation, _ = run.data(lambda images: images / 255.0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    for images, labels in run.batches(train):
        run.log(torch.tensor(1.0), net(images), labels)
    run.started, run.lr = 0.0, 0.1
    opposite = {"opposite": lambda model, images: -model(images)}
    accuracy = run.validate(net, validation, F.cross_entropy, others=opposite)
    (row,) = run.history
    assert row["validation_accuracy"] == accuracy == run.best["accuracy"]
    assert row["validation_accuracy_opposite"] == pytest.approx(1 - accuracy)


def test_what_is_measured_gets_a_column_of_history_and_decides_nothing(world):
    plain, *_ = world.train()
    run, *_ = world.train("--fresh", measured={"flat": 0.25, "dead": 7})
    with open(run.folder / "history.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["flat"], row["dead"]) for row in rows] == 3 * [("0.25", "7")]
    assert rows[0].keys() - plain.history[0].keys() == {"flat", "dead"}
    for key in plain.history[0].keys() - {"seconds", "images_per_second"}:
        assert [row[key] for row in run.history] == [row[key] for row in plain.history]


def test_a_fold_validates_and_the_others_train(world, harness, parse_experiment):
    """Of the training images alone; the test images are the same for all folds."""
    options = parse_experiment("--experiment", "race", "--recipe", "paper")
    whole = harness.run.Run("Tiny", options).load(224)
    assert len(whole.train[0]) == 60 and whole is world.data
    held = []
    for fold in (1, 2, 3):
        run = harness.run.Run("Tiny", options, fold=fold)
        parts = [
            torch.cat([images for images, _ in loader])
            for loader in run.data(lambda images: images)
        ]
        assert [len(part) for part in parts] == [40, 20, 20]
        assert torch.equal(parts[2], world.data.test[0])
        assert run.load(224).train[1].bincount().tolist() == [20, 20]
        held.append(parts[1])
        both = torch.cat(parts[:2]).flatten(1)
        assert sorted(both.tolist()) == sorted(world.data.train[0].flatten(1).tolist())
    assert sorted(torch.cat(held).flatten(1).tolist()) == sorted(both.tolist())


def test_a_run_that_only_chooses_a_setting_is_not_tested(world, capsys, monkeypatch, harness):
    def draw(*_):
        raise AssertionError("it drew pictures")

    monkeypatch.setattr(harness.run.Run, "draw", draw)
    run, _, result = world.train(test=False)
    assert not any(key.startswith("test") for key in result)
    assert {path.name for path in run.folder.iterdir()} == {"weights.pt", "history.csv"}
    assert "not tested" in capsys.readouterr().out
    assert world.train(test=False)[2] == result
    printed = capsys.readouterr().out
    assert "finished before" in printed and "not tested" in printed
    assert max(row["validation_accuracy"] for row in run.history) == result["chosen_at"]


def test_a_run_without_pictures_is_tested_all_the_same(world, monkeypatch, harness):
    expected = world.train()[2]["test_accuracy"]
    drawn = []
    monkeypatch.setattr(harness.run.Run, "draw", lambda run, *_: drawn.append(run))
    run, _, result = world.train("--fresh", pictures=False)
    assert result["test_accuracy"] == expected and not drawn
    run, *_ = world.train("--fresh")
    assert drawn == [run]


def test_a_finished_run_recalled_has_its_history_and_leaves_its_weights(world):
    """Those of its best epoch, which is not the last: from epoch 2 on it learns to be wrong."""
    run, *_ = world.train(loss_scale=lambda epoch: 1.0 if epoch == 1 else -1.0)
    assert run.result["epoch"] == 1
    again, model, result = world.train()
    assert result == run.result and again.history == run.history and len(run.history) == 3
    assert same(model.state_dict(), weights_of(run.folder))


def test_without_a_choice_the_last_weights_are_kept(world):
    """Though they are worse than those of epoch 1."""
    run, model, result = world.train(
        loss_scale=lambda epoch: 1.0 if epoch == 1 else -1.0, choose=False
    )
    accuracies = [row["validation_accuracy"] for row in run.history]
    assert result["epoch"] == 3 and result["chosen_at"] == accuracies[2] < accuracies[0]
    images, labels = world.data.test
    right = (model.eval()(images / 255.0).argmax(1) == labels).float().mean().item()
    assert result["test_accuracy"] == pytest.approx(right) and right < accuracies[0]


def test_the_same_command_again_reports_and_keeps(world, capsys):
    run, _, result = world.train()
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    capsys.readouterr()
    assert world.train()[2] == result
    assert "--fresh" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before
    run, *_ = world.train("--fresh")
    assert same(
        weights_of(run.folder),
        torch.load(io.BytesIO(before["weights.pt"]), weights_only=True)["weights"],
    )


def test_seeds_and_flags_have_folders_of_their_own(world):
    first, second, other = (
        world.train(*words)[0]
        for words in ((), ("--seed", "1"), ("--lr", "0.01", "--pooling", "max"))
    )
    names = [run.folder.name for run in (first, second, other)]
    assert names == ["laptop-seed0", "laptop-seed1", "laptop-lr-0.01-pooling-max-seed0"]
    assert not same(weights_of(first.folder), weights_of(second.folder))


def test_several_models_in_one_process_do_not_touch_each_other(world):
    alone = weights_of(world.train(pooling="max")[0].folder)
    world.train("--seed", "3")
    again, *_ = world.train("--fresh", pooling="max")
    assert same(weights_of(again.folder), alone)


def test_a_dry_run_writes_nothing(world, capsys):
    world.train("--dry-run")
    assert not (world.root / "checkpoints").exists()
    assert "nothing written" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(world):
    def explode(epoch):
        return float("inf") if epoch == 2 else 1.0

    with pytest.raises(SystemExit) as stopped:
        world.train(loss_scale=explode)
    error = stopped.value.code  # a text goes to stderr, with exit code 1
    assert "epoch 2" in error and "--lr 0.5" in error and len(error.splitlines()) == 1
    state = torch.load(world.root / "checkpoints/Tiny/laptop-seed0/state.pt", weights_only=True)
    assert state["epoch"] == 1
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_comparison_goes_on_after_a_run_that_diverged(world, harness):
    expected = weights_of(world.train(pooling="max")[0].folder)
    with pytest.raises(harness.run.Diverged):
        world.train(loss_scale=lambda epoch: float("nan"))
    assert sys.excepthook is sys.__excepthook__
    run, *_ = world.train("--fresh", pooling="max")
    assert same(weights_of(run.folder), expected)


def test_one_after_the_other_with_a_line_that_says_which(harness, capsys, monkeypatch):
    """The time left is that of those which were trained; the first of the four had been before."""
    clock = [0]
    monkeypatch.setattr(harness.run.time, "perf_counter", lambda: clock[0])
    variants = [{"lr": 0.1, "seed": seed} for seed in range(4)]
    lines = []
    for variant, seconds in zip(harness.run.in_turn("A race", variants), (1, 20, 40, 30)):
        lines.append((variant["seed"], capsys.readouterr().out.strip()))
        clock[0] += seconds
    assert lines == [
        (0, "A race, 1 of 4: lr 0.1, seed 0"),
        (1, "A race, 2 of 4: lr 0.1, seed 1"),
        (2, "A race, 3 of 4: lr 0.1, seed 2, about 0:40 min left"),
        (3, "A race, 4 of 4: lr 0.1, seed 3, about 0:30 min left"),
    ]
    assert not list(harness.run.in_turn("No race", []))


def test_a_comparison_writes_every_epoch_of_every_run(world, harness, parse):
    """Of one that was finished before, too; what only one of them measured is left empty."""
    world.train(seed=1)
    runs = [
        world.train(pooling="max", measured={"flat": 0.5}, test=False)[0],
        world.train(seed=1)[0],
    ]
    comparison = harness.run.Run("Tiny", parse("--lr", "0.125"))
    curves = [[row["train_loss"] for row in run.history] for run in runs]
    comparison.compare(runs, {"": {"both": curves}}, "loss", level=0.5)
    assert {path.name for path in comparison.folder.iterdir()} == {"points.csv", "curves.png"}
    assert (comparison.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    with open(comparison.folder / "points.csv", encoding="utf-8") as file:
        points = list(csv.DictReader(file))
    expected = []
    for run, pooling, seed in zip(runs, ("max", "subsampling"), "01", strict=True):
        with open(run.folder / "history.csv", encoding="utf-8") as file:
            own = [{"pooling": pooling, "seed": seed, **row} for row in csv.DictReader(file)]
        expected += [{"flat": "", **row} for row in own]
    assert len(points) == 6 and points == expected


def test_a_comparison_draws_the_mean_between_the_lowest_and_the_highest(
    harness, tmp_path, monkeypatch
):
    class Kept(harness.plots.Figure):
        def savefig(self, *words, **kwargs):
            figures.append(self)

    figures = []
    monkeypatch.setattr(harness.plots, "Figure", Kept)
    panels = {"left": {"a": [[1.0, 2.0], [3.0, 6.0]], "b": [[5.0, 5.0]]}, "right": {"a": [[4.0]]}}
    harness.plots.comparison(tmp_path / "curves.png", panels, "height", 2.5, "Two panels")
    (figure,) = figures
    left, right = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["left", "right"]
    assert left.get_ylabel() == "height"
    a, b, level = left.lines
    assert (a.get_label(), b.get_label()) == ("a", "b")
    assert [*a.get_xdata()] == [1, 2] and a.get_ydata().tolist() == [2, 4]
    assert b.get_ydata().tolist() == [5, 5] and [*level.get_ydata()] == [2.5, 2.5]
    corners = left.collections[0].get_paths()[0].vertices.tolist()
    assert {tuple(corner) for corner in corners} == {(1, 1), (1, 3), (2, 2), (2, 6)}
    assert right.lines[0].get_ydata().tolist() == [4]


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def truncated(path, world):
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path, world):
    path.write_bytes(b"")


def hostile(path, world):
    torch.save({"identity": Hostile(world.root / "executed")}, path)


def hostile_pickle(path, world):
    path.write_bytes(pickle.dumps(Hostile(world.root / "executed")))


def of_another_program(path, world):
    torch.save({"weights": torch.zeros(3)}, path)


def of_another_model(path, world):
    saved = torch.load(path, weights_only=True)
    saved["identity"]["model"] = "AlexNet"
    torch.save(saved, path)


def of_other_flags(path, world):
    saved = torch.load(path, weights_only=True)
    saved["identity"]["epochs"] = 4
    torch.save(saved, path)


def of_other_code(path, world):
    (world.root / "model.py").write_text("# changed\n")


SPOILED = {
    truncated: "broken",
    empty: "broken",
    hostile: "broken",
    hostile_pickle: "broken",
    of_another_program: "broken",
    of_another_model: "model is AlexNet there, Tiny here",
    of_other_flags: "epochs is 4 there, 3 here",
    of_other_code: "model.py has changed",
}


@pytest.mark.parametrize("name", ["state.pt", "weights.pt"])
@pytest.mark.parametrize("spoil, reason", SPOILED.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_a_file_that_does_not_belong_is_refused_by_name(world, capsys, name, spoil, reason):
    if name == "weights.pt":
        world.train()
    else:
        with pytest.raises(SystemExit):  # stopped in its second epoch
            world.train(loss_scale=lambda epoch: float("nan") if epoch == 2 else 1.0)
    folder = world.root / "checkpoints/Tiny/laptop-seed0"
    spoil(folder / name, world)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        world.train()
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert name in error and reason in error and "--fresh" in error
    assert len(error.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not (world.root / "executed").exists()
    world.train("--fresh")


def test_a_state_that_does_not_fit_the_network_is_refused(world, capsys):
    with pytest.raises(SystemExit):
        world.train(loss_scale=lambda epoch: float("nan") if epoch == 2 else 1.0)
    path = world.root / "checkpoints/Tiny/laptop-seed0/state.pt"
    saved = torch.load(path, weights_only=True)
    saved["model"]["0.weight"] = torch.zeros(5, 5)
    torch.save(saved, path)
    with pytest.raises(SystemExit) as stopped:
        world.train()
    assert stopped.value.code == 2 and "state.pt" in capsys.readouterr().err


def test_a_write_that_fails_leaves_the_old_file(harness, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(part):
        part.write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        harness.run.replace(path, fail)
    assert path.read_text() == "old"


# Real kills, of real runs of LeNet

KILLER = textwrap.dedent(
    """
    import os, runpy, signal, sys
    import torch
    from harness import run

    what, when = sys.argv.pop(1), int(sys.argv.pop(1))
    calls = 0

    def die():
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    def counted(function, before):
        def wrapper(*args):
            global calls
            calls += 1
            if calls == when:
                before(*args)
                die()
            return function(*args)
        return wrapper

    def half(content, path):
        save(content, path)
        whole = open(path, "rb").read()
        open(path, "wb").write(whole[: len(whole) // 2])

    save = torch.save
    if what == "step":
        run.Run.log = counted(run.Run.log, lambda *_: None)
    elif what == "save":
        torch.save = counted(torch.save, half)
    elif what == "rename":
        run.os.replace = counted(os.replace, lambda *_: None)
    sys.argv[0] = "train.py"
    runpy.run_path("train.py", run_name="__main__")
    """
)


@pytest.fixture(scope="module")
def unbroken(lenet):
    """The weights and history of a short LeNet run that nothing stopped."""
    folder = lenet[0] / "checkpoints" / "LeNet" / SHORT_FOLDER
    done = run_python(lenet[0] / "train.py", *SHORT)
    assert done.returncode == 0, done.stderr
    result = weights_of(folder), (folder / "history.csv").read_text(), done
    folder.rename(folder.with_name("unbroken"))
    return result


def without_times(history):
    return [line.split(",")[:5] for line in history.splitlines()]


def test_killed_again_and_again_it_ends_with_the_same_bits(lenet, unbroken):
    """12 steps an epoch; saves: one before, one after each epoch, the weights; history between."""
    folder = lenet[0] / "checkpoints" / "LeNet" / SHORT_FOLDER
    kills = [
        ("step", 5),  # in epoch 1
        ("save", 1),  # writing epoch 1
        ("step", 17),  # in epoch 2, after epoch 1 was saved
        ("rename", 1),  # epoch 2 is written, but not under its name
        ("rename", 2),  # epoch 2 is saved, its history is not
        ("step", 12),  # the last step of epoch 3
        ("save", 2),  # trained and tested, while the weights are written
    ]
    for what, when in kills:
        done = run_python("-c", KILLER, what, when, *SHORT, cwd=lenet[0])
        assert done.returncode not in (0, 1, 2), (what, when, done.stdout, done.stderr)
        assert not (folder / "weights.pt").exists()
    done = run_python(lenet[0] / "train.py", *SHORT)
    assert done.returncode == 0, done.stderr
    weights, history, _ = unbroken
    assert same(weights_of(folder), weights)
    assert without_times((folder / "history.csv").read_text()) == without_times(history)
    assert not (folder / "state.pt").exists()


def test_killed_from_outside_it_ends_with_the_same_bits(lenet, unbroken):
    folder = lenet[0] / "checkpoints" / "LeNet" / SHORT_FOLDER
    command = [sys.executable, str(lenet[0] / "train.py"), *SHORT]
    shutil.rmtree(folder, ignore_errors=True)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not (folder / "history.csv").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert (folder / "state.pt").exists()
    done = run_python(*command[1:])
    assert done.returncode == 0, done.stderr
    assert "of them done before" in done.stdout
    assert same(weights_of(folder), unbroken[0])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to one process")
def test_ctrl_c_leaves_a_checkpoint_and_a_line(lenet, unbroken):
    folder = lenet[0] / "checkpoints" / "LeNet" / SHORT_FOLDER
    command = [sys.executable, str(lenet[0] / "train.py"), *SHORT]
    process = subprocess.Popen(
        [*command, "--fresh"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell makes what it starts in the background deaf to it, and so all that starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not process.stdout.readline().startswith("epoch   1"):
        assert process.poll() is None
    while not (folder / "history.csv").exists():  # epoch 1 is saved once its line is printed
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode not in (0, 1, 2)
    assert "Traceback" not in error and "goes on from there" in error
    epoch = torch.load(folder / "state.pt", weights_only=True)["epoch"]
    assert epoch >= 1 and f"holds epoch {epoch};" in error
    assert run_python(*command[1:]).returncode == 0
    assert same(weights_of(folder), unbroken[0])


def test_a_log_file_gets_one_line_an_epoch_and_no_bar(unbroken):
    done = unbroken[2]
    assert "\r" not in done.stdout + done.stderr and "%|" not in done.stdout + done.stderr
    assert sum(line.startswith("epoch") for line in done.stdout.splitlines()) == 3
    assert len(done.stdout.splitlines()) == 7


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_bar_with_speed_and_time_left(lenet):
    import pty
    import termios

    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 140))
    words = ["--limit", "20000", "--epochs", "1", "--fresh"]
    process = subprocess.Popen(
        [sys.executable, str(lenet[0] / "train.py"), *words], stdout=follower, stderr=follower
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            chunk = os.read(leader, 4096)
        except OSError:  # Linux: the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    assert process.wait() == 0
    text = shown.decode(errors="replace")
    assert "epoch 1/1:" in text and "images/s" in text and "loss=" in text and "accuracy=" in text
