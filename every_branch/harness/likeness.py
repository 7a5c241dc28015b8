"""Nested values, such as a file's, held against others that are known to be right."""

import math

import torch


class Unfit(Exception):
    """A file's contents are not what they should be; its message goes after the file's name."""


def need(holds, words):
    if not holds:
        raise Unfit(f"does not fit this run: {words}")


def said(value):
    """A type in words, a tensor's with its shape."""
    if isinstance(value, torch.Tensor):
        return f"a tensor {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__}"


def is_number(value):
    return type(value) in (int, float) and math.isfinite(value)


def is_whole(value, low, high=math.inf):
    return type(value) is int and low <= value <= high


def differ(one, other):
    """Whether two values are not equal; what cannot be compared is not."""
    try:
        return bool(one != other)
    except Exception:  # tensors, for one
        return True


def not_finite(value):
    """The place of a tensor in nested dicts that is not all finite; None if there is none."""
    for name, inside in value.items() if isinstance(value, dict) else ():
        if isinstance(inside, torch.Tensor) and not inside.isfinite().all():
            return name
        if within := not_finite(inside):
            return f"{name}.{within}"
    return None


def need_keys(found, keys, where, others=False):
    """Unfit unless it is a dict of these keys; others: it may have more."""
    need(isinstance(found, dict), f"{where} is {said(found)}")
    missing = [str(key) for key in keys if key not in found]
    need(not missing, f"{where} lacks {', '.join(missing)}")
    need(others or len(found) == len(keys), f"{where} holds more than it should")


def need_tensor(found, shape, dtype, where):
    """Unfit unless it is a tensor of this shape and type, all finite, that can be written to."""
    alike = isinstance(found, torch.Tensor) and (found.shape, found.dtype) == (shape, dtype)
    alike = alike and (found.layout, found.device.type) == (torch.strided, "cpu")
    need(alike, f"{where} is {said(found)}, not a tensor {list(shape)} of {dtype}")
    # A view may say that a few numbers are many; what writes to it would write elsewhere.
    room = found.untyped_storage().nbytes() - found.storage_offset() * found.element_size()
    need(room >= found.nbytes, f"{where} is smaller than it says")
    need(found.isfinite().all(), f"{where} is not finite")


def need_like(found, wanted, where):
    """Unfit unless two nested values agree in keys, types and shapes, and the first is finite."""
    if isinstance(wanted, torch.Tensor):
        need_tensor(found, wanted.shape, wanted.dtype, where)
    elif isinstance(wanted, dict):
        need_keys(found, wanted, where)
        for key, value in wanted.items():
            need_like(found[key], value, f"{where}.{key}")
    elif isinstance(wanted, (list, tuple)):
        need(type(found) is type(wanted), f"{where} is {said(found)}, not {said(wanted)}")
        need(len(found) == len(wanted), f"{where} has {len(found)} entries, not {len(wanted)}")
        for place, value in enumerate(wanted):
            need_like(found[place], value, f"{where}.{place}")
    elif type(wanted) in (int, float):
        # What is infinite until it is first set, as the best of a plateau, may be so still.
        known = is_number(found) or type(found) is float and found == wanted
        need(known, f"{where} is no number")
    else:
        need(type(found) is type(wanted), f"{where} is {said(found)}, not {said(wanted)}")
