"""Renew the pictures that summary.md and notes.md show.

They show figures/<run>-<picture>.png, which is <picture>.png of a finished run, and
figures/changed.png, which compares a model's laptop-seed0 with that of its parent: of several, the
last in path.toml that has the same task. Runs are looked for in checkpoints/<Name>/, where they
stay when a branch is left for main, and in .branches/, where `make results` trains. A picture whose
run is not there is left as it is. All others are drawn by the model's own figures/draw.py.

    git checkout LeNet && python train.py && git checkout main && python figures.py
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import branches

RUN = "laptop-seed0"  # what changed.png compares


def main():
    """Renew them; the number of programs that failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        models = branches.preview(Path(folder))
        for model in models:
            name = model["name"]
            home, branch = branches.ROOT / "models" / name, Path(folder, name)
            text = "\n".join(path.read_text(encoding="utf-8") for path in home.glob("*.md"))
            before = parent(model, models)
            copy_pictures(home, name, text)
            if before and "(figures/changed.png)" in text:
                draw_changed(home, before, name, branch)
            draw = branch / "figures" / "draw.py"
            if draw.exists():
                for runs in [place for place in places(name) if place.is_dir()] or places(name)[:1]:
                    done = subprocess.run([sys.executable, draw, runs, home / "figures"])
                    failed += done.returncode != 0
    return failed


def places(name):
    """Where the runs of a model are; the last place wins: its runs are those of results.csv."""
    there = branches.ROOT / "checkpoints" / name
    return [there, branches.ROOT / ".branches" / name / "checkpoints" / name]


def found(name, path):
    """A file of a model's runs, wherever it is; None if it is nowhere."""
    there = [place / path for place in places(name) if (place / path).exists()]
    return there[-1] if there else None


def parent(model, models):
    """The name of the model that it builds on: of several of its task, the last in the list."""
    names = [m["name"] for m in models if m["task"] == model["task"]]
    names = [name for name in names if name in model["builds_on"]]
    return names[-1] if names else None


def copy_pictures(home, name, text):
    """Renew each picture that the text shows and a finished run has."""
    for run, picture in sorted(set(re.findall(r"figures/([\w.-]+-seed\d+)-([\w-]+)\.png", text))):
        source = found(name, f"{run}/{picture}.png")
        renew(home / "figures" / f"{run}-{picture}.png", source, f"no finished run {run}")


def draw_changed(home, before, after, branch):
    """Renew changed.png by the program of a branch, where both models have been trained."""
    weights = [found(name, f"{RUN}/weights.pt") for name in (before, after)]
    source = None
    if all(weights):
        runs = [path.parent for path in weights]
        command = [sys.executable, "-m", "harness.changed", *runs]
        if subprocess.run(command, cwd=branch).returncode == 0:
            source = runs[1] / "changed.png"
    renew(home / "figures" / "changed.png", source, f"no {RUN} of {before} and {after} to compare")


def renew(target, source, why_not):
    """Copy a picture, if there is one, and say what became of it."""
    if source:
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
        outcome = "copied"
    else:
        outcome = f"left as it is, {why_not}" if target.exists() else f"MISSING, {why_not}"
    print(f"{target.relative_to(branches.ROOT)}: {outcome}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("figures.py: stopped")
    except (branches.Refusal, OSError) as error:
        print(f"figures.py: {error}", file=sys.stderr)
        sys.exit(2)
