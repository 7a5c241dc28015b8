"""Files that are whole or not there."""

import contextlib
import csv
import errno
import os
import time

from harness.errors import Refusal, reason

NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def patiently(function, *paths):
    """Call it, and again for some seconds: on Windows, another program may have the file open."""
    for seconds in (0.1, 0.3, 0.6, 1, 2, None):
        try:
            return function(*paths)
        except PermissionError:
            if seconds is None:
                raise
            time.sleep(seconds)


def remove(path):
    """Remove a file if it is there; Refusal if that is impossible."""
    try:
        patiently(lambda: path.unlink(missing_ok=True))
    except OSError as error:
        raise Refusal(f"{path} cannot be removed: {reason(error)}. Is it open elsewhere?") from None


def replace(path, write):
    """write(file) to a temporary file, then rename it: `path` is never half written.

    OSError if that is impossible; what was there under the name is then still there.
    """
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        with open(part, "rb+") as file:
            try:
                os.fsync(file.fileno())
            except OSError as error:  # some shared folders have no such thing
                if error.errno not in NO_FSYNC:
                    raise
        patiently(os.replace, part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def write_csv(path, rows):
    """A list of dicts with the same keys, as a CSV file with a head line."""

    def write(part):
        with open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)

    replace(path, write)


def is_there(path):
    """Whether a file exists; Refusal where that cannot be known, as of a name that is too long."""
    try:
        return path.exists()
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {reason(error)}") from None


def readable(path):
    """Refusal if a file cannot be opened."""
    try:
        open(path, "rb").close()
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {reason(error)}") from None
