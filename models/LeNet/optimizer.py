"""The optimizer of 1998: stochastic gradient descent with a step size for each weight.

Y. LeCun et al., 1998 (see model.py), section III.B and appendix C. `--recipe paper` uses it.
"""

import copy

from harness.errors import Refusal
from harness.sets import NAMES

import torch
import torch.nn.functional as F

# By pass (III.B). With equation 9 as it is printed, steps of these sizes diverge within the first
# pass; so the recipe starts from a twenty-fifth of them, 2e-5, and keeps their proportions.
ETA = [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8


def need_1998(recipe):
    """Refusal where the second derivatives cannot be had: of other layers, other data."""
    if (recipe.pooling, recipe.output) != ("subsampling", "rbf"):
        raise Refusal("--recipe paper goes with --pooling subsampling and --output rbf alone")
    if recipe.data not in NAMES:
        raise Refusal(f"--recipe paper needs images in memory: {', '.join(NAMES)}")


def second_derivatives(model, images, j):
    """The mean over images of h_kk, the second derivative of the loss with respect to each weight.

    Passed back from layer to layer like the gradient, without what is off the diagonal. Where
    x_i = f(a_i) and a_i = sum_j w_ij z_j, and h(v) for the second derivative with respect to v:

        h(a_i) = f'(a_i)^2 h(x_i)      h(z_j) = sum_i w_ij^2 h(a_i)      h(w_ij) = h(a_i) z_j^2

    (a shared weight adds its connections up, without cross terms; so does the coefficient that the
    four inputs of a Subsampling unit share). The last two are what the gradient's own way back
    computes if weights and inputs are squared. None is negative, since f'' is left out, as in
    Gauss and Newton's method. j: of equation 9. A list of tensors, as model.parameters() has them.
    """
    f = model.activation
    stages = [model.C1, model.S2, model.C3, model.S4, model.C5, model.F6]
    inputs, sums, x = [], [], images
    for stage in stages:
        inputs.append(x.flatten(1) if stage is model.F6 else x)
        sums.append(stage(inputs[-1]).detach().requires_grad_())
        x = f(sums[-1]).detach()

    # With respect to the outputs of F6, exactly: 2 from y_D; from the logarithm, the variance of
    # dy_i/dx under the softmax, less 2 sum_i p_i ("none of these", a constant, adds nothing).
    scores = model.output(x)
    none_of_these = torch.full_like(scores[:, :1], -j)
    p = F.softmax(torch.cat([scores, none_of_these], dim=1), dim=1)[:, :-1, None]
    dy = 2 * (x[:, None, :] - model.output.codes)
    h = (p * dy.square()).sum(1) - (p * dy).sum(1).square() + 2 * (1 - p.sum(1))
    found = []
    for stage, z, a in zip(reversed(stages), reversed(inputs), reversed(sums)):
        (slope,) = torch.autograd.grad(f(a).sum(), a)
        h = h.reshape(a.shape) * slope.square()
        squared = copy.deepcopy(stage)
        for weight in squared.parameters():
            weight.data.square_()
        z = z.square().requires_grad_()
        *own, h = torch.autograd.grad(squared(z), [*squared.parameters(), z], h)
        found = [total / len(images) for total in own] + found
    return found


class DiagonalLevenbergMarquardt(torch.optim.Optimizer):
    """Stochastic gradient descent with a step size of each weight's own, eta / (mu + h_kk).

    lr is eta; estimate() sets the h_kk of the weights, which are 0 before (III.B and appendix).
    """

    def __init__(self, parameters, lr, mu):
        super().__init__(parameters, {"lr": lr, "mu": mu})

    def estimate(self, second_derivatives):
        group = self.param_groups[0]
        for weight, h in zip(group["params"], second_derivatives):
            self.state[weight]["scale"] = 1 / (group["mu"] + h)

    @torch.no_grad()
    def step(self):
        group = self.param_groups[0]
        for weight in group["params"]:
            scale = self.state[weight].setdefault("scale", torch.full_like(weight, 1 / group["mu"]))
            weight.addcmul_(weight.grad, scale, value=-group["lr"])


def schedule_of_1998(optimizer, steps_per_pass):
    """The step sizes of ETA, pass by pass, in proportion to the first."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: ETA[min(step // steps_per_pass, len(ETA) - 1)] / ETA[0]
    )
