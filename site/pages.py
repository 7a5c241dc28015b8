"""The pages of a branch as Markdown: lesson, notes, code, and what changed since each parent."""

import html
import re
from pathlib import Path

import branches
from changes import SWITCH, comparison
from home import raw
from listing import in_order, listing

RUN = """\

## Run it yourself

```sh
git clone {repository} DeepLearning && cd DeepLearning
make {name}
```

This sets up Python's packages, checks the branch out and trains the laptop recipe. In a clone where
this was done:

```sh
source .venv/bin/activate
git checkout {name}
python train.py
python model.py
{diffs}```

`python train.py --help` lists what can be changed. [The notebook]({name}.ipynb) fetches the branch,
trains it on a small part of the data, and shows the curves; it needs no GPU.
"""


def wide(title, more=""):
    """The start of a page that needs its whole width, and so has no contents at its side."""
    return f"---\nhide-toc: true\n{more}---\n# {title}\n"


def tabs(pages, here):
    """The links from each page of a branch, {page: title}, to the others."""
    links = ""
    for page, title in pages.items():
        current = ' aria-current="page"' if page == here else ""
        links += f'<a href="{page}.html"{current}>{html.escape(title)}</a>'
    links += '<a href="index.html#run-it-yourself">Run it</a>'
    return f'\n<nav class="tabs" aria-label="Pages of this branch">{links}</nav>\n'


def around(model, models):
    """Links to the models before and after, along the lines of descent."""
    names, words = [m["name"] for m in models], "It leads on to"
    before = [m for m in models if m["name"] in model["builds_on"]]
    after = [m for m in models if model["name"] in m["builds_on"]]
    if not after:
        after, words = models[names.index(model["name"]) + 1 :][:1], "Next on the path"
    columns = ""
    for title, found in (("It builds on", before), (words, after)):
        links = "".join(
            f'<a href="../{m["name"]}/index.html"><strong>{m["name"]}, {m["date"].year}</strong> '
            f"{html.escape(m['idea'])}</a>"
            for m in found
        )
        columns += f"<div><p>{title}</p>{links}</div>" if found else "<div></div>"
    return f'\n<nav class="descent" aria-label="Along the line of descent">{columns}</nav>\n'


def fence(match):
    """A block of changed lines says that it is one, for its colors."""
    starts = {line[:1] for line in match[1].splitlines()}
    is_diff = starts & {"+", "-"} and starts <= {"", " ", ".", "+", "-"}
    return f"```diff\n{match[1]}```" if is_diff else match[0]


def text(source, nav):
    """A lesson or notes, with the links between the pages of the branch below its title."""
    title, _, rest = source.partition("\n")
    rest = rest.replace("](summary.md", "](index.md")
    return f"{title}\n{nav}\n" + re.sub(r"^```\n(.*?)^```", fence, rest, flags=re.M | re.S)


def write(folder, laid_out, model, models, repository):
    """Every page of a branch, folder/<Name>/*.md, from laid_out/<Name>."""
    name, parents = model["name"], model["builds_on"]
    home, own = folder / name, laid_out / name
    codes = in_order(path.name for path in own.glob("*.py"))
    has_notes = (own / "notes.md").exists()
    pages = {"index": "Lesson"} | {Path(file).stem: file for file in codes}
    pages |= {f"since-{parent}": f"Diff from {parent}" for parent in parents}
    pages |= {"notes": "Notes"} if has_notes else {}

    def page(name, text):
        (home / f"{name}.md").write_text(text, encoding="utf-8", newline="\n")

    for file in codes:
        code = branches.text_of(own / file)
        (home / file).write_text(code, encoding="utf-8", newline="\n")  # for conf.py to search
        shown = raw(home / f"{file}.html", listing(code))
        stem = Path(file).stem
        page(stem, wide(f"{name}: {file}") + tabs(pages, stem) + shown)
    for parent in parents:
        here = f"since-{parent}"
        # Search finds a line on the pages of the code, and need not find it here once more.
        made = wide(f"From {parent} to {name}", "no-search: true\n") + tabs(pages, here)
        made += f"\n{SWITCH}"
        for file in branches.COMPARED:
            anchors = f"{Path(file).stem}.html"
            shown = comparison(laid_out / parent / file, own / file, f"../{parent}/", "", anchors)
            made += f"\n## {file}\n\n```sh\ngit diff {parent} {name} -- {file}\n```\n"
            made += raw(home / f"{here}-{file}.html", shown)
        page(here, made)
    if has_notes:
        notes = branches.text_of(own / "notes.md").replace("# ", f"# {name}: ", 1)
        page("notes", text(notes, tabs(pages, "notes")))
    diffs = "".join(f"git diff {p} {name} -- model.py train.py\n" for p in parents)
    lesson = text(branches.text_of(own / "summary.md"), tabs(pages, "index"))
    lesson += RUN.format(name=name, repository=repository, diffs=diffs) + around(model, models)
    entries = "\n".join(f"{title} <{page}>" for page, title in pages.items() if page != "index")
    page("index", f"{lesson}\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n")
