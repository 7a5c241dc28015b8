"""In which precision a run computes, and how it is chosen where there is a GPU."""

import copy
import math

from conftest import TOY
from toys import WORDS, same

import pytest
import torch


@pytest.mark.parametrize(
    "bf16, fp32, chosen",
    [(1.0, 1.5, "bf16"), (1.0, 1.1, "fp32"), (2.0, 1.0, "fp32"), (1.0, math.inf, "bf16")],
)
def test_bf16_is_chosen_on_a_gpu_where_it_pays_off(tiny, monkeypatch, bf16, fp32, chosen):
    used = []
    monkeypatch.setattr(tiny.precision, "use", lambda model, name: used.append(name))
    monkeypatch.setattr(tiny.precision, "steps", lambda model, inputs: None)
    seconds = {"bf16": bf16, "fp32": fp32}
    monkeypatch.setattr(tiny.precision, "timed", lambda step, may_fail: seconds[used[-1]])
    assert tiny.precision.measured(None, ())[0] == chosen


def test_where_only_bf16_fits_into_memory_fp32_takes_forever(tiny):
    def step():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    assert tiny.precision.timed(step, may_fail=True) == math.inf
    with pytest.raises(torch.OutOfMemoryError):
        tiny.precision.timed(step, may_fail=False)


def test_measuring_changes_nothing(tiny, monkeypatch):
    """Neither the weights that come of a run, nor what it draws."""
    plain = tiny.train.fit(tiny.parse(*WORDS)).model.state_dict()
    monkeypatch.setattr(tiny.precision, "chosen", [])
    monkeypatch.setattr(tiny.precision, "possible", lambda device: True)
    monkeypatch.setattr(tiny.precision, "WORTH", math.inf)
    monkeypatch.setattr(tiny.precision, "ENOUGH", 0)
    run = tiny.train.fit(tiny.parse(*WORDS, "--fresh"))
    ((name, why),) = tiny.precision.chosen
    assert name == run.made_by["precision"] == "fp32" and "; bf16 was" in why
    assert same(run.model.state_dict(), plain)


@pytest.mark.parametrize("epochs", [3, 1])  # of one, nothing is left to train when it goes on
def test_a_run_keeps_the_precision_that_it_chose(tiny, monkeypatch, epochs):
    words = ("--epochs", epochs, "--batch-size", 100)
    monkeypatch.setattr(tiny.precision, "chosen", [])
    monkeypatch.setattr(tiny.precision, "possible", lambda device: True)
    monkeypatch.setattr(tiny.precision, "measured", lambda model, inputs: ("bf16", ", so fast"))
    plain = tiny.run.Run.validate
    monkeypatch.setattr(tiny.run.Run, "validate", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tiny.train.fit(tiny.parse(*words, "--checkpoint-every", 1e-9))
    assert tiny.precision.chosen == [("bf16", ", so fast")]
    tiny.precision.chosen[:] = [("fp32", "")]
    tiny.lock.held.clear()
    monkeypatch.setattr(tiny.run.Run, "validate", plain)
    for _ in range(2):  # to its end, and finished before
        run = tiny.train.fit(tiny.parse(*words))
        assert run.made_by.keys() >= {"threads", "micro_batch", "compile"}
        assert type(run.model).in_bf16 and run.made_by["precision"] == "bf16"
        assert type(copy.deepcopy(run.model)).in_bf16
    run = tiny.train.fit(tiny.parse(*words, "--fresh", "--precision", "fp32"))
    assert not hasattr(type(run.model), "in_bf16") and run.made_by["precision"] == "fp32"


def test_a_run_that_goes_on_where_there_is_no_bf16_says_so(tiny):
    recipe, cpu = tiny.parse(*WORDS), torch.device("cpu")
    assert tiny.precision.settled(recipe, "bf16", cpu) == "fp32"
    assert tiny.precision.settled(recipe.but(precision="bf16"), None, cpu) == "bf16"


def test_in_bf16_products_are_and_scores_are_not(tiny):
    seen = []
    run = tiny.run.Run(TOY, tiny.parse(*WORDS, "--precision", "bf16"))
    model = run.place(tiny.model.Toy())
    model.output.register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
    scores = model(torch.zeros(4, 12, dtype=torch.long))
    scores.sum().backward()
    assert seen == [torch.bfloat16] and scores.dtype == torch.float32
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    assert isinstance(model, tiny.model.Toy) and type(model).__name__ == "Toy"
    assert "precision-bf16" in run.title


def test_batch_statistics_are_float32_in_bf16(every_branch, small):
    """Also those of a layer that is not PyTorch's."""
    branch = every_branch["BatchNorm"]
    small(branch)
    words = ("--norm", "batch", "--precision", "bf16", "--dry-run", "--batch-size", 4)
    done = branch("train.py", *words, "--width", 0.125)
    assert done.code == 0, done.err
