"""Translation: pairs of texts in batches, what they cost, and how a run ends.

A model has encode(source [B, S]), its memory as a tuple of tensors [B, ...], and decode(prefix
[B, T], memory): scores [B, T, tokens] of each next token, and where it looked, [B, T, S] or None.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from harness import ranks, settings, use
from harness.chrf import baselines, chrf
from harness.decoding import ALPHA, BEAM, MORE, Beam, beam_search
from harness.errors import Refusal, harmless
from harness.meter import progress, words
from harness.order import Order
from harness.pairs import KINDS
from harness.pieces import Pieces
from harness.values import Natural
from harness.words import BEGIN, END, PAD, plain

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

AT_ONCE = 64  # pairs that are evaluated together
POOL = 20  # batches that are sorted by length together (Bahdanau et al., B.2)


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    """The settings of a run that translates."""

    data: Literal["verses", "reversal", "dates"]  # English to Spanish; generated tasks
    merges: Natural = 0  # pieces of words, of both languages, to join (verses); 0: whole words
    beam: Beam = BEAM  # hypotheses that --translate keeps; 1: the most probable token each time
    translate: str | None = None  # train nothing: let the finished run translate this text

    ASIDE: ClassVar = (*settings.Settings.ASIDE, "beam", "translate")
    USES: ClassVar = ("translate",)

    def __post_init__(self):
        super().__post_init__()
        letters = bool(self.data) and KINDS[self.data].exact
        self.refuse_idle(beam=self.translate is None, merges=letters)


class Pairs(Dataset):
    """Pairs of numbers of tokens; asked for a list of places, it gives a list."""

    def __init__(self, pairs, source, target):
        self.pairs = [
            (torch.tensor([*source.encode(a), END]), torch.tensor([BEGIN, *target.encode(b), END]))
            for a, b in pairs
        ]

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, places):
        return [self.pairs[place] for place in places]


class ByLength(Sampler):
    """Batches of pairs of like lengths, in random order: POOL batches at a time are sorted."""

    def __init__(self, pairs, batch_size):
        self.pairs, self.batch_size = pairs, batch_size

    def __len__(self):
        return -(-len(self.pairs) // self.batch_size)

    def __iter__(self):
        order, size = torch.randperm(len(self.pairs)).tolist(), self.batch_size
        for start in range(0, len(order), POOL * size):
            pool = order[start : start + POOL * size]
            pool.sort(key=lambda place: len(self.pairs.pairs[place][1]))
            batches = [pool[i : i + size] for i in range(0, len(pool), size)]
            yield from (batches[i] for i in torch.randperm(len(batches)))


def collate(pairs, device="cpu"):
    """((source [B, S], prefix [B, T]), following [B, T]), filled up with PAD."""
    source, target = (pad_sequence(part, True, PAD).to(device) for part in zip(*pairs))
    return (source, target[:, :-1]), target[:, 1:]


def cross_entropy(scores, following):
    """The mean over all tokens but PAD, in nats, of scores [B, T, tokens]."""
    return F.cross_entropy(scores.flatten(0, 1), following.flatten(), ignore_index=PAD)


class Data:
    """Pairs of texts in three parts, and a vocabulary for either side.

    vocabularies(sides, kind): the two, of the texts of both sides, where --merges asks for no
    pieces, which are of both sides together.
    """

    def __init__(self, recipe, vocabularies):
        self.settings, self.kind = recipe, KINDS[recipe.data]
        parts = self.parts = self.kind.parts()
        sides = [list(side) for side in zip(*parts["train"])]
        if recipe.merges and not self.kind.exact:
            pieces = Pieces.of([*sides[0], *sides[1]], recipe.merges, keep=not recipe.dry_run)
            self.source = self.target = pieces
        else:
            self.source, self.target = vocabularies(sides, self.kind)
        parts["train"] = parts["train"][: recipe.limit]
        if recipe.dry_run:
            cut = min(recipe.batch_size, len(parts["train"]))
            parts["train"] = parts["train"][:cut]
            parts |= {part: parts[part][:cut] for part in ("validation", "test")}

    def loader(self, part, device):
        """Batches of a part; those of the training part in random order."""
        pairs = Pairs(self.parts[part], self.source, self.target)
        training = part == "train"
        size = self.settings.batch_size if training else AT_ONCE
        order = ByLength(pairs, size) if training else BatchSampler(range(len(pairs)), size, False)
        order = Order(order, "part" if training else "turn")
        return DataLoader(pairs, None, sampler=order, collate_fn=partial(collate, device=device))

    @torch.inference_mode()
    def evaluate(self, model, part, device):
        """{"loss": nats a token, "bits": a character} of a part's targets.

        A token is a word, a piece (--merges) or a letter. The end of a text counts as one, and as a
        character. Unknown words cost what it takes to spell them.
        """
        training, nats, tokens = model.training, 0.0, 0
        model.eval()
        for (source, prefix), following in self.loader(part, device):
            scores = model(source, prefix).flatten(0, 1)
            nats += F.cross_entropy(scores, following.flatten(), ignore_index=PAD, reduction="sum")
            tokens += (following != PAD).sum()
        model.train(training)
        nats, tokens = ranks.total(nats, tokens)
        texts = [text for _, text in self.parts[part]]
        spelling = sum(map(self.target.spelling, texts))
        characters = sum(len(text) + 1 for text in texts)
        return {"loss": nats / tokens, "bits": (nats + spelling) / characters / math.log(2)}

    def translate(self, model, texts, device, beam=BEAM):
        """The translations of some texts. Refusal if one is too long for the model."""
        model.eval()
        found, most = [], getattr(model, "longest", math.inf)  # tokens
        for start in progress(range(0, len(texts), AT_ONCE), "translating"):
            rows = [torch.tensor([*self.source.encode(t), END]) for t in texts[start:][:AT_ONCE]]
            source = pad_sequence(rows, True, PAD).to(device)
            if source.shape[1] > most:
                raise Refusal(f"{source.shape[1]} tokens: this network takes {most} at most")
            longest = torch.tensor([min(len(row) + MORE, most) for row in rows])
            found += beam_search(model, source, beam, longest, ALPHA)
        return [self.target.decode(row) for row in found]

    def test(self, model, device):
        """evaluate() on the test part, and how good its translations are: chrF, or exact ones."""
        found = self.evaluate(model, "test", device)
        sources, targets = (list(side) for side in zip(*self.parts["test"]))
        translations = self.translate(model, sources, device)
        if self.kind.exact:
            right = sum(ours == theirs for ours, theirs in zip(translations, targets))
            return found | {"exact": right / len(targets)}
        return found | {"chrf": chrf(translations, targets)}


def finish(run, model, data):
    """Test the chosen weights of a run, once, and write its result and pictures; or translate.

    The runs of an experiment are compared on the validation part, and not tested.
    """
    if run.settings.translate is not None:
        use.bring_back(run, model)
        asked = [plain(run.settings.translate)]
        print(*data.translate(model, asked, run.device, run.settings.beam))
        return
    if run.example is not None:
        run.example = tuple(part[:, :1] for part in run.example)  # one word to read, one to write
    run.data = data
    test = None if "experiment" in run.settings.name else lambda: data.test(model, run.device)
    result = run.finish(model, test, source=data.source.told(), target=data.target.told())
    if result and test and not data.kind.exact:
        found = baselines(data.parts["train"], data.parts["test"])
        print(f"Without a network, chrF: {words(found)}")
    if result and not (run.folder / "curves.png").exists():
        draw(run, model, data)
    return result


def draw(run, model, data):
    """Draw what a finished run shows."""
    with harmless("pictures"):
        from harness import maps  # matplotlib takes a second to import, and may be broken

        maps.draw(run, model, data)
