"""VGG, the network that showed how far depth alone goes, in 2014.

K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv 1409.1556, 2014. Section numbers below are the paper's.

The idea: 3x3 convolutions, one on top of the other, up to nineteen layers where AlexNet has eight.
Three of them see as much as one of 7x7, with little more than half the weights and three ReLUs.

    paper                       | here                        | why
    ----------------------------|-----------------------------|-----------------------------------
    random weights of variance  | Glorot's initialization;    | the paper found later that it works
    0.01, first four and fully  | the former is init="0.1",   | without a network A trained before
    connected layers from a     | and --start-from            | (3.1)
    trained A                   |                             |
    full size                   | width and image_size, for   | it trains on a laptop; windows that
                                | the laptop recipe           | exceed a feature map shrink to it

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


def local_response_norm(a, n=5, k=2.0, alpha=1e-4, beta=0.75):
    """b_i = a_i / (k + alpha * sum of a_j^2 over the n maps j around map i)^beta (AlexNet, 3.3).

    a: [B, maps, H, W]. As printed: PyTorch's own function divides alpha by n, and so does the
    authors' code, with the same alpha.
    """
    i = torch.arange(a.shape[1], device=a.device)
    near = (i[:, None] - i).abs() <= n // 2
    # As a 1x1 convolution, the sum over neighboring feature maps takes a third of the time.
    sums = F.conv2d(a.square(), near.to(a.dtype)[:, :, None, None])
    return a * (k + alpha * sums) ** -beta


CONFIGURATIONS = {  # Table 1: the sides of the kernels in each of the five blocks
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
MAPS = (64, 128, 256, 512, 512)  # of every convolution in a block
INITIALIZATIONS = ("glorot", "0.1", "0.01")  # or the standard deviation of a normal distribution


class VGG(nn.Module):
    """VGG as published (2.1, Table 1).

    config: one of CONFIGURATIONS. width: the fraction of the paper's feature maps and units in each
    layer but the last. image_size: the side of the images that it is trained on. dropout, init:
    ablations; init is "glorot" or the standard deviation of the weights at full width.
    Input: float images [B, in_channels, image_size, image_size]. Output: scores [B, num_classes],
    larger is better.
    """

    def __init__(
        self,
        in_channels=3,
        num_classes=1000,
        image_size=224,
        width=1.0,
        config="D",
        dropout=0.5,  # or 0
        init="glorot",  # or "0.1", as printed, or "0.01", as in AlexNet
    ):
        super().__init__()
        check_number(int, 1, in_channels=in_channels, num_classes=num_classes)
        check_number(int, 1, image_size=image_size)
        check_number(float, 0.008, width=width)  # with less, a layer would be empty
        check_number(float, 0, 1, dropout=dropout)
        check_choice(CONFIGURATIONS, config=config)
        check_choice(INITIALIZATIONS, init=init)
        self.config = config
        self.dropout = dropout
        self.blocks = []  # the names of the convolutions, conv1_1 to conv5_3
        for i, (kernels, full) in enumerate(zip(CONFIGURATIONS[config], MAPS), start=1):
            self.blocks.append([])
            for j, kernel in enumerate(kernels, start=1):
                name, maps = f"conv{i}_{j}", round(width * full)
                layer = nn.Conv2d(in_channels, maps, kernel, padding=kernel // 2)
                self.add_module(name, layer)
                self.blocks[-1].append(name)
                in_channels = maps
        self.side = max(1, image_size // 2**5)
        units = round(width * 4096)
        self.fc6 = nn.Linear(in_channels * self.side**2, units)
        self.fc7 = nn.Linear(units, units)
        self.fc8 = nn.Linear(units, num_classes)
        self.initialize(init, width)

    @torch.no_grad()
    def initialize(self, init, width):
        """Weights by Glorot and Bengio (2010), or from N(0, init^2 / width); biases 0 (3.1)."""
        for layer in self.children():
            if init == "glorot":
                nn.init.xavier_uniform_(layer.weight)
            else:
                # Sums over fewer inputs vary less: in conv1_2 to conv5_3, this makes up for it.
                layer.weight.normal_(0, float(init) / width**0.5)
            layer.bias.zero_()

    def features(self, x):  # [B, 3, 224, 224]
        """Five blocks of convolutions and 2x2 max pooling: to [B, 512, H/32, W/32] (2.1)."""
        for block in self.blocks:
            for name in block:
                x = torch.relu(getattr(self, name)(x))
                if name == "conv1_1" and self.config == "A-LRN":
                    x = local_response_norm(x)
            x = F.max_pool2d(x, min(2, x.shape[-1]), stride=2)
            # [B, 64, 112, 112], [B, 128, 56, 56], [B, 256, 28, 28], [B, 512, 14, 14]
        return x  # [B, 512, 7, 7]

    def forward(self, x):  # [B, 3, 224, 224]
        x = self.features(x).flatten(1)  # [B, 25088]
        x = F.dropout(torch.relu(self.fc6(x)), self.dropout, self.training)  # [B, 4096]
        x = F.dropout(torch.relu(self.fc7(x)), self.dropout, self.training)  # [B, 4096]
        return self.fc8(x)  # [B, 1000]

    def dense(self, x):
        """Scores at all positions of larger images: [B, 3, 384, 512] to [B, 1000, 6, 10] (3.2).

        The fully connected layers become convolutions, fc6 with a kernel as large as the feature
        maps that it was trained on, [4096, 512, 7, 7], fc7 and fc8 with kernels of 1x1. No dropout.
        """
        x = self.features(x)  # [B, 512, 12, 16]
        kernels = self.fc6.weight.view(len(self.fc6.weight), -1, self.side, self.side)
        x = torch.relu(F.conv2d(x, kernels, self.fc6.bias))  # [B, 4096, 6, 10]
        x = torch.relu(F.conv2d(x, self.fc7.weight[:, :, None, None], self.fc7.bias))
        return F.conv2d(x, self.fc8.weight[:, :, None, None], self.fc8.bias)


PAPER = {  # of D; the parameters follow from the sizes of the kernels in Table 1
    "conv1_1": {"output": (64, 224, 224), "parameters": 1_792},
    "conv1_2": {"output": (64, 224, 224), "parameters": 36_928},
    "conv2_1": {"output": (128, 112, 112), "parameters": 73_856},
    "conv2_2": {"output": (128, 112, 112), "parameters": 147_584},
    "conv3_1": {"output": (256, 56, 56), "parameters": 295_168},
    "conv3_2": {"output": (256, 56, 56), "parameters": 590_080},
    "conv3_3": {"output": (256, 56, 56), "parameters": 590_080},
    "conv4_1": {"output": (512, 28, 28), "parameters": 1_180_160},
    "conv4_2": {"output": (512, 28, 28), "parameters": 2_359_808},
    "conv4_3": {"output": (512, 28, 28), "parameters": 2_359_808},
    "conv5_1": {"output": (512, 14, 14), "parameters": 2_359_808},
    "conv5_2": {"output": (512, 14, 14), "parameters": 2_359_808},
    "conv5_3": {"output": (512, 14, 14), "parameters": 2_359_808},
    "fc6": {"output": (4096,), "parameters": 102_764_544},
    "fc7": {"output": (4096,), "parameters": 16_781_312},
    "fc8": {"output": (1000,), "parameters": 4_097_000},
    "total": {"parameters": 138_357_544},
}
LAYERS = {"A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19}  # Table 1
MILLIONS = {"A": 133, "A-LRN": 133, "B": 133, "C": 134, "D": 138, "E": 144}  # Table 2


if __name__ == "__main__":
    from harness.table import layer_table

    for config in CONFIGURATIONS:
        with torch.device("meta"):
            net = VGG(config=config)
        layers, parameters = len([*net.children()]), sum(p.numel() for p in net.parameters())
        print(
            f"{config:>5}: {layers} layers, {parameters:,} parameters "
            f"(paper: {LAYERS[config]} layers, {MILLIONS[config]} million)"
        )
        if (layers, round(parameters / 1e6)) != (LAYERS[config], MILLIONS[config]):
            raise SystemExit(f"{config} is not the paper's")
    print()
    raise SystemExit(not layer_table(VGG(), (3, 224, 224), PAPER))
