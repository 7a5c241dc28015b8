"""Batch normalization against PyTorch's and numpy's; the networks and their training."""

import copy
import itertools
import math

from conftest import clean, folder_of_images

import pytest
import torch
from test_googlenet import TABLE_1, recorded_steps
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torchvision.models.googlenet import BasicConv2d

NAME = "BatchNorm"
NARROW = "--data cifar10 --width 0.05 --side 32 --image-size 28".split()
SHAPES = [(8, 5), (2, 7), (3, 1), (4, 3, 6), (1, 3, 2), (2, 1, 5)]
SHAPES += [(4, 3, 6, 5), (1, 4, 1, 2), (2, 1, 3, 3), (2, 5, 1, 1), (3, 2, 1, 7)]


def stir(net):
    """Give every layer of a network weights and running statistics of its own."""
    for value in net.state_dict().values():
        if value.dim() == 1:
            value.uniform_(0.5, 1.5)
    return net


def layers(model, shape, dtype=torch.float64, **how):
    """Our layer and PyTorch's for inputs of a shape, with the same gamma and beta."""
    name = "BatchNorm2d" if len(shape) == 4 else "BatchNorm1d"
    ours, theirs = (getattr(home, name)(shape[1], **how).to(dtype) for home in (model, nn))
    stir(theirs).reset_running_stats()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def passed(layer, x, d_y, wanted=(True, True, True)):
    """The output of a layer, and those gradients of x, gamma and beta that are wanted."""
    leaves = [x.detach(), *layer.parameters()]
    for leaf, want in zip(leaves, wanted):
        leaf.requires_grad_(want)
    y = layer(leaves[0])
    assert y.requires_grad == any(wanted)
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    return [y, *(torch.autograd.grad(y, asked, d_y) if asked else [])]


@pytest.mark.parametrize("how", [{}, {"eps": 0.1, "momentum": 0.4}], ids=str)
@pytest.mark.parametrize("dtype, limit", [(torch.float32, 2e-5), (torch.float64, 1e-12)], ids=str)
def test_it_is_pytorchs_in_training_and_in_evaluation(model, dtype, limit, how):
    """Output, gradients, running statistics of several batches, whatever the strides."""
    torch.manual_seed(0)
    for shape in SHAPES:
        wide = 2 * torch.randn(*shape[:-1], 3 * shape[-1], dtype=dtype) + 1
        inputs = [wide[..., ::3], wide[..., : shape[-1]].contiguous()]
        if len(shape) == 4:
            inputs.append(inputs[0].contiguous(memory_format=torch.channels_last))
        d_ys = [*map(torch.randn_like, inputs), torch.ones((), dtype=dtype).expand(shape)]
        for x in inputs:
            both, before = layers(model, shape, dtype, **how), x.clone()
            for d_y, mode in [*((d_y, True) for d_y in d_ys), (d_ys[0], False)]:
                ours, theirs = (passed(layer.train(mode), x, d_y) for layer in both)
                assert_close(ours, theirs, rtol=limit, atol=limit)
                assert_close(*(layer.state_dict() for layer in both), rtol=limit, atol=limit)
                assert torch.equal(x, before)  # not changed in place
                if x is not inputs[0] and 1 not in shape:
                    assert ours[0].stride() == theirs[0].stride() == x.stride()
            assert both[0].num_batches_tracked == len(d_ys)
    for mode, *wanted in itertools.product([True, False], repeat=4):
        assert_close(*(passed(layer.train(mode), x, d_ys[0], wanted) for layer in both))


