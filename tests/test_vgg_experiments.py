"""VGG's depth on turned clothes: torchvision's affine transform, small data."""

import math
import statistics

import pytest
import torch
from test_relu_experiments import points_of, typed_twice, watch
from torch.testing import assert_close
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

NAME = "VGG"


def test_clothes_are_turned_and_moved_as_torchvision_turns_them(branch):
    """With the same draws; what comes in is the background."""
    images = torch.rand(6, 2, 32, 32)
    background = torch.tensor([-0.3, 0.7])
    draws = torch.rand(6, 3, generator=torch.Generator().manual_seed(5))
    found = branch.experiments.turn(images, background, torch.Generator().manual_seed(5))
    for image, turned, (part, right, down) in zip(images, found, draws.tolist()):
        angle = 2 * math.pi * part  # of the grid, so the image turns the other way
        x, y = (16 * (0.4 * share - 0.2) / 1.15 for share in (right, down))
        back = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
        expected = transforms.affine(
            image - background[:, None, None],
            angle=-math.degrees(angle),
            translate=[-back[0], -back[1]],
            scale=1 / 1.15,
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        # Where an edge falls on a place between pixels, the last digits decide.
        assert_close(turned - background[:, None, None], expected, rtol=0, atol=1e-3)


def test_in_a_test_the_draws_are_always_the_same(branch):
    """And no draw of the training is used up."""
    images, background = torch.rand(8, 1, 32, 32), torch.zeros(1)
    state = torch.get_rng_state()
    first, again = (branch.experiments.view(lambda x: x, images, background) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(state, torch.get_rng_state())
    drawn = branch.experiments.turn(images, background)
    assert not torch.equal(drawn, branch.experiments.turn(images, background))


@pytest.mark.parametrize("words", [(), ("--no-turned",)], ids=str)
def test_every_depth_has_three_seeds(branch, small, monkeypatch, capsys, words):
    small(branch, 40, 20)
    watched = watch(monkeypatch, branch)
    words = "depth", "--epochs", 1, "--batch-size", 20, "--width", 0.01, *words
    printed = typed_twice(branch, capsys, *words)
    configs = branch.experiments.CONFIGS
    assert [(row["config"], row["seed"]) for row in points_of(branch)] == [
        (config, seed) for config in configs for seed in "012"
    ]
    assert all(seen.model.config == seen.run.settings.config for seen in watched)
    for config in configs:
        own = [run for run in branch.runs().values() if run["settings"]["config"] == config]
        columns = [
            [run["history"][-1]["train_accuracy"] for run in own],
            [run["result"]["metrics"]["accuracy"] for run in own],
        ]
        told = (
            f"{100 * statistics.mean(found):.2f} ± {100 * statistics.stdev(found):.2f}"
            for found in columns
        )
        assert "\n" + "  ".join((config, *told)) + "\n" in printed
