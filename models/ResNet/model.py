"""ResNet, whose blocks learn what to add to their input, of 2015.

K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", arXiv 1512.03385,
2015. Section and table numbers below are the paper's; "2016" is the same authors' "Identity
Mappings in Deep Residual Networks", arXiv 1603.05027.

The idea: let a few layers compute F(x), and pass on F(x) + x. To leave x as it is, they need only
make F zero; so more layers need not make a network harder to train.

    paper                       | here                        | why
    ----------------------------|-----------------------------|-----------------------------------
    stride 2 in the first block | in its first convolution, a | so it is in the authors' files, and
    of conv3_x to conv5_x       | bottleneck's 1x1            | so the paper's FLOPs come out;
                                |                             | torchvision has it in the 3x3
    zeros for new channels (A)  | after the others            | the paper does not say where
    weights of fc               | He's initialization, too    | the paper does not say
    full size                   | width, for experiments      | it trains on a laptop

`python model.py` prints the layers beside the paper's figures.
"""

import torch
import torch.nn.functional as F
from torch import nn


def check_choice(choices, **arguments):
    """Raise a ValueError for an argument that is none of the choices; 1 is not True."""
    for name, value in arguments.items():
        if (type(value), value) not in [(type(choice), choice) for choice in choices]:
            raise ValueError(f"{name} is {value!r}, must be one of {[*choices]}")


def check_number(kind, least, below=float("inf"), **arguments):
    """Raise a ValueError for an argument that is no number of this kind in [least, below)."""
    for name, value in arguments.items():
        if type(value) not in (int, kind) or not least <= value < below:
            raise ValueError(f"{name} is {value!r}, must be {kind.__name__} in [{least}, {below})")


SHORTCUTS = ("A", "B", "C", "none")  # "none": the plain networks
# Figure 5: of each convolution in a block the kernel, and the feature maps as a multiple of `maps`.
BASIC = ((3, 1), (3, 1))
BOTTLENECK = ((1, 1), (3, 1), (1, 4))
CONFIGURATIONS = {  # Table 1: the block, and how many of them are in conv2_x to conv5_x
    18: (BASIC, (2, 2, 2, 2)),
    34: (BASIC, (3, 4, 6, 3)),
    50: (BOTTLENECK, (3, 4, 6, 3)),
    101: (BOTTLENECK, (3, 4, 23, 3)),
    152: (BOTTLENECK, (3, 8, 36, 3)),
}
MAPS = (64, 128, 256, 512)  # of the 3x3 convolutions in conv2_x to conv5_x
CIFAR_MAPS = (16, 32, 64)  # and in the three stages of the networks for CIFAR-10 (4.2)


class Padding(nn.Module):
    """Shortcut A: every stride-th row and column of x, and zeros for the new feature maps (3.3)."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.new, self.stride = out_channels - in_channels, stride

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))


class Scaled(nn.Module):
    """A multiple of a shortcut; with a scale of 0, none at all, as in the plain networks."""

    def __init__(self, scale, shortcut):
        super().__init__()
        self.scale, self.shortcut = scale, shortcut

    def forward(self, x):
        return self.scale * self.shortcut(x) if self.scale else 0


def shortcut_of(kind, in_channels, out_channels, stride, scale, bias, norm_layer):
    """What stands for x in F(x) + x (3.2, 3.3).

    kind: of SHORTCUTS. scale: see ResNet. bias, norm_layer: whether a projection has a bias, and
    what follows it, nn.BatchNorm2d or nn.Identity.
    """
    changes = stride > 1 or in_channels != out_channels
    shortcut = nn.Identity()
    if kind == "C" or kind == "B" and changes:  # W_s x, equation 2
        projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=bias)
        shortcut = nn.Sequential(projection, norm_layer(out_channels))
    elif kind == "A" and changes:
        shortcut = Padding(in_channels, out_channels, stride)
    elif kind == "none":
        scale = 0
    return shortcut if scale == 1 else Scaled(scale, shortcut)


def convolutions(in_channels, maps, kernels, stride, bias):
    """A list of a block's convolutions; the first has the stride. kernels: BASIC or BOTTLENECK."""
    layers = []
    for kernel, times in kernels:
        sizes = in_channels, times * maps, kernel, stride, kernel // 2
        layers.append(nn.Conv2d(*sizes, bias=bias))
        in_channels, stride = times * maps, 1
    return layers


