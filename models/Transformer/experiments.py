"""Change one thing of the Transformer.

    python experiments.py ablations      where layers are normalized, after the sum as published or
                                         before the sub-layer as today, with and without warm-up;
                                         how many heads; how a position is told

It takes about an hour and a half on one CPU core. `python experiments.py ablations --help` lists
what can be changed. Results go to checkpoints/Transformer/; the same command goes on with what was
stopped.
"""

import dataclasses

from harness.compare import compare, experiment, in_turn, need_some, seeds_of, unless_diverged
from harness.errors import Refusal, program
from harness.translation import Data
from harness.words import PAD

import torch
import train

SEEDS = 3
PANELS = {
    "norm and warm-up": {
        "post-norm": {"norm": "post", "rise": True},
        "post-norm, no warm-up": {"norm": "post", "rise": False},
        "pre-norm": {"norm": "pre", "rise": True},
        "pre-norm, no warm-up": {"norm": "pre", "rise": False},
    },
    "heads (Table 3, A)": {str(heads): {"heads": heads} for heads in (1, 4, 8)},
    "positions (Table 3, E)": {
        "sinusoids": {"positions": "sinusoids"},
        "learned": {"positions": "learned"},
        "none": {"positions": "none"},
    },
}
SHORT = {"laptop": dataclasses.replace(train.RECIPES["laptop"], epochs=3, warmup=200, averaging=1)}


def variants(recipe):
    """{Settings of a run: [(panel, label)]} with SEEDS seeds each; panels have runs in common."""
    found = {}
    for panel, changes in PANELS.items():
        for label, change in changes.items():
            for seed in seeds_of(recipe, SEEDS):
                found.setdefault(recipe.but(**change, seed=seed), []).append((panel, label))
    return found


def frequencies(recipe):
    """Nats per token of the validation verses if only the frequency of each token is known."""
    data = Data(recipe, train.vocabularies)
    batches = {part: data.loader(part, "cpu") for part in ("train", "validation")}
    seen, new = (torch.cat([y[y != PAD] for _, y in part]) for part in batches.values())
    counts = 1 + seen.bincount(minlength=len(data.target))
    return -(counts / counts.sum()).log()[new].mean().item()


def ablations(recipe):
    """Norms, warm-up, heads and positions, one change at a time, on the validation verses."""
    every, runs = variants(recipe), []
    if odd := {settings.heads for settings in every if recipe.d_model % settings.heads}:
        raise Refusal(f"--d-model {recipe.d_model}: it should be a multiple of {max(odd)} heads")
    panels = {panel: {label: [] for label in changes} for panel, changes in PANELS.items()}
    for settings in in_turn("Ablations", [*every]):
        if run := unless_diverged(train.fit, settings):
            runs.append(run)
            for panel, label in every[settings]:
                curve = [row["validation_loss"] for row in run.history]
                panels[panel][label].append(curve)
    if recipe.dry_run:
        return
    need_some(runs)
    for panel, curves in panels.items():  # without those of which every run diverged
        panels[panel] = {label: own for label, own in curves.items() if own}
    for panel, curves in panels.items():
        print(f"\n{panel:<28}final validation loss, nats per token, by seed")
        for label, own in curves.items():
            print(f"{label:<28}{', '.join(f'{curve[-1]:.3f}' for curve in own)}")
    print(f"\nwithout a network, by the frequency of each token: {frequencies(recipe):.3f}")
    together = dataclasses.replace(recipe, name=f"{recipe.name}-all")  # one run is the recipe's own
    compare("Transformer", together, runs, panels, "validation loss, nats per token")


EXPERIMENTS = {"ablations": (ablations, SHORT)}

if __name__ == "__main__":
    program(lambda: experiment(__doc__, EXPERIMENTS))
