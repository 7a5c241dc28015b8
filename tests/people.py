"""A learner and a maintainer, who do with their clones what git lets them, at random."""

import random
import re
import shutil
from pathlib import Path

from repos import Repo, entry, hook, listing, text

STEMS = ("Old", "Middle", "New", "Newer")
OFTEN = ("commit_on_a_branch", "merge", "worktree", "bisect", "pull", "publish")


class Clone(Repo):
    """A clone of a maintainer or a learner, and what he does in it, when git lets him."""

    def __init__(self, folder, dice):
        super().__init__(folder)
        self.env["GIT_NO_REPLACE_OBJECTS"] = "1"  # for what the checks see; branches.py has its own
        self.dice = dice
        self.drafts = set()  # (branch, commit) of the moves that branches.py has made here
        self.held = {}  # {branch in a bisect: folder of the worktree}

    def names(self):
        return re.findall('^name = "(.*)"', self.git("show", "refs/heads/main:path.toml"), re.M)

    def some(self):
        """A branch at random, but for main."""
        names = self.git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").split("\n")
        return self.dice.choice([name for name in names if name != "main"] or ["none"])

    def trees(self):
        """[(folder, branch)] of the other worktrees whose folders are there."""
        blocks = self.git("worktree", "list", "--porcelain").split("\n\n")[1:]
        form = r"worktree (.*)\n(?:HEAD .*\n)?(?:branch refs/heads/)?(.*)"  # HEAD may be broken
        found = [re.match(form, block).groups() for block in blocks]
        return [(folder, name) for folder, name in found if Path(folder).exists()]

    def has(self, *words, **kwargs):
        """Run git, which may refuse: did it do as told?"""
        return self.git(*words, check=False, **kwargs) == 0

    def to_main(self):
        self.has("checkout", "-q", "main")

    def change(self, file="models/{}/model.py"):
        self.write({file.format(self.dice.choice(self.names())): f"{self.dice.random()}\n"})

    def save(self, *words):
        self.has("add", "-A")
        self.has("commit", "-q", "-m", "work", *words)


class Learner(Clone):
    def commit_on_a_branch(self):
        if self.has("checkout", "-q", self.some()):
            self.change("model.py")
            self.save()
            self.to_main()

    def stage(self):
        self.change()
        self.has("add", "models")

    def clean(self):
        self.has("reset", "-q", "--hard")
        self.to_main()

    def merge(self):
        words = self.dice.choice((["--ff-only"], ["--no-ff", "-s", "ours"], ["-X", "theirs"]))
        if self.has("checkout", "-q", self.some()):
            self.has("merge", "-q", *words, self.some()) or self.has("merge", "--abort")
            self.to_main()

    def rename(self):
        self.has("branch", "-m", self.some(), f"my-{self.dice.randrange(9)}")

    def delete(self):
        self.has("branch", "-D", self.some())

    def reset(self):
        self.has("branch", "-f", self.some(), self.some())

    def go_back(self):
        self.has("branch", "-f", name := self.some(), f"{name}~")

    def check_out(self):
        self.has("checkout", "-q", self.some())

    def tag(self):
        self.has("tag", self.dice.choice(["main", *self.names()]), self.some())

    def worktree(self):
        folder = self.folder.parent / f"tree {self.dice.randrange(99)}"
        self.has("worktree", "add", "-q", folder, self.some())

    def lose_a_worktree(self):
        for folder, _ in self.trees()[:1]:
            shutil.rmtree(folder)

    def prune(self):
        self.git("worktree", "prune")
        self.held = {name: where for name, where in self.held.items() if Path(where).exists()}

    def bisect(self):
        for folder, name in self.trees()[:1]:
            if name != "detached" and self.has("bisect", "start", cwd=folder):
                self.git("checkout", "-q", "--detach", cwd=folder)
                self.held[name] = folder

    def end_bisect(self):
        for name, folder in [*self.held.items()]:
            if Path(folder).exists() and self.has("bisect", "reset", "HEAD", cwd=folder):
                del self.held[name]

    def stash(self):
        self.has("stash", "-q")

    def symbolic(self):
        name = self.dice.choice(self.names())
        self.has("symbolic-ref", f"refs/heads/{name}", f"refs/heads/{self.some()}")

    def wider(self):
        name = self.some()
        self.has("branch", "-m", name, f"{name}/wider")

    def lock(self):
        self.write({f".git/refs/heads/{self.dice.choice(self.names())}.lock": ""})

    def unlock(self):
        for path in (self.folder / ".git/refs/heads").rglob("*.lock"):
            path.unlink()

    def refuse(self):
        name = self.dice.choice(self.names())
        test = f'test "$1 $ref" != "prepared refs/heads/{name}" || exit 1'
        hook(self, f"while read old new ref; do {test}; done")

    def refuse_nothing(self):
        (self.folder / ".git/hooks/reference-transaction").unlink(missing_ok=True)

    def pack(self):
        self.has("pack-refs", "--all")

    def rename_the_remote(self):
        self.has("remote", "rename", self.git("remote"), f"r{self.dice.randrange(99)}")

    def replace(self):
        self.has("replace", "-f", self.some(), self.some())

    def draft(self):
        if self.has("checkout", "-q", "main"):
            self.change()
            self.save()

    def pull(self):
        if self.has("fetch", "-q") and self.has("checkout", "-q", "main"):
            self.has("reset", "-q", "--hard", f"refs/remotes/{self.git('remote')}/main")


