"""branches.py, on real repositories in temporary folders."""

import ast
import os
import re
import shutil
import subprocess

import pytest

import branches
from conftest import MODELS, ROOT, run_python


class Repo:
    """A git repository of a contributor or learner, who has a name of his own."""

    def __init__(self, folder):
        self.folder = folder
        self.env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        for role in ("AUTHOR", "COMMITTER"):
            self.env |= {f"GIT_{role}_NAME": "Me", f"GIT_{role}_EMAIL": "me@example.org"}

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

    def commit(self, files):
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "work")

    def cut(self, *words, code=0, **kwargs):
        """Run branches.py, which has to end with this code: what it printed."""
        env = {**self.env, "PYTHONIOENCODING": "utf-8"}
        done = run_python(self.folder / "branches.py", *words, **{"env": env, **kwargs})
        assert done.returncode == code, done.stdout + done.stderr
        if code == 2:
            assert done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr
        return done.stdout + done.stderr

    def publish(self):
        """As the workflow does. Without --force, git refuses whatever is no fast-forward."""
        self.cut()
        self.git("push", "-q", "origin", "main", *self.tips())

    def tips(self):
        lines = self.git("for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads")
        return {name: tip for name, tip in map(str.split, lines.splitlines()) if name != "main"}

    def descends(self, child, parent):
        return self.git("merge-base", "--is-ancestor", parent, child, check=False) == 0

    def clone(self, folder, *words):
        self.git("clone", "-q", *words, self.folder.as_uri(), folder)
        return Repo(folder)


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


@pytest.fixture(scope="module")
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


@pytest.fixture
def published(repo, tmp_path):
    """A bare origin with main and the branches."""
    bare = repo.clone(tmp_path / "origin.git", "--bare")
    repo.git("remote", "add", "origin", bare.folder.as_uri())
    repo.publish()
    return bare


def test_a_branch_is_its_layers(repo):
    repo.cut()
    own = ["model.py", "requirements.txt", "summary.md", "train.py"]
    for name, shared in (
        ("Old", ["harness/run.py"]),
        ("Middle", ["harness/run.py", "harness/sound.py"]),
        ("New", ["data/image", "harness/run.py", "harness/sound.py"]),
    ):
        files = repo.git("ls-tree", "-r", "--name-only", name).splitlines()
        assert files == [".gitattributes", "LICENSE", "README.md", *shared, *own]
        assert repo.git("show", f"{name}:model.py") == f"{name} = 1"
    readme = repo.git("show", "Middle:README.md")
    assert readme.startswith("# Middle\n\n*An idea.*\n\nModel 2 of 3 on the path, from [On Middle]")
    assert "by A. Ünal, 2001." in readme and "`MiddleNet`" in readme and "$" not in readme
    assert "git diff Old Middle -- model.py train.py" in readme
    assert "git switch -c my-middle\n" in readme and readme.endswith("\n\nHow Middle sounds.")
    assert repo.git("show", "New:README.md").endswith("What New sees.\n\nHow New sounds.")


def test_the_graph_is_the_family_tree_dated_by_the_papers(repo):
    repo.cut()
    tips = repo.tips()
    assert repo.git("log", "-1", "--format=%P", "Old") == ""
    assert repo.git("log", "-1", "--format=%P", "New").split() == [tips["Middle"], tips["Old"]]
    noon = "1998-11-01 12:00:00 +0000"
    assert repo.git("log", "-1", "--format=%ai|%ci", "Old") == f"{noon}|{noon}"
    people = repo.git("log", "--format=%an|%cn", "New").splitlines()
    assert set(people) == {f"{branches.NAME}|{branches.NAME}"}
    message = repo.git("log", "-1", "--format=%B", "New")
    assert message.startswith("New: An idea\n") and "A. Ünal" in message
    assert repo.git("rev-parse", "main")[:7] not in message


