"""What language models share: text in batches, bits, the n-gram model, and writing."""

import csv
import gzip
import hashlib
import math
from collections import Counter, defaultdict

from conftest import PARTS, ROOT, run_python

import pytest
import torch
import torch.nn.functional as F

NAME = next(name for name, parts in PARTS.items() if "language" in parts)
SHIPPED = ROOT / "some_branches" / "language" / "data" / "shakespeare"


class Bigram(torch.nn.Module):
    """Scores that depend on one character, and a state that counts what was read."""

    def __init__(self, characters):
        super().__init__()
        torch.manual_seed(0)
        self.scores = torch.nn.Parameter(torch.randn(characters, characters, dtype=torch.double))

    def forward(self, text, state=None):
        return self.scores[text], text.shape[1] + (state or 0)


def data(branch, *words, text=None):
    return branch.language.Data(branch.parse(*words))


def test_the_text_is_the_plays_and_no_play_is_in_two_parts(branch):
    texts = branch.language.shakespeare()
    assert [len(text) for text in texts] == [4_418_855, 203_869, 207_759]
    named = [{"MACBETH:", "PROSPERO:", "ROMEO:"} & {*text.split()} for text in texts]
    assert named == [{"ROMEO:"}, {"PROSPERO:"}, {"MACBETH:"}]
    assert len({*"".join(texts)}) == 79


def test_a_changed_or_missing_file_is_refused(branch, tmp_path):
    path = tmp_path / "train.txt.gz"
    with pytest.raises(branch.errors.Refusal, match="missing"):
        branch.text.read(path, "0")
    path.write_bytes(gzip.compress(b"To be"))
    with pytest.raises(branch.errors.Refusal, match="MD5"):
        branch.text.read(path, "0")
    assert branch.text.read(path, hashlib.md5(path.read_bytes()).hexdigest()) == "To be"


def test_characters_are_numbered_and_unknown_ones_share_the_last_number(branch):
    characters = branch.characters.Characters("banana")
    assert characters.encode("ban").tolist() == [1, 0, 2] and len(characters) == 4
    assert characters.decode([1, 0, 2, 0]) == "bana"
    assert characters.encode("z!").tolist() == [3, 3] and characters.decode([3]) == "\ufffd"


def test_a_row_of_a_batch_goes_on_where_the_row_before_ended(branch):
    some = data(branch, "--batch-size", 3, "--length", 5, "--limit", 14)
    batches = [*some.loader("cpu")]
    streams = torch.cat([inputs for inputs, _ in batches], 1)
    following = torch.cat([targets for _, targets in batches], 1)
    assert len(batches) == 4 and streams.shape == (3, 20)
    text = some.vocabulary.decode(streams.flatten())
    assert text == branch.language.shakespeare()[0][:60]
    torch.testing.assert_close(following.flatten(), some.train[1:61])


@pytest.mark.parametrize("length", [2, 40, 1_000, 9_001])
def test_every_character_is_counted_once(branch, length):
    text = torch.randint(5, (length,), generator=torch.Generator().manual_seed(length))
    model = Bigram(5)
    chances = model.scores.detach().softmax(1)
    expected = -sum(math.log(chances[a, b]) for a, b in zip(text, text[1:])) / (length - 1)
    found = branch.language.evaluate(model, text)
    assert found["loss"] == pytest.approx(expected, rel=1e-6)
    assert found["bits"] == pytest.approx(expected / math.log(2), rel=1e-6)


def test_pieces_side_by_side_are_as_good_as_the_text_in_one_piece(branch):
    torch.manual_seed(0)
    model = branch.model.LanguageModel(20, blocks=16).double()
    text = torch.randint(20, (5_000,))
    with torch.no_grad():
        scores, _ = model(text[None, :-1])
    whole = F.cross_entropy(scores[0], text[1:]).item()
    assert branch.language.evaluate(model, text)["loss"] == pytest.approx(whole, rel=1e-4)
    assert model.training


def counted(train, text, orders, size):
    """Witten-Bell estimates, from counts in dictionaries, a character at a time."""
    seen = [defaultdict(Counter) for _ in range(orders)]
    for place, character in enumerate(train):
        for order in range(min(orders, place + 1)):
            seen[order][train[place - order : place]][character] += 1
    losses = [0.0] * orders
    for place, character in enumerate(text):
        chance = 1 / size
        for order in range(orders):
            followers = seen[order].get(text[place - order : place]) if order <= place else None
            if followers:
                total, kinds = sum(followers.values()), len(followers)
                chance = (followers[character] + kinds * chance) / (total + kinds)
            losses[order] -= math.log(chance) / len(text)
    return losses


