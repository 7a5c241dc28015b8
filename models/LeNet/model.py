"""LeNet-5, the convolutional network that learned to read digits.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document
Recognition", Proceedings of the IEEE 86(11), 1998. Section numbers below are the paper's.

The idea: a feature that is useful in one place of an image is useful everywhere. So small filters
are applied at every position (convolution), maps are made coarser (subsampling); all is learned.

    paper                            | here                        | why
    ---------------------------------|-----------------------------|------------------------------
    10 of its ASCII bitmaps as codes | digits drawn for this file  | the paper's pixels are a figure
    10 classes                       | random codes for any others | there is no bitmap for them
    smallest distance wins           | score = -distance           | largest score wins everywhere

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


# Table I: which feature maps of S2 each one of C3 sees. All differ, to break the symmetry (II.B).
C3_TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

# With rbf, the targets of F6: each digit as a bitmap of 12 rows by 7 columns, +1 (#) and -1 (.).
DIGITS = """
..###.. ...##.. .####.. ####### ....##. ####### ...#### ####### ..###.. ..####.
.#...#. ..###.. ######. ####### ...###. ####### ..##... ####### .##.##. .##..##
#.....# .####.. ##..### ....##. ..####. ##..... .##.... .....## .#...#. .#....#
#.....# ...##.. .....## ...##.. ..#.##. ##..... ##..... .....#. .#...#. .#....#
#.....# ...##.. .....## ..##... .##.##. ##..... ##..... ....##. .##.##. .##..##
#.....# ...##.. ....### ..####. .#..##. #####.. ##.###. ....#.. ..###.. ..#####
#.....# ...##.. ...###. .....## ##..##. ######. ####### ...##.. .##.##. ......#
#.....# ...##.. ..###.. ......# ####### ....### ##...## ...#... .#...#. ......#
#.....# ...##.. .###... ......# ####### .....## ##...## ..##... .#...#. .....##
#.....# ...##.. ###.... #....## ....##. .....## ##...## ..#.... .#...#. .....#.
.#...#. .###### ####### ######. ....##. ######. .#####. .##.... .##.##. ...###.
..###.. .###### ####### .####.. ....##. #####.. ..###.. .#..... ..###.. .###...
"""


def digit_codes():
    """The ten bitmaps as a tensor [10, 84] of +1 and -1."""
    rows = [line.split() for line in DIGITS.split("\n") if line]
    bitmaps = ["".join(bitmap) for bitmap in zip(*rows)]
    return torch.tensor([[1.0 if ink == "#" else -1.0 for ink in bitmap] for bitmap in bitmaps])


def random_codes(num_classes):
    """Codes [num_classes, 84] for classes that have no bitmap: fair coins, the same every time."""
    generator = torch.Generator().manual_seed(1998)
    return torch.randint(0, 2, (num_classes, 84), generator=generator) * 2.0 - 1.0


def squash(a):
    """f(a) = A tanh(S a), with A and S such that f(1) = 1, f(-1) = -1 (equation 6, appendix A)."""
    return 1.7159 * torch.tanh(2 / 3 * a)


class Subsampling(nn.Module):
    """The sum of each 2x2 block, times a coefficient, plus a bias, both trained per map (II.B)."""

    def __init__(self, maps):
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(maps))
        self.bias = nn.Parameter(torch.empty(maps))

    def forward(self, x):
        blocks = F.avg_pool2d(x, 2, divisor_override=1)
        return self.coefficient[:, None, None] * blocks + self.bias[:, None, None]


class TableConvolution(nn.Module):
    """A 5x5 convolution whose feature map i sees only the inputs in table[i] (II.B, Table I)."""

    def __init__(self, in_channels, table):
        super().__init__()
        self.table, self.shape = table, (len(table), in_channels, 5, 5)
        pairs = [(i, j) for i, inputs in enumerate(table) for j in inputs]
        places = torch.tensor([i * in_channels + j for i, j in pairs])
        self.register_buffer("places", places, persistent=False)
        self.weight = nn.Parameter(torch.empty(len(pairs), 25))  # the kernels that exist
        self.bias = nn.Parameter(torch.empty(len(table)))

    def forward(self, x):
        out, into = self.shape[:2]
        kernels = self.weight.new_zeros(out * into, 25).index_copy(0, self.places, self.weight)
        return F.conv2d(x, kernels.view(self.shape), self.bias)


class RBF(nn.Module):
    """Euclidean radial basis functions: y_i = sum_j (x_j - w_ij)^2, with fixed w (equation 7).

    Returns -y_i, the score of class i: the code that is nearest wins.
    """

    def __init__(self, codes):
        super().__init__()
        self.register_buffer("codes", codes)

    def forward(self, x):
        return -(x[:, None, :] - self.codes).square().sum(2)


ACTIVATIONS = {"squash": squash, "tanh": torch.tanh, "relu": torch.relu}
POOLINGS = {
    "subsampling": Subsampling,
    "average": lambda maps: nn.AvgPool2d(2),
    "max": lambda maps: nn.MaxPool2d(2),
}


class LeNet5(nn.Module):
    """LeNet-5 (II.B, Figure 2).

    in_channels: of the image. num_classes: with rbf, ten get the bitmaps, others random codes.
    activation, pooling, output, c3: ablations; squash, subsampling, rbf, table are the paper's.
    Input: float images [B, in_channels, 32, 32]. Output: scores [B, num_classes], larger is better.
    """

    def __init__(
        self,
        in_channels=1,
        num_classes=10,
        activation="squash",  # or "tanh", "relu"
        pooling="subsampling",  # or "average", "max"
        output="rbf",  # or "softmax": a trained linear layer
        c3="table",  # or "full": every feature map sees all
    ):
        super().__init__()
        check_number(int, 1, in_channels=in_channels, num_classes=num_classes)
        check_choice(ACTIVATIONS, activation=activation)
        check_choice(POOLINGS, pooling=pooling)
        check_choice(("rbf", "softmax"), output=output)
        check_choice(("table", "full"), c3=c3)
        codes = digit_codes() if num_classes == 10 else random_codes(num_classes)
        self.activation = ACTIVATIONS[activation]
        self.C1 = nn.Conv2d(in_channels, 6, 5)
        self.S2 = POOLINGS[pooling](6)
        self.C3 = TableConvolution(6, C3_TABLE if c3 == "table" else [range(6)] * 16)
        self.S4 = POOLINGS[pooling](16)
        self.C5 = nn.Conv2d(16, 120, 5)
        self.F6 = nn.Linear(120, 84)
        self.output = RBF(codes) if output == "rbf" else nn.Linear(84, num_classes)
        self.initialize()

    @torch.no_grad()
    def initialize(self):
        """Uniform in ±2.4 / F_i, where F_i is the fan-in of the unit (appendix A)."""
        fan_in = {self.C1: 25 * self.C1.in_channels, self.S2: 4, self.S4: 4}
        fan_in |= {self.C5: 16 * 25, self.F6: 120, self.output: 84}
        for layer, inputs in fan_in.items():
            for parameter in layer.parameters():
                parameter.uniform_(-1, 1).mul_(2.4 / inputs)
        maps = torch.tensor([len(inputs) for inputs in self.C3.table])
        limits = 2.4 / (25 * maps)
        self.C3.bias.uniform_(-1, 1).mul_(limits)
        self.C3.weight.uniform_(-1, 1).mul_(limits.repeat_interleave(maps)[:, None])

    def forward(self, x):  # [B, 1, 32, 32]
        f = self.activation
        x = f(self.C1(x))  # [B, 6, 28, 28]
        x = f(self.S2(x))  # [B, 6, 14, 14]
        x = f(self.C3(x))  # [B, 16, 10, 10]
        x = f(self.S4(x))  # [B, 16, 5, 5]
        x = f(self.C5(x))  # [B, 120, 1, 1]
        x = x.flatten(1)  # [B, 120]
        x = f(self.F6(x))  # [B, 84]
        return self.output(x)  # [B, 10]


PAPER = {  # II.B
    "C1": {"output": (6, 28, 28), "parameters": 156, "connections": 122_304},
    "S2": {"output": (6, 14, 14), "parameters": 12, "connections": 5_880},
    "C3": {"output": (16, 10, 10), "parameters": 1_516, "connections": 151_600},
    "S4": {"output": (16, 5, 5), "parameters": 32, "connections": 2_000},
    "C5": {"output": (120, 1, 1), "parameters": 48_120, "connections": 48_120},
    "F6": {"output": (84,), "parameters": 10_164},
    "output": {"output": (10,)},
    "total": {"parameters": 60_000, "connections": 340_908},
}


def connections(model):
    """Links between units, a bias counted as one, as the paper counts them: {stage: number}."""
    units = {"S2": 6 * 14 * 14, "S4": 16 * 5 * 5}
    positions = {"C1": 28 * 28, "C3": 10 * 10, "C5": 1, "F6": 1}
    links = {stage: 5 * count for stage, count in units.items()}
    for stage, count in positions.items():
        links[stage] = count * sum(p.numel() for p in getattr(model, stage).parameters())
    return links | {"output": model.output.codes.numel()}


if __name__ == "__main__":
    from harness.table import layer_table

    lenet = LeNet5()
    raise SystemExit(not layer_table(lenet, (1, 32, 32), PAPER, connections=connections(lenet)))
