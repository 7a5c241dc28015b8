"""Checkpoints: what a run writes, reads again, and refuses to read.

A checkpoint is a dict with "settings", which say what the run is, and "provenance", which says
what made it (provenance.py). The first has to fit; the second is reported, and half way, its code
has to be today's. The rest has to be what the run itself would have written (contents.py).
"""

import contextlib
import random
import warnings
import zipfile
from pathlib import Path

from harness import contents, provenance
from harness.errors import Refusal, quoted, reason, warn
from harness.files import is_there, readable, replace, write_csv
from harness.likeness import Unfit, differ
from harness.meter import words
from harness.table import count

import torch


def save(path, content):
    """torch.save into a file that is whole or not there; Refusal if it cannot be written."""

    def write(part):
        try:
            torch.save(content, part)
        except RuntimeError as error:  # what PyTorch makes of a full disk
            raise OSError(reason(error)) from None

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, write)
    except OSError as error:
        raise Refusal(
            f"{path} cannot be written: {reason(error)}. What was saved before is whole; "
            "the same command goes on once that is put right"
        ) from None


def load(path):
    """The dict that torch.save wrote to a file, on the CPU; Unfit if the file is anything else.

    No code in it is ever executed. It is a zip file, with a sum of each part that PyTorch does not
    look at when it reads: a flipped bit would pass for a weight.
    """
    readable(path)
    try:
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
            if archive.testzip() is None:
                warnings.simplefilter("ignore")
                saved = torch.load(path, map_location="cpu", weights_only=True)
                if isinstance(saved, dict):
                    return saved
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {reason(error)}") from None
    except Exception:  # zipfile and torch.load raise nearly anything
        pass
    raise Unfit("is no checkpoint of this program, or a broken one")


@contextlib.contextmanager
def fitting(path, *origins):
    """Meanwhile, what does not fit is refused, by its file's name; origins: of by_other_code()."""
    try:
        yield
    except Unfit as unfit:
        why = by_other_code(*origins) if origins else ""
        raise Refusal(f"{path} {unfit}{why}; {starting_over(path.parent)}") from None


def changed_code(theirs, ours, recipe):
    """The files of code that changed between two provenances, as far as a recipe may use them."""
    return provenance.changed(theirs, ours, set() if "experiment" in recipe else {"experiments.py"})


def by_other_code(theirs, ours, recipe):
    """The same in words; nothing if none has."""
    other = changed_code(theirs, ours, recipe)
    return f" (by other code: {' and '.join(other)} changed since)" if other else ""


def recall(path, settings, made_by, half_way=False):
    """What a file of the same run holds, None if there is none; Refusal of any other file.

    A setting that only one of the two knows of came or went with the code, and is no difference.
    made_by: the provenance of today; what is half way has to be by the same code.
    """
    if not is_there(path):
        return None
    with fitting(path):
        saved = load(path)
        contents.need_origin(saved, made_by)
    theirs, origins = saved["settings"], (saved["provenance"], made_by, settings["recipe"])
    for key in theirs.keys() & settings.keys():
        if differ(theirs[key], settings[key]):
            raise Refusal(
                f"{path} is of another run: {key} is {quoted(theirs[key])} there, "
                f"{quoted(settings[key])} here{by_other_code(*origins)}; "
                f"{starting_over(path.parent)}"
            )
    if half_way and (other := changed_code(*origins)):
        raise Refusal(
            f"{path} is half way, by other code: {other[0]} has changed since. Put it back to go "
            f"on; {starting_over(path.parent)}"
        )
    return saved


def restore(saved, state, device):
    """Bring the random state and {name: what has a state_dict} to what was saved; or Unfit."""
    try:
        for key, part in state.items():
            part.load_state_dict(saved[key])
        key = "example"
        if saved["epoch"]:
            count(state["model"], saved["example"])  # as it will be in the end
        key = "random"
        set_random_state(saved["random"], device)
    except Exception:
        raise Unfit(f"does not fit this run: {key}") from None


def save_history(folder, history):
    """history.csv; a warning if it cannot be written: all of it is in state.pt, too."""
    if history:
        try:
            write_csv(folder / "history.csv", history)
        except OSError as error:
            warn(f"{folder / 'history.csv'} cannot be written: {reason(error)}")


def starting_over(folder):
    """What --fresh does, with what would be lost by it."""
    try:
        with open(folder / "history.csv", encoding="utf-8") as file:
            epochs = max(0, sum(1 for _ in file) - 1)
    except (OSError, UnicodeDecodeError):
        epochs = 0
    lost = f"the {epochs} epochs in its history.csv" if epochs else "what is in that folder"
    with contextlib.suppress(Exception):  # there is no result, or none that can be read
        lost += f" and its result ({words(load(folder / 'weights.pt')['result']['metrics'])})"
    return f"--fresh starts over, and drops {lost}"


def random_state(device):
    """The state of every random generator that training on `device` may draw from."""
    state = {"python": random.getstate(), "cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state, device):
    """Back to a random_state(); what the device draws goes on only on a device of the same kind."""
    random.setstate(state["python"])
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    if device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


def weights(folder):
    """{name: tensor} of a finished run, by the run's folder; Refusal if there is none."""
    path = Path(folder) / "weights.pt"
    try:
        found = load(path).get("weights")
        contents.need_weights(found)
        return found
    except Unfit:
        raise Refusal(f"{path} holds no weights of this program, or is broken") from None