def test_cutting_again_changes_nothing_whatever_mains_history(repo):
    repo.cut()
    before = repo.tips(), repo.git("reflog", "show", "New")
    repo.git("commit", "-q", "--amend", "-m", "the same files, another commit")
    repo.cut()
    assert (repo.tips(), repo.git("reflog", "show", "New")) == before


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
    twin.cut(cwd=tmp_path)
    assert twin.tips() == repo.tips()


def test_a_change_is_appended_and_reaches_the_children(repo):
    repo.cut()
    before = repo.tips()
    repo.commit({"models/Middle/model.py": "better\n"})
    repo.cut()
    after = repo.tips()
    assert after["Old"] == before["Old"]
    for name in ("Middle", "New"):
        assert after[name] != before[name] and repo.descends(after[name], before[name])
    assert repo.descends("New", "Middle") and repo.descends("Middle", "Old")
    assert repo.git("show", "Middle:model.py") == "better"


def test_a_model_inserted_in_the_middle_whatever_the_order_of_the_list(repo):
    repo.cut()
    before = repo.tips()
    middle = MIDDLE.replace("Old", "Inserted")
    repo.commit(listing(OLD + NEW + middle + entry("Inserted", ["Old"])) | model_files("Inserted"))
    repo.cut()
    for child, parent in (("Inserted", "Old"), ("Middle", "Inserted"), ("New", "Middle")):
        assert repo.descends(child, parent)
    assert all(repo.descends(name, tip) for name, tip in before.items())
    assert repo.git("diff", "--name-only", before["New"], "New") == "README.md"


def test_data_that_moves_to_a_part_is_the_same_file_of_the_branch(repo):
    """A clone that has the branches of an older main, with all data in every_branch/."""
    repo.git("mv", "some_branches/sight/data", "every_branch/data")
    repo.commit(listing(OLD + entry("Middle", ["Old"]) + entry("New", ["Middle"])))
    repo.cut()
    before, blob = repo.tips(), repo.git("rev-parse", "Old:data/image")
    repo.git("mv", "every_branch/data", "some_branches/sight/data")
    repo.commit(listing(MAIN["path.toml"]))
    repo.cut()
    assert all(repo.descends(name, tip) for name, tip in before.items())
    assert repo.git("rev-parse", "New:data/image") == blob
    assert repo.git("ls-tree", "--name-only", "Old", "data/") == ""


def test_a_learners_commits_are_left_alone(repo):
    repo.git("branch", "Old")  # a branch of this name that is none of ours
    repo.cut(code=1)
    assert repo.tips()["Old"] == repo.git("rev-parse", "main")
    repo.git("branch", "-D", "Old")
    repo.cut()

    repo.git("checkout", "-q", "Middle")
    repo.commit({"model.py": "mine\n"})
    mine = repo.tips()["Middle"]
    repo.git("checkout", "-q", "main")
    repo.cut()  # nothing is to be updated, so nothing is withheld
    assert repo.tips()["Middle"] == mine

    repo.commit({"models/Middle/model.py": "better\n"})
    assert "git branch -m Middle my-middle" in repo.cut(code=1)
    assert repo.tips()["Middle"] == mine
    assert repo.git("show", "New^2:model.py") == "better", "the children are cut all the same"

    repo.git("branch", "-m", "Middle", "my-middle")
    repo.cut()
    assert repo.git("show", "Middle:model.py") == "better"
    assert repo.git("show", "my-middle:model.py") == "mine"
    assert repo.descends("New", "Middle")


def test_a_checked_out_branch_does_not_move(repo, tmp_path):
    repo.cut()
    before = repo.tips()
    elsewhere = tmp_path / "elsewhere"
    repo.git("worktree", "add", "-q", elsewhere, "Middle")
    repo.cut()
    repo.commit({"models/Middle/model.py": "better\n"})
    assert "elsewhere" in repo.cut(code=1)
    assert repo.tips()["Middle"] == before["Middle"]
    assert (elsewhere / "model.py").read_text() == "Middle = 1\n"
    repo.git("worktree", "remove", elsewhere)
    repo.cut()
    assert repo.descends("New", "Middle")


