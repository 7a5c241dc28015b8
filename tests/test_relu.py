"""The rectifier against torch.relu, networks against stock layers, experiments on small images."""

import csv
import math
import shutil
import statistics
from types import SimpleNamespace

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from conftest import run_python

NAME = "ReLU"
EXPERIMENTS = ("activation", "scaled", "dead", "classifier")
SHAPES = [(), (0,), (9,), (2, 0, 3), (4, 3, 6, 5)]
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
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_rectifier_and_its_gradient_are_pytorchs(model, dtype, shape, layout):
    """Exactly, where a is 0 or -0, too."""
    torch.manual_seed(0)
    a = torch.randn(shape, dtype=dtype)
    for zero in (0.0, -0.0):
        a = torch.where(torch.rand(shape) < 0.2, zero, a)
    if a.dim() == 4:
        a = a.to(memory_format=layout)
    before = a.clone()
    gradient = torch.randn_like(a)
    found = []
    for f in (model.relu, torch.relu):
        x = f(a.requires_grad_())
        found.append((x, *torch.autograd.grad(x, a, gradient)))
    for ours, theirs in zip(*found):
        assert torch.equal(ours, theirs) and ours.dtype == dtype
        assert ours.stride() == theirs.stride()
    assert torch.equal(a, before)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_the_slope_at_zero_is_one_of_those_that_the_corner_leaves(model, zero):
    """0 comes from below, 1 from above; torch.relu takes 0."""
    a = torch.tensor(zero, dtype=torch.float64, requires_grad=True)
    h = 2.0**-20
    below = (model.relu(a) - model.relu(a - h)).item() / h
    above = (model.relu(a + h) - model.relu(a)).item() / h
    (slope,) = torch.autograd.grad(model.relu(a), a)
    assert (below, above) == (0, 1) and below <= slope <= above and slope == 0


def test_the_gradient_equals_finite_differences(model):
    torch.manual_seed(0)
    a = torch.randn(4, 5, dtype=torch.float64)
    a = (a + 0.1 * a.sign()).requires_grad_()  # away from the corner
    assert torch.autograd.gradcheck(model.relu, a)
    assert torch.autograd.gradgradcheck(model.relu, a)
    assert torch.autograd.gradgradcheck(lambda a: model.relu(a) ** 3, a)


# LeNet-5


def test_lenet_differs_from_lenet_in_the_activation_alone(model, lenet):
    """The same scores, gradients and initial weights, with either."""
    images, labels = torch.rand(4, 1, 32, 32), torch.tensor([3, 1, 4, 1])
    for ours, theirs in (({"activation": "squash"}, {}), ({}, {"activation": "relu"})):
        nets = []
        for module, knobs in ((model, ours), (lenet[1], theirs)):
            torch.manual_seed(7)
            nets.append(module.LeNet5(**knobs))
        weights = [net.state_dict() for net in nets]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
        scores = [net(images) for net in nets]
        for own in scores:
            F.cross_entropy(own, labels).backward()
        assert torch.equal(*scores)
        for here, there in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
            assert torch.equal(here.grad, there.grad) and there.grad.abs().max() > 0


def test_every_activation_is_the_function_of_its_name(model):
    a = torch.linspace(-3, 3, 25, dtype=torch.float64)
    assert model.ACTIVATIONS.keys() == FUNCTIONS.keys()
    for name, (f, _) in FUNCTIONS.items():
        found = model.ACTIVATIONS[name](a).tolist()
        assert found == pytest.approx([f(value) for value in a.tolist()], rel=1e-12)
        assert model.LeNet5(activation=name)(torch.rand(2, 1, 32, 32)).isfinite().all()


def test_images_and_loss_are_those_of_lenet(train, lenet):
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    assert torch.equal(train.prepare(images), lenet[2].prepare(images))
    scores, labels = -100 * torch.rand(6, 10), torch.arange(6)
    assert torch.equal(train.equation_9(scores, labels), lenet[2].equation_9(scores, labels))


