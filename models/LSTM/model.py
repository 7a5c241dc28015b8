"""Long Short-Term Memory (LSTM).

S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997,
https://doi.org/10.1162/neco.1997.9.8.1735. Its new idea: a memory cell whose state is carried from
step to step with weight 1 and only added to, so that gradients flow back through it unchanged, over
any number of steps; gates learn when to let something in, and when to let it out.

Four recurrent layers with one interface: TanhRNN, the earlier kind; LSTM, of 1997; ForgetLSTM, of
2000; ModernLSTM, which is what "LSTM" has come to mean. Two networks around any of them:
LastOutput, the paper's, answers at the end of a sequence; LanguageModel predicts the next character
at each place.

paper                              here                          why
LSTM, on tasks of its own          ModernLSTM, on text           what it has been used for since
squashed outputs in [0, 1]         scores of characters          to compare language models in bits
"""

import torch
import torch.nn.functional as F
from torch import nn

BIASES = ("none", "gates", "hidden", "all")
# The paper's networks (its Tables 1 to 10): what each has, and how many weights it is said to have.
PAPER = {
    "1 embedded Reber grammar, 4 blocks of 1": ((7, 7, 4, 1, "gates"), 264),
    "1 embedded Reber grammar, 3 blocks of 2": ((7, 7, 3, 2, "gates"), 276),
    "2c long time lags, p = 50": ((54, 2, 2, 1, "none"), 364),
    "2c long time lags, p = 1000": ((1004, 2, 2, 1, "none"), 6064),
    "3a two-sequence problem": ((1, 1, 3, 1, "hidden"), 102),
    "4, 5 adding, multiplication": ((2, 1, 2, 2, "all"), 93),
    "6a temporal order, two symbols": ((8, 4, 2, 2, "all"), 156),
    "6b temporal order, three symbols": ((8, 8, 3, 2, "all"), 308),
}


def check_choice(choices, **arguments):
    """Raise a ValueError for an argument that is none of the choices; 1 is not True."""
    for name, value in arguments.items():
        if (type(value), value) not in [(type(choice), choice) for choice in choices]:
            raise ValueError(f"{name} is {value!r}, must be one of {[*choices]}")


def check_number(kind, least, below=float("inf"), **arguments):
    """Raise a ValueError for an argument that is no number of this kind in [least, below)."""
    for name, value in arguments.items():
        if type(value) not in (int, kind) or not least <= value < below:
            raise ValueError(f"{name} is {value!r}, must be {kind.__name__} in [{least}, {below})")


def g(x):
    """What squashes the input of a cell: the logistic function, scaled to [-2, 2]."""
    return 4 * torch.sigmoid(x) - 2


def h(x):
    """What squashes the state of a cell: the logistic function, scaled to [-1, 1]."""
    return 2 * torch.sigmoid(x) - 1


def by_block(blocks):
    """[blocks]: 1, 2, 3, 4, and again from 1; the networks of 1997 and 2000 have four at most."""
    return torch.arange(blocks) % 4 + 1


