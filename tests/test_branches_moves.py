"""Which branches of a clone branches.py moves, and which it leaves alone."""

import re
import shutil

from repos import MIDDLE, NEW, OLD, Repo, entry, listing, model_files

import pytest


def test_a_change_is_appended_and_reaches_the_children(branched):
    before = branched.tips()
    branched.commit({"models/Middle/model.py": "better\n"})
    branched.cut()
    after = branched.tips()
    assert after["Old"] == before["Old"]
    for name in ("Middle", "New"):
        assert after[name] != before[name] and branched.descends(after[name], before[name])
    assert branched.descends("New", "Middle") and branched.descends("Middle", "Old")
    assert branched.git("show", "Middle:model.py") == "better"


def test_a_model_inserted_in_the_middle_whatever_the_order_of_the_list(branched):
    before = branched.tips()
    middle = MIDDLE.replace("Old", "Inserted")
    branched.commit(
        listing(OLD + NEW + middle + entry("Inserted", ["Old"])) | model_files("Inserted")
    )
    branched.cut()
    for child, parent in (("Inserted", "Old"), ("Middle", "Inserted"), ("New", "Middle")):
        assert branched.descends(child, parent)
    assert all(branched.descends(name, tip) for name, tip in before.items())
    assert branched.git("diff", "--name-only", before["New"], "New") == "README.md"


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
    assert re.search("1 commit.* of your own.*: git branch -m Middle my-middle", repo.cut(code=1))
    assert repo.tips()["Middle"] == mine
    assert repo.git("show", "New^2:model.py") == "better", "the children are cut all the same"

    repo.git("branch", "-m", "Middle", "my-middle")
    repo.cut()
    assert repo.git("show", "Middle:model.py") == "better"
    assert repo.git("show", "my-middle:model.py") == "mine"
    assert repo.descends("New", "Middle")


def test_a_commit_of_ones_own_that_was_pushed_to_a_fork_stays(repo, published):
    """It is not taken for what was published, and the children are not cut on top of it."""
    repo.git("checkout", "-q", "Old")
    repo.commit({"model.py": "mine\n"})
    repo.git("push", "-q", "origin", "Old")
    repo.git("checkout", "-q", "main")
    before = repo.tips()
    assert "up to date, with 1 commit(s) of your own on top" in repo.cut()
    assert repo.tips() == before
    repo.commit({"models/Old/model.py": "better\n"})
    assert "1 commit(s) of your own" in repo.cut(code=1)
    assert repo.tips()["Old"] == before["Old"]
    assert not repo.descends("Middle", before["Old"])


def test_an_old_main_does_not_undo_what_was_published(repo, published, tmp_path):
    """As after a fetch without a merge; a detached HEAD is no other."""
    clone = published.clone(tmp_path / "clone")
    clone.cut()
    repo.commit({"models/Old/model.py": "better\n"})
    repo.publish()
    clone.git("fetch", "-q")
    for words in (["checkout", "-q", "main"], ["checkout", "-q", "--detach"]):
        clone.git(*words)
        assert "git merge --ff-only origin/main" in clone.cut(code=2)
    clone.git("checkout", "-q", "main")
    clone.git("merge", "-q", "--ff-only", "origin/main")
    clone.cut()
    assert clone.tips() == repo.tips()


def test_a_clone_of_main_alone_says_what_it_does_not_know(published, tmp_path):
    for words in (["--single-branch"], ["--depth", "1"]):
        clone = published.clone(tmp_path / words[0], *words)
        assert "git remote set-branches origin '*'" in clone.cut()


@pytest.mark.parametrize("name", ["Old", "Middle"])
@pytest.mark.parametrize("better", [[], ["Old", "Middle"]])
def test_a_newer_branch_that_was_merged_into_an_older_one_stays_there(repo, tmp_path, name, better):
    """Whether there is an update or not; and the others are cut as if nothing had happened."""
    repo.commit(listing(OLD + MIDDLE + NEW.replace("'Middle', 'Old'", "'Old', 'Middle'")))
    repo.cut()
    twin = Repo(shutil.copytree(repo.folder, tmp_path / "twin"))
    repo.git("checkout", "-q", name)
    repo.git("merge", "-q", "--ff-only", "New")
    repo.git("checkout", "-q", "main")
    for clone in (repo, twin):
        clone.commit({f"models/{model}/model.py": "better\n" for model in better})
    twin.cut()
    merged = repo.tips()[name]
    assert f"git branch -m {name} my-{name.lower()}" in repo.cut(code=1)
    assert repo.tips() == {**twin.tips(), name: merged}


def test_a_checked_out_branch_does_not_move(branched, tmp_path):
    before = branched.tips()
    elsewhere = tmp_path / "elsewhere"
    branched.git("worktree", "add", "-q", elsewhere, "Middle")
    branched.cut()
    branched.commit({"models/Middle/model.py": "better\n"})
    assert "elsewhere" in branched.cut(code=1)
    assert branched.tips()["Middle"] == before["Middle"]
    assert (elsewhere / "model.py").read_text() == "Middle = 1\n"
    branched.git("worktree", "remove", elsewhere)
    branched.cut()
    assert branched.descends("New", "Middle")


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
    draft = learner.tips()
    assert "--drafts" in learner.cut(code=1) and learner.tips()["Old"] == draft["Old"]
    learner.cut("--drafts")
    assert learner.tips() == second, "a draft that was cut here gives way, if told to"

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
