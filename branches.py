"""Cut the branches of this repository, one per model, from main.

A branch is made of layers: LICENSE, .gitattributes and requirements.txt of main, every_branch/, the
parts of some_branches/ that the model's entry in path.toml names, and models/<Name>/. README.md is
a template filled in from path.toml. A branch's commits bear the date of the model's paper, and its
parents are the branches of the models that it builds on.

A commit depends on nothing but the committed content of main and the tips that exist, so two
clones cut the same ids. Branches only grow: the published <Name> leads where there is one (of
main's remote, or else of origin, or else of the only remote), a branch is only moved forward, to a
descendant of its tip, and it is left alone if it carries a learner's own commits, is in use
somewhere, or is one that git will not move. A draft is a commit that was cut here and never
published; where main has changed since, it is dropped only if --drafts says so.

    python branches.py                        cut or update every branch from main
    python branches.py --drafts               the same, with new drafts in place of old ones
    python branches.py --from REV             the same from another commit
    python branches.py --preview FOLDER       lay every branch out in FOLDER, as the files are today
    python branches.py --readme               rewrite the models in README.md
    python branches.py --diffs                how much of train.py and model.py neighbors share
    python branches.py --after LeNet          say what to do once LeNet is trained

All branches move at once or, after an error, none does.

Exit code: 0, all branches are up to date; 1, an update was withheld; 2, an error, nothing changed;
130, stopped, nothing changed.
"""

import sys

if sys.version_info < (3, 11):
    print(
        f"branches.py needs Python 3.11 or newer; this is {sys.version.split()[0]}", file=sys.stderr
    )
    sys.exit(2)

import argparse
import contextlib
import datetime
import functools
import graphlib
import os
import re
import shutil
import signal
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
UP_TO_DATE, MOVES, LEFT_ALONE = "up to date", "moves", "left alone"
NAME_OF_A_MODEL = re.compile("[A-Za-z0-9][A-Za-z0-9-]{0,99}")
CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029]")
FROM_ROOT = ("LICENSE", ".gitattributes", "requirements.txt")
COMPARED = ("model.py", "train.py")
GIT_SINCE = (2, 27)  # whose update-ref takes several branches in one transaction


