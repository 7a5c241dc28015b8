"""The Transformer: the paper's counts, PyTorch's own layers, masks, the recipe, the experiment."""

import math
from collections import Counter

from conftest import clean
from translators import (
    again,
    copied,
    equal_with_gradients,
    padding_changes_nothing,
    scores_depend_on_the_source_and_no_later_token,
)

import pytest
import torch
import torch.nn.functional as F
from torch import nn

NAME = "Transformer"
SIZES = {"layers": 2, "d_model": 12, "d_ff": 20, "heads": 3, "dropout": 0.0}


def tiny(model, **arguments):
    torch.manual_seed(0)
    return model.Transformer(**{"tokens": 11, **SIZES, **arguments}).double()


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    "change, parameters",
    [({}, 63_082_496), ({"layers": 2}, 33_656_832), ({"d_model": 1024}, 163_889_152)]
    + [({"d_ff": 4096}, 88_272_896), ({"d_model": 1024, "d_ff": 4096, "heads": 16}, 214_245_376)],
)
def test_the_networks_have_as_many_parameters_as_counted(model, change, parameters):
    with torch.device("meta"):
        assert count(model.Transformer(**change)) == parameters


def test_the_formula_of_the_base_model(model):
    """Also as nn.Transformer has it, but for two norms more; and rows B, without these biases."""
    for tokens in (1, 37_000):
        assert model.formula(tokens) == 44_138_496 + 512 * tokens
    with torch.device("meta"):
        theirs = count(nn.Transformer(512, 8, 6, 6, 2048)) - 2 * 2 * 512
        assert count(model.Transformer(tokens=7)) - 7 * 512 == theirs
        for d_k, expected in ((16, 55_967_744), (32, 58_327_040)):
            named = model.Transformer(d_k=d_k).named_parameters()
            sizes = [p.numel() for name, p in named if not (".W_" in name and "bias" in name)]
            assert sum(sizes) == expected


def test_a_text_that_is_too_long_to_translate_is_refused(branch, small):
    small(branch)
    words = ["--epochs", 1, "--limit", 20, "--d-model", 8, "--d-ff", 8, "--layers", 1]
    assert branch("train.py", *words).code == 0
    done = branch("train.py", *words, "--translate", "word " * 300)
    assert done.code == 2 and len(done.err.splitlines()) == 1 and "takes 256 at most" in done.err
    done = branch("train.py", *words, "--translate", "a" * 250, "--beam", 1)
    assert done.code == 0, done.err
    clean(branch)


def test_with_41000_tokens_table_3_comes_out_as_printed_but_for_the_big_model(model):
    printed = model.PRINTED | {"B: d_k 16": "58", "B: d_k 32": "60"}
    counts = {row: model.formula(41_000, **model.BASE | model.ROWS[row]) for row in printed}
    off = {row for row, count in counts.items() if f"{count / 1e6:.0f}" != printed[row]}
    assert off == {"big"}


def test_attention_is_pytorchs(model):
    torch.manual_seed(0)
    ours = [torch.randn(2, 3, n, 4).double().requires_grad_() for n in (5, 7, 7)]
    mask, theirs = torch.rand(2, 1, 5, 7) > 0.4, again(*ours)
    mask[..., 0] = True
    found, weights = model.attention(*ours, mask)
    equal_with_gradients(found, F.scaled_dot_product_attention(*theirs, mask), zip(ours, theirs))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5, dtype=torch.double))
    assert not weights.masked_select(~mask).any()


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_an_encoder_layer_is_pytorchs(model, norm):
    """In outputs and gradients, with padding."""
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(
        12, 3, 20, 0.0, batch_first=True, norm_first=norm == "pre", dtype=torch.double
    )
    mine = model.EncoderLayer(12, 20, 3, 4, 0.0, norm).double()
    copied(mine.attention, theirs.self_attn)
    for ours, other in (
        (mine.feed_forward[0], theirs.linear1),
        (mine.feed_forward[2], theirs.linear2),
        (mine.around[0].norm, theirs.norm1),
        (mine.around[1].norm, theirs.norm2),
    ):
        nn.init.normal_(other.bias)
        ours.load_state_dict(other.state_dict())
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    x = torch.randn(2, 5, 12, dtype=torch.double, requires_grad=True)
    (y,) = again(x)
    found = mine(x, ~padding[:, None, None])[~padding]
    expected = theirs(y, src_key_padding_mask=padding)[~padding]
    layers = (mine.feed_forward[0], theirs.linear1), (mine.attention, theirs.self_attn)
    equal_with_gradients(found, expected, [(x, y)], layers)


