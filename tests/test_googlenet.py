"""GoogLeNet against the paper's Table 1, torchvision's wiring and crops made by hand."""

import contextlib
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torchvision.models.googlenet import Inception
from torchvision.transforms.v2 import functional as transforms

NAME = "GoogLeNet"
# Table 1: output, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj, operations in millions.
TABLE_1 = """
    inception_3a  28  256   64   96 128 16  32  32 128
    inception_3b  28  480  128  128 192 32  96  64 304
    inception_4a  14  512  192   96 208 16  48  64  73
    inception_4b  14  512  160  112 224 24  64  64  88
    inception_4c  14  512  128  128 256 24  64  64 100
    inception_4d  14  528  112  144 288 32  64  64 119
    inception_4e  14  832  256  160 320 32 128 128 170
    inception_5a   7  832  256  160 320 32 128 128  54
    inception_5b   7 1024  384  192 384 48 128 128  71
"""


@contextlib.contextmanager
def recorded_steps():
    """Meanwhile, what each step of an optimizer leaves: (learning rate, [its parameters])."""
    steps = []

    def record(optimizer, *_):
        (group,) = optimizer.param_groups
        steps.append((group["lr"], [p.detach().clone() for p in group["params"]]))

    hook = register_optimizer_step_post_hook(record)
    yield steps
    hook.remove()


def test_every_stage_is_its_row_of_table_1(model):
    """And the heads those of section 5; there are 22 layers with parameters."""
    shapes = {}
    with torch.device("meta"):
        net = model.GoogLeNet()
        for name, stage in net.named_modules():
            stage.register_forward_hook(
                lambda _, x, y, name=name: shapes.update({name: (x[0].shape[1:], y[0].shape)})
            )
        net.train()(torch.empty(1, 3, 224, 224))
    for name, *row in map(str.split, TABLE_1.strip().splitlines()):
        side, maps, n1, n3_reduce, n3, n5_reduce, n5, proj, operations = map(int, row)
        into, output = shapes[name]
        assert output == (maps, side, side) and n1 + n3 + n5 + proj == maps
        weights = getattr(net, name).parameters()
        kernels = sorted(tuple(weight.shape) for weight in weights if weight.dim() == 4)
        ones = [(n, into[0], 1, 1) for n in (n1, n3_reduce, n5_reduce, proj)]
        assert kernels == sorted([*ones, (n3, n3_reduce, 3, 3), (n5, n5_reduce, 5, 5)])
        if name != "inception_5a":  # where the paper's number does not follow from its filters
            assert abs(sum(map(math.prod, kernels)) * side**2 / 1e6 - operations) < 1
    assert shapes["conv1"] == ((3, 224, 224), (64, 112, 112))
    assert shapes["conv2"] == ((64, 56, 56), (192, 56, 56))
    assert shapes["inception_3a"][0] == (192, 28, 28) and shapes["linear"] == ((1024,), (1000,))
    for head, maps in (("aux_4a", 512), ("aux_4d", 528)):
        assert shapes[head] == ((maps, 14, 14), (1000,))
        assert shapes[f"{head}.conv"] == ((maps, 4, 4), (128, 4, 4))
        assert shapes[f"{head}.fc1"] == ((2048,), (1024,))

    def depth(module):
        layers = [part for part in module.modules() if hasattr(part, "bias")]
        return max(map(depth, getattr(module, "branches", {}).values()), default=len(layers))

    with torch.device("meta"):
        alone = model.GoogLeNet(aux=False)
    assert sum(map(depth, alone.children())) == 22  # the longest way, as the paper counts
    sizes = [sum(p.numel() for p in part.parameters()) for part in (net, alone)]
    assert sizes == [13_378_280, 6_998_552]


def stock_convolution(*sizes, **how):
    """torchvision's, without the batch normalization that came a year later."""
    return nn.Sequential(nn.Conv2d(*sizes, **how), nn.ReLU())


def stock_head(in_channels, num_classes, dropout):
    convolution = nn.AvgPool2d(5, 3), *stock_convolution(in_channels, 128, kernel_size=1)
    units = nn.Linear(2048, 1024), nn.ReLU(), nn.Dropout(dropout), nn.Linear(1024, num_classes)
    return nn.Sequential(*convolution, nn.Flatten(), *units)


