"""The experiments with the rectifier: naive loops, numpy, tables made by hand, small data."""

import csv
import itertools
import math
import shutil
from types import SimpleNamespace

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F

NAME = "ReLU"


@pytest.fixture
def lab(branch):
    return branch.experiments


def watch(monkeypatch, branch):
    """A list of all epochs from now on: run, number, loader, first weights, Run.epochs()' state."""
    epochs, batches = [], branch.run.Run.batches

    def watched(run, loader):
        weights = [p.detach().clone() for p in run.state["model"].parameters()]
        now = {"run": run, "number": run.epoch, "loader": loader, "weights": weights, **run.state}
        epochs.append(SimpleNamespace(**now))
        return batches(run, loader)

    monkeypatch.setattr(branch.run.Run, "batches", watched)
    return epochs


def typed_twice(branch, capsys, *words):
    """What an experiment prints; typed again, it trains nothing, and prints and writes the same."""
    told, files = [], []
    for _ in range(2):
        with branch.imported():
            branch.compare.experiment("", branch.experiments.EXPERIMENTS, [*map(str, words)])
        told.append(capsys.readouterr().out)
        files.append({path: path.read_bytes() for path in branch.home.glob("checkpoints/*/*/*")})
    assert files[0] == files[1]
    assert told[0].endswith(told[1].rpartition("drops this result\n")[2])
    return told[0]


def points_of(branch):
    """points.csv: every epoch of every finished run, once; lr, if it stands first, is a setting."""
    (path,) = branch.home.glob("checkpoints/*/*/points.csv")
    points = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    rows = [(row, r["settings"]["lr"]) for r in branch.runs().values() for row in r["history"]]
    assert len(points) == len(rows) and path.with_name("curves.png").exists()
    for row, lr in rows:
        (point,) = [point for point in points if point["seconds"] == str(row["seconds"])]
        told = row | {"lr": lr} if [*point].index("lr") < [*point].index("epoch") else row
        assert all(point[key] == str(value) for key, value in told.items())
    return points


# The loss of a ReLU classifier


def kerass_loss(rows, labels):
    """Divided by their sum, kept from 0 and from 1, and the right one's logarithm: the mean."""
    losses = []
    for row, label in zip(rows, labels, strict=True):
        share = row[label] / sum(row) if sum(row) else 0.0
        losses.append(-math.log(min(max(share, 1e-7), 1 - 1e-7)))
    return sum(losses) / len(losses)


def test_the_loss_of_a_relu_classifier_equals_a_naive_loop(lab):
    """And its gradient the loop's differences; some outputs are 0, or all but the right one."""
    torch.manual_seed(0)
    scores = torch.randn(8, 5, dtype=torch.float64).clamp(min=0)
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])
    scores[range(5), labels[:5]] += 0.5
    scores[5] = torch.tensor([2.0, 0, 0, 0, 0])
    scores[6] = torch.tensor([1.0, 0, 3, 0, 0])
    rows, right = scores.tolist(), labels.tolist()
    loss = lab.normalized_cross_entropy(scores.requires_grad_(), labels)
    assert loss.item() == pytest.approx(kerass_loss(rows, right), rel=1e-12)
    loss.backward()
    for i, j in itertools.product(range(5), repeat=2):
        up, down = ([[*row] for row in rows] for _ in range(2))
        up[i][j] += 1e-6
        down[i][j] -= 1e-6
        slope = (kerass_loss(up, right) - kerass_loss(down, right)) / 2e-6
        assert scores.grad[i, j].item() == pytest.approx(slope, rel=1e-6, abs=1e-9)
    single = lab.normalized_cross_entropy(scores.detach().float(), labels)
    assert single.item() == pytest.approx(loss.item(), rel=1e-5)


