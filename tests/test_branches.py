"""branches.py, on real repositories in temporary folders."""

import ast
import os
import re
import shutil
import subprocess

import pytest

import branches
from conftest import MODELS, ROOT, run_python

README = "# $name ($place), $year\n\n$model: $idea. $title by $authors, $link\n"
README += "$builds_on\n\n    $diff\n\n    $next\n\n    git switch -c my-$my_name\n"
HOME = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


class Repo:
    """A git repository of a contributor or learner, who has a name of his own."""

    def __init__(self, folder, user="Somebody"):
        self.folder = folder
        self.env = {**os.environ, **HOME, "PYTHONIOENCODING": "utf-8"}
        self.env |= {f"GIT_{role}_NAME": user for role in ("AUTHOR", "COMMITTER")}
        self.env |= {f"GIT_{role}_EMAIL": "me@example.org" for role in ("AUTHOR", "COMMITTER")}

    def git(self, *words, check=True):
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *map(str, words)],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip() if check else done.returncode

    def write(self, files):
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())

    def commit(self, files, message="work"):
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def cut(self, *words, **kwargs):
        return run_python(self.folder / "branches.py", *words, **{"env": self.env, **kwargs})

    def tips(self):
        lines = self.git("for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads")
        return {name: tip for name, tip in map(str.split, lines.splitlines()) if name != "main"}

    def descends(self, child, parent):
        return self.git("merge-base", "--is-ancestor", parent, child, check=False) == 0

    def clone(self, folder, *words, user="Another"):
        self.git("clone", "-q", *words, self.folder.as_uri(), folder)
        return Repo(folder, user)


def entry(name, builds_on=(), date="2001-02-03", **fields):
    fields = {"title": f"On {name}", "authors": "A. Ünal", "link": "https://example.org"} | fields
    lines = [f'name = "{name}"', f'class = "{name}Net"', f"date = {date}", 'idea = "An idea"']
    lines += [f'{field} = "{value}"' for field, value in fields.items()]
    return "\n".join(["[[model]]", *lines, f"builds_on = {list(builds_on)}", ""])


def model_files(name, text="1"):
    return {f"models/{name}/model.py": f"{name} = {text}\n", f"models/{name}/summary.md": "# 1\n"}


@pytest.fixture
def repo(tmp_path):
    """Main with Old <- Middle <- New, and New <- Old besides."""
    repo = Repo(tmp_path / "a répo")
    repo.folder.mkdir()
    repo.git("init", "-q", "-b", "main")
    path = [
        entry("Old", date="1998-11-01"),
        entry("Middle", ["Old"]),
        entry("New", ["Middle", "Old"]),
    ]
    repo.commit(
        {
            "branches.py": (ROOT / "branches.py").read_text(encoding="utf-8"),
            "path.toml": "\n".join(path),
            "LICENSE": "free\n",
            ".gitattributes": "* text=auto\n",
            "every_branch/README.md": README,
            "every_branch/harness/run.py": "shared = True\n",
            "every_branch/train.py": "default = True\n",
            **model_files("Old"),
            **model_files("Middle"),
            **model_files("New"),
            "models/New/train.py": "own = True\n",
        }
    )
    return repo


def test_a_branch_is_what_all_share_under_what_is_its_own(repo):
    assert repo.cut().returncode == 0
    files = repo.git("ls-tree", "-r", "--name-only", "New").splitlines()
    assert sorted(files) == [
        *(".gitattributes", "LICENSE", "README.md", "harness/run.py"),
        *("model.py", "summary.md", "train.py"),
    ]
    assert repo.git("show", "New:train.py") == "own = True"
    assert repo.git("show", "Old:train.py") == "default = True"
    readme = repo.git("show", "Middle:README.md")
    assert readme.startswith("# Middle (2 of 3), 2001")
    assert "git diff Old Middle -- model.py train.py" in readme
    assert "git checkout New" in readme
    assert "$" not in readme


