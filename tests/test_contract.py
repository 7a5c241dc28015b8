"""What every branch has to be: the same files, flags and behaviour."""

import csv
import re
import shutil
import subprocess
import sys
import time

import pytest
import torch

from conftest import MODELS, run_python

NAMES = [model["name"] for model in MODELS]
FAMILY = [(parent, model["name"]) for model in MODELS for parent in model["builds_on"]]
FLAGS = (
    "--recipe --data --epochs --batch-size --lr --seed --device --limit --fresh --dry-run".split()
)


@pytest.fixture(params=NAMES)
def branch(request, laid_out):
    return laid_out / request.param


def files(folder):
    hidden = ("__pycache__", "checkpoints")
    return {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and not any(part in hidden for part in path.relative_to(folder).parts)
    }


def test_its_files(branch):
    expected = (
        "README.md summary.md model.py train.py requirements.txt LICENSE data checkpoints harness"
    )
    assert set(expected.split()) <= {path.name for path in branch.iterdir()}
    assert len(list((branch / "data/FashionMNIST/raw").glob("*.gz"))) == 4
    lines = (branch / "requirements.txt").read_text(encoding="utf-8").split()
    assert [line.split(">=")[0] for line in lines] == ["torch", "torchvision", "matplotlib", "tqdm"]


def test_its_help_teaches(branch, tmp_path):
    done = run_python(branch / "train.py", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(flag in done.stdout for flag in FLAGS)
    assert "python train.py" in done.stdout


def test_a_dry_run_writes_nothing(branch, tmp_path):
    before = files(branch).keys(), sorted((branch / "checkpoints").rglob("*"))
    done = run_python(branch / "train.py", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (files(branch).keys(), sorted((branch / "checkpoints").rglob("*"))) == before


def test_a_bad_flag_is_one_line_and_exit_code_2(branch):
    done = run_python(branch / "train.py", "--data", "imaginary")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("train.py: ")


def test_a_short_training_learns(branch, tmp_path):
    """From another working directory; a tenth would be guessing."""
    words = ("--epochs", "2")
    done = run_python(branch / "train.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = branch / "checkpoints" / branch.name / "laptop-epochs-2-seed0"
    saved = torch.load(folder / "weights.pt", weights_only=True)
    assert saved["result"]["test_accuracy"] > 0.6
    assert str(folder) in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_killed_ends_with_the_same_bits(branch):
    command = [branch / "train.py", "--limit", "2000", "--epochs", "3"]
    folder = branch / "checkpoints" / branch.name / "laptop-epochs-3-limit-2000-seed0"

    def outcome():
        done = run_python(*command)
        assert done.returncode == 0, done.stderr
        with open(folder / "history.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        times = ("seconds", "images_per_second")
        figures = [{key: row[key] for key in row if key not in times} for row in rows]
        weights = torch.load(folder / "weights.pt", weights_only=True)["weights"]
        return done.stdout, figures, weights

    _, figures, weights = outcome()
    shutil.rmtree(folder)
    running = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    while running.poll() is None and not (folder / "history.csv").exists():
        time.sleep(0.01)
    running.kill()
    running.wait()
    printed, figures_resumed, resumed = outcome()
    assert "of them done before" in printed
    assert figures_resumed == figures
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_the_laptop_recipe_takes_photographs_of_any_shape(branch, panoramas):
    words = ("--data", panoramas, "--epochs", 1, "--batch-size", 8)
    done = run_python(branch / "train.py", *words)
    assert done.returncode == 0, done.stderr
    assert "Validation accuracy" in done.stdout


def test_model_py_meets_the_papers_figures(branch, layer_table):
    assert re.search(
        r"Every figure of the paper is met(\.|, but for those in quotes)", layer_table(branch)
    )


@pytest.mark.parametrize("parent, child", FAMILY)
def test_a_branch_differs_from_its_parent_in_its_own_files_alone(laid_out, parent, child):
    ours, theirs = files(laid_out / child), files(laid_out / parent)
    shared = {path for path in ours if path.startswith(("harness/", "data/"))}
    shared |= {"requirements.txt", "LICENSE", ".gitignore", ".gitattributes"}
    assert shared <= theirs.keys()
    assert all(ours[path].read_bytes() == theirs[path].read_bytes() for path in shared)