def one_line(text):
    """The text short and with control characters escaped, whatever is in the file it quotes."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= 600 else f"{text[:300]} ... {text[-300:]}"


class Refusal(Exception):
    """Something the user has to put right; its message, of one line, says what."""

    def __init__(self, message):
        super().__init__(one_line(message))


def run_git(arguments, stdin=b"", environment=None, **options):
    try:
        return subprocess.run(
            ["git", *arguments], input=stdin, capture_output=True, env=environment, **options
        )
    except FileNotFoundError:
        raise Refusal("git is not installed, or not on the PATH") from None


@functools.cache
def surroundings():
    """The environment, without what leads git to another repository, or to other parents."""
    local = run_git(["rev-parse", "--local-env-vars"]).stdout.decode().split()
    elsewhere = {word for word in local if not word.startswith("GIT_CONFIG")} | {"GIT_NAMESPACE"}
    kept = {word: value for word, value in os.environ.items() if word not in elsewhere}
    return kept | {"GIT_NO_REPLACE_OBJECTS": "1"}


def git_bytes(*arguments, stdin=b"", check=True, good=(0,), shielded=False, **environment):
    """Run git in this repository: its output, or None if it failed.

    good: the exit codes that are no failure. shielded: Ctrl-C does not reach it.
    """
    environment = surroundings() | environment
    done = run_git(["-C", ROOT, *arguments], stdin, environment, start_new_session=shielded)
    if done.returncode in good:
        return done.stdout
    if check:
        words = done.stderr.decode(errors="replace").split()
        raise Refusal(" ".join(words) or f"git {arguments[0]} failed")
    return None


def git(*arguments, **options):
    """The same as text, without the last newline."""
    output = git_bytes(*arguments, **options)
    return None if output is None else output.decode(errors="surrogateescape").removesuffix("\n")


def decoded(data, path):
    """The text of a file, whatever an editor on Windows made of its start and its lines."""
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise Refusal(f"{path} is not UTF-8: save it as UTF-8 in an editor") from None


def text_of(path):
    """The text of a file of main as it is on disk."""
    return decoded((ROOT / path).read_bytes(), path)


# The path


def read_path(text):
    """The models of a path.toml, in its order, each a dict of FIELDS, and of OPTIONAL if given."""
    try:
        models = tomllib.loads(text).get("model", [])
    except RecursionError:
        raise Refusal("path.toml: it is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError is one, and a number of 5,000 digits another
        raise Refusal(f"path.toml: {error}") from None
    if not isinstance(models, list) or not models:
        raise Refusal("path.toml: it lists no [[model]]")
    names = {}
    for model in models:
        if not isinstance(model, dict):
            raise Refusal("path.toml: a model is a table: [[model]], and its fields below")
        name = model.get("name")
        where = f"path.toml: {name if isinstance(name, str) else 'a model without a name'}"
        wrong = (FIELDS.keys() - model.keys()) | (model.keys() - FIELDS.keys() - OPTIONAL.keys())
        if wrong:
            raise Refusal(f"{where}: missing or unknown: {', '.join(sorted(wrong))}")
        for field, value in model.items():
            kind = (FIELDS | OPTIONAL)[field]
            if type(value) is not kind:
                raise Refusal(f"{where}: {field} should be a {kind.__name__}")
            if kind is list and not all(type(item) is str for item in value):
                raise Refusal(f"{where}: {field} should be a list of strings")
            if kind is list and len(set(value)) < len(value):
                raise Refusal(f"{where}: {field} names one twice")
            if kind is str and CONTROL.search(value):
                raise Refusal(f"{where}: {field} should be one line, without control characters")
        if not NAME_OF_A_MODEL.fullmatch(name) or name.lower() in ("main", "head"):
            raise Refusal(
                f"{where}: a name is up to 100 letters, digits and hyphens, and not main or HEAD"
            )
        if name.lower() in names:  # to Windows and macOS, both are one file
            raise Refusal(f"{where}: listed twice (capital letters make no other name)")
        names[name.lower()] = name
        if model["date"].year < 1970:
            raise Refusal(f"{where}: git cannot hold a date before 1970")
    for model in models:
        for parent in model["builds_on"]:
            if parent not in names.values():
                raise Refusal(
                    f"path.toml: {model['name']}: builds on {parent}, which is not listed"
                )
    try:
        graphlib.TopologicalSorter({m["name"]: m["builds_on"] for m in models}).prepare()
    except graphlib.CycleError as error:
        raise Refusal(f"path.toml: a circle: {' → '.join(error.args[1])}") from None
    return models


def todays_models():
    """The models of path.toml as it is on disk."""
    return read_path(text_of("path.toml"))


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
    """The commands that lead on from a model: to those that build on it, and to the next listed."""
    names = [model["name"] for model in models]
    following = [model["name"] for model in models if name in model["builds_on"]]
    commands = [f"git checkout {other} && python train.py" for other in following]
    for other in names[names.index(name) + 1 :][:1]:
        if other not in following:
            about = "  # the next on the list" if commands else ""
            commands.append(f"git checkout {other} && python train.py{about}")
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
    template = read("every_branch/README.md").removesuffix("\n") + "\n"
    template = template.replace("$parts", pieces)
    words = {
        **{field: model[field] for field in ("name", "title", "authors", "link", "idea")},
        "my_name": name.lower(),
        "model": model["class"],
        "year": model["date"].year,
        "place": f"{place} of {len(models)}",
        "builds_on": f"It builds on {' and '.join(parents)}:"
        if parents
        else "It builds on no earlier branch:",
        "diff": "\n    ".join(diffs) or "git log --stat -1 --format='%s'",
        "next": "\n    ".join(go_on(name, models)),
    }
    try:
        return string.Template(template).substitute(words)
    except (KeyError, ValueError) as error:
        raise Refusal(
            f"README.md of {name}: {error}: no such placeholder; a dollar sign is written $$"
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


def write(path, text):
    """A file of main anew, which is never half written."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_readme(change):
    """README.md of main anew: change(its text)."""
    write(ROOT / "README.md", change(text_of("README.md")))


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
                words = ("--no-index", "--numstat", "--text", "--diff-algorithm=default", "--")
                come, go, *_ = (git("diff", *words, old, new, good=(0, 1)) or "0 0").split()
                with open(old, "rb") as lines:
                    stay = sum(1 for _ in lines) - int(go)
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


