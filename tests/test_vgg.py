"""VGG against the paper's figures, torchvision's networks and PyTorch's layers."""

import re

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.transforms.v2 import functional as transforms

from conftest import run_python

NAME = "VGG"
PARAMETERS = {
    "A": 132_863_336,
    "A-LRN": 132_863_336,
    "B": 133_047_848,
    "C": 133_638_952,
    "D": 138_357_544,
    "E": 143_667_240,
}
LAYERS = {"A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19}
STOCK = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}
# Table 1, column C: kernel and maps of each convolution, M where maxima are taken.
COLUMN_C = (
    "3-64 3-64 M 3-128 3-128 M 3-256 3-256 1-256 M 3-512 3-512 1-512 M 3-512 3-512 1-512 M"
).split()


def small(model, **knobs):
    """A narrow VGG whose scores differ from image to image."""
    torch.manual_seed(1)
    net = model.VGG(**{"num_classes": 10, "width": 1 / 16, **knobs}).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5)
            if parameter.dim() == 1:
                parameter.normal_(0, 0.1)
    return net


@pytest.mark.parametrize("config", PARAMETERS)
def test_parameters_and_layers_are_the_papers(model, config):
    with torch.device("meta"):
        net = model.VGG(config=config)
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[config]
    assert len([part for part in net.modules() if hasattr(part, "weight")]) == LAYERS[config]


def test_the_default_is_d(model):
    with torch.device("meta"):
        assert sum(p.numel() for p in model.VGG().parameters()) == PARAMETERS["D"]


@pytest.mark.parametrize("config", STOCK)
def test_scores_and_gradients_are_torchvisions(model, config):
    """At full size; every gradient, and that of the images."""
    torch.manual_seed(0)
    ours = model.VGG(config=config).eval()
    with torch.device("meta"):
        stock = getattr(torchvision.models, STOCK[config])().eval()
    weights = dict(zip(stock.state_dict(), ours.state_dict().values(), strict=True))
    stock.load_state_dict(weights, assign=True)
    images = 60 * torch.randn(1, 3, 224, 224)
    found = []
    for net in (ours, stock):
        inputs = images.clone().requires_grad_()
        scores = net.requires_grad_()(inputs)
        F.cross_entropy(scores, torch.tensor([3])).backward()
        found.append([scores.detach(), inputs.grad, *(p.grad for p in net.parameters())])
    assert len(found[0]) == 2 + 2 * LAYERS[config]
    for here, there in zip(*found, strict=True):
        assert there.abs().max() > 0
        assert (here - there).norm() <= 1e-5 * there.norm()


