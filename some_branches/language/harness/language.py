"""Language models of characters: text in batches, the bits that it costs, and how a run ends.

A model takes the numbers of characters [B, length] and the state it was left in (None: afresh), and
returns scores [B, length, characters] of the next one at each place, and its state after the last.
"""

import csv
import hashlib
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from harness import ROOT, ranks, settings, writing
from harness.characters import Characters, read_own
from harness.errors import Refusal, harmless
from harness.meter import progress
from harness.order import Order
from harness.text import read
from harness.values import Count, Positive, Rule, is_file, relative

import torch
import torch.nn.functional as F
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset

HOME = ROOT / "data" / "shakespeare"
SHAKESPEARE = {  # the files and their MD5
    "train.txt.gz": "566d1acf8d8993988856e035e85650ea",
    "validation.txt.gz": "900c2b3ffb050f8462b6248881300477",
    "test.txt.gz": "abe77c569d8b0900e5ee514fd97acc4f",
}
STREAMS = 32  # pieces of a text that are evaluated at once
CONTEXT = 256  # characters that a piece is preceded by, which are counted in the piece before

Text = Annotated[
    str,
    Rule(
        "shakespeare, or a text file",
        lambda value: value == "shakespeare" or is_file(value),
        lambda text: text if text == "shakespeare" else relative(text),
    ),
]


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    """The settings of a run that models language: the fewest bits a character choose."""

    data: Text  # shakespeare, or a text file of yours
    length: Count  # characters (of tasks: steps) of a sequence, which gradients flow back through
    limit: Count | None = None  # sequences to train on, at least a batch; of tasks, an epoch
    sample: str | None = None  # train nothing: let the finished run write on from this text
    characters: Count = 500  # that --sample writes
    temperature: Positive = 1.0  # of --sample: nearer to 0, it takes fewer chances

    ASIDE: ClassVar = (*settings.Settings.ASIDE, "sample", "characters", "temperature")
    USES: ClassVar = ("sample",)

    def __post_init__(self):
        super().__post_init__()
        self.refuse_idle(characters=self.sample is None, temperature=self.sample is None)


def shakespeare():
    """The training, validation and test plays, as three texts."""
    return [read(HOME / name, md5) for name, md5 in SHAKESPEARE.items()]


