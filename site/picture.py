"""Write family.svg, the picture that README opens with: the models, their descent and results.

    python site/picture.py

It is the home page's plot of classification, with colors of its own, light and dark.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import branches
import results
from plot import plot

STYLE = """
text { font: 13px sans-serif; fill: #1f2328 }
.grid { stroke: #d1d9e0; fill: none }
.line-of-descent { stroke: #818b98; fill: none; stroke-width: 1.5 }
circle { fill: #0969da }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.grid { stroke: #3d444d }
.line-of-descent { stroke: #9198a1 }
circle { fill: #4493f8 }
}
"""


def picture(models, rows):
    """The SVG: of the plot's, without its links, which are of the site. "" if there is no plot."""
    models = [model for model in models if model["task"] == "classification"]
    found = re.search(r"<svg.*</svg>", plot("classification", models, rows), re.S)
    if not found:
        return ""
    drawn = re.sub(r"</?a[^>]*>|<title.*?</title>", "", found[0])
    kept = re.match(r"<svg([^>]*)>", drawn)
    head = f'<svg xmlns="http://www.w3.org/2000/svg"{kept[1]}><style>{STYLE}</style>'
    return drawn.replace(kept[0], head)


def main():
    path = branches.ROOT / "family.svg"
    drawn = picture(branches.todays_models(), results.read_rows())
    if drawn:
        branches.write(path, drawn + "\n")
    print(f"{path}: {'written' if drawn else 'left as it is, too few models have results'}")


if __name__ == "__main__":
    main()
