"""The pages of the site as Markdown: the home page, and those of a branch."""

import html
import re
from pathlib import Path

import branches
import results
from changes import SWITCH, comparison
from listing import listing
from plot import plot

HOME = """\
# Deep learning, branch by branch

The milestone models of deep learning, each on a git branch of its own. Read what a model brought, see \
the lines of code that changed since the model before it, and train it in minutes on an ordinary \
computer. The commit graph of the branches is the family tree of the ideas.

```sh
git clone {repository} DeepLearning && cd DeepLearning
make {first}
```

This sets up what is needed and trains {first}, on data that ships with it. Or begin by reading: \
[{first}]({first}/index.md).

## The family tree

An arrow leads from a model to one that builds on it. Each leads to its page.

{tree}
{models}
{plots}
## Results

Trained with each branch's laptop recipe, on data that ships; mean and standard deviation over three \
seeds.

{tables}
"""
RUN = """\

## Run it yourself

```sh
git clone {repository} DeepLearning && cd DeepLearning
make {name}
```

This sets up Python's packages, checks the branch out and trains the laptop recipe. In a clone that is \
set up:

```sh
source .venv/bin/activate
git checkout {name}
python train.py
python model.py
{diffs}```

`python train.py --help` lists what can be changed. [The notebook]({name}.ipynb) fetches the branch, \
trains it on a small part of the data, and shows the curves; it needs no GPU.

"""


def hidden_toc(title):
    return f"---\nhide-toc: true\n---\n# {title}\n"


def raw(path, text):
    """A block of HTML, from a file beside the page, and so safe from Markdown."""
    path.write_text(text, encoding="utf-8", newline="\n")
    return f"\n```{{raw}} html\n:file: {path.name}\n```\n"


def linked(table, names):
    """A table whose rows begin with the name of a branch, with a link there."""
    return re.sub(
        r"^\| ([\w-]+)(?=[ ,])",
        lambda m: f"| [{m[1]}]({m[1]}/index.md)" if m[1] in names else m[0],
        table,
        flags=re.M,
    )


def tree(models):
    """All chapters in one graph, whose boxes are links and say on hover what a model brought."""
    lines = ["```mermaid", "flowchart TB", "    accTitle: The family tree"]
    for chapter in dict.fromkeys(model["chapter"] for model in models):
        lines.append(f'    subgraph "{chapter}"')
        lines += [
            f'    {m["name"]}["{m["name"]}<br>{m["date"].year}"]'
            for m in models
            if m["chapter"] == chapter
        ]
        lines.append("    end")
    for model in models:
        name = model["name"]
        lines += [f"    {parent} --> {name}" for parent in model["builds_on"]]
        hover = f"{model['date'].year}: {model['idea']}".replace('"', "'")
        lines.append(f'    click {name} href "{name}/index.html" "{hover}"')
    return "\n".join([*lines, "```"])


def home(folder, models, repository):
    """index.md, and with it the order of the pages in the navigation."""
    rows = results.read_rows()
    names = [model["name"] for model in models]
    chapters, listed, contents = dict.fromkeys(m["chapter"] for m in models), [], []
    for chapter in chapters:
        own = [model for model in models if model["chapter"] == chapter]
        table = branches.models_table(own)
        table = re.sub(r"\(models/([\w-]+)/summary\.md\)", r"(\1/index.md)", table)
        listed.append(f"### {chapter}\n\n{table}\n")
        entries = "\n".join(f"{m['name']}, {m['date'].year} <{m['name']}/index>" for m in own)
        contents.append(f"```{{toctree}}\n:hidden:\n:caption: {chapter}\n\n{entries}\n```\n")
    plots = []
    for task in dict.fromkeys(model["task"] for model in models):
        svg = plot(task, [m for m in models if m["task"] == task], rows)
        if svg:
            shown = raw(folder / f"{task}.svg.html", svg)
            plots.append(
                f"## {task.capitalize()}: what the result costs\n\n"
                f"A line leads from a model to one that builds on it.\n{shown}"
            )
    text = HOME.format(
        repository=repository,
        first=names[0],
        tree=tree(models),
        models="\n".join(listed),
        plots="\n".join(plots),
        tables=linked(results.tables(models, rows), names),
    )
    (folder / "index.md").write_text("\n".join([text, *contents]), encoding="utf-8", newline="\n")


