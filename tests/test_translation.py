"""What translators share: words, pairs in batches, what they cost, beam search, chrF."""

import csv
import datetime
import itertools
import math

from conftest import PARTS, ROOT

import pytest
import torch

NAME = next(name for name, parts in PARTS.items() if "translation" in parts)
VERSES = [
    "En el principio crió Dios los cielos y la tierra.",
    "Y vió Dios que la luz era buena.",
    "b c",
]


class Table(torch.nn.Module):
    """Scores of the next token, out of a table by the two before it, whatever the source."""

    def __init__(self, tokens, seed=0):
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        table = torch.randn(tokens, tokens, tokens, generator=draws, dtype=torch.double)
        self.table = torch.nn.Parameter(2 * table)

    def encode(self, source):
        return (source,)

    def decode(self, prefix, memory):
        assert len(prefix) == len(memory[0])
        before = torch.cat([torch.zeros_like(prefix[:, :1]), prefix[:, :-1]], 1)
        return self.table[before, prefix], None

    def forward(self, source, prefix):
        return self.decode(prefix, self.encode(source))[0]


def log_chance(table, sequence):
    """Of a sequence that follows BEGIN, a token at a time."""
    before, last, total = 0, 1, 0.0
    for token in sequence:
        total += table[before, last].log_softmax(0)[token].item()
        before, last = last, token
    return total


def data(branch, *words, most=30_000):
    def vocabularies(sides, kind):
        return [branch.words.Vocabulary(side, most, 1, kind.split, kind.join) for side in sides]

    return branch.translation.Data(branch.parse(*words), vocabularies)


# Texts


def test_the_verses_are_split_by_chapter(branch):
    parts = branch.pairs.verses()
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 11_390,
        "validation": 599,
        "test": 480,
    }
    assert all(max(len(text.split()) for text in pair) <= 20 for pair in parts["train"])
    chapters = {}
    for name, md5 in branch.pairs.VERSES.items():
        lines = branch.text.read(branch.pairs.HOME / name, md5).splitlines()
        chapters[name] = {line.partition(":")[0] for line in lines}
    for one, other in itertools.combinations(chapters.values(), 2):
        assert not one & other


def test_reversal_and_dates_have_exact_answers_and_no_pair_twice(branch):
    for name in ("reversal", "dates"):
        parts = branch.pairs.KINDS[name].parts()
        assert [len(part) for part in parts.values()] == [10_000, 500, 500]
        pairs = [pair for part in parts.values() for pair in part]
        assert len({source for source, _ in pairs}) == len(pairs)
        assert pairs == [p for part in branch.pairs.KINDS[name].parts().values() for p in part]
        for source, target in pairs[:2_000]:
            if name == "reversal":
                assert target == "".join(reversed(source)) and 3 <= len(source) <= 20
            else:
                day = datetime.date.fromisoformat(target)
                assert str(day.day) in source and str(day.year) in source
                assert f"{day:%b}".lower() in source.lower() or f"/{day.month}/" in source
                assert "May." not in source


def test_words_are_numbered_from_the_most_frequent_on(branch):
    vocabulary = branch.words.Vocabulary(["a b a, c", "a b"], most=3)
    assert vocabulary.tokens == ["a", "b", ","]
    assert vocabulary.encode("b a d , a") == [5, 4, 3, 6, 4]
    assert len(vocabulary) == 4 + 3
    assert vocabulary.decode([1, 4, 3, 2, 0]) == "a [UNK]"
    assert branch.words.Vocabulary(["a b a"], least=2).tokens == ["a"]


def test_a_verse_falls_into_words_and_back(branch):
    for text in (*VERSES, "¿Quién eres? Y dijo: (Yo), el que habla.", "God's own; he said."):
        assert branch.words.join(branch.words.split(text)) == text
    texts = [text for _, text in branch.pairs.verses()["test"]]
    same = sum(branch.words.join(branch.words.split(text)) == text for text in texts)
    assert same > 0.97 * len(texts)


def test_what_unknown_words_cost(branch):
    """Of 8 letters and ends of words, two b, one c and three ends, and one for what is new."""
    vocabulary = branch.words.Vocabulary(["ab b c"], most=1)
    counts = {"a": 1, "b": 2, "c": 1, "": 3}
    total = sum(counts.values()) + 1
    (known,) = vocabulary.tokens
    unknown = next(word for word in ("b", "c") if word != known)
    expected = math.log(total / counts[unknown]) + math.log(total / 3)
    assert vocabulary.spelling(f"{known} {unknown}") == pytest.approx(expected)
    assert vocabulary.spelling(known) == 0
    assert vocabulary.spelling("z") == pytest.approx(math.log(total) + math.log(total / 3))


