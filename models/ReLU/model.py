"""The rectifier, max(0, a), as what a unit does with its sum, and as the classifier at the end.

V. Nair, G. E. Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines", ICML 2010.
X. Glorot, A. Bordes, Y. Bengio, "Deep Sparse Rectifier Neural Networks", AISTATS 2011.
A. F. Agarap, "Deep Learning using Rectified Linear Units (ReLU)", arXiv 1803.08375, 2018.

The idea: a unit need not squash its sum. If it passes a positive sum on as it is, and nothing of a
negative one, then its slope is 1 wherever it is active, and a gradient goes through it unweakened.

Three networks show what that is worth: LeNet-5 with the rectifier for its squashing function; the
four-layer convolutional network of Figure 1 of the AlexNet paper; and the two of Agarap, where the
rectifier takes the place of the softmax.

    paper                            | here                        | why
    ---------------------------------|-----------------------------|------------------------------
    four layers, nothing more said   | the ConvNet below           | it has to be some network
    Agarap: "two hidden layers"      | three                       | his table and code have three
    LeNet-5, see branch LeNet        | digits drawn for this file  | the paper's pixels are a figure
    10 classes                       | random codes for any others | there is no bitmap for them
    smallest distance wins           | score = -distance           | largest score wins everywhere

`python model.py` prints the layers beside the papers' figures.
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


# Table I: which feature maps of S2 each one of C3 sees. All differ, which breaks the symmetry.
C3_TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

# The targets of F6: each digit as a bitmap of 12 rows by 7 columns, 84 values of +1 (#) and -1 (.).
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


class ReLU(torch.autograd.Function):
    """f(a) = max(0, a), forward and backward, for a of any shape.

    The slope is 1 where a > 0 and 0 where a < 0. At a = 0 there is none: the curve has a corner,
    and any number from 0 to 1 would do. This takes 0, as torch.relu does.
    """

    @staticmethod
    def forward(ctx, a):
        x = a.clamp(min=0)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x.sign()


relu = ReLU.apply


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


ACTIVATIONS = {
    "relu": relu,
    "squash": squash,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky": F.leaky_relu,  # slope 0.01 for negative sums (Maas, Hannun, Ng, 2013)
    "gelu": F.gelu,  # a times P(x < a), x standard normal (Hendrycks, Gimpel, 2016)
}
POOLINGS = {
    "subsampling": Subsampling,
    "average": lambda maps: nn.AvgPool2d(2),
    "max": lambda maps: nn.MaxPool2d(2),
}


class LeNet5(nn.Module):
    """LeNet-5 as published (II.B, Figure 2), but for the rectifier.

    in_channels: of the image. num_classes: ten get the bitmaps, any other number random codes.
    activation: a key of ACTIVATIONS; "squash" is the paper's.
    pooling, output, c3: ablations; the defaults are the paper's.
    Input: float images [B, in_channels, 32, 32]. Output: scores [B, num_classes], larger is better.
    """

    def __init__(
        self,
        in_channels=1,
        num_classes=10,
        activation="relu",
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


class ConvNet(nn.Module):
    """Three convolutions and a linear layer, for Figure 1 of the AlexNet paper.

    The paper says no more of its network than that it has four layers.
    width: multiplies the number of feature maps. activation: a key of ACTIVATIONS. start: the
    standard deviation of the weights, "fixed" at 0.01 as in AlexNet, or "scaled" to
    1 / sqrt(fan-in).
    Input: float images [B, in_channels, 32, 32]. Output: scores [B, num_classes].
    """

    def __init__(self, in_channels=3, num_classes=10, width=1.0, activation="relu", start="fixed"):
        super().__init__()
        check_number(int, 1, in_channels=in_channels, num_classes=num_classes)
        check_number(float, 0.016, width=width)  # with less, a layer would be empty
        check_choice(ACTIVATIONS, activation=activation)
        check_choice(("fixed", "scaled"), start=start)
        small, large = round(32 * width), round(64 * width)
        self.activation = ACTIVATIONS[activation]
        self.conv1 = nn.Conv2d(in_channels, small, 5, padding=2)
        self.conv2 = nn.Conv2d(small, small, 5, padding=2)
        self.conv3 = nn.Conv2d(small, large, 5, padding=2)
        self.fc4 = nn.Linear(large * 4 * 4, num_classes)
        for layer in self.children():
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=0.01 if start == "fixed" else fan_in**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x):  # [B, 3, 32, 32]
        f = self.activation
        x = F.max_pool2d(f(self.conv1(x)), 2)  # [B, 32, 16, 16]
        x = F.max_pool2d(f(self.conv2(x)), 2)  # [B, 32, 8, 8]
        x = F.max_pool2d(f(self.conv3(x)), 2)  # [B, 64, 4, 4]
        return self.fc4(x.flatten(1))  # [B, 10]


class CNN(nn.Module):
    """Agarap's convolutional network (his Table 1).

    classifier: "relu" ends in max(0, o), "softmax" in o, of which the loss takes the softmax.
    Input: 256 principal components as [B, 1, 16, 16]. Output: scores [B, num_classes].
    """

    def __init__(self, num_classes=10, classifier="relu"):
        super().__init__()
        check_number(int, 1, num_classes=num_classes)
        check_choice(("relu", "softmax"), classifier=classifier)
        self.classifier = classifier
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 32, 3)
        self.conv3 = nn.Conv2d(32, 64, 3)
        self.conv4 = nn.Conv2d(64, 64, 3)
        self.fc5 = nn.Linear(64, 256)
        self.fc6 = nn.Linear(256, num_classes)
        glorot(self)

    def forward(self, x):  # [B, 1, 16, 16]
        x = relu(self.conv1(x))  # [B, 32, 14, 14]
        x = relu(self.conv2(x))  # [B, 32, 12, 12]
        x = F.dropout(F.max_pool2d(x, 2), 0.25, self.training)  # [B, 32, 6, 6]
        x = relu(self.conv3(x))  # [B, 64, 4, 4]
        x = relu(self.conv4(x))  # [B, 64, 2, 2]
        x = F.dropout(F.max_pool2d(x, 2), 0.25, self.training)  # [B, 64, 1, 1]
        x = F.dropout(relu(self.fc5(x.flatten(1))), 0.5, self.training)  # [B, 256]
        o = self.fc6(x)  # [B, 10]
        return relu(o) if self.classifier == "relu" else o


class FFNN(nn.Module):
    """Agarap's feed-forward network (his Table 2); classifier, input and output as for CNN."""

    def __init__(self, num_classes=10, classifier="relu"):
        super().__init__()
        check_number(int, 1, num_classes=num_classes)
        check_choice(("relu", "softmax"), classifier=classifier)
        self.classifier = classifier
        self.fc1 = nn.Linear(256, 512)
        self.fc2 = nn.Linear(512, 512)
        self.fc3 = nn.Linear(512, 512)
        self.fc4 = nn.Linear(512, num_classes)
        glorot(self)

    def forward(self, x):  # [B, 1, 16, 16]
        x = x.flatten(1)  # [B, 256]
        for hidden in (self.fc1, self.fc2, self.fc3):
            x = F.dropout(relu(hidden(x)), 0.1, self.training)  # [B, 512]
        o = self.fc4(x)  # [B, 10]
        return relu(o) if self.classifier == "relu" else o


def glorot(model):
    """The initialization of Keras: uniform weights by Glorot and Bengio (2010), biases 0."""
    for layer in model.children():
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


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


CNN_PAPER = {"total": {"parameters": 84_202}}  # Agarap, Table 1
FFNN_PAPER = {"total": {"parameters": 662_026}}  # Table 2


if __name__ == "__main__":
    from harness.table import layer_table

    lenet = LeNet5()
    met = [layer_table(lenet, (1, 32, 32), PAPER, connections=connections(lenet))]
    for network, paper in ((CNN(), CNN_PAPER), (FFNN(), FFNN_PAPER)):
        print(f"\n{type(network).__name__} of Agarap")
        met.append(layer_table(network, (1, 16, 16), paper))
    raise SystemExit(not all(met))