def test_the_ngram_model_counts_as_dictionaries_do(branch):
    train, _, test = branch.language.shakespeare()
    train, test = train[:20_000], test[:3_000]
    characters = branch.characters.Characters(train + test)
    size = len(characters.known)
    found = branch.ngram.witten_bell(*map(characters.encode, (train, test)), 7, size)
    assert found == pytest.approx(counted(train, test, 7, size))


def test_the_baseline_is_the_order_that_validation_chooses(branch):
    with open(SHIPPED / "ngram.csv", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert [row["order"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    known = 3.317, 2.522, 2.095, 1.833, 1.724, 1.725, 1.784  # counted elsewhere, test plays
    assert [row["test"] for row in rows] == pytest.approx(known, abs=1e-3)
    assert branch.language.baseline() == ("6", pytest.approx(1.7248 / math.log(2)))
    with open(ROOT / "results.csv", encoding="utf-8") as file:
        (row,) = (row for row in csv.DictReader(file) if "6-gram" in row["branch"])
    assert row["metrics"] == f"loss=1.7248 bits={1.7248 / math.log(2):.4f}"


@pytest.mark.slow
def test_the_baseline_is_what_the_command_prints(branch):
    done = run_python("-m", "harness.ngram", cwd=branch.home)
    assert done.stdout == (SHIPPED / "ngram.csv").read_text(encoding="utf-8")


def test_a_finished_run_writes_and_an_unfinished_one_says_so(branch, small):
    small(branch)
    words = ("--epochs", 1, "--limit", 100, "--blocks", 8)
    done = branch("train.py", *words, "--sample", "ROMEO:")
    assert done.code == 2 and len(done.err.splitlines()) == 1 and "no finished run" in done.err
    assert not branch.runs() and branch("train.py", *words).code == 0
    before = {*(branch.home / "checkpoints").rglob("*")}
    done = branch("train.py", *words, "--sample", "ROMEO:", "--characters", 40)
    assert done.code == 0 and done.out.startswith("ROMEO:") and len(done.out) == 6 + 40 + 1
    assert branch("train.py", *words, "--sample", "ROMEO:", "--characters", 40).out == done.out
    assert {*(branch.home / "checkpoints").rglob("*")} == before


def test_it_writes_what_is_likely(branch):
    """A model that knows only what follows what, nearly at temperature 0."""
    characters = branch.characters.Characters("abc")
    model = Bigram(4)
    with torch.no_grad():
        model.scores.copy_(torch.eye(4).roll(1, 1))
    for temperature in (0.01, 1e-40):
        assert branch.writing.write(model, characters, "a", 5, temperature) == "abcabc"


@pytest.mark.parametrize("length", [2, 7, 99])
def test_the_picture_by_position_is_of_every_piece_whatever_is_given_together(
    branch, monkeypatch, length
):
    """Also of a text that is shorter than a piece."""
    monkeypatch.setattr(branch.pictures, "AT_ONCE", 3)
    torch.manual_seed(0)
    text, model = torch.randint(4, (31,)), Bigram(4)
    bits = branch.pictures.by_position(model, text, length)
    losses = F.cross_entropy(model.scores[text[:-1]], text[1:], reduction="none") / math.log(2)
    length = min(length, 30)
    expected = losses[: 30 // length * length].view(-1, length).mean(0)
    torch.testing.assert_close(bits, expected.float(), check_dtype=False)


def test_a_text_of_ones_own(branch, tmp_path):
    path = tmp_path / "mine é.txt"
    path.write_text("round and round it goes, " * 80, encoding="utf-8")
    words = ("--data", path, "--epochs", 2, "--batch-size", 4, "--length", 20, "--blocks", 8)
    done = branch("train.py", *words)
    assert done.code == 0 and "-gram" not in done.out, done.err
    ((title, saved),) = branch.runs().items()
    assert saved["settings"]["text"] and saved["characters"] == " ,adeginorstu"
    path.write_text("another text altogether, " * 80, encoding="utf-8")
    done = branch("train.py", *words)
    assert done.code == 2 and "another run: text" in done.err
    path.write_bytes(b"\xff\xfe\x00" * 999)
    done = branch("train.py", *words, "--seed", 1)
    assert done.code == 2 and "UTF-8" in done.err
    path.write_text("too short", encoding="utf-8")
    done = branch("train.py", *words, "--seed", 1)
    assert done.code == 2 and "fewer than a batch" in done.err
    path.write_text("abc", encoding="utf-8")
    done = branch("train.py", *words[:2], "--batch-size", 1, "--length", 1)
    assert done.code == 2 and "divided into three" in done.err


@pytest.mark.parametrize(
    "words", ["train.py --sample x", "train.py --dropout 0.1", "experiments.py lags --blocks 5"]
)
def test_a_task_refuses_what_it_has_no_use_for(branch, words):
    done = branch(*words.split(), "--data", "adding", "--limit", 64, "--epochs", 1)
    assert done.code == 2 and words.split()[-2] in done.err and not branch.runs()
