"""AlexNet against the paper's figures, PyTorch's layers, torchvision's crops and plain loops."""

import csv
import re

import numpy
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.v2 import functional as transforms

from conftest import run_python

NAME = "AlexNet"
PARAMETERS = {
    **{"conv1": 34_944, "conv2": 307_456, "conv3": 885_120, "conv4": 663_936, "conv5": 442_624},
    **{"fc6": 37_752_832, "fc7": 16_781_312, "fc8": 4_097_000},
}
# Positions, kernels, weights of one kernel.
MACS = {
    "conv1": 55 * 55 * 96 * (11 * 11 * 3),
    "conv2": 27 * 27 * 256 * (5 * 5 * 48),
    "conv3": 13 * 13 * 384 * (3 * 3 * 256),
    "conv4": 13 * 13 * 384 * (3 * 3 * 192),
    "conv5": 13 * 13 * 256 * (3 * 3 * 192),
    **{"fc6": 9216 * 4096, "fc7": 4096 * 4096, "fc8": 4096 * 1000},
}


def small(model, **knobs):
    """A narrow AlexNet with weights large enough that its scores differ."""
    torch.manual_seed(1)
    net = model.AlexNet(**{"num_classes": 10, "width": 1 / 8, **knobs})
    net.initialize(std=0.05)
    return net.eval()


def test_parameters_are_the_papers(model):
    with torch.device("meta"):
        net = model.AlexNet()
    stages = {
        name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()
    }
    assert stages == PARAMETERS
    assert sum(p.numel() for p in net.parameters()) == 60_965_224


def test_multiply_accumulates_are_those_of_the_kernels(folder, layer_table):
    rows = dict(line.split(maxsplit=1) for line in layer_table(folder).splitlines())
    printed = {stage: int(rows[stage].split()[2].replace(",", "")) for stage in MACS}
    assert printed == MACS


def test_one_group_has_the_parameters_of_every_map_seeing_all(model):
    with torch.device("meta"):
        net = model.AlexNet(groups=1)
    assert sum(p.numel() for p in net.parameters()) == 62_378_344


@pytest.mark.parametrize("size, side", [(224, 6), (64, 1), (32, 1), (96, 2)])
def test_the_first_full_layer_fits_any_image_size(model, size, side):
    net = small(model, image_size=size, in_channels=1)
    assert net.fc6.in_features == 32 * side**2
    assert net(torch.randn(2, 1, size, size)).shape == (2, 10)


@torch.no_grad()
@pytest.mark.parametrize(
    "knobs",
    [{}, {"groups": 1}, {"pooling": "separate"}, {"lrn": "off"}, {"activation": "tanh"}],
)
def test_scores_are_those_of_pytorchs_layers(model, knobs):
    """The same weights in stock layers, put together from the text of the paper."""
    net = small(model, image_size=224, **knobs).double()
    groups = knobs.get("groups", 2)

    def f():
        return nn.Tanh() if "activation" in knobs else nn.ReLU()

    def normalize():
        return nn.Identity() if "lrn" in knobs else nn.LocalResponseNorm(5, 5e-4, 0.75, k=2)

    def pool():
        return nn.MaxPool2d(2 if "pooling" in knobs else 3, 2)

    stock = nn.Sequential(
        *(nn.Conv2d(3, 12, 11, 4, 2), f(), normalize(), pool()),
        *(nn.Conv2d(12, 32, 5, 1, 2, groups=groups), f(), normalize(), pool()),
        *(nn.Conv2d(32, 48, 3, 1, 1), f()),
        *(nn.Conv2d(48, 48, 3, 1, 1, groups=groups), f()),
        *(nn.Conv2d(48, 32, 3, 1, 1, groups=groups), f(), pool(), nn.Flatten()),
        *(nn.Linear(32 * 6 * 6, 512), f(), nn.Linear(512, 512), f()),
        nn.Linear(512, 10),
    ).double()
    stock.load_state_dict(dict(zip(stock.state_dict(), net.state_dict().values())))
    images = 60 * torch.randn(3, 3, 224, 224).double()
    torch.testing.assert_close(net(images), stock(images))
    assert net(images).std(0).min() > 1e-5


