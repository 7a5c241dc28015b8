"""Several processes that train one model: what they come to, and what happens when one dies.

The ranks are real: torchrun starts two, which meet by gloo.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import NAMES, TOY, clean, run_python
from toys import load

import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

LONG = 200  # seconds, after which ranks wait for one another in vain
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
# 1,000 and 100 sequences in batches of 48: the last is of 40, and of 4.
WORDS = ("--epochs", 3, "--batch-size", 48)
FOLDER = "laptop-epochs-3-batch-size-48-seed0"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="torchrun needs libuv, which Windows lacks")


def torchrun(tiny, *words, options=()):
    """Run train.py of the toy on two ranks."""
    return run_python(*TORCHRUN, *options, tiny.home / "train.py", *words, timeout=LONG)


def finished(tiny, folder=FOLDER):
    return load(tiny.home / "checkpoints" / TOY / folder / "weights.pt")


def close(one, other):
    """Whether two finished runs have the same weights and metrics, but for rounding."""
    for name, weight in one["weights"].items():
        torch.testing.assert_close(weight, other["weights"][name], rtol=1e-3, atol=1e-5)
    for row, others in zip(one["history"], other["history"], strict=True):
        for name in row.keys() - {"examples_per_second", "seconds"}:
            assert row[name] == pytest.approx(others[name], rel=1e-3)
    assert one["result"]["metrics"] == pytest.approx(other["result"]["metrics"], rel=1e-3)


@pytest.fixture
def one(tiny):
    """The run of one process."""
    tiny.train.fit(tiny.parse(*WORDS))
    saved = finished(tiny)
    clean(tiny)
    return saved


@pytest.mark.parametrize("first", ["two", "one"])
def test_what_one_saved_two_go_on_with_and_the_other_way_round(tiny, one, first):
    """It is stopped by SIGTERM, as a cluster does, in the middle of an epoch.

    The same global batch; no sequence twice, though neither set can be divided evenly. Of two
    processes one speaks.
    """
    folder = tiny.home / "checkpoints" / TOY / FOLDER
    words = [*map(str, WORDS), "--checkpoint-every", "1e-9"]
    start = [sys.executable, *(TORCHRUN if first == "two" else ())]
    process = subprocess.Popen([*start, str(tiny.home / "train.py"), *words])
    wait_for_the_middle(process, folder)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG) != 0
    epoch = load(folder / "state.pt")["epoch"]
    if first == "two":
        done = tiny("train.py", *WORDS)
        assert done.code == 0, done.err
        out = done.out
    else:
        done = torchrun(tiny, *WORDS)
        assert done.returncode == 0, done.stderr
        out = done.stdout
        assert "on 2 processes" in out and len(re.findall(r"^epoch +3/3", out, re.M)) == 1
        assert "Error" not in done.stderr and "%|" not in done.stderr
    assert epoch == 0 or f"{epoch} of them done before" in out
    close(finished(tiny), one)


def wait_for_the_middle(process, folder):
    """Until a checkpoint is of the middle of an epoch; asleep, since the ranks need the cores."""
    while not (folder / "state.pt").exists() or not saved_in_the_middle(folder):
        assert process.poll() is None
        time.sleep(0.01)


def saved_in_the_middle(folder):
    middle = load(folder / "state.pt")["middle"]
    return middle is not None and middle["order"]["place"] > 3


@pytest.mark.skipif(sys.platform != "linux", reason="finds the process in /proc")
def test_a_process_that_is_killed_comes_back(tiny, one):
    """With --max-restarts, torchrun starts both again, which go on from the last checkpoint.

    So all epochs are those of two processes, and come to what one does.
    """
    folder = tiny.home / "checkpoints" / TOY / FOLDER
    words = [*map(str, WORDS), "--checkpoint-every", "1e-9"]
    process = subprocess.Popen(
        [sys.executable, *TORCHRUN, "--max-restarts=3", str(tiny.home / "train.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_the_middle(process, folder)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, err
    assert out.count("parameters, on 2 processes") == 2
    two = finished(tiny)
    close(two, one)
    assert two["provenance"]["ranks"] == 2


def test_what_was_dealt_in_turn_is_in_order_again(tiny, monkeypatch):
    """The images of predictions.csv, which two processes have looked at."""
    monkeypatch.setattr(tiny.ranks, "WORLD", 2)
    batches, dealt = BatchSampler(SequentialSampler(range(10)), 2, drop_last=False), []
    for rank in range(2):
        monkeypatch.setattr(tiny.ranks, "RANK", rank)
        dealt.append([*tiny.order.Order(batches)])
    assert dealt == [[[0, 1], [4, 5], [8, 9]], [[2, 3], [6, 7]]]

    def gather(every, mine):
        every[:] = dealt

    monkeypatch.setattr(tiny.ranks.dist, "all_gather_object", gather)
    assert sum(tiny.ranks.gather(dealt[0]), []) == [*range(10)]


def test_a_batch_that_cannot_be_divided_is_refused(tiny, monkeypatch):
    """Before anything is written."""
    monkeypatch.setattr(tiny.ranks, "WORLD", 2)
    with pytest.raises(tiny.errors.Refusal, match="--batch-size 5 .* evenly between 2 processes"):
        tiny.run.Run(TOY, tiny.parse("--batch-size", 5))
    assert not list((tiny.home / "checkpoints").glob("*/*"))


def test_comparisons_are_for_one_process(every_branch, monkeypatch):
    branch = every_branch["LSTM"]
    monkeypatch.setattr(branch.ranks, "WORLD", 2)
    with pytest.raises(branch.errors.Refusal, match="without torchrun"):
        branch.compare.experiment("", {}, [])


@pytest.mark.parametrize("count", [100, 97])
@pytest.mark.parametrize("of_batch", [True, False])
def test_each_place_falls_to_one_rank(tiny, monkeypatch, count, of_batch):
    """Of each batch its part, in training; whole batches, in evaluation."""
    monkeypatch.setattr(tiny.ranks, "WORLD", 3)
    kind, share = (RandomSampler, "part") if of_batch else (SequentialSampler, "turn")
    torch.manual_seed(0)
    before, shares = torch.get_rng_state(), []
    whole = list(BatchSampler(kind(range(count)), 12, drop_last=False))
    for rank in range(3):
        monkeypatch.setattr(tiny.ranks, "RANK", rank)
        torch.set_rng_state(before)
        order = tiny.order.Order(BatchSampler(kind(range(count)), 12, drop_last=False), share)
        order.begin((0, 1))
        shares.append(list(order))
    if of_batch:  # the last batch of 97 is of one place, which is not one for each
        assert len({len(share) for share in shares}) == 1
        for batch, *parts in zip(whole, *shares):
            assert sorted(place for part in parts for place in part) == sorted(batch)
        assert len(shares[0]) == len(whole) - (count == 97)
    else:
        assert sorted(batch for share in shares for batch in share) == sorted(whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_branch_trains_on_two_processes(every_branch, name):
    """And comes to what one does, where there are neither dropout nor batch statistics."""
    branch = every_branch[name]
    fields = {field.name for field in branch.settings.flags(branch.train.Recipe)}
    words = ["--epochs", 1, "--limit", 120, "--batch-size", 20]
    words += ["--dropout", 0] if "dropout" in fields else []
    words += ["--no-distort"] if "distort" in fields else []
    done = run_python(*TORCHRUN, branch.home / "train.py", *words, timeout=5 * LONG)
    assert done.returncode == 0, done.stderr
    (two,) = branch.runs().values()
    clean(branch)
    branch.train.fit(branch.parse(*words))
    (one,) = branch.runs().values()
    clean(branch)
    if name in ("LeNet", "ReLU", "LSTM"):  # the others draw images or mean over tokens
        close(two, one)


@pytest.mark.parametrize("batch_size, kind", [(60, "SyncBatchNorm"), (64, "BatchNorm1d")])
def test_few_examples_a_rank_share_their_statistics_on_gpus(tiny, monkeypatch, batch_size, kind):
    """What is asked of PyTorch there, as far as it can be seen without a GPU."""
    ranks, asked = tiny.ranks, {}

    def init(self, module, **kwargs):
        torch.nn.Module.__init__(self)
        self.module = module
        asked.update(kwargs)

    monkeypatch.setattr(ranks, "WORLD", 4)
    monkeypatch.setattr(ranks.DistributedDataParallel, "__init__", init)
    monkeypatch.setattr(ranks.DistributedDataParallel, "register_comm_hook", lambda *_: None)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    names = model.state_dict().keys()
    spread = ranks.Spread(model, torch.device("cuda", 1), batch_size)
    assert type(spread.module[1]).__name__ == kind and spread.state_dict().keys() == names
    assert asked["device_ids"] == [torch.device("cuda", 1)]
