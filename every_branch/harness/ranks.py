"""Several processes that train one model together, its ranks, as torchrun starts them.

    torchrun --standalone --nproc-per-node=2 train.py

Each rank computes its part of every batch, gradients are averaged, and rank 0 alone prints and
writes. Started by itself, a program is the only rank there is.
"""

import contextlib
import copy
import inspect
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
LOCAL = int(os.environ.get("LOCAL_RANK", 0))  # on this machine: the number of its GPU
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
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as quiet:
        if RANK:
            quiet.enter_context(contextlib.redirect_stdout(nowhere))
        yield
    dist.destroy_process_group()  # not after an error: the others may be waiting


def lost(error):
    """Whether an exception says that another rank has gone."""
    return WORLD > 1 and isinstance(error, RuntimeError) and "onnection closed" in str(error)


def total(*numbers):
    """The sums over all ranks of some numbers, as a list of floats."""
    if WORLD == 1:
        return list(map(float, numbers))
    sums = torch.tensor([float(number) for number in numbers], dtype=torch.double)
    dist.all_reduce(sums)
    return sums.tolist()


def gather(parts):
    """A list of all ranks' lists, one behind the other, rank 0's first."""
    if WORLD == 1:
        return parts
    every = [None] * WORLD
    dist.all_gather_object(every, parts)
    return [part for rank in every for part in rank]


def averaged(model, bucket):
    """The gradient of the mean loss over the whole batch: each rank's, by its share of it."""
    gradients = bucket.buffer().mul_(model.share)
    return dist.all_reduce(gradients, async_op=True).get_future().then(lambda sums: sums.value()[0])


class Spread(DistributedDataParallel):
    """A model on every rank, that trains on all of them; for the rest it is the model itself.

    share: of the examples of the batch that is out, those of this rank. Each rank has its own
    batch statistics, as the published networks on several GPUs had; only where a rank has FEW
    examples, and on GPUs alone, are they those of all ranks (SyncBatchNorm).
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


def share_statistics(model):
    """Make the running statistics of batch normalization the mean over all ranks."""
    for name, buffer in model.named_buffers() if WORLD > 1 else ():
        if "running" in name:
            dist.all_reduce(buffer)
            buffer /= WORLD
