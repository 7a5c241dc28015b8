"""What an epoch adds up to: a progress bar, means over the examples seen, and how they are said."""

import math
import time

from tqdm import tqdm

from harness.errors import diverged


def clock(seconds):
    """93 as 1:33."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}"


def words(values):
    """{name: number} in a line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())


class Meter:
    """The means of what is logged over one pass through a loader; Diverged if one is not finite.

    A batch is (inputs, targets); a model with several inputs has them in a tuple. count, example:
    of the batch that is out, how many examples it has, and the inputs of the first.
    """

    def __init__(self, title):
        self.title, self.seen, self.sums = title, 0, {}
        self.began = self.checked = time.perf_counter()

    def batches(self, loader):
        """Yield the batches behind a progress bar; there is none where there is no terminal."""
        total = len(loader.dataset)
        with tqdm(total=total, desc=self.title, leave=False, disable=None) as self.bar:
            for batch in loader:
                inputs, self.count = batch[0], len(batch[-1])
                several = isinstance(inputs, tuple)
                self.example = tuple(part[:1] for part in inputs) if several else inputs[:1]
                yield batch
        self.speed = self.seen / (time.perf_counter() - self.began)

    def log(self, values):
        """Count a batch. Each value is a mean over it, or one number an example."""
        self.seen += self.count
        for name, value in values.items():
            value = value.detach()
            # No .item() here: the device would wait at every step.
            total = value.sum() if value.dim() else value * self.count
            self.sums[name] = self.sums.get(name, 0) + total
        self.bar.update(self.count)
        if time.perf_counter() - self.checked > 1:
            self.bar.set_postfix_str(words(self.means()))
            self.checked = time.perf_counter()

    def means(self):
        """{name: mean over the examples seen so far}."""
        found = {name: float(total) / self.seen for name, total in self.sums.items()}
        for name, value in found.items():
            if not math.isfinite(value):
                self.bar.close()
                raise diverged(f"the {name}", f"{self.seen:,} examples of {self.title}")
        return found
