"""The experiment with moved images: numpy, stock layers, small data."""

import statistics

import numpy
import torch
from test_relu_experiments import points_of, typed_twice
from torch.nn import functional as F

NAME = "LeNet"


def test_moved_images_come_in_from_the_left(branch):
    images = torch.rand(2, 1, 5, 6)
    for pixels in range(4):
        expected = numpy.roll(images.numpy(), pixels, axis=3)
        expected[..., :pixels] = -0.1  # the background
        assert (branch.experiments.moved(images, pixels).numpy() == expected.astype("f4")).all()


def test_the_fully_connected_network_has_one_hidden_layer(branch):
    net, images = branch.experiments.fully_connected(1, 10), torch.randn(4, 1, 32, 32)
    hidden, last = net[1], net[3]
    stock = F.linear(
        torch.tanh(F.linear(images.flatten(1), hidden.weight, hidden.bias)), last.weight
    )
    torch.testing.assert_close(net(images), stock + last.bias)
    assert sum(p.numel() for p in net.parameters()) == 1025 * 300 + 301 * 10


def test_accuracy_is_told_by_pixels_of_the_validation_images(branch, small, monkeypatch, capsys):
    small(branch, 60, 20)
    monkeypatch.setattr(branch.experiments, "PIXELS", (0, 4))
    printed = typed_twice(branch, capsys, "shifts", "--epochs", 1, "--batch-size", 30)
    assert [(row["network"], row["seed"]) for row in points_of(branch)] == [
        (network, seed) for network in ("lenet", "full") for seed in "012"
    ]
    for network in ("lenet", "full"):
        runs = [run for run in branch.runs().values() if run["settings"]["network"] == network]
        assert {run["settings"]["lr"] for run in runs} == {branch.experiments.RATES[network]}
        assert all(run["result"]["split"] == "validation" for run in runs)
        for pixels in (0, 4):
            found = [100 * run["result"]["metrics"][f"moved_{pixels}"] for run in runs]
            words = f"{statistics.mean(found):.2f} ± {statistics.stdev(found):.2f}"
            assert f"{network:<6} {pixels} {words}\n" in printed
        best = [run["result"]["chosen_by"]["accuracy"] for run in runs]
        assert best == [run["result"]["metrics"]["moved_0"] for run in runs]
