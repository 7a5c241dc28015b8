"""What an epoch adds up to: a progress bar, means over the examples seen, and how they are said."""

import math
import time

from harness import ranks
from harness.errors import diverged

from tqdm import tqdm


def clock(seconds):
    """93 as 1:33."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}"


def words(values):
    """{name: number} in a line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())


def progress(things, title, **about):
    """A progress bar around an iterable, where there is a terminal, and in the first rank alone."""
    return tqdm(things, title, leave=False, disable=True if ranks.RANK else None, **about)


class Meter:
    """The means of what is logged over one pass through a loader; Diverged if one is not finite.

    A batch is (inputs, targets); a model with several inputs has them in a tuple. count, example:
    of the current batch, how many examples it has, and the inputs of the first. everywhere:
    how many it has on all ranks, where there are several.
    """

    def __init__(self, title):
        self.title, self.seen, self.sums, self.example = title, 0, {}, None
        self.began = self.checked = time.perf_counter()
        self.before = self.counted = 0  # examples on all ranks: done before, and by now

    def state_dict(self):
        """What a Meter needs to resume, on any number of ranks."""
        seen, *sums = ranks.total(self.seen, *self.sums.values())
        return {"seen": int(seen), "sums": dict(zip(self.sums, sums)), "example": self.example}

    def load_state_dict(self, saved):
        """Resume from a state_dict(); the first rank has the sums for all."""
        self.before = self.counted = saved["seen"]
        self.example, self.sums = saved["example"], dict.fromkeys(saved["sums"], 0.0)
        if ranks.RANK == 0:
            self.seen, self.sums = saved["seen"], saved["sums"]

    def watched(self, loader):
        """Yield the batches behind a progress bar; there is none where there is no terminal."""
        with progress(None, self.title, total=len(loader.dataset)) as self.bar:
            self.bar.update(self.before)
            for batch in loader:
                inputs, self.count = batch[0], len(batch[-1])
                self.everywhere = self.count
                several = isinstance(inputs, tuple)
                first = [part[:1].clone() for part in (inputs if several else [inputs])]
                self.example = tuple(first) if several else first[0]  # not a view of a whole batch
                yield batch

    def log(self, values):
        """Count a batch. Each value is a mean over it, or one number an example."""
        self.seen += self.count
        self.counted += self.everywhere
        for name, value in values.items():
            value = value.detach()
            # No .item() here: the device would wait at every step.
            total = value.sum() if value.dim() else value * self.count
            self.sums[name] = self.sums.get(name, 0) + total
        self.bar.update(self.everywhere)
        if time.perf_counter() - self.checked > 1:
            self.bar.set_postfix_str(words(self.means()))
            self.checked = time.perf_counter()

    @property
    def speed(self):
        """Examples per second since this meter began."""
        return (self.counted - self.before) / (time.perf_counter() - self.began)

    def means(self, everywhere=False):
        """{name: mean over the examples seen so far}; everywhere: by all ranks."""
        sums = [self.seen, *self.sums.values()]
        seen, *sums = ranks.total(*sums) if everywhere else map(float, sums)
        found = {name: value / seen for name, value in zip(self.sums, sums)}
        for name, value in found.items():
            if not math.isfinite(value):
                self.bar.close()
                raise diverged(f"the {name}", f"{self.seen:,} examples of {self.title}")
        return found