@pytest.mark.parametrize("shape", [(6, 3), (2, 2), (3, 2, 4), (2, 3, 2, 4), (1, 2, 3, 1)], ids=str)
def test_algorithm_1_and_its_gradients_are_the_papers_equations(model, shape):
    """In numpy, channel by channel; the gradients equal finite differences, too."""
    torch.manual_seed(0)
    layer, _ = layers(model, shape, eps=1e-3, momentum=0.3)
    x, d_y = 3 * torch.randn(shape, dtype=torch.float64) - 1, torch.randn(shape).double()
    y, d_x, d_gamma, d_beta = passed(layer, x, d_y)
    flat = [part.detach().transpose(0, 1).flatten(1).numpy() for part in (x, d_y, y, d_x)]
    for c, (x, d_y, y, d_x) in enumerate(zip(*flat)):
        gamma, beta, m = layer.weight[c].item(), layer.bias[c].item(), len(x)
        mean = x.sum() / m
        variance = ((x - mean) ** 2).sum() / m
        deviation = (variance + 1e-3) ** 0.5
        x_hat = (x - mean) / deviation
        d_x_hat = d_y * gamma
        d_variance = (d_x_hat * (x - mean) * -1 / 2 * (variance + 1e-3) ** (-3 / 2)).sum()
        d_mean = (d_x_hat * -1 / deviation).sum() + d_variance * (-2 * (x - mean)).sum() / m
        expected = d_x_hat / deviation + d_variance * 2 * (x - mean) / m + d_mean / m
        assert y == pytest.approx(gamma * x_hat + beta, rel=1e-11)
        assert d_x == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert d_gamma[c].item() == pytest.approx((d_y * x_hat).sum(), rel=1e-10)
        assert d_beta[c].item() == pytest.approx(d_y.sum(), rel=1e-10)
        assert layer.running_mean[c].item() == pytest.approx(0.3 * mean)
        assert layer.running_var[c].item() == pytest.approx(0.7 + 0.3 * variance * m / (m - 1))
    leaves = torch.randn(shape).double().requires_grad_(), layer.weight, layer.bias
    for mode in (False, True):
        stir(layer).train(mode)
        assert torch.autograd.gradcheck(lambda x, *_: layer(x), leaves)  # it shifts them in place
    for power in (1, 3):  # a second derivative would be wrong without a word
        with pytest.raises(RuntimeError, match="second derivative"):
            torch.autograd.grad((layer(leaves[0]) ** power).sum(), leaves, create_graph=True)


def test_a_mean_far_from_0_costs_no_more_than_its_own_last_digits(model):
    """Mean 1000, which single precision knows to 2^-14; PyTorch's is within the same bounds."""
    torch.manual_seed(0)
    swapped = torch.randn(16, 6, 6, 8).permute(0, 3, 1, 2)
    for x in (torch.randn(64, 8), torch.randn(16, 8, 10), torch.randn(16, 8, 6, 6), swapped):
        x, d_y = x + 1000, torch.randn_like(x)
        ours, theirs = layers(model, x.shape, torch.float32)
        exact = copy.deepcopy(theirs).double(), torch.double
        for mode in (True, False):
            true, *both = (
                [*passed(layer.train(mode), x.to(kind), d_y.to(kind)), *layer.buffers()]
                for layer, kind in (exact, (ours, torch.float), (theirs, torch.float))
            )
            for here, there in (pair for found in both for pair in zip(found, true)):
                assert (here - there).double().norm() < 2**-10 * there.double().norm()


def test_other_shapes_and_one_value_a_channel_are_errors_that_name_them(model):
    """The second in training alone, for want of a variance."""
    shapes = [(3,), (4, 3), (4, 2), (4, 6), (4, 3, 5), (4, 2, 3), (2, 3, 4, 4), (2, 4, 3, 3)]
    shapes += [(2, 1, 3, 3), (2, 3, 1, 1, 1), (1, 3), (1, 3, 1), (0, 3), (1, 3, 1, 1), (0, 3, 2, 2)]
    for name, dimensions in (("BatchNorm1d", (2, 3)), ("BatchNorm2d", (4,))):
        layer, stock = stir(getattr(model, name)(3)), getattr(nn, name)(3)
        stock.load_state_dict(layer.state_dict())
        for shape, mode in itertools.product(shapes, (True, False)):
            x = torch.randn(shape)
            if len(shape) in dimensions and shape[1] == 3 and (x.numel() > 3 or not mode):
                assert_close(layer.train(mode)(x), stock.train(mode)(x))
                continue
            with pytest.raises(ValueError) as error:
                layer.train(mode)(x)
            assert name in str(error.value) and str(shape) in str(error.value)
        assert_close(layer.state_dict(), stock.state_dict())


def outcome(module, images, **knobs):
    """All that a narrow GoogLeNet starts with, gives in both modes, and has as gradients."""
    torch.manual_seed(7)
    net = module.GoogLeNet(num_classes=10, image_size=64, width=1 / 8, **knobs).to(images.dtype)
    found, scores = copy.deepcopy(net.state_dict()), net(images)
    losses = (n * F.cross_entropy(own, torch.arange(3)) for n, own in enumerate(scores, 1))
    found |= dict(enumerate(torch.autograd.grad(sum(losses), [*net.parameters()])))
    found |= {f"{key} later": value for key, value in net.state_dict().items()}
    return {**found, "scores": torch.cat(scores), "evaluation": net.eval()(images)}