class Block(nn.Module):
    """A building block: relu(F(x) + x) (3.2, Figure 5); F ends with batch normalization (3.4).

    maps: of its 3x3 convolutions. kernels, stride: see convolutions(). shortcut, scale: see ResNet.
    norm_layer: nn.BatchNorm2d or nn.Identity.
    [B, in_channels, H, W] to [B, out_channels, H / stride, W / stride].
    """

    def __init__(self, in_channels, maps, kernels, stride, shortcut, norm_layer, scale):
        super().__init__()
        bias = norm_layer is nn.Identity  # beta does what a bias would do
        layers = []
        for convolution in convolutions(in_channels, maps, kernels, stride, bias):
            layers += [convolution, norm_layer(convolution.out_channels), nn.ReLU(inplace=True)]
        self.residual = nn.Sequential(*layers[:-1])  # F
        sizes = in_channels, kernels[-1][1] * maps, stride
        self.shortcut = shortcut_of(shortcut, *sizes, scale, bias, norm_layer)

    def forward(self, x):
        y = self.residual(x)
        y += self.shortcut(x)  # F(x) + x; in place, a full-size step takes 8 % less time
        return torch.relu_(y)


class PreactivationBlock(nn.Module):
    """The block of 2016: F(x) + x, with F's normalizations and ReLUs before its convolutions.

    A shortcut that changes the shape, or projects, reads what the first ReLU gives, as F does.
    """

    def __init__(self, in_channels, maps, kernels, stride, shortcut, norm_layer, scale):
        super().__init__()
        bias = norm_layer is nn.Identity
        layers = []
        for convolution in convolutions(in_channels, maps, kernels, stride, bias):
            # The ReLU is not in place: the shortcut still needs x.
            layers += [norm_layer(convolution.in_channels), nn.ReLU(), convolution]
        self.activation = nn.Sequential(*layers[:2])
        self.residual = nn.Sequential(*layers[2:])
        sizes = in_channels, kernels[-1][1] * maps, stride
        self.shortcut = shortcut_of(shortcut, *sizes, scale, bias, norm_layer=nn.Identity)
        self.reads_activated = stride > 1 or sizes[0] != sizes[1] or shortcut == "C"

    def forward(self, x):
        activated = self.activation(x)
        y = self.residual(activated)
        y += self.shortcut(activated if self.reads_activated else x)
        return y


class Network(nn.Module):
    """What the networks for ImageNet and for CIFAR-10 share: all but features() and the sizes.

    kernel, stride: of conv1. maps, blocks: of each stage, conv2_x and on. kernels: of a block.
    The others: see ResNet.
    """

    def __init__(
        self,
        in_channels,
        num_classes,
        width,
        kernel,
        stride,
        maps,
        blocks,
        kernels,
        shortcut,
        norm,
        preactivation,
        shortcut_scale,
    ):
        super().__init__()
        check_number(int, 1, in_channels=in_channels, num_classes=num_classes)
        check_number(float, 0.6 / maps[0], width=width)  # with less, a layer could be empty
        check_choice(SHORTCUTS, shortcut=shortcut)
        check_choice((True, False), norm=norm, preactivation=preactivation)
        check_number(float, 0, shortcut_scale=shortcut_scale)
        block = PreactivationBlock if preactivation else Block
        norm_layer = nn.BatchNorm2d if norm else nn.Identity
        ablations = shortcut, norm_layer, shortcut_scale
        maps = [round(width * full) for full in maps]
        channels = maps[0]
        convolution = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=not norm)
        self.conv1 = nn.Sequential(convolution, norm_layer(channels), nn.ReLU(inplace=True))
        for number, (stage_maps, count) in enumerate(zip(maps, blocks), start=2):
            stage = nn.Sequential()
            for i in range(count):
                stride = 2 if number > 2 and i == 0 else 1  # conv2_x keeps the size
                stage.append(block(channels, stage_maps, kernels, stride, *ablations))
                channels = kernels[-1][1] * stage_maps
            self.add_module(f"conv{number}_x", stage)
        self.activation = None
        if preactivation:
            self.conv2_x[0].activation = nn.Identity()  # conv1 ends with normalization and ReLU
            self.activation = nn.Sequential(norm_layer(channels), nn.ReLU())
        self.fc = nn.Linear(channels, num_classes)
        self.initialize()

    @torch.no_grad()
    def initialize(self):
        """Weights by He et al. (2015), of variance 2 / (number of inputs); biases 0 (3.4)."""
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight)
                if layer.bias is not None:
                    layer.bias.zero_()

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))  # global average pooling

    def dense(self, x):
        """Scores at all positions of the last feature maps: [B, num_classes, H, W].

        Their mean over H and W is forward(x), for images of any size: the average commutes with
        the fully connected layer, which becomes a 1x1 convolution.
        """
        return F.conv2d(self.features(x), self.fc.weight[:, :, None, None], self.fc.bias)


