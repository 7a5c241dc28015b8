"""GoogLeNet and VGG with equal arithmetic: VGG's own branch, small data."""

import statistics

import pytest
import torch
from test_relu_experiments import points_of, typed_twice, watch
from torch import nn

NAME = "GoogLeNet"


@pytest.mark.parametrize("side, width", [(32, 0.11), (64, 0.056)])
def test_vgg_is_that_of_its_branch(branch, every_branch, side, width):
    """With the same weights, the same scores; the initial weights are Glorot's, biases 0."""
    torch.manual_seed(0)
    stock = every_branch["VGG"].model.VGG(1, 10, side, width, "A").eval()
    net = branch.experiments.vgg(1, 10, side, width).eval()
    layers = [part for part in net if isinstance(part, (nn.Conv2d, nn.Linear))]
    for ours, theirs in zip(layers, stock.children(), strict=True):
        assert ours.weight.std().item() == pytest.approx(theirs.weight.std().item(), rel=0.25)
        assert not ours.bias.any()
        ours.load_state_dict(theirs.state_dict())
    images = torch.randn(3, 1, side, side)
    torch.testing.assert_close(net(images), stock(images))
    assert [part.p for part in net if isinstance(part, nn.Dropout)] == [stock.dropout] * 2


def test_the_budgets_are_equal_and_every_network_has_three_seeds(
    branch, small, monkeypatch, capsys
):
    """About 2, 4 and 8 million multiply-accumulates; one recipe but for the size of the images."""
    small(branch, 20, 10)
    watched = watch(monkeypatch, branch)
    printed = typed_twice(branch, capsys, "budgets", "--epochs", 1, "--batch-size", 20)
    networks = branch.experiments.NETWORKS
    assert [(row["network"], float(row["width"]), row["seed"]) for row in points_of(branch)] == [
        (name, width, seed)
        for name, (_, widths) in networks.items()
        for width in widths
        for seed in "012"
    ]
    for seen in watched:
        (images, _), *_ = seen.loader
        assert images.shape == (20, 1, *[networks[seen.run.settings.network][0]] * 2)
        assert seen.optimizer.param_groups[0]["weight_decay"] == 2e-4
        assert not getattr(seen.model, "aux", False)
    macs = {}
    for name, (_, widths) in networks.items():
        for place, width in enumerate(widths):
            own = [
                run["result"]
                for run in branch.runs().values()
                if run["settings"]["network"] == name and run["settings"]["width"] == width
            ]
            macs.setdefault(place, []).append(own[0]["macs"])
            found = [100 * result["metrics"]["accuracy"] for result in own]
            words = f"{statistics.mean(found):.2f} ± {statistics.stdev(found):.2f}"
            (line,) = [
                line for line in printed.splitlines() if line.startswith(f"{name:<15} {width:<5g}")
            ]
            assert line.endswith(words) and f"{own[0]['macs']:,}" in line
    for budget, found in zip((2.1e6, 4.15e6, 8.25e6), macs.values()):
        assert found == pytest.approx([budget] * 3, rel=0.03)
