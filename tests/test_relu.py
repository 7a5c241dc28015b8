"""The rectifier against torch.relu, and the networks against the papers and stock layers."""

import re

from conftest import clean

import pytest
import torch
from torch.nn import functional as F

NAME = "ReLU"


@pytest.fixture
def lenet(every_branch):
    """The branch that this one builds on."""
    yield every_branch["LeNet"]
    clean(every_branch["LeNet"])


# The rectifier


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (9,), (2, 0, 3), (4, 3, 6, 5)], ids=str)
def test_the_rectifier_and_its_gradient_are_pytorchs(model, dtype, shape):
    """Exactly, where a is 0 or -0, too, and in the same layout in memory."""
    torch.manual_seed(0)
    a = torch.randn(shape, dtype=dtype)
    for zero in (0.0, -0.0):
        a = torch.where(torch.rand(shape) < 0.2, zero, a)
    for layout in (torch.contiguous_format, torch.channels_last)[: 1 + (a.dim() == 4)]:
        x, found = a.to(memory_format=layout), []
        gradient = torch.randn_like(x)
        for f in (model.ReLU.apply, torch.relu):
            leaf = x.clone().requires_grad_()
            found.append((f(leaf), *torch.autograd.grad(f(leaf), leaf, gradient)))
            assert torch.equal(leaf, a)
        for ours, theirs in zip(*found):
            assert torch.equal(ours, theirs) and ours.dtype == dtype
            assert ours.stride() == theirs.stride()


def test_the_gradient_equals_finite_differences(model):
    """At the corner, 0 comes from below and 1 from above; torch.relu takes 0."""
    torch.manual_seed(0)
    a = torch.randn(4, 5, dtype=torch.float64)
    a = (a + 0.1 * a.sign()).requires_grad_()  # away from the corner
    assert torch.autograd.gradcheck(model.ReLU.apply, a)
    assert torch.autograd.gradgradcheck(model.ReLU.apply, a)
    assert torch.autograd.gradgradcheck(lambda a: model.ReLU.apply(a) ** 3, a)
    for zero in (0.0, -0.0):
        a, h = torch.tensor(zero, dtype=torch.float64, requires_grad=True), 2.0**-20
        slopes = [(model.ReLU.apply(a + step) - model.ReLU.apply(a)) / step for step in (-h, h)]
        assert [*slopes, *torch.autograd.grad(model.ReLU.apply(a), a)] == [0, 1, 0]


# LeNet-5


def test_it_differs_from_lenet_in_activation_pooling_and_output_alone(model, lenet):
    """The same scores, gradients and initial weights, with either."""
    images, labels = torch.rand(4, 1, 32, 32), torch.tensor([3, 1, 4, 1])
    old = {"activation": "squash", "pooling": "subsampling", "output": "rbf"}
    new = {"activation": "relu", "pooling": "max", "output": "softmax"}
    for ours, theirs in ((old, {}), ({}, new)):
        found = []
        for module, knobs in ((model, ours), (lenet.model, theirs)):
            torch.manual_seed(7)
            net = module.LeNet5(**knobs)
            scores = net(images)
            gradients = torch.autograd.grad(F.cross_entropy(scores, labels), [*net.parameters()])
            found.append({**net.state_dict(), "scores": scores, **dict(enumerate(gradients))})
        assert found[0].keys() == found[1].keys()
        for key, value in found[0].items():
            assert torch.equal(value, found[1][key]) and value.abs().max() > 0


def test_images_and_loss_are_those_of_lenet(train, lenet):
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    assert torch.equal(train.prepare(images), lenet.train.prepare(images))
    scores, labels = -100 * torch.rand(6, 10), torch.arange(6)
    assert torch.equal(train.equation_9(scores, labels), lenet.train.equation_9(scores, labels))


def test_the_default_run_is_lenets_but_for_three_flags(branch, lenet, small):
    """Same images, loss, optimizer, schedule: the same bits as LeNet's own, with the three."""
    runs, flags = [], "--activation relu --pooling max --output softmax".split()
    for each, more in ((branch, ()), (lenet, flags)):
        small(each)
        assert each("train.py", "--limit", 400, "--epochs", 2, "--seed", 3, *more).code == 0
        runs += each.runs().values()
    ours, theirs = (run["weights"] for run in runs)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert runs[0]["result"]["metrics"] == runs[1]["result"]["metrics"]


def test_what_cannot_be_compared_is_refused(branch, small, tmp_path):
    small(branch, 60, 20)
    for words, named in ((("--data", tmp_path), "fashion-mnist"), (("--limit", 2), "--limit 2")):
        done = branch("experiments.py", "classifier", *words)
        assert done.code == 2 and named in done.err and not branch.runs()


def test_the_recipes_of_the_experiments_are_the_papers(branch):
    """As far as they are known: Figure 1 of AlexNet, and Agarap's code."""
    lab = branch.experiments
    race, agarap = lab.RACE["paper"], lab.CLASSIFIER["paper"]
    assert (race.data, race.error, race.width, race.start) == ("cifar10", 0.25, 1, "fixed")
    assert lab.EXPERIMENTS["scaled"][0] is lab.EXPERIMENTS["activation"][0]
    assert lab.EXPERIMENTS["scaled"][1]["paper"] == race.but(start="scaled")
    assert (agarap.folds, agarap.epochs, agarap.batch_size, agarap.lr) == (10, 32, 256, 1e-3)


@pytest.mark.parametrize(
    "words, count",
    [
        ("activation --activation tanh --lr 0.01", 1),
        ("dead --activation gelu --lr 0.1", 1),
        ("dead --lr 0.1", 3),
        ("classifier --network cnn --fold 3", 2),
        ("classifier --no-reset --classifier relu", 1),
        ("classifier --folds 1", "--folds 1"),
        ("classifier --fold 6", "--fold 6"),
        ("classifier --network cnn --no-reset", "--no-reset is for --network ffnn"),
    ],
)
def test_an_experiment_trains_what_its_flags_ask_for(branch, small, words, count):
    small(branch)
    done = branch("experiments.py", *words.split(), "--dry-run", "--batch-size", 8)
    if isinstance(count, str):
        assert done.code == 2 and count in done.err
    else:
        assert done.code == 0 and re.search(rf"{count} of {count}\b", done.out), done.out + done.err
        assert f"of {count + 1}" not in done.out