def git_version():
    return re.search(r"\d+\.\d+", run_git(["version"]).stdout.decode())[0]


def check_clone():
    """Refusal where this folder is no clone: a ZIP file unpacked, maybe inside another clone."""
    version = git_version()
    if tuple(map(int, version.split(".")[:2])) < GIT_SINCE:
        raise Refusal(
            f"git {version} is too old: {'.'.join(map(str, GIT_SINCE))} or newer is needed"
        )
    if not (ROOT / ".git").exists() or git("rev-parse", "--show-cdup"):
        raise Refusal(
            "this folder is not a git repository of its own (a ZIP file holds none): "
            "type git clone <this repository> DeepLearning, as README.md says"
        )


def leading_remote():
    """The remote whose branches lead: main's, or else origin, or else the only one; "" for none."""
    remotes = git("remote").split("\n")
    for remote in (git("config", "branch.main.remote", good=(0, 1)), "origin"):
        if remote in remotes:
            return remote
    if len(remotes) > 1:
        raise Refusal(
            f"which remote has the published branches: {', '.join(remotes)}? "
            "git config branch.main.remote <remote>"
        )
    return remotes[0]


def existing_branches(remote):
    """{full ref: (tip, what it is a symbolic reference to or "", where it is checked out or "")}.

    Of the local branches and of the remote's.
    """
    fields = ("refname", "objectname", "symref", "worktreepath")
    form = "".join(f"%({field})%00" for field in fields)  # a path may hold any other character
    refs = git("for-each-ref", f"--format={form}", "refs/heads", f"refs/remotes/{remote}")
    words = refs.split("\0")
    rows = zip(*(words[i :: len(fields)] for i in range(len(fields))), strict=False)
    return {ref.removeprefix("\n"): tuple(row) for ref, *row in rows}


def branches_at_work():
    """{name: why} of the branches that must not move, though no worktree has them checked out."""
    common = ROOT / git("rev-parse", "--git-common-dir")
    rebase = "a rebase of it is under way. git rebase --continue or --abort"
    files = {
        "BISECT_START": "a bisect began at it. git bisect reset",
        "rebase-merge/head-name": rebase,
        "rebase-merge/update-refs": rebase,
        "rebase-apply/head-name": rebase,
        "HEAD": "it is checked out, with no commit yet. Check out another branch there",
    }
    found = {}
    for folder in (common, *sorted(common.glob("worktrees/*"))):
        for file, why in files.items():
            with contextlib.suppress(OSError):
                text = (folder / file).read_text(encoding="utf-8", errors="replace")
                names = re.findall(r"^(?:ref: )?(?:refs/heads/)?(\S+)$", text, re.M)
                found |= dict.fromkeys(names, why)
    return found


def is_ancestor(old, new):
    return git("rev-list", "-1", old, f"^{new}", "--") == ""


