"""The n-gram model of characters that every language model has to beat.

    python -m harness.ngram              orders 1 to 7 on Shakespeare, in nats a character

The probability of a character is estimated from how often it followed the n - 1 characters before
it in the training plays, mixed with the estimate from one character less: the more different
characters followed a context, the more the shorter context counts (Witten and Bell, IEEE
Transactions on Information Theory 37(4), 1991, method C). data/shakespeare/ngram.csv has what the
command prints.
"""

from harness import language

import torch


def contexts(text, order, characters):
    """Each place's last `order` characters as one number, int64 [N]; -1 where there are fewer."""
    codes = torch.zeros(len(text), dtype=torch.long)
    for back in range(order, 0, -1):
        codes[order:] = codes[order:] * characters + text[order - back : len(text) - back]
    codes[:order] = -1
    return codes


def looked_up(keys, values, wanted):
    """The value at each wanted key, 0 where there is none. keys: ascending."""
    places = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[places] == wanted, values[places], 0)


def witten_bell(train, text, orders, characters):
    """The mean negative log-likelihood of a text's characters, in nats, for orders 1 to `orders`.

    train, text: int64 [N], numbers below `characters`.
    """
    probability = torch.full((len(text),), 1 / characters, dtype=torch.double)
    losses = []
    for order in range(1, orders + 1):
        before = contexts(train, order - 1, characters)
        grams, counts = (before * characters + train)[before >= 0].unique(return_counts=True)
        seen, place = (grams // characters).unique(return_inverse=True)
        followers = place.bincount()  # different characters after a context
        total = torch.zeros_like(seen).index_add_(0, place, counts)
        here = contexts(text, order - 1, characters)
        n, t = looked_up(seen, total, here), looked_up(seen, followers, here)
        count = looked_up(grams, counts, torch.where(here < 0, -1, here * characters + text))
        mixed = (count + t * probability) / (n + t).clamp(min=1)
        probability = torch.where(n > 0, mixed, probability)
        losses.append(-probability.log().mean().item())
    return losses


def main():
    train, validation, test = language.shakespeare()
    known = language.Characters(train)
    train, validation, test = map(known.encode, (train, validation, test))
    size = len(known.known)
    print("order,validation,test")
    columns = (witten_bell(train, text, 7, size) for text in (validation, test))
    for order, losses in enumerate(zip(*columns), start=1):
        print(order, *(f"{loss:.4f}" for loss in losses), sep=",")


if __name__ == "__main__":
    main()
