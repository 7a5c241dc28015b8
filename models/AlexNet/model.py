"""AlexNet, the network that won ImageNet in 2012 and made deep learning the rule.

A. Krizhevsky, I. Sutskever, G. E. Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", NIPS 2012. Section numbers below are the paper's.

The idea: the recipe of LeNet, a thousand times larger, learns a thousand kinds of things from a
million photographs, if it is made trainable (ReLU, two GPUs) and kept from overfitting (dropout,
augmentation).

    paper                       | here                        | why
    ----------------------------|-----------------------------|-----------------------------------
    images of 224 pixels        | the same, padded by 2       | 55 positions in conv1 need 227
    253,440 neurons in conv1    | 290,400                     | 96 feature maps of 55x55
    halves on two GPUs          | groups=2 on one device      | the same connections
    at test, outputs times 0.5  | in training, outputs over   | the same, and nothing is left to do
                                | 0.5                         | at test
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


ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}
POOLINGS = {"overlapping": 3, "separate": 2}  # the side of a window; the stride is 2 (3.4)


class AlexNet(nn.Module):
    """AlexNet as published (3.5, Figure 2).

    width: the fraction of the paper's feature maps and units in each layer but the last.
    image_size: the side of the images. activation, pooling, lrn, dropout, groups: ablations; the
    defaults are the paper's. Input: float images [B, in_channels, image_size, image_size]. Output:
    scores [B, num_classes], larger is better.
    """

    def __init__(
        self,
        in_channels=3,
        num_classes=1000,
        image_size=224,
        width=1.0,
        activation="relu",  # or "tanh"
        pooling="overlapping",  # or "separate": windows that do not overlap
        lrn=True,  # or False
        dropout=0.5,  # or 0
        groups=2,  # or 1: every feature map of conv2, conv4, conv5 sees all
    ):
        super().__init__()
        check_number(int, 1, in_channels=in_channels, num_classes=num_classes)
        check_number(int, 7, image_size=image_size)  # with less, conv1's window would not fit
        check_number(float, 0.006, width=width)  # with less, a layer would be empty
        check_number(float, 0, 1, dropout=dropout)
        check_choice(ACTIVATIONS, activation=activation)
        check_choice(POOLINGS, pooling=pooling)
        check_choice((True, False), lrn=lrn)
        check_choice((2, 1), groups=groups)
        maps = [round(width * full) for full in (96, 256, 384, 384, 256)]
        if any(count % groups for count in maps):
            raise ValueError(f"width is {width}: {groups} groups cannot share {maps} feature maps")
        units = round(width * 4096)
        self.activation = ACTIVATIONS[activation]
        self.window = POOLINGS[pooling]
        self.lrn = lrn
        self.dropout = dropout
        self.conv1 = nn.Conv2d(in_channels, maps[0], 11, stride=4, padding=2)
        self.conv2 = nn.Conv2d(maps[0], maps[1], 5, padding=2, groups=groups)
        self.conv3 = nn.Conv2d(maps[1], maps[2], 3, padding=1)
        self.conv4 = nn.Conv2d(maps[2], maps[3], 3, padding=1, groups=groups)
        self.conv5 = nn.Conv2d(maps[3], maps[4], 3, padding=1, groups=groups)
        side = (image_size + 2 * 2 - 11) // 4 + 1
        for _ in range(3):
            side = (side - min(self.window, side)) // 2 + 1
        self.fc6 = nn.Linear(maps[4] * side**2, units)
        self.fc7 = nn.Linear(units, units)
        self.fc8 = nn.Linear(units, num_classes)
        self.initialize()

    @torch.no_grad()
    def initialize(self, std=0.01):
        """Weights from N(0, 0.01^2); biases 1, which starts ReLUs at positive sums, or 0 (5)."""
        for layer in self.children():
            layer.weight.normal_(0, std)
            layer.bias.zero_()
        for layer in (self.conv2, self.conv4, self.conv5, self.fc6, self.fc7):
            layer.bias.fill_(1)

    def normalize(self, x):
        return local_response_norm(x) if self.lrn else x

    def pool(self, x):
        """Max pooling with a stride of 2: [B, C, H, W] to about [B, C, H/2, W/2]."""
        return F.max_pool2d(x, min(self.window, x.shape[-1]), stride=2)

    def forward(self, x):  # [B, 3, 224, 224]
        f = self.activation
        x = self.pool(self.normalize(f(self.conv1(x))))  # [B, 96, 55, 55], then [B, 96, 27, 27]
        x = self.pool(self.normalize(f(self.conv2(x))))  # [B, 256, 27, 27], then [B, 256, 13, 13]
        x = f(self.conv3(x))  # [B, 384, 13, 13]
        x = f(self.conv4(x))  # [B, 384, 13, 13]
        x = self.pool(f(self.conv5(x)))  # [B, 256, 13, 13], then [B, 256, 6, 6]
        x = x.flatten(1)  # [B, 9216]
        x = F.dropout(f(self.fc6(x)), self.dropout, self.training)  # [B, 4096]
        x = F.dropout(f(self.fc7(x)), self.dropout, self.training)  # [B, 4096]
        return self.fc8(x)  # [B, 1000]


PAPER = {  # 3.5 and Figure 2; the parameters follow from the sizes of the kernels
    "conv1": {"output": (96, 55, 55), "parameters": 34_944},
    "conv2": {"output": (256, 27, 27), "parameters": 307_456},
    "conv3": {"output": (384, 13, 13), "parameters": 885_120},
    "conv4": {"output": (384, 13, 13), "parameters": 663_936},
    "conv5": {"output": (256, 13, 13), "parameters": 442_624},
    "fc6": {"output": (4096,), "parameters": 37_752_832},
    "fc7": {"output": (4096,), "parameters": 16_781_312},
    "fc8": {"output": (1000,), "parameters": 4_097_000},
    "total": {"parameters": 60_965_224},
}


if __name__ == "__main__":
    from harness.table import layer_table

    raise SystemExit(not layer_table(AlexNet(), (3, 224, 224), PAPER))
