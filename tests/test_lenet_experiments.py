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


def test_a_distorted_image_is_moved_scaled_squeezed_and_sheared(branch):
    """A ramp is sampled exactly, so that an image's pixels tell where they come from."""
    height, width, share, pixels = 24, 32, 0.08, 0.75
    ramps = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
    torch.manual_seed(0)
    images = torch.stack(ramps).float().expand(400, 2, height, width)
    inner = branch.vision.distort(images, pixels, share)[..., 4:-4, 4:-4]
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    across, down = (inner.mean((2, 3)) - middle).T
    (right, none), (shear, below) = (
        inner.diff(dim=dim).flatten(2).median(2).values.T for dim in (3, 2)
    )
    for found, expected in ((inner.diff(dim=3)[:, 0], right), (inner.diff(dim=2)[:, 0], shear)):
        torch.testing.assert_close(
            found, expected[:, None, None].expand_as(found), rtol=0, atol=1e-4
        )
    assert none.abs().max() < 1e-4  # sheared horizontally alone
    squeeze = (right / below).sqrt() - 1
    scale = right / (1 + squeeze) - 1
    draws = torch.stack([across, down, scale, squeeze, shear])
    limits = torch.tensor([pixels, pixels, share, share, share])
    reached = (draws.abs() / limits[:, None]).amax(1)
    assert (reached < 1.001).all() and (reached > 0.95).all()
    assert (torch.corrcoef(draws) - torch.eye(5)).abs().max() < 0.2


def test_the_fully_connected_network_has_one_hidden_layer(branch):
    net, images = branch.experiments.fully_connected(1, 10), torch.randn(4, 1, 32, 32)
    hidden, last = net[1], net[3]
    units = torch.tanh(F.linear(images.flatten(1), hidden.weight, hidden.bias))
    torch.testing.assert_close(net(images), F.linear(units, last.weight, last.bias))
    assert sum(p.numel() for p in net.parameters()) == 1025 * 300 + 301 * 10


def test_accuracy_is_told_by_pixels_of_the_validation_images(branch, small, monkeypatch, capsys):
    """LeNet-5's runs are those of train.py, and none is trained twice."""
    small(branch, 60, 20)
    assert branch("train.py", "--epochs", 1, "--batch-size", 30, "--no-distort").code == 0
    monkeypatch.setattr(branch.experiments, "PIXELS", (0, 4))
    printed = typed_twice(branch, capsys, "shifts", "--epochs", 1, "--batch-size", 30)
    assert printed.count("finished before") == 1
    words, rate = "epochs-1-batch-size-30", "-lr-0.001"
    names = {
        "LeNet-5": f"laptop-{words}-no-distort",
        "LeNet-5, distorted": f"laptop-{words}",
        "fully connected": f"laptop-experiment-shifts-{words}{rate}-no-distort",
        "fully connected, distorted": f"laptop-experiment-shifts-{words}{rate}",
    }
    runs = branch.runs()
    assert {*runs} == {f"{name}-seed{seed}" for name in names.values() for seed in range(3)}
    assert len(points_of(branch)) == 12
    for label, name in names.items():
        found = [100 * runs[f"{name}-seed{n}"]["result"]["chosen_by"]["accuracy"] for n in range(3)]
        words = f"{statistics.mean(found):.2f} ± {statistics.stdev(found):.2f}"
        assert f"{label:<26} 0 {words}\n" in printed and f"{label:<26} 4 " in printed
