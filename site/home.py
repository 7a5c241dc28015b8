"""The home page as Markdown, and with it the order of the navigation."""

import re

import branches
import results
from plot import plot

HOME = """\
# Deep learning, branch by branch

The milestone models of deep learning, each on a git branch of its own. Read what a model brought,
see which lines of code changed since the model before it, and train it in minutes on an ordinary
computer. The commit graph of the branches is the family tree of the ideas.

```sh
git clone {repository} DeepLearning && cd DeepLearning
make {first}
```

This sets up what is needed and trains {first}, on data that ships with it. Or begin by reading:
[{first}]({first}/index.md).

## The family tree

An arrow leads from a model to one that builds on it. Each box leads to its page.

{tree}

{models}

{plots}

## Results

Each branch's laptop recipe, on data that ships; mean and standard deviation over the seeds.

{tables}

{contents}
"""


def raw(path, text):
    """A block of HTML, in a file beside the page, and so safe from Markdown."""
    path.write_text(text, encoding="utf-8", newline="\n")
    return f"\n```{{raw}} html\n:file: {path.name}\n```\n"


def tree(models):
    """All chapters in one graph, whose boxes are links and say on hover what a model brought."""
    lines = ["```mermaid", "flowchart TB", "    accTitle: The family tree"]
    for chapter in dict.fromkeys(model["chapter"] for model in models):
        lines.append(f'    subgraph "{chapter}"')
        for model in models:
            if model["chapter"] == chapter:
                lines.append(f'    {model["name"]}["{model["name"]}<br>{model["date"].year}"]')
        lines.append("    end")
    for model in models:
        name, idea = model["name"], model["idea"].replace('"', "'")
        lines += [f"    {parent} --> {name}" for parent in model["builds_on"]]
        lines.append(f'    click {name} href "{name}/index.html" "{model["date"].year}: {idea}"')
    return "\n".join([*lines, "```"])


def linked(table, names):
    """A table of results, where the name that a row begins with is a link."""
    name = "|".join(map(re.escape, names))
    return re.sub(rf"^\| ({name})(?=[ ,])", r"| [\1](\1/index.md)", table, flags=re.M)


def plots(folder, models, rows):
    """A section for each task that has a plot."""
    sections = []
    for task in dict.fromkeys(model["task"] for model in models):
        svg = plot(task, [model for model in models if model["task"] == task], rows)
        if svg:
            title = f"## {task.capitalize()}: what a result costs"
            words = "A line leads from a model to one that builds on it."
            sections.append(f"{title}\n\n{words}\n{raw(folder / f'{task}.svg.html', svg)}")
    return "\n\n".join(sections)


def write(folder, models, repository):
    """index.md."""
    rows = results.read_rows()
    names = [model["name"] for model in models]
    listed, contents = [], []
    for chapter in dict.fromkeys(model["chapter"] for model in models):
        own = [model for model in models if model["chapter"] == chapter]
        table = branches.models_table(own).replace("(models/", "(")
        listed.append(f"### {chapter}\n\n{table.replace('/summary.md)', '/index.md)')}")
        entries = "\n".join(f"{m['name']}, {m['date'].year} <{m['name']}/index>" for m in own)
        contents.append(f"```{{toctree}}\n:hidden:\n:caption: {chapter}\n\n{entries}\n```")
    text = HOME.format(
        repository=repository,
        first=names[0],
        tree=tree(models),
        models="\n\n".join(listed),
        plots=plots(folder, models, rows),
        tables=linked(results.tables(models, rows), names),
        contents="\n\n".join(contents),
    )
    (folder / "index.md").write_text(text, encoding="utf-8", newline="\n")
