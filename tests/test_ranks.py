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
from PIL import Image
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


def test_what_two_saved_one_goes_on_with(tiny, one):
    """They are stopped by SIGTERM, as a cluster does, in the middle of an epoch.

    The same global batch; no sequence twice, though neither set can be divided evenly.
    """
    epoch = stopped_in_the_middle(tiny, *TORCHRUN)
    done = tiny("train.py", *WORDS)
    assert done.code == 0, done.err
    assert epoch == 0 or f"{epoch} of them done before" in done.out
    close(finished(tiny), one)


def test_what_one_saved_two_go_on_with_though_one_of_them_is_killed(tiny, one):
    """With --max-restarts, torchrun starts both again, which go on from the last checkpoint.

    So all epochs come to what one process does. Of two processes one speaks.
    """
    epoch = stopped_in_the_middle(tiny)
    process = started(tiny, *TORCHRUN, "--max-restarts=3")
    if sys.platform == "linux":  # where /proc tells which process is a child
        before = (tiny.home / "checkpoints" / TOY / FOLDER / "state.pt").stat().st_mtime_ns
        wait_for_the_middle(process, tiny, before)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, err
    starts = 2 if sys.platform == "linux" else 1
    assert out.count("parameters, on 2 processes") == starts
    assert len(re.findall(r"^epoch +3/3", out, re.M)) == 1
    assert "Error" not in err and "%|" not in err
    assert epoch == 0 or f"{epoch} of them done before" in out
    two = finished(tiny)
    close(two, one)
    assert two["provenance"]["ranks"] == 2


def started(tiny, *options):
    """A training that saves at every step."""
    return subprocess.Popen(
        [
            sys.executable,
            *options,
            tiny.home / "train.py",
            *map(str, WORDS),
            "--checkpoint-every",
            "1e-9",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stopped_in_the_middle(tiny, *options):
    """Start a training, stop it in the middle of an epoch, and say how many it had finished."""
    process = started(tiny, *options)
    wait_for_the_middle(process, tiny)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LONG)
    assert process.returncode != 0
    return load(tiny.home / "checkpoints" / TOY / FOLDER / "state.pt")["epoch"]


def wait_for_the_middle(process, tiny, before=0):
    """Until a checkpoint, newer than another, is of the middle of an epoch.

    Asleep meanwhile, since the processes need the cores.
    """
    path = tiny.home / "checkpoints" / TOY / FOLDER / "state.pt"
    while True:
        assert process.poll() is None
        if path.exists() and path.stat().st_mtime_ns > before:
            middle = load(path)["middle"]
            if middle is not None and middle["order"]["place"] > 3:
                return
        time.sleep(0.01)


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


@pytest.mark.parametrize("rank", [0, 1])
def test_what_all_processes_find_is_said_by_the_first(tiny, monkeypatch, capsys, rank):
    def refuse():
        raise tiny.errors.RefusalOfAll("for one process")

    monkeypatch.setattr(tiny.ranks, "RANK", rank)
    with pytest.raises(SystemExit) as stopped:
        tiny.errors.program(refuse)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("for one process\n") == (rank == 0)


@pytest.mark.slow
def test_what_all_processes_find_is_one_line(tiny):
    done = torchrun(tiny, "--batch-size", 5)
    assert done.returncode and done.stderr.count("evenly between 2 processes") == 1


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


@pytest.mark.parametrize("count", [9, 10])
def test_each_image_of_a_folder_falls_to_one_rank(harness, tmp_path, monkeypatch, count):
    """In training and in evaluation; what is predicted of them is in the order of their files.

    A schedule counts on as many batches for any number of ranks. One of many images is broken.
    Each is of a gray that is its class, and its prediction, as well.
    """
    files = [(str(tmp_path / f"{n}.png"), n) for n in range(count)]
    for path, n in files:
        Image.new("L", (8, 8), n).save(path)
    Path(files[2][0]).write_bytes(b"")

    def loader(shuffle):
        torch.manual_seed(5)  # the random state that all ranks have
        images, share = harness.folder.Images(files, 8), "part" if shuffle else "turn"
        how = (4, torch.Tensor.float, shuffle, "cpu", 0, 1, share)
        made = harness.loader.FolderLoader(images, *how)
        made.sampler.begin((0, 1) if shuffle else None)
        return made

    class Gray(torch.nn.Module):
        def forward(self, images):
            return torch.nn.functional.one_hot(images[:, 0, 0, 0].long(), count).float()

    gathered, readable = {0: [], 1: []}, [n for n in range(count) if n != 2]

    def gather(every, mine):  # rank 1 comes first, and rank 0 sees what it had
        gathered[harness.ranks.RANK].append(mine)
        every[:] = [mine, gathered[1][len(gathered[0]) - 1]]

    steps = len(loader(True))
    monkeypatch.setattr(harness.ranks, "WORLD", 2)
    monkeypatch.setattr(harness.ranks.dist, "all_gather_object", gather)
    monkeypatch.setattr(harness.ranks, "total", lambda *numbers: [*map(float, numbers)])
    trained = []
    for rank in (1, 0):
        monkeypatch.setattr(harness.ranks, "RANK", rank)
        trained += [n for _, labels in loader(True) for n in labels.tolist()]
        assert len(loader(True)) == steps
        made = loader(False)
        _, predicted, true = harness.classification.predict(Gray(), made)
        paths = made.dataset.readable
    assert sorted(trained) == readable
    assert predicted[:, 0].tolist() == true.tolist() == readable
    assert paths == [files[n][0] for n in readable]


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
