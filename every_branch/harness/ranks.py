"""Several processes that train one model together, its ranks, as torchrun starts them.

    torchrun --standalone --nproc-per-node=2 train.py

Each rank computes its part of every batch, gradients are averaged, and rank 0 alone prints and
writes. Started by itself, a program is the only rank there is.
"""

import contextlib
import copy
import inspect
import os
from itertools import zip_longest

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
LOCAL = int(os.environ.get("LOCAL_RANK", 0))  # on this machine: the number of its GPU
BESIDE = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # ranks on this machine
# No statistics are sent at every step; PyTorch has two names for that, and warns of the old one.
NAMES = inspect.signature(DistributedDataParallel.__init__).parameters
SYNC = "forward_sync_buffers" if "forward_sync_buffers" in NAMES else "broadcast_buffers"
FEW = 16  # examples a rank, below which a batch normalization needs those of all ranks


@contextlib.contextmanager
def joined():
    """Meanwhile, this process is one of the ranks: by NCCL on GPUs, by gloo on CPUs."""
    if WORLD == 1:
        yield
        return
    on_gpus = torch.cuda.is_available() and dist.is_nccl_available()
    store, rank, world = next(iter(rendezvous("env://")))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        # After a restart, PyTorch may find addresses of processes that have died in the store.
        store = dist.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    with open(os.devnull, "w", errors="replace") as nowhere, contextlib.ExitStack() as quiet:
        if RANK:
            quiet.enter_context(contextlib.redirect_stdout(nowhere))
        yield
    dist.destroy_process_group()  # not after an error: the others may be waiting


def lost(error):
    """Whether an exception says that another rank has gone."""
    words = "onnection closed", "onnection reset", "roken pipe"
    return WORLD > 1 and (
        isinstance(error, dist.DistBackendError) or any(word in str(error) for word in words)
    )


def total(*numbers):
    """The sums over all ranks of some numbers, as a list of floats."""
    if WORLD == 1:
        return list(map(float, numbers))
    sums = torch.tensor([float(number) for number in numbers], dtype=torch.double)
    dist.all_reduce(sums)
    return sums.tolist()


def gather(parts):
    """What an Order dealt to the ranks in turn, as one list again, in order, each None left out."""
    every = [parts]
    if WORLD > 1:
        every = [None] * WORLD
        dist.all_gather_object(every, parts)
    return [part for turn in zip_longest(*every) for part in turn if part is not None]


@contextlib.contextmanager
def first_goes_ahead():
    """On each machine the first rank does what is inside, and the others after it."""
    if LOCAL:
        dist.barrier()
    yield
    if WORLD > 1 and not LOCAL:
        dist.barrier()


def averaged(model, bucket):
    """The gradient of the mean loss over the whole batch: each rank's, by its share of it."""
    gradients = bucket.buffer().mul_(model.share)
    return dist.all_reduce(gradients, async_op=True).get_future().then(lambda sums: sums.value()[0])


class Spread(DistributedDataParallel):
    """DistributedDataParallel that is otherwise like the model that it wraps.

    share: the fraction of the current batch that this rank has. Each rank has its own batch
    statistics, as the published networks on several GPUs had. On GPUs, where a rank has fewer than
    FEW examples, PyTorch's layers take those of all ranks (SyncBatchNorm).
    """

    def __init__(self, model, device, batch_size):
        on_gpu = device.type == "cuda"
        if on_gpu and batch_size // WORLD < FEW:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        super().__init__(model, device_ids=[device] if on_gpu else None, **{SYNC: False})
        self.share = 1 / WORLD
        self.register_comm_hook(self, averaged)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)

    def __deepcopy__(self, memo):
        return copy.deepcopy(self.module, memo)

    def state_dict(self, *args, **kwargs):
        return self.module.state_dict(*args, **kwargs)

    def load_state_dict(self, *args, **kwargs):
        return self.module.load_state_dict(*args, **kwargs)


def spread(model, device, batch_size):
    """The model, trained by all ranks; by itself where there is one."""
    return model if WORLD == 1 else Spread(model, device, batch_size)


def alone(model):
    """The model itself, of one that may be spread."""
    return model.module if isinstance(model, Spread) else model


def share_statistics(state):
    """Average the running statistics of batch normalization over the ranks, in all models.

    state: {name: what a checkpoint holds}.
    """
    models = [part for part in state.values() if isinstance(part, nn.Module)] if WORLD > 1 else []
    for name, buffer in (pair for model in models for pair in model.named_buffers()):
        if "running" in name:
            dist.all_reduce(buffer)
            buffer /= WORLD
