"""Cut the branches of this repository, one per model, from main.

A branch is made of layers: LICENSE, .gitattributes and requirements.txt of main, every_branch/, the
parts of some_branches/ that the model's entry in path.toml names, and models/<Name>/. README.md is
a template filled in from path.toml. A branch's commits bear the date of the model's paper, and its
parents are the branches of the models that it builds on.

A commit depends on nothing but the committed content of main and the tips that exist, so two
clones cut the same ids. Branches only grow: a tip is never rewritten, origin/<Name> leads where
it exists, and a branch with a learner's own commits, or checked out somewhere, is left alone.

    python branches.py                        cut or update every branch from main
    python branches.py --from REV             the same from another commit
    python branches.py --preview FOLDER       lay every branch out in FOLDER, as the files are today
    python branches.py --readme               rewrite the models in README.md
    python branches.py --diffs                how much of train.py and model.py neighbors share
    python branches.py --after LeNet          say what to do once LeNet is trained

Exit code: 0, all branches are up to date; 1, an update was withheld; 2, an error, nothing changed.
"""

import sys

if sys.version_info < (3, 11):
    print(
        f"branches.py needs Python 3.11 or newer; this is {sys.version.split()[0]}", file=sys.stderr
    )
    sys.exit(2)

import argparse
import datetime
import functools
import graphlib
import os
import re
import shutil
import string
import subprocess
import tempfile
import tomllib
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent
NAME, EMAIL = "Deep Learning, branch by branch", "branches@deep-learning.invalid"
FIELDS = {
    "name": str,
    "class": str,
    "title": str,
    "authors": str,
    "link": str,
    "date": datetime.date,
    "idea": str,
    "chapter": str,
    "task": str,
    "parts": list,  # both of strings
    "builds_on": list,
}
OPTIONAL = {"row": str}
FROM_ROOT = ("LICENSE", ".gitattributes", "requirements.txt")
COMPARED = ("model.py", "train.py")
LARGE = 1_000_000  # bytes; a preview links such files instead of copying them


class Refusal(Exception):
    """Something the user has to put right; its message says what."""


def git(*arguments, stdin=b"", check=True, good=(0,), **environment):
    """Run git in this repository: its output without the last newline, or None if it failed.

    good: the exit codes that are no failure.
    """
    try:
        done = subprocess.run(
            ["git", "-C", ROOT, *arguments],
            input=stdin,
            capture_output=True,
            env={**os.environ, **environment},
        )
    except FileNotFoundError:
        raise Refusal("git is not installed, or not on the PATH") from None
    if done.returncode in good:
        return done.stdout.decode(errors="surrogateescape").removesuffix("\n")
    if check:
        raise Refusal(done.stderr.decode(errors="replace").strip() or f"git {arguments[0]} failed")
    return None


# The path


def read_path(text):
    """The models of a path.toml, in its order, each a dict of FIELDS, and of OPTIONAL if given."""
    try:
        models = tomllib.loads(text).get("model", [])
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"path.toml: {error}") from None
    if not isinstance(models, list) or not models:
        raise Refusal("path.toml: it lists no [[model]]")
    names = [model.get("name") for model in models]
    for model in models:
        where = f"path.toml: {model.get('name', 'a model without a name')}"
        wrong = (FIELDS.keys() - model.keys()) | (model.keys() - FIELDS.keys() - OPTIONAL.keys())
        if wrong:
            raise Refusal(f"{where}: missing or unknown: {', '.join(sorted(wrong))}")
        for field, value in model.items():
            kind = (FIELDS | OPTIONAL)[field]
            if type(value) is not kind:
                raise Refusal(f"{where}: {field} should be a {kind.__name__}")
            if kind is list and not all(type(item) is str for item in value):
                raise Refusal(f"{where}: {field} should be a list of strings")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", model["name"]) or model["name"] == "main":
            raise Refusal(f"{where}: a name is letters, digits and hyphens, and not main")
        if names.count(model["name"]) > 1:
            raise Refusal(f"{where}: listed twice")
        if model["date"].year < 1970:
            raise Refusal(f"{where}: git cannot hold a date before 1970")
        for parent in model["builds_on"]:
            if parent not in names:
                raise Refusal(f"{where}: builds on {parent}, which is not listed")
    try:
        graphlib.TopologicalSorter({m["name"]: m["builds_on"] for m in models}).prepare()
    except graphlib.CycleError as error:
        raise Refusal(f"path.toml: a circle: {' → '.join(error.args[1])}") from None
    return models


