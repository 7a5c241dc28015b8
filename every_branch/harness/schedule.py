"""Learning-rate schedules, and an average of the weights, that several branches use."""

from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torch.optim.swa_utils import get_ema_multi_avg_fn


def one_cycle(optimizer, lr, steps):
    """A one-cycle schedule: up to `lr` over the first fifth of the steps, then down to nearly 0.

    L. N. Smith, N. Topin, "Super-Convergence", arXiv 1708.07120, 2017; step it after every batch.
    """
    return OneCycleLR(
        optimizer,
        lr,
        total_steps=max(6, steps),  # at 5, it divides by zero
        pct_start=0.2,
        cycle_momentum=False,
    )


def constant(optimizer):
    """A schedule that leaves the learning rate as it is."""
    return LambdaLR(optimizer, lambda step: 1)


def running_average(decay, steps):
    """An AveragedModel's multi_avg_fn: an exponential average of the weights (GoogLeNet, 6).

    Over about 1 / (1 - decay) steps, at most a tenth of a training of `steps`. After t steps the
    decay is (1 + t) / (10 + t), as in TensorFlow's ExponentialMovingAverage, until that is more:
    the weights leave their random start within a few steps, and it would linger otherwise.
    """
    decay = max(0, min(decay, 1 - 10 / steps))

    def update(averages, weights, count):
        now = min(decay, (1 + count.item()) / (10 + count.item()))
        get_ema_multi_avg_fn(now)(averages, weights, count)

    return update
