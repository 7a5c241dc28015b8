"""LeNet-5 against the paper's figures and against loops that know nothing of PyTorch's layers."""

import math
from itertools import product
from unittest.mock import Mock

import pytest
import torch

NAME = "LeNet"
# Table I, typed in again: the feature maps of S2 that each one of C3 sees.
TABLE = "012 123 234 345 045 015 0123 1234 2345 0345 0145 0125 0134 1245 0235 012345".split()
PARAMETERS = {"C1": 156, "S2": 12, "C3": 1_516, "S4": 32, "C5": 48_120, "F6": 10_164}
CONNECTIONS = PARAMETERS | {"C1": 122_304, "S2": 5_880, "C3": 151_600, "S4": 2_000}


@pytest.fixture
def net(model):
    torch.manual_seed(1)
    return model.LeNet5()


@pytest.fixture
def bent(net):
    """In double precision, with weights larger than at the start, so that every squash is bent."""
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(3)
    return net.double()


def test_parameters_are_the_papers(net):
    stages = {
        name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()
    }
    assert stages == PARAMETERS | {"output": 0}
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 60_000


def convolution(name, table, side):
    """A 5x5 convolution as links: unit, input (None for the bias), weight's name and index."""
    kernel = 0
    for i, inputs in enumerate(table):
        for y, x in product(range(side - 4), repeat=2):
            unit = (i * (side - 4) + y) * (side - 4) + x
            yield unit, None, f"{name}.bias", i
            for n, j in enumerate(inputs):
                for v, u in product(range(5), repeat=2):
                    weight = (kernel + n) * 25 + v * 5 + u
                    yield unit, (j * side + y + v) * side + x + u, f"{name}.weight", weight
        kernel += len(inputs)


