"""The experiments with batch normalization: closed forms, numpy, stock layers, small data."""

import copy
import math
from types import SimpleNamespace

import numpy
import pytest
import torch
from test_batchnorm import stir, stock_mlp
from test_relu_experiments import points_of, typed_twice, watch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

NAME = "BatchNorm"
NARROW = "--width 0.05 --side 32 --image-size 28 --batch-size 10".split()
# Learning rate (4.2.2); is it normalized, but for that as GoogLeNet was (4.2.1), with rectifiers.
FIGURE_2 = {
    "Inception": (0.0015, False, True, True),
    "BN-Baseline": (0.0015, True, True, True),
    "BN-x5": (0.0075, True, False, True),
    "BN-x30": (0.045, True, False, True),
    "BN-x5-Sigmoid": (0.0075, True, False, False),
    "Inception-decay": (0.0015, False, True, True),
}


def test_when_a_run_is_at_a_level(branch):
    """A straight line between the ends of epochs, each of 100 steps."""
    for accuracies, times in [
        ([0.5, 0.75], {0.5: 100, 0.25: 50, 0.625: 150, 0.75: 200, 0.875: None}),
        ([0.5, 0.25, 0.75], {0.5: 100, 0.625: 275}),  # the first time; after a fall
        ([0.5, 0.5, 0.75], {0.5: 100}),
        ([0.75, 0.5, 0.25], {0.75: 100}),
        ([0.25, 0.25, 0.25], {0.5: None}),
        ([0.5], {0.125: 25, math.inf: None}),
        ([], {0.5: None}),
    ]:
        history = [{"step": 100 * n, "validation_accuracy": a} for n, a in enumerate(accuracies, 1)]
        found = {level: branch.experiments.steps_to(history, level) for level in times}
        assert found == pytest.approx(times)


class Linear(nn.Linear):
    """A layer that drops inputs, and returns its scores as a network does in training."""

    def forward(self, x):
        return (super().forward(F.dropout(x, getattr(self, "share", 0), self.training)),)


def predictiveness(branch, net, images, labels, **rates):
    run, batches = SimpleNamespace(epoch=2, device=torch.device("cpu")), [(images, labels), None]
    return branch.experiments.predictiveness(run, net, range(4), batches, rates)


def test_predictiveness_is_that_of_a_loss_known_in_closed_form(branch, monkeypatch):
    """h/2 |w|^2: a step of rate r has w' = (1 - hr) w, so the fall is 1 - hr/2 of the promise."""
    net, h = Linear(3, 2, bias=False).double(), 4.0
    monkeypatch.setattr(F, "cross_entropy", lambda scores, _: h / 2 * scores.square().sum())
    found = predictiveness(branch, net, torch.eye(3).double(), None, small=0.125, just=0.5, large=2)
    expected = {"step": 8, "fall_small": 0.75, "turn_small": 1, "fall_just": 0, "turn_just": -1}
    assert found == pytest.approx(expected | {"fall_large": -3, "turn_large": -1})


def test_predictiveness_of_a_linear_classifier_is_numpys(branch):
    draws = numpy.random.default_rng(0)
    x, labels = draws.normal(size=(6, 4)), draws.integers(0, 3, 6)
    w, b = draws.normal(size=(3, 4)), draws.normal(size=3)

    def look(w, b):
        scores = x @ w.T + b
        softmax = numpy.exp(scores) / numpy.exp(scores).sum(1, keepdims=True)
        d_scores = (softmax - numpy.eye(3)[labels]) / 6
        loss = -numpy.log(softmax[range(6), labels]).mean()
        return loss, numpy.concatenate([(d_scores.T @ x).ravel(), d_scores.sum(0)])

    net, rates = Linear(4, 3).double(), {"x1": 0.01, "x30": 0.3, "x1000": 10.0}
    net.load_state_dict({"weight": torch.tensor(w), "bias": torch.tensor(b)})
    found = predictiveness(branch, net, torch.tensor(x), torch.tensor(labels), **rates)
    (loss, gradient), norm, expected = look(w, b), numpy.linalg.norm, {"step": 8}
    for name, rate in rates.items():
        after, turned = look(w - rate * gradient[:12].reshape(3, 4), b - rate * gradient[12:])
        expected[f"fall_{name}"] = (loss - after) / (rate * gradient @ gradient)
        expected[f"turn_{name}"] = gradient @ turned / norm(gradient) / norm(turned)
    assert [*found] == [*expected] and found == pytest.approx(expected, rel=1e-9)


