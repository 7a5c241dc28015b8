"""Files that are whole or not there, and what is refused by name."""

import errno
import os
import pickle

import pytest
import torch

from toys import WORDS, Death, load, one_line


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