def old_tip(name, refs, remote):
    """The commit to append to: of the published branch, or else of ours, the newest that was cut.

    Not the tip: somebody may have pushed a commit of their own to a fork. None if there is none.
    """
    cut = (f"--committer={EMAIL}", f"--grep=^{name}: ")
    for ref in (f"refs/remotes/{remote}/{name}", f"refs/heads/{name}"):
        if ref in refs:
            return git("rev-list", "-1", *cut, ref, "--") or None
    return None


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
    noon = (model["date"] - datetime.date(1970, 1, 1)).days * 86400 + 43200
    date = f"@{noon} +0000"  # in words, git reads none after 2099
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


def decide(name, new, refs, busy, drafts):
    """What is to become of the local branch: (UP_TO_DATE, MOVES or LEFT_ALONE, what to say).

    drafts: whether commits give way that were cut here for this very branch.
    """
    ref = f"refs/heads/{name}"
    local, target, worktree = refs.get(ref, (None, "", ""))
    again = "then python branches.py"
    if local is None:
        target = git("symbolic-ref", "--quiet", ref, check=False)  # it may lead nowhere
    if target:
        return LEFT_ALONE, (
            f"it is a symbolic reference to {target}. git symbolic-ref --delete {ref}, {again}"
        )
    if local == new:
        return UP_TO_DATE, "up to date"
    if local:
        rename = f"git branch -m {name} my-{name.lower()}, {again}"
        form = ("--no-show-signature", "--format=%ce %s")
        extra = git("log", *form, f"{new}..{local}", "--").split("\n")  # the tip comes first
        own = sum(not line.startswith(f"{EMAIL} ") for line in extra if line)
        if own and is_ancestor(new, local):
            return UP_TO_DATE, f"up to date, with {own} commit(s) of your own on top"
        if own:
            return LEFT_ALONE, (
                f"it carries {own} commit(s) of your own. To keep them and get the update: {rename}"
            )
        draft = extra[0].startswith(f"{EMAIL} {name}: ")
        if draft and not drafts:
            return LEFT_ALONE, (
                "it is a draft, which was cut here and never published. "
                "To put a new one in its place: python branches.py --drafts"
            )
        if extra[0] and not draft:
            return LEFT_ALONE, (
                f"it holds {len(extra)} commit(s) of other branches. "
                f"To keep them and get {name} back: {rename}"
            )
    if worktree and not Path(worktree).exists():
        return LEFT_ALONE, (
            f"it is checked out in {worktree}, which is gone. git worktree prune, {again}"
        )
    if worktree:
        return LEFT_ALONE, (
            f"it is checked out in {worktree}. Check out another branch there, {again}"
        )
    if name in busy:
        return LEFT_ALONE, f"{busy[name]}, {again}"
    return MOVES, f"updated from {local[:9]}" if local else "new"


def transaction(moves, commit, last="commit"):
    """Move these branches, {name: (old, new)}, all at once; git's reason if it does not."""
    updates = [f"update refs/heads/{name} {new} {old}" for name, (old, new) in moves.items()]
    commands = "\n".join(["start", *updates, "prepare", last, ""])
    message = f"branch: Cut from {commit}"
    try:
        git("update-ref", "-m", message, "--stdin", stdin=commands.encode(), shielded=True)
    except Refusal as refusal:
        return str(refusal)
    return None


def tip(name):
    return git("rev-parse", "--verify", "--quiet", f"refs/heads/{name}", check=False)


def move(moves, commit):
    """Move these branches, {name: (old, new)}, at once; {name: git's reason} of those left out."""
    if not moves or transaction(moves, commit) is None:
        return {}
    alone = {name: transaction({name: moves[name]}, commit, "abort") for name in moves}
    rest = {name: moves[name] for name, reason in alone.items() if reason is None}
    reason = transaction(rest, commit) if rest else None
    refused = alone | dict.fromkeys(rest, reason)
    # Where another branches.py was faster, all is well.
    return {name: why for name, why in refused.items() if why and tip(name) != moves[name][1]}