def test_a_decoder_layer_is_pytorchs(model):
    torch.manual_seed(0)
    theirs = nn.TransformerDecoderLayer(12, 3, 20, 0.0, batch_first=True, dtype=torch.double)
    mine = model.DecoderLayer(12, 20, 3, 4, 0.0, "post").double()
    copied(mine.attention, theirs.self_attn)
    copied(mine.to_source, theirs.multihead_attn)
    mine.feed_forward[0].load_state_dict(theirs.linear1.state_dict())
    mine.feed_forward[2].load_state_dict(theirs.linear2.state_dict())
    x, source = (torch.randn(2, n, 12).double().requires_grad_() for n in (4, 6))
    y, read = again(x, source)
    causal = torch.ones(4, 4).tril().bool()
    known = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    found, looked = mine(x, causal, source, known[:, None, None])
    expected = theirs(y, read, tgt_mask=~causal, memory_key_padding_mask=~known)
    layers = (mine.attention, theirs.self_attn), (mine.to_source, theirs.multihead_attn)
    equal_with_gradients(found, expected, [(x, y), (source, read)], layers)
    assert looked.shape == (2, 3, 4, 6) and not looked[1, :, :, 4:].any()


def test_no_norm_follows_the_stacks_but_in_pre_norm(model):
    for norm, last in (("post", nn.Identity), ("pre", nn.LayerNorm)):
        network = tiny(model, norm=norm)
        assert type(network.encoder.last) is type(network.decoder.last) is last


def test_a_number_of_heads_that_does_not_fit_is_named(model):
    with pytest.raises(ValueError, match="must be even, and a multiple of heads, 5"):
        tiny(model, heads=5)


def test_positions(model):
    """Waves of 2 pi to 10,000 times 2 pi, sines and cosines in turn (3.5)."""
    table = model.sinusoids(50, 8)
    for position in (0, 1, 17, 49):
        for i in range(4):
            angle = position / 10_000 ** (2 * i / 8)
            assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_without_positions_a_source_is_a_bag_of_words(model):
    source, prefix = torch.tensor([[4, 5, 6, 7]]), torch.tensor([[1, 8, 9]])
    for positions, same in (("none", True), ("sinusoids", False), ("learned", False)):
        network = tiny(model, positions=positions)
        before, after = network(source, prefix), network(source.flip(1), prefix)
        assert torch.allclose(before, after) == same


def test_one_matrix_embeds_and_scores(model):
    network = tiny(model)
    assert network.output.weight is network.embedding.weight
    found = network.embed(torch.tensor([[5, 6]]))
    expected = network.embedding.weight[[5, 6]] * math.sqrt(12) + network.positions[:2]
    torch.testing.assert_close(found[0], expected)
    with pytest.raises(ValueError, match="longest is 4, must be 5"):
        tiny(model, longest=4).embed(torch.ones(1, 5).long())


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_padding_changes_nothing(model, norm):
    padding_changes_nothing(tiny(model, norm=norm))


def test_what_a_score_depends_on(model):
    scores_depend_on_the_source_and_no_later_token(tiny(model))


# The recipe


