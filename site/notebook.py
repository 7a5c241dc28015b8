"""A notebook that fetches a branch, trains it on a small part of its data, and shows the curves."""

import json

CELLS = (
    """# {title}

{idea}.

This notebook fetches the branch `{name}`, trains it on a small part of its data, and shows what
the run has drawn. The lesson is in `summary.md`, the idea in code is `{class}` in `model.py`.""",
    """!git clone --quiet "{repository}" DeepLearning
%cd DeepLearning
!python branches.py && git checkout --quiet {name}
%pip install --quiet -r requirements.txt""",
    "The architecture, beside the paper's figures:",
    "!python model.py",
    "A short training. Without `--limit` and `--epochs` it is the one of the lesson's results.",
    "!python train.py --limit 2000 --epochs 2 --threads 2",
    "What the run has drawn:",
    """from pathlib import Path
from IPython.display import Image, display

for picture in sorted(Path("checkpoints").rglob("*.png")):
    print(picture)
    display(Image(picture))""",
)


def notebook(model, repository):
    """The text of an .ipynb file."""
    words = {**model, "title": f"{model['name']} ({model['date'].year})", "repository": repository}
    cells = []
    for place, text in enumerate(CELLS):
        for field, value in words.items():
            text = text.replace(f"{{{field}}}", str(value))
        cell = {"id": f"cell-{place}", "metadata": {}, "source": text.splitlines(keepends=True)}
        if text.startswith(("!", "%", "from ")):
            cell |= {"cell_type": "code", "execution_count": None, "outputs": []}
        else:
            cell |= {"cell_type": "markdown"}
        cells.append(cell)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"
