"""Choosing the number of CPU threads by timing a few training steps, here and now.

Small operations on several threads wait for the slowest, so beside any other busy program a second
thread may cost more than it brings. Another number of threads adds up numbers in another order: it
is the same training, but not the same bits; so a resumed run keeps its number, unless told another.
"""

import copy
import os
import statistics
import time

from harness.values import CORES

import torch

WORTH = 1.2  # times as fast is what twice as many threads have to be
SLOW = 0.6  # of the highest speed, below which an epoch is slow
ENOUGH = 1.5  # seconds to measure, after a warm-up step with each number; two rounds at least
LONG = 2.0  # seconds of a step, from which on its operations are large: all threads pay off

MOST = torch.get_num_threads()  # before anybody has chosen
chosen = []  # (how many, why): once a process, so that several runs in it are comparable


def choose(settings, before, model, inputs, device):
    """Set the number of threads, and say why it is that.

    It is that of --threads, or of OMP_NUM_THREADS, or, before, that of the run that is resumed; or
    else steps of the model on inputs are measured.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
        return ""
    if device.type != "cpu" or settings.dry_run:
        return ""
    if "OMP_NUM_THREADS" in os.environ:  # set by the user, or by torchrun
        return ", as OMP_NUM_THREADS says; --threads changes it"
    if before:
        torch.set_num_threads(min(before, CORES))
        return ", as before; --threads changes it"
    if not chosen and MOST > 1:
        why = measured(steps(model, inputs), MOST)
        chosen.append((torch.get_num_threads(), why))
    if not chosen:
        return ""
    [(count, why)] = chosen
    torch.set_num_threads(count)  # a run that was resumed in between may have another number
    return why


def hint(history, made_by):
    """Say what helps when another program has begun to keep the threads of this one waiting."""
    speeds = [row["examples_per_second"] for row in history]
    slow = [speed < SLOW * max(speeds) for speed in speeds[-2:]]
    if made_by["device"] == "cpu" and made_by["threads"] > 1 and slow == [False, True]:
        print(
            "This epoch was much slower, probably because another program uses the processor. To "
            "continue with one thread, press Ctrl-C and run the same command with --threads 1"
        )


def steps(model, inputs):
    """A function that does forward and backward of a copy of a model; nothing is drawn by it."""
    model = copy.deepcopy(model).train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.SyncBatchNorm):
            layer.eval()  # or it would wait for the other ranks
    devices = [part.device for part in inputs[:1] if part.is_cuda]

    def step():
        with torch.random.fork_rng(devices):
            added(model(*inputs)).backward()
        model.zero_grad()

    return step


def added(output):
    """The sum of all that a model puts out."""
    if isinstance(output, torch.Tensor):
        return output.float().sum()
    return sum(added(part) for part in output if part is not None)


def measured(step, most):
    """Set the smallest number of threads that twice as many would not be worth, and say why."""
    counts = sorted({most, *(2**n for n in range(most.bit_length()))})
    times = {count: [] for count in counts}
    if min(timed(step, count) for count in counts) > LONG:
        torch.set_num_threads(most)
        return "; --threads changes it"
    began, rounds = time.perf_counter(), 0
    while rounds < 2 or time.perf_counter() - began < ENOUGH:
        rounds += 1
        for count, found in times.items():
            found.append(timed(step, count))
    medians = {count: statistics.median(found) for count, found in times.items()}
    following = [*(medians[count] for count in counts[1:]), float("inf")]
    best = next(n for n, more in zip(counts, following) if medians[n] < WORTH * more)
    torch.set_num_threads(best)
    other = 2 if best == 1 else 1
    ratio = medians[other] / medians[best]
    than = f"{other} thread{'s' * (other > 1)}"
    return f", {ratio:.1f} times as fast as {than} just now; --threads changes it"


def timed(step, count):
    """Seconds of a step with so many threads."""
    torch.set_num_threads(count)
    began = time.perf_counter()
    step()
    return time.perf_counter() - began
