"""Batch normalization, and GoogLeNet with it.

S. Ioffe, C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
Covariate Shift", arXiv 1502.03167, 2015. Section and algorithm numbers below are the paper's;
those of GoogLeNet are of C. Szegedy et al., "Going Deeper with Convolutions", arXiv 1409.4842.

The idea: give the sums of every unit mean 0 and variance 1 over the images of a batch, make that a
part of the network, gradient and all, and let two numbers per unit, gamma and beta, undo it where
that is better. Learning rates can then be many times higher.

    paper                       | here                        | why
    ----------------------------|-----------------------------|-----------------------------------
    a variant of GoogLeNet: two | GoogLeNet as on its branch, | so that normalization is the only
    3x3 for 5x5, more filters   | at any width and image_size | difference to it
    the mean of several batches | a running mean              | it names both (3.1); so it can be
    for test                    |                             | validated at every epoch
    epsilon                     | 1e-5                        | the paper does not give it
    small Gaussian weights of   | standard deviation 0.1      | the paper does not give it
    the network of 4.1          |                             |

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


def per_channel(values, x):
    """values [C] as [C, 1, ...], to go with x [B, C, ...]."""
    return values.view(-1, *[1] * (x.dim() - 2))


class Normalization(torch.autograd.Function):
    """y = gamma * (x - mean) / sqrt(variance + eps) + beta, by the batch's own statistics.

    Forward: Algorithm 1, for x [B, C, ...], gamma and beta [C]; gives y, and mean and variance [C].
    The m values of a channel are its batch: the images in a fully connected layer, images times
    positions in a convolution (3.2). Backward: the equations before section 3.1.
    """

    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        over = [0, *range(2, x.dim())]
        mean = x.mean(over)
        centered = x - per_channel(mean, x)
        variance = centered.square().mean(over)
        inverse = (variance + eps).rsqrt()
        x_hat = centered * per_channel(inverse, x)
        y = per_channel(gamma, x) * x_hat + per_channel(beta, x)
        ctx.save_for_backward(centered, x_hat, gamma, inverse)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx, d_y, *_):
        """Each d_ is the derivative of the loss with respect to what it is named for.

        The second term of the paper's d_mean is a sum of x - mean, which is 0.
        """
        if torch.is_grad_enabled():  # autograd would take x_hat for a constant
            raise RuntimeError("Normalization has no second derivative; PyTorch's batch_norm has")
        centered, x_hat, gamma, inverse = ctx.saved_tensors
        over = [0, *range(2, d_y.dim())]
        m = d_y.numel() / d_y.shape[1]
        d_x_hat = d_y * per_channel(gamma, d_y)
        d_variance = (d_x_hat * centered).sum(over) * -0.5 * inverse**3
        d_mean = d_x_hat.sum(over) * -inverse
        d_x = d_x_hat * per_channel(inverse, d_y)
        d_x += centered * per_channel(d_variance * 2 / m, d_y) + per_channel(d_mean / m, d_y)
        d_gamma = (d_y * x_hat).sum(over)
        d_beta = d_y.sum(over)
        return d_x, d_gamma, d_beta, None


class BatchNorm(nn.Module):
    """What BatchNorm1d and BatchNorm2d share: parameters, running statistics, both modes.

    momentum: the weight of the newest batch in the running statistics. The names are PyTorch's, so
    that a state_dict of nn.BatchNorm1d or nn.BatchNorm2d fits: weight is gamma, bias is beta.
    """

    shapes = {}  # those that an input may have, by its number of dimensions

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
        """x, normalized. ValueError if its shape is none of `shapes`, or, in training, if it has
        one value per channel."""
        name, shape = type(self).__name__, tuple(x.shape)
        if x.dim() not in self.shapes or x.shape[1] != len(self.weight):
            expected = " or ".join(self.shapes.values()).replace("C", str(len(self.weight)))
            raise ValueError(f"{name} needs {expected}, and was given {shape}")
        if not self.training:  # Algorithm 2, line 11: one scale, one shift per channel
            scale = self.weight * (self.running_var + self.eps).rsqrt()
            shift = self.bias - self.running_mean * scale
            return per_channel(scale, x) * x + per_channel(shift, x)
        m = x.numel() // x.shape[1]
        if m < 2:
            raise ValueError(
                f"{name} in training needs two values a channel or more to take a variance of, and "
                f"was given {shape}: use a larger batch, or eval()"
            )
        y, mean, variance = Normalization.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * m / (m - 1), self.momentum)  # unbiased (3.1)
            self.num_batches_tracked += 1
        return y


class BatchNorm1d(BatchNorm):
    """Batch normalization of [B, C], or of [B, C, L] over B and L."""

    shapes = {2: "[B, C]", 3: "[B, C, L]"}


class BatchNorm2d(BatchNorm):
    """Batch normalization of [B, C, H, W] over B, H and W: gamma and beta per feature map (3.2)."""

    shapes = {4: "[B, C, H, W]"}


NORMS = {  # of the sums in a fully connected layer, of those in a convolution
    "batch": (BatchNorm1d, BatchNorm2d),
    "torch": (nn.BatchNorm1d, nn.BatchNorm2d),
    "none": (nn.Identity, nn.Identity),
}
ACTIVATIONS = {"relu": torch.relu_, "sigmoid": torch.sigmoid}  # relu_: in place, a little faster


class Convolution(nn.Conv2d):
    """A convolution, its normalization and its nonlinearity, in this order (3.2).

    batch_normalize gives it the last two, and so it does to FullyConnected.
    """

    def forward(self, x):
        return self.activation(self.norm(super().forward(x)))


class FullyConnected(nn.Linear):
    """The same for a fully connected layer."""

    def forward(self, x):
        return self.activation(self.norm(super().forward(x)))


def batch_normalize(net, norm, activation):
    """Normalize the sums of each Convolution and FullyConnected in net (Algorithm 2, lines 1 to 5).

    Beta does what a bias would do, so these layers lose theirs (3.2). norm, activation: a name of
    NORMS and of ACTIVATIONS; else ValueError.
    """
    check_choice(NORMS, norm=norm)
    check_choice(ACTIVATIONS, activation=activation)
    for layer in [*net.modules()]:
        if isinstance(layer, (Convolution, FullyConnected)):
            # The second of a pair in NORMS is for convolutions.
            layer.norm = NORMS[norm][isinstance(layer, Convolution)](len(layer.weight))
            layer.activation = ACTIVATIONS[activation]
            if norm != "none":
                layer.bias = None


class MLP(nn.Module):
    """The network of section 4.1: three hidden layers of 100 sigmoids.

    Input: [B, C, H, W] with C * H * W = inputs. Output: scores [B, num_classes]; in training
    (scores,), as of a network whose auxiliary classifiers are off.
    """

    def __init__(self, num_classes=10, inputs=784, norm="batch"):
        super().__init__()
        check_number(int, 1, num_classes=num_classes, inputs=inputs)
        self.fc1 = FullyConnected(inputs, 100)
        self.fc2 = FullyConnected(100, 100)
        self.fc3 = FullyConnected(100, 100)
        self.fc4 = nn.Linear(100, num_classes)
        self.initialize()
        batch_normalize(self, norm, "sigmoid")

    @torch.no_grad()
    def initialize(self):
        """Small random Gaussian weights; biases 0."""
        for layer in self.children():
            layer.weight.normal_(0, 0.1)
            layer.bias.zero_()

    def forward(self, x):
        scores = self.fc4(self.fc3(self.fc2(self.fc1(x.flatten(1)))))
        return (scores,) if self.training else scores


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
        self.fc1 = FullyConnected(maps * side**2, units)
        self.fc2 = nn.Linear(units, num_classes)

    def forward(self, x):  # [B, 512, 14, 14]
        x = F.avg_pool2d(x, min(5, x.shape[-1]), stride=3)  # [B, 512, 4, 4]
        x = self.conv(x).flatten(1)  # [B, 2048]
        x = F.dropout(self.fc1(x), 0.7, self.training)  # [B, 1024]
        return self.fc2(x)  # [B, 1000]


class GoogLeNet(nn.Module):
    """GoogLeNet (5, Table 1, Figure 3), with batch normalization before every nonlinearity.

    width: the fraction of the paper's feature maps and units in each layer but the last.
    image_size: the side of the images. norm, activation, aux, lrn, dropout, reduction, without:
    ablations; the defaults are GoogLeNet's, except for norm. Input: float images [B, in_channels,
    image_size, image_size]. Output: scores [B, num_classes], larger is better; in training (scores,
    aux_4a, aux_4d), or (scores,) with aux=False.
    """

    def __init__(
        self,
        in_channels=3,
        num_classes=1000,
        image_size=224,
        width=1.0,
        norm="batch",  # of NORMS: by hand, PyTorch's, or none, which is GoogLeNet as it was
        activation="relu",  # or "sigmoid"
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
        batch_normalize(self, norm, activation)

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
# They follow from the sizes in section 5, with gamma and beta where there was a bias.
HEADS = {"aux_4a": 3_189_992, "aux_4d": 3_192_040}
PAPER_MLP = {f"fc{i}": {"output": (100 if i < 4 else 10,)} for i in (1, 2, 3, 4)}  # 4.1


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
    met = layer_table(GoogLeNet(aux=False), (3, 224, 224), PAPER)
    print("\nThe network of section 4.1:\n")
    raise SystemExit(not (layer_table(MLP(), (1, 28, 28), PAPER_MLP) and met))