class ResNet(Network):
    """ResNet for ImageNet (Table 1).

    width: the fraction of the paper's feature maps. depth: of CONFIGURATIONS. shortcut: A, zeros
    where there are new feature maps; B, projections there; C, projections everywhere; "none" is the
    plain network. norm, preactivation, shortcut_scale: ablations.
    Input: float images [B, in_channels, H, W]. Output: scores [B, num_classes], larger is better.
    """

    def __init__(
        self,
        in_channels=3,
        num_classes=1000,
        width=1.0,
        depth=50,
        shortcut="B",
        norm=True,  # or False: no batch normalization, but biases
        preactivation=False,  # or True: the block of 2016
        shortcut_scale=1.0,  # F(x) + shortcut_scale * x (2016, 3.1)
    ):
        check_choice(CONFIGURATIONS, depth=depth)
        kernels, blocks = CONFIGURATIONS[depth]
        ablations = shortcut, norm, preactivation, shortcut_scale
        super().__init__(in_channels, num_classes, width, 7, 2, MAPS, blocks, kernels, *ablations)

    def features(self, x):  # [B, 3, 224, 224]
        """To feature maps [B, 2048, H/32, W/32]; [B, 512, H/32, W/32] of 18 and 34 layers."""
        x = self.conv1(x)  # [B, 64, 112, 112]
        x = F.max_pool2d(x, 3, stride=2, padding=1)  # [B, 64, 56, 56]
        x = self.conv2_x(x)  # [B, 256, 56, 56]
        x = self.conv3_x(x)  # [B, 512, 28, 28]
        x = self.conv4_x(x)  # [B, 1024, 14, 14]
        x = self.conv5_x(x)  # [B, 2048, 7, 7]
        return self.activation(x) if self.activation else x


class CifarResNet(Network):
    """ResNet for CIFAR-10 (4.2): another architecture, narrow, with three stages of n blocks.

    depth: 6n + 2 layers. bottleneck: the blocks of 2016's deepest networks, and 9n + 2 layers.
    The others: see ResNet.
    """

    def __init__(
        self,
        in_channels=3,
        num_classes=10,
        width=1.0,
        depth=20,
        shortcut="A",
        norm=True,
        preactivation=False,
        shortcut_scale=1.0,
        bottleneck=False,
    ):
        check_choice((True, False), bottleneck=bottleneck)
        kernels = BOTTLENECK if bottleneck else BASIC
        layers = 3 * len(kernels)
        check_number(int, layers + 2, depth=depth)
        if (depth - 2) % layers:
            raise ValueError(f"depth is {depth}, must be {layers}n + 2")
        blocks = [(depth - 2) // layers] * 3
        ablations = shortcut, norm, preactivation, shortcut_scale
        super().__init__(
            in_channels, num_classes, width, 3, 1, CIFAR_MAPS, blocks, kernels, *ablations
        )

    def features(self, x):  # [B, 3, 32, 32]
        """To feature maps [B, 64, H/4, W/4], of bottlenecks four times as many."""
        x = self.conv1(x)  # [B, 16, 32, 32]
        x = self.conv2_x(x)  # [B, 16, 32, 32]
        x = self.conv3_x(x)  # [B, 32, 16, 16]
        x = self.conv4_x(x)  # [B, 64, 8, 8]
        return self.activation(x) if self.activation else x


PAPER = {  # of 50 layers; the parameters follow from the sizes in Table 1
    "conv1": {"output": (64, 112, 112), "parameters": 9_536},
    "conv2_x": {"output": (256, 56, 56), "parameters": 215_808},
    "conv3_x": {"output": (512, 28, 28), "parameters": 1_219_584},
    "conv4_x": {"output": (1024, 14, 14), "parameters": 7_098_368},
    "conv5_x": {"output": (2048, 7, 7), "parameters": 14_964_736},
    "fc": {"output": (1000,), "parameters": 2_049_000},
    "total": {"parameters": 25_557_032, "MACs": "3.8 billion"},
}
BILLIONS = {18: 1.8, 34: 3.6, 50: 3.8, 101: 7.6, 152: 11.3}  # Table 1: MACs, its "FLOPs"
MILLIONS = {20: "0.27", 32: "0.46", 44: "0.66", 56: "0.85", 110: "1.7"}  # Table 6


if __name__ == "__main__":
    from harness.table import count, layer_table

    for depth, printed in BILLIONS.items():
        with torch.device("meta"):
            size = count(ResNet(depth=depth), torch.zeros(1, 3, 224, 224))
        billions = size["macs"] / 1e9
        print(
            f"{depth:>4} layers: {size['parameters']:>10,} parameters, {billions:.2f} billion MACs "
            f"(paper: {printed})"
        )
        if abs(billions - printed) > 0.1:  # the stride in the 3x3 would make 50 layers 4.09
            raise SystemExit(f"{depth} layers are not the paper's")
    for depth, printed in MILLIONS.items():
        with torch.device("meta"):
            parameters = sum(p.numel() for p in CifarResNet(depth=depth).parameters())
        print(f"{depth:>4} layers, CIFAR-10: {parameters:,} parameters (paper: {printed} million)")
        if f"{parameters / 1e6:.{len(printed.partition('.')[2])}f}" != printed:
            raise SystemExit(f"{depth} layers are not the paper's")
    print()
    raise SystemExit(not layer_table(ResNet(), (3, 224, 224), PAPER))
