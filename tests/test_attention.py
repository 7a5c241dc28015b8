"""RNNsearch: the paper's counts, the unit and the attention number by number, masks, the map."""

import math
from functools import partial
from types import SimpleNamespace

from translators import padding_changes_nothing, scores_depend_on_the_source_and_no_later_token

import pytest
import torch
from torch import nn

NAME = "Attention"


def tiny(model, **arguments):
    torch.manual_seed(0)
    sizes = {"n": 6, "m": 5, "maxout": 4, "alignment": 3} | arguments
    network = model.RNNsearch(11, 12, **sizes).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return network


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_networks_have_as_many_weights_as_counted(model, monkeypatch):
    """On paper, from the sizes that the paper gives (B.1): it prints no total."""
    monkeypatch.setattr(model.RNNsearch, "initialize", lambda self: None)
    with torch.device("meta"):
        full = model.RNNsearch(bias=False)
        assert count(full) == 80_401_000
        decoder = full.decoder
        assert count(decoder.attention) == 3_001_000 and count(decoder.start) == 1_000_000
        assert count(full.encoder) - 30_000 * 620 == 9_720_000
        assert count(decoder.unit) == 10_860_000
        assert count(decoder.maxout) + count(full.output) == 18_620_000
        assert count(model.RNNsearch()) == 80_443_000
        reduced = model.RNNsearch(101, 101, n=256, m=64, maxout=128, alignment=128, bias=False)
        assert count(reduced) == 1_533_312


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def product(matrix, vector):
    return [sum(w * v for w, v in zip(row, vector)) for row in matrix]


def test_the_gated_unit_number_by_number(model):
    """z, r and the proposed state as in A.1.1, out of lists of numbers."""
    torch.manual_seed(1)
    unit = model.GRU(3, 2).double()
    x, h = torch.randn(3, dtype=torch.double), torch.randn(2, dtype=torch.double)
    W, b = unit.W.weight.tolist(), unit.W.bias.tolist()
    sums = [s + c for s, c in zip(product(W, x.tolist()), b)]
    old = h.tolist()
    gates = [sigmoid(s + u) for s, u in zip(sums, product(unit.U_gates.weight.tolist(), old))]
    z, r = gates[:2], gates[2:]
    kept = product(unit.U.weight.tolist(), [a * c for a, c in zip(r, old)])
    proposed = [math.tanh(s + u) for s, u in zip(sums[4:], kept)]
    expected = [(1 - a) * o + a * p for a, o, p in zip(z, old, proposed)]
    found = unit(unit.W(x[None]), h[None])
    assert found[0].tolist() == pytest.approx(expected)


def test_it_is_pytorchs_unit_but_for_where_r_and_z_stand(model):
    """With r at 1, and z turned round, outputs and gradients of nn.GRU are those of the paper."""
    torch.manual_seed(2)
    n, gru, unit = 4, nn.GRU(3, 4, batch_first=True).double(), model.GRU(3, 4).double()
    with torch.no_grad():
        r, z, proposed = gru.weight_ih_l0.split(n)
        unit.W.weight.copy_(torch.cat([-z, r, proposed]))
        r, z, proposed = gru.weight_hh_l0.split(n)
        unit.U_gates.weight.copy_(torch.cat([-z, r]))
        unit.U.weight.copy_(proposed)
        gru.bias_ih_l0[:n] = 100  # r is 1
        r, z, proposed = gru.bias_ih_l0.split(n)
        gru.bias_hh_l0.zero_()
        unit.W.bias.copy_(torch.cat([-z, r, proposed]))
    x = torch.randn(2, 7, 3, dtype=torch.double)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    h, states = mine.new_zeros(2, n), []
    for sums in unit.W(mine).unbind(1):
        h = unit(sums, h)
        states.append(h)
    expected, _ = gru(theirs)
    found = torch.stack(states, 1)
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


