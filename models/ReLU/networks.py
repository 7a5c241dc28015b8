"""The networks that experiments.py compares: of Figure 1 of the AlexNet paper, plain ones of any
depth, and the two of Agarap.

A. Krizhevsky, I. Sutskever, G. E. Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", NIPS 2012, section 3.1.
A. F. Agarap, "Deep Learning using Rectified Linear Units (ReLU)", arXiv 1803.08375, 2018.

    paper                            | here                        | why
    ---------------------------------|-----------------------------|------------------------------
    four layers, nothing more said   | ConvNet                     | it has to be some network
    Agarap: "two hidden layers"      | three                       | his table and code have three

`python networks.py` prints the layers of Agarap's beside his figures.
"""

from model import ReLU, check_choice, check_number, squash

import torch
import torch.nn.functional as F
from torch import nn

relu = ReLU.apply
ACTIVATIONS = {
    "relu": relu,
    "squash": squash,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky": F.leaky_relu,  # slope 0.01 for negative sums (Maas, Hannun, Ng, 2013)
    "gelu": F.gelu,  # a times P(x < a), x standard normal (Hendrycks, Gimpel, 2016)
}


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


class Plain(nn.Module):
    """Fully connected layers, with nothing between them but an activation.

    depth: layers of weights. width: units of each but the last. activation: "relu", "tanh" or
    "sigmoid". The initial weights are normal, with the variance that keeps signal and gradient:
    2 / fan-in for ReLU (He et al., 2015), 2 / (fan-in + fan-out) for tanh (Glorot, Bengio, 2010),
    16 times that for the sigmoid, whose slope is a quarter of tanh's at most. Biases are 0.
    Input: float images [B, in_channels, 32, 32]. Output: scores [B, num_classes].
    """

    def __init__(self, in_channels=1, num_classes=10, depth=2, width=128, activation="relu"):
        super().__init__()
        numbers = {"in_channels": in_channels, "num_classes": num_classes, "width": width}
        check_number(int, 1, depth=depth, **numbers)
        check_choice(("relu", "tanh", "sigmoid"), activation=activation)
        self.activation = ACTIVATIONS[activation]
        sizes = [in_channels * 32 * 32] + (depth - 1) * [width] + [num_classes]
        for i, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:]), start=1):
            layer = nn.Linear(fan_in, fan_out)
            glorots = 2 / (fan_in + fan_out)
            variance = {"relu": 2 / fan_in, "tanh": glorots, "sigmoid": 16 * glorots}[activation]
            nn.init.normal_(layer.weight, std=variance**0.5)
            nn.init.zeros_(layer.bias)
            self.add_module(f"fc{i}", layer)

    def forward(self, x):  # [B, 1, 32, 32]
        *hidden, last = self.children()
        x = x.flatten(1)  # [B, 1024]
        for layer in hidden:
            x = self.activation(layer(x))  # [B, 128]
        return last(x)  # [B, 10]


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


CNN_PAPER = {"total": {"parameters": 84_202}}  # Agarap, Table 1
FFNN_PAPER = {"total": {"parameters": 662_026}}  # Table 2


if __name__ == "__main__":
    from harness.table import layer_table

    met = []
    for network, paper in ((CNN(), CNN_PAPER), (FFNN(), FFNN_PAPER)):
        print(f"\n{type(network).__name__} of Agarap")
        met.append(layer_table(network, (1, 16, 16), paper))
    raise SystemExit(not all(met))