def test_predictiveness_drops_the_same_units_each_time(branch):
    """Then a small step brings what the gradient promises. A gradient of 0 promises nothing."""
    torch.manual_seed(0)
    net, images = Linear(40, 5).double(), torch.randn(6, 40, dtype=torch.float64)
    net.share = 0.5
    found = predictiveness(branch, net, images, torch.arange(6) % 5, x1=1e-4)
    assert found == pytest.approx({"step": 8, "fall_x1": 1, "turn_x1": 1}, abs=1e-3)
    one_class = Linear(40, 1).double()
    found = predictiveness(branch, one_class, images, torch.zeros(6).long(), x1=0.1)
    assert found["fall_x1"] == found["turn_x1"] == 0


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_predictiveness_looks_in_training_and_leaves_all_as_it_was(branch, model, mode):
    """By steps of PyTorch's optimizer on a copy; weights, statistics, mode, draws are kept."""
    torch.manual_seed(0)
    net = model.GoogLeNet(3, 10, 32, 1 / 8, dropout=0.0, aux=False, lrn=False).double().train(mode)
    images, labels = torch.randn(8, 3, 32, 32, dtype=torch.float64), torch.arange(8)
    copied, looks = copy.deepcopy(net).train(), []
    for _ in range(2):
        loss = F.cross_entropy(copied(images)[0], labels)
        loss.backward()
        looks += [loss.item(), torch.cat([p.grad.flatten() for p in copied.parameters()])]
        torch.optim.SGD(copied.parameters(), 0.01).step()
        copied.zero_grad()
    before, gradient, after, turned = looks
    state, draws = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    found = predictiveness(branch, net, images, labels, x1=0.001, x10=0.01, x1000=1.0)
    fall = (before - after) / (0.01 * gradient.square().sum().item())
    turn = F.cosine_similarity(gradient, turned, dim=0).item()
    assert [found["fall_x10"], found["turn_x10"]] == pytest.approx([fall, turn], rel=1e-6)
    assert all(part.training == mode for part in net.modules())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), draws) and net.linear.weight.grad is None


@pytest.mark.parametrize("norm, mode", [("none", True), ("batch", True), ("batch", False)])
def test_progress_is_numpys_percentiles_and_the_share_right(branch, model, norm, mode):
    """Of the sums that the first sigmoid of the last hidden layer is given, in evaluation mode."""
    torch.manual_seed(0)
    net = stir(model.MLP(4, 4, norm)).train(mode)
    stock, state = stock_mlp(net, norm).eval(), copy.deepcopy(net.state_dict())
    images, others, labels = *(2 * torch.randn(2, 30, 1, 2, 2) + 1), torch.arange(30) % 4
    validation, test = (DataLoader([*zip(part, labels)], 7) for part in (images, others))
    run = SimpleNamespace(epoch=3, device=torch.device("cpu"))
    found = branch.experiments.progress(run, net, range(11), validation, test)
    with torch.no_grad():
        units = numpy.percentile(stock[:-2](images)[:, 0].numpy(), [15, 50, 85])
        right = (stock(others).argmax(1) == labels).float().mean().item()
    expected = dict(zip(("unit_15", "unit_50", "unit_85"), units.tolist()))
    assert found == pytest.approx({"step": 33, "test_accuracy": right, **expected}, rel=1e-4)
    assert net.training == mode and not net.fc3.norm._forward_hooks
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