class Maintainer(Clone):
    def edit(self):
        self.change()
        self.save()

    def amend(self):
        self.change()
        self.save("--amend")

    def another_path(self):
        """A model more, other parents, other ideas, another order."""
        names = self.names()
        names += STEMS[len(names) : len(names) + 1]
        self.write(main_of(names, self.dice))
        self.save()

    def publish(self):
        """As the workflow does, once branches.py has run."""
        self.git("push", "-q", "origin", "+main", *self.names())  # without force, but for main


def main_of(names, dice):
    """Models in any order of the list, each of which builds on some of those of an older name."""
    models, files = [], {}
    for i, name in enumerate(sorted(names, key=STEMS.index)):
        parents = dice.sample(STEMS[:i], min(i, dice.randrange(3)))
        models.append(entry(name, parents, title=f"On {dice.randrange(3)}"))
        files[f"models/{name}/train.py"] = f"{name}\n"
    return files | listing("".join(dice.sample(models, len(models))))


def actions(kind):
    """The names of all that he does, some more than once: what he does often."""
    names = [name for name in vars(kind) if not name.startswith("_")]
    return names + [name for name in names if name in OFTEN] * 4


def lay_out(home):
    """A maintainer's clone, a learner's, and the bare repository between them."""
    maintainer = Maintainer(home / "maintainer", random.Random(0))
    maintainer.folder.mkdir()
    maintainer.git("init", "-q", "-b", "main", "--template=")
    shared = ("every_branch/x.py", "LICENSE", ".gitattributes", "requirements.txt")
    maintainer.write({"branches.py": text("branches.py"), "every_branch/README.md": "$name\n"})
    maintainer.write(dict.fromkeys(shared, ""))
    maintainer.write({f"models/{name}/model.py": f"{name}\n" for name in STEMS})
    maintainer.commit(main_of(STEMS[:3], maintainer.dice))
    maintainer.git("init", "-q", "--bare", "-b", "main", "--template=", "../origin.git")
    maintainer.git("remote", "add", "origin", "../origin.git")
    maintainer.cut()
    maintainer.publish()
    maintainer.git("clone", "-q", "--template=", "../origin.git", home / "learner")
    learner = Learner(home / "learner", random.Random(0))
    learner.git("remote", "set-url", "origin", "../origin.git")
    learner.cut()
