"""Choosing the precision by timing a few training steps, here and now, on a GPU that has bf16.

bf16 takes less memory and shortens large products. A small network waits for Python to start its
operations rather than for the GPU, and converting its numbers costs more than it brings.
"""

import math
import statistics
import time
from itertools import count

from harness import ranks
from harness.errors import out_of_memory
from harness.threads import steps

import torch

WORTH = 1.2  # times as fast as fp32 is what bf16, which rounds more, has to be
ENOUGH = 1.0  # seconds to measure, after a warm-up step in either; three rounds at least

chosen = []  # (precision, why): once a process, so that several runs in it are comparable


def possible(device):
    """Whether a device is a GPU that has bf16."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def use(model, precision):
    """Let forward() of a model, and of all copies of it, compute in a precision from now on.

    device.place() has prepared those models for it that may need bf16.
    """
    if hasattr(type(model), "in_bf16"):
        type(model).in_bf16 = precision == "bf16"


def settled(settings, before, device):
    """The precision where nothing is to be measured, else None. before: that of the run so far."""
    if settings.precision != "auto":
        return settings.precision
    if settings.dry_run or not possible(device):
        return "fp32"
    return before or ("bf16" if settings.compile else None)  # a compiled network waits less


def choose(settings, before, model, inputs, device):
    """Use a precision, the settled or the faster one: ("fp32" or "bf16", why it is that).

    All ranks take what most of them found to be faster, or what all have the memory for.
    """
    name, why = settled(settings, before, device), ""
    if ranks.total(name is None)[0] == ranks.WORLD:  # other GPUs of the same run may lack bf16
        if not chosen:
            chosen.append(measured(model, inputs))
        [(name, why)] = chosen
    name = name or "fp32"
    use(model, name)
    return name, why


def measured(model, inputs):
    """(the precision that pays off, why) for forward and backward of a model on inputs."""
    step, times = steps(model, inputs), {"bf16": [], "fp32": []}
    for number in count():
        for name, found in times.items():
            use(model, name)
            found.append(timed(step, may_fail=name == "fp32"))
        if number >= 3 and sum(sum(found[1:]) for found in times.values()) > ENOUGH:
            break
    del step
    torch.cuda.empty_cache()
    bf16, fp32 = (statistics.median(found[1:]) for found in times.values())
    too_large, faster = ranks.total(fp32 == math.inf, fp32 > WORTH * bf16)
    if too_large:
        return "bf16", ", since there is too little memory for fp32"
    if 2 * faster > ranks.WORLD:
        return "bf16", f", {fp32 / bf16:.1f} times as fast as fp32 just now"
    return "fp32", f"; bf16 was {fp32 / bf16:.1f} times as fast just now"


def timed(step, may_fail):
    """Seconds of a step; infinity if it may run out of memory, and does."""
    began = time.perf_counter()
    try:
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    except Exception as error:
        if may_fail and out_of_memory(error):
            return math.inf
        raise
    return time.perf_counter() - began