def test_the_graph_is_the_family_tree_dated_by_the_papers(repo):
    repo.cut()
    tips = repo.tips()
    assert repo.git("log", "-1", "--format=%P", "Old") == ""
    assert repo.git("log", "-1", "--format=%P", "New").split() == [tips["Middle"], tips["Old"]]
    assert repo.git("log", "-1", "--format=%ai|%ci", "Old") == "|".join(
        ["1998-11-01 12:00:00 +0000"] * 2
    )
    people = repo.git("log", "--format=%an|%cn", "New").splitlines()
    assert set(people) == {f"{branches.NAME}|{branches.NAME}"}
    message = repo.git("log", "-1", "--format=%B", "New")
    assert message.startswith("New: An idea\n") and "A. Ünal" in message
    assert repo.git("rev-parse", "main")[:7] not in message


def test_cutting_again_changes_nothing(repo):
    repo.cut()
    before = repo.git("for-each-ref"), repo.git("reflog", "show", "New")
    assert repo.cut().returncode == 0
    assert (repo.git("for-each-ref"), repo.git("reflog", "show", "New")) == before


def test_any_clone_cuts_the_same_ids(repo, tmp_path):
    repo.cut()
    twin = repo.clone(tmp_path / "twin", "--single-branch", "--branch=main")
    twin.git("config", "core.autocrlf", "true")
    twin.git("config", "i18n.commitEncoding", "ISO-8859-1")
    twin.git("config", "commit.gpgSign", "true")
    for path in twin.git("ls-files").splitlines():
        file = twin.folder / path
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    twin.env["TZ"] = "Asia/Tokyo"
    assert twin.cut(cwd=tmp_path).returncode == 0
    assert twin.tips() == repo.tips()


def test_ids_do_not_depend_on_mains_history(repo):
    repo.cut()
    before = repo.tips()
    repo.git("commit", "-q", "--amend", "-m", "the same files, another commit")
    assert repo.cut().returncode == 0
    assert repo.tips() == before


def test_a_change_is_appended_and_reaches_the_children(repo):
    repo.cut()
    before = repo.tips()
    repo.commit({"models/Middle/model.py": "better\n"})
    assert repo.cut().returncode == 0
    after = repo.tips()
    assert after["Old"] == before["Old"]
    for name in ("Middle", "New"):
        assert after[name] != before[name] and repo.descends(after[name], before[name])
    assert repo.descends("New", "Middle") and repo.descends("Middle", "Old")
    assert repo.git("show", "Middle:model.py") == "better"


def test_a_model_inserted_in_the_middle(repo):
    repo.cut()
    before = repo.tips()
    path = [
        entry("Old", date="1998-11-01"),
        entry("Inserted", ["Old"]),
        entry("Middle", ["Inserted"]),
        entry("New", ["Middle", "Old"]),
    ]
    repo.commit({"path.toml": "\n".join(path), **model_files("Inserted")})
    assert repo.cut().returncode == 0
    for child, parent in (("Inserted", "Old"), ("Middle", "Inserted"), ("New", "Middle")):
        assert repo.descends(child, parent)
    assert all(repo.descends(name, tip) for name, tip in before.items())
    assert repo.git("diff", "--name-only", before["New"], "New") == "README.md"


def test_parents_are_cut_first_whatever_the_order_of_the_list(repo):
    path = [entry("New", ["Middle"]), entry("Middle", ["Old"]), entry("Old", date="1998-11-01")]
    repo.commit({"path.toml": "\n".join(path)})
    assert repo.cut().returncode == 0
    assert repo.descends("New", "Middle") and repo.descends("Middle", "Old")


