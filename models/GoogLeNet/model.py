"""GoogLeNet, the network that won ImageNet in 2014 with a ninth of AlexNet's parameters.

C. Szegedy, W. Liu, Y. Jia, P. Sermanet, S. Reed, D. Anguelov, D. Erhan, V. Vanhoucke,
A. Rabinovich, "Going Deeper with Convolutions", arXiv 1409.4842, 2014. Section numbers below are
the paper's.

The idea: a block of 1x1, 3x3 and 5x5 convolutions side by side, made affordable by 1x1
convolutions that first reduce the number of feature maps. Nine of them make a network of 22 layers,
with two auxiliary classifiers halfway up that help to train it.

    paper                       | here                        | why
    ----------------------------|-----------------------------|-----------------------------------
    parameters and operations   | those that follow from its  | in conv1, 4c and 5a they do not
    of Table 1                  | numbers of filters          | belong to these numbers
    constants of the local      | AlexNet's                   | the paper does not give them
    response normalization      |                             |
    initial weights             | Glorot's, biases 0          | the paper does not give them
    sides of the feature maps   | max pooling whose last      | 112, 56, 28, 14 and 7 need it
                                | window may stick out        |
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


class Convolution(nn.Conv2d):
    """A convolution and its ReLU; the reductions and projections have one too (5)."""

    def forward(self, x):
        return torch.relu_(super().forward(x))  # in place, a little faster


INCEPTION = {  # Table 1: feature maps of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
BRANCHES = ("1x1", "3x3", "5x5", "pool")


class Inception(nn.Module):
    """Four branches that read the same feature maps, their outputs concatenated (4, Figure 2b).

    maps: a row of INCEPTION. reduction, without: see GoogLeNet.
    [B, in_channels, H, W] to [B, out_channels, H, W].
    """

    def __init__(self, in_channels, maps, reduction=True, without="none"):
        super().__init__()
        check_choice((True, False), reduction=reduction)
        check_choice(("none", *BRANCHES), without=without)
        n1x1, n3x3_reduce, n3x3, n5x5_reduce, n5x5, pool_proj = maps
        branches = {
            "1x1": Convolution(in_channels, n1x1, 1),
            "3x3": nn.Sequential(
                Convolution(in_channels, n3x3_reduce, 1),
                Convolution(n3x3_reduce, n3x3, 3, padding=1),
            ),
            "5x5": nn.Sequential(
                Convolution(in_channels, n5x5_reduce, 1),
                Convolution(n5x5_reduce, n5x5, 5, padding=2),
            ),
            "pool": nn.Sequential(
                nn.MaxPool2d(3, stride=1, padding=1),
                Convolution(in_channels, pool_proj, 1),
            ),
        }
        if not reduction:
            branches["3x3"] = Convolution(in_channels, n3x3, 3, padding=1)
            branches["5x5"] = Convolution(in_channels, n5x5, 5, padding=2)
        out_channels = dict(zip(BRANCHES, (n1x1, n3x3, n5x5, pool_proj)))
        kept = [name for name in BRANCHES if name != without]
        self.branches = nn.ModuleDict({name: branches[name] for name in kept})
        self.out_channels = sum(out_channels[name] for name in kept)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches.values()], 1)


class AuxiliaryClassifier(nn.Module):
    """A small classifier halfway up the network: [B, in_channels, side, side] to scores (5)."""

    def __init__(self, in_channels, num_classes, side, width):
        super().__init__()
        maps, units = round(width * 128), round(width * 1024)
        side = (side - min(5, side)) // 3 + 1
        self.conv = Convolution(in_channels, maps, 1)
        self.fc1 = nn.Linear(maps * side**2, units)
        self.fc2 = nn.Linear(units, num_classes)

    def forward(self, x):  # [B, 512, 14, 14]
        x = F.avg_pool2d(x, min(5, x.shape[-1]), stride=3)  # [B, 512, 4, 4]
        x = self.conv(x).flatten(1)  # [B, 2048]
        x = F.dropout(torch.relu(self.fc1(x)), 0.7, self.training)  # [B, 1024]
        return self.fc2(x)  # [B, 1000]


class GoogLeNet(nn.Module):
    """GoogLeNet as published (5, Table 1, Figure 3).

    width: the fraction of the paper's feature maps and units in each layer but the last.
    image_size: the side of the images. aux, lrn, dropout, reduction, without: ablations; the
    defaults are the paper's. Input: float images [B, in_channels, image_size, image_size]. Output:
    scores [B, num_classes], larger is better; in training (scores, aux_4a, aux_4d), or (scores,)
    with aux=False.
    """

    def __init__(
        self,
        in_channels=3,
        num_classes=1000,
        image_size=224,
        width=1.0,
        aux=True,  # or False: no auxiliary classifiers
        lrn=True,  # or False
        dropout=0.4,  # or 0; the auxiliary classifiers keep their 0.7
        reduction=True,  # or False: 3x3 and 5x5 read all maps (Figure 2a, but for its pooling)
        without="none",  # or the branch that all blocks lack
    ):
        super().__init__()
        check_number(int, 1, in_channels=in_channels, num_classes=num_classes)
        check_number(int, 1, image_size=image_size)
        check_number(float, 0.032, width=width)  # with less, a layer would be empty
        check_number(float, 0, 1, dropout=dropout)
        check_choice((True, False), aux=aux, lrn=lrn)
        self.aux = aux
        self.lrn = lrn
        self.dropout = dropout
        side = (image_size + 2 * 3 - 7) // 2 + 1
        for _ in range(3):
            side = -(-(side - min(3, side)) // 2) + 1
        maps = [round(width * full) for full in (64, 64, 192)]
        self.conv1 = Convolution(in_channels, maps[0], 7, stride=2, padding=3)
        self.conv2 = nn.Sequential(
            Convolution(maps[0], maps[1], 1),  # column 3x3 reduce
            Convolution(maps[1], maps[2], 3, padding=1),
        )
        channels = maps[2]
        for name, row in INCEPTION.items():
            block = Inception(channels, [round(width * full) for full in row], reduction, without)
            self.add_module(f"inception_{name}", block)
            channels = block.out_channels
            if name in ("4a", "4d") and aux:
                head = AuxiliaryClassifier(channels, num_classes, side, width)
                self.add_module(f"aux_{name}", head)
        self.linear = nn.Linear(channels, num_classes)
        self.initialize()

    @torch.no_grad()
    def initialize(self):
        """Weights by Glorot and Bengio (2010); biases 0."""
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(layer.weight)
                layer.bias.zero_()

    def normalize(self, x):
        return local_response_norm(x) if self.lrn else x

    def pool(self, x):
        """3x3 max pooling with a stride of 2: [B, C, H, W] to [B, C, H/2, W/2]."""
        return F.max_pool2d(x, min(3, x.shape[-1]), stride=2, ceil_mode=True)

    def forward(self, x, heads=None):  # [B, 3, 224, 224]
        """heads: whether to run the auxiliary classifiers too; by default, only in training."""
        x = self.normalize(self.pool(self.conv1(x)))  # [B, 64, 112, 112], then [B, 64, 56, 56]
        x = self.pool(self.normalize(self.conv2(x)))  # [B, 192, 56, 56], then [B, 192, 28, 28]
        x = self.inception_3a(x)  # [B, 256, 28, 28]
        x = self.pool(self.inception_3b(x))  # [B, 480, 28, 28], then [B, 480, 14, 14]
        x = at_4a = self.inception_4a(x)  # [B, 512, 14, 14]
        x = self.inception_4b(x)  # [B, 512, 14, 14]
        x = self.inception_4c(x)  # [B, 512, 14, 14]
        x = at_4d = self.inception_4d(x)  # [B, 528, 14, 14]
        x = self.pool(self.inception_4e(x))  # [B, 832, 14, 14], then [B, 832, 7, 7]
        x = self.inception_5a(x)  # [B, 832, 7, 7]
        x = self.inception_5b(x)  # [B, 1024, 7, 7]
        x = x.mean((2, 3))  # [B, 1024], by global average pooling
        scores = self.linear(F.dropout(x, self.dropout, self.training))  # [B, 1000]
        if not (self.training if heads is None else heads):
            return scores
        if not self.aux:
            return (scores,)
        return scores, self.aux_4a(at_4a), self.aux_4d(at_4d)


PAPER = {  # Table 1, and the sums of its columns
    "conv1": {"output": (64, 112, 112), "parameters": "2.7K", "MACs": "34M"},
    "conv2": {"output": (192, 56, 56), "parameters": "112K", "MACs": "360M"},
    "inception_3a": {"output": (256, 28, 28), "parameters": "159K", "MACs": "128M"},
    "inception_3b": {"output": (480, 28, 28), "parameters": "380K", "MACs": "304M"},
    "inception_4a": {"output": (512, 14, 14), "parameters": "364K", "MACs": "73M"},
    "inception_4b": {"output": (512, 14, 14), "parameters": "437K", "MACs": "88M"},
    "inception_4c": {"output": (512, 14, 14), "parameters": "463K", "MACs": "100M"},
    "inception_4d": {"output": (528, 14, 14), "parameters": "580K", "MACs": "119M"},
    "inception_4e": {"output": (832, 14, 14), "parameters": "840K", "MACs": "170M"},
    "inception_5a": {"output": (832, 7, 7), "parameters": "1072K", "MACs": "54M"},
    "inception_5b": {"output": (1024, 7, 7), "parameters": "1388K", "MACs": "71M"},
    "linear": {"output": (1000,), "parameters": "1000K", "MACs": "1M"},
    "total": {"parameters": "6797.7K", "MACs": "1502M"},
}
HEADS = {"aux_4a": 3_188_840, "aux_4d": 3_190_888}  # they follow from the sizes in section 5


if __name__ == "__main__":
    from harness.table import layer_table

    with torch.device("meta"):
        net = GoogLeNet()
    for name, parameters in HEADS.items():
        counted = sum(p.numel() for p in getattr(net, name).parameters())
        print(f"{name}: {counted:,} parameters, in training alone (from section 5: {parameters:,})")
        if counted != parameters:
            raise SystemExit(f"{name} is not the paper's")
    print(f"with both: {sum(p.numel() for p in net.parameters()):,}; without:\n")
    raise SystemExit(not layer_table(GoogLeNet(aux=False), (3, 224, 224), PAPER))
