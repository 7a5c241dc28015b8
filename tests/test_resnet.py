"""ResNet against the paper's figures, torchvision's networks and PyTorch's layers."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as transforms

NAME = "ResNet"
# Parameters and multiply-accumulates, by depth and shortcut: Table 1, counted.
SIZES = {
    **dict.fromkeys([(18, "none"), (18, "A")], (11_515_688, 1_794_805_760)),
    (18, "B"): (11_689_512, 1_814_073_344),
    (18, "C"): (12_043_816, 1_878_298_624),
    **dict.fromkeys([(34, "none"), (34, "A")], (21_623_848, 3_644_493_824)),
    (34, "B"): (21_797_672, 3_663_761_408),
    (34, "C"): (22_716_840, 3_830_747_136),
    (50, "A"): (22_780_456, 3_498_311_680),
    (50, "B"): (25_557_032, 3_857_973_248),
    (50, "C"): (40_128_552, 6_324_224_000),
    (101, "B"): (44_549_160, 7_570_194_432),
    (152, "B"): (60_192_808, 11_282_415_616),
}
CIFAR = {  # parameters of A and of B; multiply-accumulates of A
    20: (269_722, 272_474, 40_551_040),
    32: (464_154, 466_906, 68_862_592),
    44: (658_586, 661_338, 97_174_144),
    56: (853_018, 855_770, 125_485_696),
    110: (1_727_962, 1_730_714, 252_887_680),
}
OF_2016 = {  # depth, bottleneck, shortcut: parameters
    (110, False, "A"): 1_727_962,
    (164, True, "B"): 1_703_258,
    (1001, True, "B"): 10_327_706,
}
STOCK = {18: "resnet18", 34: "resnet34", 50: "resnet50", 101: "resnet101", 152: "resnet152"}


def parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("depth, shortcut", SIZES)
def test_imagenet_networks_have_the_papers_size(branch, model, depth, shortcut):
    with torch.device("meta"):
        net = model.ResNet(depth=depth, shortcut=shortcut)
        counted = branch.table.count(net, torch.zeros(1, 3, 224, 224))
    assert (counted["parameters"], counted["macs"]) == SIZES[depth, shortcut]
    layers = [name for name, p in net.named_parameters() if p.dim() > 1 and "shortcut" not in name]
    assert len(layers) == depth


@pytest.mark.parametrize("depth", CIFAR)
def test_cifar_networks_have_the_papers_size(branch, model, depth):
    with torch.device("meta"):
        plain, a, b = (model.CifarResNet(depth=depth, shortcut=kind) for kind in ("none", "A", "B"))
        macs = branch.table.count(a, torch.zeros(1, 3, 32, 32))["macs"]
    assert (parameters(a), parameters(b), macs) == CIFAR[depth] and parameters(plain) == parameters(
        a
    )


@pytest.mark.parametrize("depth, bottleneck, shortcut", OF_2016)
def test_preactivation_networks_have_the_size_of_2016s(model, depth, bottleneck, shortcut):
    kind = {"depth": depth, "bottleneck": bottleneck, "shortcut": shortcut}
    with torch.device("meta"):
        net = model.CifarResNet(preactivation=True, **kind)
    assert parameters(net) == OF_2016[depth, bottleneck, shortcut]


def narrow(model, kind="ResNet", **knobs):
    """A narrow network in double precision, whose normalizations all differ."""
    torch.manual_seed(1)
    width = 1 / 16 if kind == "ResNet" else 1 / 4
    net = getattr(model, kind)(**{"num_classes": 10, "width": width, **knobs}).double()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def carry_over(net, stock):
    """Give stock layers, in the order they were made in, the weights of ours.

    A layer computes with what it is given, of any width.
    """

    def layers(network):
        return [part for part in network.modules() if hasattr(part, "weight")]

    for ours, theirs in zip(layers(net), layers(stock), strict=True):
        assert type(ours) is type(theirs)
        for name, value in (*ours.named_parameters(), *ours.named_buffers()):
            setattr(theirs, name, copy.deepcopy(value))


def assert_the_same(net, stock, images):
    """Scores and gradients, also of the images, in training; scores in evaluation."""
    found = []
    for network in (net, stock):
        inputs = images.clone().requires_grad_()
        scores = network.train()(inputs)
        scores.square().sum().backward()
        gradients = [p.grad for p in network.parameters()]
        found.append([scores.detach(), inputs.grad, *gradients, network.eval()(images).detach()])
    assert found[0][0].std(0).max() > 1e-3
    for here, there in zip(*found, strict=True):
        assert there.abs().max() > 0
        assert (here - there).norm() <= 1e-8 * there.norm()


@pytest.mark.parametrize("depth", STOCK)
def test_scores_and_gradients_are_torchvisions_once_the_stride_is_moved(model, depth):
    """From its 3x3 convolution to the first 1x1. At full size, the shapes of all weights."""
    with torch.device("meta"):
        full, stock = model.ResNet(depth=depth), getattr(torchvision.models, STOCK[depth])()
    assert [p.shape for p in full.parameters()] == [p.shape for p in stock.parameters()]
    for block in stock.modules():
        if isinstance(block, torchvision.models.resnet.Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    net = narrow(model, depth=depth)
    carry_over(net, stock)
    assert_the_same(net, stock, 60 * torch.randn(3, 3, 64, 64, dtype=torch.double))


def padded(x):
    """Every second row and column by a pooling, and as many feature maps of zeros after them."""
    x = F.max_pool2d(x, 1, stride=2)
    return torch.cat([x, torch.zeros_like(x)], 1)


def stock_cifar(n, shortcut):
    """Torchvision's blocks as the network of 6n + 2 layers for CIFAR-10, a quarter wide (4.2)."""
    layers, channels = [nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()], 4
    for wider in (4, 8, 16):
        for _ in range(n):
            grows = wider > channels
            around = (lambda x: 0) if shortcut == "none" else padded if grows else None
            layers.append(torchvision.models.resnet.BasicBlock(channels, wider, 1 + grows, around))
            channels = wider
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


