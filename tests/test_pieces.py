"""Pieces of words: which pairs are joined, how a text falls apart and back, what is kept."""

import json
from collections import Counter

NAME = "Transformer"


def test_the_pairs_that_are_joined(branch):
    """By counting all pairs anew after each merge. The first word is a word as any other."""
    assert branch.pieces.learn(["ab", "ab ab"], 9) == [("a", "b"), (" ", "ab")]
    texts = [text for pair in branch.pairs.verses()["test"][:60] for text in pair]
    words = Counter(word for text in texts for word in branch.pieces.WORD.findall(" " + text))
    cut, expected = {word: list(word) for word in words}, []
    for _ in range(60):
        pairs = Counter()
        for word, pieces in cut.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += words[word]
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        expected.append(best)
        for pieces in cut.values():
            place = 0
            while place < len(pieces) - 1:
                if (pieces[place], pieces[place + 1]) == best:
                    pieces[place : place + 2] = ["".join(best)]
                place += 1
    assert branch.pieces.learn(texts, 60) == expected


def test_a_text_falls_into_pieces_and_back(branch):
    texts = [text for pair in branch.pairs.verses()["test"][:60] for text in pair]
    pieces = branch.pieces.Pieces(texts, branch.pieces.learn(texts, 100))
    for text in (*texts, "Melquisedec, rey de Salem", "a  b", "queen's"):
        known = "".join(letter for letter in text if letter in "".join(pieces.tokens))
        assert pieces.decode(pieces.encode(known)) == known
        assert pieces.spelling(known) == 0
    assert branch.words.UNKNOWN in pieces.encode("中") and pieces.spelling("中") > 0
    assert len({*pieces.tokens}) == len(pieces.tokens)


def test_what_was_learned_is_kept_and_a_broken_file_is_made_anew(branch, tmp_path):
    path, made = tmp_path / "new folder" / "pieces.json", []

    def make():
        made.append(0)
        return [["a", "b"]]

    for key, times in (("x", 1), ("x", 1), ("y", 2), ("y", 2)):
        assert branch.kept.kept(path, key, make) == [["a", "b"]] and len(made) == times
    for broken in (b"", b"\xff", b"[1]", b"7", json.dumps(["x", []]).encode()):
        path.write_bytes(broken)
        assert branch.kept.kept(path, "y", make) == [["a", "b"]]
    assert len(made) == 7
