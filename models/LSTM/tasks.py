"""The tasks of 1997 on which plain recurrent networks fail, drawn anew for every batch.

Each asks for something that was seen about a hundred steps before. All sequences of a batch have
one length, drawn from the lag (--length) to a tenth more.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

from harness import language, ranks
from harness.errors import Refusal
from harness.order import Order
from harness.values import Rule, fits, parse

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

EPOCH = 2_000  # sequences that are called an epoch
HELD_OUT = 2_560  # sequences of a test, as in the paper; of the validation, too


class Task(NamedTuple):
    """draw(B, lag, draws): inputs [B, length, values] and targets [B, outputs]; draws: a generator.

    close: what an output may differ by from its target to be right.
    """

    draw: Callable
    values: int
    outputs: int
    close: float
    input_gate: float  # bias of the first input gate; the second's is twice that


def drawn_length(lag, draws):
    return int(torch.randint(lag, lag + lag // 10 + 1, (1,), generator=draws))


def adding(count, lag, draws):
    """The sum of two marked numbers from -1 to 1 among many, scaled to 0 to 1 (Experiment 4).

    A step is a number and a marker: 1 at one of the first ten and at another one of the first
    lag / 2 - 1, -1 at the first and the last step. Where the first step is marked, it counts as 0.
    """
    length = drawn_length(lag, draws)
    numbers = torch.rand(count, length, generator=draws) * 2 - 1
    one = torch.randint(10, (count,), generator=draws)
    other = torch.randint(lag // 2 - 2, (count,), generator=draws)
    other += other >= one  # any of the first lag / 2 - 1, but for the one
    rows, markers = torch.arange(count), torch.zeros(count, length)
    markers[rows, one] = markers[rows, other] = 1
    numbers[:, 0] *= markers[:, 0] == 0
    total = (numbers * markers).sum(1, keepdim=True)
    markers[:, [0, -1]] = -1
    return torch.stack([numbers, markers], 2), 0.5 + total / 4


def temporal_order(count, lag, draws):
    """In which order two symbols X and Y came, among others: XX, XY, YX or YY (Experiment 6a).

    Symbols are one-hot: a, b, c, d at random, X or Y at two places, E at the start, B at the end.
    """
    length = drawn_length(lag, draws)
    symbols = torch.randint(4, (count, length), generator=draws)
    order = torch.randint(2, (count, 2), generator=draws)
    rows = torch.arange(count)
    for which, start in enumerate((lag // 10, lag // 2)):
        place = torch.randint(start, start + lag // 10 + 1, (count,), generator=draws)
        symbols[rows, place] = 4 + order[:, which]
    symbols[:, 0], symbols[:, -1] = 6, 7
    classes = torch.eye(4)[2 * order[:, 0] + order[:, 1]]
    return torch.eye(8)[symbols], classes


TASKS = {
    "adding": Task(adding, values=2, outputs=1, close=0.04, input_gate=-3.0),
    "temporal-order": Task(temporal_order, values=8, outputs=4, close=0.3, input_gate=-2.0),
}
DataSet = Annotated[
    str,
    Rule(
        f"shakespeare, a text file, {' or '.join(TASKS)}",
        lambda value: value in TASKS or fits(language.Text, value),
        lambda text: text if text in TASKS else parse(language.Text, text),
    ),
]


class Drawn(Dataset):
    """Sequences that are drawn when they are asked for, a batch at a time.

    seed: for those that are the same each time; None: they go on with PyTorch's own generator.
    """

    def __init__(self, task, lag, count, device, seed=None):
        self.task, self.lag, self.count = task, lag, count
        self.device, self.seed = device, seed

    def __len__(self):
        return self.count

    def __getitem__(self, places):
        draws = torch.default_generator
        if self.seed is not None:
            draws = torch.Generator().manual_seed(self.seed + places[0])
        inputs, targets = self.task.draw(len(places), self.lag, draws)
        return inputs.to(self.device), targets.to(self.device)


def loaders(recipe, device):
    """Batches of (inputs [B, length, values], targets [B, outputs]): training, validation, test."""

    def loader(count, batch_size, seed=None):
        if recipe.dry_run:
            count = batch_size
        dataset = Drawn(TASKS[recipe.data], recipe.length, count, device, seed)
        sampler = BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)
        return DataLoader(
            dataset, sampler=Order(sampler, "part" if seed is None else "turn"), batch_size=None
        )

    if recipe.sample is not None:
        raise Refusal("--sample: only a network that was trained on text writes")
    if recipe.length < 30:
        raise Refusal(f"--length {recipe.length}: these tasks take 30 at least")
    sizes = recipe.limit or EPOCH, HELD_OUT, HELD_OUT
    batches = recipe.batch_size, 256, 256
    # The seeds of the held-out sequences are the same in every run.
    seeds = None, 10**6, 2 * 10**6
    return [loader(*of) for of in zip(sizes, batches, seeds)]


@torch.inference_mode()
def evaluate(model, loader, close):
    """{"loss": mean squared error, "correct": share of sequences with every output right}."""
    model.eval()
    loss = correct = 0.0
    for inputs, targets in loader:
        outputs, _ = model(inputs)
        errors = outputs - targets
        loss += errors.square().mean(1).sum()
        correct += (errors.abs() < close).all(1).sum()
    model.train()
    loss, correct = ranks.total(loss, correct)
    count = len(loader.dataset)
    return {"loss": loss / count, "correct": correct / count}