def stock_block(in_channels, *maps):
    block = Inception(in_channels, *maps, conv_block=stock_convolution)
    block.branch3[1] = stock_convolution(*maps[3:5], kernel_size=5, padding=2)  # not 3x3
    return block


@pytest.mark.parametrize("lrn", [True, False])
def test_scores_and_gradients_are_those_of_torchvisions_wiring(model, monkeypatch, lrn):
    """At full size, in training, with nothing dropped: all three scores, and every gradient."""
    monkeypatch.setattr(F, "dropout", lambda x, *how: x)
    torch.manual_seed(0)
    blocks = [stock_convolution, stock_block, stock_head]
    theirs = torchvision.models.GoogLeNet(init_weights=False, blocks=blocks).double()
    norm = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2) if lrn else nn.Identity()
    theirs.maxpool1 = nn.Sequential(theirs.maxpool1, norm)
    theirs.maxpool2 = nn.Sequential(norm, theirs.maxpool2)
    theirs.maxpool4 = nn.MaxPool2d(3, 2, ceil_mode=True)  # not 2x2
    ours = model.GoogLeNet(lrn=lrn).double()
    own = dict(ours.named_parameters())
    for stage in ("aux_4a", "aux_4d", "linear"):  # they come last there
        own |= {key: own.pop(key) for key in [*own] if key.startswith(stage)}
    theirs.load_state_dict(dict(zip(theirs.state_dict(), own.values(), strict=True)))
    image, label = 60 * torch.randn(1, 3, 224, 224).double(), torch.tensor([3])
    scores = theirs(image)
    scores = ours(image), (scores.logits, scores.aux_logits1, scores.aux_logits2)
    found = []
    for outputs, weights in zip(scores, (own.values(), theirs.parameters())):
        loss = sum(n * F.cross_entropy(output, label) for n, output in enumerate(outputs, 1))
        found.append([*outputs, *torch.autograd.grad(loss, [*weights])])
    for here, there in zip(*found, strict=True):
        assert there.abs().max() > 0
        assert (here - there).norm() <= 1e-9 * there.norm()


@torch.no_grad()
def test_a_block_without_a_branch_has_the_maps_of_the_others(model):
    whole, x = model.Inception(192, model.INCEPTION["3a"]), torch.randn(2, 192, 6, 6)
    places = ((0, 64), (64, 192), (192, 224), (224, 256))
    for without, (first, end) in zip(("1x1", "3x3", "5x5", "pool"), places):
        part = model.Inception(192, model.INCEPTION["3a"], without=without)
        weights = whole.state_dict().items()
        part.load_state_dict({key: w for key, w in weights if f".{without}." not in key})
        left = [maps for n, maps in enumerate(whole(x).unbind(1)) if not first <= n < end]
        torch.testing.assert_close(part(x), torch.stack(left, 1))


@torch.no_grad()
def test_without_reductions_the_large_filters_read_all_maps(model):
    block = model.Inception(8, (4, 2, 5, 3, 6, 7), reduction=False)
    one, three, five, proj = convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    sizes = [(conv.in_channels, conv.out_channels, *conv.kernel_size) for conv in convs]
    assert sizes == [(8, 4, 1, 1), (8, 5, 3, 3), (8, 6, 5, 5), (8, 7, 1, 1)]
    x = torch.randn(2, 8, 6, 6)
    pooled = F.max_pool2d(x, 3, 1, 1)
    torch.testing.assert_close(block(x), torch.cat([one(x), three(x), five(x), proj(pooled)], 1))


@torch.no_grad()
def test_the_heads_speak_in_training_or_when_asked_and_fit_any_image(model):
    for size in (1, 28, 32, 64):
        net, images = model.GoogLeNet(1, 9, size, 1 / 8), torch.randn(2, 1, size, size)
        assert [scores.shape for scores in net(images)] == 3 * [(2, 9)]
        scores = net.eval()(images, heads=True)
        assert [s.shape for s in scores] == 3 * [(2, 9)] and torch.equal(scores[0], net(images))
    alone = model.GoogLeNet(1, 9, size, 1 / 8, aux=False)
    assert len(alone(images)) == 1 and alone.eval()(images).shape == (2, 9)