def what_to_cut(revision):
    """The id of the commit to cut the branches from; Refusal where that is not clear."""
    here = git("symbolic-ref", "--quiet", "HEAD", check=False)
    if revision is None and here not in (None, "refs/heads/main"):
        raise Refusal(
            f"this is branch {here.removeprefix('refs/heads/')}; "
            "branches are cut from main: git checkout main, or --from REV"
        )
    words = ("--verify", "--quiet", "--end-of-options", f"{revision or 'HEAD'}^{{commit}}")
    commit = git("rev-parse", *words, check=False)
    if commit is None:
        raise Refusal(f"there is no commit {revision or 'HEAD'} to cut from")
    return commit


def new_tips(models, objects, refs, remote):
    """{name: the commit that its branch should have for a tip}, written to the repository."""
    layouts = {model["name"]: overlay(objects, model) for model in models}

    @functools.cache
    def read(path):
        return decoded(git_bytes("cat-file", "blob", objects[path][1]), path)

    tips = {}
    for model in parents_first(models):
        name = model["name"]
        tree = write_tree(layouts[name], objects, branch_readme(model, models, objects, read))
        old = old_tip(name, refs, remote)
        new_parents = [
            tips[parent]
            for parent in model["builds_on"]
            if old is None or not is_ancestor(tips[parent], old)
        ]
        if old and not new_parents and git("rev-parse", f"{old}^{{tree}}") == tree:
            tips[name] = old
        else:
            tips[name] = write_commit(model, tree, [old, *new_parents] if old else new_parents)
    return tips


def cut(revision, drafts=False):
    """Cut or update every branch from a commit of main; the number of updates withheld."""
    check_clone()
    commit = what_to_cut(revision)
    objects = {}
    for entry in git("ls-tree", "-r", "-z", "--full-tree", commit).split("\0")[:-1]:
        head, path = entry.split("\t", 1)
        objects[path] = head.split()[::2]
    if "path.toml" not in objects:
        raise Refusal(f"commit {commit[:9]} has no path.toml: is this the right repository?")
    text = git_bytes("cat-file", "blob", objects["path.toml"][1])
    models = read_path(decoded(text, "path.toml"))
    remote = leading_remote()
    refs = existing_branches(remote)
    theirs, *_ = refs.get(f"refs/remotes/{remote}/main", (commit,))
    if revision is None and theirs != commit and is_ancestor(commit, theirs):
        raise Refusal(
            f"main is behind {remote}/main, and so may be the branches: "
            f"git merge --ff-only {remote}/main, or --from HEAD"
        )
    published = any(f"refs/remotes/{remote}/{model['name']}" in refs for model in models)
    if published and git("rev-parse", "--is-shallow-repository") == "true":
        raise Refusal(
            "this clone is shallow, and the history of the published branches is needed: "
            "git fetch --unshallow"
        )
    sources = (*FROM_ROOT, "path.toml", "every_branch", "some_branches", "models")
    changed = revision is None and git("status", "--porcelain", "--", *sources, check=False)
    tips = new_tips(models, objects, refs, remote)
    refs, busy = existing_branches(remote), branches_at_work()  # as they are by now
    plans = {name: decide(name, tip, refs, busy, drafts) for name, tip in tips.items()}
    moves = {}
    for name, (fate, _) in plans.items():
        if fate == MOVES:
            old, *_ = refs.get(f"refs/heads/{name}", ("0" * len(commit),))
            moves[name] = old, tips[name]

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from here on, "nothing changed" would be wrong
    for name, reason in move(moves, commit).items():
        plans[name] = LEFT_ALONE, f"git refuses to move it: {reason}"
    lines = []
    width = max(map(len, tips))
    for model in models:
        name = model["name"]
        fate, words = plans[name]
        start = "left alone:" if fate == LEFT_ALONE else f"{tips[name][:9]} "
        lines.append(one_line(f"{name:{width}}  {model['date'].year}  {start} {words}"))
    if changed:
        lines.append(
            "Not in the branches: changes that are not committed yet (git status shows them)"
        )
    fetched = git("config", "--get-all", f"remote.{remote}.fetch", good=(0, 1))
    if remote and not published and "refs/heads/*" not in fetched:
        lines.append(
            f"This clone does not fetch the branches that {remote} may have, which may be others: "
            f"git remote set-branches {remote} '*', and git fetch"
        )
    say("\n".join(lines), done=True)
    return sum(fate == LEFT_ALONE for fate, _ in plans.values())


