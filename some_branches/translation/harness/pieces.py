"""Pieces of words, by byte-pair encoding: frequent words stay whole, rare ones fall apart.

R. Sennrich, B. Haddow, A. Birch, "Neural Machine Translation of Rare Words with Subword Units",
ACL 2016: begin with single characters, and join the most frequent pair of neighbors, again and
again.
"""

import hashlib
import re
from collections import Counter, defaultdict
from functools import cache
from itertools import chain

from harness import ROOT, words
from harness.kept import kept
from harness.meter import progress

WORD = re.compile(r" ?\w+| ?[^\w\s]|\s")  # no piece goes beyond a word and the space before it


def words_of(text):
    """Its words, each with the space before it, the first one, too."""
    return WORD.findall(" " + text)


def join(pieces, pair):
    """The pieces of a word with each occurrence of a pair of neighbors made one."""
    joined, place = [], 0
    while place < len(pieces):
        size = 2 if pieces[place : place + 2] == pair else 1
        joined.append("".join(pieces[place : place + size]))
        place += size
    return tuple(joined)


def learn(texts, merges):
    """The pairs to join, in order: each is the most frequent one after all before it."""
    counts = Counter(chain.from_iterable(map(words_of, texts)))
    cut, pairs, where = {word: tuple(word) for word in counts}, Counter(), defaultdict(set)

    def count(word, sign):
        for pair in zip(cut[word], cut[word][1:]):
            pairs[pair] += sign * counts[word]
            where[pair].add(word)

    for word in cut:
        count(word, 1)
    learned = []
    for _ in progress(range(merges), "learning pieces of words"):
        most = max(pairs.values(), default=0)
        if most < 2:
            break
        best = max(pair for pair, n in pairs.items() if n == most)
        learned.append(best)
        for word in where.pop(best):
            count(word, -1)
            cut[word] = join(cut[word], best)
            count(word, 1)
        del pairs[best]
    return learned


class Pieces(words.Vocabulary):
    """The pieces that some texts fall into, joined as `pairs` of learn() say."""

    def __init__(self, texts, pairs):
        self.ranks = {tuple(pair): n for n, pair in enumerate(pairs)}
        self.cut = cache(self.cut)  # most words come again and again
        super().__init__(texts, split=self.pieces, join=lambda p: "".join(p).removeprefix(" "))
        others = {*"".join(self.tokens), *map("".join, pairs)}  # a new word may have them
        self.add(sorted(others - self.numbers.keys()))

    @classmethod
    def of(cls, texts, merges, keep):
        """Pieces of some texts. keep the pairs for the next time, or learn a few of some texts."""
        if not keep:
            return cls(texts, learn(texts[::20], min(merges, 300)))
        path = ROOT / "checkpoints" / f"pieces-{merges}.json"
        rule = f" {WORD.pattern}"  # the space: of words_of(); without it, files of old would do
        key = [merges, rule, hashlib.sha256("\n".join(texts).encode()).hexdigest()]
        return cls(texts, kept(path, key, lambda: learn(texts, merges)))

    def told(self):
        return super().told() | {"pairs": [*self.ranks]}

    def count(self, texts):  # each word once
        counts = Counter()
        for word, n in Counter(chain.from_iterable(map(words_of, texts))).items():
            for piece in self.cut(word):
                counts[piece] += n
        return counts

    def pieces(self, text):
        """The pieces of a text."""
        return [piece for word in words_of(text) for piece in self.cut(word)]

    def cut(self, word):
        pieces = tuple(word)
        while known := self.ranks.keys() & {*zip(pieces, pieces[1:])}:
            pieces = join(pieces, min(known, key=self.ranks.get))
        return pieces
