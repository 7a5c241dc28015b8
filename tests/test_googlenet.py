"""GoogLeNet against the paper's Table 1, torchvision's wiring and crops made by hand."""

import csv
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.googlenet import Inception
from torchvision.transforms.v2 import functional as transforms

from conftest import run_python

NAME = "GoogLeNet"
# Table 1: output, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj, operations in millions; then
# the parameters that these numbers of filters make, with biases.
TABLE_1 = """
    inception_3a  28  256   64   96 128 16  32  32 128   163696
    inception_3b  28  480  128  128 192 32  96  64 304   388736
    inception_4a  14  512  192   96 208 16  48  64  73   376176
    inception_4b  14  512  160  112 224 24  64  64  88   449160
    inception_4c  14  512  128  128 256 24  64  64 100   510104
    inception_4d  14  528  112  144 288 32  64  64 119   605376
    inception_4e  14  832  256  160 320 32 128 128 170   868352
    inception_5a   7  832  256  160 320 32 128 128  54  1043456
    inception_5b   7 1024  384  192 384 48 128 128  71  1444080
"""
TABLE_1 = [(row.split()[0], *map(int, row.split()[1:])) for row in TABLE_1.strip().splitlines()]


def small(model, **knobs):
    """A narrow GoogLeNet whose scores differ from image to image."""
    torch.manual_seed(1)
    net = model.GoogLeNet(**{"num_classes": 10, "image_size": 64, "width": 1 / 8, **knobs}).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.4)
            if parameter.dim() == 1:
                parameter.normal_(0, 0.1)
    return net


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def full(model):
    """The network at full size, without values, and {stage: shape of its output} in training."""
    with torch.device("meta"):
        net, shapes = model.GoogLeNet(), {}
        for name, stage in net.named_modules():
            stage.register_forward_hook(
                lambda stage, inputs, output, name=name: shapes.update(
                    {name: (tuple(inputs[0].shape[1:]), tuple(output.shape[1:]))}
                    if torch.is_tensor(output)
                    else {}
                )
            )
        net.train()(torch.empty(1, 3, 224, 224))
    return net, shapes


def test_the_parameters_are_the_papers(model, full):
    assert count(full[0]) == 13_378_280
    with torch.device("meta"):
        assert count(model.GoogLeNet(aux="off")) == 6_998_552


@pytest.mark.parametrize("row", TABLE_1, ids=lambda row: row[0])
def test_every_inception_block_is_its_row_of_table_1(full, row):
    net, shapes = full
    name, side, maps, n1, n3_reduce, n3, n5_reduce, n5, pool_proj, operations, parameters = row
    block, (incoming, outgoing) = getattr(net, name), shapes[name]
    assert outgoing == (maps, side, side) and n1 + n3 + n5 + pool_proj == maps
    kernels = [tuple(conv.weight.shape) for conv in block.modules() if hasattr(conv, "weight")]
    assert sorted(kernels) == sorted(
        [
            (n1, incoming[0], 1, 1),
            (n3_reduce, incoming[0], 1, 1),
            (n3, n3_reduce, 3, 3),
            (n5_reduce, incoming[0], 1, 1),
            (n5, n5_reduce, 5, 5),
            (pool_proj, incoming[0], 1, 1),
        ]
    )
    assert count(block) == parameters
    if name != "inception_5a":  # where the paper's column does not follow from its filters
        weights = sum(p.numel() for p in block.parameters() if p.dim() == 4)
        assert abs(weights * side**2 / 1e6 - operations) < 1


def test_the_other_rows_of_table_1_and_the_heads(full):
    net, shapes = full
    assert shapes["conv1"][1] == (64, 112, 112) and count(net.conv1) == 9_472
    assert shapes["conv2"] == ((64, 56, 56), (192, 56, 56)) and count(net.conv2) == 114_944
    assert shapes["inception_3a"][0] == (192, 28, 28)
    assert shapes["linear"] == ((1024,), (1000,))
    for head, maps, parameters in (("aux_4a", 512, 3_188_840), ("aux_4d", 528, 3_190_888)):
        assert shapes[head] == ((maps, 14, 14), (1000,))
        assert shapes[f"{head}.conv"] == ((maps, 4, 4), (128, 4, 4))
        assert shapes[f"{head}.fc1"] == ((2048,), (1024,))
        assert count(getattr(net, head)) == parameters