def preview(folder):
    """Lay every branch out in folder/<Name>, from the files as they are on disk; the models."""
    check_clone()
    models = todays_models()
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]
    paths = {path for path in listed if (ROOT / path).is_file()}
    layouts = {model["name"]: overlay(paths, model) for model in models}
    for name in layouts:
        if os.path.lexists(folder / name):
            raise Refusal(f"{folder / name} exists already: nothing was written")
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        for model in models:
            home = folder / model["name"]
            for path, source in layouts[model["name"]].items():
                (home / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, home / path)
            text = branch_readme(model, models, paths, text_of)
            (home / "README.md").write_text(text, encoding="utf-8", newline="\n")
    except BaseException:  # a Ctrl-C as well
        for name in layouts:
            shutil.rmtree(folder / name, ignore_errors=True)
        for parent in missing:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
    return models


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Refusal(f"{message} (--help lists what there is)")


def arguments(argv):
    description, _, details = __doc__.partition("\n\n")
    parser = Parser(
        description=description,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.print_help = lambda: say(parser.format_help().rstrip())
    parser.add_argument("--drafts", action="store_true", help="drop what was never published")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--from", dest="revision", metavar="REV", help="cut from REV, not from HEAD")
    what.add_argument("--preview", metavar="FOLDER", help="write no branch, only FOLDER")
    what.add_argument(
        "--readme", action="store_true", help="bring the models in README.md up to date"
    )
    what.add_argument("--diffs", action="store_true", help="count the lines that neighbors share")
    what.add_argument("--after", metavar="NAME", help="the last lines of make NAME")
    return parser.parse_args(argv)


def tell(text, stream):
    """Print; the error if the stream does not take it."""
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # for Python's own last flush
        return error
    return None


def say(text, done=False):
    """Print on stdout. done: something has changed, so that exit code 2 would be wrong."""
    error = tell(text, sys.stdout)
    if error and not isinstance(error, BrokenPipeError):  # as `head` leaves it
        refusal = Refusal(f"stdout: {error.strerror}")
        if not done:
            raise refusal
        tell(f"branches.py: {refusal}", sys.stderr)


def carry_out(options):
    """The exit code."""
    for flag in ("revision", "preview", "after"):
        if getattr(options, flag) == "":
            raise Refusal(
                f"the {flag} is an empty word; python branches.py --help says what may be"
            )
    others = options.preview, options.after, options.readme, options.diffs
    if options.drafts and any(others):
        raise Refusal(
            "--drafts is about cutting: leave out --preview, --readme, --diffs and --after"
        )
    if options.preview is not None:
        folder = Path(options.preview)
        say("\n".join(str(folder / model["name"]) for model in preview(folder)), done=True)
    elif options.readme:
        write_readme(lambda text: with_models(text, todays_models()))
    elif options.diffs:
        say(diffs_table(todays_models()))
    elif options.after is not None:
        say(after(options.after, todays_models()))
    else:
        return 1 if cut(options.revision, options.drafts) else 0
    return 0


def main(argv=None):
    try:
        return carry_out(arguments(argv))
    except Refusal as refusal:
        problem, code = refusal, 2
    except OSError as error:
        problem, code = Refusal(str(error)), 2
    except KeyboardInterrupt:
        problem, code = "stopped; nothing changed", 130
    tell(f"branches.py: {problem}", sys.stderr)
    return code


if __name__ == "__main__":
    if sys.stdout:
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may know ASCII alone
    sys.exit(main())
