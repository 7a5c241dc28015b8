"""AlexNet against the paper's figures, PyTorch's layers, torchvision's crops and plain loops."""

import numpy
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.v2 import functional as transforms

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


def narrow(model, **knobs):
    """A narrow AlexNet with weights large enough that its scores differ."""
    torch.manual_seed(1)
    net = model.AlexNet(**{"num_classes": 10, "width": 1 / 8, **knobs})
    net.initialize(std=0.05)
    return net.eval()


def parameters(net):
    return sum(p.numel() for p in net.parameters())


# The network


def test_parameters_and_multiply_accumulates_are_the_papers(branch, capsys):
    with torch.device("meta"):
        net = branch.model.AlexNet()
    assert {name: parameters(layer) for name, layer in net.named_children()} == PARAMETERS
    assert parameters(net) == 60_965_224
    figures = {stage: {"MACs": count} for stage, count in MACS.items()}
    assert branch.table.layer_table(net, (3, 224, 224), figures), capsys.readouterr().out


def test_one_group_has_the_parameters_of_every_map_seeing_all(model):
    with torch.device("meta"):
        assert parameters(model.AlexNet(groups=1)) == 62_378_344


@pytest.mark.parametrize("size, side", [(224, 6), (96, 2), (64, 1), (32, 1)])
def test_the_first_full_layer_fits_any_image_size(model, size, side):
    net = narrow(model, image_size=size, in_channels=1)
    assert net.fc6.in_features == 32 * side**2
    assert net(torch.randn(2, 1, size, size)).shape == (2, 10)


@torch.no_grad()
@pytest.mark.parametrize(
    "knobs",
    [{}, {"groups": 1}, {"pooling": "separate"}, {"lrn": False}, {"activation": "tanh"}],
    ids=str,
)
def test_scores_are_those_of_pytorchs_layers(model, knobs):
    """The same weights in stock layers, put together from the text of the paper."""
    net = narrow(model, image_size=224, **knobs).double()
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
    stock.load_state_dict(dict(zip(stock.state_dict(), net.state_dict().values(), strict=True)))
    images = 60 * torch.randn(3, 3, 224, 224).double()
    torch.testing.assert_close(net(images), stock(images))
    assert net(images).std(0).min() > 1e-5


def test_normalization_is_the_printed_formula(model):
    """A loop over maps and neighbors, in double precision; the sum stops at the first and last."""
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
    net = narrow(model)
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
    net, seen = narrow(model, image_size=64, dropout=dropout), {}
    for layer in (net.fc6, net.fc7):
        layer.weight.zero_()  # what is left is the bias: every unit is 1
    for layer in (net.fc7, net.fc8):
        layer.register_forward_pre_hook(lambda layer, x: seen.update({layer: x[0]}))
    images = torch.randn(40, 3, 64, 64)
    net(images)
    assert (seen[net.fc7] == 1).all() and (seen[net.fc8] == 1).all()
    net.train()(images)
    for layer in (net.fc7, net.fc8):
        assert (seen[layer] == 0).float().mean().item() == pytest.approx(dropout, abs=0.02)
        assert (seen[layer][seen[layer] != 0] == 1 / (1 - dropout)).all()


# Augmentation


def test_colors_are_the_mean_and_covariance_of_all_pixels(branch):
    images = torch.randint(0, 256, (250, 3, 5, 5), dtype=torch.uint8)
    split = images, torch.zeros(250)
    mean, covariance = branch.images.Data(("one",), 3, split, split, split, None).colors()
    pixels = images.transpose(0, 1).flatten(1).double().numpy()
    numpy.testing.assert_allclose(mean, pixels.mean(1), rtol=1e-5)
    numpy.testing.assert_allclose(covariance, numpy.cov(pixels, bias=True), rtol=1e-4, atol=0.1)


def test_colors_are_shifted_along_their_own_axes(train):
    """Colors spread along (2, 1, 2) / 3 with a deviation of 51, a fifth, and hardly elsewhere."""
    axis = torch.tensor([2.0, 1.0, 2.0]) / 3
    covariance = 51**2 * axis.outer(axis) + 1e-3 * torch.eye(3)
    components = train.principal_components(covariance)
    torch.manual_seed(0)
    images = torch.zeros(20_000, 3, 2, 2)
    shifts = train.shift_colors(images, components)
    assert (shifts == shifts[:, :, :1, :1]).all()  # one shift an image
    along = shifts[:, :, 0, 0] @ axis
    # The eigenvalue of colors from 0 to 1 is 0.2^2; the random factor's deviation 0.1.
    assert along.std().item() == pytest.approx(255 * 0.2**2 * 0.1, rel=0.03)
    assert (shifts[:, :, 0, 0] - along[:, None] * axis).abs().max() < 1e-3


def test_a_crop_is_a_window_of_its_own_image(branch):
    images = torch.arange(400).reshape(400, 1, 1, 1) * 100 + torch.arange(30).view(1, 1, 5, 6)
    crops = branch.vision.random_crop(images, 3)
    corners = crops[:, 0, 0, 0] - 100 * torch.arange(400)
    window = torch.tensor([[0, 1, 2], [6, 7, 8], [12, 13, 14]])
    expected = images[:, :, 0, 0, None, None] + corners.view(-1, 1, 1, 1) + window
    assert (crops == expected).all()
    assert set(corners.tolist()) == {6 * y + x for y in range(3) for x in range(4)}


