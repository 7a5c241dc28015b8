"""VGG against the paper's figures, torchvision's networks and PyTorch's layers."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.transforms.v2 import functional as transforms

NAME = "VGG"
PARAMETERS = {
    **{"A": 132_863_336, "A-LRN": 132_863_336, "B": 133_047_848},
    **{"C": 133_638_952, "D": 138_357_544, "E": 143_667_240},
}
LAYERS = {"A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19}
STOCK = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}
# Table 1, column C: kernel and feature maps of each convolution, M for max pooling.
COLUMN_C = (
    "3-64 3-64 M 3-128 3-128 M 3-256 3-256 1-256 M 3-512 3-512 1-512 M 3-512 3-512 1-512 M"
).split()


def narrow(model, **knobs):
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
        net = model.VGG() if config == "D" else model.VGG(config=config)  # D is the default
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[config]
    assert len([part for part in net.modules() if hasattr(part, "weight")]) == LAYERS[config]


def of_stock_layers(config):
    """A configuration by torchvision, or put together from the table's words."""
    if config in STOCK:
        return getattr(torchvision.models, STOCK[config])().eval()
    layers, maps = [], 3
    for word in COLUMN_C:
        if word == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            kernel, wider = map(int, word.split("-"))
            layers += [nn.Conv2d(maps, wider, kernel, 1, (kernel - 1) // 2), nn.ReLU()]
            maps = wider
    layers += [nn.Flatten(), nn.Linear(512 * 7 * 7, 4096), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000))


@pytest.mark.parametrize("config", [*STOCK, "C"])
def test_scores_and_gradients_are_those_of_stock_layers(model, config):
    """The shapes of all weights at full size; then, narrow, all gradients, also of the images."""
    ours = narrow(model, config=config).double()
    with torch.device("meta"):
        full, stock = model.VGG(config=config), of_stock_layers(config)
    assert [p.shape for p in full.parameters()] == [p.shape for p in stock.parameters()]
    layers = [part for part in stock.modules() if hasattr(part, "weight")]
    for theirs, layer in zip(layers, ours.children(), strict=True):
        # A stock layer computes with the weights that it is given, of any width.
        theirs.weight, theirs.bias = (nn.Parameter(p.detach().clone()) for p in layer.parameters())
    images = 60 * torch.randn(2, 3, 224, 224, dtype=torch.double)
    found = []
    for net in (ours, stock):
        inputs = images.clone().requires_grad_()
        scores = net(inputs)
        scores.square().sum().backward()
        found.append([scores.detach(), inputs.grad, *(p.grad for p in net.parameters())])
    assert len(found[0]) == 2 + 2 * LAYERS[config]
    assert found[0][0].std(0).max() > 1e-3
    for here, there in zip(*found, strict=True):
        assert there.abs().max() > 0
        assert (here - there).norm() <= 1e-9 * there.norm()


@torch.no_grad()
def test_a_lrn_normalizes_after_the_first_convolution_alone(model):
    """The other layers of A, fed what PyTorch's normalization makes of conv1_1."""
    plain, lrn = (narrow(model, config=config, image_size=64).double() for config in ("A", "A-LRN"))
    images = 60 * torch.randn(3, 3, 64, 64, dtype=torch.double)
    normalization = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)
    expected, without = lrn(images), plain(images)
    plain.conv1_1.register_forward_hook(lambda *words: normalization(torch.relu(words[-1])))
    torch.testing.assert_close(plain(images), expected)
    assert (expected - without).abs().max() > 1e-2


@pytest.mark.parametrize("init", ["glorot", "0.1", "0.01"])
def test_initial_weights_are_glorots_or_have_the_deviation_asked_for(model, init):
    torch.manual_seed(0)
    for name, layer in model.VGG(width=1 / 4, image_size=64, init=init).named_children():
        weight = layer.weight
        if init == "glorot":  # equation 16 of the paper of 2010
            area = weight[0, 0].numel() if weight.dim() == 4 else 1
            deviation = (2 / (area * (weight.shape[0] + weight.shape[1]))) ** 0.5
            assert weight.abs().max() <= 3**0.5 * deviation + 1e-6  # uniform
        else:
            deviation = 2 * float(init)  # a quarter of the inputs, the same spread of the sums
        assert weight.std().item() == pytest.approx(deviation, rel=0.08), name
        assert not layer.bias.any()


@pytest.mark.parametrize("size, side", [(224, 7), (64, 2), (32, 1), (28, 1)])
def test_the_first_full_layer_fits_any_image_size(model, size, side):
    net = narrow(model, image_size=size, in_channels=1)
    assert net.fc6.in_features == 32 * side**2
    assert net(torch.randn(2, 1, size, size)).shape == (2, 10)


