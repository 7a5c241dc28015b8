"""How a run computes: the number of threads, memory, requests to stop."""

import os
import re
import signal
import subprocess
import sys
import types

import results
from conftest import TOY, clean
from toys import FOLDER, WORDS, load, one_line, same

import pytest
import torch


@pytest.mark.parametrize(
    "seconds, most, chosen",
    [
        ({1: 1.0, 2: 0.6}, 2, 2),
        ({1: 1.0, 2: 0.9}, 2, 1),  # a second thread brings less than a fifth
        ({1: 1.9, 2: 8.0}, 2, 1),  # beside a busy program
        ({1: 1.0, 2: 0.6, 4: 0.55, 6: 0.5}, 6, 2),
        ({1: 1.0, 2: 0.6, 4: 0.4, 6: 0.3}, 6, 6),
        ({1: 9.0, 2: 8.9}, 2, 2),  # so long a step is of large operations
    ],
)
def test_as_many_threads_as_pay_off(tiny, monkeypatch, seconds, most, chosen):
    asked = []
    monkeypatch.setattr(tiny.threads, "ENOUGH", 0)
    monkeypatch.setattr(tiny.threads, "timed", lambda step, count: seconds[count])
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    why = tiny.threads.measured(None, most)
    assert asked[-1] == chosen and "--threads" in why


@pytest.mark.parametrize("version, auto", [("2.12.1", "cpu"), ("2.13.0", "mps"), ("3.0", "mps")])
def test_apples_gpus_are_used_once_pytorch_has_what_the_branches_need(
    tiny, monkeypatch, version, auto
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch, "__version__", version)
    assert tiny.device.choose("auto").type == auto
    if auto == "mps":
        assert tiny.device.choose("mps").type == "mps"
    else:
        with pytest.raises(tiny.errors.Refusal, match="2.13"):
            tiny.device.choose("mps")


def test_a_run_chooses_its_threads_once_and_keeps_them(tiny, monkeypatch):
    """Nothing is drawn by it, and a run that is gone on with has the number that it had."""
    plain = tiny.train.fit(tiny.parse(*WORDS)).model.state_dict()
    clean(tiny)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(tiny.threads, "chosen", [])
    monkeypatch.setattr(tiny.threads, "MOST", 2)
    monkeypatch.setattr(tiny.threads, "ENOUGH", 0)
    steps, asked = [], [2]
    monkeypatch.setattr(torch, "get_num_threads", lambda: asked[-1])
    monkeypatch.setattr(torch, "set_num_threads", asked.append)

    def timed(step, count):
        steps.append(step())
        return 1.0

    monkeypatch.setattr(tiny.threads, "timed", timed)
    done = tiny("train.py", *WORDS)
    assert "(1 thread, 1.0 times as fast as 2 threads just now; --threads" in done.out and steps
    (saved,) = tiny.runs().values()
    assert same(saved["weights"], plain) and saved["provenance"]["threads"] == 1
    asked.clear()
    device, recipe = torch.device("cpu"), tiny.parse(*WORDS)
    why = tiny.threads.choose(recipe, 1, None, None, device)
    assert asked == [1] and "as before" in why
    beginning = types.SimpleNamespace(half_way={"epoch": 0, "middle": None})
    assert not tiny.batches.chosen_before(beginning)  # killed before anybody has measured
    tiny.threads.choose(tiny.parse(*WORDS, "--threads", 1), 2, None, None, device)
    assert asked == [1, 1]
    tiny.threads.choose(recipe, 2, None, None, device)
    why = tiny.threads.choose(recipe, None, None, None, device)  # as was measured above
    assert asked == [1, 1, min(2, tiny.values.CORES), 1] and "1.0 times as fast" in why


def test_a_slow_epoch_is_told_once(tiny, capsys):
    made_by = {"device": "cpu", "threads": 2}
    history = []
    for speed in (100, 90, 40, 30, 95, 20):
        history.append({"examples_per_second": speed})
        tiny.threads.hint(history, made_by)
    assert capsys.readouterr().out.count("--threads 1") == 2
    tiny.threads.hint(history, made_by | {"threads": 1})
    assert not capsys.readouterr().out


def test_threads_that_wait_give_way_before_torch_is_loaded(branch):
    """The harness says so, and is imported before torch."""
    for path in branch.home.glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        ours = [n for n, line in enumerate(lines) if line.startswith("from harness")]
        torchs = [n for n, line in enumerate(lines) if re.match(r"(import|from) torch", line)]
        assert not ours or not torchs or ours[0] < torchs[0], path
    assert os.environ["GOMP_SPINCOUNT"] == "10000"