def test_the_default_run_is_lenets_but_for_the_activation(folder, lenet):
    """Same images, loss, optimizer, schedule: the same bits as LeNet's own `--activation relu`."""
    words = ("--limit", 400, "--epochs", 2, "--seed", 3)
    for branch, more in ((folder, ()), (lenet[0], ("--activation", "relu"))):
        done = run_python(branch / "train.py", *words, *more)
        assert done.returncode == 0, done.stderr
    ours = folder / "checkpoints/ReLU/laptop-epochs-2-limit-400-seed3"
    theirs = lenet[0] / "checkpoints/LeNet/laptop-epochs-2-limit-400-activation-relu-seed3"
    ours, theirs = (
        torch.load(run / "weights.pt", weights_only=True)["weights"] for run in (ours, theirs)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# The networks of the experiments


def test_the_network_of_four_layers(model):
    net = model.ConvNet()
    assert [name for name, _ in net.named_children()] == ["conv1", "conv2", "conv3", "fc4"]
    assert len([p for p in net.parameters() if p.dim() > 1]) == 4
    expected = {"conv1": (32, 32, 32), "conv2": (32, 16, 16), "conv3": (64, 8, 8), "fc4": (10,)}
    assert output_shapes(net, 3, 32, 32) == expected
    kernels = 3 * 32 + 32 * 32 + 32 * 64
    assert count(net) == 25 * kernels + 32 + 32 + 64 + 64 * 16 * 10 + 10
    narrow = model.ConvNet(1, 7, 0.25, "tanh")
    assert [*output_shapes(narrow, 1, 32, 32).values()] == [
        (8, 32, 32),
        (8, 16, 16),
        (16, 8, 8),
        (7,),
    ]


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
    deviations = {
        "fixed": dict.fromkeys(fan_in, 0.01),
        "scaled": {name: 1 / math.sqrt(inputs) for name, inputs in fan_in.items()},
    }
    for start, expected in deviations.items():
        for name, layer in model.ConvNet(channels, start=start).named_children():
            assert layer.weight.std().item() == pytest.approx(expected[name], rel=0.1)
            assert layer.weight.mean().abs() < expected[name] / 5
            assert (layer.bias == 0).all()


def test_agarap_has_the_layers_of_his_tables(model):
    """84,202 parameters in Table 1; 662,026 in Table 2, which are three hidden layers."""
    cnn, ffnn = model.CNN(), model.FFNN()
    assert count(cnn) == 84_202 and count(ffnn) == 662_026
    assert output_shapes(cnn, 1, 16, 16) == {
        "conv1": (32, 14, 14),
        "conv2": (32, 12, 12),
        "conv3": (64, 4, 4),
        "conv4": (64, 2, 2),
        "fc5": (256,),
        "fc6": (10,),
    }
    *hidden, last = output_shapes(ffnn, 1, 16, 16).values()
    assert hidden == 3 * [(512,)] and last == (10,)


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


# The loss of a ReLU classifier


def kerass_loss(rows, labels):
    """Divided by their sum, kept from 0 and from 1, and the right one's logarithm: the mean."""
    losses = []
    for row, label in zip(rows, labels, strict=True):
        share = row[label] / sum(row) if sum(row) else 0.0
        losses.append(-math.log(min(max(share, 1e-7), 1 - 1e-7)))
    return sum(losses) / len(losses)


def test_the_loss_of_a_relu_classifier_equals_a_naive_loop(train):
    """And its gradient the loop's differences; some outputs are 0, or all but the right one."""
    torch.manual_seed(0)
    scores = torch.randn(8, 5, dtype=torch.float64).clamp(min=0)
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])
    scores[range(5), labels[:5]] += 0.5
    scores[5] = torch.tensor([2.0, 0, 0, 0, 0])
    scores[6] = torch.tensor([1.0, 0, 3, 0, 0])
    rows, right = scores.tolist(), labels.tolist()
    loss = train.normalized_cross_entropy(scores.requires_grad_(), labels)
    assert loss.item() == pytest.approx(kerass_loss(rows, right), rel=1e-12)
    loss.backward()
    h = 1e-6
    for i in range(5):
        for j in range(5):
            shifted = [[*row] for row in rows]
            shifted[i][j] += h
            up = kerass_loss(shifted, right)
            shifted[i][j] -= 2 * h
            difference = (up - kerass_loss(shifted, right)) / (2 * h)
            assert scores.grad[i, j].item() == pytest.approx(difference, rel=1e-6, abs=1e-9)
    single = train.normalized_cross_entropy(scores.detach().float(), labels)
    assert single.item() == pytest.approx(loss.item(), rel=1e-5)


