"""One process a folder: a lock that ends with the process that holds it, however it ends."""

import contextlib
import os

from harness import ranks
from harness.errors import Refusal, reason, warn

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def take(file):
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:

    def take(file):
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


held = {}  # {folder: the open file whose lock this process has}: one at a time


def hold(folder, new=False):
    """Make a folder this process's own, and clear what a process before it left half written.

    It stays so until the process holds another folder, or ends. Refusal if another process has
    it, or if it is to be new and another process has just been there. Where no file can be made,
    nothing is held: what is to be written there will be refused.
    """
    if ranks.RANK:  # the first rank's is for all
        return
    with contextlib.suppress(OSError, KeyError):
        # Not if someone has removed the folder since, and another process made it anew.
        if os.path.samestat(os.fstat(held[folder].fileno()), os.stat(folder / ".lock")):
            return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "a+b")
    except OSError:
        return
    try:
        take(file)
    except (BlockingIOError, PermissionError):
        file.close()
        raise Refusal(f"{folder} is in use by another process: wait for it, or stop it") from None
    except OSError as error:
        warn(f"{folder} cannot be locked ({reason(error)}): do not run this command twice at once")
    while held:
        held.popitem()[1].close()
    held[folder] = file
    if new and any(folder.glob("*.pt")):
        raise Refusal(f"{folder} has just been made by another process: run the command again")
    for part in folder.glob("*.part"):
        with contextlib.suppress(OSError):
            os.unlink(part)