def test_an_image_whose_right_output_is_silent_teaches_nothing(lab):
    """If all of them are, too, and the other images of the batch do not suffer."""
    scores = torch.tensor([[0.0, 0, 0], [2, 0, 5], [0, 3, 1]], requires_grad=True)
    labels = torch.tensor([1, 1, 1])
    loss = lab.normalized_cross_entropy(scores, labels)
    assert loss.item() == pytest.approx((-2 * math.log(1e-7) - math.log(3 / 4)) / 3)
    loss.backward()
    assert (scores.grad[:2] == 0).all()
    assert scores.grad[2].tolist() == pytest.approx([1 / 12, 1 / 12 - 1 / 9, 1 / 12])
    net = nn.Dropout(0.99).train()  # which gives what it is given, if nothing is dropped
    loader = [(scores[:2], labels[:2]), (scores[2:], labels[2:])]
    found = lab.silent(net, loader)
    assert found == pytest.approx({"silent_classes": 0, "silent_right": 2 / 3}) and net.training
    assert lab.silent(net, [(scores * torch.tensor([0, 1, 1]), labels)])["silent_classes"] == 1


# The images


def test_principal_components_are_numpys(lab):
    """Those of the training images, of others, too; pixels that are the same in all say nothing."""
    draws = numpy.random.default_rng(0)
    mixing = draws.normal(size=(324, 324))
    pixels = numpy.clip(128 + 3 * draws.normal(size=(500, 324)) @ mixing, 0, 255).round()
    pixels[:400, :5] = 0, 1, 37, 200, 255
    images = torch.tensor(pixels).to(torch.uint8).view(-1, 1, 18, 18)
    found = lab.principal_components(images[:400])(images)
    assert found.shape == (500, 1, 16, 16) and found.dtype == torch.float32
    ours = found.double().flatten(1).numpy()
    scaled = (pixels - pixels[:400].mean(0)) / pixels[:400].std(0).clip(1e-9)
    scaled[:, :5] = 0
    expected = scaled @ numpy.linalg.svd(scaled[:400], full_matrices=False)[2][:256].T
    sign = numpy.sign((ours[:400] * expected[:400]).sum(0))
    assert numpy.allclose(ours * sign, expected, atol=1e-3)


def test_the_folds_are_disjoint_and_alike_and_together_everything(branch, lab):
    """Of 103 images, each of a value of its own, in classes of unequal size."""
    images = torch.arange(103, dtype=torch.uint8).view(-1, 1, 1, 1)
    labels = torch.tensor(([0] * 5 + [1] * 3 + [2] * 2) * 11)[:103]
    other = (images[:4] + 150, labels[:4])
    whole = branch.images.Data(("a", "b", "c"), 1, (images, labels), other, other, None)
    held = []
    for number in range(1, 6):
        fold = lab.fold(whole, number, 5)
        places, names = (torch.cat(parts) for parts in zip(fold.train, fold.validation))
        places = places.flatten().long()
        assert torch.equal(places.sort().values, torch.arange(103)) and fold.test is other
        assert torch.equal(names, labels[places])
        assert (fold.validation[1].bincount() - labels.bincount() / 5).abs().max() < 1
        held += fold.validation[0].flatten().tolist()
    assert sorted(held) == list(range(103)) and len(whole.train[0]) == 103


def test_when_a_curve_is_at_a_level(lab):
    """Each value stands for the middle of its epoch."""
    for curve, times in [
        ([0.75, 0.5, 0.25], {0.5: 1.5, 0.375: 2, 0.6875: 0.75, 0.25: 2.5, 0.125: math.inf}),
        ([0.5, 0.75, 0.25, 0.5], {0.375: 2.25}),
        ([0.5, 0.5, 0.125], {0.25: 1.5 + 2 / 3}),
        ([0.75], {0.5: math.inf}),
        ([0.25, 0.5], {0.5: 0.5}),
        ([0.5, 0.25], {0.5: 0.5}),
    ]:
        assert {level: lab.crossing(curve, level) for level in times} == pytest.approx(times)


# The experiments


