"""The networks that the rectifier is compared in, against the papers and stock layers."""

import math
import statistics

import pytest
import torch
from test_relu_experiments import points_of, typed_twice
from torch import nn
from torch.nn import functional as F

NAME = "ReLU"
NORMAL = statistics.NormalDist()
# The papers' definitions, and their steepest slopes, in plain Python.
FUNCTIONS = {
    "relu": (lambda a: max(0.0, a), 1),
    "squash": (lambda a: 1.7159 * math.tanh(2 / 3 * a), 1.7159 * 2 / 3),
    "tanh": (math.tanh, 1),
    "sigmoid": (lambda a: 1 / (1 + math.exp(-a)), 1 / 4),
    "leaky": (lambda a: a if a > 0 else 0.01 * a, 1),
    "gelu": (lambda a: a * NORMAL.cdf(a), NORMAL.cdf(2**0.5) + 2**0.5 * NORMAL.pdf(2**0.5)),
}


@pytest.fixture
def networks(branch):
    return branch.networks


def count(module):
    return sum(p.numel() for p in module.parameters())


def output_shapes(net, *image):
    """{stage: shape of its output} for one image."""
    shapes = {}
    for name, stage in net.named_children():
        stage.register_forward_hook(
            lambda _, __, output, name=name: shapes.update({name: tuple(output.shape[1:])})
        )
    net.eval()(torch.zeros(1, *image))
    return shapes


def test_every_activation_is_the_function_of_its_name(networks, model):
    a = torch.linspace(-3, 3, 25, dtype=torch.float64)
    assert networks.ACTIVATIONS.keys() == FUNCTIONS.keys()
    for name, (f, _) in FUNCTIONS.items():
        for activations in (networks.ACTIVATIONS, model.ACTIVATIONS):
            found = activations.get(name, networks.ACTIVATIONS[name])(a).tolist()
            assert found == pytest.approx([f(value) for value in a.tolist()], rel=1e-12)


def test_the_network_of_four_layers(networks):
    net = networks.ConvNet()
    assert len([p for p in net.parameters() if p.dim() > 1]) == 4
    expected = {"conv1": (32, 32, 32), "conv2": (32, 16, 16), "conv3": (64, 8, 8), "fc4": (10,)}
    assert output_shapes(net, 3, 32, 32) == expected
    kernels = 3 * 32 + 32 * 32 + 32 * 64
    assert count(net) == 25 * kernels + 32 + 32 + 64 + 64 * 16 * 10 + 10
    narrow = output_shapes(networks.ConvNet(1, 7, 0.25, "tanh"), 1, 32, 32)
    assert [*narrow.values()] == [(8, 32, 32), (8, 16, 16), (16, 8, 8), (7,)]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_of_four_layers_equals_stock_layers(networks, channels):
    torch.manual_seed(0)
    net, pool = networks.ConvNet(channels, 10, 0.5, "sigmoid", "scaled"), nn.MaxPool2d(2)
    layers = [(layer, nn.Sigmoid(), pool) for layer in (net.conv1, net.conv2, net.conv3)]
    stock = nn.Sequential(*sum(layers, ()), nn.Flatten(), net.fc4)
    images = torch.randn(5, channels, 32, 32)
    torch.testing.assert_close(net(images), stock(images))


@pytest.mark.parametrize("channels", [1, 3])
def test_both_starts_have_their_standard_deviations(networks, channels):
    """A hundredth, as in AlexNet, or one over the root of the number of inputs."""
    torch.manual_seed(0)
    fan_in = {"conv1": 25 * channels, "conv2": 25 * 32, "conv3": 25 * 32, "fc4": 4 * 4 * 64}
    for start in ("fixed", "scaled"):
        for name, layer in networks.ConvNet(channels, start=start).named_children():
            deviation = 0.01 if start == "fixed" else 1 / math.sqrt(fan_in[name])
            assert layer.weight.std().item() == pytest.approx(deviation, rel=0.1)
            assert layer.weight.mean().abs() < deviation / 5
            assert (layer.bias == 0).all()


