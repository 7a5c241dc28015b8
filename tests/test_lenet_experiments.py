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
    units = torch.tanh(F.linear(images.flatten(1), hidden.weight, hidden.bias))
    torch.testing.assert_close(net(images), F.linear(units, last.weight, last.bias))
    assert sum(p.numel() for p in net.parameters()) == 1025 * 300 + 301 * 10


def test_accuracy_is_told_by_pixels_of_the_validation_images(branch, small, monkeypatch, capsys):
    """LeNet-5's runs are those of train.py, and none is trained twice."""
    small(branch, 60, 20)
    assert branch("train.py", "--epochs", 1, "--batch-size", 30).code == 0
    monkeypatch.setattr(branch.experiments, "PIXELS", (0, 4))
    printed = typed_twice(branch, capsys, "shifts", "--epochs", 1, "--batch-size", 30)
    assert printed.count("finished before") == 1
    names = (
        "laptop-epochs-1-batch-size-30",
        "laptop-experiment-shifts-epochs-1-batch-size-30-lr-0.001",
    )
    runs = branch.runs()
    assert [*runs] == sorted(f"{name}-seed{seed}" for name in names for seed in range(3))
    assert len(points_of(branch)) == 6
    for label, name in zip(("LeNet-5", "fully connected"), names):
        found = [100 * runs[f"{name}-seed{n}"]["result"]["chosen_by"]["accuracy"] for n in range(3)]
        words = f"{statistics.mean(found):.2f} ± {statistics.stdev(found):.2f}"
        assert f"{label:<15} 0 {words}\n" in printed and f"{label:<15} 4 " in printed
