"""What every branch has to be: the same files, flags and behaviour.

Tested here and nowhere else, over path.toml, and over a toy of another task (tests/toy), which
shows what a new task needs. What is special about a branch is in its own test file.
"""

import ast
import dataclasses
import json
import math
import re

import golden
import pytest
import torch

from conftest import MODELS, NAMES, ROOT, TOY, branches, clean

FAMILY = [(parent, model["name"]) for model in MODELS for parent in model["builds_on"]]
PARTS = {model["name"]: model["parts"] for model in MODELS}
FLAGS = "--recipe --data --epochs --batch-size --lr --seed --device --limit --fresh --dry-run"
BAD = [
    *("--epochs 0", "--epochs 2.5", "--batch-size -1", "--lr nan", "--lr 0", "--lr inf"),
    *("--limit 0", "--seed -1", "--seed 4294967296", "--device tpu", "--recipe feast"),
    *("--epoch 3", "--colour red", "surplus", "--data imaginary", f"--data {'x' * 300}"),
]


@pytest.fixture(params=[*NAMES, TOY])
def branch(request, every_branch, small):
    """Each branch, with nothing trained, and few images where it has any."""
    if request.param == TOY:
        branch = request.getfixturevalue("toy")
    else:
        branch = every_branch[request.param]
        small(branch)
    yield branch
    clean(branch)


def images_only(branch):
    if "images" not in PARTS.get(branch.name, ()):
        pytest.skip("has no images")


def commands(branch):
    """The commands of a branch, each as the words that begin it."""
    experiments = branch.experiments.EXPERIMENTS if "experiments" in branch.own else ()
    return [["train.py"], *(["experiments.py", name] for name in experiments)]


def recipes_of(branch, words):
    """The recipes behind a command."""
    return branch.experiments.EXPERIMENTS[words[1]][1] if len(words) > 1 else branch.train.RECIPES


def files(folder):
    hidden = ("__pycache__", "checkpoints")
    return {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and not any(part in hidden for part in path.relative_to(folder).parts)
    }


# Files


def test_its_files(branch):
    expected = "README.md summary.md model.py train.py requirements.txt LICENSE checkpoints harness"
    assert set(expected.split()) <= {path.name for path in branch.home.iterdir()}
    lines = (branch.home / "requirements.txt").read_text(encoding="utf-8").split()
    assert [line.split(">=")[0] for line in lines] == ["torch", "torchvision", "matplotlib", "tqdm"]
    data = branch.home / "data" / "FashionMNIST" / "raw"
    assert len([*data.glob("*.gz")]) == (4 if "images" in PARTS.get(branch.name, ()) else 0)


def test_no_file_of_the_plumbing_is_long_and_no_import_goes_in_a_circle(branch):
    """200 lines a file; train.py, too."""
    imports = {}
    for path in [*branch.home.glob("harness/*.py"), branch.home / "train.py"]:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 200, path.name
        assert "SystemExit" not in text and "excepthook" not in text, path.name
        found = imports.setdefault(path.stem, set())
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                top, _, rest = node.module.partition(".")
                if top == "harness":
                    found |= {rest} if rest else {alias.name for alias in node.names} - {"ROOT"}
    graph = {name: found & imports.keys() for name, found in imports.items()}
    [*branches.graphlib.TopologicalSorter(graph).static_order()]  # CycleError otherwise


@pytest.mark.parametrize("parent, child", FAMILY)
def test_a_branch_differs_from_its_parent_in_its_own_files_alone(laid_out, parent, child):
    ours, theirs = files(laid_out / child), files(laid_out / parent)
    shared = {path for path in ours if path.startswith(("harness/", "data/"))}
    shared |= {"requirements.txt", "LICENSE", ".gitignore", ".gitattributes"}
    if PARTS[child] == PARTS[parent]:
        assert shared <= theirs.keys()
    for path in shared & theirs.keys():
        assert ours[path].read_bytes() == theirs[path].read_bytes(), path


def test_what_an_earlier_branch_introduced_is_the_same_code_in_the_harness(branch):
    """Functions that stand in train.py and in vision.py, but for their docstrings."""
    images_only(branch)

    def functions(path):
        found = {}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                node.body = node.body[1:] if ast.get_docstring(node) else node.body
                found[node.name] = ast.dump(node)
        return found

    ours = functions(branch.home / "train.py")
    theirs = functions(branch.home / "harness" / "vision.py")
    for name in ours.keys() & theirs.keys() - {"center_crop"}:  # see test_alexnet.py
        assert ours[name] == theirs[name], name


# The command line


def test_its_help_teaches(branch):
    for words in commands(branch):
        done = branch(*words, "--help")
        assert done.code == 0
        assert all(flag in done.out for flag in FLAGS.split())
        kind = type(next(iter(recipes_of(branch, words).values())))
        with branch.imported():
            about = branch.settings.comments(kind)
        for field in branch.settings.flags(kind):
            assert about[field.name] and branch.settings.flag(field.name) in done.out
    assert "python train.py" in branch("train.py", "--help").out


