"""What branches.py refuses, and how it ends: one line, and nothing has changed."""

import ast
import re
import shutil

import pytest

from conftest import ROOT, run_python
from repos import OLD, Repo, entry, listing, text


def both(one, other):
    """Two files that would be the same one of a branch, and the refusal, which names them."""
    return {one: "twice\n", other: "twice\n"}, f"{one}.*{other}"


BAD = {
    "an unknown parent": (listing(entry("Old", ["Nobody"])), "Nobody"),
    "a circle": (listing(entry("Old", ["New"]) + entry("New", ["Old"])), "circle"),
    "its own parent": (listing(entry("Old", ["Old"])), "circle"),
    "a parent without a name": (listing(entry("Old", [1])), "builds_on .* list of strings"),
    "a part without a name": (listing(entry("Old", parts=[[]])), "parts .* list of strings"),
    "an unknown part": (listing(entry("Old", parts=["smell"])), "Old: .*no .* some_branches/smell"),
    "a date that does not exist": (listing(entry("Old", date="2001-02-30")), "path.toml"),
    "a date as text": (listing(entry("Old", date='"2001-02-03"')), "date"),
    "a date git cannot hold": (listing(entry("Old", date="1958-11-01")), "1970"),
    "a missing folder": (listing(entry("Lost")), "models/Lost"),
    "a model twice": (listing(OLD + OLD), "twice"),
    "the name of main": (listing(entry("main")), "main"),
    "a name that is a path": (listing(entry("../Old")), "name"),
    "a missing field": (listing(OLD.replace('chapter = "Sounds"\n', "")), "missing.* chapter$"),
    "an unknown field": (listing(entry("Old", colour="red")), "colour"),
    "no model": (listing(""), r"\[\[model\]\]"),
    "no TOML": (listing("[[model"), "path.toml"),
    "an unknown placeholder": ({"some_branches/sight/README.md": "costs $5\n"}, "README.md of New"),
    "every branch and a model": both("every_branch/model.py", "models/Old/model.py"),
    "every branch and a part": both("every_branch/data/image", "some_branches/sight/data/image"),
    "two parts": both("some_branches/sight/x.py", "some_branches/sound/x.py"),
    "main and a model": both("LICENSE", "models/New/LICENSE"),
    "the template and a model": both("every_branch/README.md", "models/New/README.md"),
    "a file and a folder": both("models/New/data", "some_branches/sight/data/image"),
}


@pytest.mark.parametrize("files, words", BAD.values(), ids=BAD)
def test_what_is_wrong_is_refused_before_anything_is_touched(repo, files, words):
    repo.commit(files)
    assert re.search(words, repo.cut(code=2))
    assert repo.tips() == {}


def test_without_git_and_outside_a_repository(repo, tmp_path):
    env = {**repo.env, "PATH": str(repo.folder / "nothing")}
    assert repo.cut(code=2, env=env) == "branches.py: git is not installed, or not on the PATH\n"
    folder = tmp_path / "unzipped"
    shutil.copytree(repo.folder, folder, ignore=shutil.ignore_patterns(".git"))
    env = {**repo.env, "GIT_CEILING_DIRECTORIES": str(tmp_path)}
    assert "not a git repository" in Repo(folder).cut(code=2, env=env)


def test_an_old_python_can_read_the_line_that_turns_it_away():
    ast.parse(text("branches.py"), feature_version=(3, 7))
    done = run_python("-c", "import sys; sys.version_info = (3, 10); import branches", cwd=ROOT)
    assert done.returncode == 2 and "3.11 or newer" in done.stderr