def test_an_image_whose_right_output_is_silent_teaches_nothing(train):
    """If all of them are, too, and the other images of the batch do not suffer."""
    scores = torch.tensor([[0.0, 0, 0], [2, 0, 5], [0, 3, 1]], requires_grad=True)
    labels = torch.tensor([1, 1, 1])
    loss = train.normalized_cross_entropy(scores, labels)
    expected = (-2 * math.log(1e-7) - math.log(3 / 4)) / 3
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert (scores.grad[:2] == 0).all()
    assert scores.grad[2].tolist() == pytest.approx([1 / 12, 1 / 12 - 1 / 9, 1 / 12])


# The principal components


def test_principal_components_are_numpys(train):
    """Of the training images, 18x18 pixels; new images are brought to the same axes."""
    draws = numpy.random.default_rng(0)
    mixing = draws.normal(size=(324, 324))
    pixels = numpy.clip(128 + 3 * draws.normal(size=(500, 324)) @ mixing, 0, 255).round()
    old, new = (
        torch.tensor(part).to(torch.uint8).view(-1, 1, 18, 18)
        for part in (pixels[:400], pixels[400:])
    )
    components = train.principal_components(old)
    found = components(old)
    assert found.shape == (400, 1, 16, 16) and found.dtype == torch.float32
    mean, deviation = pixels[:400].mean(0), pixels[:400].std(0)
    scaled = (pixels - mean) / deviation
    _, spread, axes = numpy.linalg.svd(scaled[:400], full_matrices=False)
    expected = scaled @ axes[:256].T
    for part, theirs in ((found, expected[:400]), (components(new), expected[400:])):
        ours = part.double().flatten(1).numpy()
        sign = numpy.sign((found.double().flatten(1).numpy() * expected[:400]).sum(0))
        assert numpy.allclose(ours * sign, theirs, atol=1e-3)
    own = numpy.cov(found.double().flatten(1).numpy().T, bias=True)
    variances = own.diagonal()
    assert (numpy.diff(variances) < 0).all()
    assert numpy.allclose(variances, spread[:256] ** 2 / 400, rtol=1e-4)
    assert numpy.abs(own - numpy.diag(variances)).max() < 1e-4 * variances[0]


def test_a_pixel_that_is_the_same_in_all_images_says_nothing(train):
    torch.manual_seed(0)
    images = torch.randint(0, 256, (300, 1, 17, 17), dtype=torch.uint8)
    images[:, 0, 0, :5] = torch.tensor([0, 1, 37, 200, 255])
    components = train.principal_components(images)
    found = components(images)
    assert found.isfinite().all()
    changed = images.clone()
    changed[:, 0, 0, :5] = 9
    torch.testing.assert_close(components(changed), found, atol=1e-3, rtol=0)


# What is measured


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
def test_flat_and_dead_units_are_counted_one_by_one(model, train, name):
    """By finite differences, where two maps and a unit are pushed far to the sides."""
    torch.manual_seed(0)
    net = Small(model.ACTIVATIONS[name]).double()
    with torch.no_grad():
        net.conv.weight.mul_(6)
        net.conv.bias += torch.tensor([-100.0, 100, 0, 0])
        net.hidden.weight.mul_(0.3)
        net.hidden.bias[:3] = torch.tensor([-100.0, 20, -100])
    images, labels = torch.randn(5, 1, 6, 6).double(), torch.tensor([0, 1, 2, 0, 1])
    found = train.measure(net, images, labels)
    assert not any(p.grad is not None for p in net.parameters())
    f, steepest = FUNCTIONS[name]
    for layer, sums in zip(("conv", "hidden"), net.sums, strict=True):
        units = [unit.flatten().tolist() for unit in sums.detach().transpose(0, 1)]
        flat = [
            [abs(f(a + 1e-4) - f(a - 1e-4)) / 2e-4 < steepest / 20 for a in unit] for unit in units
        ]
        share = sum(map(sum, flat)) / sum(map(len, flat))
        assert found[f"flat_{layer}"] == pytest.approx(share) and 0 < share < 1
        dead = sum(map(all, flat)) / len(flat)
        assert found[f"dead_{layer}"] == pytest.approx(dead) and 0 < dead < 1


