"""Real repositories in temporary folders, for the tests of branches.py and results.py."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
POSIX = pytest.mark.skipif(os.name == "nt", reason="needs the scripts and file names of POSIX")


class Repo:
    """A git repository of a contributor or learner, who has a name of his own."""

    def __init__(self, folder):
        self.folder = folder
        self.env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        self.env.pop("PYTHONUNBUFFERED", None)  # for what Python does about a stdout at its end
        for role in ("AUTHOR", "COMMITTER"):
            self.env |= {f"GIT_{role}_NAME": "Me", f"GIT_{role}_EMAIL": "me@example.org"}

    def run(self, *words, **kwargs):
        words = ["git", "-c", "protocol.file.allow=always", *map(str, words)]
        options = {"cwd": self.folder, "env": self.env, "capture_output": True} | kwargs
        return subprocess.run(words, encoding="utf-8", errors="surrogateescape", **options)

    def git(self, *words, check=True, **kwargs):
        done = self.run(*words, **kwargs)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip() if check else done.returncode

    def write(self, files):
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def commit(self, files):
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "work")

    def program(self, *words, **options):
        """Run branches.py, with all that it prints captured."""
        environment = {**options.pop("env", self.env)}
        return subprocess.run(
            [sys.executable, self.folder / "branches.py", *map(str, words)],
            env={"PYTHONIOENCODING": "utf-8", **environment},
            stdin=subprocess.DEVNULL,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
            encoding="utf-8",
            errors="replace",
        )

    def cut(self, *words, code=0, **options):
        """What it prints; it has to end with this code, and as it promises."""
        before = self.refs()
        done = self.program(*words, **options)
        out, err = done.stdout or "", done.stderr or ""
        assert done.returncode == code and "Traceback" not in err, out + err
        assert ("left alone: " in out) == (code == 1), out
        if code in (2, 130):
            assert self.refs() == before, "an error, and yet something moved"
            assert out == "" and (done.stderr is None or re.fullmatch(".+\n", err)), err
            assert err[:-1].isprintable(), "an escape sequence, or another line"
        return out + err

    def refs(self):
        return self.run("for-each-ref", "--format=%(refname) %(objectname) %(symref)").stdout

    def publish(self):
        """As the workflow does. Without --force, git refuses whatever is no fast-forward."""
        self.cut()
        self.git("push", "-q", "origin", "main", *self.tips())

    def tips(self):
        lines = self.git("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads")
        return {name: tip for name, tip in map(str.split, lines.splitlines()) if name != "main"}

    def descends(self, child, parent):
        return self.git("merge-base", "--is-ancestor", parent, child, check=False) == 0

    def before_git(self, command, script):
        """From now on, branches.py finds a git that runs a script before this command of git's."""
        folder = self.folder.parent / "shim"
        folder.mkdir()
        git = shutil.which("git")
        (folder / "git").write_text(
            f'#!/bin/sh\ngit="{git}"\ncd "{self.folder}"\n'
            f'case " $* " in *" {command} "*) {script};; esac\nexec "$git" "$@"\n'
        )
        (folder / "git").chmod(0o755)
        self.env["PATH"] = f"{folder}{os.pathsep}{self.env['PATH']}"

    def clone(self, folder, *words):
        self.git("clone", "-q", *words, self.folder.as_uri(), folder)
        return Repo(folder)


def hook(repo, script):
    """Git asks this script before it moves references."""
    repo.write({".git/hooks/reference-transaction": f"#!/bin/sh\n{script}\n"})
    (repo.folder / ".git/hooks/reference-transaction").chmod(0o755)


def entry(name, builds_on=(), date="2001-02-03", parts=(), **fields):
    fields = {"title": f"On {name}", "chapter": "Sounds", "task": "hearing"} | fields
    fields |= {"name": name, "class": f"{name}Net", "idea": "An idea", "authors": "A. Ünal"}
    lines = [
        f'{field} = "{value}"' for field, value in (fields | {"link": "https://a.org"}).items()
    ]
    lines += [f"date = {date}", f"builds_on = {list(builds_on)}", f"parts = {list(parts)}"]
    return "\n".join(["[[model]]", *lines, ""])


def model_files(name):
    files = {"model.py": f"{name} = 1\n", "train.py": f"{name}\n", "summary.md": "# 1\n"}
    return {f"models/{name}/{file}": text for file, text in files.items()}


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def listing(text):
    return {"path.toml": text}


OLD = entry("Old", date="1998-11-01")
MIDDLE = entry("Middle", ["Old"], parts=["sound"])
NEW = entry("New", ["Middle", "Old"], parts=["sight", "sound"])
MAIN = {
    "branches.py": text("branches.py"),
    "every_branch/README.md": text("every_branch/README.md"),
    **listing(OLD + MIDDLE + NEW),
    "LICENSE": "free\n",
    ".gitattributes": "* text=auto\n",
    "requirements.txt": "torch\n",
    "every_branch/harness/run.py": "shared = True\n",
    "some_branches/sound/README.md": "\nHow $name sounds.\n",
    "some_branches/sound/harness/sound.py": "sound = True\n",
    "some_branches/sight/README.md": "What $name sees.\n",
    "some_branches/sight/data/image": "pixels\n",
    **(model_files("Old") | model_files("Middle") | model_files("New")),
}


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """Main with Old <- Middle <- New, and New <- Old besides."""
    repo = Repo(tmp_path_factory.mktemp("original"))
    repo.git("init", "-q", "-b", "main")
    repo.commit(MAIN)
    return repo.folder


@pytest.fixture
def repo(original, tmp_path):
    """A copy of it."""
    return Repo(shutil.copytree(original, tmp_path / "a répo"))


@pytest.fixture(scope="session")
def original_branched(original, tmp_path_factory):
    repo = Repo(shutil.copytree(original, tmp_path_factory.mktemp("branched") / "repo"))
    repo.cut()
    return repo.folder


@pytest.fixture
def branched(original_branched, tmp_path):
    """A copy of it in which the branches have been cut."""
    return Repo(shutil.copytree(original_branched, tmp_path / "a répo"))


@pytest.fixture
def published(repo, tmp_path):
    """A bare origin with main and the branches."""
    bare = repo.clone(tmp_path / "origin.git", "--bare")
    repo.git("remote", "add", "origin", bare.folder.as_uri())
    repo.publish()
    return bare
