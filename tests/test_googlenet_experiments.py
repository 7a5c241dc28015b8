"""GoogLeNet and VGG with equal arithmetic: VGG's own branch, small data."""

from types import SimpleNamespace

import numpy
import pytest
import torch
from test_relu_experiments import watch
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


def test_the_budgets_are_equal(branch, small, monkeypatch):
    """About 2 and 8 million multiply-accumulates; one recipe but for the size of the images."""
    small(branch, 20, 10)
    watched = watch(monkeypatch, branch)
    for name, (side, rate, widths) in branch.experiments.NETWORKS.items():
        for width, budget in zip(widths, (2.1e6, 8.25e6), strict=True):
            recipe = branch.experiments.BUDGETS["laptop"].but(epochs=1, batch_size=10)
            run = branch.experiments.fit(recipe.but(network=name, width=width, lr=rate))
            seen, macs = watched[-1], run.result["macs"]
            (images, _), *_ = seen.loader
            assert images.shape == (10, 1, side, side) and macs == pytest.approx(budget, rel=0.03)
            assert seen.optimizer.param_groups[0]["weight_decay"] == 2e-4
            assert not getattr(seen.model, "aux", False)


def test_every_network_has_three_seeds_at_each_width(branch, monkeypatch, capsys):
    seen = []

    def fit(recipe):
        seen.append((recipe.network, recipe.width, recipe.lr, recipe.seed))
        row = {"epoch": 1, "train_accuracy": 0.5, "validation_accuracy": recipe.width}
        metrics = {"accuracy": recipe.width + recipe.seed / 100}
        result = {"metrics": metrics, "macs": 2_147_152, "parameters": 88_288}
        return SimpleNamespace(settings=recipe, history=[row], result=result)

    with branch.imported():
        monkeypatch.setattr(branch.experiments, "fit", fit)
        monkeypatch.setattr(branch.experiments, "accuracies", lambda run: [0.5, run.settings.width])
        branch.experiments.budgets(branch.experiments.BUDGETS["laptop"])
    assert seen == [
        (name, width, rate, seed)
        for name, (_, rate, widths) in branch.experiments.NETWORKS.items()
        for width in widths
        for seed in range(3)
    ]
    lines = capsys.readouterr().out.splitlines()
    moved = "50.00 ± 0.00  12.00 ± 0.00"
    assert (
        f"GoogLeNet       0.12    2,147,152   88,288  50.00 ± 0.00  13.00 ± 1.00    {moved}"
        in lines
    )


def test_global_average_pooling_replaces_vggs_hidden_layers(branch):
    """The last layer reads the mean of each of the last feature maps, in any order of places."""
    torch.manual_seed(0)
    net = branch.experiments.vgg(1, 10, 64, 0.115, average=True).eval()
    (last,) = (part for part in net if isinstance(part, nn.Linear))
    features = net[:-3](torch.randn(3, 1, 64, 64))
    assert features.shape == (3, last.in_features, 2, 2) == (3, round(0.115 * 512), 2, 2)
    torch.testing.assert_close(net[-3:](features), last(features.mean((2, 3))))


def test_images_are_moved_to_the_right(branch, small, monkeypatch):
    """On a background of zeros, before anything else is done to them."""
    small(branch, 20, 30)
    recipe = branch.experiments.BUDGETS["laptop"].but(epochs=1, batch_size=10, network="VGG-32")
    seen = []
    with branch.imported():
        run = branch.experiments.fit(recipe.but(width=0.11, lr=0.01))
        monkeypatch.setattr(branch.experiments, "prepare", lambda images, *_: images.float())
        monkeypatch.setattr(
            branch.experiments,
            "evaluate",
            lambda _, loader: seen.append([*loader]) or {"accuracy": len(seen) / 10},
        )
        assert branch.experiments.accuracies(run) == [0.1, 0.2, 0.3, 0.4]
    ((images, labels),), *moved = seen
    for pixels, ((found, same),) in zip((2, 4, 6), moved, strict=True):
        expected = numpy.roll(images.numpy(), pixels, axis=3)
        expected[..., :pixels] = 0
        assert (found.numpy() == expected).all() and torch.equal(same, labels)
