"""Cut the branches of this repository, one per model, from main.

A branch holds LICENSE and .gitattributes of main, all of every_branch/, and models/<Name>/ laid
over it; README.md is a template filled in from path.toml. Its commits bear the date of the
model's paper, and its parents are the branches of the models that it builds on.

A commit depends on nothing but the committed content of main and the tips that exist, so two
clones cut the same ids. Branches only grow: a tip is never rewritten, origin/<Name> leads where
it exists, and a branch with a learner's own commits, or checked out somewhere, is left alone.

    python branches.py                        cut or update every branch from main
    python branches.py --from REV             the same from another commit
    python branches.py --preview FOLDER       lay every branch out in FOLDER, as the files are today
    python branches.py --readme               rewrite the models in README.md
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
import graphlib
import os
import re
import shutil
import string
import subprocess
import tempfile
import tomllib
from pathlib import Path

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
    "builds_on": list,
}
SHARED_WITH_MAIN = ("LICENSE", ".gitattributes")
LARGE = 1_000_000  # bytes; a preview links such files instead of copying them


class Refusal(Exception):
    """Something the user has to put right; its message says what."""


def git(*arguments, stdin=b"", check=True, **environment):
    """Run git in this repository: its output without the last newline, or None if it failed."""
    try:
        done = subprocess.run(
            ["git", "-C", ROOT, *arguments],
            input=stdin,
            capture_output=True,
            env={**os.environ, **environment},
        )
    except FileNotFoundError:
        raise Refusal("git is not installed, or not on the PATH") from None
    if done.returncode == 0:
        return done.stdout.decode(errors="surrogateescape").removesuffix("\n")
    if check:
        raise Refusal(done.stderr.decode(errors="replace").strip() or f"git {arguments[0]} failed")
    return None


# The path


def read_path(text):
    """The models of a path.toml, in its order, each a dict of FIELDS."""
    try:
        models = tomllib.loads(text).get("model", [])
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"path.toml: {error}") from None
    if not isinstance(models, list) or not models:
        raise Refusal("path.toml: it lists no [[model]]")
    names = [model.get("name") for model in models]
    for model in models:
        where = f"path.toml: {model.get('name', 'a model without a name')}"
        if model.keys() != FIELDS.keys():
            wrong = ", ".join(sorted(model.keys() ^ FIELDS.keys()))
            raise Refusal(f"{where}: missing or unknown: {wrong}")
        for field, kind in FIELDS.items():
            if type(model[field]) is not kind:
                raise Refusal(f"{where}: {field} should be a {kind.__name__}")
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


def parents_first(models):
    """The same models, each after those it builds on."""
    by_name = {model["name"]: model for model in models}
    order = graphlib.TopologicalSorter({name: m["builds_on"] for name, m in by_name.items()})
    return [by_name[name] for name in order.static_order()]


def overlay(paths, name):
    """{path on the branch: path on main} of the branch `name`, out of main's `paths`."""
    layers = {"": SHARED_WITH_MAIN}
    for folder in ("every_branch/", f"models/{name}/"):
        layers[folder] = [path.removeprefix(folder) for path in paths if path.startswith(folder)]
    if not layers[f"models/{name}/"]:
        raise Refusal(f"path.toml: {name}: there is no folder models/{name}")
    files = {path: folder + path for folder, layer in layers.items() for path in layer}
    for source in (*SHARED_WITH_MAIN, "every_branch/README.md"):
        if source not in paths:
            raise Refusal(f"{source} is missing")
    return files


def fill_in(template, model, models):
    """README.md of a branch: the template with what path.toml says of this model."""
    names = [m["name"] for m in models]
    place = names.index(model["name"])
    parents = model["builds_on"]
    diffs = [f"git diff {parent} {model['name']} -- model.py train.py" for parent in parents]
    following = names[place + 1 : place + 2]
    return string.Template(template).substitute(
        name=model["name"],
        my_name=model["name"].lower(),
        model=model["class"],
        title=model["title"],
        authors=model["authors"],
        link=model["link"],
        year=model["date"].year,
        idea=model["idea"],
        place=f"{place + 1} of {len(models)}",
        builds_on="It builds on " + " and ".join(parents) + ":"
        if parents
        else "Nothing comes before it:",
        diff="\n    ".join(diffs) or "git log --stat -1 --format='%s'",
        next=(
            f"git checkout {following[0]} && python train.py"
            if following
            else "git checkout main                 # the end of the path so far"
        ),
    )


