"""branches.py in the course of random events: what a learner has stays, whatever he did before.

After each run, git alone is asked what has changed, and that is held against what the docstring of
branches.py promises. And path.toml with random mistakes: it is read or refused.
"""

import random
import re
import shutil

import branches
from people import Learner, Maintainer, actions, lay_out
from repos import listing, text

import pytest


def sizes(short, long):
    return [pytest.param(short), pytest.param(long, marks=pytest.mark.slow)]


# The checks


def state(clone):
    """All that branches.py has to leave as it is, and the references, which it may move."""
    lines = clone.refs().splitlines()
    files = (path for path in clone.folder.rglob("*") if ".git" not in path.parts)
    folders = [clone.folder, *(folder for folder, _ in clone.trees())]
    return {
        "refs": {ref: target or tip for ref, tip, target in (line.split(" ") for line in lines)},
        "worktrees": clone.git("worktree", "list", "--porcelain"),
        "states": [clone.run("status", "--porcelain", cwd=folder).stdout for folder in folders],
        "index": clone.git("ls-files", "--stage"),
        "files": {path: path.read_bytes() for path in files if path.is_file()},
    }


def run(clone, *flags):
    """Run branches.py, and hold what git says has changed against what it says: its lines."""
    before = state(clone)
    env = {word: value for word, value in clone.env.items() if word != "GIT_NO_REPLACE_OBJECTS"}
    done = clone.program(*flags, env=env)
    after = state(clone)
    code, printed = done.returncode, done.stdout + done.stderr
    assert code in (0, 1, 2) and "Traceback" not in printed, printed
    old, new = before.pop("refs"), after.pop("refs")
    assert before == after
    moved = {ref for ref in old.keys() | new.keys() if old.get(ref) != new.get(ref)}
    # A symbolic reference that led nowhere leads somewhere once its target is there.
    moved -= {ref for ref in moved if new.get(ref, "").startswith("refs/")}
    assert (code == 2) == (done.stdout == "") and (code == 1) == ("left alone: " in printed)
    assert not (moved and code == 2)
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if "  2001  " in line)
    assert code == 2 or [*lines] == clone.names()
    for ref in moved:
        name, tip = ref.removeprefix("refs/heads/"), new[ref]
        assert name in lines and name not in clone.held, ref
        assert "  new" in lines[name] or "  updated from " in lines[name]
        if ref in old and not clone.descends(tip, old[ref]):
            assert flags and (name, old[ref]) in clone.drafts, "no descendant of what was there"
        clone.drafts.add((name, tip))
    lost = clone.git("log", "--format=%ce", *old.values(), "--not", *new.values(), "--").split()
    assert set(lost) <= {branches.EMAIL}, "commits of the learner's are gone"
    for name, line in lines.items():
        if "left alone" not in line and "of your own" not in line:
            theirs = (f"refs/heads/main:models/{name}/model.py", f"refs/heads/{name}:model.py")
            assert clone.git("rev-parse", theirs[0]) == clone.git("rev-parse", theirs[1])
    fine = re.compile("  (up to date|new|updated.*)$")
    return {name for name, line in lines.items() if fine.search(line)}


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    home = tmp_path_factory.mktemp("world")
    lay_out(home)
    return home


def play(home, dice):
    maintainer, learner = Maintainer(home / "maintainer", dice), Learner(home / "learner", dice)
    done = []
    try:
        for _ in range(2):
            for who, most in ((learner, 6), (maintainer, 2), (learner, 3)):
                for action in dice.choices(actions(type(who)), k=dice.randint(0, most)):
                    if action == "publish":
                        run(maintainer)
                    done.append(f"{type(who).__name__}.{action}")
                    getattr(who, action)()
            if dice.random() < 0.8:
                learner.clean()
            done.append("run")
            run(learner, *dice.choice(([], [], ["--drafts"])))
        learner.clean()
        learner.pull()
        learner.git("clone", "-q", "--template=", "../origin.git", home / "twin")
        twin = Learner(home / "twin", dice)
        mine, its = run(learner), run(twin)
        if learner.git("rev-parse", "refs/heads/main") == twin.git("rev-parse", "refs/heads/main"):
            own, theirs = learner.tips(), twin.tips()
            for name in mine & its:
                assert own[name] == theirs[name], "two clones, two ids"
    except BaseException as error:
        error.add_note(" ".join(done))
        raise


@pytest.mark.parametrize("seeds", sizes(range(4), range(1000)))
def test_what_a_learner_has_stays(world, tmp_path, seeds):
    for seed in seeds:
        home = shutil.copytree(world, tmp_path / f"world {seed}")
        play(home, random.Random(seed))
        shutil.rmtree(home, ignore_errors=True)  # Windows removes no file that is read-only


# path.toml


VALUES = r"""
0 -1 1e999 nan 0x1F true 1958-11-01 2001-02-30 9999-12-31 1999-01-01T00:00:00Z [] [1] [[]] ["Old"]
["Old","Old"] {a=1} "" "é" "x" "\u0000" "\n" "HEAD" "main" "Old" "../x" "OLD"
"""
TOKENS = r"""= [ ] [[ ]] { } " ' \ # , . - _ [[model]] [model] name date builds_on parts row"""


def mistake(text, dice):
    """The text with a field, a value or some letters deleted, doubled, put in or replaced."""
    if dice.random() < 0.6:
        words, count = re.split(r"( = |\n)", text), 1
        i = dice.randrange(0, len(words), 2)
    else:
        words, count = [*text], dice.choice((0, 1, 2, 9, 60))
        i = dice.randrange(len(words))
    odd = dice.choice(
        [*VALUES.split(), *TOKENS.split(), chr(dice.randrange(0x3000)), "9" * 5000, "[" * 2000]
    )
    old = words[i : i + count]
    words[i : i + count] = dice.choice(([], old * 2, [odd], [odd], [odd, *old]))
    return "".join(words)


@pytest.mark.parametrize("seeds", sizes(range(60), range(500)))
def test_a_path_toml_with_mistakes_is_read_or_refused(repo, seeds):
    for seed in seeds:
        dice = random.Random(seed)
        path = dice.choice((repo.git("show", "main:path.toml"), text("path.toml")))
        for _ in range(dice.choice((1, 1, 2, 3))):
            path = mistake(path, dice)
        try:
            models = branches.read_path(path)
        except branches.Refusal as refusal:
            assert str(refusal).startswith("path.toml: ") and str(refusal).isprintable(), seed
        else:
            branches.with_models("<!-- made by branches.py --readme -->\n<!-- end -->\n", models)
            assert len(branches.parents_first(models)) == len(models), seed
        if seed % 20 == 0:
            repo.commit(listing(path))
            assert repo.program().returncode in (0, 2), seed
