"""Predicting the next of eight symbols: sequences by a rule, and the loss on them in bits."""

import math
from dataclasses import dataclass

from harness import ranks, settings
from harness.errors import Refusal
from harness.order import Order

import torch
import torch.nn.functional as F
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

SYMBOLS = 8


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    """The settings of a run that predicts symbols: the fewest bits choose."""

    data: str | None  # counting: the next symbol is the sum of the last two

    chooses = "bits"


def load(settings, device, length=12):
    """Three loaders of (symbols [B, length], the next one at each place [B, length])."""
    if settings.data != "counting":
        raise Refusal(f"--data {settings.data}: it should be counting")
    draws = torch.Generator().manual_seed(0)
    sequences = torch.randint(SYMBOLS, (1200, length + 1), generator=draws)
    for place in range(2, length + 1):
        sequences[:, place] = (sequences[:, place - 1] + sequences[:, place - 2]) % SYMBOLS
    train, validation, test = sequences[:1000], sequences[1000:1100], sequences[1100:]
    train = train[: settings.batch_size if settings.dry_run else settings.limit]

    def loader(split, order):
        split = TensorDataset(split[:, :-1].to(device), split[:, 1:].to(device))
        sampler = BatchSampler(order(split), settings.batch_size, drop_last=False)
        share = "part" if order is RandomSampler else "turn"
        return DataLoader(split, sampler=Order(sampler, share), batch_size=None)

    orders = RandomSampler, SequentialSampler, SequentialSampler
    return [loader(split, order) for split, order in zip((train, validation, test), orders)]


@torch.inference_mode()
def evaluate(model, loader):
    """{"bits": ...} of a model on all sequences of a loader, for each symbol from the third on."""
    model.eval()
    total = count = 0
    for symbols, following in loader:
        scores = model(symbols)[:, 1:].flatten(0, 1)
        total += F.cross_entropy(scores, following[:, 1:].flatten(), reduction="sum").item()
        count += following[:, 1:].numel()
    model.train()
    total, count = ranks.total(total, count)
    return {"bits": total / count / math.log(2)}
