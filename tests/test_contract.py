"""What every branch has to be: the same files, flags and behaviour.

Tested here and nowhere else, over path.toml, and over a toy of another task (tests/toy), which
shows what a new task needs. What is special about a branch is in its own test file.
"""

import ast
import dataclasses
import inspect
import re
from collections import Counter

from conftest import MODELS, PARTS, TOY, branches, images_only

import pytest
import torch

FAMILY = [(parent, model["name"]) for model in MODELS for parent in model["builds_on"]]
FLAGS = "--recipe --data --epochs --batch-size --lr --seed --device --limit --fresh --dry-run"
BAD = [
    *("--epochs 0", "--epochs 2.5", "--batch-size -1", "--lr nan", "--lr 0", "--lr inf"),
    *("--limit 0", "--seed -1", "--seed 4294967296", "--device tpu", "--recipe feast"),
    *("--epoch 3", "--colour red", "surplus", "--data imaginary", f"--data {'x' * 300}"),
]


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
    data = Counter(path.parent.name for path in branch.home.glob("data/**/*.gz"))
    ships = {"images": {"raw": 4}, "language": {"shakespeare": 3}, "translation": {"verses": 3}}
    own = (ships.get(part, {}) for part in PARTS.get(branch.name, ()))
    assert data == {folder: files for part in own for folder, files in part.items()}


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


def test_what_models_share_stands_there_word_for_word():
    """Functions and classes of one name: where nothing else differs, the docstrings do not."""
    kinds, seen = (ast.FunctionDef, ast.ClassDef), {}
    for name in PARTS:
        text = (branches.ROOT / "models" / name / "model.py").read_text(encoding="utf-8")
        for node in [node for node in ast.parse(text).body if isinstance(node, kinds)]:
            words = ast.unparse(node)
            for part in ast.walk(node):
                if isinstance(part, kinds) and ast.get_docstring(part):
                    part.body = part.body[1:]
            assert seen.setdefault((node.name, ast.dump(node)), words) == words, name


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


def test_where_layers_are_measured_batches_are_whole(branch):
    """Hooks would see parts of a batch, and some of them twice."""
    measured = {"ReLU": "depth activation dead", "BatchNorm": "figure2", "LSTM": "lags"}
    measured["ResNet"] = "degradation ablations"
    for name in measured.get(branch.name, "").split():
        done = branch("experiments.py", name, "--micro-batch", 2, "--dry-run")
        assert done.code == 2 and len(done.err.splitlines()) == 1 and "in one piece" in done.err


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


def test_its_pictures_can_be_drawn(branch, monkeypatch):
    """As far as that needs no picture: each function is there, and none waits for a run."""
    if not (branch.home / "figures" / "draw.py").exists():
        pytest.skip("has no draw.py")
    ahead = (branch.home / "figures" / "draw.py").read_text(encoding="utf-8")
    ahead = ahead.split("sys.path.insert")[0]  # what is imported before Python knows the branch
    names = re.findall(r"^(?:from|import) (\w+)", ahead, re.MULTILINE)
    assert not [name for name in names if [*branch.home.glob(f"{name}*")]]
    pictures = {}
    monkeypatch.setattr(branch.plots, "draw_finished", pictures.update)
    done = branch("figures/draw.py")
    assert done.code == 0 and done.err == ""
    assert pictures and all(map(callable, pictures))


def test_no_setting_hides_a_method_of_settings(branch):
    """A field of that name would take its place, on this branch alone."""
    methods = {name for name in dir(branch.settings.Settings) if not name.startswith("__")}
    fields = {field.name for field in dataclasses.fields(branch.settings.Settings)}
    kinds = [branch.train.Recipe]
    if "experiments" in branch.own:
        recipes = [recipes for _, recipes in branch.experiments.EXPERIMENTS.values()]
        kinds += [type(recipe) for each in recipes for recipe in each.values()]
    for kind in kinds:
        own = {field.name for field in dataclasses.fields(kind)} - fields
        assert not own & methods, kind


def ablations(branch):
    """The fields of the recipe that are on or off, or one of several; with the other values."""
    recipe = branch.train.RECIPES["laptop"]
    for field in branch.settings.flags(type(recipe)):
        if field.name in recipe.ASIDE:
            continue
        value = getattr(recipe, field.name)
        if field.type is bool:
            yield field.name, [not value]
        elif branch.values.parts(field.type)[0] is branch.values.Literal:
            yield field.name, [one for one in branch.values.parts(field.type)[1] if one != value]


def test_each_ablation_is_a_flag_that_runs(branch):
    small = ("--batch-size", 4, *(("--blocks", 8) if branch.name == "LSTM" else ()))
    for name, values in ablations(branch):
        for value in values:
            flag = branch.settings.flag(name, value)
            word = [] if type(value) is bool else [value]
            done = branch("train.py", "--dry-run", flag, *word, *small)
            assert done.code == 0, (flag, value, done.err)
            title = f"{flag[2:]}" if type(value) is bool else f"{flag[2:]}-{value}"
            assert f"-{title}-seed0" in re.sub("-batch-size-4|-blocks-8", "", done.out)


NETWORKS = {  # where they are not the one that path.toml names
    "ReLU": ["LeNet5"],
    "BatchNorm": ["GoogLeNet", "MLP"],
    "ResNet": ["ResNet", "CifarResNet"],
    "LSTM": ["LanguageModel", "LastOutput"],
}
WRONG = {
    int: (0, True, 1.5, "9"),
    float: (-0.5, True, "1", float("nan")),
    bool: ("on", 1, None),
    str: ("other", 7, None, True),
}


def test_a_wrong_argument_of_the_model_is_named_and_never_another_network(branch):
    of_path = [next((m["class"] for m in MODELS if m["name"] == branch.name), TOY)]
    for network in (getattr(branch.model, name) for name in NETWORKS.get(branch.name, of_path)):
        knobs = inspect.signature(network).parameters.items()
        needed = {name: 9 for name, knob in knobs if knob.default is knob.empty}
        for name, knob in knobs:
            if name == "input_gate":  # a bias, which may be any number
                continue
            for wrong in WRONG[int if name in {*needed, "d_k"} else type(knob.default)]:
                words = f"^{name} is {wrong!r}, must be "
                with pytest.raises(ValueError, match=words), torch.device("meta"):
                    network(**needed | {name: wrong})


def test_a_wrong_type_of_setting_is_an_error_and_never_another_network(branch):
    """The model's own refusals are tested above."""
    recipe = branch.train.RECIPES["laptop"]
    fields = {field.name: field for field in dataclasses.fields(recipe)}
    for name, _ in ablations(branch):
        for value in WRONG[bool if fields[name].type is bool else str]:
            with pytest.raises(branch.errors.Refusal, match=branch.settings.flag(name)[2:]):
                dataclasses.replace(recipe, **{name: value})


def test_what_the_model_refuses_is_one_line(branch):
    if "width" not in {field.name for field in branch.settings.flags(branch.train.Recipe)}:
        pytest.skip("has one width")
    done = branch("train.py", "--width", "0.0001", "--dry-run")
    assert done.code == 2 and len(done.err.splitlines()) == 1 and "width is" in done.err
