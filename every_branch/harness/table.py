"""The table of a network's layers, beside the figures of its paper."""

import torch
from torch.utils.flop_counter import FlopCounterMode


def flops(model, example):
    """{module: {operation: floating-point operations}} of one example, as PyTorch counts them."""
    training, device = model.training, next(model.parameters()).device
    inputs = example if isinstance(example, tuple) else (example,)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(*(part.to(device) for part in inputs))
    model.train(training)
    return counter.get_flop_counts()


def count(model, example):
    """{"parameters": ..., "macs": ...} of a model; an example is its input with a batch of one,
    or a tuple of its inputs.

    MACs are the multiply-accumulates of convolutions and matrix products in its stages, the direct
    children, as in the table: half of PyTorch's count.
    """
    counted, top = flops(model, example), type(model).__name__
    stages = [counted.get(f"{top}.{stage}", {}) for stage, _ in model.named_children()]
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs": sum(sum(stage.values()) for stage in stages) // 2,
    }


def layer_table(model, shape, paper, **columns):
    """Print what each stage of a network does beside the paper's figures; False if they differ.

    model: its direct children are the stages. shape: of one example, as [C, H, W] of an image; or
    the example itself, as in count().
    paper: {stage: {"output": (C, H, W), "parameters": ..., "MACs": ...}}, as far as the paper says.
        What is text there, such as "159K", is quoted, and not compared.
    columns: further things counted, name={stage: number}, that the paper has figures for.
    """
    outputs = {}
    for stage, module in model.named_children():
        module.register_forward_hook(
            lambda module, inputs, output, stage=stage: outputs.update(
                {stage: output[0] if isinstance(output, tuple) else output}
            )
        )
    is_shape = all(isinstance(side, int) for side in shape)
    example = torch.zeros(1, *shape) if is_shape else shape
    counted = flops(model, example)

    def size(module, path):
        return {
            "parameters": sum(p.numel() for p in module.parameters()),
            "MACs": sum(counted.get(path, {}).values()) // 2,
        }

    top = type(model).__name__
    table = {
        stage: {"output": tuple(output.shape[1:])}
        | size(getattr(model, stage), f"{top}.{stage}")
        | {name: column.get(stage) for name, column in columns.items()}
        for stage, output in outputs.items()
    }
    sums = {name: sum(column.values()) for name, column in columns.items()}
    sums |= {"MACs": sum(row["MACs"] for row in table.values())}
    table["total"] = {"output": ""} | size(model, top) | sums

    names = ["output", "parameters", "MACs", *columns]
    known = [name for name in names if any(name in row for row in paper.values())]
    lines = [["stage", *names, *(f"paper: {name}" for name in known)]]
    for stage, row in table.items():
        theirs = (paper.get(stage, {}).get(name) for name in known)
        lines.append([stage, *map(show, row.values()), *map(show, theirs)])
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)).rstrip())

    differing = [
        f"{stage}: {name} is {show(table[stage][name])} here, {show(value)} in the paper"
        for stage, row in paper.items()
        for name, value in row.items()
        if not isinstance(value, str) and table[stage][name] != value
    ]
    quoted = any(isinstance(value, str) for row in paper.values() for value in row.values())
    met = "Every figure on the right is met" + quoted * "; those in quotes are not compared"
    if paper:
        print("\n".join(differing) or f"{met}.")
    return not differing


def show(value):
    """A cell of the table: 1,516 or 6x28x28, or nothing."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if isinstance(value, str):
        return f'"{value}"' if value else ""
    return "" if value is None else f"{value:,}"