def test_origin_leads_and_only_ever_moves_forward(published, tmp_path):
    def publish(text):
        publisher = published.clone(tmp_path / text)
        publisher.commit({"models/Old/model.py": f"{text}\n"})
        publisher.publish()
        return publisher.tips()

    learner = published.clone(tmp_path / "learner")
    learner.cut()
    learner.commit({"models/Old/model.py": "a draft\n"})
    learner.cut()
    second = publish("second")
    learner.git("fetch", "-q")
    learner.git("reset", "-q", "--hard", "origin/main")
    learner.cut()
    assert learner.tips() == second, "a draft that was cut here gives way"

    learner.git("checkout", "-q", "Old")
    learner.commit({"model.py": "mine\n"})
    mine = learner.tips()["Old"]
    learner.git("checkout", "-q", "main")
    third = publish("third")
    learner.git("pull", "-q")
    assert "git branch -m Old my-old" in learner.cut(code=1)
    assert learner.tips() == {**third, "Old": mine}
    assert published.git("rev-list", "--count", "Old") == "3"


def test_a_shallow_clone(repo, published, tmp_path):
    shallow = repo.clone(tmp_path / "main alone", "--depth=1", "--branch=main")
    shallow.cut()
    assert shallow.tips() == repo.tips()
    repo.commit({"models/Old/model.py": "better\n"})
    repo.publish()
    shallow = published.clone(tmp_path / "all", "--depth=1", "--no-single-branch")
    assert "git fetch --unshallow" in shallow.cut(code=2)
    shallow.git("fetch", "-q", "--unshallow")
    shallow.cut()
    assert shallow.tips() == repo.tips()


def test_what_is_cut_from(repo):
    repo.git("checkout", "-q", "--detach")
    repo.cut()
    repo.git("checkout", "-q", "-b", "feature")
    repo.commit({"models/Old/model.py": "a feature\n"})
    assert re.search("feature.*--from", repo.cut(code=2))
    for branch, text in (("main", "Old = 1"), ("feature", "a feature")):
        repo.cut("--from", branch)
        assert repo.git("show", "Old:model.py") == text
    assert "nowhere" in repo.cut("--from", "nowhere", code=2)


def test_uncommitted_changes_are_mentioned_and_not_cut(repo):
    for path in ("models/Old/model.py", "some_branches/sound/new.py", "requirements.txt"):
        repo.git("stash", "-q", "--include-untracked")
        repo.write({path: "not yet\n"})
        assert "not committed" in repo.cut(), path
    assert repo.git("show", "Old:requirements.txt") == "torch"


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


def test_a_preview_shows_todays_files(repo, tmp_path):
    repo.write({"models/Old/model.py": "not yet committed\n", "models/Old/new.py": "new\n"})
    large = repo.folder / "every_branch" / "large.bin"
    large.write_bytes(bytes(branches.LARGE + 1))
    look = tmp_path / "look"
    repo.cut("--preview", look)
    assert (look / "Old/model.py").read_text() == "not yet committed\n"
    assert (look / "Old/new.py").exists()
    assert (look / "Old/large.bin").samefile(large)
    assert (look / "New/README.md").read_text(encoding="utf-8").endswith("How New sounds.\n")
    assert repo.tips() == {}

    (look / "Old/model.py").write_text("edited\n")
    assert "exists" in repo.cut("--preview", look, code=2)
    assert (look / "Old/model.py").read_text() == "edited\n"


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
    repo.commit({})
    repo.cut()
    return repo


def test_a_real_branch_is_its_preview_and_bears_its_papers_year(ours, laid_out):
    for model in MODELS:
        name, look = model["name"], laid_out / model["name"]
        date = ours.git("log", "-1", "--format=%ad", "--date=short", name)
        assert date == str(model["date"])
        tree = ours.git("ls-tree", "-r", "-z", name).split("\0")[:-1]
        blobs = {path: head.split()[2] for head, path in (line.split("\t") for line in tree)}
        files = (path.relative_to(look).as_posix() for path in look.rglob("*") if path.is_file())
        written = (f"checkpoints/{name}", "harness/__pycache__", "__pycache__", "data/MNIST")
        previewed = sorted(path for path in files if not path.startswith(written))
        assert previewed == sorted(blobs)
        readme = (look / "README.md").read_text(encoding="utf-8")
        plumbing = {path.name for path in look.glob("harness/*.py")} - {"__init__.py"}
        assert plumbing <= set(re.findall(r"`(\w+\.py)`", readme))
        hashed = ours.git("hash-object", "--no-filters", *(look / path for path in previewed))
        assert hashed.split() == [blobs[path] for path in previewed]


