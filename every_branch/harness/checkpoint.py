"""Checkpoints: what a run writes, reads again, and refuses to read.

A checkpoint is a dict with "settings", which say what the run is, and "provenance", which says
what made it (provenance.py). The first has to fit; the second is reported.
"""

import random
import warnings
from pathlib import Path

import torch

from harness import provenance
from harness.errors import Refusal, reason, warn
from harness.files import is_there, readable, replace, write_csv


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
    """What torch.save wrote to a file, on the CPU; raises nearly anything if the file is broken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def read(path, settings, *needed):
    """The dict in a file that a run with these settings wrote; Refusal of any other file.

    No code in it is ever executed. needed: keys that the dict has to have besides the settings. A
    setting that only one of the two knows of came or went with the code, and is no difference.
    """
    readable(path)
    try:
        saved = load(path)
        theirs = dict(saved["settings"])
        if not saved.keys() >= {"provenance", *needed}:
            raise KeyError
    except Exception:
        raise Refusal(
            f"{path} is no checkpoint of this program, or a broken one; "
            f"{starting_over(path.parent)}"
        ) from None
    for key in theirs.keys() & settings.keys():
        if theirs[key] != settings[key]:
            raise Refusal(
                f"{path} is of another run: {key} is {theirs[key]} there, {settings[key]} here; "
                f"{starting_over(path.parent)}"
            )
    return saved


def recall_finished(folder, settings):
    """What weights.pt of the same run holds; None if it is not finished."""
    path = folder / "weights.pt"
    return read(path, settings, "result", "history", "weights") if is_there(path) else None


def recall_half_way(folder, settings, made_by):
    """What state.pt of the same run holds; None if there is none. Refusal after other code."""
    path = folder / "state.pt"
    if not is_there(path):
        return None
    saved = read(path, settings, "epoch", "history", "best", "example", "random")
    own = set() if "experiment" in settings["recipe"] else {"experiments.py"}
    code = sorted(made_by["code"].keys() - own)
    if other := provenance.changed(saved["provenance"], made_by, code):
        raise Refusal(
            f"{path} is half way, by other code: {other[0]} has changed since. Put it back to go "
            f"on; {starting_over(folder)}"
        )
    return saved


def restore(state, saved, folder):
    """Bring {name: what has a state_dict} to what was saved; Refusal if it does not fit."""
    try:
        for key, part in state.items():
            part.load_state_dict(saved[key])
    except Exception:
        raise Refusal(
            f"what is in {folder} does not fit today's model.py; {starting_over(folder)}"
        ) from None


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


def finished(folder):
    """What weights.pt of a finished run holds, by the run's folder; Refusal if there is none."""
    path = Path(folder) / "weights.pt"
    readable(path)
    try:
        return load(path)
    except Exception:
        raise Refusal(f"{path} holds no weights of this program, or is broken") from None
