"""What keeps git, or branches.py, from moving a branch: it alone is left alone, with the reason."""

import os
import re
import shutil

from repos import POSIX, Repo, hook

import pytest

ODD = "a\nb\u2028c" if os.name != "nt" else "elsewhere"  # the folder of another worktree


def elsewhere(repo, *words):
    """Another worktree, at Middle unless the words say otherwise."""
    folder = repo.folder.parent / ODD
    repo.git("worktree", "add", "-q", folder, *(words or ["Middle"]))
    return Repo(folder)


def path(repo, name):
    return repo.folder / ".git" / name


# Each generator brings Middle into a state, and, once it is resumed, takes the way out.


def checked_out(repo):
    elsewhere(repo)
    yield "checked out in .*Check out another branch there, then python branches.py"
    repo.git("worktree", "remove", repo.folder.parent / ODD)


def checked_out_in_a_folder_that_is_gone(repo):
    shutil.rmtree(elsewhere(repo).folder)
    yield "git worktree prune, then python branches.py"
    repo.git("worktree", "prune")


def checked_out_without_a_commit(repo):
    there = elsewhere(repo, "--detach", "main")
    repo.git("branch", "-D", "Middle")
    there.git("checkout", "-q", "--orphan", "Middle")
    yield "no commit yet. Check out another branch"
    there.git("checkout", "-q", "--detach", "--force", "main")


def bisected(repo):
    there = elsewhere(repo)
    there.git("bisect", "start")
    there.git("checkout", "-q", "--detach", "Old")
    yield "git bisect reset"
    there.git("bisect", "reset", "Old")


def bisected_here(repo):
    repo.git("checkout", "-q", "Middle")
    repo.git("bisect", "start")
    repo.git("checkout", "-q", "main")
    yield "git bisect reset"
    repo.git("bisect", "reset", "HEAD")


def rebased(repo):
    there = elsewhere(repo)
    assert there.git("rebase", "--force-rebase", "--exec", "false", "Old", check=False)
    yield "git rebase --continue"
    there.git("rebase", "--abort")
    there.git("checkout", "-q", "--detach")


def rebased_as_patches(repo):
    repo.write({".git/rebase-apply/head-name": "refs/heads/Middle\n"})
    yield "git rebase --continue"
    shutil.rmtree(path(repo, "rebase-apply"))


def rebased_with_another(repo):
    zeros = "0" * 40
    repo.write({".git/rebase-merge/head-name": "refs/heads/mine\n"})
    repo.write({".git/rebase-merge/update-refs": f"refs/heads/Middle\n{zeros}\n{zeros}\n"})
    yield "git rebase --continue"
    shutil.rmtree(path(repo, "rebase-merge"))


def a_symbolic_reference(repo):
    repo.git("branch", "-m", "Middle", "mine")
    repo.git("symbolic-ref", "refs/heads/Middle", "refs/heads/mine")
    mine = repo.tips()["mine"]
    yield "reference to refs/heads/mine. git symbolic-ref --delete refs/heads/Middle"
    assert repo.tips()["mine"] == mine
    repo.git("symbolic-ref", "--delete", "refs/heads/Middle")


def a_symbolic_reference_to_nothing(repo):
    repo.git("branch", "-D", "Middle")
    repo.git("symbolic-ref", "refs/heads/Middle", "refs/heads/nowhere")
    yield "reference to refs/heads/nowhere"
    assert "nowhere" not in repo.tips()
    repo.git("symbolic-ref", "--delete", "refs/heads/Middle")


def a_newer_branch_merged_into_it(repo):
    repo.git("checkout", "-q", "Middle")
    repo.git("merge", "-q", "--ff-only", "New")
    repo.git("checkout", "-q", "main")
    yield "1 commit.* other branches.* git branch -m Middle my-middle, then python branches.py"
    repo.git("branch", "-m", "Middle", "my-middle")


def locked(repo):
    repo.write({".git/refs/heads/Middle.lock": ""})
    yield "git refuses to move it: .*Middle.lock"
    path(repo, "refs/heads/Middle.lock").unlink()


def in_the_way(repo):
    repo.git("branch", "-m", "Middle", "Middle/wider")
    yield "git refuses to move it: .*refs/heads/Middle/wider"
    repo.git("branch", "-m", "Middle/wider", "wider")


