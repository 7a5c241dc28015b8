"""Renew the pictures that the summaries show, and report what finished runs there are.

A summary shows figures/<run>-<picture>.png, which is checkpoints/<Name>/<run>/<picture>.png of the
run that made it; runs stay in checkpoints/ when a branch is left for main. A picture whose run is
not there is left as it is. All others are drawn by the model's own figures/draw.py.

    git checkout LeNet && python train.py && git checkout main && python figures.py
"""

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import torch

import branches


def main():
    models = branches.read_path((branches.ROOT / "path.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        branches.preview(Path(folder))
        for name in (model["name"] for model in models):
            home, runs = branches.ROOT / "models" / name, branches.ROOT / "checkpoints" / name
            copy_pictures(home, runs)
            draw = Path(folder, name, "figures", "draw.py")
            if draw.exists():
                subprocess.run([sys.executable, draw, runs, home / "figures"], check=True)
            report(name, runs)
    return 0


def copy_pictures(home, runs):
    """Renew each picture of home/summary.md that a finished run in `runs` has."""
    text = (home / "summary.md").read_text(encoding="utf-8")
    for picture in sorted(set(re.findall(r"figures/([\w.-]+-seed\d+)-(\w+)\.png", text))):
        run, name = picture
        source, target = runs / run / f"{name}.png", home / "figures" / f"{run}-{name}.png"
        if source.exists():
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
            print(f"{target.relative_to(branches.ROOT)}: copied")
        elif target.exists():
            print(f"{target.relative_to(branches.ROOT)}: left as it is, no finished run {run}")
        else:
            print(
                f"{target.relative_to(branches.ROOT)}: MISSING, and there is no finished run {run}"
            )


def report(name, runs):
    """Print mean and spread of the test accuracy over the seeds of each kind of run."""
    accuracies = defaultdict(dict)
    for weights in sorted(runs.glob("*-seed*/weights.pt")):
        if "-experiment-" in weights.parent.name:
            continue  # a comparison has printed what its runs gave
        kind, _, seed = weights.parent.name.rpartition("-seed")
        result = torch.load(weights, map_location="cpu", weights_only=True)["result"]
        if "test_accuracy" in result:
            accuracies[kind][seed] = result["test_accuracy"]
    for kind, by_seed in accuracies.items():
        values = list(by_seed.values())
        spread = f" ± {statistics.stdev(values):.2%}" if len(values) > 1 else ""
        print(f"{name} {kind}: {statistics.mean(values):.2%}{spread} (seeds {', '.join(by_seed)})")


if __name__ == "__main__":
    sys.exit(main())