def todays_models():
    """The models of path.toml as it is on disk."""
    return read_path((ROOT / "path.toml").read_text(encoding="utf-8"))


def parents_first(models):
    """The same models, each after those it builds on."""
    by_name = {model["name"]: model for model in models}
    order = graphlib.TopologicalSorter({name: m["builds_on"] for name, m in by_name.items()})
    return [by_name[name] for name in order.static_order()]


def overlay(paths, model):
    """{path on the branch: path on main} of a model's branch, out of main's `paths`.

    A part's own README.md is left out: it is a piece of the branch's, see branch_readme().
    """
    name = model["name"]
    parts = [f"some_branches/{part}/" for part in model["parts"]]
    sources = [("", path) for path in FROM_ROOT]
    for layer in ("every_branch/", *parts, f"models/{name}/"):
        inside = [path.removeprefix(layer) for path in paths if path.startswith(layer)]
        if not inside:
            raise Refusal(f"path.toml: {name}: there is no folder {layer.removesuffix('/')}")
        sources += [(layer, p) for p in inside if layer not in parts or p != "README.md"]
    files = {}
    for layer, path in sources:
        if path in files:
            raise Refusal(f"branch {name}: {files[path]} and {layer}{path} are the same file of it")
        files[path] = layer + path
    for path, source in files.items():
        for folder in map(str, PurePosixPath(path).parents):
            if folder in files:
                raise Refusal(f"branch {name}: {files[folder]} is a file, {source} lies inside it")
    for source in (*FROM_ROOT, "every_branch/README.md"):
        if source not in paths:
            raise Refusal(f"{source} is missing")
    return files


def go_on(name, models):
    """The commands that lead on from a model: to those that build on it, or the next in history."""
    names = [model["name"] for model in models]
    children = [model["name"] for model in models if name in model["builds_on"]]
    following = children or names[names.index(name) + 1 :][:1]
    commands = [f"git checkout {other} && python train.py" for other in following]
    return commands or ["git checkout main                 # the end of the path so far"]


def branch_readme(model, models, paths, read):
    """README.md of a branch: the template with its parts' pieces, and what path.toml says.

    paths: all of main's; read(path): the text of one.
    """
    name, parents = model["name"], model["builds_on"]
    place = [m["name"] for m in models].index(name) + 1
    pieces = [f"some_branches/{part}/README.md" for part in model["parts"]]
    pieces = "\n\n".join(read(path).strip() for path in pieces if path in paths)
    diffs = [f"git diff {parent} {name} -- {' '.join(COMPARED)}" for parent in parents]
    template = read("every_branch/README.md").replace("$parts", pieces)
    words = {
        **{field: model[field] for field in ("name", "title", "authors", "link", "idea")},
        "my_name": name.lower(),
        "model": model["class"],
        "year": model["date"].year,
        "place": f"{place} of {len(models)}",
        "builds_on": f"It builds on {' and '.join(parents)}:"
        if parents
        else "Nothing comes before it:",
        "diff": "\n    ".join(diffs) or "git log --stat -1 --format='%s'",
        "next": "\n    ".join(go_on(name, models)),
    }
    try:
        return string.Template(template).substitute(words)
    except (KeyError, ValueError) as error:
        raise Refusal(
            f"README.md of {name}: {error} is no placeholder; a dollar sign is written $$"
        ) from None


def models_table(models):
    """The table of models in main's README, as Markdown."""
    rows = ["| Year | Branch | What it brought | Paper |", "|---|---|---|---|"]
    for m in models:
        rows.append(
            f"| {m['date'].year} | [{m['name']}](models/{m['name']}/summary.md) "
            f"| {m['idea']} | [{m['title']}]({m['link']}) |"
        )
    return "\n".join(rows)