def test_normalization_is_the_printed_formula(model):
    """A loop over maps and neighbours, in double precision; the sum stops at the first and last."""
    a = 300 * torch.rand(2, 7, 3, 3, dtype=torch.double)
    expected = torch.empty_like(a)
    for i in range(7):
        total = torch.zeros(2, 3, 3, dtype=torch.double)
        for j in range(max(0, i - 5 // 2), min(7 - 1, i + 5 // 2) + 1):
            total += a[:, j] ** 2
        expected[:, i] = a[:, i] / (2 + 1e-4 * total) ** 0.75
    torch.testing.assert_close(model.local_response_norm(a), expected)
    assert (expected / a * 2**0.75).min() < 0.2  # far from a mere factor


def test_a_half_of_conv2_sees_a_half_of_conv1(model):
    net = small(model)
    halves = torch.zeros(2, 12, 27, 27)
    halves[1, :6] = 1
    first, second = (net.conv2(halves)[1] - net.conv2(halves)[0]).split(16)
    assert first.abs().min() > 0 and not second.any()


def test_initial_weights_and_biases_are_the_papers(model):
    net = model.AlexNet(width=1 / 4)
    positive = ("conv2", "conv4", "conv5", "fc6", "fc7")
    for name, layer in net.named_children():
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05), name
        assert abs(layer.weight.mean()) < 5e-4
        assert set(layer.bias.tolist()) == {float(name in positive)}


@torch.no_grad()
@pytest.mark.parametrize("dropout", [0.5, 0.0])
def test_half_of_the_inputs_of_fc7_and_fc8_is_dropped_in_training_alone(model, dropout):
    net, seen = small(model, image_size=64, dropout=dropout), {}
    for layer in (net.fc6, net.fc7):
        layer.weight.zero_()  # what is left is the bias: every unit is 1
    for layer in (net.fc7, net.fc8):
        layer.register_forward_pre_hook(lambda layer, x: seen.update({layer: x[0]}))
    images = torch.randn(40, 3, 64, 64)
    net.eval()(images)
    assert (seen[net.fc7] == 1).all() and (seen[net.fc8] == 1).all()
    net.train()(images)
    for layer in (net.fc7, net.fc8):
        assert (seen[layer] == 0).float().mean().item() == pytest.approx(dropout, abs=0.02)
        assert (seen[layer][seen[layer] != 0] == 1 / (1 - dropout)).all()


def test_the_ablations_run(folder):
    words = "--activation tanh --pooling separate --lrn off --dropout 0 --groups 1"
    done = run_python(folder / "train.py", *words.split(), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "laptop-activation-tanh-pooling-separate-lrn-off-dropout-0.0-groups-1-" in done.stdout


# Augmentation


def test_colors_are_the_mean_and_covariance_of_all_pixels(harness):
    images = torch.randint(0, 256, (250, 3, 5, 5), dtype=torch.uint8)
    mean, covariance = harness.data.colors((images, torch.zeros(250)))
    pixels = images.transpose(0, 1).flatten(1).double().numpy()
    numpy.testing.assert_allclose(mean, pixels.mean(1), rtol=1e-5)
    numpy.testing.assert_allclose(covariance, numpy.cov(pixels, bias=True), rtol=1e-4, atol=0.1)


def test_colors_are_shifted_along_their_own_axes(train):
    """Colours spread along (2, 1, 2) / 3 with a deviation of 51, a fifth, and hardly elsewhere."""
    axis = torch.tensor([2.0, 1.0, 2.0]) / 3
    covariance = 51**2 * axis.outer(axis) + 1e-3 * torch.eye(3)
    components = train.principal_components(covariance)
    torch.manual_seed(0)
    images = torch.zeros(20_000, 3, 2, 2)
    shifts = train.shift_colors(images, components)
    assert (shifts == shifts[:, :, :1, :1]).all()  # one shift an image
    along = shifts[:, :, 0, 0] @ axis
    # The eigenvalue of colours from 0 to 1 is 0.2^2; the random factor's deviation 0.1.
    assert along.std().item() == pytest.approx(255 * 0.2**2 * 0.1, rel=0.03)
    assert (shifts[:, :, 0, 0] - along[:, None] * axis).abs().max() < 1e-3


def test_a_crop_is_a_window_of_its_own_image(harness):
    images = torch.arange(400).reshape(400, 1, 1, 1) * 100 + torch.arange(30).view(1, 1, 5, 6)
    crops = harness.data.random_crop(images, 3)
    corners = crops[:, 0, 0, 0] - 100 * torch.arange(400)
    window = torch.tensor([[0, 1, 2], [6, 7, 8], [12, 13, 14]])
    expected = images[:, :, 0, 0, None, None] + corners.view(-1, 1, 1, 1) + window
    assert (crops == expected).all()
    assert set(corners.tolist()) == {6 * y + x for y in range(3) for x in range(4)}


@torch.no_grad()
def test_ten_crops_are_torchvisions(model, train):
    net = small(model, in_channels=1, image_size=64)
    images = 60 * torch.randn(4, 1, 72, 72)
    crops = transforms.ten_crop(images, [64, 64])
    expected = sum(torch.softmax(net(crop), dim=1) for crop in crops) / 10
    found = train.ten_crops(net, images, 64).exp()
    torch.testing.assert_close(found, expected)
    center = net(transforms.center_crop(images, [64, 64]))
    torch.testing.assert_close(train.center_crop(net, images, 64), center)
    assert (found - center.softmax(1)).abs().max() > 1e-3


# The training of 2012


NARROW = """
import sys, train
train.RECIPES["paper"] |= {"width": 1 / 16, "epochs": 12}
train.PATIENCE = 1
sys.argv[0] = "train.py"
train.main()
"""


@pytest.fixture(scope="module")
def training_of_2012(folder, photographs):
    """(folder of a finished run, its history)."""
    words = ("--recipe", "paper", "--data", photographs, "--batch-size", 8)
    done = run_python("-c", NARROW, *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    (run,) = folder.glob("checkpoints/AlexNet/paper-*")
    with open(run / "history.csv", encoding="utf-8") as file:
        return run, list(csv.DictReader(file))


def test_the_training_of_2012_drops_its_rate_where_validation_stops_rising(training_of_2012):
    _, rows = training_of_2012
    # By hand: more than one epoch in a row without a better accuracy divides the rate by ten.
    rate, best, bad = 0.01, -1.0, 0
    for row in rows:
        assert float(row["lr"]) == pytest.approx(rate)
        accuracy = float(row["validation_accuracy"])
        best, bad = (accuracy, 0) if accuracy > best else (best, bad + 1)
        if bad > 1:
            rate, bad = max(rate / 10, 1e-5), 0
    assert rate == pytest.approx(1e-5)
    assert len(rows) == 12


@torch.no_grad()
def test_the_training_of_2012_ends_with_ten_crops(training_of_2012, model, photographs):
    """Its last accuracy, computed again by hand from the files and the weights."""
    saved = torch.load(training_of_2012[0] / "weights.pt", weights_only=True)
    net = model.AlexNet(3, 2, width=1 / 16)
    net.load_state_dict(saved["weights"])
    net.eval()

    def pixels(path):
        image = transforms.resize(Image.open(path), 256)
        return transforms.pil_to_tensor(transforms.center_crop(image, 256)).double()

    trained = torch.stack([pixels(path) for path in photographs.glob("train/*/*")])
    mean = trained.mean((0, 2, 3))[:, None, None]
    right, sure = 0, []
    for path in photographs.glob("val/*/*"):
        crops = torch.stack(transforms.ten_crop(pixels(path) - mean, 224)).float()
        cat, dog = net(crops).softmax(1).mean(0)
        right += (cat > dog).item() == (path.parent.name == "cat")
        sure.append(abs(cat - dog).item())
    assert saved["result"]["split"] == "validation" and saved["result"]["images"] == 20
    assert min(sure) > 1e-6  # no tie
    assert saved["result"]["validation_accuracy"] == right / 20


def test_the_training_of_2012_asks_for_its_data(folder):
    done = run_python(folder / "train.py", "--recipe", "paper")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert re.search("--data <folder", done.stderr)


@pytest.mark.parametrize("recipe", ["laptop", "paper"])
def test_both_recipes_take_small_photographs_in_memory(harness, train, monkeypatch, capsys, recipe):
    """What --data cifar10 gives; it cannot be downloaded for a test."""
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    split = images, torch.arange(40) % 10
    loaded = harness.data.Data(tuple("abcdefghij"), 3, split, split, split)
    monkeypatch.setattr(harness.data, "load", lambda *words: loaded)
    monkeypatch.setitem(train.RECIPES["paper"], "width", 1 / 16)
    words = f"train.py --recipe {recipe} --data cifar10 --batch-size 4 --dry-run"
    monkeypatch.setattr("sys.argv", words.split())
    train.main()
    assert "a batch of training, validation and test went through" in capsys.readouterr().out