def test_a_learners_commits_are_left_alone(repo):
    repo.cut()
    repo.git("checkout", "-q", "Middle")
    repo.commit({"model.py": "mine\n"})
    mine = repo.tips()["Middle"]
    repo.git("checkout", "-q", "main")

    assert repo.cut().returncode == 0, "nothing was to be updated, so nothing was withheld"
    assert repo.tips()["Middle"] == mine

    repo.commit({"models/Middle/model.py": "better\n"})
    done = repo.cut()
    assert done.returncode == 1
    assert "git branch -m Middle my-middle" in done.stdout
    assert repo.tips()["Middle"] == mine
    assert repo.git("show", "New^2:model.py") == "better", "the children are cut all the same"

    repo.git("branch", "-m", "Middle", "my-middle")
    assert repo.cut().returncode == 0
    assert repo.git("show", "Middle:model.py") == "better"
    assert repo.git("show", "my-middle:model.py") == "mine"
    assert repo.descends("New", "Middle")


def test_a_branch_of_the_same_name_that_is_none_of_ours(repo):
    repo.git("branch", "Old")
    theirs = repo.tips()["Old"]
    done = repo.cut()
    assert done.returncode == 1 and repo.tips()["Old"] == theirs
    assert {"Middle", "New"} < repo.tips().keys()


def test_a_checked_out_branch_does_not_move(repo, tmp_path):
    repo.cut()
    before = repo.tips()
    elsewhere = tmp_path / "elsewhere"
    repo.git("worktree", "add", "-q", elsewhere, "Middle")
    assert repo.cut().returncode == 0
    repo.commit({"models/Middle/model.py": "better\n"})
    done = repo.cut()
    assert done.returncode == 1
    assert "elsewhere" in done.stdout
    assert repo.tips()["Middle"] == before["Middle"]
    assert (elsewhere / "model.py").read_text() == "Middle = 1\n"
    repo.git("worktree", "remove", elsewhere)
    assert repo.cut().returncode == 0
    assert repo.descends("New", "Middle")


@pytest.fixture
def published(repo, tmp_path):
    """A bare origin with main and the branches, as the publishing workflow pushes them."""
    bare = repo.clone(tmp_path / "origin.git", "--bare")
    repo.git("remote", "add", "origin", bare.folder.as_uri())
    repo.cut()
    repo.git("push", "-q", "origin", "main", *repo.tips())
    return bare


def test_origin_leads(repo, published, tmp_path):
    learner = published.clone(tmp_path / "learner")
    assert learner.cut().returncode == 0
    assert learner.tips() == repo.tips(), "cut from main, or taken from origin: the same"

    learner.commit({"models/Old/model.py": "a draft\n"})
    assert learner.cut().returncode == 0
    draft = learner.tips()

    repo.commit({"models/Old/model.py": "published\n"})
    assert repo.cut().returncode == 0
    repo.git("push", "-q", "origin", "main", *repo.tips())

    learner.git("fetch", "-q")
    learner.git("reset", "-q", "--hard", "origin/main")
    assert learner.cut().returncode == 0
    assert learner.tips() == repo.tips() != draft, "a draft that was cut here gives way"


def test_publishing_only_ever_moves_forward(repo, published, tmp_path):
    for text in ("second", "third"):
        publisher = published.clone(tmp_path / text)
        publisher.commit({"models/Old/model.py": f"{text}\n"})
        assert publisher.cut().returncode == 0
        # Without --force, git itself refuses whatever is no fast-forward.
        publisher.git("push", "-q", "origin", "main", *publisher.tips())
    assert published.git("show", "Old:model.py") == "third"
    assert published.git("rev-list", "--count", "Old") == "3"


def test_a_learners_commits_stay_when_origin_has_moved(repo, published, tmp_path):
    learner = published.clone(tmp_path / "learner")
    learner.cut()
    learner.git("checkout", "-q", "Old")
    learner.commit({"model.py": "mine\n"})
    mine = learner.tips()["Old"]
    learner.git("checkout", "-q", "main")
    repo.commit({"models/Old/model.py": "published\n"})
    repo.cut()
    repo.git("push", "-q", "origin", "main", *repo.tips())
    learner.git("pull", "-q")
    done = learner.cut()
    assert done.returncode == 1 and "git branch -m Old my-old" in done.stdout
    assert learner.tips()["Old"] == mine
    assert learner.tips()["New"] == repo.tips()["New"]


