"""Run each branch's notebook in an empty folder: does it end with a picture?

    python site/run_notebooks.py REPOSITORY [NAME ...]

REPOSITORY: the address or folder of a clone of this repository. What a shell command says with `!`
in a notebook stops nothing, so the picture at its end is what counts. Half a minute each.
"""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import branches
import notebook

import nbclient
import nbformat


def pictures(text):
    """How many pictures the last cell of a notebook shows; prints what every cell does."""
    book = nbformat.reads(text, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        home = {"metadata": {"path": folder}}
        nbclient.NotebookClient(book, timeout=1200, resources=home).execute()
    for cell in book.cells:
        for output in cell.get("outputs", []):
            print(output.get("text", ""), end="")
    return sum("image/png" in output.get("data", {}) for output in book.cells[-1].outputs)


def main():
    repository, *names = sys.argv[1:] or sys.exit(__doc__)
    failed = []
    for model in branches.todays_models():
        if model["name"] in names or not names:
            print(f"\n{model['name']}\n", flush=True)
            if not pictures(notebook.notebook(model, repository)):
                failed.append(model["name"])
    if failed:
        sys.exit(f"No picture at the end of {', '.join(failed)}")


if __name__ == "__main__":
    main()