def test_a_relu_layer_with_large_negative_biases_is_dead(model, train):
    net = model.ConvNet(1, 10, 0.25)
    nn.init.constant_(net.conv2.bias, -1000.0)
    found = train.measure(net, torch.rand(6, 1, 32, 32), torch.arange(6))
    assert found["flat_conv2"] == found["dead_conv2"] == 1
    assert found["gradient_conv1"] == found["gradient_conv2"] == found["gradient_conv3"] == 0
    assert found["dead_conv1"] < 1
    assert len(found) == 9 and not any("fc4" in column for column in found)


def test_the_gradients_measured_are_autograds(model, train):
    torch.manual_seed(0)
    net = model.ConvNet(1, 10, 0.25, "tanh", "scaled")
    images, labels = torch.randn(6, 1, 32, 32), torch.arange(6)
    found = train.measure(net, images, labels)
    assert not any(layer._forward_hooks for layer in net.children())
    F.cross_entropy(net(images), labels).backward()
    for name in ("conv1", "conv2", "conv3"):
        squares = sum(g**2 for g in getattr(net, name).weight.grad.flatten().tolist())
        assert found[f"gradient_{name}"] == pytest.approx(math.sqrt(squares), rel=1e-5)


def test_silent_outputs_are_counted(train):
    """Three classes of five are silent at all images; two images of four at their own class."""

    class Scores(nn.Dropout):
        """What it is given, if nothing is dropped."""

    scores = torch.tensor([[0.0, 1, 0, 0, 0], [0, 2, 0, 0, 0], [0, 0, 0, 3, 0], [0, 1, 0, 1, 0]])
    labels = torch.tensor([1, 0, 4, 3])
    net = Scores(0.99).train()
    loader = [(scores[:3], labels[:3]), (scores[3:], labels[3:])]
    assert train.silent(net, loader) == {"silent_classes": 3, "silent_right": 0.5}
    assert net.training


@pytest.mark.parametrize(
    "curve, level, epochs",
    [
        ([0.75, 0.5, 0.25], 0.5, 1.5),
        ([0.75, 0.5, 0.25], 0.375, 2),
        ([0.75, 0.5, 0.25], 0.6875, 0.75),
        ([0.75, 0.5, 0.25], 0.25, 2.5),
        ([0.5, 0.75, 0.25, 0.5], 0.375, 2.25),
        ([0.5, 0.5, 0.125], 0.25, 1.5 + 2 / 3),
        ([0.75, 0.5, 0.25], 0.125, math.inf),
        ([0.75], 0.5, math.inf),
        ([0.25, 0.5], 0.5, 0.5),
        ([0.5, 0.25], 0.5, 0.5),
    ],
    ids=str,
)
def test_when_a_curve_is_at_a_level(train, curve, level, epochs):
    """Each value stands for the middle of its epoch."""
    assert train.crossing(curve, level) == pytest.approx(epochs)


# The experiments


