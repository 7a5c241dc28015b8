"""What branches.py refuses, and how it ends: one line, and nothing has changed."""

import ast
import os
import re
import shutil
import signal
from pathlib import Path

import branches
from conftest import ROOT, run_python
from repos import MAIN, OLD, POSIX, Repo, entry, hook, listing, text

import pytest


def both(one, other):
    """Two files that would be the same one of a branch, and the refusal, which names them."""
    return {one: "twice\n", other: "twice\n"}, f"{one}.*{other}"


BAD_PATHS = {
    "an unknown parent": (entry("Old", ["Nobody"]), "Nobody"),
    "a circle": (entry("Old", ["New"]) + entry("New", ["Old"]), "circle"),
    "its own parent": (entry("Old", ["Old"]), "circle"),
    "a parent without a name": (entry("Old", [1]), "builds_on .* list of strings"),
    "a part without a name": (entry("Old", parts=[[]]), "parts .* list of strings"),
    "a date that does not exist": (entry("Old", date="2001-02-30"), "path.toml"),
    "a date as text": (entry("Old", date='"2001-02-03"'), "date"),
    "a date git cannot hold": (entry("Old", date="1958-11-01"), "1970"),
    "a model twice": (OLD + OLD, "twice"),
    "the name of main": (entry("main"), "main"),
    "a name that is a path": (entry("../Old"), "name"),
    "a missing field": (OLD.replace('chapter = "Sounds"\n', ""), "missing.* chapter$"),
    "an unknown field": (entry("Old", colour="red"), "colour"),
    "no model": ("", r"\[\[model\]\]"),
    "no TOML": ("[[model", "path.toml"),
    "models that are no list": ("model = 5", r"\[\[model\]\]"),
    "models that are no tables": ("model = [5]", r"\[\[model\]\]"),
    "a model that is no list": ('[model]\nname = "Old"', r"\[\[model\]\]"),
    "a name that is no text": ("[[model]]\nname = [[]]", "a model without a name"),
    "a number too long": ("x = " + "1" * 5000, "path.toml: .*digits"),
    "a number too long to print": ("[[model]]\nname = 0x" + "f" * 5000, "without a name"),
    "tables in tables": ("x = " + "[" * 3000 + "]" * 3000, "path.toml: .*deeply"),
    "HEAD": (entry("HEAD"), "HEAD: a name"),
    "the name of main in capitals": (entry("Main"), "Main: a name"),
    "a name too long": (entry("a" * 252), "a{100}: a name is up to 100 letters"),
    "a name of thousands": (entry("a" * 5000), r"a \.\.\. a+: .* and not main or HEAD"),
    "two names but for capitals": (OLD + entry("OLD"), "OLD: listed twice"),
    "a parent but for capitals": (OLD + entry("New", ["OLD"]), "New: builds on OLD"),
    "a parent twice": (OLD + entry("New", ["Old", "Old"]), "New: builds_on names one"),
    "a line break": (entry("Old", title=r"a\nb"), "Old: title should be one line"),
    "a null": (entry("Old", chapter=r"\u0000"), "Old: chapter should be one line"),
    "an escape": (OLD + r'"\u001b[31m" = "red"', r"Old: .*unknown: \\x1b\[31m"),
}


@pytest.mark.parametrize("text, words", BAD_PATHS.values(), ids=BAD_PATHS)
def test_a_path_that_is_wrong_is_refused_in_one_line(text, words):
    with pytest.raises(branches.Refusal, match=words) as refused:
        branches.read_path(text)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 700