def test_there_are_22_layers_with_parameters(full):
    """The longest way from image to scores, as the paper counts."""

    def depth(module):
        branches = getattr(module, "branches", {}).values()
        return max(map(depth, branches), default=0) or sum(
            isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in module.modules()
        )

    stages = full[0].named_children()
    assert sum(depth(stage) for name, stage in stages if not name.startswith("aux")) == 22


class Stock(nn.Module):
    """torchvision's convolution, without the batch normalization that came a year later."""

    def __init__(self, in_channels, out_channels, **how):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, **how)

    def forward(self, x):
        return F.relu(self.conv(x))


class StockHead(nn.Sequential):
    def __init__(self, in_channels, num_classes, dropout=0.7):
        super().__init__(
            nn.AvgPool2d(5, 3),
            Stock(in_channels, 128, kernel_size=1),
            nn.Flatten(),
            nn.Linear(2048, 1024),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(1024, num_classes),
        )


def stock(lrn):
    """torchvision's network with what the paper has instead: 5x5, LRN, pool4, average of 5x5."""
    block = partial(Inception, conv_block=Stock)
    net = torchvision.models.GoogLeNet(init_weights=False, blocks=[Stock, block, StockHead])
    for name, block in net.named_children():
        if name.startswith("inception"):
            reduce, conv = block.branch3[0].conv, block.branch3[1].conv
            block.branch3[1] = Stock(
                reduce.out_channels, conv.out_channels, kernel_size=5, padding=2
            )
    lrn = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2) if lrn == "on" else nn.Identity()
    net.maxpool1 = nn.Sequential(net.maxpool1, lrn)
    net.maxpool2 = nn.Sequential(lrn, net.maxpool2)
    net.maxpool4 = nn.MaxPool2d(3, 2, ceil_mode=True)
    return net


@pytest.mark.parametrize("lrn", ["on", "off"])
def test_scores_and_gradients_are_those_of_torchvisions_wiring(model, monkeypatch, lrn):
    """At full size, in training, with nothing dropped: all three scores, and every gradient."""
    monkeypatch.setattr(F, "dropout", lambda x, *how: x)
    torch.manual_seed(0)
    ours, theirs = model.GoogLeNet(lrn=lrn).double(), stock(lrn).double()
    keys = [key for key in ours.state_dict() if not key.startswith(("aux", "linear"))]
    for stage in ("aux_4a", "aux_4d", "linear"):
        keys += [key for key in ours.state_dict() if key.startswith(stage)]
    weights = ours.state_dict()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), map(weights.get, keys), strict=True)))
    images, labels = 60 * torch.randn(2, 3, 224, 224).double(), torch.tensor([3, 5])
    named = dict(ours.named_parameters())
    parameters = [named[key] for key in keys], [*theirs.parameters()]
    their_scores = theirs(images)
    scores = (
        ours(images),
        (their_scores.logits, their_scores.aux_logits1, their_scores.aux_logits2),
    )
    found = []
    for outputs, weights in zip(scores, parameters):
        sum(n * F.cross_entropy(output, labels) for n, output in enumerate(outputs, 1)).backward()
        found.append([*outputs, *(weight.grad for weight in weights)])
    assert len(found[0]) == 3 + 2 * (57 + 1 + 2 * 3)
    for here, there in zip(*found, strict=True):
        assert there.abs().max() > 0
        assert (here - there).norm() <= 1e-9 * there.norm()