@pytest.fixture
def world(harness, train, tmp_path, monkeypatch, capsys):
    """Run train.main() on 60 small images in memory, in a root folder of its own.

    Keeps what is handed to fit(), and counts the steps and the test images that were looked at.
    """
    monkeypatch.setattr(harness.run, "ROOT", tmp_path)
    (tmp_path / "harness").mkdir()
    for name in harness.run.CODE:
        (tmp_path / name).write_text("# code\n")
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(100) % 3
    images = torch.randint(0, 200, (100, 1, 16, 16), generator=draws)
    images[:, 0, 4:12] += 25 * labels.view(-1, 1, 1)
    images[:, 0, 0, 0] = 0
    images[80:, 0, 0, 0] = 255  # marks a test image
    parts = [(images[a:b].byte(), labels[a:b]) for a, b in ((0, 60), (60, 80), (80, 100))]
    whole = harness.data.Data(("low", "middle", "high"), 1, *parts)

    def load(name, folder, limit=None, size=None):
        return whole._replace(train=tuple(part[:limit] for part in whole.train))

    def batches(split, size, transform, *rest):
        def look(images):
            world.tested += (images[:, 0, 0, 0] == 255).sum().item()
            return transform(images)

        return genuine["batches"](split, size, look, *rest)

    def fit(run, model, loaders, *rest, **kwargs):
        weights = [p.detach().clone() for p in model.parameters()]
        world.fits.append(SimpleNamespace(run=run, model=model, loaders=loaders, weights=weights))
        genuine["fit"](run, model, loaders, *rest, **kwargs)

    def log(*words):
        world.steps += 1
        genuine["log"](*words)

    genuine = {"batches": harness.data.batches, "fit": train.fit, "log": train.Run.log}
    monkeypatch.setattr(harness.data, "load", load)
    monkeypatch.setattr(harness.data, "batches", batches)
    monkeypatch.setattr(train, "fit", fit)
    monkeypatch.setattr(train.Run, "log", log)
    monkeypatch.setattr(train, "RATES", (0.001, 0.01))
    monkeypatch.setattr(train, "TOO_HIGH", (0.001, 0.01))
    monkeypatch.setattr(train, "PART", 0.5)
    monkeypatch.setattr(train, "IMAGES", 60)
    monkeypatch.setitem(train.CLASSIFIER["laptop"], "folds", 3)

    def main(*words):
        monkeypatch.setattr("sys.argv", ["train.py", *words])
        world.fits, world.steps, world.tested = [], 0, 0
        train.main()
        return capsys.readouterr().out

    world = SimpleNamespace(main=main, home=tmp_path / "checkpoints" / NAME, data=whole)
    return world


def rows(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def histories(world):
    """Every epoch of every finished run, by its folder."""
    return {
        path.parent: rows(path.with_name("history.csv")) for path in world.home.glob("*/weights.pt")
    }


def assert_points_are_those_of_the_runs(world, folder):
    points = rows(folder / "points.csv")
    epochs = sum(histories(world).values(), [])
    assert len(points) == len(epochs)
    for epoch in epochs:
        (point,) = [row for row in points if row["seconds"] == epoch["seconds"]]
        assert {key: point[key] for key in epoch} == epoch
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "weights.pt").exists()
    return points


def test_the_race_chooses_a_rate_on_a_part_and_trains_on_all(world, train, monkeypatch):
    """A rate at which training diverges is put up with, and not chosen."""
    monkeypatch.setattr(train, "RATES", (math.inf, 0.001, 0.01))
    world.main("--experiment", "activation", "--epochs", "2", "--batch-size", "10")
    points = assert_points_are_those_of_the_runs(
        world, world.home / "laptop-experiment-activation-epochs-2-batch-size-10-seed0"
    )
    trials = [row for row in points if row["limit"] == "30"]
    finals = [row for row in points if row["limit"] == ""]
    names = ("relu", "squash", "tanh", "sigmoid")
    assert [(row["activation"], row["lr"], row["epoch"]) for row in trials] == [
        (name, lr, epoch) for name in names for lr in ("0.001", "0.01") for epoch in "12"
    ]
    losses = {(row["activation"], row["lr"]): float(row["train_loss"]) for row in trials}
    best = {name: min(("0.001", "0.01"), key=lambda lr: losses[name, lr]) for name in names}
    assert [(row["activation"], row["lr"], row["seed"], row["epoch"]) for row in finals] == [
        (name, best[name], seed, epoch) for name in names for seed in "012" for epoch in "12"
    ]
    assert len(trials) + len(finals) == len(points)
    assert {fit.run.settings["lr"] for fit in world.fits} == {math.inf, 0.001, 0.01}
    images = [len(fit.loaders[0].dataset) for fit in world.fits]
    assert images == 12 * [30] + 12 * [60]
    assert world.tested == 0


