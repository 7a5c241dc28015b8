"""What every branch has to be, continued: its trainings, and what they leave behind."""

import json
import math
import re

from conftest import NAMES, PARTS, ROOT, TOY, clean, images_only

import golden
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Doubled(TorchDispatchMode):
    """Counts what is converted to float64, which Apple's GPUs do not have."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.dtype == torch.double:
            of = args[0].dtype if args and isinstance(args[0], torch.Tensor) else None
            self.count += of in (torch.float, torch.bfloat16)
        return found


def outcome(branch, *words):
    """What a short training comes to, without its times, and what it prints."""
    done = branch("train.py", *words)
    assert done.code == 0, done.err
    (saved,) = branch.runs().values()
    times = ("seconds", "examples_per_second")
    rows = [{k: v for k, v in row.items() if k not in times} for row in saved["history"]]
    return rows, saved["weights"], saved["result"]["metrics"], done.out


def test_a_run_that_died_ends_with_the_same_bits_and_then_is_finished(branch, monkeypatch):
    """It dies in its second epoch, after the first of two steps, which was saved if it can be."""
    words = ("--epochs", 2, "--batch-size", 50, "--limit", 100, "--seed", 5)
    words += (*smaller(branch, "laptop"),)
    rows, weights, metrics, _ = outcome(branch, *words)
    in_one_go, often = "language" in PARTS.get(branch.name, ()), ("--checkpoint-every", 1e-9)
    if in_one_go:
        refused = branch("train.py", *words, *often, "--fresh")
        assert refused.code == 2 and "saved after it" in refused.err and branch.runs()
    clean(branch)
    words += () if in_one_go else often

    class Death(BaseException):
        pass

    def die_in_the_second(self, values):
        if self.title.startswith("epoch 2") and self.seen:
            raise Death
        log(self, values)

    log = branch.meter.Meter.log
    monkeypatch.setattr(branch.meter.Meter, "log", die_in_the_second)
    with pytest.raises(Death):
        branch("train.py", *words)
    monkeypatch.setattr(branch.meter.Meter, "log", log)
    (path,) = (branch.home / "checkpoints").glob("*/*/state.pt")
    middle = torch.load(path, weights_only=True)["middle"]
    assert in_one_go if middle is None else middle["order"]["place"] == 1
    again, resumed, tested, printed = outcome(branch, *words)
    assert "1 of them done before" in printed
    assert again == rows and tested == metrics and resumed.keys() == weights.keys()
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)

    done = branch("train.py", *words)
    assert done.code == 0 and "finished before" in done.out and "--fresh" in done.out


def test_a_batch_may_come_in_parts_and_its_gradients_are_the_same(branch, monkeypatch):
    """But for dropout and batch statistics."""
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, *_, **__: x)
    words = ["--epochs", 1, "--batch-size", 20, "--limit", 20, *smaller(branch, "laptop")]
    found = []
    for more in ([], ["--micro-batch", 8]):
        rows, weights, *_ = outcome(branch, *words, *more, "--fresh")
        found.append((rows[0]["train_loss"], weights))
    (loss, weights), (other, others) = found
    tolerance = 0.2 if branch.name in golden.CHAOTIC else 1e-4
    assert other == pytest.approx(loss, rel=tolerance)
    for name, weight in weights.items() if tolerance < 0.1 else ():
        torch.testing.assert_close(others[name], weight, rtol=1e-2, atol=2e-4)


def test_what_a_finished_run_leaves(branch):
    """All that is needed to use it elsewhere: weights, classes, the shape of an input."""
    with Doubled() as doubled:
        rows, weights, metrics, printed = outcome(branch, "--epochs", 1, "--limit", 100)
    assert not doubled.count
    ((title, saved),) = branch.runs().items()
    assert title == "laptop-epochs-1-limit-100-seed0"
    folder = branch.home / "checkpoints" / branch.name / title
    images = "images" in PARTS.get(branch.name, ())
    left = {"weights.pt", "history.csv", *(["predictions.csv"] if images else [])}
    assert {path.name for path in folder.glob("[!.]*")} == left
    assert str(folder) in printed and len(rows) == 1
    assert all(math.isfinite(value) for value in metrics.values())
    assert saved["settings"]["recipe"] == "laptop" and saved["settings"]["seed"] == 0
    assert {"model.py", "train.py"} <= saved["provenance"]["code"].keys()
    assert saved["result"]["parameters"] > 0 and saved["result"]["macs"] > 0
    if images:
        assert len(saved["classes"]) == 10 and len(saved["input"]) == 3


def smaller(branch, recipe):
    """Flags that make a network narrow, and what the recipe `paper` shows it small."""
    fields = {field.name for field in branch.settings.flags(branch.train.Recipe)}
    narrow = {"width": 0.125, "blocks": 32, "units": 32, "d_model": 16}
    words = [
        f"{branch.settings.flag(name)}={value}" for name, value in narrow.items() if name in fields
    ]
    if recipe == "paper" and "scales" in fields:
        words += ["--scales", 64, 80, "--side", 80, "--image-size", 64]
        words += ["--test-scales", 64, 80] if "test_scales" in fields else []
    return words


def test_each_recipe_takes_photographs_of_any_shape(branch, photographs):
    """A run on a folder is named for what it is: there are no test images."""
    images_only(branch)
    for recipe in branch.train.RECIPES:
        words = ["--recipe", recipe, "--data", photographs, "--workers", 0, "--epochs", 1]
        words += ["--batch-size", 16, "--limit", 8] if recipe == "paper" else ["--batch-size", 8]
        words += smaller(branch, recipe)
        done = branch("train.py", *words)
        if branch.name == "LeNet" and recipe == "paper":  # see optimizer.py
            assert done.code == 2 and "in memory" in done.err
            continue
        assert done.code == 0, done.err
        ((title, saved),) = branch.runs().items()
        assert "workers" not in title and "workers" not in saved["settings"]
        assert saved["result"]["split"] == "validation" and "\nValidation: " in done.out
        assert saved["classes"] == ("cat", "dog") and "8 cat" in done.out
        clean(branch)


def test_each_recipe_takes_small_color_images_in_memory(branch):
    """What --data cifar10 gives."""
    images_only(branch)
    for recipe in branch.train.RECIPES:
        words = ["--recipe", recipe, "--data", "cifar10", "--batch-size", 4, "--dry-run"]
        words += smaller(branch, recipe)
        done = branch("train.py", *words)
        assert done.code == 0, done.err


def test_a_finished_run_says_what_pictures_show(branch):
    """And one that is not finished says so, and trains nothing; see test_predict.py."""
    if "classification" not in PARTS.get(branch.name, ()):
        pytest.skip("classifies nothing")
    words = ["--epochs", 1, "--limit", 100, *smaller(branch, "laptop")]
    predict = "--predict", branch.home / "data" / "examples"
    refused = branch("train.py", *words, *predict)
    assert refused.code == 2 and len(refused.err.splitlines()) == 1
    assert "holds no finished run" in refused.err
    assert not [*(branch.home / "checkpoints").glob("*/*")]
    outcome(branch, *words)
    done = branch("train.py", *words, *predict)
    assert done.code == 0 and not done.err
    assert len(re.findall(r"\.png: \S.* \d+\.\d%(, \S.* \d+\.\d%){4}\n", done.out)) == 6
    left = {path.name for path in (branch.home / "checkpoints").glob("*/*/predict*")}
    assert left == {"predictions.csv", "predict.csv", "predict-ankle-boot.png"}


def test_model_py_meets_the_papers_figures(branch):
    done = branch.layers
    assert not done.code, done.out
    met = r"Every figure on the right is met(\.|; those in quotes)"
    assert re.search(rf"{met}|Every number of weights is the paper's\.", done.out)


def test_the_first_steps_are_those_on_record(branch, fashion_mnist, monkeypatch):
    """With a tolerance for other processors and versions; see golden.py."""
    if branch.name == TOY:
        pytest.skip("has no record")
    monkeypatch.undo()  # all of the data
    if "images" in PARTS[branch.name]:
        monkeypatch.setattr(branch.images, "by_name", lambda name: fashion_mnist)
    recorded = json.loads((golden.FOLDER / f"{branch.name}.json").read_text(encoding="utf-8"))
    assert recorded.keys() == branch.train.RECIPES.keys()
    for recipe, expected in recorded.items():
        found = golden.curve(branch, recipe)
        assert found["losses"] == pytest.approx(expected.pop("losses"), rel=2e-3)
        for key, value in expected.items():
            if isinstance(value, dict):
                assert found[key].keys() == value.keys() and found[key]["name"] == value["name"]
                numbers = {k: v for k, v in value.items() if k not in ("name", "betas")}
                assert {k: found[key][k] for k in numbers} == pytest.approx(numbers)
            else:
                assert found[key] == pytest.approx(value)


def test_a_new_task_takes_few_lines():
    """Of plumbing: the toy's part of some_branches/."""
    lines = [
        line
        for path in (ROOT / "tests/toy/some_branches").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert 0 < len(lines) < 100


# Long: `make test-full`


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_trained_network_can_be_exported(every_branch, small, name):
    """As the branch's README shows: of images, for any size of a batch."""
    branch, shapes = every_branch[name], None
    small(branch)
    run = branch.train.fit(branch.parse("--limit", 100, "--epochs", 1))
    again = branch.train.fit(branch.parse("--limit", 100, "--epochs", 1))
    clean(branch)
    network, trained = again.model.eval(), run.model.eval()
    if "images" in PARTS[name]:
        shapes = ({0: torch.export.Dim("batch")},)
        example, other = (torch.zeros(2, *again.input),), (torch.randn(3, *run.input),)
    elif "language" in PARTS[name]:
        number = torch.zeros(1, 1, dtype=torch.long)
        example = number, network(number)[1]
        other = number + 5, trained(number + 3)[1]
    else:
        example = torch.ones(1, 30).long(), torch.ones(1, 40).long()
        other = tuple(torch.randint(3, 9, part.shape) for part in example)
    program = torch.export.export(network, example, dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(*other), trained(*other))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_learns_in_two_epochs(every_branch, name):
    """A tenth of the images would be guessed; so would 4.8 bits, counting characters alone."""
    branch = every_branch[name]
    few = ("--limit", 20_000) if "language" in PARTS[name] else ()
    done = branch("train.py", "--epochs", 2, *few)
    (saved,) = branch.runs().values()
    clean(branch)
    assert done.code == 0
    metrics = saved["result"]["metrics"]
    assert metrics["accuracy"] > 0.6 if "accuracy" in metrics else metrics["bits"] < 3