def test_switching_back_and_forth_leaves_nothing_dirty(ours):
    for name in (MODELS[0]["name"], "main"):
        ours.git("checkout", "-q", name)
        ours.write({".venv/x": "", "checkpoints/LeNet/run/state.pt": "", "data/MNIST/raw/x": ""})
        ours.write({"harness/__pycache__/x": "", "data/FashionMNIST/raw/train-images-ubyte": ""})
        assert ours.git("status", "--porcelain") == ""


def test_the_lines_that_neighbors_share_are_those_that_git_counts(ours):
    rows = branches.diffs(MODELS)
    assert len(rows) == 2 * sum(len(model["builds_on"]) for model in MODELS)
    printed = ours.cut("--diffs").splitlines()[-len(rows) :]
    for (parent, child, file, stay, go, come), line in zip(rows, printed, strict=True):
        counted = ours.git("diff", "--numstat", parent, child, "--", file) or "0 0"
        assert counted.split()[:2] == [str(come), str(go)]
        for name, lines in ((parent, stay + go), (child, stay + come)):
            assert ours.git("show", f"{name}:{file}").count("\n") + 1 == lines
        shares = [f"{stay / (stay + other):.0%}" for other in (go, come)]
        assert line.split()[-6:] == [file, str(stay), str(go), str(come), *shares]


PICTURES = """```mermaid
flowchart TB
    Old["Old, 1998"]:::elsewhere
    Middle["Middle, 2001"]:::elsewhere
    New["New, 2001"]
    Middle --> New
    Old --> New
    classDef elsewhere fill:none,stroke-dasharray:5 5
```
"""


def test_each_chapter_has_its_table_and_its_tree(repo):
    marks = "<!-- made by {}.py --readme -->\n<!-- end -->\n"
    repo.write(listing(OLD + MIDDLE + NEW.replace("Sounds", "Pictures")))
    repo.write({"README.md": "# Here\n" + marks.format("branches") + marks.format("results")})
    repo.cut("--readme")
    text = (repo.folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Here\n<!-- ") and text.endswith(marks.format("results"))
    _, sounds, pictures = text.split("### ")
    assert sounds.startswith("Sounds\n") and pictures.startswith("Pictures\n")
    listed = [re.findall(r"models/(\w+)/summary", part) for part in (sounds, pictures)]
    assert listed == [["Old", "Middle"], ["New"]]
    assert PICTURES in pictures
    assert "New" not in sounds and "elsewhere" not in sounds and "Old --> Middle\n" in sounds

    repo.write({"README.md": "mine\n"})
    assert "lost the two comments" in repo.cut("--readme", code=2)
    assert (repo.folder / "README.md").read_text() == "mine\n"


def test_next_follows_the_line_of_descent(repo):
    repo.commit(listing(OLD + entry("Aside", ["Old"]) + MIDDLE + NEW) | model_files("Aside"))
    repo.cut()
    following = {"Old": ["Aside", "Middle", "New"], "Aside": ["Middle"], "Middle": ["New"]}
    for name, others in {**following, "New": []}.items():
        for text in (repo.git("show", f"{name}:README.md"), repo.cut("--after", name)):
            assert re.findall(r"git checkout (\w+) && python train.py$", text, re.M) == others
            assert ("git checkout main" in text) == (not others)
    assert "Nobody" in repo.cut("--after", "Nobody", code=2)
    assert [line.split()[2] for line in branches.go_on("LeNet", MODELS)][:2] == ["ReLU", "AlexNet"]