@pytest.fixture
def table(world, train, harness, monkeypatch):
    """The lines that a race prints of each activation, if these are its errors by seed."""

    def table(errors):
        def fit(run, *words, **kwargs):
            curve = errors[run.settings["activation"]][run.settings["seed"]]
            if curve is None:
                raise harness.run.Diverged("training has diverged")
            run.history = [{"epoch": n, "train_accuracy": 1 - e} for n, e in enumerate(curve, 1)]

        monkeypatch.setattr(train, "fit", fit)
        monkeypatch.setattr(train, "COMPARED", tuple(errors))
        monkeypatch.setitem(train.ACTIVATION["laptop"], "error", 0.5)
        printed = world.main("--experiment", "activation", "--lr", "0.02").splitlines()
        return [" ".join(line.split()) for line in printed if line.startswith(tuple(errors))]

    return table


def test_the_race_tells_when_each_is_at_the_error(world, table):
    """With one rate there is nothing to try."""
    assert table(
        {
            "relu": ([0.75, 0.25, 0.125], [0.5, 0.25, 0.25], [1.0, 0.5, 0.5]),
            "squash": 3 * ([1.0, 0.75, 0.5],),
            "tanh": ([0.75, 0.25, 0.25], [1.0, 1.0, 0.5], [1.0, 1.0, 0.75]),
        }
    ) == [
        "relu lr 0.02 1.00, 0.50, 1.50; 1.00, 1.0 times ReLU's",
        "squash lr 0.02 2.50, 2.50, 2.50; 2.50, 2.5 times ReLU's",
        "tanh lr 0.02 not by every seed in 9 epochs",
    ]
    assert len(rows(world.home / "laptop-experiment-activation-lr-0.02-seed0/points.csv")) == 27


def test_a_run_that_diverges_in_the_race_itself_is_never_at_the_error(table):
    both = 3 * ([0.75, 0.25],)
    relu, tanh = table({"relu": both, "tanh": (*both[:2], None)})
    assert relu.endswith("1.0 times ReLU's")
    assert tanh.startswith("tanh lr 0.02 not by every seed")


def test_a_race_on_few_images_counts_no_run_twice(world, train, monkeypatch):
    monkeypatch.setattr(train, "COMPARED", ("relu",))
    world.main("--experiment", "activation", "--epochs", "1", "--limit", "20")
    points = rows(world.home / "laptop-experiment-activation-epochs-1-limit-20-seed0/points.csv")
    assert len(points) == len(histories(world))


@pytest.mark.parametrize(
    "experiment, deviation, lowest, highest",
    [
        ("activation", 0.01, -255, 255),
        ("scaled", 1 / 5, -0.1, 1.175),
        ("dead", 1 / 5, -0.1, 1.175),
    ],
)
def test_the_race_is_run_with_pixels_and_weights_of_either_scale(
    world, train, monkeypatch, experiment, deviation, lowest, highest
):
    """The pixels less their mean, or as LeNet has them."""
    monkeypatch.setattr(train, "COMPARED", ("relu",))
    monkeypatch.setattr(train, "TOO_HIGH", (0.001,))
    world.main("--experiment", experiment, "--epochs", "1")
    for fit in world.fits:
        assert fit.weights[0].std().item() == pytest.approx(deviation, rel=0.2)
        images = torch.cat([images for images, _ in fit.loaders[0]])
        assert images.shape[1:] == (1, 32, 32)
        pixels = images[:, :, 8:24, 8:24]
        assert lowest <= pixels.min() and pixels.max() <= highest
        if experiment == "activation":
            assert pixels.mean().abs() < 1e-3 * pixels.std() and pixels.std() > 50
        else:
            assert pixels.min().item() == pytest.approx(-0.1) and pixels.max() > 0.8
            assert (images[:, :, :8] == images.min()).all()


