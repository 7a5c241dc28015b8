"""Values that take long to make, kept in files."""

import json

from harness import files
from harness.errors import harmless


def kept(path, key, make):
    """make(), a value that JSON can hold, or what it gave before: a file keeps it with its key."""
    try:
        found, value = json.loads(path.read_text(encoding="utf-8"))
        if found == key:
            return value
    except (OSError, ValueError, TypeError):
        pass  # there is no such file, or it is broken
    value = make()
    with harmless(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([key, value])
        files.replace(path, lambda part: part.write_text(text, encoding="utf-8"))
    return value
