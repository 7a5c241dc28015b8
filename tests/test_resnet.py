"""ResNet against torchvision's networks and PyTorch's layers; its counts: test_resnet_counts.py."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as transforms

NAME = "ResNet"
STOCK = {18: "resnet18", 34: "resnet34", 50: "resnet50", 101: "resnet101", 152: "resnet152"}


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


def written_out(net, images, blocks, layers, shortcut, preactivation):
    """Scores of the network for ImageNet, line by line: Table 1 and Figure 5, or the order of 2016.

    layers: of a block. The weights are a net's, in the order its layers were made in.
    """
    parts = (part for part in net.modules() if isinstance(part, (nn.Conv2d, nn.BatchNorm2d)))

    def conv(x, stride=1):
        weight = next(parts).weight
        return F.conv2d(x, weight, None, stride, weight.shape[2] // 2)

    def norm(x):
        layer = next(parts)
        return F.batch_norm(x, None, None, layer.weight, layer.bias, True)

    def around(x, stride, maps):
        if shortcut == "C" or shortcut == "B" and (stride == 2 or maps != x.shape[1]):
            return conv(x, stride) if preactivation else norm(conv(x, stride))
        x = x[:, :, ::stride, ::stride]
        zeros = x.new_zeros(len(x), maps - x.shape[1], *x.shape[2:])
        return 0 if shortcut == "none" else torch.cat([x, zeros], 1)

    x = F.max_pool2d(F.relu(norm(conv(images, 2))), 3, 2, 1)
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            if preactivation:
                activated = x if stage == block == 0 else F.relu(norm(x))
                y = conv(activated, stride)
                for _ in range(layers - 1):
                    y = conv(F.relu(norm(y)))
                shared = shortcut == "C" or y.shape != x.shape
                x = y + around(activated if shared else x, stride, y.shape[1])
            else:
                y = norm(conv(x, stride))
                for _ in range(layers - 1):
                    y = norm(conv(F.relu(y)))
                x = F.relu(y + around(x, stride, y.shape[1]))
    x = F.relu(norm(x)) if preactivation else x
    return F.linear(x.mean((2, 3)), net.fc.weight, net.fc.bias)


@pytest.mark.parametrize("preactivation", [False, True])
@pytest.mark.parametrize("shortcut", ["A", "B", "C", "none"])
@pytest.mark.parametrize("depth, layers, blocks", [(18, 2, (2, 2, 2, 2)), (50, 3, (3, 4, 6, 3))])
def test_imagenet_networks_compute_what_is_written_out(
    model, depth, layers, blocks, shortcut, preactivation
):
    """Scores and the gradients of all weights, in training."""
    net = narrow(model, depth=depth, shortcut=shortcut, preactivation=preactivation).train()
    images = torch.randn(3, 3, 64, 64, dtype=torch.double)
    expected = written_out(net, images, blocks, layers, shortcut, preactivation)
    (found, there), gradients = (net(images), expected), []
    torch.testing.assert_close(found, there)
    assert found.std(0).max() > 1e-3
    for scores in (found, there):
        gradients.append(torch.autograd.grad(scores.square().sum(), [*net.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-9)


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
        ("CifarResNet", {"depth": 18}, r"depth is 18, must be 6n \+ 2"),
        ("CifarResNet", {"depth": 2}, "depth is 2"),
        ("CifarResNet", {"width": 0.03}, "width is 0.03"),
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