@torch.no_grad()
def test_forgetting_evaluation_mode_is_measured_at_each_size_and_sorted_by_class(branch, model):
    """By stock layers in training mode; all images count but a last one alone."""
    torch.manual_seed(3)
    net, labels = stir(model.MLP(4, 4)).eval(), torch.randint(4, (130,))
    state, images = copy.deepcopy(net.state_dict()), torch.randn(130, 1, 2, 2)
    images += labels.view(-1, 1, 1, 1)
    loader = DataLoader([*zip(images, labels)], 7)
    found = branch.experiments.forgotten(None, net, None, loader, None)
    found[129] = branch.experiments.accuracy_in_training(net, images, labels, 129)
    by_class, alike = labels.argsort(stable=True), torch.arange(130)
    places = {f"training_{size}": alike.split(size) for size in (2, 8, 60)}
    places |= {"training_sorted": by_class.split(60), 129: [alike[:129]]}
    assert [*found] == [*places] and found["training_60"] != found["training_sorted"]
    for key, parts in places.items():
        right = [stock_mlp(net).train()(images[part]).argmax(1) == labels[part] for part in parts]
        assert found[key] == pytest.approx(torch.cat(right).float().mean().item())
    assert not any(part.training for part in net.modules())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_pixels_are_gray_or_black_and_white_and_of_larger_images_means(branch):
    values, prepare = torch.arange(784).view(1, 1, 28, 28) % 256, branch.experiments.prepare
    gray, binary = (prepare(values.byte(), pixels) for pixels in ("gray", "binary"))
    assert gray.flatten().tolist() == pytest.approx([v / 255 for v in values.flatten().tolist()])
    assert binary.flatten().tolist() == [float(v > 127) for v in values.flatten().tolist()]
    images = torch.zeros(2, 3, 56, 56, dtype=torch.uint8)
    images[0, 1, 2:4, 6:8] = torch.tensor([[255, 255], [255, 0]])
    images[1, 2, 54:, :2] = torch.tensor([[255, 0], [0, 253]])
    gray, binary = (prepare(images, pixels) for pixels in ("gray", "binary"))
    assert gray.shape == (2, 3, 28, 28) and gray.count_nonzero() == 2
    assert (gray[0, 1, 1, 3], gray[1, 2, 27, 0]) == pytest.approx((0.75, 508 / 1020))
    assert binary[0, 1, 1, 3] == 1 and binary.count_nonzero() == 1  # it is a mean, not a pixel


def line_of(printed, title):
    """The words of the line that begins with a title, after it."""
    (line,) = [line for line in printed.splitlines() if line.startswith(f"{title} ")]
    return line[len(title) :].split()


def assert_plain_gradient_descent(seen):
    group, norm = seen.optimizer.param_groups[0], type(seen.model.fc1.norm).__name__
    assert type(seen.optimizer) is torch.optim.SGD
    assert norm == {"none": "Identity", "batch": "BatchNorm1d"}[seen.run.settings.norm]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0, 0)
    for key, value in seen.model.state_dict().items():
        assert torch.equal(seen.run.best["weights"][key], value)  # the last ones, and no average