def family_tree(chapter, models):
    """A Mermaid flowchart of what a chapter's models build on, oldest on top.

    A model of another chapter has a dashed outline, and is there for its children's sake alone.
    """
    own = [m for m in models if m["chapter"] == chapter]
    arrows = [(parent, m["name"]) for m in own for parent in m["builds_on"]]
    lines = ["```mermaid", "flowchart TB"]
    for m in models:
        if m in own or m["name"] in (parent for parent, _ in arrows):
            outline = "" if m in own else ":::elsewhere"
            lines.append(f'    {m["name"]}["{m["name"]}, {m["date"].year}"]{outline}')
    lines += [f"    {parent} --> {child}" for parent, child in arrows]
    if any(":::elsewhere" in line for line in lines):
        lines.append("    classDef elsewhere fill:none,stroke-dasharray:5 5")
    return "\n".join([*lines, "```"])


def with_models(text, models):
    """README.md of main with its tables of models and its family trees made anew."""
    chapters = list(dict.fromkeys(model["chapter"] for model in models))
    blocks = []
    for chapter in chapters:
        if len(chapters) > 1:
            blocks.append(f"### {chapter}")
        blocks.append(models_table([m for m in models if m["chapter"] == chapter]))
        blocks.append(family_tree(chapter, models))
    dashed = " (dashed, if it is of another chapter)" if len(chapters) > 1 else ""
    blocks.append(
        f"An arrow leads from a model{dashed} to one that builds on it; "
        "the branches' commits have the same parents."
    )
    return rewrite(text, "branches.py", "\n\n".join(blocks))


def rewrite(text, script, made):
    """The text of README.md with what lies between the two comments of a script made anew."""
    marked = re.compile(rf"(?<=made by {script} --readme -->\n).*?(?=<!-- end -->)", re.S)
    if not marked.search(text):
        raise Refusal(f"README.md has lost the two comments around what {script} makes")
    return marked.sub(lambda _: made + "\n", text, count=1)