def models_table(models):
    """The table of models in main's README, as Markdown."""
    rows = ["| Year | Branch | What it brought | Paper |", "|---|---|---|---|"]
    for m in models:
        rows.append(
            f"| {m['date'].year} | [{m['name']}](models/{m['name']}/summary.md) "
            f"| {m['idea']} | [{m['title']}]({m['link']}) |"
        )
    return "\n".join(rows)


def family_tree(models):
    """A Mermaid flowchart of what builds on what, oldest on top."""
    lines = ["```mermaid", "flowchart TB"]
    lines += [f'    {m["name"]}["{m["name"]}, {m["date"].year}"]' for m in models]
    lines += [f"    {parent} --> {m['name']}" for m in models for parent in m["builds_on"]]
    return "\n".join([*lines, "```"])


def with_models(readme, models):
    """README.md of main with its table of models and its family tree made anew."""
    marked = re.compile(r"(?<=made by branches.py --readme -->\n).*?(?=<!-- end -->)", re.S)
    if not marked.search(readme):
        raise Refusal("README.md has lost the two comments around its models")
    made = f"""{models_table(models)}

An arrow leads from a model to one that builds on it; the branches' commits have the same parents.

{family_tree(models)}
"""
    return marked.sub(lambda _: made, readme)


def after(name, models):
    """What to do once `make <name>` has trained it."""
    names = [model["name"] for model in models]
    following = names[names.index(name) + 1 :][:1]
    lines = [
        "",
        f"You are on branch {name}: the lesson is summary.md, results are in checkpoints/{name}/",
        "Activate the environment:   source .venv/bin/activate",
    ]
    if following:
        lines.append(f"Go on along the path:       git checkout {following[0]} && python train.py")
    else:
        lines.append(f"{name} is the end of the path so far. Back to main: git checkout main")
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
    layouts = {model["name"]: overlay(objects, model["name"]) for model in models}
    refs = existing_branches()
    published = [name for name in layouts if f"refs/remotes/origin/{name}" in refs]
    if published and git("rev-parse", "--is-shallow-repository") == "true":
        raise Refusal(
            "this clone is shallow, and the history of the published branches is needed: "
            "git fetch --unshallow"
        )

    template = git("cat-file", "blob", objects["every_branch/README.md"][1]) + "\n"
    tips = {}
    for model in parents_first(models):
        name = model["name"]
        tree = write_tree(layouts[name], objects, fill_in(template, model, models))
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
    changed = git("status", "--porcelain", "--", "path.toml", "every_branch", "models")
    if changed and revision is None:
        print("Not in the branches: changes that are not committed yet (git status shows them)")
    return withheld


def preview(folder):
    """Lay every branch out in folder/<Name>, from the files as they are on disk; the models."""
    models = read_path((ROOT / "path.toml").read_text(encoding="utf-8"))
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]
    paths = {path for path in listed if (ROOT / path).is_file()}
    layouts = {model["name"]: overlay(paths, model["name"]) for model in models}
    for name in layouts:
        if (folder / name).exists():
            raise Refusal(f"{folder / name} exists already: nothing was written")
    template = (ROOT / "every_branch/README.md").read_text(encoding="utf-8")
    for model in models:
        for path, source in layouts[model["name"]].items():
            target = folder / model["name"] / path
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(ROOT / source, target)
        readme = folder / model["name"] / "README.md"
        readme.write_text(fill_in(template, model, models), encoding="utf-8", newline="\n")
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
    what.add_argument("--after", metavar="NAME", help="the last lines of make NAME")
    return parser.parse_args(argv)


def main(argv=None):
    options = arguments(argv)
    try:
        if options.preview:
            for model in preview(options.preview):
                print(options.preview / model["name"])
            return 0
        if options.readme or options.after:
            models = read_path((ROOT / "path.toml").read_text(encoding="utf-8"))
            if options.after:
                if options.after not in (model["name"] for model in models):
                    raise Refusal(f"path.toml lists no {options.after}")
                print(after(options.after, models))
                return 0
            readme = ROOT / "README.md"
            text = with_models(readme.read_text(encoding="utf-8"), models)
            readme.write_text(text, encoding="utf-8", newline="\n")
            return 0
        return 1 if cut(options.revision) else 0
    except Refusal as refusal:
        print(f"branches.py: {refusal}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
