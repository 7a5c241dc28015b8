"""Checkpoints that were damaged or edited: refused by name, or of no consequence."""

import copy
import io
import math
import random
import time
import zipfile

from conftest import clean
from toys import FOLDER, WORDS, load, one_line, same

import pytest
import torch

TIMES = [pytest.param(60, id="short"), pytest.param(600, marks=pytest.mark.slow, id="long")]


@pytest.fixture(scope="module")
def whole(toy):
    """{"state.pt": its bytes after the second of three epochs, "weights.pt": its bytes, ...}.

    "last": those of state.pt after the third epoch.
    """
    folder = toy.home / "checkpoints" / "Toy" / FOLDER
    files = {}

    def keep(run):
        save(run)
        files[{2: "state.pt"}.get(run.epoch, "last")] = (folder / "state.pt").read_bytes()

    save = toy.run.Run.save
    toy.run.Run.save = keep
    try:
        assert toy("train.py", *WORDS).code == 0
    finally:
        toy.run.Run.save = save
    files["weights.pt"] = (folder / "weights.pt").read_bytes()
    clean(toy)
    return files


@pytest.fixture
def result(whole):
    return opened(whole["weights.pt"])


def put(path, content):
    """Write a checkpoint: bytes as they are, and what else there is by torch.save."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, (bytes, bytearray)):
        path.write_bytes(content)
    else:
        torch.save(content, path)


def opened(content):
    """What the bytes of a checkpoint hold."""
    return torch.load(io.BytesIO(content), weights_only=True)


def outcome(tiny, folder, name, result):
    """Whether the damaged file is refused, and then untouched; else all must be as it would be."""
    before = (folder / name).read_bytes()
    done = tiny("train.py", *WORDS)
    assert done.code in (0, 2), done
    if done.code == 2:
        one_line(done, str(folder / name))
        assert (folder / name).read_bytes() == before and len(done.err) < 1000
        return True
    assert same(load(folder / "weights.pt")["weights"], result["weights"])
    return False


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("name", ["state.pt", "weights.pt"])
def test_a_flipped_bit_is_found_or_changes_nothing(tiny, folder, whole, result, name, times):
    draws = random.Random(name)
    refused = 0
    for _ in range(times):
        clean(tiny)
        content = bytearray(whole[name])
        content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
        put(folder / name, content)
        refused += outcome(tiny, folder, name, result)
    assert refused > times / 4  # of the others, each hit what pads and what repeats


def test_a_flipped_bit_of_every_tensor_is_found(tiny, folder, whole):
    """Also by what lends weights to others, and with a sum that PyTorch itself passes over."""
    path = folder / "weights.pt"
    put(path, whole["weights.pt"])
    with zipfile.ZipFile(path) as archive:
        parts = [part for part in archive.infolist() if "/data/" in part.filename]
    assert len(parts) > 4
    for part in parts:
        content = bytearray(whole["weights.pt"])
        start = part.header_offset + 26  # two lengths of what is before the data
        skip = [int.from_bytes(content[at : at + 2], "little") for at in (start, start + 2)]
        content[start + 4 + sum(skip)] ^= 1
        path.write_bytes(content)
        torch.load(path, weights_only=True)  # says nothing
        one_line(tiny("train.py", *WORDS), "broken", "--fresh")
        with pytest.raises(tiny.errors.Refusal, match="broken"):
            tiny.start.Start(folder)
    for content in (torch.zeros(3), {"weights": 3}, {"weights": {"a": math.nan}}, [{}]):
        torch.save(content, path)
        with pytest.raises(tiny.errors.Refusal, match="no weights of this program"):
            tiny.start.Start(folder)


ODD = [None, "2", -1, 99, math.nan, math.inf, True, [], {}, (), b"2", [[[["deep"] * 9] * 9] * 9]]
ODD += [torch.zeros(3), torch.full((1,), math.nan), {"a\nb": 1}, "a\nb\u2028" * 300, 2**70]


def places(value, path=()):
    """The path of every entry in nested dicts, lists and tuples."""
    inside = value.items() if isinstance(value, dict) else ()
    if isinstance(value, (list, tuple)) and len(value) < 100:  # not the random state's numbers
        inside = enumerate(value)
    for key, entry in inside:
        yield (*path, key)
        yield from places(entry, (*path, key))


def changed(value, path, change):
    """A copy with change(container, key) made to the entry at a path."""
    key, *deeper = path
    inside = dict(value) if isinstance(value, dict) else [*value]
    if deeper:
        inside[key] = changed(value[key], deeper, change)
    else:
        change(inside, key)
    return tuple(inside) if isinstance(value, tuple) else inside


def spoilt(tensor, draws):
    """A tensor that looks like another, and has a wrong shape, type or number."""
    wrong = [tensor[None], tensor.to(torch.complex64), tensor.to_sparse(), torch.zeros(0)]
    if tensor.dim():
        wrong += [tensor.flatten()[:-1], torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)]
    if tensor.is_floating_point():
        wrong.append(torch.full_like(tensor, math.nan))
    return draws.choice(wrong)


def edit(container, key, draws):
    value = container[key]
    kind = draws.choice(["delete", "add", "replace", "replace"])
    if isinstance(value, torch.Tensor) and draws.random() < 0.7:
        container[key] = spoilt(value, draws)
    elif kind == "delete":
        del container[key]
    elif kind == "add" and isinstance(container, dict):
        container[draws.choice(["more", 7, "a\nb"])] = copy.deepcopy(value)
    elif kind == "add":
        container.append(copy.deepcopy(value))
    else:
        container[key] = draws.choice(ODD)


def legitimate(path, before, after):
    """Whether the edit is one number for another where any may stand."""
    numbers = all(type(v) in (int, float) and math.isfinite(v) for v in (before, after))
    return numbers and path[0] in ("optimizer", "schedule", "random")


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("name", ["state.pt", "weights.pt"])
def test_edited_contents_are_refused_or_change_nothing(tiny, folder, whole, result, name, times):
    draws = random.Random(name)
    original = opened(whole[name])
    everywhere = [*places(original)]
    refused = 0
    for _ in range(times):
        path = draws.choice(everywhere)
        edited = changed(original, path, lambda container, key: edit(container, key, draws))
        clean(tiny)
        put(folder / name, edited)
        try:
            refused += outcome(tiny, folder, name, result)
        except AssertionError:
            before = after = None
            try:
                before, after = original, edited
                for key in path:
                    before, after = before[key], after[key]
            except (KeyError, IndexError):
                pass
            if before is None or not legitimate(path, before, after):
                raise AssertionError(path, before, after) from None
    assert refused > times / 2


def test_numbers_that_do_not_agree_are_refused(tiny, folder, whole):
    """Of the epoch, the history and the best; the chosen metrics have to be those of their row."""
    for path, value in (
        (("epoch",), 1),
        (("epoch",), 3),
        (("epoch",), 2.0),
        (("history", 1, "epoch"), 3),
        (("best", "epoch"), 3),
        (("best", "epoch"), 0),
        (("best", "metrics", "bits"), 0.5),
        (("history", 0, "lr"), "0.1"),
        (("best", "weights", "output.bias"), torch.zeros(3)),
        (("optimizer", "state", 1, "exp_avg"), torch.zeros(3)),
        (("schedule", "last_epoch"), 99),
    ):
        edited = changed(opened(whole["state.pt"]), path, lambda c, k, v=value: c.update({k: v}))
        put(folder / "state.pt", edited)
        one_line(tiny("train.py", *WORDS), "does not fit this run", path[0], "--fresh")


def test_an_example_that_the_model_does_not_take_is_refused(tiny, folder, whole):
    """After the last epoch it is all that there is to count the operations by."""
    saved = opened(whole["last"])
    assert saved["epoch"] == 3
    for example in (torch.zeros(1, 12), torch.full((1, 12), 99), torch.zeros(())):
        put(folder / "state.pt", saved | {"example": example})
        one_line(tiny("train.py", *WORDS), "does not fit this run", "--fresh")
    (folder / "state.pt").write_bytes(whole["last"])
    assert tiny("train.py", *WORDS).code == 0


def test_a_finished_run_is_never_trained_over(tiny, folder, whole):
    """Whatever its result looks like."""
    for value in ({}, None, [], {"metrics": {}}, False):
        put(folder / "weights.pt", opened(whole["weights.pt"]) | {"result": value})
        before = (folder / "weights.pt").read_bytes()
        one_line(tiny("train.py", *WORDS), "result", "--fresh")
        assert (folder / "weights.pt").read_bytes() == before


def test_a_pickle_that_unfolds_without_end_is_refused_in_no_time(tiny, folder, whole):
    bomb = ["x"]
    for _ in range(60):
        bomb = [bomb, bomb]  # 2 to the 60th letters, in 60 lists
    saved = opened(whole["state.pt"])
    began = time.perf_counter()
    for edited in ({"epochs": bomb}, {"model": bomb}, {"lr": {"a": bomb}}):
        put(folder / "state.pt", saved | {"settings": saved["settings"] | edited})
        one_line(tiny("train.py", *WORDS), "is of another run")
    for key in ("history", "best", "model", "optimizer", "random", "example", "provenance"):
        put(folder / "state.pt", saved | {key: bomb})
        one_line(tiny("train.py", *WORDS), key, "--fresh")
    assert time.perf_counter() - began < 60


def test_weights_that_are_not_finite_are_no_result(tiny, folder, whole, monkeypatch):
    """Not those of a last step that no loss tells of, and not those in a file."""
    evaluate = tiny.symbols.evaluate

    def overflow(model, loader):
        metrics = evaluate(model, loader)
        model.output.bias.data[0] = math.inf
        return metrics

    with monkeypatch.context() as patch:
        patch.setattr(tiny.symbols, "evaluate", overflow)
        one_line(tiny("train.py", *WORDS), "weights.output.bias", "epoch 1", "--lr", code=1)
    assert load(folder / "state.pt")["epoch"] == 0 and not (folder / "weights.pt").exists()
    scores = iter([0.5, 0.5, 0.5, math.nan])  # the last one of the test
    with monkeypatch.context() as patch:
        patch.setattr(tiny.symbols, "evaluate", lambda *_: {"bits": next(scores)})
        one_line(tiny("train.py", *WORDS), "bits is not finite after the test", code=1)
    assert not (folder / "weights.pt").exists()
    saved = opened(whole["weights.pt"])
    saved["weights"]["output.bias"][3] = math.nan
    torch.save(saved, folder / "weights.pt")
    one_line(tiny("train.py", *WORDS), "weights.output.bias is not finite")
