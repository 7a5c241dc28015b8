"""What holds on a GPU, for those who have one: GPU=1 python -m pytest tests/test_gpu.py

The other tests compute on the CPU wherever they run, where the same seed gives the same bits.
"""

import copy

from conftest import run_python

import pytest
import test_contract_training as contract
import torch

if not torch.cuda.is_available():
    pytest.skip("no GPU, or GPU=1 is not set", allow_module_level=True)


class CapturedError(Exception):
    """The model and the first batch of a training."""


def test_the_network_is_that_of_the_cpu(branch, monkeypatch):
    """Its outputs and gradients on the first batch, in float32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)

    def captured(self, loader):
        raise CapturedError(self.state["model"], next(iter(loader))[0])

    monkeypatch.setattr(branch.run.Run, "batches", captured)
    words = ("--device", "cpu", "--batch-size", 20, *contract.smaller(branch, "laptop"))
    with pytest.raises(CapturedError) as found:
        branch.train.fit(branch.parse(*words))
    model, inputs = found.value.args
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    there = copy.deepcopy(model).cuda()
    results = []
    for network, batch in (model, inputs), (there, tuple(part.cuda() for part in inputs)):
        total = branch.threads.added(network.eval()(*batch))
        total.backward()
        results.append((total, [p.grad for p in network.parameters() if p.grad is not None]))
    (ours, gradients), (theirs, others) = results
    torch.testing.assert_close(theirs.cpu(), ours, rtol=1e-3, atol=1e-3)
    largest = max(gradient.abs().max().item() for gradient in gradients)
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other.cpu(), gradient, rtol=1e-2, atol=1e-4 * largest)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_trains_there_twice_with_the_same_bits(branch, precision):
    words = ("--precision", precision, "--epochs", 2, "--limit", 200, "--batch-size", 50)
    words += ("--fresh", *contract.smaller(branch, "laptop"))
    rows, weights, _, printed = contract.outcome(branch, *words)
    assert f"on {torch.cuda.get_device_name()} ({precision}" in printed
    again, others, *_ = contract.outcome(branch, *words)
    assert again == rows and all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_run_that_died_ends_with_the_same_bits(branch, monkeypatch):
    contract.test_a_run_that_died_ends_with_the_same_bits_and_then_is_finished(branch, monkeypatch)


def test_out_of_memory_is_one_line(laid_out):
    words = ("--batch-size", 55_000, "--width", 4, "--epochs", 1)
    done = run_python("train.py", *words, cwd=laid_out / "VGG")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "out of memory" in done.stderr and "--micro-batch" in done.stderr
