"""Training speed on a machine that others use: each laptop recipe, idle and beside busy programs.

    python benchmarks/busy.py                all branches, in about twenty minutes
    python benchmarks/busy.py LeNet VGG      these

Beside none, one and two programs that do nothing but count, each recipe trains for some seconds
with one thread, with as many as PyTorch takes by itself, and with as many as train.py chooses when
it starts there. All take turns in one run; a figure is the median over the rounds of the examples
trained per second, from the second step on.
"""

import contextlib
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import branches

from watch import asked_for, watched

ROUNDS, SECONDS, WAYS = 2, 2.0, ("1 thread", "PyTorch's", "chosen")
COUNTING = "while True:\n    for i in range(10**6): pass"


@contextlib.contextmanager
def busy(count):
    """Meanwhile, so many programs count."""
    programs = [subprocess.Popen([sys.executable, "-c", COUNTING]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def measure():
    """In the folder of a branch: print {"0, 1 thread": [[examples per second, threads], ...]}."""
    sys.path.insert(0, os.getcwd())
    train, threads = map(importlib.import_module, ("train", "harness.threads"))
    import torch

    most, speeds = torch.get_num_threads(), defaultdict(list)
    for _ in range(ROUNDS):
        for count in range(3):
            with busy(count):
                for way in WAYS:
                    threads.chosen.clear()
                    torch.set_num_threads(most)
                    asked = {"1 thread": ["--threads", "1"], "PyTorch's": ["--threads", str(most)]}
                    found = watched(train, asked.get(way, []), SECONDS)
                    speeds[f"{count}, {way}"].append((found["speed"], found["threads"]))
    print(json.dumps(speeds))


def main():
    models, _ = asked_for(__doc__)
    columns = [f"{count}, {way}" for count in range(3) for way in WAYS]
    print("examples per second beside 0, 1, 2 busy programs (threads chosen there)")
    print(f"{'':<12}" + "".join(f"{column:>15}" for column in columns), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        branches.preview(Path(folder, "all"))
        for name in [model["name"] for model in models]:
            done = subprocess.run(
                [sys.executable, __file__, "--in-branch"],
                cwd=Path(folder, "all", name),
                stdout=subprocess.PIPE,
                check=True,
                env={k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"},
            )
            found = json.loads(done.stdout)
            cells = []
            for column in columns:
                median = statistics.median(value for value, _ in found[column])
                counts = sorted({threads for _, threads in found[column]})
                chosen = f" ({'/'.join(map(str, counts))})" if column.endswith("chosen") else ""
                cells.append(f"{median:,.0f}{chosen}")
            print(f"{name:<12}" + "".join(f"{cell:>15}" for cell in cells), flush=True)
    import torch

    print(
        f"PyTorch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{os.cpu_count()} cores; median of {ROUNDS} rounds"
    )


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["--in-branch"] else main()
