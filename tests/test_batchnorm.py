"""Batch normalization against PyTorch's and naive loops; experiments on a few small images."""

import copy
import csv
import itertools
import math
from types import SimpleNamespace

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models.googlenet import BasicConv2d

from conftest import import_branch

NAME = "BatchNorm"
RUNNING = ("running_mean", "running_var")
EXPERIMENTS = ("figure1", "figure2", "dangers")
SHAPES = [
    *((8, 5), (2, 7), (3, 1)),
    *((4, 3, 6), (1, 3, 2), (2, 1, 5)),
    *((4, 3, 6, 5), (1, 4, 1, 2), (2, 1, 3, 3), (2, 5, 1, 1), (3, 2, 1, 7)),
]
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
CASES = [(shape, layout) for shape in SHAPES for layout in LAYOUTS if len(shape) == 4] + [
    (shape, "contiguous") for shape in SHAPES if len(shape) < 4
]
# GoogLeNet's Table 1: maps of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj.
TABLE_1 = [
    *((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    *((192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64)),
    *((112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128)),
    *((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
]
# Of each network of Figure 2: the learning rate; is it normalized, as GoogLeNet was otherwise, with
# rectifiers (4.2.1 and 4.2.2).
FIGURE_2 = {
    "Inception": (0.0015, False, True, True),
    "BN-Baseline": (0.0015, True, True, True),
    "BN-x5": (0.0075, True, False, True),
    "BN-x30": (0.045, True, False, True),
    "BN-x5-Sigmoid": (0.0075, True, False, False),
}


def count(module):
    return sum(p.numel() for p in module.parameters())


def gradients_of(loss, net):
    """By every parameter, in order."""
    return torch.autograd.grad(loss, [*net.parameters()])


def stir(net):
    """Give every layer of a network weights and running statistics of its own."""
    with torch.no_grad():
        for key, value in net.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif key.endswith(("running_mean", "bias")):
                value.normal_(0, 0.3)
            elif value.dim() == 1:
                value.uniform_(0.5, 1.5)
    return net


# The layer


def layers(model, shape, dtype=torch.float64, **how):
    """Our layer and PyTorch's for inputs of a shape, with the same gamma and beta."""
    name = "BatchNorm2d" if len(shape) == 4 else "BatchNorm1d"
    ours, theirs = (getattr(home, name)(shape[1], **how).to(dtype) for home in (model, nn))
    stir(theirs).reset_running_stats()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def close(here, there):
    """To a few units in the last place of what is of size 1."""
    assert here.dtype == there.dtype
    tolerance = {torch.float32: 2e-5, torch.float64: 1e-12}[there.dtype]
    torch.testing.assert_close(here, there, rtol=tolerance, atol=tolerance)


def strides(x):
    """Those that say where a value is: not of a dimension of size 1, where any will do."""
    return [stride for size, stride in zip(x.shape, x.stride()) if size > 1]


def states_are_alike(ours, theirs):
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert [*ours] == [*theirs]
    for key, value in theirs.items():
        assert ours[key].shape == value.shape and ours[key].dtype == value.dtype
        if value.is_floating_point():
            close(ours[key], value)
        else:
            assert torch.equal(ours[key], value)


@pytest.mark.parametrize("how", [{}, {"eps": 0.1, "momentum": 0.4}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape, layout", CASES, ids=str)
def test_it_is_pytorchs_in_training_and_in_evaluation(model, shape, layout, dtype, how):
    """Output, its strides, gradients, and the running statistics of several batches."""
    torch.manual_seed(0)
    both = layers(model, shape, dtype, **how)
    states_are_alike(*both)
    for mode in (True, True, True, False):
        x = 2 * torch.randn(shape, dtype=dtype) + 1
        if len(shape) == 4:
            x = x.to(memory_format=LAYOUTS[layout])
        d_y, found = torch.randn_like(x), []
        for layer in both:
            a = x.clone().requires_grad_()
            y = layer.train(mode)(a)
            found.append([y, *torch.autograd.grad(y, (a, layer.weight, layer.bias), d_y)])
            assert torch.equal(a, x)  # not changed in place
        for here, there in zip(*found, strict=True):
            close(here, there)
        assert strides(found[0][0]) == strides(found[1][0]) == strides(x)
        states_are_alike(*both)
    assert both[0].num_batches_tracked == 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_other_strides_than_the_input_are_pytorchs(model, layout):
    """One number expanded, as of a sum; and the layout that the input does not have."""
    torch.manual_seed(0)
    shape = (3, 4, 5, 6)
    both = layers(model, shape)
    x = torch.randn(shape, dtype=torch.float64).to(memory_format=LAYOUTS[layout])
    (other,) = LAYOUTS.keys() - {layout}
    for d_y in (
        torch.ones((), dtype=torch.float64).expand(shape),
        torch.arange(4.0, dtype=torch.float64).view(4, 1, 1).expand(shape),
        torch.randn(shape, dtype=torch.float64).to(memory_format=LAYOUTS[other]),
    ):
        found = []
        for layer in both:
            a = x.clone().requires_grad_()
            found.append(torch.autograd.grad(layer(a), (a, layer.weight, layer.bias), d_y))
        for here, there in zip(*found, strict=True):
            close(here, there)


def test_an_input_with_gaps_gives_pytorchs_values(model):
    torch.manual_seed(0)
    both = layers(model, (4, 3, 5))
    x = torch.randn(4, 5, 9, dtype=torch.float64)[:, :, ::3].transpose(1, 2)
    assert x.shape == (4, 3, 5) and not x.is_contiguous()
    close(*(layer(x) for layer in both))
    states_are_alike(*both)


@pytest.mark.parametrize("wanted", [*itertools.product([True, False], repeat=3)], ids=str)
@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_gradients_are_had_for_what_requires_them(model, mode, wanted):
    """Of x, gamma and beta."""
    torch.manual_seed(0)
    x, found = torch.randn(5, 3, dtype=torch.float64), []
    for layer in layers(model, (5, 3)):
        leaves = x.clone(), layer.weight, layer.bias
        for leaf, want in zip(leaves, wanted):
            leaf.requires_grad_(want)
        y = layer.train(mode)(leaves[0])
        assert y.requires_grad == any(wanted)
        if any(wanted):
            (y**3).sum().backward()
        found.append([leaf.grad for leaf in leaves])
    for here, there, want in zip(*found, wanted, strict=True):
        assert (there is not None) == (here is not None) == want
        if want:
            close(here, there)


@pytest.mark.parametrize("shape", [(6, 3), (2, 2), (3, 2, 4), (2, 3, 2, 4), (1, 2, 3, 1)], ids=str)
def test_algorithm_1_and_its_gradients_are_those_of_a_naive_loop(model, shape):
    """In plain Python, channel by channel, with the six equations at the end of section 3."""
    torch.manual_seed(0)
    eps, momentum = 1e-3, 0.3
    layer, _ = layers(model, shape, eps=eps, momentum=momentum)
    x = (3 * torch.randn(shape, dtype=torch.float64) - 1).requires_grad_()
    d_y = torch.randn_like(x)
    y = layer(x)
    found = torch.autograd.grad(y, (x, layer.weight, layer.bias), d_y)
    values, slopes, ys, d_xs = (
        part.detach().transpose(0, 1).flatten(1).tolist() for part in (x, d_y, y, found[0])
    )
    for c in range(shape[1]):
        xs, d_ys, m = values[c], slopes[c], len(values[c])
        gamma, beta = layer.weight[c].item(), layer.bias[c].item()
        mean = sum(xs) / m
        variance = sum((a - mean) ** 2 for a in xs) / m
        x_hat = [(a - mean) / math.sqrt(variance + eps) for a in xs]
        assert ys[c] == pytest.approx([gamma * a + beta for a in x_hat], rel=1e-11)
        d_x_hat = [d * gamma for d in d_ys]
        d_variance = sum(
            d * (a - mean) * -1 / 2 * (variance + eps) ** (-3 / 2) for d, a in zip(d_x_hat, xs)
        )
        d_mean = sum(d * -1 / math.sqrt(variance + eps) for d in d_x_hat)
        d_mean += d_variance * sum(-2 * (a - mean) for a in xs) / m
        expected = [
            d / math.sqrt(variance + eps) + d_variance * 2 * (a - mean) / m + d_mean / m
            for d, a in zip(d_x_hat, xs)
        ]
        assert d_xs[c] == pytest.approx(expected, rel=1e-9, abs=1e-12)
        d_gamma = sum(d * a for d, a in zip(d_ys, x_hat))
        assert found[1][c].item() == pytest.approx(d_gamma, rel=1e-10)
        assert found[2][c].item() == pytest.approx(sum(d_ys), rel=1e-10)
        unbiased = variance * m / (m - 1)
        assert layer.running_mean[c].item() == pytest.approx(momentum * mean)
        assert layer.running_var[c].item() == pytest.approx(1 - momentum + momentum * unbiased)


def test_the_output_has_the_biased_variance_and_the_running_one_is_unbiased(model):
    """Of -1 and 1: 1 over m, 2 over m - 1."""
    layer = model.BatchNorm1d(1, eps=0, momentum=1).double()
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    assert torch.equal(layer(x), x)
    assert layer.running_var.item() == 2


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 4), (2, 3, 2, 2)], ids=str)
def test_the_gradients_equal_finite_differences(model, shape, mode):
    torch.manual_seed(0)
    layer = stir(layers(model, shape)[0]).train(mode)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def f(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, x)

    assert torch.autograd.gradcheck(f, (x, layer.weight, layer.bias))


@pytest.mark.parametrize("kind", ["linear", "cubic"])
@pytest.mark.parametrize("how", ["backward", "grad"])
def test_a_second_derivative_is_an_error_or_right(model, kind, how):
    """Never a wrong number, as of a penalty on the gradient; of a loss linear in y, or cubic."""
    torch.manual_seed(0)
    weights = torch.randn(5, 3, dtype=torch.float64)

    def second(layer):
        torch.manual_seed(1)
        x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
        y = layer(x)
        loss = (weights * (y if kind == "linear" else y**3)).sum()
        (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        both = (x**2).sum() + (gradient**2).sum()
        if how == "grad":
            return torch.autograd.grad(both, x)[0]
        both.backward()
        return x.grad

    ours, theirs = layers(model, (5, 3))
    expected = second(theirs)
    try:
        found = second(ours)
    except RuntimeError:
        return
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(64, 8), (16, 8, 10), (16, 8, 6, 6)], ids=str)
def test_a_mean_far_from_0_costs_no_more_than_its_own_last_digits(model, shape, layout):
    """Mean 1000, which single precision knows to 2^-14, and deviation 1; against double precision.

    PyTorch's is within the same bounds in either layout.
    """
    torch.manual_seed(0)
    x, d_y = torch.randn(shape) + 1000, torch.randn(shape)
    if len(shape) == 4:
        x, d_y = (part.to(memory_format=LAYOUTS[layout]) for part in (x, d_y))
    ours, theirs = layers(model, shape, torch.float32)
    exact = copy.deepcopy(theirs).double()
    for mode in (True, False):
        found = []
        for layer in (exact, ours, theirs):
            a = x.to(layer.weight.dtype).requires_grad_()
            y = layer.train(mode)(a)
            gradients = torch.autograd.grad(y, (a, layer.weight, layer.bias), d_y.to(y.dtype))
            running = layer.running_mean, layer.running_var
            found.append([part.detach().double() for part in (y, *gradients, *running)])
        for true, *approximate in zip(*found, strict=True):
            for part in approximate:
                assert (part - true).norm() < 2**-10 * true.norm()


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1), (1, 3, 1, 1), (0, 3), (0, 3, 2, 2)], ids=str)
def test_one_value_a_channel_has_no_variance(model, shape):
    """In training an error that names the layer and the shape; in evaluation there is no need."""
    layer, stock = layers(model, shape)
    before = copy.deepcopy(layer.state_dict())
    x = torch.randn(shape, dtype=torch.float64)
    with pytest.raises(ValueError) as error:
        layer(x)
    assert type(layer).__name__ in str(error.value) and str(shape) in str(error.value)
    assert all(torch.equal(layer.state_dict()[key], before[key]) for key in before)
    close(stir(layer).eval()(x), stock.load_state_dict(layer.state_dict()) and stock.eval()(x))


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    "name, wrong",
    [
        ("BatchNorm1d", [(3,), (4, 2), (4, 6), (4, 2, 3), (2, 3, 4, 4), (2, 3, 1, 1, 1)]),
        ("BatchNorm2d", [(3,), (4, 3), (4, 3, 5), (2, 4, 3, 3), (2, 1, 3, 3), (2, 3, 4, 4, 4)]),
    ],
)
def test_another_shape_is_an_error_that_names_it(model, name, wrong, mode):
    layer = getattr(model, name)(3).train(mode)
    for shape in wrong:
        with pytest.raises(ValueError) as error:
            layer(torch.zeros(shape))
        assert name in str(error.value) and str(shape) in str(error.value)
    assert layer.num_batches_tracked == 0


