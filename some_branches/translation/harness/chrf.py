"""chrF, which measures a translation by the pieces of words that it has right.

M. Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015.
"""

from collections import Counter

ORDERS = range(1, 7)
BETA = 2  # how much more recall counts than precision


def grams(text, n):
    """How often each run of n characters occurs in a text; spaces do not count."""
    text = "".join(text.split())
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def chrf(translations, references):
    """From 0 to 100, over all sentences of a test set at once."""
    precisions, recalls = [], []
    for n in ORDERS:
        right = given = wanted = 0
        for translation, reference in zip(translations, references, strict=True):
            ours, theirs = grams(translation, n), grams(reference, n)
            right += (ours & theirs).total()
            given += ours.total()
            wanted += theirs.total()
        if given and wanted:
            precisions.append(right / given)
            recalls.append(right / wanted)
    precision, recall = (sum(of) / max(len(of), 1) for of in (precisions, recalls))
    if precision + recall == 0:
        return 0.0
    return 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def baselines(train, test):
    """{name: chrF} of two guesses that need no network, on pairs (source, target) of a test."""
    sources, targets = zip(*test)
    frequent = Counter(target for _, target in train).most_common(1)[0][0]
    guesses = {"copying the source": sources, "most frequent verse": [frequent] * len(targets)}
    return {name: chrf(guess, targets) for name, guess in guesses.items()}
