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

    def train(*words, loss_scale=lambda epoch: 1.0, **variant):
        run = harness.run.Run("Tiny", parse(*words), **variant)
        train, validation, test = run.data(lambda images: images / 255.0)
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
            run.validate(model, validation, F.cross_entropy)
        return run, model, run.finish(model, test)

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


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(world, capsys):
    def explode(epoch):
        return float("inf") if epoch == 2 else 1.0

    with pytest.raises(SystemExit) as stopped:
        world.train(loss_scale=explode)
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert "epoch 2" in error and "--lr" in error
    state = torch.load(world.root / "checkpoints/Tiny/laptop-seed0/state.pt", weights_only=True)
    assert state["epoch"] == 1
    assert all(value.isfinite().all() for value in state["model"].values())


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
