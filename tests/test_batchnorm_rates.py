"""GoogLeNet at rates from 0.01 to 1: which runs there are, and what is said of them."""

from types import SimpleNamespace

from test_relu_experiments import typed_twice

NAME = "BatchNorm"


def test_every_rate_has_three_seeds_with_and_without(branch, small, monkeypatch, capsys):
    """Nothing changes but the rate and the normalization; those that diverge are counted."""
    seen = []

    def fit(recipe):
        seen.append(recipe)
        if recipe.norm == "none" and recipe.lr == 1 and recipe.seed:
            raise branch.errors.Diverged("training has diverged")
        share = (recipe.norm == "torch") / 2 + recipe.lr / 8 + recipe.seed / 100
        row = {"epoch": 1, "train_loss": 1 - share, "validation_accuracy": share}
        return SimpleNamespace(settings=recipe, history=[row])

    small(branch)
    monkeypatch.setattr(branch.train, "fit", fit)
    lines = typed_twice(branch, capsys, "rates").splitlines()
    rates = branch.experiments.RATES
    assert (min(rates), max(rates)) == (0.01, 1)
    assert [(recipe.norm, recipe.lr, recipe.seed) for recipe in seen[: len(seen) // 2]] == [
        (norm, lr, seed) for norm in ("none", "torch") for lr in rates for seed in range(3)
    ]
    assert len({str(recipe.but(norm="none", lr=1, seed=0)) for recipe in seen}) == 1
    assert "norm none   lr 0.01   0.999, 0.989, 0.979  1.12 ± 1.00" in lines
    assert "norm none   lr 1      0.875  12.50, one run  2 of 3 diverged" in lines
