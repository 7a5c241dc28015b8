"""Files that are whole or not there."""

import contextlib
import csv
import errno
import hashlib
import os
import stat
import time

from harness import ranks
from harness.errors import Refusal, reason

NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def patiently(function, *arguments):
    """Call it, and again for some seconds: on Windows, another program may have the file open."""
    for seconds in (0.1, 0.3, 0.6, 1, 2, None):
        try:
            return function(*arguments)
        except PermissionError:
            if seconds is None:
                raise
            time.sleep(seconds)


def remove(folder, *patterns):
    """Remove files of a folder if they are there, in this order; Refusal if that is impossible."""
    for pattern in patterns if ranks.RANK == 0 else ():
        for path in folder.glob(pattern):
            try:
                patiently(path.unlink, True)  # or gone already
            except OSError as error:
                raise Refusal(
                    f"{path} cannot be removed: {reason(error)}. Is it open elsewhere?"
                ) from None


def replace(path, write):
    """write(file) to a temporary file, then rename it: `path` is never half written.

    Of several ranks, the first alone writes. OSError if that is impossible; what was there under
    the name is then still there.
    """
    if ranks.RANK:
        return
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
    """Whether a path leads to anything, a dead link included; Refusal where that is unknown."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # such as a name that is too long
        raise Refusal(f"{path} cannot be read: {reason(error)}") from None
    return True


def checked(path, md5, advice):
    """The bytes of a file that is known by its MD5; Refusal, with advice, if it is another."""
    if not is_there(path):
        raise Refusal(f"{path} is missing: {advice}")
    readable(path)
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise Refusal(f"{path} is not the official file (its MD5 differs): {advice}")
    return content


def readable(path):
    """Refusal if a path is no regular file that can be opened; a pipe would be waited for."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        open(path, "rb").close()
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {reason(error)}") from None
