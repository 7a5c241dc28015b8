"""The order in which an epoch sees its examples: this rank's share of it, from any place on."""

from harness import ranks

import torch
from torch.utils.data import Sampler


class Order(Sampler):
    """What a sampler draws, batches of places or single places, for a DataLoader.

    share: what each rank gets: "part" of each batch, as in training; what is drawn in "turn", as in
    evaluation; or "all". smallest: examples that a rank's part has at least; a batch that has fewer
    for each is left out. in_one_go: an epoch cannot be resumed in the middle, since a state is
    carried from batch to batch.

    All ranks draw the order from one random state, `common`. In training, other random numbers,
    such as those of dropout, differ between the ranks.
    """

    def __init__(self, sampler, share="turn", smallest=1, in_one_go=False):
        self.sampler, self.share, self.in_one_go = sampler, share, in_one_go
        self.smallest, self.batch_size = smallest, getattr(sampler, "batch_size", 1)
        self.begin(None)

    def begin(self, seed, place=0, draws=(), random=None):
        """Begin an epoch of training, at its start or where a state_dict() says.

        seed: a tuple of numbers that tells this epoch from others.
        """
        self.seed, self.first, self.draws, self.random = seed, place, dict(draws), random
        self.place = 0

    def state_dict(self, place):
        """What begin() needs to resume an epoch after so many places.

        draws: the random states before each draw that was made. random: the one to resume with.
        """
        random = self.common if ranks.WORLD > 1 else torch.get_rng_state()
        return {"place": place, "draws": self.draws, "random": random}

    def __len__(self):
        return len(self.sampler)

    def __iter__(self):
        drawn, self.place = iter(self.sampler), 0
        self.common = torch.get_rng_state()
        while (places := self.draw(drawn)) is not None:
            self.place += 1
            if self.place <= self.first:
                continue
            if self.share == "part":
                if len(places) < self.smallest * ranks.WORLD:
                    continue
                places = places[ranks.RANK :: ranks.WORLD]
            elif self.share == "turn" and (self.place - 1) % ranks.WORLD != ranks.RANK:
                continue
            if self.seed and ranks.WORLD > 1:
                torch.manual_seed(hash((*self.seed, self.place, ranks.RANK)))
            yield places

    def draw(self, drawn):
        """The next that the sampler draws, None after the last; known draws are repeated."""
        before = self.common if ranks.WORLD > 1 else torch.get_rng_state()
        if self.place < self.first:
            before = self.draws.get(self.place, before)
        elif self.random is not None:
            before, self.random = self.random, None
        own = torch.get_rng_state()
        torch.set_rng_state(before)
        places = next(drawn, None)
        self.common = torch.get_rng_state()
        if not torch.equal(before, self.common):
            self.draws[self.place] = before
        if ranks.WORLD > 1 and self.seed:
            torch.set_rng_state(own)
        return places