def test_the_learning_rate(branch):
    """5.3: its highest is 6.99e-4 for the base model, 4.94e-4 for the big one."""
    recipe = branch.train.RECIPES["paper"]
    rates = [branch.train.rate(step, recipe) for step in (1, 2_000, 4_000, 16_000)]
    assert rates[2] == pytest.approx(6.99e-4, rel=1e-3)
    assert rates == pytest.approx([rates[2] * share for share in (1 / 4_000, 0.5, 1, 0.5)])
    assert branch.train.rate(4_000, recipe.but(d_model=1024)) == pytest.approx(4.94e-4, rel=1e-3)
    flat = recipe.but(rise=False)
    assert branch.train.rate(1, flat) == branch.train.rate(4_000, flat) == rates[2]


def test_label_smoothing_by_hand(branch):
    """Tokens are PAD, BEGIN, END, UNKNOWN, a, b: a target shares with three others."""
    torch.manual_seed(0)
    scores, following = torch.randn(2, 3, 6), torch.tensor([[4, 5, 2], [2, 0, 0]])
    log_p = scores.log_softmax(2).tolist()
    total = nats = 0.0
    for row, targets in zip(log_p, following.tolist()):
        for chances, target in zip(row, targets):
            if target:
                others = [chances[token] for token in (2, 3, 4, 5) if token != target]
                total -= 0.9 * chances[target] + 0.1 * sum(others) / 3
                nats -= chances[target]
    loss, plain = branch.train.smoothed(scores, following, 0.1)
    assert (loss.item(), plain.item()) == pytest.approx((total / 4, nats / 4), rel=1e-5)
    expected = branch.translation.cross_entropy(scores, following)
    torch.testing.assert_close(branch.train.smoothed(scores, following, 0.0)[0], expected)
    scores.requires_grad_()
    branch.train.smoothed(scores, following, 0.1)[0].backward()
    assert not scores.grad[1, 1:].any()  # padded places


def test_the_last_epochs_are_averaged(branch, small, monkeypatch):
    small(branch)
    weights = []
    original = branch.train.AveragedModel.update_parameters

    def update(self, model):
        weights.append(model.output.weight.clone())
        original(self, model)

    monkeypatch.setattr(branch.train.AveragedModel, "update_parameters", update)
    words = ("--data", "reversal", "--epochs", 4, "--averaging", 3, "--layers", 1, "--d-model", 16)
    run = branch.train.fit(branch.parse(*words, "--warmup", 10))
    assert len(weights) == 3
    choices = [torch.stack(weights[:n]).mean(0) for n in (1, 2, 3)]
    best = run.result["epoch"]
    torch.testing.assert_close(run.model.output.weight, choices[best - 2])


def test_the_experiment_compares(branch, small, monkeypatch, capsys):
    small(branch)
    panels = {"heads": {"1": {"heads": 1}, "4": {}}, "positions": {"sinusoids": {}}}
    monkeypatch.setattr(branch.experiments, "PANELS", panels)
    monkeypatch.setattr(branch.experiments, "SEEDS", 1)
    words = ("--data", "reversal", "--epochs", 1, "--averaging", 1, "--layers", 1, "--d-model", 16)
    with branch.imported():
        branch.experiments.ablations(branch.parse(*words))
    lines = capsys.readouterr().out.splitlines()
    four, waves = (line.split() for line in lines if line.startswith(("4  ", "sinusoids  ")))
    assert four[1:] == waves[1:] and len(four) == 2 and len(branch.runs()) == 2


def test_what_the_frequency_of_each_token_tells(branch, small):
    """By a list of all letters; each word has an end."""
    small(branch)
    seen, new = (
        [token for _, text in branch.pairs.KINDS["reversal"].parts()[part] for token in (*text, "")]
        for part in ("train", "validation")
    )
    counts = Counter(seen)
    recipe = branch.parse("--data", "reversal")
    tokens = len(branch.translation.Data(recipe, branch.train.vocabularies).target)
    nats = [math.log((len(seen) + tokens) / (counts[token] + 1)) for token in new]
    with branch.imported():
        assert branch.experiments.frequencies(recipe) == pytest.approx(sum(nats) / len(nats))
