"""The ladder from LeNet-5 to AlexNet: parameters by hand, small data."""

import statistics

import pytest
import torch
from test_relu_experiments import points_of, typed_twice, watch
from torch import nn

NAME = "AlexNet"
# (inputs and a bias of a unit) x units, layer by layer.
SMALL = [26 * 6, 151 * 16, 401 * 120, 121 * 84, 85 * 10]
WIDE = [26 * 12, 301 * 32, 801 * 240, 241 * 168, 169 * 10]
DEEP = [*WIDE[:2], 289 * 48, 433 * 48, 433 * 32, *WIDE[2:]]
LARGE = [122 * 12, 301 * 32, 289 * 48, 433 * 48, 433 * 32, 33 * 512, 513 * 512, 513 * 10]


@pytest.mark.parametrize(
    "rung, layers",
    [("start", SMALL), ("deep", DEEP), ("large", LARGE), ("crops", LARGE)]
    + [(rung, WIDE) for rung in ("wide", "wide-crops", "wide-dropout")],
)
def test_a_rung_has_the_layers_it_says(branch, rung, layers):
    torch.manual_seed(0)
    net = branch.experiments.network(rung, 1, 10)
    side = 64 if layers is LARGE else 32
    assert net(torch.rand(2, 1, side, side)).shape == (2, 10)
    found = [layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert [sum(p.numel() for p in layer.parameters()) for layer in found] == layers
    for layer in found[:-1]:
        spread = (2 / layer.weight[0].numel()) ** 0.5
        assert layer.weight.std().item() == pytest.approx(spread, rel=0.25)
        assert (layer.bias == 0).all()


def test_the_first_rung_is_lenets_rewrite(branch, every_branch):
    """With the same weights, the scores of LeNet's with all its ablations."""
    lenet = every_branch["LeNet"].model.LeNet5(1, 10, "relu", "max", "softmax", "full")
    net = branch.experiments.network("start", 1, 10)
    ours = [layer for layer in net if isinstance(layer, (nn.Conv2d, nn.Linear))]
    theirs = lenet.C1, lenet.C3, lenet.C5, lenet.F6, lenet.output
    for layer, source in zip(ours, theirs, strict=True):
        layer.weight.data = source.weight.data.view(layer.weight.shape)
        layer.bias.data = source.bias.data
    images = torch.randn(4, 1, 32, 32)
    torch.testing.assert_close(net(images), lenet(images))


@pytest.mark.parametrize("rung", ["wide-crops", "wide-dropout"])
def test_beside_the_ladder_one_thing_is_different_from_wide(branch, small, monkeypatch, rung):
    """And what is tested is what wide is tested on."""
    small(branch, 60, 20)
    watched = watch(monkeypatch, branch)
    for each in ("wide", rung):
        words = "--epochs", 1, "--batch-size", 30, "--rung", each
        assert branch("experiments.py", "ladder", *words).code == 0
    wide, other = watched[0], watched[3]
    (images, _), *_ = other.loader
    assert images.shape == (30, 1, 32, 32)
    shares = {drop.p for drop in other.model.modules() if isinstance(drop, nn.Dropout)}
    assert shares == ({0.5} if rung == "wide-dropout" else {0})
    raw = torch.arange(784, dtype=torch.uint8).view(1, 1, 28, 28)
    prepare = branch.experiments.prepare
    assert torch.equal(prepare(raw, 36)[..., 2:-2, 2:-2], prepare(raw, 32))
    assert [p.shape for p in wide.model.parameters()] == [p.shape for p in other.model.parameters()]


def test_every_rung_is_climbed_with_three_seeds(branch, small, monkeypatch, capsys):
    small(branch, 60, 20)
    watched = watch(monkeypatch, branch)
    printed = typed_twice(branch, capsys, "ladder", "--epochs", 1, "--batch-size", 30)
    rungs = [*branch.experiments.RUNGS]
    assert [(row["rung"], row["seed"]) for row in points_of(branch)] == [
        (rung, seed) for rung in rungs for seed in "012"
    ]
    for seen in watched:
        rung = seen.run.settings.rung
        (images, _), *_ = seen.loader
        side = 32 if rung in ("start", "wide", "deep") else 64
        assert images.shape == (30, 1, side, side)
        assert (images.min(), images.max()) == pytest.approx((-0.1, 1.175), abs=0.05)
        dropped = getattr(seen.model, "dropout", 0)
        assert dropped == (0.5 if rung == "dropout" else 0)
    for rung in rungs:
        own = [run for run in branch.runs().values() if run["settings"]["rung"] == rung]
        found = [100 * run["result"]["metrics"]["accuracy"] for run in own]
        words = f"{statistics.mean(found):.2f} ± {statistics.stdev(found):.2f}"
        assert f"{rung:<12} {words}" in printed
        assert all(run["result"]["split"] == "test" for run in own)