# The networks


@pytest.fixture(scope="module")
def googlenet(laid_out, harness):
    """The modules model and train of GoogLeNet's branch."""
    return import_branch(laid_out / "GoogLeNet")


def narrow(module, **knobs):
    """A narrow GoogLeNet with initial weights of one seed."""
    torch.manual_seed(7)
    return module.GoogLeNet(**{"num_classes": 10, "image_size": 64, "width": 1 / 8, **knobs})


def outcome(net, images, labels):
    """The scores of all heads in training, those in evaluation, and every gradient."""
    torch.manual_seed(1)  # the same units are dropped
    scores = net.train()(images)
    losses = (n * F.cross_entropy(own, labels) for n, own in enumerate(scores, 1))
    gradients = gradients_of(sum(losses), net)
    with torch.no_grad():
        return [*scores, net.eval()(images), *gradients]


@pytest.mark.parametrize(
    "knobs",
    [{}, {"aux": "off"}, {"reduction": "off", "without": "pool", "in_channels": 1}],
    ids=str,
)
def test_without_normalization_it_is_googlenet_bit_for_bit(model, googlenet, knobs):
    """The same initial weights under one seed, the same scores and gradients."""
    as_it_was = {"norm": "none", "activation": "relu", "lrn": "on", "dropout": 0.4}
    ours, theirs = narrow(model, **as_it_was, **knobs), narrow(googlenet[0], **knobs)
    weights = ours.state_dict()
    assert [*weights] == [*theirs.state_dict()]
    assert all(torch.equal(weights[key], value) for key, value in theirs.state_dict().items())
    images, labels = 60 * torch.randn(3, knobs.get("in_channels", 3), 64, 64), torch.arange(3)
    found = [outcome(net, images, labels) for net in (ours, theirs)]
    for here, there in zip(*found, strict=True):
        assert torch.equal(here, there) and there.abs().max() > 0


