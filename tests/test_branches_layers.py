"""What branches.py makes of main: branches of layers, dated, and the texts about them."""

import os
import re
import shutil

import branches
from conftest import MODELS, ROOT
from repos import MAIN, MIDDLE, NEW, OLD, Repo, entry, listing, model_files

import pytest


def test_a_branch_is_its_layers(branched):
    own = ["model.py", "requirements.txt", "summary.md", "train.py"]
    for name, shared in (
        ("Old", ["harness/run.py"]),
        ("Middle", ["harness/run.py", "harness/sound.py"]),
        ("New", ["data/image", "harness/run.py", "harness/sound.py"]),
    ):
        files = branched.git("ls-tree", "-r", "--name-only", name).splitlines()
        assert files == [".gitattributes", "LICENSE", "README.md", *shared, *own]
        assert branched.git("show", f"{name}:model.py") == f"{name} = 1"
    readme = branched.git("show", "Middle:README.md")
    assert readme.startswith("# Middle\n\n*An idea.*\n\nModel 2 of 3 on the path, from [On Middle]")
    assert "by A. Ünal, 2001." in readme and "`MiddleNet`" in readme and "$" not in readme
    assert "git diff Old Middle -- model.py train.py" in readme
    assert "git switch -c my-middle\n" in readme and readme.endswith("\n\nHow Middle sounds.")
    assert branched.git("show", "New:README.md").endswith("What New sees.\n\nHow New sounds.")


def test_the_graph_is_the_family_tree_dated_by_the_papers(branched):
    tips = branched.tips()
    assert branched.git("log", "-1", "--format=%P", "Old") == ""
    assert branched.git("log", "-1", "--format=%P", "New").split() == [tips["Middle"], tips["Old"]]
    noon = "1998-11-01 12:00:00 +0000"
    assert branched.git("log", "-1", "--format=%ai|%ci", "Old") == f"{noon}|{noon}"
    people = branched.git("log", "--format=%an|%cn", "New").splitlines()
    assert set(people) == {f"{branches.NAME}|{branches.NAME}"}
    message = branched.git("log", "-1", "--format=%B", "New")
    assert message.startswith("New: An idea\n") and "A. Ünal" in message
    assert branched.git("rev-parse", "main")[:7] not in message


def test_cutting_again_changes_nothing_whatever_mains_history(branched):
    before = branched.tips(), branched.git("reflog", "show", "New")
    branched.git("commit", "-q", "--amend", "-m", "the same files, another commit")
    branched.cut()
    assert (branched.tips(), branched.git("reflog", "show", "New")) == before


def test_any_clone_cuts_the_same_ids(branched, tmp_path):
    twin = branched.clone(tmp_path / "twin", "--single-branch", "--branch=main")
    twin.git("config", "core.autocrlf", "true")
    twin.git("config", "i18n.commitEncoding", "ISO-8859-1")
    twin.git("config", "commit.gpgSign", "true")
    for path in twin.git("ls-files").splitlines():
        file = twin.folder / path
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    twin.env["TZ"] = "Asia/Tokyo"
    twin.cut(cwd=tmp_path)
    assert twin.tips() == branched.tips()


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


def test_a_preview_shows_todays_files(repo, tmp_path):
    repo.write({"models/Old/model.py": "not yet committed\n", "models/Old/new.py": "new\n"})
    large = repo.folder / "every_branch" / "large.bin"
    large.write_bytes(bytes(1_000_001))
    large.chmod(0o755)
    look = tmp_path / "look"
    repo.cut("--preview", look)
    assert (look / "Old/model.py").read_text() == "not yet committed\n"
    assert (look / "Old/new.py").exists()
    copy = look / "Old/large.bin"  # an edit of which leaves main as it is
    assert copy.read_bytes() == large.read_bytes() and not copy.samefile(large)
    assert os.name == "nt" or copy.stat().st_mode & 0o100
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
    *_, last = branches.go_on("ResNet", MODELS)  # nobody who follows descent alone comes to LSTM
    assert last == "git checkout LSTM && python train.py  # the next on the list"
