"""What ends a program early, and how it is said: one line on stderr, no traceback."""

import contextlib
import os
import re
import reprlib
import signal
import sys
import traceback
from pathlib import Path

from harness import ranks

import torch

GOING_ON = "without --fresh, the same command goes on where it was saved last"


class Refusal(Exception):
    """Something that the user has to put right; its message says what. Exit code 2."""


class RefusalOfAll(Refusal):
    """What all ranks refuse alike, such as what is for one process: the first alone says it."""


class Diverged(Exception):
    """A number that is not finite. Exit code 1; a comparison may catch it, and go on without it."""


class Stopped(Exception):
    """The run was asked to stop by a signal, and has saved what it could. Exit code 128 + its."""

    def __init__(self, number):
        super().__init__(f"stopped by {signal.Signals(number).name}; {GOING_ON}")
        self.code = 128 + number


def diverged(what, when):
    """A Diverged that says what is not finite, when, and what to do."""
    advice = "training has diverged, and stops. Try a lower learning rate, --lr"
    return Diverged(f"{what} is not finite after {when}: {advice}")


def say(message):
    """A line on stderr, and one line only: what cannot be printed is escaped."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    print(line, file=sys.stderr, flush=True)


def warn(message):
    """Say what went wrong where nothing was lost by it."""
    say(f"Warning: {message}")


@contextlib.contextmanager
def harmless(what):
    """Meanwhile, a failure is a warning that there is none of `what`: nothing is lost by it."""
    try:
        yield
    except Exception as error:
        warn(f"no {what}: {reason(error)}")


def quoted(value):
    """A value as a message may quote it, however large and deep it is."""
    brief = reprlib.Repr()
    brief.maxlevel = 2
    text = value if isinstance(value, str) else brief.repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def reason(error):
    """An exception in one line; of one that a DataLoader's worker passed on, what that was."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    lines = text.strip().splitlines()
    return lines[-1] if lines[0].startswith("Caught ") else lines[0]


def out_of_memory(error):
    """Whether an exception is PyTorch's or Python's way to say that memory was asked in vain."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError)
        and re.search("allocate memory|not enough memory|out of memory", str(error))
    )


def refused_by_model(error):
    """Whether a check in model.py raised it, which names the argument, the value, the choices."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    checked = Path(last.filename).name == "model.py" and last.line.startswith("raise")
    return isinstance(error, ValueError) and checked


def too_large(error):
    """Whether an exception is PyTorch's or Python's way to say that a number is beyond bounds."""
    words = ("overflow", "negative dimension", "too large", "too big")
    return isinstance(error, (OverflowError, RuntimeError)) and (
        any(word in str(error).lower() for word in words)
    )


def program(main):
    """Call main(), the whole of a command, and end as a command should."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a path may hold letters that a terminal lacks
    try:
        with ranks.joined():
            main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        message, code = f"stopped; {GOING_ON}", 130
    except Diverged as error:
        message, code = str(error), 1
    except Stopped as error:
        message, code = str(error), error.code
    except RefusalOfAll as error:
        if ranks.RANK == 0:
            say(f"{Path(sys.argv[0]).name}: {error}")
        with contextlib.suppress(Exception):  # another may have ended for a reason of its own
            ranks.total(0)  # or torchrun, once one process has ended, may end the first too early
        sys.exit(2)
    except Refusal as error:
        message, code = str(error), 2
    except BrokenPipeError:  # as of `| head`
        sys.stdout = open(os.devnull, "w")  # or else Python tries once more, and says so
        message, code = "nobody reads on; the same command goes on where it was saved last", 1
    except Exception as error:
        if out_of_memory(error):
            advice = "try a smaller --micro-batch, or a smaller --batch-size"
            message, code = f"out of memory ({reason(error)}); {advice}", 2
        elif ranks.lost(error):
            message, code = f"another process of the run has ended; {GOING_ON}", 1
        elif type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            message, code = f"--compile failed ({reason(error)}): leave it out", 2
        elif refused_by_model(error):
            message, code = reason(error), 2
        elif str(error).startswith("DataLoader worker"):  # raised wherever the training just is
            message, code = f"reading images failed ({reason(error)}): try --workers 0", 2
        elif too_large(error):
            message, code = f"a setting is too large ({reason(error)})", 2
        elif isinstance(error, OSError):
            where = "the output" if error.filename is None else error.filename
            message, code = f"{where}: {reason(error)}", 2
        else:
            raise
    else:
        return
    who = f" (process {ranks.RANK})" if ranks.RANK else ""
    say(f"{Path(sys.argv[0]).name}{who}: {message}")
    sys.exit(code)