@pytest.mark.parametrize(
    "knobs", [{"lrn": "off", "dropout": 0.0}, {"activation": "sigmoid"}], ids=str
)
def test_by_hand_and_by_pytorch_the_network_is_the_same(model, knobs):
    ours, theirs = (narrow(model, norm=norm, **knobs).double() for norm in ("batch", "torch"))
    states_are_alike(ours, theirs)
    images = 60 * torch.randn(4, 3, 64, 64, dtype=torch.float64)
    found = [outcome(net, images, torch.arange(4)) for net in (ours, theirs)]
    assert len(found[0]) == 3 + 1 + len([*ours.parameters()])
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-8, atol=1e-10)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("norm", ["batch", "torch"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_sums_are_normalized_before_the_nonlinearity_and_have_no_bias(model, norm, activation):
    """By functions alone, in both modes."""
    torch.manual_seed(0)
    how = {"norm": norm, "activation": activation}
    conv = model.Convolution(3, 5, 3, stride=2, padding=1, **how)
    images = torch.randn(4, 3, 9, 9)
    full = model.FullyConnected(6, 5, **how)
    units = torch.randn(4, 6)
    for layer, x, sums in (
        (conv, images, F.conv2d(images, conv.weight, None, stride=2, padding=1)),
        (full, units, units @ full.weight.T),
    ):
        assert layer.bias is None and [*layer.state_dict()][0] == "weight"
        norm = stir(layer).norm
        for mode in (False, True):
            mean, variance = norm.running_mean.clone(), norm.running_var.clone()
            normal = F.batch_norm(sums, mean, variance, norm.weight, norm.bias, training=mode)
            expected = {"relu": F.relu, "sigmoid": F.sigmoid}[activation](normal)
            torch.testing.assert_close(layer.train(mode)(x), expected)


def test_a_convolution_is_torchvisions_of_the_same_name_in_googlenet(model):
    """Which has its own epsilon."""
    torch.manual_seed(0)
    theirs = stir(BasicConv2d(3, 8, kernel_size=5, padding=2))
    ours = model.Convolution(3, 8, 5, padding=2)
    ours.norm.eps = theirs.bn.eps
    weights = theirs.state_dict()
    ours.load_state_dict(dict(zip(ours.state_dict(), weights.values(), strict=True)))
    for mode in (True, False):
        x = torch.randn(4, 3, 7, 7)
        torch.testing.assert_close(ours.train(mode)(x), theirs.train(mode)(x))
    assert [*weights][0] == "conv.weight" and "bn.running_var" in weights


def test_every_map_has_two_numbers_where_it_had_a_bias(model):
    """GoogLeNet's parameters, and one more a map, or unit of the heads' hidden layer."""
    rows = [64, 64, 192, *itertools.chain(*TABLE_1)]
    assert len(rows) == 57
    heads = 2 * (128 + 1024)
    for norm in ("batch", "torch"):
        with torch.device("meta"):
            assert count(model.GoogLeNet(norm=norm)) == 13_378_280 + sum(rows) + heads
            assert count(model.GoogLeNet(norm=norm, aux="off")) == 6_998_552 + sum(rows)
    with torch.device("meta"):
        assert count(model.GoogLeNet(norm="none")) == 13_378_280


def test_all_but_the_last_layers_are_normalized(model):
    with torch.device("meta"):
        net = model.GoogLeNet()
    convolutions, last = [], []
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d):
            convolutions.append(name)
            assert type(layer.norm) is model.BatchNorm2d
            assert len(layer.norm.weight) == layer.out_channels and layer.bias is None
        elif type(layer) is nn.Linear:
            last.append(name)
            assert layer.bias is not None
    assert len(convolutions) == 57 + 2
    assert last == ["aux_4a.fc2", "aux_4d.fc2", "linear"]
    for head in (net.aux_4a, net.aux_4d):
        assert type(head.fc1.norm) is model.BatchNorm1d and len(head.fc1.norm.weight) == 1024
        assert head.fc1.bias is None
    assert sum(isinstance(layer, model.BatchNorm) for layer in net.modules()) == 57 + 2 + 2


@torch.no_grad()
@pytest.mark.parametrize("norm", ["batch", "torch"])
def test_an_answer_depends_on_the_other_images_in_training_alone(model, norm):
    net = stir(narrow(model, norm=norm, dropout=0.0))
    images = torch.randn(4, 3, 64, 64)
    others = torch.cat([images[:1], torch.randn(3, 3, 64, 64)])
    alone = net.eval()(images[:1])
    for batch in (images, others, images[:2]):
        torch.testing.assert_close(net(batch)[:1], alone)
    net.train()
    here, there = (net(batch)[0][0] for batch in (images, others))
    assert (here - there).abs().max() > 1e-2 * here.abs().max()


@pytest.mark.parametrize("norm, parameters", [("none", 99_710), ("batch", 100_010)])
def test_the_small_network_has_the_papers_parameters(model, norm, parameters):
    assert count(model.MLP(norm=norm)) == parameters
    assert count(model.MLP(7, 12, norm)) == parameters - 100 * (784 - 12) - 101 * 3


@pytest.mark.parametrize("norm", ["none", "batch", "torch"])
def test_the_small_network_equals_stock_layers(model, norm):
    """In both modes; in training its scores are the first of one."""
    torch.manual_seed(0)
    net = stir(model.MLP(5, 12, norm)).double()
    stock = [nn.Flatten()]
    for inputs in (12, 100, 100):
        stock.append(nn.Linear(inputs, 100, bias=norm == "none"))
        stock += [nn.Sigmoid()] if norm == "none" else [nn.BatchNorm1d(100), nn.Sigmoid()]
    stock = nn.Sequential(*stock, nn.Linear(100, 5)).double()
    weights = net.state_dict().values()
    stock.load_state_dict(dict(zip(stock.state_dict(), weights, strict=True)))
    images = torch.randn(6, 3, 2, 2, dtype=torch.float64)
    close(net.eval()(images), stock.eval()(images))
    (scores,) = net.train()(images)
    close(scores, stock.train()(images))
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    found = [
        gradients_of(F.cross_entropy(own, labels), part)
        for own, part in ((scores, net), (stock(images), stock))
    ]
    for here, there in zip(*found, strict=True):
        close(here, there)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_small_network_begins_with_small_gaussian_weights(model, norm):
    torch.manual_seed(0)
    net = model.MLP(norm=norm)
    for layer in (net.fc1, net.fc2, net.fc3, net.fc4):
        weights = layer.weight.detach().flatten()
        assert weights.std().item() == pytest.approx(0.1, rel=0.1) and weights.mean().abs() < 0.01
        share = (weights.abs() < 0.1).float().mean().item()
        assert share == pytest.approx(math.erf(0.5**0.5), abs=0.05)  # a Gaussian's, not a uniform's
        assert layer.bias is None or (layer.bias == 0).all()
        if norm == "batch" and layer is not net.fc4:
            assert (layer.norm.weight == 1).all() and (layer.norm.bias == 0).all()


# The training


@pytest.fixture
def world(harness, train, tmp_path, monkeypatch, capsys):
    """Run train.main() on 60 small images in memory, in a root folder of its own.

    Keeps what is handed to fit(), and the learning rate of every step.
    """
    monkeypatch.setattr(harness.run, "ROOT", tmp_path)
    (tmp_path / "harness").mkdir()
    for name in harness.run.CODE:
        (tmp_path / name).write_text("# code\n")
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(150) % 3
    images = torch.randint(0, 200, (150, 1, 28, 28), generator=draws)
    images[:, 0, 8:20] += 25 * labels.view(-1, 1, 1)
    parts = [(images[a:b].byte(), labels[a:b]) for a, b in ((0, 60), (60, 130), (130, 150))]
    whole = harness.data.Data(("low", "middle", "high"), 1, *parts)

    def load(name, folder, limit=None, size=None):
        world.names.add(name)
        data = world.data
        return data._replace(train=tuple(part[:limit] for part in data.train))

    def fit(run, model, loaders, optimizer, schedule, *rest, **kwargs):
        world.rates.append([])
        world.fits.append(
            SimpleNamespace(
                run=run,
                model=model,
                loaders=loaders,
                optimizer=optimizer,
                schedule=schedule,
                group=dict(optimizer.param_groups[0]),
                rates=world.rates[-1],
            )
        )
        optimizer.register_step_post_hook(lambda *words: world.after_step(model))
        return genuine["fit"](run, model, loaders, optimizer, schedule, *rest, **kwargs)

    def batches(self, loader):
        for batch in genuine["batches"](self, loader):
            world.steps += 1
            world.rates and world.rates[-1].append(self.state["optimizer"].param_groups[0]["lr"])
            yield batch

    genuine = {"fit": train.fit, "batches": train.Run.batches}
    monkeypatch.setattr(harness.data, "load", load)
    monkeypatch.setattr(train, "fit", fit)
    monkeypatch.setattr(train.Run, "batches", batches)

    def main(*words, module=train):
        monkeypatch.setattr("sys.argv", ["train.py", *map(str, words)])
        world.fits, world.rates, world.steps, world.names = [], [], 0, set()
        module.main()
        return capsys.readouterr().out

    home = tmp_path / "checkpoints" / NAME
    world = SimpleNamespace(main=main, home=home, data=whole, after_step=lambda model: None)
    return world


def rows(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def finished(home):
    """(weights, history) of the one finished run in a folder of runs."""
    (path,) = home.glob("*/weights.pt")
    saved = torch.load(path, weights_only=True)
    return saved["weights"], saved["history"]


@pytest.fixture
def plain(monkeypatch, harness):
    """No pictures, which take longer than the training."""
    monkeypatch.setattr(harness.run.Run, "draw", lambda *words: None)


@pytest.mark.usefixtures("plain")
def test_a_run_without_it_has_the_bits_of_googlenets_own(world, googlenet):
    """Same images, loss, optimizer, schedule, average of the weights."""
    words = "--lr 0.02 --aux on --reduction on --epochs 2 --batch-size 16 --seed 3".split()
    world.main(*words, "--norm", "none", "--lrn", "on", "--dropout", 0.4)
    world.main(*words, module=googlenet[1])
    (ours, own), (theirs, other) = (
        finished(home) for home in (world.home, world.home.with_name("GoogLeNet"))
    )
    assert [*ours] == [*theirs]
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    measured = ("train_loss", "validation_loss", "validation_accuracy_aux_4a", "lr")
    for here, there in zip(own, other, strict=True):
        assert [here[key] for key in measured] == [there[key] for key in measured]


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    "dtype, epochs, size, tolerance", [(torch.float32, 1, 60, 1e-4), (torch.float64, 2, 20, 1e-6)]
)
def test_by_hand_and_by_pytorch_it_trains_alike(
    world, harness, monkeypatch, tmp_path, dtype, epochs, size, tolerance
):
    """A step in single precision, whose last digit decides the losses of later steps, or six."""

    def place(run, model):
        model = model.to(dtype, memory_format=torch.channels_last)
        model.register_forward_pre_hook(lambda _, images: images[0].to(dtype))
        return model

    def validate(run, *words):
        return genuine(run, *words[:6], choose=False)

    # The last epoch's weights: which of two nearly equal epochs is the best, the last digit decides.
    genuine = harness.run.Run.validate
    monkeypatch.setattr(harness.run.Run, "validate", validate)
    monkeypatch.setattr(harness.run.Run, "place", place)
    found = []
    for norm in ("batch", "torch"):
        world.main("--norm", norm, "--epochs", epochs, "--batch-size", size, "--lr", 0.01)
        (path,) = world.home.glob("*/history.csv")
        found.append((finished(world.home)[0], rows(path)))
        world.home.rename(tmp_path / norm)
    (ours, own), (theirs, other) = found
    assert [*ours] == [*theirs]
    for key in ("train_loss", "validation_loss"):
        here, there = ([float(row[key]) for row in history] for history in (own, other))
        assert here == pytest.approx(there, rel=tolerance)
    for key, value in theirs.items():
        assert value.dtype in (dtype, torch.int64)
        difference, length = (part.double().norm() for part in (ours[key] - value, value))
        assert difference <= 1000 * tolerance * length + 1e-6
    assert ours["conv1.norm.num_batches_tracked"] == epochs * 60 / size


@pytest.mark.usefixtures("plain")
def test_what_is_tested_is_the_average_of_weights_and_of_running_statistics(
    world, train, monkeypatch
):
    """Of half of what it was, and half of what a step made."""
    monkeypatch.setitem(train.RECIPES["laptop"], "averaging", 0.5)
    seen = []

    def keep(model):
        norm = model.conv1.norm
        parts = (model.linear.weight, norm.weight, norm.running_mean, norm.running_var)
        seen.append([part.detach().clone() for part in parts])

    world.after_step = keep
    world.main("--epochs", 4, "--batch-size", 10, "--lr", 0.01)
    averages = [seen[0]]
    for parts in seen[1:]:
        averages.append([(one + other) / 2 for one, other in zip(averages[-1], parts)])
    assert len(averages) == 24
    (fit,) = world.fits
    saved = torch.load(fit.run.folder / "weights.pt", weights_only=True)
    last = 6 * saved["result"]["epoch"] - 1
    keys = ("linear.weight", *(f"conv1.norm.{key}" for key in ("weight", *RUNNING)))
    for key, average, not_this in zip(keys, averages[last], seen[last], strict=True):
        found = saved["weights"][key]
        torch.testing.assert_close(found, average, rtol=1e-4, atol=1e-6)
        assert (found - not_this).norm() > 1e-3 * (not_this - seen[0][keys.index(key)]).norm()


def parse(harness, train, *words):
    return harness.run.command_line(
        "", train.RECIPES, words, experiments=train.experiments.RECIPES, **train.ABLATIONS
    )


def test_the_recipe_of_2015_has_the_papers_numbers(harness, train):
    """Those of GoogLeNet as 4.2.1 changes them, and of BN-x30 in 4.2.2."""
    options = parse(harness, train, "--recipe", "paper", "--data", "cifar10")
    assert options.lr == pytest.approx(30 * 0.0015) and options.batch_size == 32
    assert options.weight_decay == pytest.approx(2e-4 / 5)
    assert options.decay_every == pytest.approx(8 / 6)
    assert (options.lrn, options.dropout, options.activation) == ("off", 0, "relu")
    assert options.norm in ("batch", "torch") and options.width == 1 and options.image_size == 224
    assert options.epochs * 1_281_167 / 32 == pytest.approx(6e6, rel=0.01)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("size, steps", [(10, 8), (12, 7)])
def test_the_rate_of_2015_falls_by_four_percent_every_eight_sixths_of_an_epoch(
    world, train, monkeypatch, size, steps
):
    """8 steps of 6 an epoch; 6.67 of 5, which is 7."""
    small = {"side": 40, "image_size": 32, "width": 1 / 8}
    monkeypatch.setitem(train.RECIPES, "paper", {**train.RECIPES["paper"], **small})
    monkeypatch.setattr(train, "SCALES", (36,))
    words = ("--recipe", "paper", "--data", "cifar10", "--epochs", 3, "--batch-size", size)
    world.main(*words)
    (fit,) = world.fits
    expected = [0.045 * 0.96 ** (step // steps) for step in range(3 * 60 // size)]
    assert fit.rates == pytest.approx(expected)
    assert fit.group["weight_decay"] == pytest.approx(4e-5) and fit.group["momentum"] == 0.9
    assert fit.model.lrn == "off" and fit.model.dropout == 0
    assert "optimizer" in fit.run.state and world.names == {"cifar10"}


def refused(world, capsys, *words):
    """The one line on stderr of what ends with exit code 2 and nothing written."""
    with pytest.raises(SystemExit) as stopped:
        world.main(*words)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and len(error.splitlines()) == 1
    assert not world.home.exists()
    return error


@pytest.mark.parametrize("norm", ["batch", "torch"])
@pytest.mark.parametrize(
    "words", ["--batch-size 1", "--limit 41 --batch-size 20", "--limit 1", "--batch-size 59"]
)
def test_a_batch_of_one_image_is_refused(world, capsys, words, norm):
    """It may be the last one of an epoch."""
    assert "one image" in refused(world, capsys, "--norm", norm, *words.split())
    assert world.steps == 0


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("words", ["--batch-size 1 --limit 3", "--limit 41 --batch-size 20"])
def test_a_batch_of_one_image_is_fine_without_normalization(world, words):
    world.main("--norm", "none", "--epochs", 1, *words.split())
    assert world.steps == 3 and finished(world.home)


def test_the_ablations_run(world):
    words = "--norm batch --activation sigmoid --aux off --lrn on --dropout 0.4 --without 5x5"
    assert "nothing written" in world.main(*words.split(), "--dry-run")
    (fit,) = world.fits
    assert fit.model.conv1.activation(torch.zeros(1)) == 0.5
    assert type(fit.model.conv1.norm).__module__ == "model"
    assert fit.run.settings["lrn"] == fit.model.lrn == "on" and fit.model.dropout == 0.4
    assert not hasattr(fit.model, "aux_4a") and "5x5" not in fit.model.inception_3a.branches


# What the experiments measure


@pytest.mark.parametrize(
    "accuracies, level, steps",
    [
        ([0.5, 0.75], 0.5, 100),
        ([0.5, 0.75], 0.25, 50),  # in the first epoch, from 0
        ([0.5, 0.75], 0.625, 150),
        ([0.5, 0.75], 0.75, 200),
        ([0.5, 0.75], 0.875, None),
        ([0.5, 0.25, 0.75], 0.5, 100),  # the first time
        ([0.5, 0.25, 0.75], 0.625, 275),  # after a fall
        ([0.5, 0.5, 0.75], 0.5, 100),
        ([0.75, 0.5, 0.25], 0.75, 100),
        ([0.25, 0.25, 0.25], 0.5, None),
        ([0.5], 0.125, 25),
        ([0.5], math.inf, None),
        ([], 0.5, None),
    ],
    ids=str,
)
def test_when_a_run_is_at_a_level(train, accuracies, level, steps):
    """A straight line between the ends of epochs, each of 100 steps."""
    history = [{"step": 100 * n, "validation_accuracy": a} for n, a in enumerate(accuracies, 1)]
    found = train.experiments.steps_to(history, level)
    assert found is None if steps is None else found == pytest.approx(steps)


class Linear(nn.Linear):
    """A layer that returns its scores as a network does in training."""

    def forward(self, x):
        return (super().forward(x),)


def test_predictiveness_is_that_of_a_loss_known_in_closed_form(train, monkeypatch):
    """h/2 |w|^2: a step of rate r has w' = (1 - hr) w, so the fall is 1 - hr/2 of the promise."""
    h = 4.0
    net = Linear(3, 2, bias=False).double()
    loss = h / 2 * net.weight.detach().square().sum().item()
    monkeypatch.setattr(
        train.experiments.F, "cross_entropy", lambda scores, labels: h / 2 * scores.square().sum()
    )
    loaders = [range(7)], [(torch.eye(3, dtype=torch.float64), None)], None
    rates = {"small": 0.125, "just": 0.5, "large": 2.0}
    run = SimpleNamespace(epoch=5, device=torch.device("cpu"))
    found = train.experiments.predictiveness(run, net, loaders, rates)
    assert found == pytest.approx(
        {
            "step": 5,
            **{"fall_small": 0.75, "turn_small": 1},
            **{"fall_just": 0, "turn_just": -1},
            **{"fall_large": -3, "turn_large": -1},
        }
    )
    assert h / 2 * net.weight.square().sum().item() == loss


def test_predictiveness_of_a_linear_classifier_is_numpys(train):
    draws = numpy.random.default_rng(0)
    x, labels = draws.normal(size=(6, 4)), draws.integers(0, 3, 6)
    w, b = draws.normal(size=(3, 4)), draws.normal(size=3)

    def look(w, b):
        scores = x @ w.T + b
        softmax = numpy.exp(scores) / numpy.exp(scores).sum(1, keepdims=True)
        d_scores = (softmax - numpy.eye(3)[labels]) / 6
        loss = -numpy.log(softmax[range(6), labels]).mean()
        return loss, numpy.concatenate([(d_scores.T @ x).ravel(), d_scores.sum(0)])

    net = Linear(4, 3).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor(w))
        net.bias.copy_(torch.tensor(b))
    rates = {"x1": 0.01, "x30": 0.3, "x1000": 10.0}
    loaders = range(4), [(torch.tensor(x), torch.tensor(labels)), None], None
    run = SimpleNamespace(epoch=2, device=torch.device("cpu"))
    found = train.experiments.predictiveness(run, net, loaders, rates)
    loss, gradient = look(w, b)
    expected = {"step": 8}
    for name, rate in rates.items():
        after, turned = look(w - rate * gradient[:12].reshape(3, 4), b - rate * gradient[12:])
        expected[f"fall_{name}"] = (loss - after) / (rate * gradient @ gradient)
        expected[f"turn_{name}"] = (
            gradient @ turned / numpy.linalg.norm(gradient) / numpy.linalg.norm(turned)
        )
    assert [*found] == [*expected] and found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_predictiveness_looks_in_training_and_leaves_all_as_it_was(model, train, mode):
    """By steps of PyTorch's optimizer on a copy; weights, statistics, mode, draws are kept."""
    net = narrow(model, dropout=0.0, aux="off", lrn="off").train(mode)
    images, labels = torch.randn(8, 3, 64, 64), torch.arange(8)
    copied = copy.deepcopy(net).train()
    gradient = gradients_of(before := F.cross_entropy(copied(images)[0], labels), copied)
    square = sum(g.square().sum().item() for g in gradient)
    for parameter, g in zip(copied.parameters(), gradient):
        parameter.grad = g
    torch.optim.SGD(copied.parameters(), 0.05).step()
    after = F.cross_entropy(copied(images)[0], labels)
    turned = gradients_of(after, copied)
    dot = sum((g * t).sum().item() for g, t in zip(gradient, turned))
    length = math.sqrt(sum(t.square().sum().item() for t in turned))

    state, draws = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    run = SimpleNamespace(epoch=1, device=torch.device("cpu"))
    rates = {"x1": 0.001, "x50": 0.05, "x1000": 1.0}
    loaders = range(9), [(images, labels)], None
    found = train.experiments.predictiveness(run, net, loaders, rates)
    assert found["step"] == 9
    fall = (before.item() - after.item()) / (0.05 * square)
    assert found["fall_x50"] == pytest.approx(fall, rel=1e-3)
    assert found["turn_x50"] == pytest.approx(dot / math.sqrt(square) / length, rel=1e-3)
    assert torch.equal(torch.get_rng_state(), draws)
    assert net.training == mode and all(part.training == mode for part in net.modules())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_predictiveness_drops_the_same_units_each_time(train):
    """Then a small step brings what the gradient promises."""

    class Dropping(Linear):
        def forward(self, x):
            return super().forward(F.dropout(x, 0.5, self.training))

    torch.manual_seed(0)
    net, run = Dropping(40, 5).double(), SimpleNamespace(epoch=1, device=torch.device("cpu"))
    batch = torch.randn(6, 40, dtype=torch.float64), torch.arange(6) % 5
    loaders = range(1), [batch], None
    found = train.experiments.predictiveness(run, net, loaders, {"x1": 1e-4})
    assert found["fall_x1"] == pytest.approx(1, abs=1e-3)
    assert found["turn_x1"] == pytest.approx(1, abs=1e-3)


def small_set(images, classes, seed):
    """Loaders of images [N, 1, 2, 2] in batches of 7, and the images and labels themselves."""
    draws = torch.Generator().manual_seed(seed)
    whole = TensorDataset(
        2 * torch.randn(images, 1, 2, 2, generator=draws) + 1,
        torch.randint(classes, (images,), generator=draws),
    )
    return DataLoader(whole, 7), *whole.tensors


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_progress_is_numpys_percentiles_and_the_share_right(harness, model, train, norm, mode):
    """Of the sums that the first sigmoid of the last hidden layer is given, in evaluation mode."""
    torch.manual_seed(0)
    net = stir(model.MLP(4, 4, norm)).train(mode)
    state = copy.deepcopy(net.state_dict())
    validation, images, _ = small_set(30, 4, 1)
    test, others, labels = small_set(25, 4, 2)
    run = harness.run.Run(NAME, parse(harness, train, "--experiment", "figure1"), norm=norm)
    run.epoch = 3
    found = train.experiments.progress(run, net, (range(11), validation, test))

    def normal(layer, x):
        sums = F.linear(x, layer.weight, layer.bias)
        if norm == "none":
            return sums
        scale = layer.norm.weight / torch.sqrt(layer.norm.running_var + 1e-5)
        return (sums - layer.norm.running_mean) * scale + layer.norm.bias

    def sums(x):
        return normal(net.fc3, normal(net.fc2, normal(net.fc1, x.flatten(1)).sigmoid()).sigmoid())

    with torch.no_grad():
        expected = numpy.percentile(sums(images)[:, 0].numpy(), [15, 50, 85])
        scores = F.linear(sums(others).sigmoid(), net.fc4.weight, net.fc4.bias)
    assert [*found] == ["step", "test_accuracy", "unit_15", "unit_50", "unit_85"]
    assert found["step"] == 33
    assert found["test_accuracy"] == (scores.argmax(1) == labels).sum().item() / 25
    units = [found[f"unit_{percent}"] for percent in (15, 50, 85)]
    assert units == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5)
    assert units[0] < units[1] < units[2]
    assert net.training == mode and not net.fc3.norm._forward_hooks
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def stock_in_training(net):
    """A function of images: scores of MLP `net` by stock layers in training mode, fresh ones."""

    def scores(images):
        x = images.flatten(1)
        for layer in (net.fc1, net.fc2, net.fc3):
            norm = nn.BatchNorm1d(100).train()
            norm.load_state_dict(layer.norm.state_dict())
            x = torch.sigmoid(norm(F.linear(x, layer.weight)))
        return F.linear(x, net.fc4.weight, net.fc4.bias)

    return scores


@torch.no_grad()
@pytest.mark.parametrize("size, counted", [(60, 70), (8, 70), (2, 70), (23, 69), (100, 70)])
def test_accuracy_in_training_is_that_of_stock_layers(model, train, size, counted):
    """All images count but a last one alone; running statistics and mode are left as they are."""
    torch.manual_seed(0)
    net = stir(model.MLP(4, 4)).eval()
    state = copy.deepcopy(net.state_dict())
    _, images, labels = small_set(70, 4, 1)
    stock, right = stock_in_training(net), 0
    for first in range(0, counted, size):
        part = slice(first, min(first + size, counted))
        right += (stock(images[part]).argmax(1) == labels[part]).sum().item()
    found = train.experiments.accuracy_in_training(net, images, labels, size)
    assert 0 < right < counted and found == pytest.approx(right / counted)
    assert not any(part.training for part in net.modules())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


@torch.no_grad()
def test_forgetting_evaluation_mode_is_measured_at_each_size_and_sorted_by_class(model, train):
    torch.manual_seed(0)
    net = stir(model.MLP(4, 4))
    for layer in net.children():
        layer.weight.mul_(10)
    state = copy.deepcopy(net.state_dict())
    loader, images, labels = small_set(130, 4, 1)
    images += 2 * labels.view(-1, 1, 1, 1)
    found = train.experiments.forgotten(None, net, (None, loader, None))
    sizes = train.experiments.SIZES
    assert [*found] == [*(f"training_{size}" for size in sizes), "training_sorted"]
    stock = stock_in_training(net)
    order = torch.tensor(sorted(range(130), key=lambda i: labels[i].item()))
    for key, value in found.items():
        size = 60 if key == "training_sorted" else int(key.removeprefix("training_"))
        of = order if key == "training_sorted" else torch.arange(130)
        right = [stock(images[part]).argmax(1) == labels[part] for part in of.split(size)]
        assert value == pytest.approx(torch.cat(right).float().mean().item())
    assert len({*found.values()}) == 4
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_pixels_are_gray_or_black_and_white(train):
    values = torch.arange(784).view(1, 1, 28, 28) % 256
    prepare = train.experiments.prepare
    gray, binary = (prepare(values.byte(), pixels) for pixels in ("gray", "binary"))
    assert gray.dtype == binary.dtype == torch.float32
    assert gray.flatten().tolist() == pytest.approx([v / 255 for v in values.flatten().tolist()])
    assert binary.flatten().tolist() == [float(v > 127) for v in values.flatten().tolist()]


def test_larger_images_are_brought_to_28_pixels_by_means(train):
    """Black or white is a mean, not a pixel."""
    images = torch.zeros(2, 3, 56, 56, dtype=torch.uint8)
    images[0, 1, 2:4, 6:8] = torch.tensor([[255, 255], [255, 0]])
    images[1, 2, 54:, :2] = torch.tensor([[255, 0], [0, 253]])
    gray, binary = (train.experiments.prepare(images, pixels) for pixels in ("gray", "binary"))
    assert gray.shape == (2, 3, 28, 28) and gray.count_nonzero() == 2
    assert gray[0, 1, 1, 3].item() == pytest.approx(0.75)
    assert gray[1, 2, 27, 0].item() == pytest.approx(508 / 1020)
    assert binary[0, 1, 1, 3] == 1 and binary.count_nonzero() == 1


# The experiments


def assert_points_are_those_of_the_runs(world, varied):
    """points.csv has every epoch of every finished run, in order, with what was varied."""
    (path,) = world.home.glob("*/points.csv")
    points = rows(path)
    folders = [fit.run.folder for fit in world.fits if (fit.run.folder / "weights.pt").exists()]
    assert len({*folders}) == len(folders)
    epochs = [row for folder in folders for row in rows(folder / "history.csv")]
    assert [{key: point[key] for key in row} for point, row in zip(points, epochs)] == epochs
    assert len(points) == len(epochs)
    assert [*points[0]] == [*dict.fromkeys([*varied, *epochs[0]])]
    assert path.with_name("curves.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in path.parent.iterdir()) == ["curves.png", "points.csv"]
    for folder in folders:
        assert sorted(file.name for file in folder.iterdir()) == ["history.csv", "weights.pt"]
    return points


def assert_trained_by_plain_gradient_descent(train, fit, epochs, batches):
    assert type(fit.optimizer) is torch.optim.SGD
    assert fit.group["momentum"] == fit.group["weight_decay"] == 0
    lr = fit.run.settings["lr"]
    assert fit.rates == epochs * batches * [lr] and len(fit.loaders[0]) == batches
    saved = torch.load(fit.run.folder / "weights.pt", weights_only=True)
    assert saved["result"]["epoch"] == epochs  # the last, and no average
    for key, value in fit.model.state_dict().items():
        assert torch.equal(saved["weights"][key], value)


def test_figure_1_is_three_seeds_without_and_with(world, model, train):
    """At one rate from end to end; the table is that of the histories."""
    words = ("--experiment", "figure1", "--epochs", 2, "--batch-size", 20, "--seed", 4)
    printed = world.main(*words)
    points = assert_points_are_those_of_the_runs(world, ["norm", "seed"])
    expected = [(norm, seed) for norm in ("none", "batch") for seed in (4, 5, 6)]
    assert [(fit.run.settings["norm"], fit.run.settings["seed"]) for fit in world.fits] == expected
    assert [(row["norm"], row["seed"], row["step"]) for row in points] == [
        (norm, str(seed), step) for norm, seed in expected for step in "36"
    ]
    kinds = {"none": nn.Identity, "batch": model.BatchNorm1d}
    for fit in world.fits:
        assert type(fit.model) is model.MLP
        assert type(fit.model.fc1.norm) is kinds[fit.run.settings["norm"]]
        assert fit.run.settings["lr"] == train.experiments.FIGURE_1["laptop"]["lr"]
        assert_trained_by_plain_gradient_descent(train, fit, epochs=2, batches=3)
        tested = [row["test_accuracy"] for row in fit.run.history]
        assert tested[-1] == fit.run.result["test_accuracy"]
        images = torch.cat([images for images, _ in fit.loaders[0]])
        assert images.shape == (60, 1, 28, 28) and images.max() <= 1
        assert len(images.unique()) > 100
    assert len({fit.model.fc1.weight[0, 0].item() for fit in world.fits}) == 6
    for norm in ("none", "batch"):
        (line,) = [line for line in printed.splitlines() if line.startswith(f"norm {norm} ")]
        for step in "36":
            own = [
                100 * float(row["test_accuracy"])
                for row in points
                if (row["norm"], row["step"]) == (norm, step)
            ]
            told = ", ".join(f"{value:.2f}" for value in own)
            assert f"   {told}; {numpy.mean(own):.2f}" in line
        assert line.count(";") == 2


def test_figure_1_of_the_paper_is_mnist_in_black_and_white(world, harness, train):
    """50,000 steps of 60 images (4.1)."""
    world.main("--experiment", "figure1", "--recipe", "paper", "--epochs", 1)
    assert world.names == {"mnist"} and len(world.fits) == 6
    for fit in world.fits:
        images = torch.cat([images for loader in fit.loaders for images, _ in loader])
        assert images.unique().tolist() == [0, 1]
    options = parse(harness, train, "--experiment", "figure1", "--recipe", "paper")
    assert options.batch_size == 60
    assert options.epochs * -(-55_000 // 60) == pytest.approx(50_000, rel=0.02)


@pytest.fixture
def of_figure_2(world):
    """Run figure2 with 6 steps an epoch: (what it prints, its points, {network: fit})."""

    def run(*words):
        printed = world.main("--experiment", "figure2", "--batch-size", 10, *words)
        return printed, {fit.run.settings["network"]: fit for fit in world.fits}

    return run


def test_figure_2_is_the_papers_five_networks_and_one_of_ours(world, train, of_figure_2):
    """With its learning rates, and what 4.2.1 changes; the table is that of the histories."""
    printed, fits = of_figure_2("--epochs", "2", "--lr", 0.002)
    assert [*fits] == [*FIGURE_2, "Inception-decay"]
    varied = "network lr norm lrn dropout weight_decay decay_every activation".split()
    points = assert_points_are_those_of_the_runs(world, varied)
    first, ours = fits["Inception"], fits["Inception-decay"]
    for name, (lr, normalized, as_it_was, rectified) in FIGURE_2.items():
        fit = fits[name]
        net, times = fit.model, round(lr / 0.0015)
        assert fit.group["lr"] == pytest.approx(0.002 * times) and fit.group["momentum"] == 0.9
        assert type(net.conv1.norm) is (nn.BatchNorm2d if normalized else nn.Identity)
        assert (net.conv1.bias is None) == normalized
        assert (net.lrn, net.dropout) == (("on", 0.4) if as_it_was else ("off", 0))
        decay = first.group["weight_decay"] / (1 if as_it_was else 5)
        assert fit.group["weight_decay"] == pytest.approx(decay) and decay > 0
        assert type(fit.schedule) is torch.optim.lr_scheduler.StepLR
        assert fit.schedule.gamma == 0.96
        assert first.schedule.step_size == fit.schedule.step_size * (1 if as_it_was else 6)
        layers = [part for part in net.modules() if hasattr(part, "activation")]
        below = {layer.activation(torch.zeros(1) - 1).item() for layer in layers}
        assert len(layers) == 57 and below == {
            0 if rectified else torch.tensor(-1.0).sigmoid().item()
        }
    differing = {key for key in varied if first.run.settings[key] != ours.run.settings[key]}
    assert differing == {"network", "decay_every"}
    assert first.schedule.step_size == 6 * ours.schedule.step_size

    measured = {f"{what}_x{n}" for what in ("fall", "turn") for n in train.experiments.TIMES}
    for name in fits:
        own = [row for row in points if row["network"] == name]
        assert [row["step"] for row in own] == ["6", "12"]
        assert all(math.isfinite(float(row[column])) for row in own for column in measured)
        best = max(float(row["validation_accuracy"]) for row in own)
        (line,) = [line for line in printed.splitlines() if line.startswith(f"{name} ")]
        assert line.endswith(f"  {100 * best:.2f}%")


@pytest.fixture
def table(harness, train, world, monkeypatch):
    """The lines that figure2 prints if these are the validation accuracies; None: diverged."""

    def table(curves):
        def googlenet(options, measure, **variant):
            run = harness.run.Run(NAME, options, **variant)
            if (curve := curves[variant["network"]]) is None:
                raise harness.run.Diverged("training has diverged")
            numbers = ({"step": 100 * n, "validation_accuracy": a} for n, a in enumerate(curve, 1))
            run.history = [*numbers]
            return run

        monkeypatch.setattr(train, "googlenet", googlenet)
        networks = train.experiments.NETWORKS
        monkeypatch.setattr(
            train.experiments, "NETWORKS", {name: networks[name] for name in curves}
        )
        printed = world.main("--experiment", "figure2").splitlines()
        lines = [" ".join(line.split()) for line in printed]
        assert lines.count("training has diverged") == [*curves.values()].count(None)
        return [line for line in lines if line.startswith(("Steps", *FIGURE_2))]

    return table


def test_figure_2_tells_how_many_times_as_fast_each_is(table):
    """At Inception's best accuracy."""
    curves = [[0.5, 0.75, 0.625], [0.5, 1.0, 0.5], [0.75, 0.875], [1.0, 0.75], [0.25, 0.5]]
    assert table(dict(zip(FIGURE_2, curves))) == [
        "Steps to 75.00% of the validation images, Inception's best; the best of each",
        "Inception 200 (1.0 times as fast) 75.00%",
        "BN-Baseline 150 (1.3 times as fast) 100.00%",
        "BN-x5 100 (2.0 times as fast) 87.50%",
        "BN-x30 75 (2.7 times as fast) 100.00%",
        "BN-x5-Sigmoid never 50.00%",
    ]


def test_a_network_of_figure_2_that_diverges_is_left_out(world, table):
    curves = [[0.5, 0.75], [0.75, 0.25], None, [0.25], None]
    assert table(dict(zip(FIGURE_2, curves)))[1:] == [
        "Inception 200 (1.0 times as fast) 75.00%",
        "BN-Baseline 100 (2.0 times as fast) 75.00%",
        "BN-x30 never 25.00%",
    ]
    (path,) = world.home.glob("*/points.csv")
    assert [row["network"] for row in rows(path)] == [
        *("Inception", "Inception", "BN-Baseline", "BN-Baseline", "BN-x30")
    ]


def test_where_a_learning_rate_is_too_high_the_others_go_on(world, train, monkeypatch, of_figure_2):
    networks = train.experiments.NETWORKS
    few = {"BN-x30": (math.inf, networks["BN-x30"][1]), "Inception": networks["Inception"]}
    monkeypatch.setattr(train.experiments, "NETWORKS", few)
    printed, fits = of_figure_2("--epochs", 1)
    assert [*fits] == ["BN-x30", "Inception"] and "training has diverged" in printed
    points = assert_points_are_those_of_the_runs(world, ["network", "lr", *networks["BN-x5"][1]])
    assert {row["network"] for row in points} == {"Inception"}


def test_the_dangers_are_three_sizes_without_and_with(world, train):
    """The table is that of the last epochs."""
    printed = world.main("--experiment", "dangers", "--epochs", 2)
    sizes = train.experiments.SIZES
    points = assert_points_are_those_of_the_runs(world, ["batch_size", "norm"])
    expected = [(size, norm) for size in sizes for norm in ("none", "batch")]
    settings = [fit.run.settings for fit in world.fits]
    assert [(own["batch_size"], own["norm"]) for own in settings] == expected
    assert {own["lr"] for own in settings} == {train.experiments.DANGERS["laptop"]["lr"]}
    assert [(row["batch_size"], row["norm"], row["epoch"]) for row in points] == [
        (str(size), norm, epoch) for size, norm in expected for epoch in "12"
    ]
    columns = ["validation_accuracy", *(f"training_{size}" for size in sizes), "training_sorted"]
    for fit, (size, norm), own in zip(world.fits, expected, points[1::2], strict=True):
        assert_trained_by_plain_gradient_descent(train, fit, epochs=2, batches=-(-60 // size))
        assert {len(images) for images, _ in fit.loaders[0]} <= {size, 60 % size}
        (line,) = [
            line
            for line in printed.splitlines()
            if line.startswith(f"norm {norm}, batches of {size} ")
        ]
        told = [f"{100 * float(own[column]):.2f}" for column in columns]
        assert line.split()[-len(told) :] == told
        if norm == "none":  # the same in both modes, and however the 70 images are put together
            assert [float(own[column]) for column in columns] == pytest.approx(
                len(columns) * [float(own["validation_accuracy"])]
            )


def test_the_dangers_of_one_size_are_to_be_had(world):
    printed = world.main("--experiment", "dangers", "--epochs", 1, "--batch-size", 20)
    points = assert_points_are_those_of_the_runs(world, ["batch_size", "norm"])
    assert [(row["batch_size"], row["norm"]) for row in points] == [("20", "none"), ("20", "batch")]
    assert "norm batch, batches of 20 " in printed


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_takes_images_in_colour_of_another_size(world, harness, experiment):
    parts = [
        (torch.randint(0, 256, (n, 3, 32, 32)).byte(), torch.arange(n) % 3) for n in (60, 20, 9)
    ]
    world.data = harness.data.Data(("low", "middle", "high"), 3, *parts)
    words = ("--experiment", experiment, "--data", "cifar10", "--dry-run")
    assert "nothing written" in world.main(*words) and world.names == {"cifar10"}
    assert {next(fit.model.parameters()).shape[1] for fit in world.fits} <= {3, 3 * 28**2}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_typed_again_trains_nothing_and_writes_the_same(world, experiment):
    words = ("--experiment", experiment, "--epochs", 1)
    printed = world.main(*words)
    assert world.steps > 0 and len([*world.home.glob("*/weights.pt")]) == len(world.fits)
    before = {path: path.read_bytes() for path in world.home.rglob("*.*") if path.is_file()}
    again = world.main(*words)
    assert world.steps == 0
    after = {path: path.read_bytes() for path in world.home.rglob("*.*") if path.is_file()}
    assert len([*world.home.glob("*/points.csv")]) == 1 and after == before
    ending = again.rpartition("--fresh trains it again\n")[2]
    assert len(ending.splitlines()) > 3 and printed.endswith(ending)


@pytest.mark.parametrize("words", [[], *(["--experiment", name] for name in EXPERIMENTS)], ids=str)
def test_a_dry_run_writes_nothing(world, words):
    assert "nothing written" in world.main(*words, "--dry-run")
    assert not world.home.exists() and world.steps == len(world.fits) > 0


@pytest.mark.parametrize(
    "words, named",
    [
        ("--experiment figure1 --norm batch", "--norm"),
        ("--experiment figure1 --activation relu", "--activation"),
        ("--experiment figure2 --norm batch", "--norm"),
        ("--experiment figure2 --aux on", "--aux"),
        ("--experiment figure2 --lrn off", "--lrn"),
        ("--experiment dangers --dropout 0.4", "--dropout"),
        ("--experiment figure2 --recipe paper", "--recipe paper"),
        ("--experiment dangers --recipe paper", "--recipe paper"),
        ("--experiment figure3", "--experiment"),
        ("--norm layer", "--norm"),
        ("--activation tanh", "--activation"),
        ("--recipe paper", "--data"),
    ],
)
def test_what_does_not_go_together_is_one_line_and_exit_code_2(world, capsys, words, named):
    assert named in refused(world, capsys, *words.split())


@pytest.mark.parametrize(
    "words",
    [
        "figure1 --epochs 1 --limit 41 --batch-size 20",
        "figure2 --epochs 1 --limit 41 --batch-size 20",
        "dangers --epochs 1 --limit 49",
    ],
)
def test_an_experiment_with_a_batch_of_one_image_is_refused_at_once(world, capsys, words):
    """Before the networks without normalization are trained."""
    assert "one image" in refused(world, capsys, "--experiment", *words.split())
    assert world.steps == 0