BAD = {
    "an unknown parent": (listing(entry("Old", ["Nobody"])), "Nobody"),
    "an escape": (listing(OLD + r'"\u001b[31m" = "red"'), r"Old: .*unknown: \\x1b\[31m"),
    "an unknown part": (listing(entry("Old", parts=["smell"])), "Old: .*no .* some_branches/smell"),
    "a missing folder": (listing(entry("Lost")), "models/Lost"),
    "another encoding": ({"path.toml": OLD.encode("utf-16")}, "path.toml is not UTF-8"),
    "another encoding in all": (
        {"every_branch/README.md": "é".encode("latin-1")},
        "every_branch/README.md is not UTF-8",
    ),
    "another encoding in a part": (
        {"some_branches/sight/README.md": b"\xff"},
        "some_branches/sight/README.md is not UTF-8",
    ),
    "an unknown placeholder": ({"some_branches/sight/README.md": "of $x\n"}, "README.md of New.*x"),
    "a dollar sign": ({"every_branch/README.md": "costs $5\n"}, r"README.md of Old.* \$\$"),
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
    assert "type git clone" in Repo(folder).cut(code=2, env=env)
    (folder / ".git").mkdir()
    assert "not a git repository" in Repo(folder).cut(code=2, env=env)


@pytest.mark.parametrize("file, words", [("path.toml", ["--diffs"]), ("README.md", ["--readme"])])
def test_a_file_that_is_missing(repo, file, words):
    (repo.folder / file).unlink(missing_ok=True)
    assert f"{file}'" in repo.cut(*words, code=2)


def test_files_as_an_editor_on_windows_saves_them(branched, tmp_path):
    before = branched.tips()
    pieces = ("path.toml", "every_branch/README.md", "some_branches/sight/README.md")
    saved = {path: MAIN[path].replace("\n", "\r\n").encode("utf-8-sig") for path in pieces}
    branched.commit({**saved, ".git/info/attributes": "* -text\n"})
    branched.cut()
    assert branched.tips() == before
    branched.cut("--preview", tmp_path / "look")
    assert b"\r" not in (tmp_path / "look/New/README.md").read_bytes()


@pytest.mark.parametrize("day", ["1970-01-01", "2100-01-01", "9999-12-31"])
def test_every_day_since_1970_is_a_date(repo, day):
    repo.commit(listing(entry("Old", date=day)))
    repo.cut()
    assert repo.git("log", "-1", "--format=%ai", "Old") == f"{day} 12:00:00 +0000"


def test_a_terminal_that_knows_ascii_alone(repo):
    env = {**repo.env, "PYTHONIOENCODING": "ascii"}
    folder = repo.folder.parent / "∞"
    assert r"\u221e" in repo.cut("--preview", folder, env=env)
    repo.git("worktree", "add", "-q", "-b", "Old", repo.folder.parent / "ω")
    assert "left alone" in repo.cut(env=env, code=1)
    assert r"lists no \u221e" in repo.cut("--after", "∞", env=env, code=2)


@POSIX
@pytest.mark.parametrize("words", [[], ["--diffs"], ["--help"]])
def test_a_stdout_that_takes_nothing(repo, words):
    reader, writer = os.pipe()
    os.close(reader)  # as `head -0` does
    with open(writer, "w") as pipe:
        assert repo.cut(*words, stdout=pipe) == ""
    assert bool(repo.tips()) == (words == [])
    assert repo.cut(*words, preexec_fn=lambda: os.close(1)) == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no /dev/full")
@pytest.mark.parametrize(
    "words, code", [([], 0), (["--preview", "look"], 0), (["--diffs"], 2), (["--help"], 2)]
)
def test_a_disk_that_is_full(repo, tmp_path, words, code):
    with open("/dev/full", "w") as full:
        assert "stdout: No space left" in repo.cut(*words, code=code, stdout=full, cwd=tmp_path)
        repo.cut("--after", "Nobody", code=2, stderr=full)
    assert bool(repo.tips()) == (words == [])
    assert (tmp_path / "look").exists() == ("look" in words)


@pytest.fixture
def terminal():
    """Programs heed Ctrl-C, though the tests may run where none does: in a script's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@POSIX
@pytest.mark.parametrize("command", ["ls-tree", "write-tree", "status"])
def test_ctrl_c_before_the_move(repo, terminal, command):
    repo.before_git(command, 'kill -INT "-$PPID"')  # to all in that terminal
    assert repo.cut(code=130, start_new_session=True).endswith("stopped; nothing changed\n")


@POSIX
def test_ctrl_c_during_the_move(branched, terminal):
    """It comes when git has locked the branches, from a hook."""
    branched.commit({"every_branch/harness/run.py": "better = True\n"})
    branched.before_git("update-ref", 'export TERMINAL="-$PPID"')
    hook(branched, 'test "$1" != prepared || kill -INT "$TERMINAL"')
    branched.cut(start_new_session=True)
    assert branched.git("show", "New:harness/run.py") == "better = True"


def failing(error, after=0):
    """A function that fails when it is called once more than so often."""
    calls = iter(range(after))

    def fail(*words, **options):
        if next(calls, None) is None:
            raise error
        return shutil.copyfile(*words)

    return fail


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt(), 130), (OSError(28, "full"), 2)])
def test_a_preview_that_is_stopped_leaves_nothing(tmp_path, monkeypatch, error, code):
    (tmp_path / "mine").write_text("mine")
    for folder in (tmp_path, tmp_path / "new" / "look"):
        monkeypatch.setattr(branches.shutil, "copy", failing(error, after=99))
        assert branches.main(["--preview", str(folder)]) == code
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_preview_where_it_cannot_be(repo, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "file" in repo.cut("--preview", folder, code=2)
    repo.commit({"every_branch/README.md": "$nothing\n"})
    repo.cut("--preview", tmp_path / "new", code=2)
    assert not (tmp_path / "new").exists() and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("place, name", [(os, "replace"), (Path, "write_text")])
def test_a_readme_is_written_at_once_or_not_at_all(tmp_path, monkeypatch, place, name):
    readme = "<!-- made by branches.py --readme -->\n<!-- end -->\n"
    for file, content in {"README.md": readme, **listing(OLD)}.items():
        (tmp_path / file).write_bytes(content.encode())
    monkeypatch.setattr(branches, "ROOT", tmp_path)
    monkeypatch.setattr(place, name, failing(OSError(28, "full")))
    assert branches.main(["--readme"]) == 2
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == readme
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "path.toml"]


def test_an_old_python_can_read_the_line_that_turns_it_away():
    ast.parse(text("branches.py"), feature_version=(3, 7))
    done = run_python("-c", "import sys; sys.version_info = (3, 10); import branches", cwd=ROOT)
    assert done.returncode == 2 and "3.11 or newer" in done.stderr