def test_attention_number_by_number(model):
    """e_ij = v tanh(W s + U h_j), alpha its softmax, c the weighted sum (equations 5 and 6)."""
    network = tiny(model)
    layer, known = network.decoder.attention, torch.tensor([[True, True, True, False]])
    s = torch.randn(1, 6, dtype=torch.double)
    annotations = torch.randn(1, 4, 12, dtype=torch.double)
    W, U, v = (m.weight.tolist() for m in (layer.W_a, layer.U_a, layer.v_a))
    state = [a + b for a, b in zip(product(W, s[0].tolist()), layer.W_a.bias.tolist())]
    scores = []
    for h in annotations[0, :3].tolist():
        inside = [math.tanh(a + b) for a, b in zip(state, product(U, h))]
        scores.append(math.exp(sum(a * b for a, b in zip(v[0], inside))))
    alphas = [score / sum(scores) for score in scores]
    columns = zip(*annotations[0].tolist())
    context = [sum(a * h for a, h in zip(alphas, column)) for column in columns]
    found, alpha = layer(s, annotations, layer.U_a(annotations), known)
    assert alpha[0].tolist() == pytest.approx([*alphas, 0.0])
    assert found[0].tolist() == pytest.approx(context)


def test_the_decoder_looks_with_the_state_before(model):
    """s_0 is made of what the encoder read last of the first word; alpha_1 of s_0 (A.2.2)."""
    network = tiny(model)
    source, prefix = torch.tensor([[4, 5, 6]]), torch.tensor([[1, 7]])
    annotations = network.encoder(source)
    decoder = network.decoder
    s = torch.tanh(decoder.start(annotations[:, 0, 6:]))
    keys, known = decoder.attention.U_a(annotations), source != 0
    scores, alphas = network.decode(prefix, network.encode(source))
    for step in range(2):
        context, alpha = decoder.attention(s, annotations, keys, known)
        torch.testing.assert_close(alphas[:, step], alpha)
        y = decoder.embedding(prefix[:, step])
        pairs = decoder.maxout(torch.cat([s, y, context], 1)).view(1, 4, 2)
        torch.testing.assert_close(scores[:, step], network.output(pairs.max(2).values))
        s = decoder.unit(decoder.unit.W(torch.cat([y, context], 1)), s)


@pytest.mark.parametrize("attention", [True, False])
def test_padding_changes_nothing(model, attention):
    padding_changes_nothing(tiny(model, attention=attention))


@pytest.mark.parametrize("attention", [True, False])
def test_what_a_score_depends_on(model, attention):
    scores_depend_on_the_source_and_no_later_token(tiny(model, attention=attention))


def test_without_attention_the_decoder_sees_one_vector(model):
    """The encoder's last state, beside where the decoder starts: no annotation in between."""
    network = tiny(model, attention=False)
    prefix = torch.randint(3, 12, (2, 4))
    annotations, known = network.encode(torch.randint(3, 11, (2, 9)))
    before, alphas = network.decode(prefix, (annotations, known))
    annotations[:, 1:-1] = 7
    annotations[:, 0, :6], annotations[:, -1, 6:] = 7, 7
    after, _ = network.decode(prefix, (annotations, known))
    torch.testing.assert_close(before, after, rtol=0, atol=0)
    assert alphas is None