def test_augmented_images_are_crops_mirrored_or_not_and_shifted(train):
    torch.manual_seed(0)
    ramp = 10 * torch.arange(32.0).expand(2000, 1, 32, 32)  # brighter to the right
    images = train.augment(ramp, 24, torch.tensor([[20.0]]))
    assert images.shape == (2000, 1, 24, 24)
    slopes = images.diff(dim=3)
    assert slopes.abs().sub(10).abs().max() < 1e-3
    assert (slopes > 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    left = images.min(3).values[:, 0, 0]
    corners = left.sub(left.div(10).round() * 10)  # less the shift, which is not often over 5
    assert corners.std().item() == pytest.approx(2, rel=0.1)
    assert set(left.div(10).round().tolist()) >= set(range(9))


@torch.no_grad()
def test_crops_at_test_are_torchvisions(branch):
    net, train = narrow(branch.model, in_channels=1, image_size=64), branch.train
    images = 60 * torch.randn(4, 1, 72, 72)
    crops = transforms.ten_crop(images, [64, 64])
    found = train.ten_crops(net, images, 64).exp()
    torch.testing.assert_close(found, sum(net(crop).softmax(1) for crop in crops) / 10)
    center = net(transforms.center_crop(images, [64, 64]))
    for center_crop in (train.center_crop, branch.vision.center_crop):
        torch.testing.assert_close(center_crop(net, images, 64), center)
    assert (found - center.softmax(1)).abs().max() > 1e-3


@torch.no_grad()
def test_the_middle_of_images_of_any_shape_is_torchvisions(branch):
    net, images = narrow(branch.model, image_size=64), 60 * torch.randn(2, 3, 96, 120)
    expected = net(transforms.center_crop(images, [64, 64]))
    for center_crop in (branch.train.center_crop, branch.vision.center_crop):
        torch.testing.assert_close(center_crop(net, images, 64), expected)
    resized = transforms.resize(images, 72, antialias=False)  # the shorter side
    expected = net(transforms.center_crop(resized, [64, 64]))
    found = branch.vision.center_crop(net, images, 64, scale=72)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


# The training of 2012


def test_the_training_of_2012_drops_its_rate_where_validation_stops_rising(
    branch, small, monkeypatch
):
    """More than one epoch in a row without a better one: a tenth, three times and no more."""
    script = (0.1, 0.2, 0.2, 0.3, 0.3, 0.29, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4)
    tenths = (0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3)
    scripted = iter(script)
    monkeypatch.setattr(branch.train, "evaluate", lambda *_: {"accuracy": next(scripted)})
    monkeypatch.setattr(branch.train, "PATIENCE", 1)
    small(branch, train=4, other=4)
    words = "--recipe paper --data cifar10 --side 64 --image-size 64 --width 0.0625 --epochs 14"
    run = branch.train.fit(branch.parse(*words.split()))
    assert [row["lr"] for row in run.history] == pytest.approx([0.01 / 10**n for n in tenths])


def test_the_training_of_2012_ends_with_ten_crops(branch, small, photographs):
    """What it found out at last, and meanwhile, by hand from the files and the weights."""
    small(branch)  # draws no pictures
    words = "--recipe paper --width 0.0625 --epochs 1 --batch-size 8 --workers 0"
    assert branch("train.py", *words.split(), "--data", photographs).code == 0
    (saved,) = branch.runs().values()
    net = branch.model.AlexNet(3, 2, width=1 / 16)
    net.load_state_dict(saved["weights"])
    net.eval()

    def pixels(path):
        image = transforms.resize(Image.open(path), 256)
        return transforms.pil_to_tensor(transforms.center_crop(image, 256)).double()

    trained = torch.stack([pixels(path) for path in photographs.glob("train/*/*")])
    mean = trained.mean((0, 2, 3))[:, None, None]
    ten, one = [], []  # the probabilities of the true class
    for path in photographs.glob("val/*/*"):
        true = ["cat", "dog"].index(path.parent.name)
        crops = torch.stack(transforms.ten_crop(pixels(path) - mean, 224)).float()
        probabilities = net(crops).detach().softmax(1)[:, true]
        ten.append(probabilities.mean())
        one.append(probabilities[4])
    ten, one = torch.stack(ten), torch.stack(one)
    result, (row,) = saved["result"], saved["history"]
    assert len(ten) == 10 and result["split"] == "validation"
    assert (ten - 0.5).abs().min() > 1e-6  # no tie
    assert result["metrics"]["accuracy"] == (ten > 0.5).float().mean().item()
    assert result["metrics"]["loss"] == pytest.approx(-ten.log().mean().item(), rel=1e-5)
    assert row["validation_loss"] == pytest.approx(-one.log().mean().item(), rel=1e-5)
    assert abs(row["validation_loss"] - result["metrics"]["loss"]) > 1e-4


def test_the_training_of_2012_asks_for_its_data(branch):
    done = branch("train.py", "--recipe", "paper")
    assert done.code == 2 and "--data <folder" in done.err