@pytest.fixture
def experiment(branch, lab, small, monkeypatch, capsys):
    """Run an experiment on 60 images, where a rate of 1 diverges: what it prints."""

    def race(recipe):
        if recipe.lr == 1:
            raise branch.errors.Diverged("training has diverged")
        return genuine(recipe)

    genuine = lab.race
    small(branch, 60, 20)
    monkeypatch.setattr(lab, "race", race)
    monkeypatch.setattr(lab, "IMAGES", 60)
    return lambda *words: typed_twice(branch, capsys, *words)


def assert_scale(seen, scaled):
    """The pixels less their mean and weights of 0.01, or both scaled, the pixels as LeNet's are."""
    assert seen.weights[0].std().item() == pytest.approx(1 / 5 if scaled else 0.01, rel=0.2)
    images = torch.cat([images for images, _ in seen.loader])
    pixels = images[:, :, 2:30, 2:30]
    assert images.shape[1:] == (1, 32, 32) and (images[:, :, :2] == images[0, 0, 0, 0]).all()
    if scaled:
        assert (pixels.min().item(), pixels.max().item()) == pytest.approx((-0.1, 1.175))
    else:
        assert pixels.mean().abs() < 1e-3 * pixels.std() and pixels.std() > 50


def test_the_race_chooses_a_rate_on_a_part_and_trains_on_all(branch, experiment, lab, monkeypatch):
    """A rate at which training diverges is not chosen."""
    monkeypatch.setattr(lab, "COMPARED", ("relu", "tanh"))
    monkeypatch.setattr(lab, "RATES", (1, 0.001, 0.01))
    watched = watch(monkeypatch, branch)
    experiment("activation", "--epochs", 2, "--batch-size", 10)
    points, names = points_of(branch), lab.COMPARED
    losses = {(row["activation"], row["lr"]): float(row["train_loss"]) for row in points[:8]}
    best = {name: min(("0.001", "0.01"), key=lambda lr: losses[name, lr]) for name in names}
    trials = [("15", name, lr, "0") for name in names for lr in ("0.001", "0.01")]
    finals = [("", name, best[name], seed) for name in names for seed in "012"]
    told = [(row["limit"], row["activation"], row["lr"], row["seed"]) for row in points]
    assert told == [run for run in trials + finals for _ in range(2)]
    assert [len(seen.loader) for seen in watched] == 8 * [2] + 12 * [6]
    for seen in watched[::2]:
        assert seen.run.result["split"] == "validation"
        assert_scale(seen, scaled=False)


def test_the_race_tells_when_each_is_at_the_error(branch, experiment, lab, monkeypatch):
    """If these are its errors by seed, and its loss is lower with the second rate in the end."""
    errors = {
        "relu": ([0.75, 0.25, 0.125], [0.5, 0.25, 0.25], [1.0, 0.5, 0.5]),
        "squash": 3 * ([1.0, 0.75, 0.5],),
        "tanh": ([0.75, 0.25, 0.25], [1.0, 1.0, 0.5], [1.0, 1.0, 0.75]),
        "sigmoid": ([0.5, 0.25, 0.25], [0.5, 0.25, 0.25], None),  # diverged
    }

    def race(recipe):
        if (curve := errors[recipe.activation][recipe.seed]) is None:
            raise branch.errors.Diverged("training has diverged")
        keys, slope = ("epoch", "train_accuracy", "train_loss"), 0.03 - recipe.lr
        rows = [zip(keys, (n, 1 - e, slope * (n - 1.5))) for n, e in enumerate(curve, 1)]
        return SimpleNamespace(settings=recipe, history=[*map(dict, rows)])

    monkeypatch.setattr(lab, "race", race)
    monkeypatch.setattr(lab, "RATES", (0.01, 0.02))
    lines = experiment("activation", "--error", 0.5).splitlines()[-5:-1]
    assert [" ".join(line.split()) for line in lines] == [
        "relu lr 0.02 1.00, 0.50, 1.50; 1.00, 1.0 times ReLU's",
        "squash lr 0.02 2.50, 2.50, 2.50; 2.50, 2.5 times ReLU's",
        "tanh lr 0.02 not by every seed in 9 epochs",
        "sigmoid lr 0.02 not by every seed in 9 epochs",
    ]


