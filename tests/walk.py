"""Kill a training at each of its renames and syncs in turn, and see what the next start makes of
what is left.

    python tests/walk.py <folder of a branch> <flags of train.py>

Each training is a fork of this process, which has imported all and computed nothing, and so is
killed for good: nothing of it cleans up. Prints, as JSON, the number of kills and what was wrong.
"""

import itertools
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch

CALLS = ("replace", "fsync", "unlink")  # of os: after what it writes, all that a run does to files


def kill_at(number):
    """From now on, the process dies at such a call: before it if number is even, else after it."""
    count = 0

    def dying(call):
        def wrapped(*words, **kwargs):
            nonlocal count
            count += 1
            if count == number // 2 and number % 2 == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            done = call(*words, **kwargs)
            if count == number // 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return wrapped

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))


def run(train, words, number=None):
    """Train in a fork, killed at a call or not at all: its exit code, -9 if it was killed."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if number is not None:
            kill_at(number)
        code = 1
        try:
            train.fit(train.command_line("", train.RECIPES, words))
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def products(home):
    """{file: what of it has to be the same again}: no times, and of a picture that it is whole."""
    found = {}
    for path in sorted((home / "checkpoints").glob("*/*/*")):
        if path.suffix == ".pt":
            saved = torch.load(path, weights_only=True)
            found[path.name] = {name: value.tolist() for name, value in saved["weights"].items()}
        elif path.suffix == ".csv":
            lines = path.read_text(encoding="utf-8").splitlines()
            timed = [lines[0].split(",").index(name) for name in ("examples_per_second", "seconds")]
            found[path.name] = [
                [cell for place, cell in enumerate(line.split(",")) if place not in timed]
                for line in lines
            ]
        elif path.suffix == ".png":
            found[path.name] = path.read_bytes()[-8:]  # the end of a PNG file
        elif path.name != ".lock":
            found[path.name] = "should not be there"
    return found


def main(home, words):
    sys.path.insert(0, str(home))
    torch.set_num_threads(1)
    from harness.table import count

    import train

    # Both import much of PyTorch, once here and not in each fork.
    model = torch.nn.Linear(1, 1)
    count(model, torch.zeros(1, 1))
    torch.optim.SGD(model.parameters())

    def clear():
        shutil.rmtree(home / "checkpoints" / home.name, ignore_errors=True)

    clear()
    wrong = [] if run(train, words) == 0 else ["the training that nothing killed"]
    unbroken = products(home)
    for number in itertools.count(2):
        clear()
        if run(train, words, number) != -signal.SIGKILL:
            break
        if code := run(train, words):
            wrong.append(f"{number}: exit code {code}")
        found = products(home)
        wrong += [
            f"{number}: {name}"
            for name in unbroken | found
            if unbroken.get(name) != found.get(name)
        ]
        run(train, words)
        if products(home) != unbroken:
            wrong.append(f"{number}: once more")
    clear()
    print(json.dumps({"kills": number - 2, "products": sorted(unbroken), "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