def broken(repo):
    repo.write({".git/refs/heads/Middle": "?\n"})
    yield "git refuses to move it: .*refs/heads/Middle"
    path(repo, "refs/heads/Middle").unlink()


def refused_by_a_hook(repo):
    words = (
        'while read old new ref; do test "$1 $ref" != "prepared refs/heads/Middle" || exit 1; done'
    )
    hook(repo, f"echo two >&2; echo lines >&2; {words}")
    yield "git refuses to move it: .*two lines .*hook"
    path(repo, "hooks/reference-transaction").unlink()


OBSTACLES = [
    *(checked_out, checked_out_in_a_folder_that_is_gone, checked_out_without_a_commit),
    *(bisected, bisected_here, rebased, rebased_as_patches, rebased_with_another),
    *(a_symbolic_reference, a_symbolic_reference_to_nothing, a_newer_branch_merged_into_it),
    *(locked, in_the_way, broken, refused_by_a_hook),
]


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_it_is_left_alone_and_all_others_move(branched, obstacle):
    before = branched.tips()
    steps = obstacle(branched)
    reason = next(steps)
    branched.commit({"every_branch/harness/run.py": "better = True\n"})
    refs = branched.refs()
    printed = branched.cut(code=1)
    (line,) = re.findall(f"^Middle  2001  left alone: .*{reason}.*$", printed, re.M)
    assert printed.count("left alone") == 1 and line.isprintable()
    middle = [line for line in branched.refs().splitlines() if "heads/Middle" in line]
    assert middle == [line for line in refs.splitlines() if "heads/Middle" in line]
    for name in ("Old", "New"):
        assert branched.git("show", f"{name}:harness/run.py") == "better = True"
        assert branched.descends(name, before[name])
    next(steps, None)
    branched.cut()
    assert branched.descends("New", "Middle")


def test_a_symbolic_reference_is_not_up_to_date_if_its_target_moves(branched):
    branched.git("branch", "-f", "New", "Middle")
    branched.git("symbolic-ref", "refs/heads/Middle", "refs/heads/New")
    assert "Middle  2001  left alone" in branched.cut(code=1)


@POSIX
@pytest.mark.parametrize("script", ["exit 1", "test $(wc -l) -eq 1"], ids=["any", "two at once"])
def test_what_git_refuses_altogether(branched, script):
    branched.commit({"every_branch/harness/run.py": "better = True\n"})
    hook(branched, script)
    before = branched.refs()
    assert branched.cut(code=1).count("left alone: git refuses") == 3
    assert branched.refs() == before


@POSIX
def test_a_branch_that_moves_meanwhile(branched):
    """A git that comes first on the PATH moves Middle once more, just before it updates."""
    branched.commit({"every_branch/harness/run.py": "better = True\n"})
    branched.before_git("update-ref", '"$git" branch -f Middle main')
    assert "Middle  2001  left alone: git refuses" in branched.cut(code=1)
    assert branched.tips()["Middle"] == branched.git("rev-parse", "main")
    assert branched.git("show", "New:harness/run.py") == "better = True"


@POSIX
def test_another_branches_py_at_the_same_time(branched, tmp_path):
    branched.commit({"every_branch/harness/run.py": "better = True\n"})
    twin = Repo(shutil.copytree(branched.folder, tmp_path / "twin"))
    twin.cut()
    branched.git("fetch", "-q", twin.folder, "Middle")
    branched.before_git("update-ref", f'"$git" branch -f Middle {twin.tips()["Middle"]}')
    branched.cut()
    assert branched.tips() == twin.tips()


@pytest.mark.parametrize("file", ["index", "index.lock", "packed-refs.lock", "HEAD.lock"])
def test_what_is_no_obstacle(branched, file):
    branched.git("pack-refs", "--all")
    branched.commit({"every_branch/harness/run.py": "better = True\n"})
    branched.write({f".git/{file}": "broken"})
    branched.cut()
    assert branched.git("show", "Middle:harness/run.py") == "better = True"


def test_a_move_is_in_the_reflog_and_is_no_configuration(branched):
    branched.commit({"models/Old/model.py": "better\n"})
    branched.cut()
    first, second = branched.git("log", "-g", "--format=%gs", "Old").splitlines()[::-1]
    assert first.startswith("branch: Cut from ") and second.endswith(
        branched.git("rev-parse", "main")
    )
    assert "branch." not in branched.git("config", "--list", "--local")
