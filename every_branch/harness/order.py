"""The order in which an epoch sees its examples: this rank's part of it, from any place on."""

from harness import ranks

import torch
from torch.utils.data import Sampler


class Order(Sampler):
    """What a sampler draws, batches of places or single places, for a DataLoader.

    of_batch: this rank gets its part of each batch, and training may go on in the middle of an
    epoch. Otherwise what is drawn is dealt out to the ranks in turn, as evaluation does.
    in_one_go: not so, as each batch goes on where the one before it ended.
    What a sampler draws at random, all ranks draw alike: from a state of their own, `common`. What
    else is drawn meanwhile, such as dropout, each rank draws by itself.
    """

    def __init__(self, sampler, of_batch=False, in_one_go=False):
        self.sampler, self.of_batch, self.in_one_go = sampler, of_batch, in_one_go
        self.batch_size = getattr(sampler, "batch_size", 1)
        self.begin(())

    def begin(self, seed, place=0, draws=(), random=None):
        """Begin an epoch at its start, or where it was left; seed: what tells it from others."""
        self.seed, self.first, self.draws, self.random = seed, place, dict(draws), random
        self.place = 0

    def left(self, place):
        """What begin() has to know of an epoch that is left after so many places.

        draws: the random states before each draw that was made. random: the one to go on with.
        """
        random = self.common if ranks.WORLD > 1 else torch.get_rng_state()
        return {"place": place, "draws": self.draws, "random": random}

    def __len__(self):
        count = len(self.sampler)
        return count if self.of_batch else len(range(ranks.RANK, count, ranks.WORLD))

    def __iter__(self):
        drawn, self.place = iter(self.sampler), 0
        self.common = torch.get_rng_state()
        while (places := self.draw(drawn)) is not None:
            self.place += 1
            if self.place <= self.first:
                continue
            if isinstance(places, list) and self.of_batch:
                if part := places[ranks.RANK :: ranks.WORLD]:
                    yield part
            elif (self.place - 1) % ranks.WORLD == ranks.RANK:
                yield places
        if ranks.WORLD > 1:
            torch.set_rng_state(self.common)

    def draw(self, drawn):
        """The next that the sampler draws, None after the last; known draws are made once more."""
        before = self.common if ranks.WORLD > 1 else torch.get_rng_state()
        if self.place < self.first:
            before = self.draws.get(self.place, before)
        elif self.random is not None:
            before, self.random = self.random, None
        torch.set_rng_state(before)
        places = next(drawn, None)
        self.common = torch.get_rng_state()
        if not torch.equal(before, self.common):
            self.draws[self.place] = before
        if ranks.WORLD > 1:
            torch.manual_seed(hash((*self.seed, self.place, ranks.RANK)))
        return places