def test_agarap_has_the_layers_of_his_tables(networks):
    """84,202 parameters in Table 1; 662,026 in Table 2, which are three hidden layers."""
    cnn, ffnn = networks.CNN(), networks.FFNN()
    assert count(cnn) == 84_202 and count(ffnn) == 662_026
    maps = {"conv1": (32, 14, 14), "conv2": (32, 12, 12), "conv3": (64, 4, 4), "conv4": (64, 2, 2)}
    assert output_shapes(cnn, 1, 16, 16) == maps | {"fc5": (256,), "fc6": (10,)}
    assert [*output_shapes(ffnn, 1, 16, 16).values()] == [(512,), (512,), (512,), (10,)]


@pytest.mark.parametrize("classifier", ["relu", "softmax"])
def test_agaraps_networks_equal_stock_layers(networks, classifier):
    torch.manual_seed(0)
    cnn, ffnn = (kind(classifier=classifier).eval() for kind in (networks.CNN, networks.FFNN))
    relu, pool, flatten = nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    end = relu if classifier == "relu" else nn.Identity()
    features = (cnn.conv1, relu, cnn.conv2, relu, pool, cnn.conv3, relu, cnn.conv4, relu, pool)
    hidden = (flatten, ffnn.fc1, relu, ffnn.fc2, relu, ffnn.fc3, relu)
    images = torch.randn(6, 1, 16, 16)
    for net, stock in (
        (cnn, nn.Sequential(*features, flatten, cnn.fc5, relu, cnn.fc6, end)),
        (ffnn, nn.Sequential(*hidden, ffnn.fc4, end)),
    ):
        scores = net(images)
        torch.testing.assert_close(scores, stock(images))
        assert (scores.min() == 0) == (classifier == "relu")


def test_agaraps_dropout_is_for_training_alone(networks, monkeypatch):
    seen = []

    def dropout(x, share, training):
        seen.append(share if training else 0)
        return x

    monkeypatch.setattr(networks.F, "dropout", dropout)
    images = torch.randn(2, 1, 16, 16)
    for net, shares in ((networks.CNN(), [0.25, 0.25, 0.5]), (networks.FFNN(), [0.1, 0.1, 0.1])):
        net(images)
        net.eval()(images)
        assert seen == [*shares, 0, 0, 0]
        seen.clear()


def test_agaraps_start_is_that_of_keras(networks):
    """Uniform in ±sqrt(6 / (inputs + outputs)) of Glorot and Bengio, and no biases."""
    torch.manual_seed(0)
    for net in (networks.CNN(), networks.FFNN()):
        for layer in net.children():
            outputs, inputs, *kernel = layer.weight.shape
            limit = math.sqrt(6 / ((inputs + outputs) * math.prod(kernel)))
            assert 0.98 * limit < layer.weight.abs().max() <= limit
            assert layer.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.1)
            assert (layer.bias == 0).all()


# What an experiment measures of a network


