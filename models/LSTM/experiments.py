"""Show what memory cells are for.

    python experiments.py lags           two tasks that ask for what was seen 100 steps before: a
                                         tanh network against the cells of 1997, of 2000, of
                                         today; and what is left of a gradient on the way back

It takes about 17 minutes on one CPU core. `python experiments.py lags --help` lists what can be
changed. Results go to checkpoints/LSTM/; the same command goes on with what was stopped.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from harness import ROOT, files
from harness.compare import (
    compare,
    experiment,
    in_turn,
    need_some,
    need_whole_batches,
    seeds_of,
    unless_diverged,
)
from harness.errors import Refusal, harmless, program
from harness.values import Rule
from model import LastOutput

import tasks
import torch
import train
from tasks import TASKS

SIZES = {  # blocks of each task, and cells in a block; tanh: no fewer weights than any other
    "adding": {"tanh": (9, 1), "1997": (2, 2), "2000": (2, 2), "today": (2, 2)},
    "temporal-order": {"tanh": (10, 1), "1997": (2, 2), "2000": (2, 2), "today": (2, 2)},
}
SOLVED = 0.9  # share of the validation sequences
SEEDS = 3


@dataclass(frozen=True, kw_only=True)
class Lag(train.Recipe):
    """A task and a network, as small as in the paper."""

    data: Annotated[str, Rule(f"one of {', '.join(TASKS)}", TASKS.__contains__)] | None = None
    cell: Literal["tanh", "1997", "2000", "today"] | None = None  # not set: all of them


LAGS = {
    "laptop": Lag(
        epochs=25,  # 50,000 sequences
        batch_size=32,
        lr=1e-2,
        length=100,
        blocks=2,
        size=2,
    )
}


def variants(recipe):
    """{Settings of a run: (task, cell)} of what a recipe leaves open, with SEEDS seeds each."""
    seeds = seeds_of(recipe, SEEDS)
    return {
        recipe.but(data=task, cell=cell, seed=seed, blocks=blocks, size=size): (task, cell)
        for task in ([recipe.data] if recipe.data else TASKS)
        for cell, (blocks, size) in SIZES[task].items()
        if recipe.cell in (None, cell)
        for seed in seeds
    }


def lags(recipe):
    """Which network learns to use what it saw a hundred steps before (Experiments 4 and 6a)."""
    usual = LAGS["laptop"]
    if (recipe.blocks, recipe.size) != (usual.blocks, usual.size):
        raise Refusal("--blocks, --size: each network has those of SIZES in experiments.py")
    need_whole_batches(recipe)
    runs, every = {}, variants(recipe)
    for variant in in_turn("Time lags", [*every]):
        if run := unless_diverged(train.fit, variant):
            runs.setdefault(every[variant], []).append(run)
    if recipe.dry_run:
        return
    need_some(runs)
    size = recipe.limit or tasks.EPOCH
    print(f"\n{'':<24}{'right in the end, by seed':<28}{SOLVED:.0%} right after ... sequences")
    panels = {}
    for (task, cell), own in runs.items():
        shares = [[row["validation_correct"] for row in run.history] for run in own]
        last = ", ".join(f"{share[-1]:.3f}" for share in shares)
        first = ", ".join(f"{size * n:,}" if (n := solved(share)) else "never" for share in shares)
        print(f"{task + ', ' + cell:<24}{last:<28}{first}")
        panels.setdefault(task, {})[cell] = shares
    compare("LSTM", recipe, sum(runs.values(), []), panels, "share of right answers, validation")
    folder = ROOT / "checkpoints" / "LSTM" / recipe.title()
    with harmless("gradients.csv"):
        files.write_csv(folder / "gradients.csv", gradients(runs))
        print("What is left of a gradient, step by step back, is in gradients.csv there")


def solved(shares):
    """The first epoch by whose end SOLVED of the answers are right; None if there is none."""
    return next((n for n, share in enumerate(shares, start=1) if share >= SOLVED), None)


def gradient_by_lag(model, inputs):
    """How much the output of a LastOutput depends on its cells' states, by how long ago: [T].

    It is the length of the gradient with respect to them, as a multiple of that at the last step;
    the mean over sequences [B, T, values].
    """
    states, step = [], model.memory.step

    def recorded(*before):
        after = step(*before)
        states.append(after[1])
        return after

    model.memory.step = recorded
    outputs, _ = model(inputs)
    del model.memory.step
    gradients = torch.autograd.grad(outputs.sum(), states, materialize_grads=True)
    lengths = torch.stack(gradients).norm(dim=2)  # [T, B]
    return (lengths / lengths[-1]).mean(1).flip(0)


def gradients(runs):
    """Rows for gradients.csv: what is left of a gradient, before and after each training."""
    rows = []
    for (name, cell), own in runs.items():
        task, recipe = TASKS[name], own[0].settings
        inputs, _ = task.draw(64, recipe.length, torch.Generator().manual_seed(0))
        torch.manual_seed(recipe.seed)
        sizes = recipe.cell, recipe.blocks, recipe.size
        new = LastOutput(task.values, task.outputs, *sizes, input_gate=task.input_gate)
        networks = [("before", recipe.seed, new)]
        networks += [("after", run.settings.seed, run.model.cpu()) for run in own]
        for when, seed, model in networks:
            about = {"data": name, "cell": cell, "training": when, "seed": seed}
            left = gradient_by_lag(model, inputs).tolist()
            rows += [about | {"steps": n, "gradient": value} for n, value in enumerate(left)]
    return rows


EXPERIMENTS = {"lags": (lags, LAGS)}

if __name__ == "__main__":
    program(lambda: experiment(__doc__, EXPERIMENTS))