def test_what_is_cut_from(repo):
    repo.git("checkout", "-q", "--detach")
    assert repo.cut().returncode == 0
    repo.git("checkout", "-q", "-b", "feature")
    repo.commit({"models/Old/model.py": "a feature\n"})
    done = repo.cut()
    assert done.returncode == 2 and "feature" in done.stderr and "--from" in done.stderr
    assert repo.cut("--from", "main").returncode == 0
    assert repo.git("show", "Old:model.py") == "Old = 1"
    assert repo.cut("--from", "feature").returncode == 0
    assert repo.git("show", "Old:model.py") == "a feature"
    done = repo.cut("--from", "nowhere")
    assert done.returncode == 2 and "nowhere" in done.stderr


def test_uncommitted_changes_are_mentioned_and_not_cut(repo):
    repo.write({"models/Old/model.py": "not yet\n"})
    assert "not committed" in repo.cut().stdout
    assert repo.git("show", "Old:model.py") == "Old = 1"


BAD = {
    "an unknown parent": (entry("Old", ["Nobody"]), "Nobody"),
    "a circle": (entry("Old", ["New"]) + entry("New", ["Old"]), "circle"),
    "its own parent": (entry("Old", ["Old"]), "circle"),
    "a date that does not exist": (entry("Old", date="2001-02-30"), "path.toml"),
    "a date as text": (entry("Old", date='"2001-02-03"'), "date"),
    "a date git cannot hold": (entry("Old", date="1958-11-01"), "1970"),
    "a missing folder": (entry("Lost"), "models/Lost"),
    "a model twice": (entry("Old") + entry("Old"), "twice"),
    "the name of main": (entry("main"), "main"),
    "a name that is a path": (entry("../Old"), "name"),
    "a missing field": ('[[model]]\nname = "Old"\n', "missing"),
    "an unknown field": (entry("Old", colour="red"), "colour"),
    "no model": ("", "[[model]]"),
    "no TOML": ("[[model", "path.toml"),
}


@pytest.mark.parametrize("text, word", BAD.values(), ids=BAD)
def test_a_bad_path_is_refused_before_anything_is_touched(repo, text, word):
    repo.commit({"path.toml": text})
    done = repo.cut()
    assert done.returncode == 2
    assert word in done.stderr and len(done.stderr.splitlines()) == 1
    assert repo.tips() == {}


def test_without_git(repo):
    done = repo.cut(env={**repo.env, "PATH": str(repo.folder / "nothing")})
    assert done.returncode == 2
    assert done.stderr == "branches.py: git is not installed, or not on the PATH\n"


def test_outside_a_repository(repo, tmp_path):
    folder = tmp_path / "unzipped"
    shutil.copytree(repo.folder, folder, ignore=shutil.ignore_patterns(".git"))
    done = Repo(folder).cut(env={**repo.env, "GIT_CEILING_DIRECTORIES": str(tmp_path)})
    assert done.returncode == 2 and "not a git repository" in done.stderr


def test_a_shallow_clone(repo, published, tmp_path):
    shallow = repo.clone(tmp_path / "main alone", "--depth=1", "--branch=main")
    assert shallow.cut().returncode == 0
    assert shallow.tips() == repo.tips()

    repo.commit({"models/Old/model.py": "better\n"})
    repo.cut()
    repo.git("push", "-q", "origin", "main", *repo.tips())
    shallow = published.clone(tmp_path / "all", "--depth=1", "--no-single-branch")
    done = shallow.cut()
    assert done.returncode == 2 and "git fetch --unshallow" in done.stderr
    shallow.git("fetch", "-q", "--unshallow")
    assert shallow.cut().returncode == 0
    assert shallow.tips() == repo.tips()