def subsampling(name, maps, side):
    for i, y, x in product(range(maps), range(side // 2), range(side // 2)):
        unit = (i * (side // 2) + y) * (side // 2) + x
        yield unit, None, f"{name}.bias", i
        for v, u in product(range(2), repeat=2):
            yield unit, (i * side + 2 * y + v) * side + 2 * x + u, f"{name}.coefficient", i


def full(name, inputs, units):
    for i in range(units):
        yield i, None, f"{name}.bias", i
        for j in range(inputs):
            yield i, j, f"{name}.weight", i * inputs + j


@pytest.fixture(scope="module")
def wiring():
    """Every link of LeNet-5 up to F6, one by one: {layer: links}."""
    layers = {
        "C1": convolution("C1", [[0]] * 6, 32),
        "S2": subsampling("S2", 6, 28),
        "C3": convolution("C3", [[int(digit) for digit in inputs] for inputs in TABLE], 14),
        "S4": subsampling("S4", 16, 10),
        "C5": convolution("C5", [range(16)] * 120, 5),
        "F6": full("F6", 120, 84),
    }
    return {name: list(links) for name, links in layers.items()}


def naive_forward(wiring, weights, image):
    """(x, a) of every layer, a its sums and x what they are squashed to; x of the image first."""
    states = [(image.flatten().tolist(), None)]
    for links in wiring.values():
        x, a = states[-1][0], [0.0] * (1 + max(unit for unit, *_ in links))
        for unit, j, name, k in links:
            a[unit] += weights[name][k] * (1 if j is None else x[j])
        states.append(([1.7159 * math.tanh(2 * sum_ / 3) for sum_ in a], a))
    return states


def flat_weights(net):
    return {name: value.flatten().tolist() for name, value in net.state_dict().items()}


def random_images(count):
    return torch.rand(count, 1, 32, 32, dtype=torch.float64) * 1.275 - 0.1


def test_connections_are_the_papers(net, model, wiring):
    assert {name: len(links) for name, links in wiring.items()} == CONNECTIONS
    assert model.connections(net) == CONNECTIONS | {"output": 84 * 10}
    assert sum(model.connections(net).values()) == 340_908


def test_scores_equal_a_naive_loop(bent, wiring):
    image = random_images(1)
    f6, _ = naive_forward(wiring, flat_weights(bent), image)[-1]
    codes = bent.output.codes.tolist()
    expected = [-sum((x - w) ** 2 for x, w in zip(f6, code, strict=True)) for code in codes]
    assert bent(image)[0].tolist() == pytest.approx(expected, rel=1e-10)
    assert bent.float()(image.float())[0].tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("j", range(6))
def test_a_map_of_c3_sees_what_the_table_says(net, j):
    maps = torch.rand(1, 6, 14, 14)
    changed = maps.clone()
    changed[0, j] += 1
    difference = (net.C3(changed) - net.C3(maps)).abs().amax((0, 2, 3))
    assert [bool(d > 1e-6) for d in difference] == [str(j) in inputs for inputs in TABLE]
    assert all(d == 0 or str(j) in inputs for d, inputs in zip(difference, TABLE, strict=True))


def test_the_squash_goes_through_one(model):
    assert model.squash(torch.tensor([1.0, -1.0])).tolist() == pytest.approx([1, -1], abs=1e-4)


def test_initial_weights_fill_their_range(net):
    fan_in = {"C1": 25, "S2": 4, "S4": 4, "C5": 400, "F6": 120}
    for stage, inputs in fan_in.items():
        largest = [p.abs().max() / (2.4 / inputs) for p in getattr(net, stage).parameters()]
        assert 0.9 < max(largest) <= 1, stage
    kernels = iter(net.C3.weight)
    for inputs in TABLE:
        own = torch.stack([next(kernels) for _ in inputs]).abs()
        assert 0.9 < own.max() / (2.4 / (25 * len(inputs))) <= 1


def test_the_codes(model):
    codes = model.digit_codes()
    assert codes.shape == (10, 84) and set(codes.unique().tolist()) == {-1, 1}
    different = (codes[:, None] != codes).sum(2) + 84 * torch.eye(10, dtype=torch.long)
    assert different.min() >= 20, "two digits are drawn too much alike"
    for count in (2, 9, 11, 1000):
        codes = model.LeNet5(num_classes=count).output.codes
        assert codes.shape == (count, 84) and set(codes.unique().tolist()) == {-1, 1}
        assert len(codes.unique(dim=0)) == count
        assert torch.equal(codes, model.LeNet5(num_classes=count).output.codes)
    assert model.LeNet5(3, 7)(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_codes_are_not_trained_but_saved(net):
    assert torch.equal(net.state_dict()["output.codes"], net.output.codes)
    assert "output.codes" not in dict(net.named_parameters())


@pytest.mark.parametrize(
    "ablation, parameters",
    [
        ({"activation": "tanh"}, 60_000),
        ({"activation": "relu"}, 60_000),
        ({"pooling": "average"}, 60_000 - 12 - 32),
        ({"pooling": "max"}, 60_000 - 12 - 32),
        ({"output": "softmax"}, 60_000 + 850),
        ({"c3": "full"}, 60_000 + 36 * 25),
    ],
    ids=str,
)
def test_each_ablation_is_one_change(model, ablation, parameters):
    net = model.LeNet5(**ablation)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert net(torch.rand(2, 1, 32, 32)).shape == (2, 10)


def test_the_network_with_all_ablations_is_the_usual_rewrite(model):
    """What is often called LeNet-5 today: the same weights in stock layers, the same scores."""
    net = model.LeNet5(activation="relu", pooling="max", output="softmax", c3="full")
    c3 = torch.nn.Conv2d(6, 16, 5)
    c3.weight.data, c3.bias.data = net.C3.weight.data.view(16, 6, 5, 5), net.C3.bias.data
    relu, pool = torch.nn.ReLU(), torch.nn.MaxPool2d(2)
    convolutions = (net.C1, relu, pool, c3, relu, pool, net.C5, relu)
    stock = torch.nn.Sequential(*convolutions, torch.nn.Flatten(), net.F6, relu, net.output)
    images = torch.rand(4, 1, 32, 32)
    assert torch.allclose(net(images), stock(images), atol=1e-6)
    assert sum(p.numel() for p in stock.parameters()) == 61_706


def test_the_loss_is_equation_9(train, monkeypatch):
    y = torch.rand(6, 10, dtype=torch.float64) * 30
    labels = torch.tensor([3, 1, 4, 1, 5, 9])
    for j in (1.0, 20.0):
        monkeypatch.setattr(train, "J", j)
        terms = [
            y[p, d].item() + math.log(math.exp(-j) + sum(math.exp(-yi) for yi in y[p].tolist()))
            for p, d in enumerate(labels.tolist())
        ]
        expected = sum(terms) / len(terms)
        assert train.equation_9(-y, labels).item() == pytest.approx(expected, rel=1e-12)


def test_every_trainable_parameter_gets_a_gradient(net, train):
    images, labels = torch.rand(8, 1, 32, 32), torch.arange(8)
    train.equation_9(net(images), labels).backward()
    assert all((p.grad != 0).all() for p in net.parameters())


def test_images_are_centered_and_scaled_as_in_the_paper(train):
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    images[1, 0, 0, 0] = 255
    prepared = train.prepare(images)
    assert prepared.shape == (2, 1, 32, 32) and prepared.dtype == torch.float32
    assert prepared[0].unique().tolist() == pytest.approx([-0.1])
    assert prepared[1, 0, 2, 2].item() == pytest.approx(1.175)
    assert (prepared[1] > 0).sum() == 1


# The training of 1998


def test_the_second_derivatives_equal_a_naive_loop_over_the_papers_equations(
    bent, branch, monkeypatch, wiring
):
    """From the exact second derivatives with respect to F6 down, link by link, over two images."""
    bent.output.codes.mul_(0.1)  # near one another, so that each class and j have their share
    images, weights = random_images(2), flat_weights(bent)
    monkeypatch.setattr(branch.train, "J", -bent(images).mean().item())
    expected = {name: [0.0] * len(values) for name, values in weights.items()}
    for image in images:
        states = naive_forward(wiring, weights, image)
        hessian = torch.autograd.functional.hessian(
            # The label does not matter.
            lambda x: branch.train.equation_9(bent.output(x[None]), torch.tensor([7])),
            torch.tensor(states[-1][0], dtype=torch.float64),
        )
        h, layers = hessian.diagonal().tolist(), [*wiring.values()]
        for links, (x, _), (_, a) in zip(layers[::-1], states[-2::-1], states[:0:-1], strict=True):
            slopes = [1.7159 * 2 / 3 * (1 - math.tanh(2 * sum_ / 3) ** 2) for sum_ in a]
            h = [slope**2 * value for slope, value in zip(slopes, h, strict=True)]
            below = [0.0] * len(x)
            for unit, j, name, k in links:
                expected[name][k] += h[unit] * (1 if j is None else x[j] ** 2) / len(images)
                if j is not None:
                    below[j] += weights[name][k] ** 2 * h[unit]
            h = below
    found = branch.optimizer.second_derivatives(bent, images, branch.train.J)
    for (name, p), h in zip(bent.named_parameters(), found, strict=True):
        assert h.shape == p.shape
        assert h.flatten().tolist() == pytest.approx(expected[name], rel=1e-9), name


def test_a_step_of_1998(branch):
    """Each weight steps by eta / (mu + h) times its gradient."""
    weight = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizer = branch.optimizer.DiagonalLevenbergMarquardt([weight], lr=0.5, mu=0.02)
    optimizer.estimate([torch.tensor([0.0, 0.98])])
    (weight * torch.tensor([0.01, 0.2])).sum().backward()
    optimizer.step()
    assert weight.tolist() == pytest.approx([1 - 0.5 / 0.02 * 0.01, 1 - 0.5 * 0.2])


def test_the_steps_of_a_run_follow_the_published_schedule(branch, small, monkeypatch):
    """In twenty passes one image at a time; a twenty-fifth of it, as the code declares."""
    small(branch, train=2, other=2)
    counted = Mock(wraps=branch.optimizer.second_derivatives)
    monkeypatch.setattr(branch.optimizer, "second_derivatives", counted)
    assert branch("train.py", "--recipe", "paper", "--data", "fashion-mnist").code == 0
    (run,) = branch.runs().values()
    eta = [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8
    assert [row["lr"] for row in run["history"]] == pytest.approx([value / 25 for value in eta])
    assert (run["settings"]["batch_size"], run["settings"]["mu"]) == (1, 0.02)
    assert counted.call_count == 20  # before each pass
    schedule = branch.optimizer.schedule_of_1998(torch.optim.SGD([torch.zeros(1)], 1.0), 2)
    rates = [schedule.lr_lambdas[0](step) for step in range(40)]  # two steps a pass
    assert rates == pytest.approx([value / 5e-4 for value in eta for _ in range(2)])


@pytest.mark.parametrize("words", ["--pooling max", "--pooling average", "--output softmax"])
def test_the_recipe_of_1998_is_for_the_network_of_1998(branch, small, words):
    small(branch)
    words = f"--recipe paper --data fashion-mnist {words}"
    done = branch("train.py", *words.split())
    assert done.code == 2 and "--pooling subsampling and --output rbf" in done.err


def test_the_recipe_of_1998_is_for_images_in_memory(branch, photographs):
    done = branch("train.py", "--recipe", "paper", "--data", photographs)
    assert done.code == 2 and "needs images in memory" in done.err


def test_the_training_of_1998_learns(branch, small):
    """At the published step sizes it would diverge; chance is a tenth."""
    small(branch, train=1000, other=500)
    words = "--recipe paper --data fashion-mnist --epochs 1"
    assert branch("train.py", *words.split()).code == 0
    (run,) = branch.runs().values()
    assert run["result"]["metrics"]["accuracy"] > 0.4