@torch.no_grad()
def test_a_block_is_its_four_branches(model):
    """Computed apart, by functions alone, from the weights that have the shapes of Table 1."""
    block = model.Inception(192, model.INCEPTION["3a"]).double()
    for parameter in block.parameters():
        parameter.normal_(0, 0.1)
    x = torch.randn(2, 192, 9, 9, dtype=torch.double)
    layers = {(p.shape[0], p.shape[2]): p for p in block.parameters() if p.dim() == 4}
    biases = dict(zip(layers, (p for p in block.parameters() if p.dim() == 1)))

    def conv(x, maps, side):
        key = maps, side
        return F.relu(F.conv2d(x, layers[key], biases[key], padding=side // 2))

    expected = [
        conv(x, 64, 1),
        conv(conv(x, 96, 1), 128, 3),
        conv(conv(x, 16, 1), 32, 5),
        conv(F.max_pool2d(x, 3, 1, 1), 32, 1),
    ]
    torch.testing.assert_close(block(x), torch.cat(expected, 1))


@torch.no_grad()
@pytest.mark.parametrize("without", ["1x1", "3x3", "5x5", "pool"])
def test_a_block_without_a_branch_has_the_maps_of_the_others(model, without):
    maps = dict(zip(model.BRANCHES, ((0, 64), (64, 192), (192, 224), (224, 256))))
    whole = model.Inception(192, model.INCEPTION["3a"])
    part = model.Inception(192, model.INCEPTION["3a"], without=without)
    kept = {key: value for key, value in whole.state_dict().items() if f".{without}." not in key}
    part.load_state_dict(kept)
    x = torch.randn(2, 192, 6, 6)
    first, last = maps[without]
    expected = torch.cat([whole(x)[:, :first], whole(x)[:, last:]], 1)
    torch.testing.assert_close(part(x), expected)
    assert small(model, without=without)(torch.randn(2, 3, 64, 64)).shape == (2, 10)


@torch.no_grad()
def test_without_reductions_the_large_filters_read_all_maps(model):
    block = model.Inception(8, (4, 2, 5, 3, 6, 7), reduction="off")
    convs = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convs] == [
        (8, 4, 1),
        (8, 5, 3),
        (8, 6, 5),
        (8, 7, 1),
    ]
    x = torch.randn(2, 8, 6, 6)
    one, three, five, proj = convs
    pooled = F.max_pool2d(x, 3, 1, 1)
    torch.testing.assert_close(block(x), torch.cat([one(x), three(x), five(x), proj(pooled)], 1))


@torch.no_grad()
def test_the_heads_speak_in_training_or_when_asked(model):
    net, images = small(model), torch.randn(2, 3, 64, 64)
    assert net(images).shape == (2, 10)
    scores = net(images, heads=True)
    assert [s.shape for s in scores] == 3 * [(2, 10)]
    torch.testing.assert_close(scores[0], net(images))
    assert len(net.train()(images)) == 3
    alone = small(model, aux="off")
    assert alone(images).shape == (2, 10) and len(alone.train()(images)) == 1


@torch.no_grad()
@pytest.mark.parametrize("dropout", [0.4, 0.0])
def test_dropout_is_forty_percent_and_seventy_in_the_heads(model, dropout):
    net, seen = small(model, width=1 / 2, dropout=dropout), {}
    for head in (net.aux_4a, net.aux_4d):
        head.fc1.weight.zero_()  # what is left is the bias: every unit is 1
        head.fc1.bias.fill_(1)
        head.fc2.register_forward_pre_hook(lambda layer, x: seen.update({layer: x[0]}))
    net.linear.register_forward_pre_hook(lambda layer, x: seen.update({layer: x[0]}))
    images = torch.randn(20, 3, 64, 64)
    net(images, heads=True)
    whole = seen[net.linear]
    assert all((seen[head.fc2] == 1).all() for head in (net.aux_4a, net.aux_4d))
    net.train()(images)
    for head in (net.aux_4a, net.aux_4d):
        share = (seen[head.fc2] == 0).float().mean().item()
        assert share == pytest.approx(0.7, abs=0.02)
    dropped = (seen[net.linear] == 0) & (whole != 0)
    assert (dropped.sum() / (whole != 0).sum()).item() == pytest.approx(dropout, abs=0.02)
    kept = seen[net.linear] != 0
    torch.testing.assert_close(seen[net.linear][kept], whole[kept] / (1 - dropout))


@pytest.mark.parametrize("size", [28, 32, 64, 96, 224])
def test_the_heads_fit_any_image_size(model, size):
    with torch.device("meta"):
        net = model.GoogLeNet(1, 10, size, 1 / 8)
        assert [scores.shape for scores in net(torch.empty(2, 1, size, size))] == 3 * [(2, 10)]


# Patches and crops


def test_all_of_an_image_is_the_image(train):
    images = torch.randn(5, 2, 64, 64)
    torch.testing.assert_close(train.patches(images, (1, 1), 64), images, rtol=1e-4, atol=1e-4)


def test_patches_have_an_area_and_an_aspect_ratio_of_their_own(train):
    """On an image whose values are the coordinates, a patch shows where its pixels come from."""
    torch.manual_seed(0)
    place = (torch.arange(100.0) + 0.5) / 100  # of the middle of a pixel
    images = torch.stack(torch.meshgrid(place, place, indexing="ij")).expand(4000, -1, -1, -1)
    patches = train.patches(images, (0.08, 1.0), 20)
    down, right = patches[:, 0, :, 0], patches[:, 1, 0, :]
    torch.testing.assert_close(patches[:, 0], down[:, :, None].expand(-1, -1, 20))
    torch.testing.assert_close(patches[:, 1], right[:, None, :].expand(-1, 20, -1))
    sides = []
    for axis in (down, right):
        step = axis[:, 10] - axis[:, 9]
        first, last = axis[:, 10] - 10.5 * step, axis[:, 10] + 9.5 * step
        assert first.min() > -1e-3 and last.max() < 1 + 1e-3
        free = 20 * step < 0.7
        where = first[free] / (1 - 20 * step[free])  # anywhere from one border to the other
        assert where.mean().item() == pytest.approx(0.5, abs=0.03)
        assert where.std().item() == pytest.approx(12**-0.5, abs=0.02)
        sides.append(20 * step)
    area, aspect = sides[0] * sides[1], sides[1] / sides[0]
    assert area.min() > 0.08 - 1e-3 and area.max() < 1 + 1e-3
    quarters = torch.tensor([0.25, 0.5, 0.75])
    torch.testing.assert_close(area.quantile(quarters), 0.08 + 0.92 * quarters, atol=0.03, rtol=0)
    assert aspect.min() > 3 / 4 - 1e-3 and aspect.max() < 4 / 3 + 1e-3
    narrow = aspect[area < 0.7].log() / torch.tensor(4 / 3).log()
    assert narrow.mean().abs() < 0.05 and narrow.std().item() == pytest.approx(3**-0.5, abs=0.03)


def test_a_patch_that_is_enlarged_has_no_border(train):
    """Nothing of what is around the image gets in."""
    images = train.patches(torch.ones(500, 1, 20, 20), (0.08, 0.1), 40)
    torch.testing.assert_close(images, torch.ones(500, 1, 40, 40))


def test_augmented_images_are_mirrored_or_not_and_shifted(train):
    torch.manual_seed(0)
    ramp = torch.arange(32.0).expand(2000, 1, 32, 32)  # brighter to the right
    images = train.augment(ramp, (1, 1), 32, torch.tensor([[50.0]]))
    slopes = images.diff(dim=3)
    assert slopes.abs().sub(1).abs().max() < 1e-3
    assert (slopes[:, 0, 0, 0] > 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert (images.mean((1, 2, 3)) - 15.5).std().item() == pytest.approx(5, rel=0.1)


@torch.no_grad()
@pytest.mark.parametrize("height, width", [(110, 165), (165, 110), (110, 110)])
def test_144_crops_are_the_papers(model, train, height, width):
    """By torchvision's resize and five_crop, one after the other (7)."""
    net, images = small(model), 3 * torch.randn(2, 3, height, width)
    expected, crops = 0, 0
    for scale in (72, 80, 88, 96):
        resized = transforms.resize(images, scale, antialias=False)
        rows, columns = resized.shape[2:]
        for part in range(3):
            top, left = ((0, n // 2, n)[part] for n in (rows - scale, columns - scale))
            square = transforms.crop(resized, top, left, scale, scale)
            views = [*transforms.five_crop(square, 64)]
            views.append(transforms.resize(square, [64, 64], antialias=False))
            for view in views + [transforms.horizontal_flip(view) for view in views]:
                expected, crops = expected + net(view).softmax(1), crops + 1
    assert crops == 144
    found = train.many_crops(net, images, 64, (72, 80, 88, 96)).exp()
    torch.testing.assert_close(found, expected / 144)
    middle = transforms.center_crop(transforms.resize(images, 72, antialias=False), 64)
    one = train.center_crop(net, images, 64, 72)
    torch.testing.assert_close(one, net(middle))
    assert (found - one.softmax(1)).abs().max() > 1e-3


# The training


SMALL = {"side": 96, "image_size": 64, "width": 1 / 8, "epochs": 17}


@pytest.fixture
def recorded(harness, train, monkeypatch):
    """Run train.main() on 40 small images in memory: {name: what main passed on}.

    It is what --data cifar10 gives, which cannot be downloaded for a test.
    """
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    split = images, torch.arange(40) % 10
    loaded = harness.data.Data(tuple("abcdefghij"), 3, split, split, split)
    monkeypatch.setattr(harness.data, "load", lambda *words: loaded)
    monkeypatch.setitem(train.RECIPES, "paper", {**train.RECIPES["paper"], **SMALL})
    monkeypatch.setattr(train, "SCALES", (72, 96))
    seen = {"rates": [], "biases": [], "others": []}

    class Recorder(harness.run.Run):
        def epochs(self, **state):
            seen.update(state)
            state["optimizer"].register_step_post_hook(
                lambda *words: seen["biases"].append(state["model"].linear.bias.detach().clone())
            )
            for epoch in range(1, seen["count"] + 1):
                self.epoch = epoch
                seen["rates"].append(state["optimizer"].param_groups[0]["lr"])
                yield epoch

        def validate(self, model, loader, criterion, predict=None, others=None):
            seen.update(validated=model, validate=predict, others=others)

        def finish(self, model, loader, predict=None):
            seen.update(finished=model, finish=predict)

    monkeypatch.setattr(train, "Run", Recorder)

    def run(*words, count=1):
        seen["count"] = count
        monkeypatch.setattr("sys.argv", ["train.py", "--data", "cifar10", "--fresh", *words])
        train.main()
        return seen

    return run


def test_the_rate_of_2014_falls_by_four_percent_every_eight_epochs(recorded):
    seen = recorded("--recipe", "paper", "--batch-size", "10", count=17)
    expected = 8 * [0.01] + 8 * [0.01 * 0.96] + [0.01 * 0.96**2]
    assert seen["rates"] == pytest.approx(expected)


def test_the_auxiliary_losses_count_three_tenths(recorded, train, monkeypatch):
    """With a loss whose gradient is one in each bias of a last layer."""
    monkeypatch.setattr(train.F, "cross_entropy", lambda scores, labels: scores.sum(1).mean())
    net = recorded("--recipe", "paper")["model"]
    assert net.linear.bias.abs().min() > 0
    for head in (net.aux_4a, net.aux_4d):
        torch.testing.assert_close(head.fc2.bias, 0.3 * net.linear.bias)


@pytest.mark.parametrize("averaging, decay", [(0.5, 0.5), (0.9999, 1 - 10 / 68)])
def test_what_is_tested_is_the_average_of_the_weights(
    recorded, train, monkeypatch, averaging, decay
):
    """Over at most a tenth of the training, which is 17 epochs of four steps."""
    monkeypatch.setitem(train.RECIPES["paper"], "averaging", averaging)
    seen = recorded("--recipe", "paper", "--batch-size", "10")
    average, *later = seen["biases"]
    assert len(later) == 3
    for bias in later:
        average = decay * average + (1 - decay) * bias
    assert seen["finished"] is seen["validated"]
    torch.testing.assert_close(seen["finished"].linear.bias, average)
    assert (average - later[-1]).abs().max() > 0


def test_the_training_of_2014_ends_with_many_crops_and_looks_at_one_meanwhile(recorded, train):
    seen = recorded("--recipe", "paper")
    net, images = seen["finished"].eval(), torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = train.many_crops(net, images, 64, (72, 96))
        torch.testing.assert_close(seen["finish"](net, images), expected)
        expected = train.center_crop(net, images, 64, 72)
        torch.testing.assert_close(seen["validate"](net, images), expected)


def test_the_laptop_recipe_looks_at_the_image_as_it_is_and_at_both_heads(recorded):
    seen = recorded(count=2)
    assert seen["finish"] is None and seen["validate"] is None
    net, images = seen["finished"].eval(), torch.randn(2, 3, 64, 64)
    heads = net(images, heads=True)[1:]
    assert [*seen["others"]] == ["aux_4a", "aux_4d"]
    for predict, expected in zip(seen["others"].values(), heads, strict=True):
        torch.testing.assert_close(predict(net, images), expected)


def test_history_tells_how_good_the_heads_are(folder):
    done = run_python(folder / "train.py", "--limit", 500, "--epochs", 1)
    assert done.returncode == 0, done.stderr
    run = folder / "checkpoints" / NAME / "laptop-epochs-1-limit-500-seed0"
    with open(run / "history.csv", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    for name in ("aux_4a", "aux_4d"):
        assert 0 < float(row[f"validation_accuracy_{name}"]) < 1


def test_the_ablations_run(folder):
    words = "--aux off --lrn off --dropout 0 --reduction off --without 5x5"
    done = run_python(folder / "train.py", *words.split(), "--dry-run")
    assert done.returncode == 0, done.stderr
    title = "laptop-aux-off-lrn-off-dropout-0.0-reduction-off-without-5x5-seed0"
    assert title in done.stdout


NARROW = """
import sys, train
train.RECIPES["paper"] |= {"width": 1 / 8, "epochs": 1}
sys.argv[0] = "train.py"
train.main()
"""


def test_the_training_of_2014_takes_photographs(folder, photographs):
    """From files to pictures, in images of several shapes."""
    words = ("--recipe", "paper", "--data", photographs, "--batch-size", 8)
    done = run_python("-c", NARROW, *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Validation accuracy" in done.stdout and "on 20 images" in done.stdout
