"""branches.py among other names, remotes, settings and repositories: the same ids everywhere."""

import re
import shutil

from repos import POSIX, Repo

import pytest


def names_of_tags(repo):
    for name in ("main", "Old", "Middle", "New", "HEAD", "heads/New"):
        repo.git("tag", name, repo.git("commit-tree", "-m", "a tag", "HEAD^{tree}"))


def names_of_branches(repo):
    for name in ("heads/Old", "refs/heads/New", "origin/Middle"):
        repo.git("branch", name, repo.git("commit-tree", "-m", "a branch", "HEAD^{tree}"))


def names_of_files(repo):
    repo.write({name: "" for name in ("main", "HEAD", "Old", "New", "refs/heads/Middle")})


def settings(repo):
    words = ("grep.patternType fixed", "log.showSignature true", "color.ui always")
    words += ("branch.autoSetupMerge always", "core.logAllRefUpdates false", "log.date human")
    words += ("format.pretty raw", "core.quotePath false", "diff.noprefix true")
    for word in words:
        repo.git("config", *word.split())


def replacements(repo):
    for name in ("Old", "main"):
        other = repo.git("commit-tree", "-m", "another", "HEAD^{tree}")
        repo.git("replace", repo.git("rev-parse", name), other)


@pytest.mark.parametrize(
    "change", [names_of_tags, names_of_branches, names_of_files, settings, replacements]
)
def test_what_changes_no_id(branched, tmp_path, change):
    twin = Repo(shutil.copytree(branched.folder, tmp_path / "twin"))
    change(branched)
    for repo in (branched, twin):
        repo.write({"models/Old/model.py": "better\n"})
        repo.git("commit", "-q", "-m", "better", "models")
        repo.cut()
    tips = branched.tips()
    assert {name: tips[name] for name in twin.tips()} == twin.tips()


def test_the_environment_of_another_clone(repo, published, tmp_path):
    """As a hook of it has, or `git rebase --exec`: what is cut there would go unnoticed."""
    other = published.clone(tmp_path / "other")
    folder, refs = other.folder / ".git", other.refs()
    leading = {"DIR": folder, "INDEX_FILE": folder / "index", "WORK_TREE": other.folder}
    leading |= {"COMMON_DIR": folder, "OBJECT_DIRECTORY": folder / "objects", "PREFIX": "x/"}
    leading |= {"NAMESPACE": "x", "SHALLOW_FILE": folder / "none"}
    env = repo.env | {f"GIT_{word}": str(value) for word, value in leading.items()}
    repo.commit({"models/Old/model.py": "better\n"})
    repo.cut(env={**env, "PYTHONIOENCODING": "utf-8"})
    assert other.refs() == refs and repo.git("show", "Old:model.py") == "better"
    look = tmp_path / "look"
    repo.cut("--preview", look, env=env)
    assert (look / "Old/model.py").read_text() == "better\n"


LEADING = [
    ("upstream", ""),
    ("team/one", ""),
    ("upstream", "remote add origin nowhere"),
    ("origin", "remote add first nowhere; config --unset branch.main.remote"),
    ("origin", "remote add first nowhere; config branch.main.remote gone"),
    ("only", "config branch.main.remote ."),
]


def test_the_remote_that_leads(repo, published, tmp_path):
    repo.commit({"models/Old/model.py": "better\n"})
    repo.publish()
    for i, (name, commands) in enumerate(LEADING):
        clone = published.clone(tmp_path / f"clone {i}", "--origin", name)
        for command in filter(None, commands.split("; ")):
            clone.git(*command.split())
        clone.cut()
        assert clone.tips() == repo.tips(), (name, commands)


def test_a_remote_that_may_lead_or_may_not(published, tmp_path):
    clone = published.clone(tmp_path / "clone", "--origin", "one")
    clone.git("remote", "add", "two", "nowhere")
    clone.git("config", "--unset", "branch.main.remote")
    assert re.search("one, two.* git config branch.main.remote", clone.cut(code=2))
    setting = {"COUNT": "1", "KEY_0": "branch.main.remote", "VALUE_0": "one"}
    clone.env |= {f"GIT_CONFIG_{word}": value for word, value in setting.items()}
    clone.cut()


@pytest.mark.parametrize("word", ["--from", "--preview", "--after"])
def test_an_empty_word_is_no_word(repo, word):
    assert "empty" in repo.cut(word, "", code=2)
    assert repo.tips() == {}


def test_an_old_git_is_told(repo):
    repo.before_git("version", "echo git version 2.25.1; exit 0")
    assert "git 2.25 is too old: 2.27 or newer is needed" in repo.cut(code=2)


@pytest.mark.parametrize("words", ["--fast", "--drafts --diffs", "--drafts --preview x", "--from"])
def test_a_bad_command_line_is_one_line(repo, words):
    assert repo.cut(*words.split(), code=2).startswith("branches.py: ")


def test_a_folder_that_is_no_clone(repo, tmp_path):
    outer = Repo(tmp_path)
    outer.git("init", "-q", "-b", "main")
    outer.git("commit", "-q", "--allow-empty", "-m", "of another project")
    refs = outer.refs()
    unzipped = tmp_path / "unzipped"
    shutil.copytree(repo.folder, unzipped, ignore=shutil.ignore_patterns(".git"))
    for words in ((), ("--from", "HEAD"), ("--preview", tmp_path / "look")):
        assert "git clone <this repository>" in Repo(unzipped).cut(*words, code=2)
    (unzipped / ".git").mkdir()
    assert "git clone <this repository>" in Repo(unzipped).cut(code=2)
    assert outer.refs() == refs and not (tmp_path / "look").exists()


def test_a_submodule_and_a_worktree_are_clones(repo, tmp_path):
    outer = Repo(tmp_path)
    outer.git("init", "-q")
    outer.git("submodule", "--quiet", "add", "-b", "main", repo.folder.as_uri(), "sub module")
    Repo(tmp_path / "sub module").cut()
    repo.git("checkout", "-q", "--detach")
    repo.git("worktree", "add", "-q", tmp_path / "tree", "main")
    Repo(tmp_path / "tree").cut()
    assert Repo(tmp_path / "sub module").tips() == repo.tips()


@POSIX
def test_odd_paths_are_paths(repo, tmp_path):
    odd = "a\tb\nc\u2028d\x1b"
    repo.commit({f"models/Old/{odd}": "odd\n"})
    repo.cut()
    assert repo.git("show", f"Old:{odd}") == "odd"
    repo.cut("--preview", tmp_path / "look")
    assert (tmp_path / "look/Old" / odd).read_text() == "odd\n"
    repo.commit({f"every_branch/{odd}": "twice\n"})
    assert "are the same file" in repo.cut(code=2)
