"""A network that predicts a symbol from the last two, for the tests of the plumbing."""

import torch
from torch import nn


class Toy(nn.Module):
    """An embedding of two symbols, a hidden layer, scores [B, length, symbols] of the next.

    units: of the hidden layer. gate: whether a sigmoid of them is multiplied with them.
    """

    def __init__(self, symbols=8, units=64, gate=False):
        super().__init__()
        if type(gate) is not bool:
            raise ValueError(f"gate is {gate!r}, must be one of [True, False]")
        for name, value in (("symbols", symbols), ("units", units)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}, must be a whole number above 0")
        self.gate = gate
        self.embedding = nn.Embedding(symbols, 16)
        self.hidden = nn.Linear(32, units)
        self.output = nn.Linear(units, symbols)

    def forward(self, x):  # [B, length]
        x = self.embedding(x)  # [B, length, 16]
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
        x = torch.relu(self.hidden(torch.cat([before, x], 2)))  # [B, length, 64]
        x = x * x.sigmoid() if self.gate else x
        return self.output(x)  # [B, length, 8]


PAPER = {"hidden": {"output": (12, 64), "parameters": 2112}, "total": {"parameters": 2760}}

if __name__ == "__main__":
    from harness.table import layer_table

    raise SystemExit(not layer_table(Toy(), torch.zeros(1, 12, dtype=torch.long), PAPER))