@pytest.mark.parametrize("shortcut", ["none", "A"])
@pytest.mark.parametrize("depth", [8, 20])
def test_cifar_networks_are_those_of_stock_blocks(model, depth, shortcut):
    net = narrow(model, "CifarResNet", depth=depth, shortcut=shortcut)
    stock = stock_cifar(depth // 6, shortcut)
    carry_over(net, stock)
    assert_the_same(net, stock, torch.randn(5, 3, 32, 32, dtype=torch.double))


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0])
def test_blocks_that_add_nothing_pass_on_what_they_are_given(model, scale):
    """F = 0, since its last normalization gives 0: the first two blocks leave x as it is, the next
    take every second place of it, and zeros; each with half of a shortcut, a quarter is left."""
    net = narrow(model, "CifarResNet", depth=20, shortcut_scale=scale)
    for part in net.modules():
        if hasattr(part, "residual"):
            part.residual[-1].weight.zero_(), part.residual[-1].bias.zero_()
    images = torch.randn(3, 3, 32, 32, dtype=torch.double)
    x = net.conv1(images)
    assert x.min() == 0 < x.std()
    expected = scale**9 * F.pad(x[:, :, ::4, ::4], (0, 0, 0, 0, 0, 12))
    torch.testing.assert_close(net.features(images), expected)


def normalized(layer, x):
    return F.relu(F.batch_norm(x, None, None, layer.weight, layer.bias, True))


def convolved(layer, x):
    return F.conv2d(x, layer.weight, None, layer.stride, layer.padding)


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_preactivation_is_what_2016_writes(model, shortcut):
    """The first block shares conv1's activation, those that grow share their own with the
    shortcut; after the last comes one more. A projection is a convolution alone."""
    net = narrow(model, "CifarResNet", depth=14, preactivation=True, shortcut=shortcut)
    images = torch.randn(4, 3, 32, 32, dtype=torch.double)
    x = normalized(net.conv1[1], convolved(net.conv1[0], images))
    for i, block in enumerate([*net.conv2_x, *net.conv3_x, *net.conv4_x]):
        layers = [part for part in block.modules() if isinstance(part, (nn.Conv2d, nn.BatchNorm2d))]
        activated = normalized(layers.pop(0), x) if i > 0 else x
        first, between, second, *projection = layers
        around = x
        if i in (2, 4):  # the first of a stage
            assert len(projection) == (shortcut == "B")
            around = convolved(*projection, activated) if projection else padded(activated)
        x = around + convolved(second, normalized(between, convolved(first, activated)))
    x = normalized(net.activation[0], x)
    expected = F.linear(x.mean((2, 3)), net.fc.weight, net.fc.bias)
    torch.testing.assert_close(net.train()(images), expected)


@torch.no_grad()
def test_without_normalization_there_are_biases_in_its_place(model):
    net = narrow(model, "CifarResNet", depth=20, norm=False)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in net.modules())
    convolutions = [part for part in net.modules() if isinstance(part, nn.Conv2d)]
    assert len(convolutions) == 19 and all(part.bias is not None for part in convolutions)
    one, two = torch.randn(2, 1, 3, 32, 32, dtype=torch.double)
    torch.testing.assert_close(net(torch.cat([one, two]))[:1], net(one))