def test_how_weights_begin(model):
    """B.1: orthogonal recurrent matrices, deviations of 0.01 and of 0.001, v_a zero."""
    torch.manual_seed(0)
    network = model.RNNsearch(300, 300, n=64, m=32, maxout=32, alignment=64)
    for unit in (network.encoder.forwards, network.encoder.backwards, network.decoder.unit):
        for square in (unit.U.weight, *unit.U_gates.weight.split(64)):
            torch.testing.assert_close(square @ square.T, torch.eye(64), atol=1e-5, rtol=0)
        assert unit.W.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not unit.W.bias.any()
    layer = network.decoder.attention
    assert layer.W_a.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert layer.U_a.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not layer.v_a.weight.any()
    assert network.output.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_the_experiment_measures_by_length(branch, small):
    small(branch)
    words = ["--data", "reversal", "--attention", "--epochs", 1, "--units", 8]
    words += ["--embedding", 8]
    done = branch("experiments.py", "lengths", *words, "--maxout", 4, "--alignment", 4)
    assert done.code == 0 and "By length" in done.out, done.err
    folder = branch.home / "checkpoints" / NAME
    (table,) = folder.glob("laptop-experiment-lengths*/lengths.csv")
    assert len(table.read_text(encoding="utf-8").splitlines()) == 1 + 3 * 4
    assert len([*folder.glob("laptop-data-reversal-*/weights.pt")]) == 3  # train.py's own runs


def test_the_maps_are_of_two_data_sets_and_of_no_other(branch):
    done = branch("experiments.py", "maps", "--data", "dates", "--dry-run")
    assert done.code == 2 and done.err.startswith("experiments.py: --data: the maps are of")


def test_quality_by_length(branch):
    """Two answers of five letters, one of them right, and one of ten, which is wrong."""
    pairs = [("abcde", "edcba"), ("fghij", "wrong"), ("abcdefghij", "jihgfedcba")]
    pairs += [("a" * 14, "a" * 14), ("b" * 20, "b" * 20)]

    def translate(model, texts, device):
        return [text[::-1] if len(text) != 10 else "" for text in texts]

    kind = branch.pairs.KINDS["reversal"]
    data = SimpleNamespace(parts={"validation": pairs}, kind=kind, translate=translate)
    run = SimpleNamespace(data=data, model=None, device="cpu")
    assert branch.experiments.measure(run) == [50, 0, 100, 100]


@pytest.mark.slow
def test_reversing_looks_along_the_anti_diagonal(branch):
    run = branch.train.fit(branch.parse("--data", "reversal", "--seed", 3))
    text = "attention"
    _, written, weights = branch.maps.alignment(run.model, run.data, text, "cpu")
    assert written[:-1] == [*reversed(text)]
    assert weights[:9].argmax(1).tolist() == [*reversed(range(9))]


def test_what_people_type_is_written_as_the_verses_are(branch):
    assert branch.words.plain("“King’s” e\u0301l ‘mes’") == "\"King's\" él 'mes'"


def test_days_are_counted_as_people_count_them(branch):
    days = 1, 2, 3, 4, 10, 11, 12, 13, 20, 21, 22, 23, 30, 31
    ordinals = "1st 2nd 3rd 4th 10th 11th 12th 13th 20th 21st 22nd 23rd 30th 31st"
    assert " ".join(map(branch.pairs.ordinal, days)) == ordinals


@pytest.mark.parametrize("limit, count", [(8, 8), (100, 32)])
def test_a_dry_run_takes_a_batch_or_less(branch, limit, count):
    recipe = branch.parse("--data", "dates", "--dry-run", "--batch-size", 32, "--limit", limit)
    parts = branch.translation.Data(recipe, partial(branch.train.vocabularies, most=9)).parts
    assert {len(pairs) for pairs in parts.values()} == {count}


def test_the_search_that_translates(branch, monkeypatch):
    """Four hypotheses, a length penalty of 1, and at most ten tokens more than each source has."""
    asked = []

    def search(model, source, beam, longest, alpha):
        asked.append((beam, longest.tolist(), alpha))
        return [[]] * len(source)

    monkeypatch.setattr(branch.translation, "beam_search", search)
    recipe = branch.parse("--data", "reversal", "--limit", 50)
    data = branch.translation.Data(recipe, partial(branch.train.vocabularies, most=99))
    assert data.translate(torch.nn.Identity(), ["abc", "a"], "cpu") == ["", ""]
    assert asked == [(4, [3 + 1 + 10, 1 + 1 + 10], 1.0)]