def test_without_normalization_it_is_googlenet_bit_for_bit(model, every_branch):
    """The same initial weights under one seed, the same scores and gradients."""
    as_it_was, googlenet = {"lrn": True, "dropout": 0.4}, every_branch["GoogLeNet"].model
    for knobs in ({}, {"aux": False}, {"reduction": False, "without": "pool", "in_channels": 1}):
        images = 60 * torch.randn(3, knobs.get("in_channels", 3), 64, 64)
        ours = outcome(model, images, norm="none", activation="relu", **as_it_was, **knobs)
        theirs = outcome(googlenet, images, **knobs)
        assert [*ours] == [*theirs] and all(map(torch.equal, ours.values(), theirs.values()))


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_by_hand_and_by_pytorch_the_network_is_the_same(model, activation):
    images, how = 60 * torch.randn(3, 3, 64, 64).double(), {"activation": activation}
    ours, theirs = (outcome(model, images, norm=norm, **how) for norm in ("batch", "torch"))
    assert [*ours] == [*theirs]
    for key, value in theirs.items():
        assert (ours[key] - value).double().norm() <= 1e-8 * value.double().norm() + 1e-10


@pytest.mark.parametrize("norm", ["batch", "torch"])
@pytest.mark.parametrize("activation, f", [("relu", nn.ReLU()), ("sigmoid", nn.Sigmoid())], ids=str)
def test_sums_are_normalized_before_the_nonlinearity_and_have_no_bias(model, norm, activation, f):
    """As in stock layers: for a rectified convolution, torchvision's of GoogLeNet."""
    stock, how = BasicConv2d(3, 6, kernel_size=3), {"norm": norm, "activation": activation}
    stock.bn.eps = 1e-5  # not its 1e-3
    stock = stock if activation == "relu" else nn.Sequential(stock.conv, stock.bn, f)
    full = nn.Sequential(nn.Linear(5, 6, bias=False), nn.BatchNorm1d(6), f)
    for ours, theirs, x in (
        (model.Convolution(3, 6, 3), stock, torch.randn(4, 3, 9, 9)),
        (model.FullyConnected(5, 6), full, torch.randn(4, 5)),
    ):
        model.batch_normalize(ours, **how)
        weights = stir(theirs).state_dict().values()
        ours.load_state_dict(dict(zip(ours.state_dict(), weights, strict=True)))
        for mode in (True, False):
            assert_close(ours.train(mode)(x), theirs.train(mode)(x))


def test_every_map_but_the_scores_has_two_numbers_where_it_had_a_bias(model):
    """GoogLeNet's parameters, and one more a map of Table 1, or unit of the heads' hidden layer."""
    more = 320 + sum(int(maps) for row in TABLE_1.split("\n")[1:-1] for maps in row.split()[3:9])
    knobs = {"norm": "batch"}, {"norm": "torch"}, {"norm": "none"}, {"aux": False}
    with torch.device("meta"):
        nets = [model.GoogLeNet(**how) for how in knobs]
    whole = 13_378_280 + more + 2 * (128 + 1024)
    counts = [sum(p.numel() for p in net.parameters()) for net in nets]
    assert counts == [whole, whole, 13_378_280, 6_998_552 + more]
    kinds = [type(part).__name__ for part in nets[0].modules()]
    assert kinds.count("BatchNorm2d") == kinds.count("Convolution") == 57 + 2
    assert kinds.count("BatchNorm1d") == kinds.count("FullyConnected") == kinds.count("Linear") - 1


def stock_mlp(net, norm="batch"):
    """The network of section 4.1 by stock layers, with the weights of ours."""
    stock = [nn.Flatten()]
    for layer in (net.fc1, net.fc2, net.fc3):
        stock.append(nn.Linear(layer.in_features, 100, bias=norm == "none"))
        stock += [nn.Sigmoid()] if norm == "none" else [nn.BatchNorm1d(100), nn.Sigmoid()]
    stock = nn.Sequential(*stock, nn.Linear(100, net.fc4.out_features)).to(net.fc4.weight.dtype)
    stock.load_state_dict(dict(zip(stock.state_dict(), net.state_dict().values(), strict=True)))
    return stock.train(net.training)


