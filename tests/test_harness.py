"""The core of the harness, by a toy that trains in a blink: settings, runs, files, comparisons."""

import csv
import dataclasses
import errno
import os
import pickle
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Literal

import pytest
import torch

from conftest import clean, run_python

WORDS = ("--epochs", 3, "--batch-size", 100)
FOLDER = "laptop-epochs-3-batch-size-100-seed0"


@pytest.fixture
def tiny(toy):
    """The toy, with nothing trained."""
    yield toy
    clean(toy)


@pytest.fixture
def folder(tiny):
    return tiny.home / "checkpoints" / "Toy" / FOLDER


def load(path):
    return torch.load(path, weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def one_line(done, *words, code=2):
    assert done.code == code and len(done.err.splitlines()) == 1, done
    assert all(word in done.err for word in words), done.err


class Death(BaseException):
    """What ends a process; no `except Exception` stops it."""


# Settings


def test_settings_have_types_that_are_checked(harness):
    values = harness.values

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Recipe(harness.settings.Settings):
        area: tuple[values.Share, ...] = (0.5,)
        lrn: bool = True
        side: Literal["left", 2] = "left"
        decay: values.Positive | None = None

    recipe = Recipe(data="x", epochs=1, batch_size=2, lr=1)
    good = {"area": (0, 1.0), "lrn": False, "side": 2, "decay": 0.1, "lr": 1e-9, "seed": 2**32 - 1}
    assert dataclasses.replace(recipe, **good).side == 2
    wrong = {"lr": [0, True, "1", float("nan"), float("inf")], "lrn": [1, "on", None]}
    wrong |= {"area": [(), (2,), [0.5], 0.5], "side": ["2", "right", True], "decay": [0, "none"]}
    wrong |= {"epochs": [0, 1.0, True], "seed": [-1, 2**32], "limit": [0], "data": [3]}
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(harness.errors.Refusal, match=f"--(no-)?{name} .*it should be"):
                dataclasses.replace(recipe, **{name: value})


def test_flags_override_the_recipe_that_is_chosen(harness):
    """Texts become what the types say; a run's folder is named for what differs from the recipe."""
    values = harness.values

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Recipe(harness.settings.Settings):
        scales: tuple[values.Count, ...] = (1,)
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
        (MemoryError(), 2, "--batch-size"),
        (
            RuntimeError("DataLoader worker (pid 3) is killed by signal: Bus error."),
            2,
            "--workers 0",
        ),
        (KeyboardInterrupt(), 130, "goes on"),
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


def test_a_fault_of_the_program_keeps_its_traceback(tiny, monkeypatch):
    monkeypatch.setattr(tiny.meter.Meter, "log", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tiny("train.py", *WORDS)


def test_an_old_python_is_turned_away(tiny):
    code = "import sys; sys.version_info = (3, 10); import harness"
    done = run_python("-c", code, cwd=tiny.home)
    assert done.returncode == 2 and "3.11 or newer" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# Runs


def test_the_epochs_figures_weigh_every_example_alike(tiny):
    """Batches of unequal size; a mean over the batch, or one number an example."""
    meter = tiny.meter.Meter("epoch 1/1")
    numbers = torch.arange(10.0).square()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(numbers), 4)
    for (batch,) in meter.batches(loader):
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


def test_killed_at_any_rename_it_ends_with_the_same_bits(tiny, folder, monkeypatch):
    """Before and after each of the nine: of state.pt, history.csv, weights.pt."""
    tiny("train.py", *WORDS)
    unbroken, history = load(folder / "weights.pt"), (folder / "history.csv").read_text()
    replace = os.replace
    for when in range(1, 10):
        for after in (False, True):
            clean(tiny)
            calls = 0

            def die(*paths, when=when, after=after):
                nonlocal calls
                calls += 1
                if calls == when and not after:
                    raise Death
                replace(*paths)
                if calls == when:
                    raise Death

            monkeypatch.setattr(tiny.files.os, "replace", die)
            with pytest.raises(Death):
                tiny("train.py", *WORDS)
            monkeypatch.setattr(tiny.files.os, "replace", replace)
            done = tiny("train.py", *WORDS)
            assert done.code == 0, (when, after, done)
            assert same(load(folder / "weights.pt")["weights"], unbroken["weights"])
            columns = [line.split(",")[:4] for line in history.splitlines()]
            rows = (folder / "history.csv").read_text().splitlines()
            assert [row.split(",")[:4] for row in rows] == columns


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


# Files


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tiny, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(part):
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        tiny.files.replace(path, fail)
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("number, fails", [(errno.EINVAL, False), (errno.EIO, True)], ids=str)
def test_a_file_system_without_fsync_will_do_and_a_broken_one_not(
    tiny, tmp_path, monkeypatch, number, fails
):
    def fsync(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tiny.files.os, "fsync", fsync)
    try:
        tiny.files.replace(tmp_path / "file", lambda part: part.write_text("new"))
    except OSError:
        assert fails and not [*tmp_path.iterdir()]
    else:
        assert not fails and (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize("product", ["state.pt", "history.csv", "weights.pt"])
@pytest.mark.parametrize("lasts", [False, True], ids=["a moment", "for good"])
def test_a_file_that_another_program_has_open(tiny, folder, monkeypatch, product, lasts):
    """As on Windows: tried again; then history.csv is a warning, and the others one line."""
    replace, refused = os.replace, 0

    def busy(part, path):
        nonlocal refused
        if path.name == product and (lasts or refused < 2):
            refused += 1
            raise PermissionError(errno.EACCES, "Permission denied")
        replace(part, path)

    monkeypatch.setattr(tiny.files.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(tiny.files.os, "replace", busy)
    done = tiny("train.py", *WORDS)
    assert refused >= 2
    if not lasts:
        assert done.code == 0 and done.err == ""
    elif product == "history.csv":
        assert done.code == 0 and done.err.count("Warning: ") == len(done.err.splitlines()) == 4
    else:
        one_line(done, product, "cannot be written", "Permission denied", "goes on")
    monkeypatch.setattr(tiny.files.os, "replace", replace)
    assert tiny("train.py", *WORDS).code == 0 and (folder / "weights.pt").exists()


def test_a_result_is_not_dropped_where_another_program_has_its_history_open(
    tiny, folder, monkeypatch
):
    def busy(path, missing_ok=False):
        if path.name == "history.csv":
            raise PermissionError(errno.EACCES, "Permission denied")
        os.unlink(path)

    tiny("train.py", *WORDS)
    monkeypatch.setattr(tiny.files.time, "sleep", lambda seconds: None)
    with monkeypatch.context() as patch:
        patch.setattr(type(folder), "unlink", busy)
        one_line(tiny("train.py", *WORDS, "--fresh"), "history.csv", "open elsewhere")
    assert "finished before" in tiny("train.py", *WORDS).out


def test_a_full_disk_and_a_name_too_long_are_one_line(tiny, folder, monkeypatch):
    def full(content, part):
        part.write_bytes(b"half")
        raise RuntimeError("[enforce fail] unexpected pos 64 vs 0\nmore")  # as torch.save has it

    with monkeypatch.context() as patch:
        patch.setattr(tiny.checkpoint.torch, "save", full)
        one_line(tiny("train.py", *WORDS), "state.pt", "cannot be written")
    assert not [*folder.iterdir()]
    one_line(tiny("train.py", "--data", "x" * 300), "cannot be read")


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def edit(path, change):
    saved = load(path)
    change(saved)
    torch.save(saved, path)


SPOILED = {  # what is done to the file, and what the line says
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "broken"),
    "empty": (lambda path: path.write_bytes(b""), "broken"),
    "hostile": (lambda path: torch.save(Hostile(path.with_name("executed")), path), "broken"),
    "a pickle": (
        lambda path: path.write_bytes(pickle.dumps(Hostile(path.with_name("executed")))),
        "broken",
    ),
    "another program's": (lambda path: torch.save({"weights": torch.zeros(3)}, path), "broken"),
    "another model's": (
        lambda path: edit(path, lambda saved: saved["settings"].update(model="AlexNet")),
        "model is AlexNet there, Toy here",
    ),
    "of other flags": (
        lambda path: edit(path, lambda saved: saved["settings"].update(epochs=4)),
        "epochs is 4 there, 3 here",
    ),
    "of another shape": (
        lambda path: edit(
            path,
            lambda saved: saved.get("model", saved.get("weights")).update(
                {"output.bias": torch.zeros(3)}
            ),
        ),
        "does not fit",
    ),
}


def stop_in_the_second_epoch(tiny, monkeypatch):
    def die(self, values):
        if self.title.startswith("epoch 2"):
            raise Death
        log(self, values)

    log = tiny.meter.Meter.log
    with monkeypatch.context() as patch, pytest.raises(Death):
        patch.setattr(tiny.meter.Meter, "log", die)
        tiny("train.py", *WORDS)


@pytest.mark.parametrize("name", ["state.pt", "weights.pt"])
@pytest.mark.parametrize("spoil, reason", SPOILED.values(), ids=SPOILED)
def test_a_file_that_does_not_belong_is_refused_by_name(
    tiny, folder, monkeypatch, name, spoil, reason
):
    """Nothing of it is executed or overwritten, and the line says what --fresh would drop."""
    if name == "weights.pt":
        tiny("train.py", *WORDS)
    else:
        stop_in_the_second_epoch(tiny, monkeypatch)
    spoil(folder / name)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    epochs = 3 if name == "weights.pt" else 1
    one_line(tiny("train.py", *WORDS), reason, "--fresh", f"the {epochs} epochs")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert "executed" not in before
    assert tiny("train.py", *WORDS, "--fresh").code == 0


def test_code_that_changed_refuses_what_is_half_way_and_reports_what_is_finished(
    tiny, folder, monkeypatch
):
    """It is model.py and train.py that count, not the harness, and not experiments.py."""
    paths = [tiny.home / name for name in ("model.py", "harness/run.py", "experiments.py")]
    originals = [path.read_bytes() if path.exists() else b"" for path in paths]

    def change(path):
        path.write_bytes((path.read_bytes() if path.exists() else b"") + b"\n# changed\n")

    try:
        stop_in_the_second_epoch(tiny, monkeypatch)
        for path in paths[1:]:
            change(path)
        change(paths[0])
        one_line(tiny("train.py", *WORDS), "model.py has changed since", "the 1 epochs")
        paths[0].write_bytes(originals[0])
        done = tiny("train.py", *WORDS)
        assert done.code == 0 and "1 of them done before" in done.out
        change(paths[0])
        done = tiny("train.py", *WORDS)
        assert done.code == 0 and "by other code: model.py changed since" in done.out
    finally:
        for path, original in zip(paths[:2], originals):
            path.write_bytes(original)
        paths[2].unlink(missing_ok=True)


# Comparisons


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


def test_a_comparison_writes_every_epoch_of_every_run_and_draws_means_and_bands(
    tiny, monkeypatch, tmp_path
):
    """Between the lowest and the highest; what only one run measured is left empty."""
    recipe, figures = tiny.parse(*WORDS), []
    runs = [
        SimpleNamespace(settings=recipe.but(gate=gate, seed=seed), history=history)
        for gate, seed, history in (
            (True, 0, [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 2.0}]),
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
            ("0", "True", "1", "1.0", ""),
            ("0", "True", "2", "2.0", ""),
            ("1", "False", "1", "3.0", "5"),
            ("1", "False", "2", "6.0", ""),
        ]
    left, right = figures[0].axes
    assert (left.get_title(), right.get_title(), left.get_ylabel()) == ("left", "right", "height")
    mean, other, level = left.lines
    assert [*mean.get_xdata()] == [1, 2] and mean.get_ydata().tolist() == [2, 4]
    assert other.get_ydata().tolist() == [5, 5] and [*level.get_ydata()] == [2.5, 2.5]
    corners = left.collections[0].get_paths()[0].vertices.tolist()
    assert {tuple(corner) for corner in corners} == {(1, 1), (1, 3), (2, 2), (2, 6)}
    assert right.lines[0].get_ydata().tolist() == [4]


def test_a_run_that_diverges_is_left_out_of_a_comparison(tiny, capsys):
    def diverge(recipe):
        raise tiny.errors.Diverged("the loss is nan")

    assert tiny.compare.unless_diverged(diverge, None) is None
    assert "the loss is nan" in capsys.readouterr().out
    assert tiny.compare.unless_diverged(lambda recipe: recipe, 7) == 7


# The layer table


def test_the_layer_table_says_where_a_network_differs(tiny, capsys):
    """What is text is quoted, and not compared."""
    net, example = tiny.model.Toy(), torch.zeros(1, 12, dtype=torch.long)

    def table(paper):
        met = tiny.table.layer_table(net, example, paper)
        return met, capsys.readouterr().out

    met, printed = table({"hidden": {"parameters": 2113}, "output": {"output": (12, 8)}})
    assert not met and "hidden: parameters is 2,112 here, 2,113 in the paper" in printed
    met, printed = table({"hidden": {"output": (12, 64), "MACs": 12 * 32 * 64}})
    assert met and printed.endswith("Every figure of the paper is met.\n")
    met, printed = table({"hidden": {"parameters": "2.1K"}})
    assert met and '"2.1K"' in printed and printed.endswith("in quotes, not compared.\n")
    assert not table({"hidden": {"MACs": 5}, "output": {"parameters": "0.5K"}})[0]
    assert tiny.table.count(net, example) == {"parameters": 2760, "macs": 12 * (32 + 8) * 64}


# Pictures of a run


@pytest.fixture
def lenet(every_branch, small):
    branch = every_branch["LeNet"]
    small(branch, pictures=True)
    yield branch
    clean(branch)


def test_a_finished_run_has_its_pictures_and_one_that_fails_is_a_warning(lenet, monkeypatch):
    """Whatever stops it: weights and result are there before anything is drawn."""
    words = ("--limit", 100, "--epochs", 1)

    def fail(*_):
        raise ValueError("Expected a symbol\nmore")

    with monkeypatch.context() as patch:
        patch.setattr(lenet.pictures, "predictions", fail)
        done = lenet("train.py", *words)
    (folder,) = (lenet.home / "checkpoints" / "LeNet").glob("*")
    assert done.code == 0 and done.err.splitlines() == [
        f"Warning: {folder / 'predictions.png'} could not be drawn: Expected a symbol"
    ]
    drawn = {"curves.png", "confusion.png", "filters.png"}
    assert {path.name for path in folder.iterdir()} == {"weights.pt", "history.csv", *drawn}
    for picture in folder.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 300_000
    with monkeypatch.context() as patch:
        patch.setattr(lenet.pictures, "draw", fail)
        done = lenet("train.py", *words, "--fresh")
    assert done.code == 0 and "Warning: no pictures" in done.err
    assert {path.name for path in folder.iterdir()} == {"weights.pt", "history.csv"}


def test_names_are_drawn_literally(lenet, tmp_path):
    """A dollar sign is not the beginning of mathematics."""
    names = ("price_$_in_$", r"a$\frac{1}$", "50%_^")
    images, labels = [torch.rand(1, 8, 8) for _ in range(3)], torch.arange(3)
    lenet.pictures.predictions(tmp_path / "a", images, labels, labels.flip(0), names, "test")
    lenet.pictures.confusion_matrix(tmp_path / "b", torch.eye(3), names, "test")
    rows = [{"epoch": 1, "train_loss": 1.0, "validation_loss": 2.0}]
    lenet.plots.learning_curves(tmp_path / "c", rows, names[0])
    assert all((tmp_path / name).stat().st_size > 1000 for name in "abc")


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
