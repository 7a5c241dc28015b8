"""The rectifier against torch.relu, and the networks against the papers and stock layers."""

import math
import statistics

from conftest import clean

import pytest
import torch
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
def lenet(every_branch):
    """The branch that this one builds on."""
    yield every_branch["LeNet"]
    clean(every_branch["LeNet"])


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


# The rectifier


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (9,), (2, 0, 3), (4, 3, 6, 5)], ids=str)
def test_the_rectifier_and_its_gradient_are_pytorchs(model, dtype, shape):
    """Exactly, where a is 0 or -0, too, and in the same layout in memory."""
    torch.manual_seed(0)
    a = torch.randn(shape, dtype=dtype)
    for zero in (0.0, -0.0):
        a = torch.where(torch.rand(shape) < 0.2, zero, a)
    for layout in (torch.contiguous_format, torch.channels_last)[: 1 + (a.dim() == 4)]:
        x, found = a.to(memory_format=layout), []
        gradient = torch.randn_like(x)
        for f in (model.relu, torch.relu):
            leaf = x.clone().requires_grad_()
            found.append((f(leaf), *torch.autograd.grad(f(leaf), leaf, gradient)))
            assert torch.equal(leaf, a)
        for ours, theirs in zip(*found):
            assert torch.equal(ours, theirs) and ours.dtype == dtype
            assert ours.stride() == theirs.stride()


def test_the_gradient_equals_finite_differences(model):
    """At the corner, 0 comes from below and 1 from above; torch.relu takes 0."""
    torch.manual_seed(0)
    a = torch.randn(4, 5, dtype=torch.float64)
    a = (a + 0.1 * a.sign()).requires_grad_()  # away from the corner
    assert torch.autograd.gradcheck(model.relu, a)
    assert torch.autograd.gradgradcheck(model.relu, a)
    assert torch.autograd.gradgradcheck(lambda a: model.relu(a) ** 3, a)
    for zero in (0.0, -0.0):
        a, h = torch.tensor(zero, dtype=torch.float64, requires_grad=True), 2.0**-20
        slopes = [(model.relu(a + step) - model.relu(a)) / step for step in (-h, h)]
        assert [*slopes, *torch.autograd.grad(model.relu(a), a)] == [0, 1, 0]


# LeNet-5


def test_it_differs_from_lenet_in_the_activation_alone(model, lenet):
    """The same scores, gradients and initial weights, with either."""
    images, labels = torch.rand(4, 1, 32, 32), torch.tensor([3, 1, 4, 1])
    for ours, theirs in (({"activation": "squash"}, {}), ({}, {"activation": "relu"})):
        found = []
        for module, knobs in ((model, ours), (lenet.model, theirs)):
            torch.manual_seed(7)
            net = module.LeNet5(**knobs)
            scores = net(images)
            gradients = torch.autograd.grad(F.cross_entropy(scores, labels), [*net.parameters()])
            found.append({**net.state_dict(), "scores": scores, **dict(enumerate(gradients))})
        assert found[0].keys() == found[1].keys()
        for key, value in found[0].items():
            assert torch.equal(value, found[1][key]) and value.abs().max() > 0


def test_every_activation_is_the_function_of_its_name(model):
    a = torch.linspace(-3, 3, 25, dtype=torch.float64)
    assert model.ACTIVATIONS.keys() == FUNCTIONS.keys()
    for name, (f, _) in FUNCTIONS.items():
        found = model.ACTIVATIONS[name](a).tolist()
        assert found == pytest.approx([f(value) for value in a.tolist()], rel=1e-12)
        assert model.LeNet5(activation=name)(torch.rand(2, 1, 32, 32)).isfinite().all()


def test_images_and_loss_are_those_of_lenet(train, lenet):
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    assert torch.equal(train.prepare(images), lenet.train.prepare(images))
    scores, labels = -100 * torch.rand(6, 10), torch.arange(6)
    assert torch.equal(train.equation_9(scores, labels), lenet.train.equation_9(scores, labels))


def test_the_default_run_is_lenets_but_for_the_activation(branch, lenet, small):
    """Same images, loss, optimizer, schedule: the same bits as LeNet's own --activation relu."""
    runs = []
    for each, more in ((branch, ()), (lenet, ("--activation", "relu"))):
        small(each)
        assert each("train.py", "--limit", 400, "--epochs", 2, "--seed", 3, *more).code == 0
        runs += each.runs().values()
    ours, theirs = (run["weights"] for run in runs)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert runs[0]["result"]["metrics"] == runs[1]["result"]["metrics"]


# The networks of the experiments


def test_the_network_of_four_layers(model):
    net = model.ConvNet()
    assert len([p for p in net.parameters() if p.dim() > 1]) == 4
    expected = {"conv1": (32, 32, 32), "conv2": (32, 16, 16), "conv3": (64, 8, 8), "fc4": (10,)}
    assert output_shapes(net, 3, 32, 32) == expected
    kernels = 3 * 32 + 32 * 32 + 32 * 64
    assert count(net) == 25 * kernels + 32 + 32 + 64 + 64 * 16 * 10 + 10
    narrow = output_shapes(model.ConvNet(1, 7, 0.25, "tanh"), 1, 32, 32)
    assert [*narrow.values()] == [(8, 32, 32), (8, 16, 16), (16, 8, 8), (7,)]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_of_four_layers_equals_stock_layers(model, channels):
    torch.manual_seed(0)
    net, pool = model.ConvNet(channels, 10, 0.5, "sigmoid", "scaled"), nn.MaxPool2d(2)
    layers = [(layer, nn.Sigmoid(), pool) for layer in (net.conv1, net.conv2, net.conv3)]
    stock = nn.Sequential(*sum(layers, ()), nn.Flatten(), net.fc4)
    images = torch.randn(5, channels, 32, 32)
    torch.testing.assert_close(net(images), stock(images))


