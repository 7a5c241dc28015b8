"""What made a run: code, versions, machine. It is recorded and reported, and identifies nothing."""

import hashlib
import platform

import torch

from harness import ROOT


def of(device):
    """What makes a run: {"code": {file: SHA-256}, versions, machine}."""
    code = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(ROOT.glob("*.py"))
    }
    return {
        "code": code,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "processor": processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
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


def changed(theirs, ours, but=()):
    """The files of our code, but for some, that are not the same in another provenance."""
    code = sorted(ours["code"].keys() - but)
    return [name for name in code if theirs["code"].get(name) != ours["code"].get(name)]


def describe(made_by):
    """Hardware and versions of a provenance, in a line."""
    where = made_by["device"]
    if where in ("cpu", "mps"):
        where = f"{where} ({made_by['threads']} threads)"
    return f"{where}, Python {made_by['python']}, PyTorch {made_by['torch']}"