@torch.no_grad()
def test_c_is_column_c_of_table_1(model):
    """The same weights in stock layers, put together from the table's words."""
    net, layers, maps = small(model, config="C"), [], 3
    for word in COLUMN_C:
        if word == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            kernel, full = map(int, word.split("-"))
            layers += [nn.Conv2d(maps, full // 16, kernel, 1, (kernel - 1) // 2), nn.ReLU()]
            maps = full // 16
    layers += [nn.Flatten(), nn.Linear(32 * 7 * 7, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    stock = nn.Sequential(*layers, nn.Linear(256, 10)).eval()
    weights = dict(zip(stock.state_dict(), net.state_dict().values(), strict=True))
    stock.load_state_dict(weights)
    images = torch.randn(3, 3, 224, 224)
    torch.testing.assert_close(net(images), stock(images))
    assert net(images).std(0).min() > 1e-3


@torch.no_grad()
def test_a_lrn_normalizes_after_the_first_convolution_alone(model):
    """The other layers of A, fed what PyTorch's normalization makes of conv1_1."""
    plain, lrn = small(model, config="A").double(), small(model, config="A-LRN").double()
    images = 60 * torch.randn(3, 3, 224, 224, dtype=torch.double)
    normalization = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)
    expected, without = lrn(images), plain(images)
    plain.conv1_1.register_forward_hook(
        lambda layer, inputs, output: normalization(torch.relu(output))
    )
    torch.testing.assert_close(plain(images), expected)
    assert (expected - without).abs().max() > 1e-2


def test_initial_weights_are_glorots_or_have_the_deviation_asked_for(model):
    torch.manual_seed(0)
    for init in ("glorot", "0.1", "0.01"):
        net = model.VGG(width=1 / 4, init=init)
        for name, layer in net.named_children():
            weight = layer.weight
            if init == "glorot":  # equation 16 of the paper of 2010
                area = weight[0, 0].numel() if weight.dim() == 4 else 1
                deviation = (2 / (area * (weight.shape[0] + weight.shape[1]))) ** 0.5
                assert weight.abs().max() <= 3**0.5 * deviation + 1e-6  # uniform
            else:
                deviation = 2 * float(init)  # a quarter of the inputs, the same spread of the sums
            assert weight.std().item() == pytest.approx(deviation, rel=0.08), (init, name)
            assert not layer.bias.any()


@pytest.mark.parametrize("size, side", [(224, 7), (64, 2), (32, 1), (28, 1)])
def test_the_first_full_layer_fits_any_image_size(model, size, side):
    net = small(model, image_size=size, in_channels=1)
    assert net.fc6.in_features == 32 * side**2
    assert net(torch.randn(2, 1, size, size)).shape == (2, 10)


@torch.no_grad()
@pytest.mark.parametrize("dropout", [0.5, 0.0])
def test_half_of_the_inputs_of_fc7_and_fc8_is_dropped_in_training_alone(model, dropout):
    net, seen = small(model, image_size=32, dropout=dropout), {}
    for layer in (net.fc6, net.fc7):
        layer.weight.zero_()  # what is left is the bias: every unit is 1
        layer.bias.fill_(1)
    for layer in (net.fc7, net.fc8):
        layer.register_forward_pre_hook(lambda layer, x: seen.update({layer: x[0]}))
    images = torch.randn(60, 3, 32, 32)
    net.eval()(images)
    assert (seen[net.fc7] == 1).all() and (seen[net.fc8] == 1).all()
    net.train()(images)
    for layer in (net.fc7, net.fc8):
        assert (seen[layer] == 0).float().mean().item() == pytest.approx(dropout, abs=0.02)
        assert (seen[layer][seen[layer] != 0] == 1 / (1 - dropout)).all()


# Dense evaluation


@torch.no_grad()
def test_dense_scores_of_the_size_trained_on_are_the_ordinary_ones(model):
    net = small(model)
    images = torch.randn(3, 3, 224, 224)
    found = net.dense(images)
    assert found.shape == (3, 10, 1, 1)
    torch.testing.assert_close(found[:, :, 0, 0], net(images), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_dense_scores_are_the_classifiers_at_all_places(model):
    """The maps of the whole image, cut into all windows of 7x7, each put through Linear layers."""
    net = small(model)
    images = torch.randn(2, 3, 288, 352)
    maps = net.features(images)
    assert maps.shape == (2, 32, 9, 11)
    found = net.dense(images)
    assert found.shape == (2, 10, 3, 5)
    classifier = nn.Sequential(nn.Flatten(), net.fc6, nn.ReLU(), net.fc7, nn.ReLU(), net.fc8)
    for y in range(3):
        for x in range(5):
            expected = classifier(maps[:, :, y : y + 7, x : x + 7])
            torch.testing.assert_close(found[:, :, y, x], expected, rtol=1e-5, atol=1e-6)
    assert found.flatten(2).std(2).min() > 1e-3


@torch.no_grad()
def test_multi_scale_evaluation_is_six_views_of_a_convolutional_network(model, train):
    """Six views (3.2, 4.2): three scales by torchvision's resize, mirrored or not."""
    net = small(model, image_size=64)
    images = torch.randn(3, 3, 128, 160)
    full = nn.Conv2d(32, 256, 2), nn.Conv2d(256, 256, 1), nn.Conv2d(256, 10, 1)
    for conv, linear in zip(full, (net.fc6, net.fc7, net.fc8)):
        conv.weight.copy_(linear.weight.view_as(conv.weight))
        conv.bias.copy_(linear.bias)
    head = nn.Sequential(full[0], nn.ReLU(), full[1], nn.ReLU(), full[2])
    expected = 0
    for side in (64, 96, 128):
        resized = transforms.resize(images, side, antialias=False)  # the shorter side
        for view in (resized, transforms.horizontal_flip(resized)):
            expected = expected + head(net.features(view)).mean((2, 3)).softmax(1) / 6
    found = train.multi_scale(net, images, (64, 96, 128)).exp()
    torch.testing.assert_close(found, expected)
    assert (found - net.dense(images).mean((2, 3)).softmax(1)).abs().max() > 1e-3


# Augmentation


def test_one_scale_of_the_networks_size_leaves_the_images_as_they_are(train):
    images = torch.randn(5, 2, 32, 32)
    torch.testing.assert_close(train.scale_jitter(images, (32,), 32), images)


def test_crops_have_a_scale_and_a_place_of_their_own(train):
    """On an image whose values are the coordinates, a crop shows where its pixels come from."""
    torch.manual_seed(0)
    place = torch.arange(64.0) + 0.5  # of the middle of a pixel
    images = torch.stack(torch.meshgrid(place, place, indexing="ij")).repeat(4000, 1, 1, 1)
    crops = train.scale_jitter(images, (32, 48, 64), 28)
    down, right = crops[:, 0, :, 0], crops[:, 1, 0, :]
    torch.testing.assert_close(crops[:, 0], down[:, :, None].expand(-1, -1, 28))
    torch.testing.assert_close(crops[:, 1], right[:, None, :].expand(-1, 28, -1))
    sides = []
    for axis in (down, right):
        steps = axis.diff(dim=1)
        torch.testing.assert_close(steps, steps[:, :1].expand(-1, 27), rtol=1e-3, atol=1e-3)
        sides.append(64 / steps[:, 13])  # S pixels cover the 64 of the image
        # All of the crop is inside, and it comes to lie at both borders.
        first, last = axis[:, 0] - steps[:, 0] / 2, axis[:, -1] + steps[:, 0] / 2
        assert first.min() > -1e-3 and last.max() < 64 + 1e-3
        assert first.min() < 0.5 and last.max() > 63.5
    torch.testing.assert_close(*sides, rtol=1e-3, atol=1e-3)
    S = sides[0].round()
    torch.testing.assert_close(sides[0], S, rtol=1e-3, atol=1e-3)
    assert set(S.tolist()) == set(range(32, 65))
    assert S.mean().item() == pytest.approx(48, abs=0.5)


@torch.no_grad()
def test_a_crop_at_a_scale_is_torchvisions_resize_and_crop(train, monkeypatch):
    images = torch.randn(1, 3, 64, 64)
    monkeypatch.setattr(torch, "rand", lambda *shape, **kwargs: torch.tensor([[0.5, 1.0]]))
    found = train.scale_jitter(images, (48,), 28)  # in the middle, at the lower border
    resized = transforms.resize(images, [48, 48], antialias=False)
    torch.testing.assert_close(found, resized[:, :, 20:48, 10:38], rtol=1e-4, atol=1e-4)


def test_augmented_images_are_mirrored_or_not_and_shifted(train):
    torch.manual_seed(0)
    ramp = torch.arange(32.0).expand(2000, 1, 32, 32)  # brighter to the right
    images = train.augment(ramp, 32, (32,), torch.tensor([[50.0]]))
    slopes = images.diff(dim=3)
    assert slopes.abs().sub(1).abs().max() < 1e-3
    assert (slopes[:, 0, 0, 0] > 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert (images.mean((1, 2, 3)) - 15.5).std().item() == pytest.approx(5, rel=0.1)


# Starting from A


@pytest.fixture(scope="module")
def run_of_a(folder):
    done = run_python(folder / "train.py", "--limit", 500, "--epochs", 1)
    assert done.returncode == 0, done.stderr
    return folder / "checkpoints" / "VGG" / "laptop-epochs-1-limit-500-seed0"


def test_a_deeper_network_starts_with_the_layers_that_a_has(folder, run_of_a):
    """At a rate of next to nothing, the layers carried over still are those of A at the end."""
    words = f"--config D --init 0.01 --limit 500 --epochs 1 --lr 1e-30 --start-from {run_of_a.name}"
    done = run_python(folder / "train.py", *words.split(), cwd=run_of_a.parent)
    assert done.returncode == 0, done.stderr
    run = run_of_a.parent / (
        "laptop-epochs-1-lr-1e-30-config-D-limit-500-init-0.01-"
        "start-from-laptop-epochs-1-limit-500-seed0-seed0"
    )
    a, d = (
        torch.load(home / "weights.pt", weights_only=True)["weights"] for home in (run_of_a, run)
    )
    same = [key for key in d if key in a and torch.allclose(a[key], d[key], atol=1e-12)]
    carried = {key.removesuffix(".weight") for key in same if key.endswith(".weight")}
    assert carried == {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"}
    assert d["conv5_1.weight"].std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("trouble", ["no run", "broken", "of another size", "of another model"])
def test_a_start_that_does_not_fit_is_one_line_and_exit_code_2(folder, run_of_a, tmp_path, trouble):
    start = tmp_path / "start"
    start.mkdir()
    if trouble == "broken":
        (start / "weights.pt").write_bytes(b"no weights")
    elif trouble != "no run":
        weights = torch.load(run_of_a / "weights.pt", weights_only=True)["weights"]
        weights["fc7.weight"] = weights["fc7.weight"][:5]
        if trouble == "of another model":
            weights = {"C1.weight": torch.zeros(3)}
        torch.save({"weights": weights}, start / "weights.pt")
    words = ("--config", "D", "--start-from", start, "--dry-run")
    done = run_python(folder / "train.py", *words)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert str(start) in done.stderr
    if trouble == "of another size":
        assert "fc7.weight" in done.stderr


def test_a_run_that_started_elsewhere_is_not_resumed(folder, run_of_a, tmp_path):
    """The weights it started from belong to what a run is."""
    start = tmp_path / "start"
    start.mkdir()
    whole = torch.load(run_of_a / "weights.pt", weights_only=True)
    torch.save(whole, start / "weights.pt")
    words = ("--config", "B", "--limit", 200, "--epochs", 1, "--start-from", start)
    assert run_python(folder / "train.py", *words).returncode == 0
    assert "finished before" in run_python(folder / "train.py", *words).stdout
    whole["weights"]["fc8.bias"] += 1
    torch.save(whole, start / "weights.pt")
    done = run_python(folder / "train.py", *words)
    assert done.returncode == 2 and "weights at the start" in done.stderr


def test_the_ablations_run(folder):
    words = "--config A-LRN --dropout 0 --init 0.1"
    done = run_python(folder / "train.py", *words.split(), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "laptop-config-A-LRN-dropout-0.0-init-0.1-" in done.stdout


# The training of 2014


SMALL = {"side": 128, "scales": (64, 96, 128), "image_size": 64, "width": 1 / 16, "epochs": 12}


@pytest.fixture
def recorded(harness, train, monkeypatch):
    """Run train.main() on 40 small images in memory: ({name: what main passed on}, the Run).

    It is what --data cifar10 gives, which cannot be downloaded for a test. Validation is scripted.
    """
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    split = images, torch.arange(40) % 10
    loaded = harness.data.Data(tuple("abcdefghij"), 3, split, split, split)
    monkeypatch.setattr(harness.data, "load", lambda *words: loaded)
    monkeypatch.setitem(train.RECIPES, "paper", {**train.RECIPES["paper"], **SMALL})
    monkeypatch.setattr(train, "PATIENCE", 1)
    seen = {"rates": []}

    class Recorder(harness.run.Run):
        def epochs(self, **state):
            for epoch in range(1, len(seen["script"]) + 1):
                self.epoch = epoch
                seen["rates"].append(state["optimizer"].param_groups[0]["lr"])
                yield epoch

        def validate(self, model, loader, criterion, predict=None):
            seen["validate"] = predict
            return seen["script"][self.epoch - 1]

        def finish(self, model, loader, predict=None):
            seen.update(model=model, finish=predict)

    monkeypatch.setattr(train, "Run", Recorder)

    def run(*words, script):
        seen["script"] = script
        monkeypatch.setattr("sys.argv", ["train.py", "--data", "cifar10", "--fresh", *words])
        train.main()
        return seen

    return run


def test_the_training_of_2014_drops_its_rate_where_validation_stops_rising(recorded):
    """More than one epoch in a row without a better one: a tenth, three times and no more."""
    script = (0.1, 0.2, 0.2, 0.3, 0.3, 0.29, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4)
    seen = recorded("--recipe", "paper", script=script)
    tenths = (0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3)
    assert seen["rates"] == pytest.approx([0.01 / 10**n for n in tenths])


def test_the_training_of_2014_ends_with_three_scales_and_looks_at_one_meanwhile(recorded, model):
    seen = recorded("--recipe", "paper", script=[0.5])
    net, images = small(model, image_size=64), torch.randn(4, 3, 128, 128)
    with torch.no_grad():
        posteriors = []
        for side in (64, 96, 128):
            view = transforms.resize(images, side, antialias=False)
            both = [net.dense(x).mean((2, 3)).softmax(1) for x in (view, view.flip(3))]
            posteriors.append(sum(both) / 2)
        torch.testing.assert_close(seen["finish"](net, images).exp(), sum(posteriors) / 3)
        torch.testing.assert_close(seen["validate"](net, images).exp(), posteriors[1])
    assert (posteriors[0] - posteriors[1]).abs().max() > 1e-3


def test_the_laptop_recipe_takes_small_photographs_in_memory(recorded):
    seen = recorded(script=[0.5, 0.6])
    assert seen["finish"] is None and seen["validate"] is None  # the image once, as it is
    assert seen["rates"][0] < seen["rates"][1]


NARROW = """
import sys, train
train.RECIPES["paper"] |= {"width": 1 / 16, "epochs": 1}
sys.argv[0] = "train.py"
train.main()
"""


def test_the_training_of_2014_takes_photographs(folder, photographs):
    """From files to pictures, in images of several shapes."""
    words = ("--recipe", "paper", "--data", photographs, "--batch-size", 8)
    done = run_python("-c", NARROW, *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Validation accuracy" in done.stdout and "on 20 images" in done.stdout


def test_the_training_of_2014_asks_for_its_data(folder):
    done = run_python(folder / "train.py", "--recipe", "paper")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert re.search("--data <folder", done.stderr)