def test_rates_too_high_are_tried_by_three_seeds_each(branch, experiment, lab, monkeypatch):
    """On a part of the images; where training diverges, that is told."""
    monkeypatch.setattr(lab, "TOO_HIGH", (1, 0.001))
    watched = watch(monkeypatch, branch)
    printed = experiment("dead", "--epochs", 1, "--batch-size", 10)
    points, names = points_of(branch), ("relu", "leaky", "gelu")
    assert [(row["lr"], row["activation"], row["seed"]) for row in points] == [
        ("0.001", name, seed) for name in names for seed in "012"
    ]
    for name in names:
        own = [row for row in points if row["activation"] == name]
        ends = [(1 - float(row["train_accuracy"]), float(row["dead_conv2"])) for row in own]
        told = ", ".join(f"{100 * error:.1f}% ({100 * dead:.0f}%)" for error, dead in ends)
        assert f"lr 0.001 {name:<6} {told}\n" in printed
        assert f"lr 1     {name:<6} diverged, diverged, diverged\n" in printed
    for seen in watched:
        assert len(seen.loader) == 2
        assert_scale(seen, scaled=True)


def test_folds_are_left_out_in_turn_and_each_begins_with_a_new_model(
    branch, experiment, lab, monkeypatch
):
    """But for one comparison; and its principal components know nothing of the images left out."""
    watched = watch(monkeypatch, branch)
    printed = experiment("classifier", "--epochs", 2, "--folds", 2)
    for row in points_of(branch):
        assert (row["silent_classes"] != "") == (row["classifier"] == "relu")
    kinds = [(network, True, name) for network in ("ffnn", "cnn") for name in ("softmax", "relu")]
    kinds += [("ffnn", False, name) for name in ("softmax", "relu")]
    starts = [seen for seen in watched if seen.number == 1]
    keys = "network", "reset", "classifier", "fold", "seed"
    told = [tuple(getattr(seen.run.settings, key) for key in keys) for seen in starts]
    assert told == [(*kind, fold, fold - 1) for fold in (1, 2) for kind in kinds]
    whole = branch.images.load(lab.CLASSIFIER["laptop"])
    data = {n: lab.fold(whole, n, 2) if n else whole for n in (0, 1, 2)}
    components = {n: lab.principal_components(part.train[0]) for n, part in data.items()}
    for n, (seen, (network, reset, name, fold, _)) in enumerate(zip(starts, told)):
        net = {"cnn": lab.CNN, "ffnn": lab.FFNN}[network](10, name).eval().requires_grad_(False)
        net.load_state_dict(seen.run.best["weights"])
        criterion = lab.normalized_cross_entropy if name == "relu" else F.cross_entropy
        prepare = components[fold if reset else 0]
        found = seen.run.history[-1]["validation_loss"], seen.run.result["metrics"]["loss"]
        for (images, labels), loss in zip((data[fold].validation, data[fold].test), found):
            assert loss == pytest.approx(criterion(net(prepare(images)), labels).item(), rel=1e-4)
        assert seen.run.result["epoch"] == 2
        before = starts[n - 6].run.best["weights"].values()
        assert fold == 1 or all(map(torch.equal, before, seen.weights)) == (not reset)
    runs = [seen.run for seen in starts[3::6]]
    left_out = [100 * run.history[-1]["validation_accuracy"] for run in runs]
    tested = [100 * run.result["metrics"]["accuracy"] for run in runs]
    words = [f"{numpy.mean(own):.2f} ± {numpy.std(own, ddof=1):.2f}" for own in (left_out, tested)]
    assert f"\ncnn   relu     reset     {words[0]}  {words[1]}\n" in printed
    last = starts[-1].run
    shutil.rmtree(last.folder)
    branch("experiments.py", "classifier", "--epochs", 2, "--folds", 2)
    again = branch.runs()[last.folder.name]["weights"]
    assert all(torch.equal(again[key], value) for key, value in last.best["weights"].items())