def test_rates_too_high_are_tried_by_three_seeds_each(world, train, monkeypatch):
    """On a part of the images; where training diverges, that is told."""
    monkeypatch.setattr(train, "TOO_HIGH", (0.001, math.inf))
    printed = world.main("--experiment", "dead", "--epochs", "1", "--batch-size", "10")
    folder = world.home / "laptop-experiment-dead-epochs-1-batch-size-10-seed0"
    points = assert_points_are_those_of_the_runs(world, folder)
    names = ("relu", "leaky", "gelu")
    assert [(row["lr"], row["activation"], row["seed"], row["limit"]) for row in points] == [
        ("0.001", name, seed, "30") for name in names for seed in "012"
    ]
    for name in names:
        own = [row for row in points if row["activation"] == name]
        told = ", ".join(
            f"{100 - 100 * float(row['train_accuracy']):.1f}% "
            f"({100 * float(row['dead_conv2']):.0f}%)"
            for row in own
        )
        assert f"lr 0.001 {name:<6} {told}\n" in printed
        assert f"lr inf   {name:<6} diverged, diverged, diverged\n" in printed
    assert len(world.fits) == 18 and world.tested == 0


def test_folds_are_left_out_in_turn_and_each_begins_with_a_new_model(world):
    """But for one comparison, whose model goes on from fold to fold."""
    printed = world.main("--experiment", "classifier", "--epochs", "2")
    points = assert_points_are_those_of_the_runs(
        world, world.home / "laptop-experiment-classifier-epochs-2-seed0"
    )
    kinds = [(network, "on", name) for network in ("ffnn", "cnn") for name in ("softmax", "relu")]
    kinds += [("ffnn", "off", name) for name in ("softmax", "relu")]
    keys = ("network", "reset", "classifier", "fold", "seed", "epoch")
    assert sorted(tuple(row[key] for key in keys) for row in points) == sorted(
        (*kind, fold, seed, epoch)
        for kind in kinds
        for fold, seed in ("10", "21", "32")
        for epoch in "12"
    )
    for row in points:
        assert (row["silent_classes"] != "") == (row["classifier"] == "relu")
    assert world.tested == len(world.fits) * 20 and len(world.fits) == 18

    for kind in kinds:
        own = [
            fit for fit in world.fits if kind == tuple(fit.run.settings[key] for key in keys[:3])
        ]
        assert [fit.run.settings["fold"] for fit in own] == [1, 2, 3]
        models = {id(fit.model) for fit in own}
        assert len(models) == (1 if kind[1] == "off" else 3)
        assert {type(fit.model).__name__.lower() for fit in own} == {kind[0]}
        ends = [fit.run.best["weights"].values() for fit in own]
        for end, fit in zip(ends, own[1:]):
            same = all(map(torch.equal, end, fit.weights))
            assert same == (kind[1] == "off")
        left_out = [fit.run.load(28).validation[0] for fit in own]
        assert torch.cat(left_out).unique(dim=0).shape == world.data.train[0].unique(dim=0).shape
        for fit in own:
            assert len(fit.run.load(28).train[0]) == 40
            assert fit.run.result["epoch"] == 2  # the last: no choice on the images left out

    (line,) = [line for line in printed.splitlines() if line.startswith("cnn   relu     reset on")]
    own = [row for row in points if (row["network"], row["classifier"]) == ("cnn", "relu")]
    last = [100 * float(row["validation_accuracy"]) for row in own if row["epoch"] == "2"]
    assert f"  {numpy.mean(last):.2f} ± {numpy.std(last, ddof=1):.2f}  " in line
    tested = [
        100 * torch.load(path, weights_only=True)["result"]["test_accuracy"]
        for path in world.home.glob("*-network-cnn-classifier-relu-seed?/weights.pt")
    ]
    assert line.endswith(f"  {numpy.mean(tested):.2f} ± {numpy.std(tested, ddof=1):.2f}")


def test_the_components_of_a_fold_are_those_of_its_training_images(world, train):
    """They know nothing of the images left out, but where one model goes through all folds."""
    world.main("--experiment", "classifier", "--epochs", "1")
    components = {
        fold: train.principal_components(images)
        for fold, images in [(None, world.data.train[0])]
        + [(fit.run.settings["fold"], fit.run.load(28).train[0]) for fit in world.fits[::6]]
    }
    assert [*components] == [None, 1, 2, 3]
    for fit in world.fits:
        settings, loaded = fit.run.settings, fit.run.load(28)
        prepare = components[settings["fold"] if settings["reset"] == "on" else None]
        for loader, (images, _) in zip(fit.loaders[1:], (loaded.validation, loaded.test)):
            given = torch.cat([images for images, _ in loader])
            assert torch.equal(given, prepare(images))