@pytest.mark.parametrize("channels", [1, 3])
def test_both_starts_have_their_standard_deviations(model, channels):
    """A hundredth, as in AlexNet, or one over the root of the number of inputs."""
    torch.manual_seed(0)
    fan_in = {"conv1": 25 * channels, "conv2": 25 * 32, "conv3": 25 * 32, "fc4": 4 * 4 * 64}
    for start in ("fixed", "scaled"):
        for name, layer in model.ConvNet(channels, start=start).named_children():
            deviation = 0.01 if start == "fixed" else 1 / math.sqrt(fan_in[name])
            assert layer.weight.std().item() == pytest.approx(deviation, rel=0.1)
            assert layer.weight.mean().abs() < deviation / 5
            assert (layer.bias == 0).all()


def test_agarap_has_the_layers_of_his_tables(model):
    """84,202 parameters in Table 1; 662,026 in Table 2, which are three hidden layers."""
    cnn, ffnn = model.CNN(), model.FFNN()
    assert count(cnn) == 84_202 and count(ffnn) == 662_026
    maps = {"conv1": (32, 14, 14), "conv2": (32, 12, 12), "conv3": (64, 4, 4), "conv4": (64, 2, 2)}
    assert output_shapes(cnn, 1, 16, 16) == maps | {"fc5": (256,), "fc6": (10,)}
    assert [*output_shapes(ffnn, 1, 16, 16).values()] == [(512,), (512,), (512,), (10,)]


@pytest.mark.parametrize("classifier", ["relu", "softmax"])
def test_agaraps_networks_equal_stock_layers(model, classifier):
    torch.manual_seed(0)
    cnn, ffnn = (kind(classifier=classifier).eval() for kind in (model.CNN, model.FFNN))
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


def test_agaraps_dropout_is_for_training_alone(model, monkeypatch):
    seen = []

    def dropout(x, share, training):
        seen.append(share if training else 0)
        return x

    monkeypatch.setattr(model.F, "dropout", dropout)
    images = torch.randn(2, 1, 16, 16)
    for net, shares in ((model.CNN(), [0.25, 0.25, 0.5]), (model.FFNN(), [0.1, 0.1, 0.1])):
        net(images)
        net.eval()(images)
        assert seen == [*shares, 0, 0, 0]
        seen.clear()


def test_agaraps_start_is_that_of_keras(model):
    """Uniform in ±sqrt(6 / (inputs + outputs)) of Glorot and Bengio, and no biases."""
    torch.manual_seed(0)
    for net in (model.CNN(), model.FFNN()):
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
def test_flat_and_dead_units_are_counted_one_by_one(branch, model, name):
    """By finite differences, where two maps and a unit are pushed far to the sides."""
    torch.manual_seed(0)
    net = Small(model.ACTIVATIONS[name]).double()
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


def test_a_layer_with_large_negative_biases_is_dead_and_gradients_are_autograds(branch, model):
    torch.manual_seed(0)
    net, images, labels = model.ConvNet(1, 10, 0.25), torch.rand(6, 1, 32, 32), torch.arange(6)
    nn.init.constant_(net.conv2.bias, -1000.0)
    found = branch.experiments.measure(net, images, labels)
    assert found["flat_conv2"] == found["dead_conv2"] == 1 and found["dead_conv1"] < 1
    assert len(found) == 9 and not any("fc4" in column for column in found)
    assert [found[f"gradient_conv{n}"] for n in (1, 2, 3)] == [0, 0, 0]
    net = model.ConvNet(1, 10, 0.25, "tanh", "scaled")
    found = branch.experiments.measure(net, images, labels)
    assert not any(layer._forward_hooks for layer in net.children())
    F.cross_entropy(net(images), labels).backward()
    for name in ("conv1", "conv2", "conv3"):
        squares = sum(g**2 for g in getattr(net, name).weight.grad.flatten().tolist())
        assert found[f"gradient_{name}"] == pytest.approx(math.sqrt(squares), rel=1e-5)


def test_what_cannot_be_compared_is_refused(branch, small, tmp_path):
    small(branch, 60, 20)
    for words, named in ((("--data", tmp_path), "fashion-mnist"), (("--limit", 2), "--limit 2")):
        done = branch("experiments.py", "classifier", *words)
        assert done.code == 2 and named in done.err and not branch.runs()


def test_the_recipes_of_the_experiments_are_the_papers(branch):
    """As far as they are known: Figure 1 of AlexNet, and Agarap's code."""
    lab = branch.experiments
    race, agarap = lab.RACE["paper"], lab.CLASSIFIER["paper"]
    assert (race.data, race.error, race.width, race.start) == ("cifar10", 0.25, 1, "fixed")
    assert lab.EXPERIMENTS["scaled"][0] is lab.EXPERIMENTS["activation"][0]
    assert lab.EXPERIMENTS["scaled"][1]["paper"] == race.but(start="scaled")
    assert (agarap.folds, agarap.epochs, agarap.batch_size, agarap.lr) == (10, 32, 256, 1e-3)
