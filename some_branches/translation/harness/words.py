"""Words as numbers: a vocabulary, and what it costs to spell what is not in it."""

import math
import re
import unicodedata
from collections import Counter
from itertools import chain

# What fills up a batch, begins a sequence, ends it, and stands for what the vocabulary lacks.
SPECIAL = PAD, BEGIN, END, UNKNOWN = range(4)
NAMES = "[PAD]", "[BEGIN]", "[END]", "[UNK]"


def split(text):
    """The words and punctuation marks of a text."""
    return re.findall(r"\w+(?:'\w+)*|[^\w\s]", text)


def join(words):
    """A text of words and punctuation marks, with spaces where they usually are."""
    text = re.sub(r" ([,.;:!?)\]])", r"\1", " ".join(words))
    return re.sub(r"([¿¡(\[]) ", r"\1", text)


def plain(text):
    """A text as those that ship are written: letters in one piece with their accents, no ’ “ ”."""
    return unicodedata.normalize("NFC", text).translate(str.maketrans("’‘“”", "''\"\""))


class Vocabulary:
    """The most frequent tokens of some texts, numbered from the most frequent on.

    split, join: from a text to its tokens and back; by default these are words. most: how many
    tokens are known. least: how often each of them has to occur.
    """

    def __init__(self, texts, most=30_000, least=1, split=split, join=join):
        self.split, self.join = split, join
        counts = self.count(texts)
        self.tokens, self.numbers = [], {}
        self.add([token for token, n in counts.most_common(most) if n >= least])
        letters = Counter()
        for token, n in counts.items():
            for letter in [*token, ""]:  # and the end of the token
                letters[letter] += n
        total = sum(letters.values()) + 1  # and a letter that is new
        self.nats = {letter: math.log(total / n) for letter, n in letters.items()}
        self.rare = math.log(total)

    def count(self, texts):
        """How often each token occurs, in the order in which they come."""
        return Counter(chain.from_iterable(map(self.split, texts)))

    def add(self, tokens):
        """Number tokens, after those that have a number."""
        self.tokens += tokens
        self.numbers = {token: n for n, token in enumerate(self.tokens, start=len(SPECIAL))}

    def __len__(self):
        return len(SPECIAL) + len(self.tokens)

    def told(self):
        """What weights.pt holds of it: the tokens, in the order of their numbers."""
        return {"tokens": self.tokens}

    def encode(self, text):
        """The numbers of a text's tokens."""
        return [self.numbers.get(token, UNKNOWN) for token in self.split(text)]

    def decode(self, numbers):
        """The text that numbers stand for."""
        return self.join(self.names([n for n in numbers if n >= UNKNOWN]))

    def names(self, numbers):
        """The tokens that numbers stand for."""
        known = (*NAMES, *self.tokens)
        return [known[n] for n in numbers]

    def spelling(self, text):
        """What the unknown tokens of a text cost beside their mark, in nats.

        Each is spelled letter by letter, by how often letters occur. Without that, a model that
        knows few words would have an easy text.
        """
        unknown = [token for token in self.split(text) if token not in self.numbers]
        return sum(self.nats.get(letter, self.rare) for t in unknown for letter in [*t, ""])