@torch.no_grad()
@pytest.mark.parametrize("dropout", [0.4, 0.0])
def test_dropout_is_forty_percent_and_seventy_in_the_heads(model, dropout):
    torch.manual_seed(1)
    net, seen = model.GoogLeNet(3, 10, 32, 1 / 2, dropout=dropout).eval(), {}
    last = {net.linear: dropout, net.aux_4a.fc2: 0.7, net.aux_4d.fc2: 0.7}
    for layer in last:
        layer.register_forward_pre_hook(lambda layer, x: seen.update({layer: x[0]}))
    images = torch.randn(40, 3, 32, 32)
    net(images, heads=True)
    whole = dict(seen)
    net.train()(images)
    for layer, share in last.items():
        kept = seen[layer] != 0
        assert kept[whole[layer] != 0].float().mean().item() == pytest.approx(1 - share, abs=0.02)
        torch.testing.assert_close(seen[layer][kept], whole[layer][kept] / (1 - share))


# Patches and crops


def test_patches_have_an_area_and_an_aspect_ratio_of_their_own(train):
    """On an image whose values are the coordinates, a patch shows where its pixels come from."""
    torch.manual_seed(0)
    place = (torch.arange(100.0) + 0.5) / 100  # of the middle of a pixel
    images = torch.stack(torch.meshgrid(place, place, indexing="ij")).expand(4000, -1, -1, -1)
    patches = train.random_patches(images, (0.08, 1.0), 20)
    down, right, sides = patches[:, 0, :, 0], patches[:, 1, 0], []
    straight = torch.stack(torch.broadcast_tensors(down[:, :, None], right[:, None]), 1)
    torch.testing.assert_close(patches, straight)
    for axis in (down, right):
        step = axis[:, 10] - axis[:, 9]
        first, last = axis[:, 10] - 10.5 * step, axis[:, 10] + 9.5 * step
        assert first.min() > -1e-3 and last.max() < 1 + 1e-3
        free = 20 * step < 0.7
        where = first[free] / (1 - 20 * step[free])  # anywhere from one border to the other
        assert [where.mean().item(), where.std().item()] == pytest.approx([0.5, 12**-0.5], abs=0.02)
        sides.append(20 * step)
    area, aspect = sides[0] * sides[1], sides[1] / sides[0]
    assert area.min() > 0.08 - 1e-3 and area.max() < 1 + 1e-3
    quarters = torch.tensor([0.25, 0.5, 0.75])
    torch.testing.assert_close(area.quantile(quarters), 0.08 + 0.92 * quarters, atol=0.03, rtol=0)
    assert aspect.min() > 3 / 4 - 1e-3 and aspect.max() < 4 / 3 + 1e-3
    narrow = aspect[area < 0.7].log() / math.log(4 / 3)
    assert narrow.mean().abs() < 0.05 and narrow.std().item() == pytest.approx(3**-0.5, abs=0.03)


def test_augmented_images_are_mirrored_or_not_and_shifted(train):
    """Where a patch is all of the image; and nothing of what is around an image gets in."""
    torch.manual_seed(0)
    image = torch.rand(1, 2, 32, 32)
    images = train.augment(image.expand(2000, -1, -1, -1), (1, 1), 32, 50 * torch.eye(2))
    shift = (images - image).mean((2, 3), keepdim=True)
    assert shift.std(0).flatten().tolist() == pytest.approx([5, 5], rel=0.1)
    kept, mirrored = (
        (images - shift - own).abs().amax((1, 2, 3)) < 1e-3 for own in (image, image.flip(3))
    )
    assert (kept ^ mirrored).all() and kept.float().mean().item() == pytest.approx(0.5, abs=0.05)
    enlarged = train.random_patches(torch.ones(500, 1, 20, 20), (0.08, 0.1), 40)
    torch.testing.assert_close(enlarged, torch.ones(500, 1, 40, 40))