def write_readme(change):
    """README.md of main anew: change(its text)."""
    path = ROOT / "README.md"
    text = change(path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8", newline="\n")


def after(name, models):
    """What to do once `make <name>` has trained it."""
    if name not in (model["name"] for model in models):
        raise Refusal(f"path.toml lists no {name}")
    commands = ("\n" + " " * 28).join(go_on(name, models))
    return f"""
You are on branch {name}: the lesson is summary.md, results are in checkpoints/{name}/
Activate the environment:   source .venv/bin/activate
Go on along the path:       {commands}"""


def diffs(models):
    """[(parent, child, file, lines that stay, that go, that come)] of today's files."""
    rows = []
    for child in models:
        for parent in child["builds_on"]:
            for file in COMPARED:
                old, new = (ROOT / "models" / name / file for name in (parent, child["name"]))
                for path in (old, new):
                    if not path.is_file():
                        raise Refusal(f"{path.relative_to(ROOT).as_posix()} is missing")
                # What `git diff <parent> <child>` says on the branches, however git is set up here.
                words = ("diff", "--no-index", "--numstat", "--diff-algorithm=default", "--")
                come, go, *_ = (git(*words, old, new, good=(0, 1)) or "0 0").split()
                stay = len(old.read_bytes().splitlines()) - int(go)
                rows.append((parent, child["name"], file, stay, int(go), int(come)))
    return rows


def diffs_table(models):
    """The same as text."""
    rows = diffs(models)
    width = max((len(f"{parent} -> {child}") for parent, child, *_ in rows), default=0)
    lines = [
        "Lines that stay, that go (the parent's alone) and that come (the child's alone);",
        "the share that stays of each one's lines.\n",
        f"{'':{width}}            stay    go  come   of parent's  of child's",
    ]
    for parent, child, file, stay, go, come in rows:
        pair = f"{parent} -> {child}" if file == COMPARED[0] else ""
        kept, known = stay / max(stay + go, 1), stay / max(stay + come, 1)
        lines.append(
            f"{pair:{width}}  {file:8}  {stay:4}  {go:4}  {come:4}   {kept:11.0%}  {known:10.0%}"
        )
    return "\n".join(lines)


# Cutting


def existing_branches():
    """{full ref: (tip, folder of the worktree where it is checked out or "")}."""
    refs = git(
        "for-each-ref",
        "--format=%(refname)%09%(objectname)%09%(worktreepath)",
        "refs/heads",
        "refs/remotes/origin",
    )
    rows = (line.split("\t") for line in refs.splitlines())
    return {ref: (tip, worktree) for ref, tip, worktree in rows}


def is_ancestor(old, new):
    return git("merge-base", "--is-ancestor", old, new, check=False) is not None


def old_tip(name, refs):
    """The commit to append to: origin's tip, or else the newest one cut here; None for neither."""
    if f"refs/remotes/origin/{name}" in refs:
        return refs[f"refs/remotes/origin/{name}"][0]
    if f"refs/heads/{name}" not in refs:
        return None
    cut_here = ("--first-parent", f"--committer={EMAIL}", f"--grep=^{name}: ")
    return git("rev-list", "-1", *cut_here, f"refs/heads/{name}") or None


def write_tree(files, objects, readme):
    """The id of a branch's tree. files: overlay(); objects: {path on main: (mode, id)}."""
    entries = {path: objects[source] for path, source in files.items()}
    entries["README.md"] = ("100644", git("hash-object", "-w", "--stdin", stdin=readme.encode()))
    lines = "".join(f"{mode} {id}\t{path}\0" for path, (mode, id) in entries.items())
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        stdin = lines.encode(errors="surrogateescape")
        git("update-index", "-z", "--index-info", stdin=stdin, **index)
        return git("write-tree", **index)


def write_commit(model, tree, parents):
    """The id of a commit that depends on its arguments alone."""
    date = f"{model['date']}T12:00:00+0000"
    message = (
        f"{model['name']}: {model['idea']}\n\n"
        f"{model['title']}\n{model['authors']}, {model['date'].year}\n{model['link']}\n"
    )
    return git(
        *("-c", "i18n.commitEncoding=UTF-8", "commit-tree", tree),
        *(word for parent in parents for word in ("-p", parent)),
        stdin=message.encode(),
        GIT_AUTHOR_NAME=NAME,
        GIT_AUTHOR_EMAIL=EMAIL,
        GIT_AUTHOR_DATE=date,
        GIT_COMMITTER_NAME=NAME,
        GIT_COMMITTER_EMAIL=EMAIL,
        GIT_COMMITTER_DATE=date,
    )


def move(name, new, refs):
    """Bring the local branch to `new` if nothing is lost by it: (is it there, what to say)."""
    local, worktree = refs.get(f"refs/heads/{name}", (None, ""))
    if local == new:
        return True, f"{new[:9]}  up to date"
    if local is None:
        git("branch", "--no-track", name, new)
        return True, f"{new[:9]}  new"
    committers = git("log", "--format=%ce", f"{new}..{local}").splitlines()
    own = sum(committer != EMAIL for committer in committers)
    if own and is_ancestor(new, local):
        return True, f"{new[:9]}  up to date, with {own} commit(s) of your own on top"
    if own:
        return False, (
            f"left alone: it carries {own} commit(s) of your own. To keep them and get the update: "
            f"git branch -m {name} my-{name.lower()}, then python branches.py"
        )
    if worktree:
        return False, (
            f"left alone: it is checked out in {worktree}. "
            "Check out another branch there, then run python branches.py again"
        )
    git("branch", "--no-track", "--force", name, new)
    return True, f"{new[:9]}  updated from {local[:9]}"


def what_to_cut(revision):
    """The id of the commit to cut the branches from; Refusal where that is not clear."""
    git("rev-parse", "--git-dir")
    here = git("symbolic-ref", "--quiet", "--short", "HEAD", check=False)
    if revision is None and here not in (None, "main"):
        raise Refusal(
            f"this is branch {here}; branches are cut from main: git checkout main, or --from REV"
        )
    commit = git(
        "rev-parse", "--verify", "--quiet", f"{revision or 'HEAD'}^{{commit}}", check=False
    )
    if commit is None:
        raise Refusal(f"there is no commit {revision or 'HEAD'} to cut from")
    return commit


def cut(revision):
    """Cut or update every branch from a commit of main; the number of updates withheld."""
    commit = what_to_cut(revision)
    objects = {}
    for entry in git("ls-tree", "-r", "-z", "--full-tree", commit).split("\0")[:-1]:
        head, path = entry.split("\t", 1)
        objects[path] = head.split()[::2]
    if "path.toml" not in objects:
        raise Refusal(f"commit {commit[:9]} has no path.toml: is this the right repository?")
    models = read_path(git("cat-file", "blob", objects["path.toml"][1]))
    layouts = {model["name"]: overlay(objects, model) for model in models}
    refs = existing_branches()
    published = [name for name in layouts if f"refs/remotes/origin/{name}" in refs]
    if published and git("rev-parse", "--is-shallow-repository") == "true":
        raise Refusal(
            "this clone is shallow, and the history of the published branches is needed: "
            "git fetch --unshallow"
        )

    @functools.cache
    def read(path):
        return git("cat-file", "blob", objects[path][1]) + "\n"

    tips = {}
    for model in parents_first(models):
        name = model["name"]
        tree = write_tree(layouts[name], objects, branch_readme(model, models, objects, read))
        old = old_tip(name, refs)
        new_parents = [
            tips[parent]
            for parent in model["builds_on"]
            if old is None or not is_ancestor(tips[parent], old)
        ]
        if old and not new_parents and git("rev-parse", f"{old}^{{tree}}") == tree:
            tips[name] = old
        else:
            tips[name] = write_commit(model, tree, [old, *new_parents] if old else new_parents)

    withheld = 0
    width = max(map(len, layouts))
    for model in models:
        done, line = move(model["name"], tips[model["name"]], refs)
        withheld += not done
        print(f"{model['name']:{width}}  {model['date'].year}  {line}")
    sources = (*FROM_ROOT, "path.toml", "every_branch", "some_branches", "models")
    changed = git("status", "--porcelain", "--", *sources)
    if changed and revision is None:
        print("Not in the branches: changes that are not committed yet (git status shows them)")
    return withheld


def preview(folder):
    """Lay every branch out in folder/<Name>, from the files as they are on disk; the models."""
    models = todays_models()
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]
    paths = {path for path in listed if (ROOT / path).is_file()}
    layouts = {model["name"]: overlay(paths, model) for model in models}
    for name in layouts:
        if (folder / name).exists():
            raise Refusal(f"{folder / name} exists already: nothing was written")

    def read(path):
        return (ROOT / path).read_text(encoding="utf-8")

    for model in models:
        for path, source in layouts[model["name"]].items():
            target = folder / model["name"] / path
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(ROOT / source, target)
        text = branch_readme(model, models, paths, read)
        (folder / model["name"] / "README.md").write_text(text, encoding="utf-8", newline="\n")
    return models


def link_or_copy(source, target):
    if source.stat().st_size > LARGE:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another disk, or one without links
    shutil.copyfile(source, target)


def arguments(argv):
    description, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--from", dest="revision", metavar="REV", help="cut from REV, not from HEAD")
    what.add_argument("--preview", type=Path, metavar="FOLDER", help="write no branch, only FOLDER")
    what.add_argument(
        "--readme", action="store_true", help="bring the models in README.md up to date"
    )
    what.add_argument("--diffs", action="store_true", help="count the lines that neighbors share")
    what.add_argument("--after", metavar="NAME", help="the last lines of make NAME")
    return parser.parse_args(argv)


def main(argv=None):
    options = arguments(argv)
    try:
        if options.preview:
            for model in preview(options.preview):
                print(options.preview / model["name"])
        elif options.readme:
            write_readme(lambda text: with_models(text, todays_models()))
        elif options.diffs:
            print(diffs_table(todays_models()))
        elif options.after:
            print(after(options.after, todays_models()))
        else:
            return 1 if cut(options.revision) else 0
        return 0
    except Refusal as refusal:
        print(f"branches.py: {refusal}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
