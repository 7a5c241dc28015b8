"""ResNet's parameters and multiply-accumulates: literal figures, and a count in plain integers."""

import pytest
import torch

NAME = "ResNet"
# (Parameters, multiply-accumulates), counted apart from this code from the sizes that the papers
# give; the multiply-accumulates of 164, 1,001 and, on Fashion-MNIST, 32 layers by hand only.
IMAGENET = {  # by depth and shortcut; 224x224 pixels
    **dict.fromkeys([(18, "none"), (18, "A")], (11_515_688, 1_794_805_760)),
    (18, "B"): (11_689_512, 1_814_073_344),
    (18, "C"): (12_043_816, 1_878_298_624),
    **dict.fromkeys([(34, "none"), (34, "A")], (21_623_848, 3_644_493_824)),
    (34, "B"): (21_797_672, 3_663_761_408),
    (34, "C"): (22_716_840, 3_830_747_136),
    **dict.fromkeys([(50, "none"), (50, "A")], (22_780_456, 3_498_311_680)),
    (50, "B"): (25_557_032, 3_857_973_248),
    (50, "C"): (40_128_552, 6_324_224_000),
    (101, "B"): (44_549_160, 7_570_194_432),
    (152, "B"): (60_192_808, 11_282_415_616),
}
CIFAR = {  # by depth: parameters of A, and of plain networks; of B; multiply-accumulates of A
    20: (269_722, 272_474, 40_551_040),
    32: (464_154, 466_906, 68_862_592),
    44: (658_586, 661_338, 97_174_144),
    56: (853_018, 855_770, 125_485_696),
    110: (1_727_962, 1_730_714, 252_887_680),
    1202: (19_421_274, 19_424_026, 2_829_238_912),
}
FASHION = {  # by depth; shortcut A, 28x28 pixels of one channel
    20: (269_434, 30_821_248),
    32: (463_866, 52_497_280),
    56: (852_730, 95_849_344),
}
OF_2016 = {  # by depth, bottleneck and shortcut: pre-activation, on CIFAR-10
    (110, False, "A"): (1_727_962, 252_887_680),
    (164, True, "B"): (1_703_258, 244_500_992),
    (1001, True, "B"): (10_327_706, 1_487_849_984),
}
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
BLOCKS[152] = (3, 8, 36, 3)


def by_hand(depth, shortcut, bottleneck=None, preactivation=False, channels=3, side=32):
    """(Parameters, multiply-accumulates), added up layer by layer; bottleneck None: for ImageNet.

    A layer is (inputs, outputs, kernel, side of its output); a normalization has two parameters
    for each feature map.
    """
    if bottleneck is None:
        bottleneck, side, maps, blocks = depth >= 50, 56, (64, 128, 256, 512), BLOCKS[depth]
        layers, classes = [(channels, 64, 7, 112)], 1000
    else:
        blocks, maps = [(depth - 2) // (9 if bottleneck else 6)] * 3, (16, 32, 64)
        layers, classes = [(channels, 16, 3, side)], 10
    x, normalized = maps[0], [maps[0]]
    for stage, (m, count) in enumerate(zip(maps, blocks)):
        out = 4 * m if bottleneck else m
        side = side // 2 if stage else side
        for block in range(count):
            convolutions = [(x, m, 3, side), (m, m, 3, side)]
            if bottleneck:
                convolutions = [(x, m, 1, side), (m, m, 3, side), (m, out, 1, side)]
            layers += convolutions
            normalized += [c[0 if preactivation else 1] for c in convolutions]
            if shortcut == "C" or shortcut == "B" and (block == 0 and stage or x != out):
                layers.append((x, out, 1, side))
                normalized += [] if preactivation else [out]
            x = out
    if preactivation:  # the first block has conv1's normalization; one more comes after the last
        normalized[1:2] = [x]
    parameters = sum(i * o * k**2 for i, o, k, _ in layers) + 2 * sum(normalized)
    macs = sum(i * o * k**2 * s**2 for i, o, k, s in layers)
    return parameters + (x + 1) * classes, macs + x * classes


def counted(branch, net, *shape):
    found = branch.table.count(net, torch.zeros(1, *shape))
    return found["parameters"], found["macs"]


def test_the_count_by_hand_gives_the_literal_figures():
    for (depth, shortcut), figures in IMAGENET.items():
        assert by_hand(depth, shortcut) == figures
    for depth, (a, b, macs) in CIFAR.items():
        assert by_hand(depth, "none", False) == by_hand(depth, "A", False) == (a, macs)
        assert by_hand(depth, "B", False)[0] == b
    for depth, figures in FASHION.items():
        assert by_hand(depth, "A", False, channels=1, side=28) == figures
    for (depth, bottleneck, shortcut), figures in OF_2016.items():
        assert by_hand(depth, shortcut, bottleneck, preactivation=True) == figures


@pytest.mark.parametrize("depth, shortcut", IMAGENET)
def test_imagenet_networks_have_the_papers_size(branch, model, depth, shortcut):
    with torch.device("meta"):
        net = model.ResNet(depth=depth, shortcut=shortcut)
        assert counted(branch, net, 3, 224, 224) == IMAGENET[depth, shortcut]
    layers = [name for name, p in net.named_parameters() if p.dim() > 1 and "shortcut" not in name]
    assert len(layers) == depth


@pytest.mark.parametrize(
    "depth, shortcut, preactivation",
    [
        *[(depth, shortcut, False) for depth in (101, 152) for shortcut in ("none", "A", "C")],
        *[(18, shortcut, True) for shortcut in ("none", "A", "B", "C")],
        *[(50, shortcut, True) for shortcut in ("A", "B", "C")],
    ],
)
def test_other_imagenet_networks_have_the_size_by_hand(
    branch, model, depth, shortcut, preactivation
):
    kind = {"depth": depth, "shortcut": shortcut, "preactivation": preactivation}
    with torch.device("meta"):
        assert counted(branch, model.ResNet(**kind), 3, 224, 224) == by_hand(**kind)


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_cifar_networks_have_the_papers_size(branch, model, depth):
    a, b, macs = CIFAR[depth]
    more = 16 * 32 * 16**2 + 32 * 64 * 8**2  # B's two projections
    for shortcut, size in {"none": (a, macs), "A": (a, macs), "B": (b, macs + more)}.items():
        net = model.CifarResNet(depth=depth, shortcut=shortcut)
        assert counted(branch, net, 3, 32, 32) == size


def test_1202_layers_have_as_many_parameters_as_the_papers(model):
    with torch.device("meta"):
        net = model.CifarResNet(depth=1202)
    assert sum(p.numel() for p in net.parameters()) == CIFAR[1202][0]


@pytest.mark.parametrize("depth", FASHION)
def test_on_fashion_mnist_the_networks_are_a_little_smaller(branch, model, depth):
    net = model.CifarResNet(1, depth=depth)
    assert counted(branch, net, 1, 28, 28) == FASHION[depth]


@pytest.mark.parametrize("depth, bottleneck, shortcut", OF_2016)
def test_preactivation_networks_have_the_size_of_2016s(branch, model, depth, bottleneck, shortcut):
    kind = {"depth": depth, "bottleneck": bottleneck, "shortcut": shortcut}
    net = model.CifarResNet(preactivation=True, **kind)
    assert counted(branch, net, 3, 32, 32) == OF_2016[depth, bottleneck, shortcut]
