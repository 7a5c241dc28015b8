"""Where a run computes: the device, and how a model is laid out in its memory."""

import torch

from harness.errors import Refusal


def choose(name):
    """The torch.device for --device; Refusal if PyTorch sees none of that kind."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind in ("cuda", "mps") if available[kind]), "cpu")
    if not available.get(name, True):
        raise Refusal(f"--device {name}: PyTorch sees none here; --device cpu always works")
    return torch.device(name)


def place(model, device):
    """The model on a device, in the memory layout that convolutions are fastest in."""
    return model.to(device, memory_format=torch.channels_last)