@torch.no_grad()
@pytest.mark.parametrize("dropout", [0.5, 0.0])
def test_half_of_the_inputs_of_fc7_and_fc8_is_dropped_in_training_alone(model, dropout):
    net, seen = narrow(model, image_size=32, dropout=dropout), {}
    for layer in (net.fc6, net.fc7):
        layer.weight.zero_()  # what is left is the bias: every unit is 1
        layer.bias.fill_(1)
    for layer in (net.fc7, net.fc8):
        layer.register_forward_pre_hook(lambda layer, x: seen.update({layer: x[0]}))
    images = torch.randn(60, 3, 32, 32)
    net(images)
    assert (seen[net.fc7] == 1).all() and (seen[net.fc8] == 1).all()
    net.train()(images)
    for layer in (net.fc7, net.fc8):
        assert (seen[layer] == 0).float().mean().item() == pytest.approx(dropout, abs=0.02)
        assert (seen[layer][seen[layer] != 0] == 1 / (1 - dropout)).all()


@torch.no_grad()
def test_dense_scores_are_the_classifiers_at_all_places(model):
    """The feature maps, cut into all windows of 7x7, each put through the Linear layers.

    At the size that the network was trained on, there is one place, with the ordinary scores.
    """
    net = narrow(model)
    classifier = nn.Sequential(nn.Flatten(), net.fc6, nn.ReLU(), net.fc7, nn.ReLU(), net.fc8)
    for height, width in ((300, 380), (224, 224)):
        images = torch.randn(2, 3, height, width)
        maps, found = net.features(images), net.dense(images)
        assert found.shape == (2, 10, height // 32 - 6, width // 32 - 6)
        for y in range(found.shape[2]):
            for x in range(found.shape[3]):
                expected = classifier(maps[:, :, y : y + 7, x : x + 7])
                torch.testing.assert_close(found[:, :, y, x], expected, rtol=1e-5, atol=1e-6)
        assert height == 224 or found.flatten(2).std(2).min() > 1e-3
    torch.testing.assert_close(found[:, :, 0, 0], net(images), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_multi_scale_evaluation_is_the_mean_of_six_views(model, train):
    """Three scales by torchvision's resize, mirrored or not (3.2, 4.2)."""
    net, images = narrow(model, image_size=64), torch.randn(3, 3, 128, 160)
    views = [transforms.resize(images, side, antialias=False) for side in (64, 96, 128)]
    views += [transforms.horizontal_flip(view) for view in views]
    probabilities = [net.dense(view).mean((2, 3)).softmax(1) for view in views]
    found = train.multi_scale(net, images, (64, 96, 128)).exp()
    torch.testing.assert_close(found, sum(probabilities) / 6)
    assert (found - probabilities[2]).abs().max() > 1e-3


def test_crops_have_a_scale_and_a_place_of_their_own(train):
    """On an image whose values are the coordinates, a crop shows where its pixels come from."""
    torch.manual_seed(0)
    place = torch.arange(64.0) + 0.5  # of the middle of a pixel
    images = torch.stack(torch.meshgrid(place, place, indexing="ij")).expand(1500, -1, -1, -1)
    crops = train.scale_jitter(images, (32, 48, 64), 28)
    sides = []
    for lines in (crops[:, 0].mT, crops[:, 1]):  # from the top down, from left to right
        axis = lines[:, 0]
        torch.testing.assert_close(lines, axis[:, None].expand(-1, 28, -1))
        steps = axis.diff(dim=1)
        torch.testing.assert_close(steps, steps[:, :1].expand(-1, 27), rtol=1e-3, atol=1e-3)
        sides.append(64 / steps[:, 13])  # S pixels cover the 64 of the image
        # All of the crop is inside, and it comes to lie at both borders.
        first, last = axis[:, 0] - steps[:, 0] / 2, axis[:, -1] + steps[:, 0] / 2
        assert -1e-3 < first.min() < 0.5 and 63.5 < last.max() < 64 + 1e-3
    torch.testing.assert_close(*sides, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(sides[0], sides[0].round(), rtol=1e-3, atol=1e-3)
    assert set(sides[0].round().tolist()) == set(range(32, 65))
    assert sides[0].mean().item() == pytest.approx(48, abs=1)


@torch.no_grad()
def test_a_crop_at_a_scale_is_torchvisions_resize_and_crop(train, monkeypatch):
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(train.scale_jitter(images, (64,), 64), images, rtol=1e-4, atol=1e-4)
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

QUICK = ("--width", 1 / 16, "--epochs", 1)


def test_a_deeper_network_starts_with_the_layers_that_a_has(branch, small):
    """At a rate of next to nothing, the layers carried over still are those of A at the end."""
    small(branch, train=64, other=10)
    assert branch("train.py", *QUICK).code == 0
    (folder,) = (branch.home / "checkpoints" / NAME).glob("laptop-*")
    words = (*QUICK, "--config", "D", "--init", 0.01, "--lr", 1e-30, "--start-from", folder)
    assert branch("train.py", *words).code == 0
    a, d = sorted((run["weights"] for run in branch.runs().values()), key=len)  # D has more
    same = [key for key in d if key in a and torch.allclose(a[key], d[key], atol=1e-12)]
    carried = {key.removesuffix(".weight") for key in same if key.endswith(".weight")}
    assert carried == {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"}
    assert {f"{name}.bias" for name in carried} <= set(same)
    assert d["conv5_1.weight"].std().item() == pytest.approx(0.04, rel=0.05)


@pytest.mark.parametrize("trouble", ["no run", "broken", "of another size", "of another model"])
def test_a_start_that_does_not_fit_is_one_line_and_exit_code_2(branch, small, tmp_path, trouble):
    small(branch, train=64, other=10)
    weights = branch.model.VGG(1, 10, 32, 1 / 16, "A").state_dict()
    if trouble == "of another size":
        weights["fc7.weight"] = weights["fc7.weight"][:5]
    if trouble == "of another model":
        weights = {"C1.weight": torch.zeros(3)}
    if trouble != "no run":
        torch.save({"weights": weights}, tmp_path / "weights.pt")
    if trouble == "broken":
        (tmp_path / "weights.pt").write_bytes(b"no weights")
    done = branch("train.py", *QUICK, "--config", "D", "--start-from", tmp_path, "--dry-run")
    assert done.code == 2 and len(done.err.splitlines()) == 1 and str(tmp_path) in done.err
    assert ("fc7.weight" in done.err) == (trouble == "of another size")


def test_a_run_that_started_elsewhere_is_not_resumed(branch, small, tmp_path):
    """The weights it started from belong to what a run is."""
    small(branch, train=64, other=10)
    whole = {"weights": branch.model.VGG(1, 10, 32, 1 / 16, "A").state_dict()}
    torch.save(whole, tmp_path / "weights.pt")
    words = (*QUICK, "--config", "B", "--start-from", tmp_path)
    assert branch("train.py", *words).code == 0
    assert "finished before" in branch("train.py", *words).out
    whole["weights"]["fc8.bias"] += 1
    torch.save(whole, tmp_path / "weights.pt")
    done = branch("train.py", *words)
    assert done.code == 2 and "weights at the start" in done.err


# The training of 2014

SMALL = "--recipe paper --side 128 --scales 64 96 128 --image-size 64".split()


@pytest.fixture
def scripted(branch, small, monkeypatch):
    """Trains on small photographs, with these validation accuracies; Run, and scores_of used."""
    monkeypatch.setattr(branch.train, "PATIENCE", 1)
    small(branch, train=8, other=4)

    def fit(script, *words):
        seen, left = {}, iter(script)

        def evaluate(model, loader, criterion, scores_of):
            seen["validation"] = scores_of
            return {"accuracy": next(left)}

        monkeypatch.setattr(branch.train, "evaluate", evaluate)
        monkeypatch.setattr(branch.train, "finish", lambda *words: seen.update(test=words[-1]))
        words = ("--data", "cifar10", "--width", 1 / 16, "--epochs", len(script), *words)
        return branch.train.fit(branch.parse(*words)), seen

    return fit


def test_the_training_of_2014_drops_its_rate_where_validation_stops_rising(scripted):
    """More than one epoch in a row without a better one: a tenth, three times and no more."""
    script = (0.1, 0.2, 0.2, 0.3, 0.3, 0.29, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4)
    tenths = (0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3)
    run, _ = scripted(script, *SMALL)
    assert [row["lr"] for row in run.history] == pytest.approx([0.01 / 10**n for n in tenths])


def test_images_are_looked_at_as_each_recipe_says(scripted, branch):
    """In the paper's at three scales in the end, at the middle one meanwhile; else as they are."""
    assert scripted([0.5])[1] == {"validation": None, "test": None}
    _, seen = scripted([0.5], *SMALL)
    net, images = narrow(branch.model, image_size=64), torch.randn(4, 3, 128, 128)
    for split, scales in (("test", (64, 96, 128)), ("validation", (96,))):
        assert torch.equal(seen[split](net, images), branch.train.multi_scale(net, images, scales))
