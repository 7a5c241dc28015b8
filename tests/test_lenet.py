"""LeNet-5 against the paper's figures and against loops that know nothing of PyTorch's layers."""

import math

import pytest
import torch

# Table I, typed in again: the maps of S2 that each map of C3 sees.
TABLE = "012 123 234 345 045 015 0123 1234 2345 0345 0145 0125 0134 1245 0235 012345".split()
PARAMETERS = {"C1": 156, "S2": 12, "C3": 1_516, "S4": 32, "C5": 48_120, "F6": 10_164}


@pytest.fixture(scope="module")
def model(lenet):
    return lenet[1]


@pytest.fixture(scope="module")
def train(lenet):
    return lenet[2]


@pytest.fixture
def net(model):
    torch.manual_seed(1)
    return model.LeNet5()


def test_parameters_are_the_papers(net):
    stages = {
        name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()
    }
    assert stages == PARAMETERS | {"output": 0}
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 60_000


def naive_lenet(weights, image):
    """Scores and number of connections of LeNet-5 for one 32x32 image, unit by unit, in float64."""
    w = {name: value.double().tolist() for name, value in weights.items()}
    connections = 0

    def squash(a):
        return 1.7159 * math.tanh(2 * a / 3)

    def convolve(maps, kernels, biases, table):
        """kernels[i][n]: the 25 weights between output map i and the n-th of its inputs."""
        nonlocal connections
        side = len(maps[0]) - 4
        output = []
        for inputs, own, bias in zip(table, kernels, biases, strict=True):
            output.append([[bias] * side for _ in range(side)])
            for y in range(side):
                for x in range(side):
                    for j, kernel in zip(inputs, own, strict=True):
                        for k, weight in enumerate(kernel):
                            output[-1][y][x] += weight * maps[j][y + k // 5][x + k % 5]
                            connections += 1
                    connections += 1
                    output[-1][y][x] = squash(output[-1][y][x])
        return output

    def subsample(maps, coefficients, biases):
        nonlocal connections
        output = []
        for rows, coefficient, bias in zip(maps, coefficients, biases, strict=True):
            side = len(rows) // 2
            connections += 5 * side * side
            output.append(
                [
                    [
                        squash(
                            coefficient * sum(rows[2 * y + k // 2][2 * x + k % 2] for k in range(4))
                            + bias
                        )
                        for x in range(side)
                    ]
                    for y in range(side)
                ]
            )
        return output

    def flat(kernels):
        return [[sum(kernel, []) for kernel in own] for own in kernels]

    table = [[int(digit) for digit in inputs] for inputs in TABLE]
    rows = iter(w["C3.weight"])
    sparse = [[next(rows) for _ in inputs] for inputs in table]
    x = convolve([image.double().tolist()], flat(w["C1.weight"]), w["C1.bias"], [[0]] * 6)
    x = subsample(x, w["S2.coefficient"], w["S2.bias"])
    x = convolve(x, sparse, w["C3.bias"], table)
    x = subsample(x, w["S4.coefficient"], w["S4.bias"])
    x = convolve(x, flat(w["C5.weight"]), w["C5.bias"], [range(16)] * 120)
    x = [map_[0][0] for map_ in x]
    connections += sum(len(row) + 1 for row in w["F6.weight"])
    f6 = [
        squash(sum(a * b for a, b in zip(row, x, strict=True)) + bias)
        for row, bias in zip(w["F6.weight"], w["F6.bias"], strict=True)
    ]
    connections += sum(map(len, w["output.codes"]))
    distances = [
        sum((a - c) ** 2 for a, c in zip(f6, code, strict=True)) for code in w["output.codes"]
    ]
    return [-distance for distance in distances], connections


def test_outputs_and_connections_equal_a_naive_loop(net, model):
    with torch.no_grad():
        for p in net.parameters():  # larger than at the start, so that every squash is bent
            p.mul_(3)
    image = torch.rand(32, 32) * 1.275 - 0.1
    expected, connections = naive_lenet(net.state_dict(), image)
    assert connections == 340_908 == sum(model.connections(net).values())
    scores = net.double()(image.double()[None, None])[0]
    assert scores.tolist() == pytest.approx(expected, rel=1e-10)
    assert net.float()(image[None, None])[0].tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("j", range(6))
def test_a_map_of_c3_sees_what_the_table_says(net, j):
    maps = torch.rand(1, 6, 14, 14)
    changed = maps.clone()
    changed[0, j] += 1
    difference = (net.C3(changed) - net.C3(maps)).abs().amax((0, 2, 3))
    assert [bool(d > 1e-6) for d in difference] == [str(j) in inputs for inputs in TABLE]
    assert all(d == 0 or str(j) in inputs for d, inputs in zip(difference, TABLE, strict=True))


def test_every_trainable_parameter_gets_a_gradient(net, train):
    images, labels = torch.rand(8, 1, 32, 32), torch.arange(8)
    train.equation_9(net(images), labels).backward()
    assert all((p.grad != 0).all() for p in net.parameters())


def test_the_squash_goes_through_one(model):
    assert model.squash(torch.tensor([1.0, -1.0])).tolist() == pytest.approx([1, -1], abs=1e-4)


def test_initial_weights_fill_their_range(net):
    fan_in = {"C1": 25, "S2": 4, "S4": 4, "C5": 400, "F6": 120}
    for stage, inputs in fan_in.items():
        for p in getattr(net, stage).parameters():
            assert p.abs().max() <= 2.4 / inputs
        largest = max(p.abs().max() for p in getattr(net, stage).parameters())
        assert largest > 0.9 * 2.4 / inputs
    kernels = iter(net.C3.weight)
    for inputs in TABLE:
        own = torch.stack([next(kernels) for _ in inputs]).abs()
        assert 0.9 < own.max() / (2.4 / (25 * len(inputs))) <= 1


def test_the_codes(model):
    codes = model.digit_codes()
    assert codes.shape == (10, 84) and set(codes.unique().tolist()) == {-1, 1}
    different = (codes[:, None] != codes).sum(2) + 84 * torch.eye(10, dtype=torch.long)
    assert different.min() >= 10, "two digits are drawn too much alike"
    for count in (2, 9, 11, 100, 1000):
        codes = model.LeNet5(num_classes=count).output.codes
        assert codes.shape == (count, 84) and set(codes.unique().tolist()) == {-1, 1}
        assert len(codes.unique(dim=0)) == count
        assert torch.equal(codes, model.LeNet5(num_classes=count).output.codes)


def test_codes_are_not_trained_but_saved(net):
    assert "output.codes" in net.state_dict()
    assert "output.codes" not in dict(net.named_parameters())


def test_other_channels_and_classes(model):
    assert model.LeNet5(3, 7)(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_the_loss_is_equation_9(train):
    y = torch.rand(6, 10, dtype=torch.float64) * 30
    labels = torch.tensor([3, 1, 4, 1, 5, 9])
    for j in (1.0, 20.0):
        terms = [
            y[p, d].item() + math.log(math.exp(-j) + sum(math.exp(-yi) for yi in y[p].tolist()))
            for p, d in enumerate(labels.tolist())
        ]
        expected = sum(terms) / len(terms)
        assert train.equation_9(-y, labels, j).item() == pytest.approx(expected, rel=1e-12)


def test_images_are_centred_and_scaled_as_in_the_paper(train):
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    images[1, 0, 0, 0] = 255
    prepared = train.prepare(images)
    assert prepared.shape == (2, 1, 32, 32) and prepared.dtype == torch.float32
    assert prepared[0].unique().tolist() == pytest.approx([-0.1])
    assert prepared[1, 0, 2, 2].item() == pytest.approx(1.175)
    assert (prepared[1] > 0).sum() == 1


def test_model_py_prints_the_papers_figures(lenet, layer_table):
    for figure in (*PARAMETERS.values(), 60_000, 340_908, 151_600):
        assert f"{figure:,}" in layer_table(lenet[0])


def test_the_layer_table_says_where_a_network_differs(harness, net, capsys):
    paper = {"C1": {"parameters": 157}, "S2": {"output": (6, 14, 14)}}
    assert not harness.plots.layer_table(net, (1, 32, 32), paper)
    assert "C1: parameters is 156 here, 157 in the paper" in capsys.readouterr().out
    assert harness.plots.layer_table(net, (1, 32, 32), {"S2": {"output": (6, 14, 14)}})


@pytest.mark.parametrize(
    "ablation, parameters",
    [
        ({}, 60_000),
        ({"activation": "tanh"}, 60_000),
        ({"activation": "relu"}, 60_000),
        ({"pooling": "average"}, 60_000 - 12 - 32),
        ({"pooling": "max"}, 60_000 - 12 - 32),
        ({"output": "softmax"}, 60_000 + 850),
        ({"c3": "full"}, 60_000 + 36 * 25),
        # All of them at once are the network that is often called LeNet-5 today.
        ({"pooling": "max", "output": "softmax", "c3": "full", "activation": "relu"}, 61_706),
    ],
    ids=str,
)
def test_each_ablation_is_one_change(model, ablation, parameters):
    net = model.LeNet5(**ablation)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert net(torch.rand(2, 1, 32, 32)).shape == (2, 10)


def test_the_network_with_all_ablations_is_the_usual_rewrite(model):
    """The same weights in stock layers give the same scores."""
    net = model.LeNet5(activation="relu", pooling="max", output="softmax", c3="full")
    c3 = torch.nn.Conv2d(6, 16, 5)
    c3.weight.data, c3.bias.data = net.C3.weight.data.view(16, 6, 5, 5), net.C3.bias.data
    relu, pool = torch.nn.ReLU(), torch.nn.MaxPool2d(2)
    convolutions = (net.C1, relu, pool, c3, relu, pool, net.C5, relu)
    stock = torch.nn.Sequential(*convolutions, torch.nn.Flatten(), net.F6, relu, net.output)
    images = torch.rand(4, 1, 32, 32)
    assert torch.allclose(net(images), stock(images), atol=1e-6)