@pytest.mark.parametrize("norm", ["none", "batch", "torch"])
def test_the_small_network_is_the_papers_and_equals_stock_layers(model, norm):
    """It begins with small Gaussian weights; in training its scores are the first of one."""
    torch.manual_seed(0)
    net = model.MLP(norm=norm)
    assert sum(p.numel() for p in net.parameters()) == (99_710 if norm == "none" else 100_010)
    for layer in net.children():
        weights = layer.weight.detach().flatten()
        share = (weights.abs() < 0.1).float().mean().item()
        assert share == pytest.approx(math.erf(0.5**0.5), abs=0.05)  # a Gaussian's, not a uniform's
        assert weights.std().item() == pytest.approx(0.1, rel=0.1) and weights.mean().abs() < 0.01
        assert layer.bias is None or (layer.bias == 0).all()
    net = stir(model.MLP(5, 12, norm)).double()
    stock, images = stock_mlp(net, norm), torch.randn(6, 3, 2, 2, dtype=torch.float64)
    assert_close(net.eval()(images), stock.eval()(images))
    (scores,), expected, labels = net.train()(images), stock.train()(images), torch.arange(6) % 5
    assert_close(scores, expected)
    for own, part in ((scores, net), (expected, stock)):
        F.cross_entropy(own, labels).backward()
    assert_close([p.grad for p in net.parameters()], [p.grad for p in stock.parameters()])


def test_a_run_without_it_has_the_bits_of_googlenets_own(branch, every_branch, small):
    """Same images, loss, optimizer, schedule, and average of the weights."""
    found, without = [], ("--norm", "none", "--lrn", "--dropout", 0.4)
    for each, more in ((branch, without), (every_branch["GoogLeNet"], ())):
        small(each, 20, 30)
        each("train.py", *NARROW, "--lr", 0.02, "--epochs", 5, "--batch-size", 8, *more)
        found += [(run["weights"], run["result"]["metrics"]) for run in each.runs().values()]
        clean(each)
    (ours, result), (theirs, expected) = found
    assert [*ours] == [*theirs] and result == expected
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_weights_and_running_statistics_are_averaged(branch, monkeypatch, small):
    """Half of what it was stays in a step, and less in the first ones: (1 + t) / (10 + t)."""
    states, log = [], branch.run.Run.log

    def look(run, **values):  # at the end of each step
        states.append(copy.deepcopy(run.state["model"].state_dict()))
        log(run, **values)

    small(branch, 20, 30)
    monkeypatch.setattr(branch.run.Run, "log", look)
    branch("train.py", *NARROW, "--epochs", 2, "--batch-size", 2, "--averaging", 0.5)
    (saved,) = branch.runs().values()
    average, *later = states[: 10 * saved["result"]["epoch"]]
    for step, state in enumerate(later, start=1):
        average = {k: v + (state[k] - v) * max(0.5, 9 / (10 + step)) for k, v in average.items()}
    found = {key: value for key, value in saved["weights"].items() if "batches" not in key}
    assert_close(found, {key: average[key] for key in found}, rtol=1e-4, atol=1e-6)


def test_the_recipe_of_2015_has_the_papers_numbers(branch, train, small):
    """BN-x30's (4.2.2); the rate falls every eight sixths of 6 steps, which are 8, or of 5: 7."""
    recipe = train.RECIPES["paper"]
    assert (recipe.lr, recipe.weight_decay) == pytest.approx((30 * 0.0015, 2e-4 / 5))
    assert (recipe.lrn, recipe.dropout, recipe.activation) == (False, 0, "relu")
    assert (recipe.batch_size, recipe.width, recipe.image_size) == (32, 1, 224)
    assert recipe.norm != "none" and recipe.epochs * 1_281_167 / 32 == pytest.approx(6e6, rel=0.01)
    small(branch, 30, 10)
    for size, steps in ((5, 8), (6, 7)):
        with recorded_steps() as seen:
            branch("train.py", *NARROW, "--recipe", "paper", "--epochs", 3, "--batch-size", size)
        expected = [0.045 * 0.96 ** (step // steps) for step in range(3 * 30 // size)]
        assert [rate for rate, _ in seen] == pytest.approx(expected)


def test_a_batch_of_one_image_is_refused_or_left_out_of_a_folder(branch, small, tmp_path):
    small(branch, 60, 10)
    for words in ("--batch-size 1", "--limit 41 --batch-size 20", "--limit 1", "--batch-size 59"):
        for norm in ("batch", "torch"):
            done = branch("train.py", *NARROW, "--norm", norm, *words.split())
            assert done.code == 2 and "no variance" in done.err and not branch.runs()
    assert branch("train.py", *NARROW, "--norm", "none", "--limit", 1, "--epochs", 1).code == 0
    path = folder_of_images(tmp_path, 40) / "train" / "cat" / "0.png"
    path.write_bytes(path.read_bytes()[:30])
    for size, batches in ((7, 2), (5, 3)):  # 15 of 16 images are left
        words = ("--epochs", 1, "--batch-size", size, "--workers", 0)
        with recorded_steps() as steps:
            done = branch("train.py", *NARROW[2:], "--data", tmp_path, *words)
        assert done.code == 0 and str(path) in done.err and len(steps) == batches
