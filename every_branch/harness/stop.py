"""A request to stop, as a cluster sends it before it takes the machine away: SIGTERM or SIGUSR1."""

import contextlib
import signal
import threading

asked = []  # the signals that have come


@contextlib.contextmanager
def listening():
    """Meanwhile, such a signal is noted, and acted upon between two steps of training."""
    asked.clear()
    names = ("SIGTERM", "SIGUSR1") if threading.current_thread() is threading.main_thread() else ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]  # not on Windows
    before = {n: signal.signal(n, lambda number, frame: asked.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
