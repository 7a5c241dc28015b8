"""The experiments with shortcuts: hand-made networks, stock layers, small data."""

import statistics
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from test_relu_experiments import points_of, typed_twice, watch
from torch import nn
from torch.nn import functional as F

NAME = "ResNet"
CPU = torch.device("cpu")
SMALL = "--epochs 1 --limit 60 --batch-size 30 --width 0.25".split()
COLUMNS = ("train_loss", "train_accuracy", "validation_accuracy", "gradient_1")


def test_the_probe_measures_what_layers_give_and_how_far_gradients_reach(branch):
    """Against a plain network of stock functions, put together by hand."""
    torch.manual_seed(0)
    net = branch.model.CifarResNet(1, depth=8, width=1 / 4, shortcut="none").double()
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    images, labels = torch.randn(40, 1, 14, 14, dtype=torch.double), torch.arange(40) % 10
    found = branch.experiments.probe(None, net, None, [(images, labels), None])
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())

    layers = [part for part in net.modules() if isinstance(part, (nn.Conv2d, nn.BatchNorm2d))]
    x, expected = images, {}
    for i, (conv, norm) in enumerate(zip(layers[::2], layers[1::2]), start=1):
        x = F.conv2d(x, conv.weight, None, conv.stride, 1)
        x = F.batch_norm(x, None, None, norm.weight, norm.bias, True)
        expected[f"response_{i}"] = x.std().item()
        x = F.relu(x)
    F.cross_entropy(net.fc(x.mean((2, 3))), labels).backward()
    for i, conv in enumerate(layers[::2], start=1):
        expected[f"gradient_{i}"] = (conv.weight.grad.norm() / conv.weight.norm()).item()
    assert found == pytest.approx(expected) and len(expected) == 14


def test_a_flag_that_would_spoil_the_comparison_is_refused(branch):
    done = branch("experiments.py", "ablations", "--shortcut", "C", *SMALL)
    assert done.code == 2 and "--shortcut" in done.err and not branch.runs()


@pytest.mark.parametrize("width, fast", [(0.25, False), (0.5, True)])
def test_narrow_projections_are_not_in_the_layout_that_crashes(branch, width, fast):
    settings = branch.parse("--precision", "fp32")
    net = branch.device.place(branch.model.CifarResNet(1, width=width, shortcut="B"), CPU, settings)
    *_, last = (layer for layer in net.modules() if isinstance(layer, nn.Conv2d))
    assert last.weight.is_contiguous(memory_format=torch.channels_last) == fast


@pytest.mark.parametrize("knobs", [{"shortcut": "C"}, {"preactivation": True}, {"norm": False}])
def test_the_probe_leaves_shortcuts_out(branch, knobs):
    net = branch.model.CifarResNet(1, depth=8, width=1 / 4, **knobs)
    batch = torch.randn(4, 1, 14, 14), torch.arange(4)
    kinds = Counter(
        name.split("_")[0] for name in branch.experiments.probe(None, net, None, [batch])
    )
    assert kinds == {"gradient": 7} | ({"response": 7} if knobs.get("norm", True) else {})


def row_of(printed, label):
    """The cells of the line that begins with a label."""
    (line,) = [line for line in printed.splitlines() if line.startswith(f"{label} ")]
    return [" ".join(line[22 * i + 22 :][:22].split()) for i in range(len(COLUMNS))]


def expected_row(points):
    """Mean and standard deviation over the seeds of what a network comes to in its last epoch."""
    cells = []
    for column in COLUMNS:
        values = [float(row[column]) for row in points]
        cells.append(f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}")
    return cells


def test_degradation_is_every_depth_with_and_without_shortcuts(branch, small, monkeypatch, capsys):
    small(branch, 60, 30)
    watched = watch(monkeypatch, branch)
    monkeypatch.setattr(branch.experiments, "DEPTHS", (8, 14))
    monkeypatch.setattr(branch.experiments, "SEEDS", 2)
    printed = typed_twice(branch, capsys, "degradation", *SMALL)
    points = points_of(branch)
    networks = [(shortcut, depth) for shortcut in ("none", "A") for depth in ("8", "14")]
    assert [(row["shortcut"], row["depth"], row["seed"]) for row in points] == [
        (*network, seed) for network in networks for seed in "01"
    ]
    for seen, (shortcut, depth) in zip(watched[::2], networks, strict=True):
        kinds = {type(block.shortcut).__name__ for block in seen.model.conv2_x}
        assert kinds == {"Scaled" if shortcut == "none" else "Identity"}
        images, _ = next(iter(seen.loader))
        assert len(seen.model.conv3_x) == (int(depth) - 2) // 6 and images.shape[2:] == (14, 14)
    for i, (shortcut, depth) in enumerate(networks):
        label = f"{'plain' if shortcut == 'none' else 'residual'}, {depth} layers"
        assert row_of(printed, label) == expected_row(points[2 * i : 2 * i + 2])


def test_the_ablations_differ_from_the_residual_network_in_one_thing(branch, monkeypatch):
    """One that diverges is left out; where all do, there is nothing to compare."""
    seen, compared, diverging = [], [], ["half"]

    def fit(recipe, measure):
        if recipe.network in diverging:
            raise branch.errors.Diverged("training has diverged")
        seen.append(recipe)
        return SimpleNamespace(settings=recipe, history=[dict.fromkeys(COLUMNS, 0.5)])

    monkeypatch.setattr(branch.train, "fit", fit)
    monkeypatch.setattr(branch.experiments, "compare", lambda *words: compared.append(words))
    base, networks = branch.experiments.ABLATIONS["laptop"], branch.experiments.NETWORKS
    branch.experiments.ablations(base)
    different = {
        "A": {},
        "B": {"shortcut": "B"},
        "C": {"shortcut": "C"},
        "preactivation": {"preactivation": True},
        "no-norm": {"norm": False, "lr": networks["no-norm"]["lr"]},
    }
    assert seen == [
        base.but(network=name, seed=seed, **changes)
        for name, changes in different.items()
        for seed in range(3)
    ]
    assert base.shortcut == "A" and networks["half"] == {"shortcut_scale": 0.5}
    ((_, _, runs, curves, _),) = compared
    assert len(runs) == 15 and curves == {"32 layers": {name: [[0.5]] * 3 for name in different}}
    diverging += networks
    with pytest.raises(branch.errors.Diverged, match="nothing to compare"):
        branch.experiments.ablations(base)


@pytest.mark.parametrize("typed, rate", [("", "1e-05"), ("--lr 1e-6", "1e-06"), ("--lr 1", "1.0")])
def test_a_rate_that_is_given_is_that_of_the_network_without_normalization(
    branch, monkeypatch, typed, rate
):
    """Where none is given, it has one of its own, at which it does not diverge."""
    seen, words = [], ["ablations", "--network", "no-norm", *typed.split()]
    monkeypatch.setattr(branch.experiments, "race", lambda *arguments: seen.append(arguments))
    with branch.imported():
        branch.compare.experiment("", branch.experiments.EXPERIMENTS, words)
    ((_, _, panels),) = seen
    name = panels["32 layers"]["no-norm"].title()
    assert name == f"laptop-experiment-ablations-lr-{rate}-no-norm-network-no-norm-seed0"
