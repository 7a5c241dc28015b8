"""What made a run: code, versions, machine. It is recorded and reported, and identifies no run.

Code alone decides something: a run that is half way goes on by the same code, or not at all.
"""

import platform

from harness import ROOT, ranks
from harness.meter import clock, words
from harness.source import digest

import torch


def of(device):
    """What makes a run: {"code": {file: SHA-256}, versions, machine}."""
    return {
        "code": {path.name: digest(path) for path in sorted(ROOT.glob("[!.]*.py"))},
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "processor": processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "ranks": ranks.WORLD,
    }


def processor():
    """The name of the processor, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return (
                next(line for line in file if line.startswith("model name")).split(": ")[1].strip()
            )
    except (OSError, StopIteration, IndexError):
        return platform.processor() or platform.machine()


def changed(theirs, ours, but=frozenset()):
    """The files of both codes, but for some, that are not the same in the two."""
    names = sorted((ours["code"].keys() & theirs["code"].keys()) - but)
    return [name for name in names if theirs["code"][name] != ours["code"][name]]


def describe(made_by, why=""):
    """Hardware and versions in a line; why: it has so many threads, or, a GPU, this precision."""
    where, count = made_by["device"], made_by["threads"]
    precision = made_by.get("precision") or "fp32"
    if where not in ("cpu", "mps"):
        where = f"{where} ({precision}{why})"
    else:
        where = f"{where} ({count} thread{'s' * (count > 1)}{why})"
        where += " in bf16" * (precision == "bf16")
    if at_once := made_by.get("micro_batch"):
        where += f", in micro-batches of {at_once}"
    if made_by.get("compile"):
        where += ", compiled"
    if (ranks := made_by.get("ranks", 1)) > 1:
        where = f"{ranks} processes, {where}"
    return f"{where}, Python {made_by['python']}, PyTorch {made_by['torch']}"


def summary(result, made_by):
    """The result of a finished run in a line."""
    return (
        f"{result['split'].capitalize()}: {words(result['metrics'])}, with the weights of "
        f"epoch {result['epoch']} (validation: {words(result['chosen_by'])}); trained in "
        f"{clock(result['seconds'])} min on {describe(made_by)}"
    )