@pytest.mark.parametrize("file", ["weights.pt", "state.pt"])
def test_what_was_saved_before_there_were_ranks_is_used(tiny, monkeypatch, file):
    """Nor could an epoch be left in the middle then, nor did a run tell of its micro-batches."""
    folder = tiny.home / "checkpoints" / TOY / FOLDER
    if file == "state.pt":
        monkeypatch.setattr(tiny.run.Run, "validate", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tiny("train.py", *WORDS)
        monkeypatch.undo()
    else:
        assert tiny("train.py", *WORDS).code == 0
    saved = load(folder / file)
    for name in ("ranks", "micro_batch", "compile"):
        saved["provenance"].pop(name, None)
    saved.pop("middle", None)
    torch.save(saved, folder / file)
    tiny.lock.held.clear()
    done = tiny("train.py", *WORDS)
    assert done.code == 0 and ("finished before" in done.out) == (file == "weights.pt"), done.err


def test_what_made_a_run_is_what_its_code_does(every_branch, tmp_path):
    """Comments, docstrings, blank lines and the order of imports make no other code."""
    digest = every_branch["VGG"].source.digest
    path = tmp_path / "train.py"

    def of(text):
        path.write_text(text)
        return digest(path)

    bare = of("from a import c\nimport b\ndef f(x):\n    return c(b, 'it # is')\n")
    assert bare == of(
        '"""A program.\n\nIt has lines."""\n\nimport b\n\nfrom a import c\n# says\n\n'
        "def f(x):  # what it is\n    'Words.'\n    # why\n"
        "    return c(b, 'it # is')  # so\n"
    )
    for other in ("'it # was')", "'it  # is')", "'it # is', 1)"):
        assert bare != of(f"from a import c\nimport b\ndef f(x):\n    return c(b, {other}\n")
    assert of('x = """a\nb"""\n') != of('x = """a\nc"""\n')
    assert of("f(\n    'a'\n)\n") != of("f(\n    'b'\n)\n")
    assert of("a = 1  # \f\nb = 2  # c\n") == of("a = 1\nb = 2\n")


def test_results_csv_names_code_as_a_run_does(every_branch):
    made = every_branch["VGG"].provenance.of(torch.device("cpu"))
    assert results.todays_code("VGG") == results.code(made["code"])


def test_out_of_memory_names_what_to_turn_down(tiny, monkeypatch):
    def none_left(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(tiny.run.Run, "log", lambda *_, **__: none_left())
    one_line(tiny("train.py", *WORDS), "out of memory", "--micro-batch", "--batch-size")


@pytest.mark.parametrize("name", ["BatchNorm1d", "BatchNorm2d"])
def test_running_statistics_count_a_micro_batch_once(tiny, name):
    """Though its forward pass is done again for the backward pass."""
    images = torch.randn(6, 2, *[3] * (name == "BatchNorm2d"), *[3] * (name == "BatchNorm2d"))
    alone, parted = getattr(torch.nn, name)(2), getattr(torch.nn, name)(2)
    for part in images.split(3):
        alone(part).square().sum().backward()
    tiny.device.adapt(parted, "cpu", 3)
    parted(images).square().sum().backward()
    assert same(parted.state_dict(), alone.state_dict())
    torch.testing.assert_close(parted.weight.grad, alone.weight.grad)


def test_evaluation_comes_in_parts_as_well(tiny):
    """But not a batch that is to have statistics, though nothing is learned from it."""
    model, sizes = torch.nn.Sequential(torch.nn.BatchNorm1d(2)), []
    model[0].register_forward_hook(lambda _, inputs, output: sizes.append(len(output)))
    examples = torch.randn(7, 2)
    whole = model.eval()(examples)
    tiny.device.adapt(model, "cpu", 3)
    with torch.no_grad():
        torch.testing.assert_close(model(examples), whole)
        model.train()(examples)
    assert sizes == [7, 3, 3, 1, 7]


def test_a_run_tells_of_what_is_not_in_its_name(tiny):
    """At its start, at its end, in its file, and when it is asked again."""
    how = "(1 thread{}), in micro-batches of 30, Python"
    done = tiny("train.py", *WORDS, "--micro-batch", 30)
    assert how.format(", as OMP_NUM_THREADS says; --threads changes it") in done.out
    assert how.format("") in done.out
    (saved,) = tiny.runs().values()
    assert saved["provenance"]["micro_batch"] == 30 and saved["provenance"]["compile"] is False
    tiny.lock.held.clear()
    done = tiny("train.py", *WORDS)
    assert "finished before" in done.out and how.format("") in done.out


def test_after_the_last_epoch_the_test_has_the_threads_that_trained(tiny, monkeypatch):
    """And weights.pt tells of them, though nothing was trained any more."""
    with monkeypatch.context() as patch:
        patch.setattr(tiny.run.Run, "finish", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tiny.train.fit(tiny.parse(*WORDS))
    path = tiny.home / "checkpoints" / TOY / FOLDER / "state.pt"
    saved = load(path)
    saved["provenance"] |= {"threads": 1, "precision": "fp32"}
    torch.save(saved, path)
    monkeypatch.delenv("OMP_NUM_THREADS")
    asked = [2]
    monkeypatch.setattr(torch, "get_num_threads", lambda: asked[-1])
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    tiny.lock.held.clear()
    tiny.train.fit(tiny.parse(*WORDS))
    (saved,) = tiny.runs().values()
    assert asked == [2, 1] and saved["provenance"]["threads"] == 1
    assert saved["provenance"]["precision"] == "fp32"


def test_asked_to_stop_after_the_last_step_it_stops_before_the_test(tiny, monkeypatch):
    validate = tiny.run.Run.validate

    def ask(self, *words, **kwargs):
        validate(self, *words, **kwargs)
        if self.epoch == 3:
            tiny.stop.asked.append(signal.SIGTERM)

    monkeypatch.setattr(tiny.run.Run, "validate", ask)
    one_line(tiny("train.py", *WORDS), "SIGTERM", code=128 + signal.SIGTERM)
    assert load(tiny.home / "checkpoints" / TOY / FOLDER / "state.pt")["epoch"] == 3


@pytest.mark.slow
def test_a_compiled_network_trains_and_is_counted_as_before(every_branch, small):
    branch = every_branch["VGG"]
    small(branch)
    found = []
    for more in ([], ["--compile"]):
        words = ["--limit", 100, "--epochs", 1, "--width", 0.0625, "--dropout", 0, "--fresh", *more]
        assert branch("train.py", *words).code == 0
        (saved,) = branch.runs().values()
        found.append((saved["result"]["macs"], saved["history"][0]["train_loss"]))
    clean(branch)
    assert found[0][0] == found[1][0] and found[0][1] == pytest.approx(found[1][1], rel=1e-3)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM for one process")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_asked_to_stop_it_saves_at_the_very_batch(tiny, name):
    """A real process, which says so, and can be resumed."""
    number = getattr(signal, name)
    words = ["--epochs", "300", "--batch-size", "20"]
    process = subprocess.Popen(
        [sys.executable, str(tiny.home / "train.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not process.stdout.readline().startswith("epoch   2"):
        assert process.poll() is None
    process.send_signal(number)
    _, error = process.communicate()
    assert process.returncode == 128 + number and len(error.splitlines()) == 1 and name in error
    folder = tiny.home / "checkpoints" / TOY / "laptop-epochs-300-seed0"
    saved = load(folder / "state.pt")
    whole = tiny.run.Run(TOY, tiny.parse(*words))
    assert whole.half_way and saved["epoch"] >= 2


def test_a_dry_run_saves_nothing_however_often_a_run_is_saved(tiny):
    done = tiny("train.py", "--checkpoint-every", 1e-9, "--dry-run")
    assert done.code == 0 and not list((tiny.home / "checkpoints").glob("*/*"))


@pytest.mark.parametrize("flag", [["--checkpoint-every", 1e-9], []])
def test_it_goes_on_at_the_very_batch(tiny, monkeypatch, flag):
    """Saved by time, or when a signal came between two steps; the file tells where it was."""
    expected = tiny.train.fit(tiny.parse(*WORDS)).model.state_dict()
    clean(tiny)
    stop, log = tiny.stop, tiny.meter.Meter.log

    def ask(self, values):
        log(self, values)
        if self.title.startswith("epoch 2") and self.counted == 700:
            stop.asked.append(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(tiny.meter.Meter, "log", ask)
        one_line(tiny("train.py", *WORDS, *flag), "SIGTERM", code=128 + signal.SIGTERM)
    middle = load(tiny.home / "checkpoints" / TOY / FOLDER / "state.pt")["middle"]
    assert middle["order"]["place"] in (7, 8) and middle["meter"]["seen"] in (700, 800)
    tiny.lock.held.clear()
    done = tiny("train.py", *WORDS)
    assert done.code == 0 and "1 of them done before" in done.out
    (saved,) = tiny.runs().values()
    assert same(saved["weights"], expected) and len(saved["history"]) == 3
