"""Make the three files of English-Spanish verses out of two Debian packages.

    apt-get install libsword-utils; apt-get download sword-text-web sword-text-sparv
    unpack both with `dpkg -x` into one folder, and print each module:
    SWORD_PATH=<folder>/usr/share/sword mod2imp engWEB2015eb > web.imp
    SWORD_PATH=<folder>/usr/share/sword mod2imp spaRV1909eb > sp.imp
    python make_verses.py web.imp sp.imp FOLDER

A line is: reference, English, Spanish, separated by tabs. Verses of the World English Bible and of
the Reina-Valera of 1909, both in the public domain, with markup and notes removed; up to 20 words
on either side. Split by chapter, so that no chapter is in two parts; a verse whose English words
also stand in the training part is left out of the other two.
"""

import gzip
import hashlib
import html
import re
import sys
from pathlib import Path

WORDS = 20


def read(path):
    verses, key = {}, None
    for line in open(path, encoding="utf-8", errors="replace"):
        if line.startswith("$$$"):
            key = line[3:].strip()
            verses[key] = []
        elif key:
            verses[key].append(line.rstrip("\n"))
    return {key: " ".join(lines) for key, lines in verses.items()}


def clean(text):
    text = re.sub(r"<note\b.*?</note>", " ", text, flags=re.S)
    text = re.sub(r"<title\b.*?</title>", "", text, flags=re.S)
    text = re.sub(r"<milestone[^>]*>", " ", text)
    text = re.sub(r"<(l|lb|lg|div|p|chapter|q)\b[^>]*>", " ", text)
    text = html.unescape(re.sub(r"<[^>]+>", "", text))
    text = re.sub(r"\s+", " ", text).strip()
    text = text.replace("’", "'").replace("‘", "'").replace("“", '"').replace("”", '"')
    return re.sub(r" ([,.;:!?])", r"\1", text)


def part_of(chapter):
    number = int(hashlib.md5(chapter.encode()).hexdigest(), 16) % 20
    return {0: "test", 1: "validation"}.get(number, "train")


def main(english, spanish, folder):
    english, spanish = read(english), read(spanish)
    parts = {"train": [], "validation": [], "test": []}
    for key in spanish:
        found = re.fullmatch(r"(.+) (\d+):(\d+)", key)
        if not found or int(found[3]) == 0 or key not in english:
            continue
        pair = clean(english[key]), clean(spanish[key])
        lengths = [len(text.split()) for text in pair]
        if "Salmo de" in pair[1] or "Músico principal" in pair[1]:
            continue  # the title of a psalm, which stands on one side only
        if not all(0 < length <= WORDS for length in lengths):
            continue
        if max(map(len, pair)) > 2.5 * min(map(len, pair)):
            continue
        parts[part_of(f"{found[1]} {found[2]}")].append((key, *pair))
    seen = {row[1].lower() for row in parts["train"]}
    for part, rows in parts.items():
        if part != "train":
            rows = [row for row in rows if row[1].lower() not in seen]
        raw = "".join("\t".join(row) + "\n" for row in rows).encode()
        path = Path(folder, f"{part}.tsv.gz")
        with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
            packed.write(raw)
        characters = "".join(sorted({c for row in rows for text in row[1:] for c in text}))
        print(
            part,
            len(rows),
            "pairs",
            len(raw),
            "bytes",
            path.stat().st_size,
            "packed, MD5",
            hashlib.md5(path.read_bytes()).hexdigest(),
            len(characters),
            characters,
        )


main(*sys.argv[1:])