def test_figure_1_is_three_seeds_without_and_with(branch, small, monkeypatch, capsys):
    """At one rate from end to end, over 50,000 steps of 60 images (4.1); the table is numpy's."""
    small(branch, 60, 30)
    watched, paper = watch(monkeypatch, branch), branch.experiments.FIGURE_1["paper"]
    assert (paper.data, paper.pixels, paper.batch_size, paper.lr) == ("mnist", "binary", 60, 0.1)
    assert paper.epochs * -(-55_000 // 60) == pytest.approx(50_000, rel=0.02)
    printed = typed_twice(branch, capsys, *"figure1 --epochs 2 --batch-size 20 --seed 4".split())
    points, norms = points_of(branch), ("none", "batch")
    assert [(row["norm"], row["seed"], row["step"]) for row in points] == [
        (norm, seed, step) for norm in norms for seed in "456" for step in "36"
    ]
    for seen in watched:
        assert_plain_gradient_descent(seen)
        assert seen.run.history[-1]["test_accuracy"] == seen.run.result["metrics"]["accuracy"]
        images = torch.cat([images for images, _ in seen.loader])
        assert images.shape == (60, 1, 28, 28) and images.max() == 1 and len(images.unique()) > 100
    assert len({seen.weights[0][0, 0].item() for seen in watched[::2]}) == 3  # with and without
    shares = numpy.array([100 * float(row["test_accuracy"]) for row in points]).reshape(2, 3, 2)
    for norm, own in zip(norms, shares):
        told = [f"{a:.2f}, {b:.2f}, {c:.2f}; {(a + b + c) / 3:.2f}" for a, b, c in own.T]
        assert f"\nnorm {norm}   {told[0]}   {told[1]}\n" in printed


def test_figure_2_is_the_papers_five_networks_and_one_of_ours(branch, small, monkeypatch, capsys):
    """With its learning rates, and what 4.2.1 changes; the table is that of the histories."""
    small(branch, 60, 30)
    watched = watch(monkeypatch, branch)
    printed = typed_twice(branch, capsys, "figure2", *NARROW, "--epochs", 2, "--lr", 0.002)
    points = points_of(branch)
    assert [seen.run.settings.network for seen in watched[::2]] == [*FIGURE_2]
    for seen, (name, (lr, normalized, as_it_was, rectified)) in zip(watched[::2], FIGURE_2.items()):
        net, group, schedule = seen.model, seen.optimizer.param_groups[0], seen.schedule
        assert (
            schedule.base_lrs == pytest.approx([0.002 * lr / 0.0015]) and group["momentum"] == 0.9
        )
        assert type(net.conv1.norm) is (nn.BatchNorm2d if normalized else nn.Identity)
        assert (net.lrn, net.dropout) == ((True, 0.4) if as_it_was else (False, 0))
        assert group["weight_decay"] == pytest.approx(2e-4 if as_it_was else 4e-5)
        assert type(schedule) is torch.optim.lr_scheduler.StepLR and schedule.gamma == 0.96
        assert schedule.step_size == (6 if as_it_was and name != "Inception-decay" else 1)
        units = [part for part in net.modules() if hasattr(part, "activation")]
        below = {unit.activation(-torch.ones(1)).item() for unit in units}
        assert below == {0 if rectified else torch.tensor(-1.0).sigmoid().item()}
        own = [row for row in points if row["network"] == name]
        assert [row["step"] for row in own] == ["6", "12"]
        for column in (f"{what}_x{n}" for what in ("fall", "turn") for n in (1, 5, 30, 150)):
            assert all(math.isfinite(float(row[column])) for row in own)
        best = 100 * max(float(row["validation_accuracy"]) for row in own)
        assert line_of(printed, name)[-1] == f"{best:.2f}%"


def test_figure_2_tells_how_many_times_as_fast_each_is(branch, small, monkeypatch, capsys):
    """At Inception's best accuracy; one that diverges is left out."""
    curves = [[0.5, 0.75, 0.625], [0.5, 1.0, 0.5], [0.75, 0.875], [1.0, 0.75], [0.25, 0.5], None]
    curves = dict(zip(FIGURE_2, curves))

    def fit(recipe, measure):
        if (curve := curves[recipe.network]) is None:
            raise branch.errors.Diverged("training has diverged")
        columns = "epoch", "step", "validation_accuracy"
        rows = [dict(zip(columns, (n, 100 * n, value))) for n, value in enumerate(curve, 1)]
        return SimpleNamespace(settings=recipe, history=rows)

    small(branch)
    monkeypatch.setattr(branch.train, "fit", fit)
    lines = [" ".join(line.split()) for line in typed_twice(branch, capsys, "figure2").splitlines()]
    assert "Left out: training has diverged" in lines
    assert lines[-7:-1] == [
        "Steps to 75.00% of the validation images, Inception's best; the best of each",
        "Inception 200 (1.0 times as fast) 75.00%",
        "BN-Baseline 150 (1.3 times as fast) 100.00%",
        "BN-x5 100 (2.0 times as fast) 87.50%",
        "BN-x30 75 (2.7 times as fast) 100.00%",
        "BN-x5-Sigmoid never 50.00%",
    ]
    for curve in ([0.0, 0.0], None):  # then there is nothing to compare the others to
        curves["Inception"] = curve
        with pytest.raises(branch.errors.Diverged, match="nothing to compare"):
            typed_twice(branch, capsys, "figure2")
    assert "Steps" not in typed_twice(branch, capsys, "figure2", "--network", "BN-x5")  # alone


def test_the_dangers_are_three_sizes_without_and_with(branch, small, monkeypatch, capsys):
    small(branch, 60, 30)
    watched = watch(monkeypatch, branch)
    printed = typed_twice(branch, capsys, "dangers", "--epochs", 2, "--pixels", "binary")
    expected = [(size, norm) for size in ("2", "8", "60") for norm in ("none", "batch")]
    points = points_of(branch)[1::2]
    assert [(row["batch_size"], row["norm"]) for row in points] == expected
    columns = "validation_accuracy training_2 training_8 training_60 training_sorted".split()
    for seen, (size, norm), own in zip(watched[1::2], expected, points, strict=True):
        assert_plain_gradient_descent(seen)
        batches = [images for images, _ in seen.loader]
        assert {*map(len, batches)} <= {int(size), 60 % int(size)}
        assert torch.cat(batches).unique().tolist() == [0, 1]
        told = line_of(printed, f"norm {norm}, batches of {size}")
        assert told == [f"{100 * float(own[column]):.2f}" for column in columns]
        assert norm == "batch" or len({*told}) == 1  # without it, it is the same in both modes


def test_a_batch_of_one_image_is_refused_at_once(branch, small, monkeypatch):
    """Before the networks without normalization are trained."""
    small(branch, 60, 20)
    watched = watch(monkeypatch, branch)
    for name, size in (("figure1", 20), ("figure2", 20), ("dangers", 40)):
        done = branch("experiments.py", name, "--limit", 41, "--batch-size", size)
        assert done.code == 2 and "no variance" in done.err and not watched