def digest(text):
    """What tells a text from others, in 12 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def parts(name):
    """The three texts of --data; the last two twentieths of someone's own file are held out."""
    if name == "shakespeare":
        return shakespeare()
    text = read_own(ROOT / name)
    cuts = [0, len(text) * 9 // 10, len(text) * 19 // 20, len(text)]
    return [text[start:end] for start, end in zip(cuts, cuts[1:])]


class Data:
    """A text in three parts, int64 [N], and the characters of its training part.

    identity: what tells runs on it from others.
    """

    def __init__(self, recipe):
        self.settings = recipe
        texts = parts(recipe.data)
        self.identity = {} if recipe.data == "shakespeare" else {"text": digest("".join(texts))}
        self.vocabulary = Characters(texts[0])
        size = recipe.batch_size * recipe.length
        if len(texts[0]) <= size:
            raise Refusal(
                f"--data {recipe.data}: {len(texts[0]):,} characters to train on are fewer than a "
                "batch: choose a smaller --batch-size or --length"
            )
        if not all(texts):
            raise Refusal(f"--data {recipe.data}: too short to be divided into three parts")
        if recipe.dry_run:
            texts = [texts[0][: size + 1], *(text[:1000] for text in texts[1:])]
        elif recipe.limit:
            texts[0] = texts[0][: max(recipe.limit * recipe.length, size) + 1]
        self.train, self.validation, self.test = map(self.vocabulary.encode, texts)

    def loader(self, device):
        """Batches of (characters [B, length], those that follow [B, length]) on a device.

        The text is cut into B streams, which are read side by side: row i of a batch goes on where
        row i of the batch before it ended.
        """
        if self.settings.checkpoint_every:
            raise Refusal(
                "--checkpoint-every: a state is carried from batch to batch here, so that an epoch "
                "is trained in one go, and saved after it"
            )
        batch, length = self.settings.batch_size, self.settings.length
        steps = (len(self.train) - 1) // batch // length
        used = batch * steps * length

        def rows(text):
            streams = text[:used].view(batch, steps, length)
            return streams.transpose(0, 1).reshape(-1, length).to(device)

        dataset = TensorDataset(rows(self.train), rows(self.train[1:]))
        sampler = BatchSampler(SequentialSampler(dataset), batch, drop_last=True)
        order = Order(sampler, "part", in_one_go=True)
        return DataLoader(dataset, sampler=order, batch_size=None)

    def evaluate(self, model, text):
        """evaluate() on a part of this text, which begins as after an empty line."""
        return evaluate(model, torch.cat([self.vocabulary.encode("\n"), text]))


def cross_entropy(scores, following):
    """The mean over a batch, in nats a character, of scores [B, length, characters]."""
    return F.cross_entropy(scores.flatten(0, 1), following.flatten())


@torch.inference_mode()
def evaluate(model, text):
    """{"loss": nats, "bits": the same in bits} for each character of a text [N] but the first.

    Every character is counted once. For speed the text is read in STREAMS pieces side by side; a
    piece is preceded by CONTEXT characters of the one before, so that it does not begin afresh.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    count = len(text) - 1
    piece = -(-count // STREAMS)
    padded = torch.cat([text[:1].expand(CONTEXT), text, text[:1].expand(STREAMS * piece - count)])
    rows = padded.unfold(0, CONTEXT + piece + 1, piece).to(device)  # [STREAMS, CONTEXT + piece + 1]
    places = torch.arange(CONTEXT + piece) - CONTEXT + piece * torch.arange(STREAMS)[:, None]
    counted = ((torch.arange(CONTEXT + piece) >= CONTEXT) & (places < count)).to(device)
    rows, counted = rows[ranks.RANK :: ranks.WORLD], counted[ranks.RANK :: ranks.WORLD]
    state, total = None, 0.0
    for start in progress(range(0, CONTEXT + piece, 200), "evaluating"):
        here = slice(start, min(start + 200, CONTEXT + piece))
        scores, state = model(rows[:, here], state)
        following = rows[:, here.start + 1 : here.stop + 1]
        losses = F.cross_entropy(scores.transpose(1, 2), following, reduction="none")
        total += (losses * counted[:, here]).sum().item()
    model.train(training)
    loss = ranks.total(total)[0] / count
    return {"loss": loss, "bits": loss / math.log(2)}


def finish(run, model, data):
    """Test the chosen weights of a run, once, write its result and pictures, and let it write."""
    if run.settings.sample is not None:
        return writing.sample(run, model, data.vocabulary)
    if run.example is not None:
        run.example = run.example[:, :1]  # what counts is what a network does for one character
    characters = data.vocabulary.known
    result = run.finish(model, lambda: data.evaluate(model, data.test), characters=characters)
    if result and run.settings.data == "shakespeare":
        order, bits = baseline()
        print(f"The {order}-gram model of characters, which counts: {bits:.4f} bits")
    if result and not (run.folder / "curves.png").exists():
        draw(run, model, data)
    return result


def baseline():
    """(order, bits a character of the test plays) of the n-gram model that validation chooses."""
    with open(HOME / "ngram.csv", encoding="utf-8") as file:
        best = min(csv.DictReader(file), key=lambda row: float(row["validation"]))
    return best["order"], float(best["test"]) / math.log(2)


def draw(run, model, data):
    """Draw what a finished run shows."""
    with harmless("pictures"):
        from harness import pictures  # matplotlib takes a second to import, and may be broken

        pictures.draw(run, model, data)
