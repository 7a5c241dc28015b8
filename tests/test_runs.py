"""A run, by a toy that trains in a blink: what chooses, what diverges, what is killed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

from conftest import ROOT, run_python
from toys import WORDS, Death, load, one_line, same

import pytest
import torch


def test_the_epochs_figures_weigh_every_example_alike(tiny):
    """Batches of unequal size; a mean over the batch, or one number an example."""
    meter = tiny.meter.Meter("epoch 1/1")
    numbers = torch.arange(10.0).square()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(numbers), 4)
    for (batch,) in meter.watched(loader):
        meter.log({"loss": batch.mean(), "large": batch > 20})
    assert meter.means() == {"loss": pytest.approx(28.5), "large": 0.5} and meter.seen == 10


@pytest.mark.parametrize("higher, chosen", [(True, 2), (False, 1), (None, 3)])
def test_the_recipe_says_which_metric_chooses_and_which_direction(
    tiny, monkeypatch, higher, chosen
):
    """Of equal ones the first; if nothing chooses, the last."""
    kind = type(tiny.train.RECIPES["laptop"])
    monkeypatch.setattr(kind, "chooses", None if higher is None else "score")
    monkeypatch.setattr(kind, "higher_is_better", bool(higher))
    scores = iter([0.25, 0.5, 0.5, 0.125])
    monkeypatch.setattr(tiny.symbols, "evaluate", lambda *_: {"score": next(scores)})
    run = tiny.train.fit(tiny.parse(*WORDS))
    assert run.result["epoch"] == chosen
    assert run.result["metrics"] == {"score": 0.125} and run.result["split"] == "test"
    assert run.result["chosen_by"]["score"] == {1: 0.25, 2: 0.5, 3: 0.5}[chosen]


def test_an_untested_run_says_so(tiny):
    recipe = tiny.parse(*WORDS)
    run = tiny.run.Run("Toy", recipe)
    train, validation, _ = tiny.symbols.load(recipe, run.device)
    model = tiny.model.Toy()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for epoch in run.epochs(model=model, optimizer=optimizer):
        for inputs, following in run.batches(train):
            run.log(loss=model(inputs).square().mean())
        run.validate(model, {"bits": 3.0 - epoch}, extra=7)
    result = run.finish(model)
    assert result["split"] == "validation" and result["metrics"] == {"bits": 0.0}
    assert result["seconds"] == sum(row["seconds"] for row in run.history) and result["epochs"] == 3
    with open(run.folder / "history.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["validation_bits"], row["extra"]) for row in rows] == [
        ("1", "2.0", "7"),
        ("2", "1.0", "7"),
        ("3", "0.0", "7"),
    ]


def test_the_speed_is_of_training_and_not_of_validation(tiny, monkeypatch):
    evaluate = tiny.symbols.evaluate

    def slowly(*arguments):
        time.sleep(0.3)
        return evaluate(*arguments)

    monkeypatch.setattr(tiny.symbols, "evaluate", slowly)
    (row,) = tiny.train.fit(tiny.parse("--epochs", 1, "--batch-size", 100)).history
    assert row["examples_per_second"] > 1000 / row["seconds"] and row["seconds"] > 0.3
    assert 1000 / row["examples_per_second"] < row["seconds"] - 0.29


def test_what_takes_long_to_save_is_saved_seldom_and_in_the_end(tiny, monkeypatch):
    """An epoch takes a second, a checkpoint two: not sooner than 20 seconds after the last."""
    clock, saved, save = [0], [], tiny.run.Run.save

    def now():
        clock[0] += 1e-6
        return clock[0]

    def slowly(run, *middle):
        save(run, *middle)
        saved.append(run.epoch)
        clock[0] += 2

    def evaluate(*_):
        clock[0] += 1
        return {"bits": 1.0}

    monkeypatch.setattr(tiny.batches.time, "perf_counter", now)
    monkeypatch.setattr(tiny.run.Run, "save", slowly)
    monkeypatch.setattr(tiny.symbols, "evaluate", evaluate)
    tiny.train.fit(tiny.parse("--epochs", 30, "--batch-size", 500))
    assert saved == [0, 1, 19, 30]


def test_several_runs_in_one_process_do_not_touch_each_other(tiny):
    alone = tiny.train.fit(tiny.parse(*WORDS)).model.state_dict()
    tiny.train.fit(tiny.parse(*WORDS, "--seed", 3))
    again = tiny.train.fit(tiny.parse(*WORDS, "--fresh"))
    assert same(again.model.state_dict(), alone)


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(
    tiny, folder, monkeypatch
):
    def explode(self, values):
        bad = self.title.startswith("epoch 2")
        log(self, {"loss": values["loss"] * (float("inf") if bad else 1)})

    log = tiny.meter.Meter.log
    monkeypatch.setattr(tiny.meter.Meter, "log", explode)
    one_line(tiny("train.py", *WORDS), "epoch 2", "--lr", code=1)
    state = load(folder / "state.pt")
    assert state["epoch"] == 1 and all(v.isfinite().all() for v in state["model"].values())


@pytest.mark.skipif(sys.platform != "linux", reason="a fork of a process with PyTorch in it")
@pytest.mark.parametrize(
    "name, words, products",
    [
        ("Toy", "--epochs 2 --batch-size 200 --limit 200", 2),
        pytest.param("LeNet", "--epochs 1 --limit 40", 6, marks=pytest.mark.slow),  # pictures, too
    ],
)
def test_killed_at_any_call_every_product_is_whole_after_the_next_start(
    tiny, every_branch, name, words, products
):
    """Before and after each rename, sync and removal of a file; see walk.py."""
    home = tiny.home if name == tiny.name else every_branch[name].home
    done = run_python(ROOT / "tests" / "walk.py", home, *words.split())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == [] and len(found["products"]) == products
    assert found["kills"] >= 24


def test_death_leaves_no_part(tiny, folder, monkeypatch):
    """What a killed process left half written is cleared at the next start."""

    def die(*_):
        raise Death

    with monkeypatch.context() as patch, pytest.raises(Death):
        patch.setattr(tiny.run.Run, "validate", die)
        tiny("train.py", *WORDS)
    (folder / "curves.png.part").write_text("half")
    tiny.lock.held.clear()  # as in another process
    assert tiny("train.py", *WORDS).code == 0
    assert {path.name for path in folder.glob("[!.]*")} == {"weights.pt", "history.csv"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL and SIGINT for one process")
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_killed_from_outside_it_ends_with_the_same_bits(tiny, blow):
    """A real process, which writes a log and no progress bar."""
    words = ["--epochs", "20", "--batch-size", "20"]
    folder = tiny.home / "checkpoints" / "Toy" / "laptop-epochs-20-seed0"
    process = subprocess.Popen(
        [sys.executable, str(tiny.home / "train.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell makes what it starts in the background deaf to it, and so all that starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not process.stdout.readline().startswith("epoch   2"):
        assert process.poll() is None
    one_line(tiny("train.py", *words), str(folder), "in use by another process")
    one_line(tiny("train.py", *words, "--fresh"), str(folder), "in use by another process")
    process.send_signal(blow)
    _, error = process.communicate()
    assert process.returncode == (130 if blow == signal.SIGINT else -9)
    assert "Traceback" not in error and "%|" not in error
    assert len(error.splitlines()) == (1 if blow == signal.SIGINT else 0)
    assert (folder / "state.pt").exists()
    done = tiny("train.py", *words)
    assert done.code == 0 and "of them done before" in done.out
    resumed = load(folder / "weights.pt")["weights"]
    assert same(resumed, tiny.train.fit(tiny.parse(*words, "--fresh")).model.state_dict())


def test_only_runs_of_experiments_are_by_the_code_of_experiments(tiny):
    theirs, ours = ({"code": {"experiments.py": code, "model.py": ""}} for code in ("a", "b"))
    said = tiny.checkpoint.by_other_code(theirs, ours, "laptop-experiment-lags")
    assert said == " (by other code: experiments.py changed since)"
    assert tiny.checkpoint.by_other_code(theirs, ours, "laptop") == ""


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_bar_with_speed_and_time_left(tiny):
    import pty
    import termios

    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 140))
    command = [sys.executable, str(tiny.home / "train.py"), "--epochs", "1", "--batch-size", "1"]
    process = subprocess.Popen(command, stdout=follower, stderr=follower)
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 4096):
            shown += chunk
    except OSError:  # Linux: the other end is closed
        pass
    assert process.wait() == 0
    assert b"epoch 1/1:" in shown and b"/1000 [" in shown and b"it/s" in shown