@pytest.mark.parametrize("words", BAD)
def test_a_bad_flag_is_one_line_and_exit_code_2(branch, words):
    for command in commands(branch):
        done = branch(*command, *words.split())
        assert done.code == 2 and len(done.err.splitlines()) == 1, done
        assert done.err.startswith(f"{command[0]}: ")
        assert words.split()[0].removeprefix("--") in done.err or "counting" in done.err
    assert not [*(branch.home / "checkpoints").glob("*/*")]


def test_a_dry_run_writes_nothing(branch):
    before = files(branch.home).keys()
    for command in commands(branch):
        done = branch(*command, "--dry-run", "--batch-size", 8)
        assert done.code == 0, done.err
        assert "nothing written" in done.out
    assert files(branch.home).keys() == before
    assert not [*(branch.home / "checkpoints").glob("*/*")]


def test_an_experiment_has_to_be_named(branch):
    if "experiments" not in branch.own:
        pytest.skip("has no experiments")
    done = branch("experiments.py", "walk")
    assert done.code == 2 and len(done.err.splitlines()) == 1
    assert all(name in done.err for name in branch.experiments.EXPERIMENTS)
    for words in ([], ["--help"]):
        done = branch("experiments.py", *words)
        assert done.code == 0
        assert all(f"experiments.py {name}" in done.out for name in branch.experiments.EXPERIMENTS)


def ablations(branch):
    """The fields of the recipe that are on or off, or one of several; with the other values."""
    recipe = branch.train.RECIPES["laptop"]
    for field in branch.settings.flags(type(recipe)):
        if field.name in ("device", "fresh", "dry_run"):
            continue
        value = getattr(recipe, field.name)
        if field.type is bool:
            yield field.name, [not value]
        elif branch.values.parts(field.type)[0] is branch.values.Literal:
            yield field.name, [one for one in branch.values.parts(field.type)[1] if one != value]


def test_each_ablation_is_a_flag_that_runs(branch):
    batch = ("--dry-run", "--batch-size", 4)
    for name, values in ablations(branch):
        for value in values:
            flag = branch.settings.flag(name, value)
            done = branch("train.py", flag, *([] if type(value) is bool else [value]), *batch)
            assert done.code == 0, (flag, value, done.err)
            title = f"{flag[2:]}" if type(value) is bool else f"{flag[2:]}-{value}"
            assert f"-{title}-seed0" in done.out.replace("-batch-size-4", "")


def test_a_wrong_type_of_argument_is_an_error_and_never_another_network(branch):
    """In settings, and in the model, by the names that both have."""
    recipe = branch.train.RECIPES["laptop"]
    fields = {field.name: field for field in dataclasses.fields(recipe)}
    network = getattr(
        branch.model,
        {"ReLU": "LeNet5", "BatchNorm": "GoogLeNet"}.get(
            branch.name, next((m["class"] for m in MODELS if m["name"] == branch.name), TOY)
        ),
    )
    for name, _ in ablations(branch):
        wrong = ["on", 1, None] if fields[name].type is bool else ["other", 7, None, True]
        for value in wrong:
            with pytest.raises(branch.errors.Refusal, match=branch.settings.flag(name)[2:]):
                dataclasses.replace(recipe, **{name: value})
            with pytest.raises(ValueError, match=f"{name} is"), torch.device("meta"):
                network(**{name: value})


def test_what_the_model_refuses_is_one_line(branch):
    if "width" not in {field.name for field in branch.settings.flags(branch.train.Recipe)}:
        pytest.skip("has one width")
    done = branch("train.py", "--width", "0.0001", "--dry-run")
    assert done.code == 2 and len(done.err.splitlines()) == 1 and "width is" in done.err


# Training


def outcome(branch, *words):
    """What a short training comes to, without its times, and what it prints."""
    done = branch("train.py", *words)
    assert done.code == 0, done.err
    (saved,) = branch.runs().values()
    times = ("seconds", "examples_per_second")
    rows = [{k: v for k, v in row.items() if k not in times} for row in saved["history"]]
    return rows, saved["weights"], saved["result"]["metrics"], done.out


def test_a_run_that_died_ends_with_the_same_bits_and_then_is_finished(branch, monkeypatch):
    """It dies after its first epoch, and in the middle of its second."""
    words = ("--epochs", 2, "--batch-size", 50, "--limit", 100, "--seed", 5)
    rows, weights, metrics, _ = outcome(branch, *words)
    clean(branch)

    class Death(BaseException):
        pass

    def die_in_the_second(self, values):
        if self.title.startswith("epoch 2"):
            raise Death
        log(self, values)

    log = branch.meter.Meter.log
    monkeypatch.setattr(branch.meter.Meter, "log", die_in_the_second)
    with pytest.raises(Death):
        branch("train.py", *words)
    monkeypatch.setattr(branch.meter.Meter, "log", log)
    again, resumed, tested, printed = outcome(branch, *words)
    assert "1 of them done before" in printed
    assert again == rows and tested == metrics and resumed.keys() == weights.keys()
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)

    done = branch("train.py", *words)
    assert done.code == 0 and "finished before" in done.out and "--fresh" in done.out


