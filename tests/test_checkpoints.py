"""Files that are whole or not there, and what is refused by name."""

import errno
import os
import pickle

from toys import WORDS, Death, load, one_line

import pytest
import torch


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
    assert not [*folder.glob("[!.]*")]
    one_line(tiny("train.py", "--data", "x" * 300), "cannot be read")


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no file's size")
def test_a_limit_on_the_size_of_files_is_one_line_and_then_the_run_goes_on(tiny, folder):
    import resource

    stop_in_the_second_epoch(tiny)
    before = (folder / "state.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        done = tiny("train.py", *WORDS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    one_line(done, "state.pt", "cannot be written")
    assert (folder / "state.pt").read_bytes() == before and not [*folder.glob("*.part")]
    assert "1 of them done before" in tiny("train.py", *WORDS).out


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do all")
def test_a_folder_or_a_file_without_rights_is_one_line_and_then_the_run_goes_on(tiny, folder):
    stop_in_the_second_epoch(tiny)
    for path, mode, words in ((folder, 0o500, "written"), (folder / "state.pt", 0, "read")):
        was = path.stat().st_mode
        path.chmod(mode)
        one_line(tiny("train.py", *WORDS), "state.pt", f"cannot be {words}", "Permission denied")
        path.chmod(was)
    assert "1 of them done before" in tiny("train.py", *WORDS).out


def test_a_folder_that_a_run_cannot_be_in(tiny, folder):
    """A file, or a link that leads nowhere, in the place of a folder or a checkpoint."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("mine")
    one_line(tiny("train.py", *WORDS), str(folder), "cannot be written")
    assert folder.read_text() == "mine"
    folder.unlink()
    try:
        folder.symlink_to(folder.parent / "nowhere")
    except OSError:
        pytest.skip("no links here")
    one_line(tiny("train.py", *WORDS), str(folder), "cannot be written")
    folder.unlink()
    folder.mkdir()
    (folder / "weights.pt").symlink_to(folder / "nowhere")
    one_line(tiny("train.py", *WORDS), "weights.pt", "cannot be read")
    (folder / "weights.pt").unlink()
    assert tiny("train.py", *WORDS).code == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_a_pipe_is_no_checkpoint(tiny, folder):
    """And is not waited for."""
    folder.mkdir(parents=True)
    os.mkfifo(folder / "weights.pt")
    one_line(tiny("train.py", *WORDS), "weights.pt", "no regular file")


def test_where_there_are_no_locks_it_says_so_and_goes_on(tiny, folder, monkeypatch):
    def take(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(tiny.lock, "take", take)
    done = tiny("train.py", *WORDS, "--seed", 9)
    assert done.code == 0 and done.err.count("\n") == 1
    assert "Warning" in done.err and "No locks" in done.err and "twice" in done.err


def test_what_another_process_made_in_the_meantime_is_not_overwritten(tiny, folder):
    """Between the start of a run and its first save."""
    run = tiny.run.Run("Toy", tiny.parse(*WORDS))
    folder.mkdir(parents=True)
    (folder / "weights.pt").write_bytes(b"a result")
    tiny.lock.held.clear()
    model = tiny.model.Toy()
    with pytest.raises(tiny.errors.Refusal, match="another process: run the command again"):
        next(run.epochs(model=model, optimizer=torch.optim.SGD(model.parameters(), 0.1)))
    assert (folder / "weights.pt").read_bytes() == b"a result"


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
    "another program's": (lambda path: torch.save({"weights": torch.zeros(3)}, path), "lacks"),
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


def stop_in_the_second_epoch(tiny):
    def die(self, values):
        if self.title.startswith("epoch 2"):
            raise Death
        log(self, values)

    log = tiny.meter.Meter.log
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Death):
        patch.setattr(tiny.meter.Meter, "log", die)
        tiny("train.py", *WORDS)


@pytest.mark.parametrize("name", ["state.pt", "weights.pt"])
@pytest.mark.parametrize("spoil, reason", SPOILED.values(), ids=SPOILED)
def test_a_file_that_does_not_belong_is_refused_by_name(tiny, folder, name, spoil, reason):
    """Nothing of it is executed or overwritten, and the line says what --fresh would drop."""
    if name == "weights.pt":
        tiny("train.py", *WORDS)
    else:
        stop_in_the_second_epoch(tiny)
    spoil(folder / name)
    before = {path.name: path.read_bytes() for path in folder.glob("[!.]*")}
    epochs = 3 if name == "weights.pt" else 1
    one_line(tiny("train.py", *WORDS), reason, "--fresh", f"the {epochs} epochs")
    assert {path.name: path.read_bytes() for path in folder.glob("[!.]*")} == before
    assert "executed" not in before
    assert tiny("train.py", *WORDS, "--fresh").code == 0


def test_a_new_file_beside_the_code_is_no_change_of_it_whatever_it_holds(tiny, folder):
    """Half-written Python, what a system leaves, no text at all."""
    added = {"mine.py": b"def f(:\n  '''", "._model.py": b"\0\xff", "notes.py": b"\xff\n"}
    stop_in_the_second_epoch(tiny)
    try:
        for name, content in added.items():
            (tiny.home / name).write_bytes(content)
        done = tiny("train.py", *WORDS)
        assert done.code == 0 and "1 of them done before" in done.out
    finally:
        for name in added:
            (tiny.home / name).unlink()


def test_an_optimizer_of_another_pytorch_goes_on(tiny, folder):
    """It lacks an option that there was not yet, and has one that is gone; so does the schedule."""

    def older(saved):
        saved["provenance"]["torch"] = "2.6.0"
        for group in saved["optimizer"]["param_groups"]:
            group["gone"] = group.pop("weight_decay")
        saved["schedule"]["verbose"] = saved["schedule"].pop("_is_initial", False)

    stop_in_the_second_epoch(tiny)
    edit(folder / "state.pt", older)
    assert "1 of them done before" in tiny("train.py", *WORDS).out


def test_code_that_changed_refuses_what_is_half_way_and_reports_what_is_finished(tiny, folder):
    """It is model.py and train.py that count, not the harness, and not experiments.py."""
    paths = [tiny.home / name for name in ("model.py", "harness/run.py", "experiments.py")]
    originals = [path.read_bytes() if path.exists() else b"" for path in paths]

    def change(path):
        path.write_bytes((path.read_bytes() if path.exists() else b"") + b"\nchanged = 1\n")

    try:
        stop_in_the_second_epoch(tiny)
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
        edit(folder / "weights.pt", lambda saved: saved["weights"].update(more=torch.zeros(1)))
        one_line(tiny("train.py", *WORDS), "by other code: model.py", "and its result (bits 1.")
    finally:
        for path, original in zip(paths[:2], originals):
            path.write_bytes(original)
        paths[2].unlink(missing_ok=True)
