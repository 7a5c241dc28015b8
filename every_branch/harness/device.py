"""Where a run computes, and how: the device, the layout of its memory, the precision."""

from contextlib import contextmanager, nullcontext
from itertools import repeat

from harness import precision, ranks
from harness.errors import Refusal, RefusalOfAll

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

MPS_SINCE = (2, 13)  # the PyTorch whose grid_sample() has padding_mode="border" on Apple's GPUs


def choose(name):
    """The torch.device for --device; Refusal if PyTorch sees none of that kind.

    Of several GPUs of a machine, each rank there has its own.
    """
    recent = tuple(map(int, torch.__version__.split(".")[:2])) >= MPS_SINCE
    mps = recent and torch.backends.mps.is_available()
    available = {"cuda": torch.cuda.is_available(), "mps": mps}
    if name == "auto":
        kinds = ("cuda", "mps") if ranks.WORLD == 1 else ("cuda",)
        name = next((kind for kind in kinds if available[kind]), "cpu")
    if name == "mps" and ranks.WORLD > 1:
        raise RefusalOfAll("--device mps is for one process: several use CPUs or CUDA GPUs")
    if name == "mps" and not recent:
        raise Refusal("--device mps needs PyTorch 2.13 or newer; --device cpu always works")
    if not available.get(name, True):
        raise Refusal(f"--device {name}: PyTorch sees none here; --device cpu always works")
    if name != "cuda":
        return torch.device(name)
    if ranks.LOCAL >= torch.cuda.device_count():
        raise Refusal(f"there are {torch.cuda.device_count()} GPUs here: one for each process")
    torch.cuda.set_device(ranks.LOCAL)
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda", ranks.LOCAL)


def too_narrow(layer):
    """Whether PyTorch 2.15 on a CPU writes beyond this layer's memory in channels_last."""
    of_one = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)
    return of_one and layer.stride != (1, 1) and layer.in_channels < 8


def place(model, device, settings):
    """The model on a device, in the memory layout that convolutions are fastest in.

    Its forward() computes as --precision, --micro-batch and --compile say.
    """
    fast = device.type != "cpu" or not any(map(too_narrow, model.modules()))
    layout = torch.channels_last if fast else torch.contiguous_format
    model = model.to(device, memory_format=layout)
    known = precision.settled(settings, None, device)
    if known != "fp32" or settings.micro_batch:
        adapt(model, device.type, settings.micro_batch)
    precision.use(model, known)
    if settings.compile:
        model.compile()
    return ranks.spread(model, device, settings.batch_size)


def adapt(model, kind_of_device, at_once):
    """Make forward() compute in micro-batches, and under bf16 autocast while its class says so.

    The class, with in_bf16 as an attribute, is this model's own and that of its copies. Scores are
    float32, and so is the loss. at_once: the examples of a micro-batch. Its activations are dropped
    after its forward pass and recomputed for the backward pass, so a batch has the gradients that
    it has without, except that each micro-batch has batch statistics of its own. It takes about a
    third more time. In training mode without gradients a batch stays in one piece: whoever asks for
    that is after its statistics.
    """
    kind = type(model)
    for layer in model.modules():  # PyTorch's own batch normalization computes in float32 anyway
        if "running_mean" in layer._buffers and not isinstance(layer, _NormBase):
            layer.register_forward_pre_hook(lambda _, inputs: out_of_bf16(inputs))

    def compute(self, *inputs, **ways):
        if not type(self).in_bf16:
            return kind.forward(self, *inputs, **ways)
        with torch.autocast(kind_of_device, torch.bfloat16):
            return in_float32(kind.forward(self, *inputs, **ways))

    def forward(self, *inputs, **ways):
        if not at_once or (self.training and not torch.is_grad_enabled()):
            return compute(self, *inputs, **ways)
        parts = cut(inputs, at_once)
        if not torch.is_grad_enabled():
            return joined([compute(self, *part, **ways) for part in parts])
        how = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), recomputing(self))}
        return joined([checkpoint(compute, self, *part, **how, **ways) for part in parts])

    model.__class__ = type(kind.__name__, (kind,), {"forward": forward, "in_bf16": False})


@contextmanager
def recomputing(model):
    """Meanwhile, activations are recomputed, which may not count twice in running statistics."""
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before):
                buffer.copy_(value)


def out_of_bf16(inputs):
    """What goes into a layer that computes in float32 itself."""
    return in_float32(inputs) if inputs[0].dtype == torch.bfloat16 else inputs


def in_float32(output):
    if isinstance(output, torch.Tensor):
        return output.float() if output.is_floating_point() else output
    return type(output)(map(in_float32, output)) if isinstance(output, (tuple, list)) else output


def cut(inputs, size):
    """The inputs of a batch, nested or not, for so many examples at a time."""
    if inputs is None:
        return repeat(None)
    if isinstance(inputs, torch.Tensor):
        return inputs.split(size)
    return zip(*(cut(part, size) for part in inputs))


def joined(parts):
    """What a model puts out for several parts of a batch, as for all of it."""
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts)
    return tuple(joined(part) for part in zip(*parts))
