"""A request to stop, as a cluster sends it before it takes the machine away: SIGTERM or SIGUSR1."""

import contextlib
import signal
import threading

# As far as the system has them: Windows lacks the second.
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
asked = []  # the signals that have come


@contextlib.contextmanager
def listening():
    """Meanwhile, such a signal is noted, and acted upon between two steps of training."""
    asked.clear()
    numbers = SIGNALS if threading.current_thread() is threading.main_thread() else ()
    before = {n: signal.signal(n, lambda number, frame: asked.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def deaf(_):
    """Let a DataLoader's worker leave such signals to the process that it works for."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
