"""Renew the pictures that summary.md and notes.md show.

They show figures/<run>-<picture>.png, which is <picture>.png of a finished run. Runs are looked for
in checkpoints/<Name>/, where they stay when a branch is left for main, and in .branches/, where
`make results` trains. A picture whose run is not there is left as it is. All others are drawn by
the model's own figures/draw.py.

    git checkout LeNet && python train.py && git checkout main && python figures.py
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import branches


def main():
    with tempfile.TemporaryDirectory() as folder:
        for model in branches.preview(Path(folder)):
            name = model["name"]
            home = branches.ROOT / "models" / name
            # .branches/ comes last and so wins: its runs are those that count in results.csv.
            places = [branches.ROOT / "checkpoints" / name]
            places.append(branches.ROOT / ".branches" / name / "checkpoints" / name)
            copy_pictures(home, places)
            draw = Path(folder, name, "figures", "draw.py")
            if draw.exists():
                for runs in [place for place in places if place.is_dir()] or places[:1]:
                    subprocess.run([sys.executable, draw, runs, home / "figures"], check=True)
    return 0


def copy_pictures(home, places):
    """Renew each picture of the texts in home that a finished run in one of the places has."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(home.glob("*.md"))]
    shown = re.findall(r"figures/([\w.-]+-seed\d+)-(\w+)\.png", "\n".join(texts))
    for run, picture in sorted(set(shown)):
        target = home / "figures" / f"{run}-{picture}.png"
        sources = [place / run / f"{picture}.png" for place in places]
        sources = [source for source in sources if source.exists()]
        if sources:
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(sources[-1], target)
            outcome = "copied"
        elif target.exists():
            outcome = f"left as it is, no finished run {run}"
        else:
            outcome = f"MISSING, and there is no finished run {run}"
        print(f"{target.relative_to(branches.ROOT)}: {outcome}")


if __name__ == "__main__":
    sys.exit(main())