def test_a_model_goes_through_all_folds_with_the_same_bits_when_stopped_between(world):
    words = ("--experiment", "classifier", "--epochs", "1")
    world.main(*words)
    (last,) = world.home.glob("*-fold-3-network-ffnn-classifier-relu-reset-off-*")
    (before,) = world.home.glob("*-fold-2-network-ffnn-classifier-relu-reset-off-*")
    end, start = (
        torch.load(folder / "weights.pt", weights_only=True)["weights"] for folder in (last, before)
    )
    shutil.rmtree(last)
    world.main(*words)
    assert world.steps == 1  # 40 images
    for weight, value in zip(start.values(), world.fits[-1].weights, strict=True):
        assert torch.equal(weight, value)
    again = torch.load(last / "weights.pt", weights_only=True)["weights"]
    assert all(torch.equal(again[key], end[key]) for key in end)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_typed_again_trains_nothing_and_writes_the_same(
    world, train, monkeypatch, experiment
):
    monkeypatch.setattr(train, "COMPARED", ("relu", "tanh"))
    words = ("--experiment", experiment, "--epochs", "1")
    printed = world.main(*words)
    assert world.steps == len(histories(world)) > 0  # one batch each
    (points,) = world.home.glob("*/points.csv")
    before = {path: path.read_bytes() for path in world.home.rglob("*.*") if path.is_file()}
    again = world.main(*words)
    assert world.steps == 0 and world.tested == 0
    after = {path: path.read_bytes() for path in world.home.rglob("*.*") if path.is_file()}
    assert points in after and after == before
    table = again.rpartition("--fresh trains it again\n")[2]
    assert len(table.splitlines()) > 3 and printed.endswith(table)


@pytest.mark.parametrize(
    "words",
    [[], *(["--experiment", name] for name in EXPERIMENTS)],
    ids=str,
)
def test_a_dry_run_of_an_experiment_writes_nothing(world, words):
    assert "nothing written" in world.main(*words, "--dry-run")
    assert not world.home.exists() and world.steps > 0


@pytest.mark.parametrize(
    "words, named",
    [
        ("--experiment activation --activation tanh", "--activation"),
        ("--experiment scaled --c3 full", "--c3"),
        ("--experiment classifier --output rbf", "--output"),
        ("--experiment classifier --data {folder}", "fashion-mnist"),
        ("--experiment classifier --limit 2", "--limit 2"),
        ("--experiment dead --activation leaky", "--activation"),
        ("--recipe paper", "--recipe paper"),
        ("--experiment dead --recipe paper", "--recipe paper"),
        ("--experiment walk", "--experiment"),
    ],
)
def test_what_does_not_go_together_is_one_line_and_exit_code_2(
    world, tmp_path, capsys, words, named
):
    with pytest.raises(SystemExit) as stopped:
        world.main(*words.format(folder=tmp_path).split())
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and named in error and len(error.splitlines()) == 1
    assert not world.home.exists()


def test_the_recipes_of_the_experiments_are_the_papers(harness, train):
    """As far as they are known: Figure 1 of AlexNet, and Agarap's code."""

    def parse(*words):
        return harness.run.command_line(
            "", train.RECIPES, words, experiments=train.EXPERIMENTS, **train.ABLATIONS
        )

    race = parse("--experiment", "activation", "--recipe", "paper")
    assert (race.data, race.error, race.width, race.start) == ("cifar10", 0.25, 1, "fixed")
    scaled = parse("--experiment", "scaled", "--recipe", "paper")
    assert {key for key, value in vars(race).items() if vars(scaled)[key] != value} == {
        *("experiment", "start", "defaults")
    }
    agarap = parse("--experiment", "classifier", "--recipe", "paper")
    assert (agarap.folds, agarap.epochs, agarap.batch_size, agarap.lr) == (10, 32, 256, 1e-3)
    for name in EXPERIMENTS:
        assert parse("--experiment", name).data == "fashion-mnist"
