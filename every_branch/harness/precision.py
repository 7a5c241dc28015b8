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
ENOUGH = 1.0  # seconds to measure, after a warm-up step of either; three rounds at least

chosen = []  # (precision, why): once a process, so that several runs in it are comparable


def possible(device):
    """Whether a device computes in bf16 by itself."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def choose(settings, before, model, inputs, device):
    """Set model.in_bf16, by which its forward() computes; ("fp32" or "bf16", why it is that).

    It is what --precision says, or, before, that of the run that is resumed; or else it is
    measured. All ranks take what most of them found to be faster.
    """
    if settings.precision != "auto" or before or not possible(device):
        name, why = before or settings.precision.replace("auto", "fp32"), ""
    else:
        if not chosen:
            chosen.append(measured(model, inputs))
        [(name, why)] = chosen
    model.in_bf16 = name == "bf16"
    return name, why


def measured(model, inputs):
    """(the precision that pays off, why) for forward and backward of a model on inputs."""
    ways, times = {}, {"bf16": [], "fp32": []}
    for name in times:
        model.in_bf16 = name == "bf16"
        ways[name] = steps(model, inputs)
    for number in count():
        for name, found in times.items():
            found.append(timed(ways[name], may_fail=name == "fp32"))
        if number >= 3 and sum(map(sum, times.values())) > ENOUGH:
            break
    ways.clear()
    torch.cuda.empty_cache()
    bf16, fp32 = (statistics.median(found[1:]) for found in times.values())
    if 2 * ranks.total(fp32 > WORTH * bf16)[0] > ranks.WORLD:
        return "bf16", f", {fp32 / bf16:.1f} times as fast as fp32" if fp32 < math.inf else ""
    return "fp32", f", {bf16 / fp32:.1f} times as fast as bf16"


def timed(step, may_fail):
    """Seconds of a step; without end where it may fail, for lack of memory, and does."""
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