# Batches and losses


def test_an_epoch_has_every_pair_once_in_batches_of_like_lengths(branch):
    some = data(branch, "--data", "dates", "--batch-size", 32, "--limit", 1_000)
    seen, widths = [], []
    for (source, prefix), following in some.loader("train", "cpu"):
        assert len(source) == len(prefix) == len(following) <= 32
        assert (prefix[:, 0] == branch.words.BEGIN).all()
        torch.testing.assert_close(prefix[:, 1:], following[:, :-1])
        assert (following == branch.words.END).sum(1).tolist() == [1] * len(following)
        seen += [some.source.decode(row) for row in source.tolist()]
        widths.append(source.shape[1])
    assert sorted(seen) == sorted(source for source, _ in some.parts["train"])
    again = [some.source.decode(row) for (s, _), _ in some.loader("train", "cpu") for row in s]
    assert again != seen


def test_pairs_of_like_lengths_are_in_a_batch(branch):
    some = data(branch, "--data", "reversal", "--batch-size", 50)
    spreads = []
    for _, following in some.loader("train", "cpu"):
        lengths = (following != branch.words.PAD).sum(1)
        spreads.append(int(lengths.max() - lengths.min()))
    assert sorted(spreads)[len(spreads) // 2] <= 2  # of 18


def test_the_loss_by_hand(branch):
    """Two sentences, of three tokens and of one: four count, and padding does not."""
    scores = torch.tensor(
        [[[0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 0.0, 1.0], [0.5, 0.0, 0.0, 0.0]], [[0.0] * 4] * 3]
    )
    scores[1, 1:] = 1e3 * torch.rand(2, 4)  # at padding
    following = torch.tensor([[3, 1, 2], [2, 0, 0]])
    e = math.e
    right = e**3 / (1 + e + e**2 + e**3), e / (3 * e + 1), 1 / (e**0.5 + 3), 1 / 4
    expected = -sum(map(math.log, right)) / 4
    found = branch.translation.cross_entropy(scores, following)
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["dates", "verses"])
def test_what_a_part_costs_by_hand(branch, kind):
    """The words of the verses that are not known cost what it takes to spell them, too."""
    some = data(branch, "--data", kind, "--limit", 50, most=60)
    model = Table(len(some.target))
    nats = tokens = characters = spelled = 0
    for _, text in some.parts["test"]:
        row = [*some.target.encode(text), branch.words.END]
        nats -= log_chance(model.table, row)
        spelled += some.target.spelling(text)
        tokens, characters = tokens + len(row), characters + len(text) + 1
    found = some.evaluate(model, "test", "cpu")
    assert found["loss"] == pytest.approx(nats / tokens, rel=1e-6)
    bits = (nats + spelled) / characters / math.log(2)
    assert found["bits"] == pytest.approx(bits, rel=1e-6) and model.training
    assert (spelled > 0) == (kind == "verses")


# Writing