class Small(nn.Module):
    """A network of two layers that an activation follows, and one that none does."""

    def __init__(self, activation):
        super().__init__()
        self.activation = activation
        self.conv = nn.Conv2d(1, 4, 3)
        self.hidden = nn.Linear(4 * 16, 7)
        self.last = nn.Linear(7, 3)

    def forward(self, x):
        self.sums = [self.conv(x)]
        x = self.activation(self.sums[0]).flatten(1)
        self.sums.append(self.hidden(x))
        return self.last(self.activation(self.sums[1]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_flat_and_dead_units_are_counted_one_by_one(branch, networks, name):
    """By finite differences, where two maps and a unit are pushed far to the sides."""
    torch.manual_seed(0)
    net = Small(networks.ACTIVATIONS[name]).double()
    with torch.no_grad():
        net.conv.weight.mul_(6)
        net.conv.bias += torch.tensor([-100.0, 100, 0, 0])
        net.hidden.weight.mul_(0.3)
        net.hidden.bias[:3] = torch.tensor([-100.0, 20, -100])
    images, labels = torch.randn(5, 1, 6, 6).double(), torch.tensor([0, 1, 2, 0, 1])
    found = branch.experiments.measure(net, images, labels)
    assert not any(p.grad is not None for p in net.parameters())
    f, steepest = FUNCTIONS[name]
    for layer, sums in zip(("conv", "hidden"), net.sums, strict=True):
        units = sums.detach().transpose(0, 1).flatten(1).tolist()
        slopes = [[abs(f(a + 1e-4) - f(a - 1e-4)) / 2e-4 for a in unit] for unit in units]
        flat = [[slope < steepest / 20 for slope in unit] for unit in slopes]
        share = sum(map(sum, flat)) / sum(map(len, flat))
        assert found[f"flat_{layer}"] == pytest.approx(share) and 0 < share < 1
        dead = sum(map(all, flat)) / len(flat)
        assert found[f"dead_{layer}"] == pytest.approx(dead) and 0 < dead < 1


def test_a_layer_with_large_negative_biases_is_dead_and_gradients_are_autograds(branch, networks):
    torch.manual_seed(0)
    net, images, labels = networks.ConvNet(1, 10, 0.25), torch.rand(6, 1, 32, 32), torch.arange(6)
    nn.init.constant_(net.conv2.bias, -1000.0)
    found = branch.experiments.measure(net, images, labels)
    assert found["flat_conv2"] == found["dead_conv2"] == 1 and found["dead_conv1"] < 1
    assert len(found) == 9 and not any("fc4" in column for column in found)
    assert [found[f"gradient_conv{n}"] for n in (1, 2, 3)] == [0, 0, 0]
    net = networks.ConvNet(1, 10, 0.25, "tanh", "scaled")
    found = branch.experiments.measure(net, images, labels)
    assert not any(layer._forward_hooks for layer in net.children())
    F.cross_entropy(net(images), labels).backward()
    for name in ("conv1", "conv2", "conv3"):
        squares = sum(g**2 for g in getattr(net, name).weight.grad.flatten().tolist())
        assert found[f"gradient_{name}"] == pytest.approx(math.sqrt(squares), rel=1e-5)


# Plain networks


@pytest.mark.parametrize("name, f", [("relu", F.relu), ("tanh", torch.tanh)])
def test_a_plain_network_equals_stock_layers(networks, name, f):
    net, x = networks.Plain(1, 10, 3, 20, name), torch.randn(5, 1, 32, 32)
    stock = net.fc3(f(net.fc2(f(net.fc1(x.flatten(1))))))
    torch.testing.assert_close(net(x), stock)
    assert count(net) == 1025 * 20 + 21 * 20 + 21 * 10


def test_the_initial_weights_keep_signal_or_gradient(networks):
    """By what they are for: through ReLU the mean square stays as it is, layer by layer."""
    torch.manual_seed(0)
    relu = networks.Plain(1, 10, 16, 512)
    x = torch.randn(64, 512)
    for layer in [*relu.children()][1:-1]:
        x = F.relu(layer(x))
    assert 0.3 < x.square().mean().item() / 0.5 < 3
    tanh, sigmoid = (networks.Plain(1, 10, 2, 512, name) for name in ("tanh", "sigmoid"))
    for net, factor in ((tanh, 1), (sigmoid, 4)):
        limit = math.sqrt(2 / (1024 + 512))
        assert net.fc1.weight.std().item() == pytest.approx(factor * limit, rel=0.02)
        assert (net.fc1.bias == 0).all()
    with pytest.raises(ValueError, match="depth"):
        networks.Plain(depth=0)


def test_each_depth_trains_at_its_best_rate(branch, small, monkeypatch, capsys):
    """The rate is chosen on a part of the images, by the loss; the finals have three seeds."""
    lab = branch.experiments
    small(branch, 60, 20)
    for name, value in (("IMAGES", 60), ("DEPTHS", (2, 5)), ("PLAIN", ("sigmoid", "relu"))):
        monkeypatch.setattr(lab, name, value)
    monkeypatch.setattr(lab, "DEPTH_RATES", (0.001, 0.01))
    printed = typed_twice(branch, capsys, "depth", "--epochs", 1, "--batch-size", 10)
    points = points_of(branch)
    losses = {
        (row["activation"], row["depth"], row["lr"]): float(row["train_loss"]) for row in points[:8]
    }
    assert [row["limit"] for row in points] == 8 * ["15"] + 12 * [""]
    for row in points[8:]:
        key = row["activation"], row["depth"]
        assert row["lr"] == min(("0.001", "0.01"), key=lambda lr: losses[*key, lr])
    own = [float(row["train_loss"]) for row in points if row["depth"] == "5" and not row["limit"]]
    mean, spread = statistics.mean(own[3:]), statistics.stdev(own[3:])
    assert f"{mean:.3f} ± {spread:.3f}" in printed and "relu      5 layers, lr" in printed