@torch.no_grad()
@pytest.mark.parametrize("shape", [(110, 165), (165, 110), (110, 110)], ids=str)
def test_144_crops_are_the_papers(train, shape):
    """By torchvision's resize and five_crop, one after the other (7)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 10))  # it knows a pixel's place
    images, expected = 6 * torch.randn(2, 3, *shape), []
    for scale in (72, 80, 88, 96):
        resized = transforms.resize(images, scale, antialias=False)
        rows, columns = resized.shape[2:]
        for part in range(3):
            top, left = ((0, n // 2, n)[part] for n in (rows - scale, columns - scale))
            square = transforms.crop(resized, top, left, scale, scale)
            views = [*transforms.five_crop(square, 64)]
            views.append(transforms.resize(square, [64, 64], antialias=False))
            views += [transforms.horizontal_flip(view) for view in views]
            expected += [net(view).softmax(1) for view in views]
    assert len(expected) == 144
    found = train.many_crops(net, images, 64, (72, 80, 88, 96)).exp()
    torch.testing.assert_close(found, sum(expected) / 144)
    middle = transforms.center_crop(transforms.resize(images, 72, antialias=False), 64)
    torch.testing.assert_close(train.center_crop(net, images, 64, 72), net(middle))


# The training

NARROW = "--data cifar10 --width 0.05 --side 40 --image-size 28".split()


@pytest.mark.parametrize(
    "words, decay",
    [
        ("--recipe paper --epochs 17 --batch-size 10 --scales 32 36", 1 - 10 / 34),
        ("--epochs 3 --batch-size 5 --averaging 0.1 --lr 0.003", 0.1),
    ],
)
def test_the_training_and_what_is_looked_at(branch, train, small, words, decay):
    """The weights are averaged, over a tenth of the training at most, at first over less."""
    small(branch, 20, 30)
    with recorded_steps() as steps:
        assert branch("train.py", *NARROW, *words.split()).code == 0
    one = many = partial(train.center_crop, size=28, scale=28)
    if "paper" in words:
        rates = 16 * [0.01] + 16 * [0.01 * 0.96] + 2 * [0.01 * 0.96**2]
        assert [rate for rate, _ in steps] == pytest.approx(rates)
        one = partial(train.center_crop, size=28, scale=32)
        many = partial(train.many_crops, size=28, scales=(32, 36))
    (saved,) = branch.runs().values()
    result, row = saved["result"], saved["history"][saved["result"]["epoch"] - 1]
    net = branch.model.GoogLeNet(3, 10, 28, 0.05).eval().requires_grad_(False)
    net.load_state_dict(saved["weights"])
    done = steps[: len(steps) * row["epoch"] // result["epochs"]]
    for weights, (average, *later) in zip(net.parameters(), zip(*(own for _, own in done))):
        for step, own in enumerate(later, start=1):
            average = own.lerp(average, min(decay, (1 + step) / (10 + step)))
        torch.testing.assert_close(weights, average)
    _, (images, labels), (tested, truth) = branch.images.by_name("cifar10")
    prepare = partial(train.prepare, side=40, mean=images[:20].double().mean((0, 2, 3)).float())
    images, labels, tested = prepare(images[20:]), labels[20:], prepare(tested)
    losses = F.cross_entropy(one(net, images), labels), F.cross_entropy(many(net, tested), truth)
    found = row["validation_loss"], result["metrics"]["loss"]
    assert found == pytest.approx([loss.item() for loss in losses], rel=1e-5)
    heads = net(transforms.resize(images, 28, antialias=False), heads=True)[1:]
    shares = [(scores.argmax(1) == labels).float().mean().item() for scores in heads]
    told = [row.get(f"validation_accuracy_{name}") for name in ("aux_4a", "aux_4d")]
    assert told == ([None, None] if "paper" in words else pytest.approx(shares))


def test_the_auxiliary_losses_count_three_tenths(branch, train, monkeypatch, small):
    """With a loss whose gradient is one in each bias of a last layer."""
    small(branch, 20, 30)
    monkeypatch.setattr(F, "cross_entropy", lambda scores, labels: scores.sum(1).mean())
    weights = train.fit(branch.parse(*NARROW, "--epochs", 1, "--batch-size", 20)).best["weights"]
    assert weights["linear.bias"].abs().min() > 0
    for head in ("aux_4a", "aux_4d"):
        torch.testing.assert_close(weights[f"{head}.fc2.bias"], 0.3 * weights["linear.bias"])