def tabs(pages, here):
    """The links from each page of a branch to the others."""
    links = [
        f'<a href="{page}.html"{" aria-current=page" if page == here else ""}>{html.escape(title)}</a>'
        for page, title in pages.items()
    ]
    links.append('<a href="index.html#run-it-yourself">Run it</a>')
    return f'\n<nav class="tabs" aria-label="Pages of this branch">{"".join(links)}</nav>\n'


def around(model, models):
    """Links to the models before and after, along the lines of descent."""
    names = [m["name"] for m in models]
    after = [m for m in models if model["name"] in m["builds_on"]]
    words = "It leads on to"
    if not after:
        after, words = models[names.index(model["name"]) + 1 :][:1], "Next in the list"
    before = [m for m in models if m["name"] in model["builds_on"]]

    def cards(title, found):
        links = "".join(
            f'<a href="../{m["name"]}/index.html"><strong>{m["name"]}, {m["date"].year}</strong> '
            f"{html.escape(m['idea'])}</a>"
            for m in found
        )
        return f"<div><p>{title}</p>{links}</div>" if found else "<div></div>"

    both = cards("It builds on", before) + cards(words, after)
    return f'\n<nav class="descent" aria-label="Along the line of descent">{both}</nav>\n'


def lesson(text, nav):
    """A text of a branch, with the links between its pages below its title."""
    title, _, rest = text.replace("](summary.md", "](index.md").partition("\n")

    def fence(match):
        """A block of changed lines is shown as such."""
        lines = match[1].splitlines()
        changed = any(line[:1] in ("+", "-") for line in lines)
        is_diff = changed and all(line[:1] in ("", "+", "-", " ", ".", "@") for line in lines)
        return f"```diff\n{match[1]}```" if is_diff else match[0]

    rest = re.sub(r"^```\n(.*?)^```", fence, rest, flags=re.M | re.S)
    return f"{title}\n{nav}\n{rest}"


def branch(folder, laid_out, model, models, repository):
    """All pages of a branch, folder/<Name>/*.md, made from the branch as it is laid out."""
    name, parents = model["name"], model["builds_on"]
    home, own = folder / name, laid_out / name
    codes = sorted((p.name for p in own.glob("*.py")), key=lambda f: f not in branches.COMPARED)
    pages = {"index": "Lesson"} | {Path(file).stem: file for file in codes}
    pages |= {f"since-{parent}": f"Since {parent}" for parent in parents}
    if (own / "notes.md").exists():
        pages["notes"] = "Notes"

    def write(page, text):
        (home / f"{page}.md").write_text(text, encoding="utf-8", newline="\n")

    for file in codes:
        page = Path(file).stem
        text = listing(branches.text_of(own / file))
        (home / file).write_bytes((own / file).read_bytes())
        title = hidden_toc(f"{name}: {file}")
        write(page, title + tabs(pages, page) + raw(home / f"{file}.html", text))
    for parent in parents:
        page = f"since-{parent}"
        text = hidden_toc(f"From {parent} to {name}") + tabs(pages, page) + f"\n{SWITCH}"
        for file in branches.COMPARED:
            stem = Path(file).stem
            old, new = laid_out / parent / file, own / file
            shown = comparison(old, new, f"../{parent}/{stem}.html", f"{stem}.html")
            command = f"\n## {file}\n\n```sh\ngit diff {parent} {name} -- {file}\n```\n"
            text += command + raw(home / f"{page}-{file}.html", shown)
        write(page, text)
    if "notes" in pages:
        text = branches.text_of(own / "notes.md")
        write("notes", lesson(text.replace("# ", f"# {name}: ", 1), tabs(pages, "notes")))
    diffs = "".join(f"git diff {p} {name} -- model.py train.py\n" for p in parents)
    entries = "\n".join(f"{title} <{page}>" for page, title in pages.items() if page != "index")
    text = lesson(branches.text_of(own / "summary.md"), tabs(pages, "index"))
    text += RUN.format(name=name, repository=repository, diffs=diffs) + around(model, models)
    write("index", f"{text}\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n")