def test_initial_weights_are_hes(model):
    """A standard deviation of sqrt(2 / inputs); gamma 1, beta and biases 0."""
    torch.manual_seed(0)
    for part in model.ResNet(depth=50, shortcut="C", width=1 / 2).modules():
        if isinstance(part, nn.BatchNorm2d):
            assert (part.weight == 1).all() and not part.bias.any()
        elif hasattr(part, "weight"):
            inputs = part.weight[0].numel()
            assert part.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.06)
            assert part.bias is None or not part.bias.any()


@torch.no_grad()
@pytest.mark.parametrize(
    "kind, images", [("ResNet", (2, 3, 130, 190)), ("CifarResNet", (2, 3, 37, 28))]
)
def test_dense_scores_are_the_classifiers_at_all_places(model, kind, images):
    net = narrow(model, kind).eval()
    images = torch.randn(images, dtype=torch.double)
    maps, found = net.features(images), net.dense(images)
    assert found.shape[2:] == maps.shape[2:] and found.flatten(2).std(2).min() > 1e-4
    for y in range(found.shape[2]):
        for x in range(found.shape[3]):
            torch.testing.assert_close(found[:, :, y, x], net.fc(maps[:, :, y, x]))
    torch.testing.assert_close(found.mean((2, 3)), net(images))


@pytest.mark.parametrize(
    "kind, knobs, words",
    [
        ("ResNet", {"depth": 20}, "depth is 20"),
        ("ResNet", {"depth": True}, "depth is True"),
        ("CifarResNet", {"depth": 18}, r"depth is 18, must be 6n \+ 2"),
        ("CifarResNet", {"depth": 2}, "depth is 2"),
        ("CifarResNet", {"depth": 20, "bottleneck": 1}, "bottleneck is 1"),
        ("CifarResNet", {"width": 0.03}, "width is 0.03"),
        ("ResNet", {"shortcut_scale": -1.0}, "shortcut_scale is -1.0"),
    ],
)
def test_what_is_no_network_of_theirs_is_an_error(model, kind, knobs, words):
    with pytest.raises(ValueError, match=words), torch.device("meta"):
        getattr(model, kind)(**knobs)


# Training


def test_the_cifar_recipe_is_the_papers(branch, train):
    """64,000 steps of 128 of the 45,000 images; the rate falls at 32,000 and 48,000 (4.2)."""
    recipe = train.RECIPES["cifar"]
    steps = recipe.epochs * -(-45_000 // recipe.batch_size)
    assert abs(steps - 64_000) < 100
    rates = [recipe.lr * train.factor(step, 64_000, 400) for step in range(64_000)]
    assert rates[:400] == pytest.approx([0.01] * 400) and rates[400:32_000] == [0.1] * 31_600
    assert rates[32_000:48_000] == pytest.approx([0.01] * 16_000)
    assert rates[48_000:] == pytest.approx([0.001] * 16_000)
    assert train.factor(0, 64_000, 0) == 1


def test_small_images_are_padded_cropped_and_mirrored(train):
    """Each of 25 places, mirrored and not, about equally often: torchvision's crops."""
    torch.manual_seed(0)
    image = 1 + torch.arange(2 * 6 * 6.0).view(2, 6, 6)
    padded, crops = transforms.pad(image, [2]), {}
    for top in range(5):
        for left in range(5):
            crop = transforms.crop(padded, top, left, 6, 6)
            crops |= {crop.numpy().tobytes(): 0, crop.flip(2).numpy().tobytes(): 0}
    assert len(crops) == 50
    for crop in train.augment_small(image.expand(5000, -1, -1, -1), 6, 2):
        crops[crop.contiguous().numpy().tobytes()] += 1
    assert min(crops.values()) > 50 and max(crops.values()) < 160


@torch.no_grad()
def test_ten_crops_are_torchvisions_of_the_middle_square(model, train):
    net = narrow(model).eval()
    images = torch.randn(2, 3, 96, 160, dtype=torch.double)
    resized = transforms.resize(images, 80, antialias=False)
    square = transforms.center_crop(resized, [80, 80])
    views = transforms.ten_crop(square, [64, 64])
    expected = torch.stack([net(view).softmax(1) for view in views]).mean(0)
    found = train.ten_crops_at(net, images, 64, 80).exp()
    torch.testing.assert_close(found, expected)
    assert (found - net(square).softmax(1)).abs().max() > 1e-4