def test_an_old_python_can_read_the_line_that_turns_it_away():
    source = (ROOT / "branches.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))
    done = run_python("-c", "import sys; sys.version_info = (3, 10); import branches", cwd=ROOT)
    assert done.returncode == 2 and "3.11 or newer" in done.stderr


def test_a_preview_shows_todays_files(repo, tmp_path):
    repo.write({"models/Old/model.py": "not yet committed\n", "models/Old/new.py": "new\n"})
    large = repo.folder / "every_branch" / "large.bin"
    large.write_bytes(bytes(branches.LARGE + 1))
    look = tmp_path / "look"
    assert repo.cut("--preview", look).returncode == 0
    assert (look / "Old" / "model.py").read_text() == "not yet committed\n"
    assert (look / "Old" / "new.py").exists()
    assert (look / "Old" / "large.bin").samefile(large)
    assert repo.tips() == {}

    (look / "Old" / "model.py").write_text("edited\n")
    done = repo.cut("--preview", look)
    assert done.returncode == 2 and "exists" in done.stderr
    assert (look / "Old" / "model.py").read_text() == "edited\n"


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """This repository's files as they are today, committed to a new main and cut."""
    repo = Repo(tmp_path_factory.mktemp("ours") / "repo")
    listed = branches.git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for path in filter(None, listed.split("\0")):
        if (ROOT / path).is_file():
            (repo.folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, repo.folder / path)
    repo.git("init", "-q", "-b", "main")
    repo.git("add", "-A")
    repo.git("commit", "-q", "-m", "main")
    assert repo.cut().returncode == 0
    return repo


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
def test_a_real_branch_is_its_preview_and_bears_its_papers_year(ours, laid_out, model):
    name = model["name"]
    assert ours.git("log", "-1", "--format=%ad", "--date=format:%Y", name) == str(
        model["date"].year
    )
    ours.git("checkout", "-q", name)
    tracked = set(ours.git("-c", "core.quotePath=off", "ls-files").splitlines())
    look = laid_out / name
    previewed = {p.relative_to(look).as_posix() for p in look.rglob("*") if p.is_file()}
    written = ("checkpoints/" + name, "harness/__pycache__", "__pycache__", "data/MNIST")
    assert tracked == {path for path in previewed if not path.startswith(written)}
    for path in tracked:
        assert (ours.folder / path).read_bytes() == (look / path).read_bytes(), path


def test_switching_back_and_forth_leaves_nothing_dirty(ours):
    for name in (MODELS[0]["name"], "main"):
        ours.git("checkout", "-q", name)
        ours.write({".venv/x": "", "checkpoints/LeNet/run/state.pt": "", "data/MNIST/raw/x": ""})
        ours.write(
            {"harness/__pycache__/x.pyc": "", "data/FashionMNIST/raw/t10k-images-idx3-ubyte": ""}
        )
        assert ours.git("status", "--porcelain") == ""


def test_the_readme_has_todays_models():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert branches.with_models(text, MODELS) == text
    assert all(f"models/{model['name']}/summary.md" in text for model in MODELS)
    arrows = set(re.findall(r"^    (\w+) --> (\w+)$", text, re.M))
    assert arrows == {(parent, m["name"]) for m in MODELS for parent in m["builds_on"]}


def test_the_family_tree_has_a_box_a_model_and_an_arrow_a_parent(repo):
    repo.write(
        {"README.md": "# Here\n<!-- models: made by branches.py --readme -->\n<!-- end -->\n"}
    )
    assert repo.cut("--readme").returncode == 0
    text = (repo.folder / "README.md").read_text(encoding="utf-8")
    tree = text.split("```mermaid\n")[1].split("```")[0].splitlines()
    assert tree[0].startswith("flowchart")
    assert '    Old["Old, 1998"]' in tree and '    New["New, 2001"]' in tree
    arrows = [line.strip() for line in tree if "-->" in line]
    assert sorted(arrows) == ["Middle --> New", "Old --> Middle", "Old --> New"]


def test_the_advice_after_training_names_the_next_model(repo):
    assert "git checkout Middle && python train.py" in repo.cut("--after", "Old").stdout
    assert "git checkout main" in repo.cut("--after", "New").stdout
    assert repo.cut("--after", "Nobody").returncode == 2
