"""What ends a program early, and how it is said: one line on stderr, no traceback."""

import sys
import traceback
from pathlib import Path

import torch


class Refusal(Exception):
    """Something that the user has to put right; its message says what. Exit code 2."""


class Diverged(Exception):
    """A loss that is not finite. Exit code 1; a comparison may catch it, and go on without it."""


def warn(message):
    """Say on stderr what went wrong where nothing was lost by it."""
    print(f"Warning: {message}", file=sys.stderr, flush=True)


def reason(error):
    """An exception in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.strip().splitlines()[0]


def out_of_memory(error):
    """Whether an exception is PyTorch's or Python's way to say that memory was asked in vain."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def refused_by_model(error):
    """Whether a check in model.py raised it, which names the argument, the value, the choices."""
    return isinstance(error, ValueError) and (
        Path(traceback.extract_tb(error.__traceback__)[-1].filename).name == "model.py"
    )


def program(main):
    """Call main(), the whole of a command, and end as a command should."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a path may hold letters that a terminal lacks
    try:
        main()
    except KeyboardInterrupt:
        message, code = (
            "stopped; without --fresh, the same command goes on where it was saved last",
            130,
        )
    except Diverged as error:
        message, code = str(error), 1
    except Refusal as error:
        message, code = str(error), 2
    except Exception as error:
        if out_of_memory(error):
            message, code = f"out of memory ({reason(error)}); try a smaller --batch-size", 2
        elif refused_by_model(error):
            message, code = reason(error), 2
        elif str(error).startswith("DataLoader worker"):  # raised wherever the training just is
            message, code = f"reading images failed ({reason(error)}): try --workers 0", 2
        else:
            raise
    else:
        return
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(code)