def best_by_trying(branch, table, tokens, longest, alpha):
    """Of all sequences that end within `longest` tokens, the one with the highest rank."""
    letters, end = range(branch.words.UNKNOWN, tokens), branch.words.END
    ended = [(*word, end) for n in range(longest) for word in itertools.product(letters, repeat=n)]
    return max(ended, key=lambda s: log_chance(table, s) / ((5 + len(s)) / 6) ** alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_wide_beam_finds_the_best_translation_there_is(branch, alpha):
    """As trying all of them does; those that have not ended within four tokens are none."""
    for seed in range(3):
        model = Table(6, seed)
        with torch.no_grad():
            model.table[..., [branch.words.PAD, branch.words.BEGIN]] = -40.0
        source = torch.zeros(2, 3, dtype=torch.long)
        found = branch.decoding.beam_search(model, source, 200, 4, alpha)
        best = best_by_trying(branch, model.table, 6, 4, alpha)
        assert found == [list(best[:-1])] * 2


def test_a_beam_of_one_is_greedy(branch):
    model = Table(7, 3)
    expected, before, last = [], 0, branch.words.BEGIN
    for _ in range(12):
        scores = model.table[before, last].clone().detach()
        scores[[branch.words.PAD, branch.words.BEGIN]] = -torch.inf
        before, last = last, int(scores.argmax())
        if last == branch.words.END:
            break
        expected.append(last)
    source = torch.zeros(1, 2, dtype=torch.long)
    assert branch.decoding.beam_search(model, source, 1, 12) == [expected]


def test_a_sentence_is_translated_as_if_it_were_alone(branch):
    """However early the others of its batch end, and with whatever they leave it."""

    class Ending(Table):
        def decode(self, prefix, memory):
            scores = super().decode(prefix, memory)[0]
            scores[..., branch.words.END] += memory[0][:, :1]  # the larger, the sooner it ends
            return scores, None

    model, sources = Ending(7, 1), torch.tensor([[-4], [3], [0], [-4], [-1], [1]])
    search, longest = branch.decoding.beam_search, torch.tensor([12, 12, 12, 4, 12, 2])
    for beam in 1, 3:
        together = search(model, sources, beam, longest, 1.0)
        alone = [search(model, one[None], beam, n, 1.0)[0] for one, n in zip(sources, longest)]
        assert together == alone and len({*map(len, together)}) >= 3


def test_chrf_is_sacrebleus(branch):
    """sacrebleu 2: CHRF(word_order=0, beta=2), over all sentences, and of each."""
    ours = [VERSES[0].replace("crió", "creó"), "Y vió Dios la luz", "a"]
    chrf = branch.chrf.chrf
    assert chrf([VERSES[0].replace("crió", "creó")], VERSES[:1]) == pytest.approx(KNOWN[1])
    assert chrf(ours, VERSES) == pytest.approx(KNOWN[0])
    assert chrf(ours[1:2], VERSES[1:2]) == pytest.approx(KNOWN[2])
    assert chrf(ours[2:], VERSES[2:]) == 0 and chrf(VERSES, VERSES) == pytest.approx(100)


KNOWN = 71.90907490251169, 90.4390835311888, 38.652984645989335


# As a command


FEW = ("--data", "dates", "--epochs", 1, "--limit", 64)


def test_a_finished_run_translates_and_an_unfinished_one_says_so(branch, small):
    small(branch)
    done = branch("train.py", *FEW, "--translate", "May 1, 1990")
    assert done.code == 2 and len(done.err.splitlines()) == 1 and "no finished run" in done.err
    assert not branch.runs()
    done = branch("train.py", *FEW)
    assert done.code == 0 and "exact" in done.out, done.err
    before = {*(branch.home / "checkpoints").rglob("*")}
    done = branch("train.py", *FEW, "--translate", "May 1, 1990")
    assert done.code == 0 and len(done.out.splitlines()) == 1
    assert branch("train.py", *FEW, "--translate", "May 1, 1990").out == done.out
    assert {*(branch.home / "checkpoints").rglob("*")} == before


def test_it_writes_what_is_likely(branch):
    some = data(branch, "--data", "reversal", "--limit", 50)
    model = Table(len(some.target))
    with torch.no_grad():
        model.table.zero_()
        letters = [branch.words.BEGIN, *some.target.encode("ab"), branch.words.END]
        for last, following in itertools.pairwise(letters):
            model.table[:, last, following] = 9
    assert some.translate(model, ["x", "yz"], "cpu") == ["ab", "ab"]
    some.parts["test"] = [("ba", "ab"), ("cd", "dc")]
    assert some.test(model, "cpu")["exact"] == 0.5


def test_the_pictures_of_a_finished_run(branch, small):
    small(branch, pictures=True)
    assert branch("train.py", *FEW).code == 0
    (folder,) = (branch.home / "checkpoints" / branch.name).iterdir()
    assert {"alignments.png", "curves.png"} <= {path.name for path in folder.iterdir()}


def test_the_baselines_are_what_they_say(branch):
    """Copying the English, and always the same translation: chrF of the test verses."""
    pairs = branch.pairs.verses()
    found = branch.chrf.baselines(pairs["train"], pairs["test"])
    with open(ROOT / "results.csv", encoding="utf-8") as file:
        rows = {row["branch"]: row["metrics"] for row in csv.DictReader(file)}
    assert found["copying the source"] == pytest.approx(17.19, abs=0.01)
    for name, value in found.items():
        assert rows[f"baseline: {name}"] == f"chrf={value:.4f}"
