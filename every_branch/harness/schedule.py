"""Learning-rate schedules that several branches use."""

from torch.optim.lr_scheduler import LambdaLR, OneCycleLR


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