class Recurrent(nn.Module):
    """A layer that reads a sequence step by step; what a step is, each kind of layer says.

    Its units, gates first and cells last, sum up all inputs and the `recurrent` values that the
    step before handed on. biases: which units have one, of BIASES.
    """

    def __init__(self, inputs, gates, cells, recurrent, biases):
        super().__init__()
        check_choice(BIASES, biases=biases)
        self.cells, self.recurrent, units = cells, recurrent, gates + cells
        biased = {"none": 0, "gates": gates, "hidden": units, "all": units}
        self.weight_ih = nn.Parameter(torch.empty(units, inputs))
        self.weight_hh = nn.Parameter(torch.empty(units, recurrent))
        self.bias = nn.Parameter(torch.empty(biased[biases]))

    def initialize(self, scale):
        """Draw every weight and bias from -scale to scale."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -scale, scale)

    def forward(self, x, state=None):
        """x: [B, T, inputs] to what the cells put out, [B, T, cells], and the state in the end."""
        bias = F.pad(self.bias, [0, len(self.weight_ih) - len(self.bias)])
        sums = F.linear(x.transpose(0, 1), self.weight_ih, bias)  # of all steps: [T, B, units]
        if state is None:  # what is handed on, and the states of the cells: all 0
            state = x.new_zeros(len(x), self.recurrent), x.new_zeros(len(x), self.cells)
        outputs = []
        for net in sums.unbind(0):
            state = self.step(net, *state)
            outputs.append(state[0][:, -self.cells :])
        return torch.stack(outputs, 1), state


class TanhRNN(Recurrent):
    """The earlier recurrent network: y(t) = tanh(W x(t) + R y(t-1) + b)."""

    def __init__(self, inputs, blocks, size=1, biases="all"):
        super().__init__(inputs, 0, blocks * size, blocks * size, biases)

    def step(self, net, y, _):
        y = torch.tanh(net + F.linear(y, self.weight_hh))
        return y, y


class LSTM(Recurrent):
    """The layer of 1997: blocks of `size` memory cells, which share an input and an output gate.

    Gates and cells see the inputs, and what all cells and all gates put out a step before. There is
    no forget gate: a state keeps what it has. The gradient is truncated (section 4): it flows back
    in time along the states of the cells, and nowhere else.
    """

    def __init__(self, inputs, blocks, size=1, biases="all"):
        gates, cells = 2 * blocks, blocks * size
        super().__init__(inputs, gates, cells, gates + cells, biases)
        self.blocks, self.size = blocks, size

    def close(self, bias):
        """Add a bias to the first block's input gate, twice that to the second's, ...: by_block."""
        with torch.no_grad():
            self.bias[: self.blocks] += (bias * by_block(self.blocks))[: len(self.bias)]

    def step(self, net, y, s):
        net = net + F.linear(y.detach(), self.weight_hh)  # detach: the gradient is truncated here
        gates = torch.sigmoid(net[:, : 2 * self.blocks])
        y_in, y_out = gates.repeat_interleave(self.size, 1).chunk(2, 1)  # one for each cell
        s = s + y_in * g(net[:, -self.cells :])  # the constant error carousel
        return torch.cat([gates, y_out * h(s)], 1), s


class ForgetLSTM(Recurrent):
    """The layer of 2000, with a third gate in each block, which lets its cells forget.

    F. A. Gers, J. Schmidhuber, F. Cummins, "Learning to Forget: Continual Prediction with LSTM",
    Neural Computation 12(10), 2000. Gates do not see gates. The gradient is truncated.
    """

    def __init__(self, inputs, blocks, size=1, biases="all"):
        super().__init__(inputs, 3 * blocks, blocks * size, blocks * size, biases)
        self.blocks, self.size = blocks, size

    def initialize(self, scale):
        """Input and output gates begin half closed, forget gates begin open, in steps of 0.5."""
        super().initialize(scale)
        signs = torch.tensor([-0.5, 0.5, -0.5]).repeat_interleave(self.blocks)
        with torch.no_grad():
            steps = signs * by_block(self.blocks).repeat(3)
            self.bias[: 3 * self.blocks] += steps[: len(self.bias)]

    def step(self, net, y, s):
        net = net + F.linear(y.detach(), self.weight_hh)
        gates = torch.sigmoid(net[:, : 3 * self.blocks]).repeat_interleave(self.size, 1)
        y_in, y_forget, y_out = gates.chunk(3, 1)
        s = y_forget * s + y_in * g(net[:, -self.cells :])
        return y_out * h(s), s


class ModernLSTM(Recurrent):
    """The layer of today, that of nn.LSTM: three gates for every cell, and the whole gradient.

    nn.LSTM has two biases a unit, of which only the sum counts.
    """

    def __init__(self, inputs, blocks, size=1, biases="all"):
        super().__init__(inputs, 3 * blocks * size, blocks * size, blocks * size, biases)

    def initialize(self, scale):
        """Forget gates begin open, with a bias of 1, which nn.LSTM leaves to its users."""
        super().initialize(scale)
        with torch.no_grad():
            self.bias[self.cells : 2 * self.cells] = 1

    def step(self, net, y, c):
        net = net + F.linear(y, self.weight_hh)
        i, f, o = torch.sigmoid(net[:, : 3 * self.cells]).chunk(3, 1)
        c = f * c + i * torch.tanh(net[:, -self.cells :])
        return o * torch.tanh(c), c


CELLS = {"tanh": TanhRNN, "1997": LSTM, "2000": ForgetLSTM, "today": ModernLSTM}


class LastOutput(nn.Module):
    """The paper's network: a layer of memory cells, and logistic units that see them in the end.

    inputs: values a step. outputs: units. cell: of CELLS. input_gate: see LSTM.close.
    """

    def __init__(
        self, inputs, outputs, cell="1997", blocks=2, size=2, biases="all", input_gate=0.0
    ):
        super().__init__()
        check_number(int, 1, inputs=inputs, outputs=outputs, blocks=blocks, size=size)
        check_choice(CELLS, cell=cell)
        self.memory = CELLS[cell](inputs, blocks, size, biases)
        self.output = nn.Linear(blocks * size, outputs, bias=biases == "all")
        self.initialize(input_gate)

    def initialize(self, input_gate, scale=0.1):
        self.memory.initialize(scale)
        for parameter in self.output.parameters():
            nn.init.uniform_(parameter, -scale, scale)
        if input_gate and isinstance(self.memory, LSTM):
            self.memory.close(input_gate)

    def forward(self, x, state=None):
        """x: [B, T, inputs] to [B, outputs], and the state in the end."""
        y, state = self.memory(x, state)  # [B, T, cells]
        return torch.sigmoid(self.output(y[:, -1])), state


class LanguageModel(nn.Module):
    """Scores of the next character at each place of a text.

    characters: how many different ones there are. cell, blocks, size: as above. dropout: the share
    of what the cells put out that is left out on the way to the scores.
    """

    def __init__(self, characters=80, cell="today", blocks=512, size=1, dropout=0.0):
        super().__init__()
        check_number(int, 1, characters=characters, blocks=blocks, size=size)
        check_number(float, 0, 1, dropout=dropout)
        check_choice(CELLS, cell=cell)
        self.characters, self.dropout, cells = characters, dropout, blocks * size
        self.memory = CELLS[cell](characters, blocks, size)
        self.output = nn.Linear(cells, characters)
        self.initialize(cells**-0.5)

    def initialize(self, scale):
        """As PyTorch does by default, but for what sees the text: of that only one input is not 0.

        Its weights are an embedding of each character, and drawn like one.
        """
        self.memory.initialize(scale)
        nn.init.normal_(self.memory.weight_ih)
        for parameter in self.output.parameters():
            nn.init.uniform_(parameter, -scale, scale)

    def forward(self, text, state=None):
        """text: numbers [B, T] to scores [B, T, characters], and the state in the end."""
        x = F.one_hot(text, self.characters).to(self.output.weight.dtype)  # [B, T, characters]
        y, state = self.memory(x, state)  # [B, T, cells]
        return self.output(F.dropout(y, self.dropout, self.training)), state


def meets_the_paper():
    """Print the number of weights of each of the paper's networks; whether all are as it says."""
    right = True
    for task, ((inputs, outputs, blocks, size, biases), weights) in PAPER.items():
        network = LastOutput(inputs, outputs, "1997", blocks, size, biases)
        ours = sum(parameter.numel() for parameter in network.parameters())
        print(f"{task:<42}{ours:>7,} weights; paper: {weights:,}")
        right = right and ours == weights
    print("Every number of weights is the paper's." if right else "They differ from the paper's.")
    return right


if __name__ == "__main__":
    from harness.table import layer_table

    met = meets_the_paper()
    raise SystemExit(not (layer_table(LanguageModel(), torch.zeros(1, 1).long(), {}) and met))