def test_what_a_finished_run_leaves(branch):
    """All that is needed to use it elsewhere: weights, classes, the shape of an input."""
    rows, weights, metrics, printed = outcome(branch, "--epochs", 1, "--limit", 100)
    ((title, saved),) = branch.runs().items()
    assert title == "laptop-epochs-1-limit-100-seed0"
    folder = branch.home / "checkpoints" / branch.name / title
    assert {path.name for path in folder.iterdir()} == {"weights.pt", "history.csv"}
    assert str(folder) in printed and len(rows) == 1
    assert all(math.isfinite(value) for value in metrics.values())
    assert saved["settings"]["recipe"] == "laptop" and saved["settings"]["seed"] == 0
    assert {"model.py", "train.py"} <= saved["provenance"]["code"].keys()
    assert saved["result"]["parameters"] > 0 and saved["result"]["macs"] > 0
    if "images" in PARTS.get(branch.name, ()):
        assert len(saved["classes"]) == 10 and len(saved["input"]) == 3


@pytest.mark.parametrize("recipe", ["laptop", "paper"])
def test_each_recipe_takes_photographs_of_any_shape(branch, photographs, recipe):
    """A run on a folder is named for what it is: there are no test images."""
    images_only(branch)
    if recipe not in branch.train.RECIPES:
        pytest.skip("has no such recipe")
    fields = {field.name for field in branch.settings.flags(branch.train.Recipe)}
    words = ["--recipe", recipe, "--data", photographs, "--workers", 0, "--epochs", 1]
    words += ["--batch-size", 8] if recipe == "laptop" else ["--batch-size", 16, "--limit", 8]
    if recipe == "paper" and "width" in fields:
        words += ["--width", 0.125]
        words += (
            ["--scales", 64, 80, "--side", 80, "--image-size", 64] if "scales" in fields else []
        )
    done = branch("train.py", *words)
    if branch.name == "LeNet" and recipe == "paper":  # see optimizer.py
        assert done.code == 2 and "in memory" in done.err
        return
    assert done.code == 0, done.err
    ((title, saved),) = branch.runs().items()
    assert "workers" not in title and "workers" not in saved["settings"]
    assert saved["result"]["split"] == "validation" and "\nValidation: " in done.out
    assert saved["classes"] == ("cat", "dog") and "8 cat" in done.out


@pytest.mark.parametrize("recipe", ["laptop", "paper"])
def test_each_recipe_takes_small_color_images_in_memory(branch, recipe):
    """What --data cifar10 gives."""
    images_only(branch)
    if recipe not in branch.train.RECIPES:
        pytest.skip("has no such recipe")
    fields = {field.name for field in branch.settings.flags(branch.train.Recipe)}
    words = ["--recipe", recipe, "--data", "cifar10", "--batch-size", 4, "--dry-run"]
    words += ["--width", 0.125] if "width" in fields and recipe == "paper" else []
    done = branch("train.py", *words)
    assert done.code == 0, done.err


def test_model_py_meets_the_papers_figures(branch):
    done = branch("model.py")
    assert not done.code, done.out
    assert re.search(r"Every figure of the paper is met(\.|, but for those in quotes)", done.out)


def test_the_first_steps_are_those_on_record(branch, fashion_mnist, monkeypatch):
    """With a tolerance for other processors and versions; see golden.py."""
    if branch.name == TOY:
        pytest.skip("has no record")
    monkeypatch.setattr(branch.images, "by_name", lambda name: fashion_mnist)
    monkeypatch.setattr(branch.images, "VALIDATION", 5_000)
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
    """As the branch's README shows, for any size of a batch."""
    branch = every_branch[name]
    small(branch)
    run = branch.train.fit(branch.parse("--limit", 100, "--epochs", 1))
    again = branch.train.fit(branch.parse("--limit", 100, "--epochs", 1))
    clean(branch)
    network, batch = again.model.eval(), torch.export.Dim("batch")
    example = torch.zeros(2, *again.input)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    images = torch.randn(3, *run.input)
    torch.testing.assert_close(program.module()(images), run.model.eval()(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_epochs_on_all_images_learn(every_branch, name):
    """A tenth would be guessing."""
    branch = every_branch[name]
    done = branch("train.py", "--epochs", 2)
    (saved,) = branch.runs().values()
    clean(branch)
    assert done.code == 0 and saved["result"]["metrics"]["accuracy"] > 0.6
