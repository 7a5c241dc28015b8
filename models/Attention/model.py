"""RNNsearch: translation with attention.

D. Bahdanau, K. Cho, Y. Bengio, "Neural Machine Translation by Jointly Learning to Align and
Translate", arXiv 1409.0473, 2014. Its new idea: the decoder looks back at every position of the
source sentence, and learns at each step which ones to look at; before, one vector of fixed size
had to hold the whole sentence.

Sections, equations and letters are the paper's: n units, embeddings of dimension m, l maxout units
(called maxout here), n' units in the alignment model (alignment). A token is a word, a piece of one
or a letter.

paper                              here                          why
equations without biases           with (bias=False: without)    the paper does not say
equations for one sentence         batches, padded and masked    speed
"""

import torch
from torch import nn

PAD = 0  # the number of the token that fills up a batch


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


class GRU(nn.Module):
    """The gated recurrent unit, a step at a time, in the paper's form (A.1.1).

    z is how much of the new state is taken; in nn.GRU, how much of the old one is kept. r is
    multiplied with the old state before U; in nn.GRU, after.
    """

    def __init__(self, inputs, n, bias=True):
        super().__init__()
        self.W = nn.Linear(inputs, 3 * n, bias)  # W_z, W_r, W, below one another
        self.U_gates = nn.Linear(n, 2 * n, bias=False)  # U_z, U_r
        self.U = nn.Linear(n, n, bias=False)

    def forward(self, sums, h):
        """sums: W(inputs), [B, 3n]; h: the state before, [B, n]. The state after."""
        of_gates, of_state = sums.split([2 * h.shape[1], h.shape[1]], 1)
        z, r = torch.sigmoid(of_gates + self.U_gates(h)).chunk(2, 1)
        proposed = torch.tanh(of_state + self.U(r * h))
        return (1 - z) * h + z * proposed


class Encoder(nn.Module):
    """A bidirectional recurrent network: an annotation of each token, from both its sides (3.2)."""

    def __init__(self, tokens, n, m, bias=True):
        super().__init__()
        self.n = n
        self.embedding = nn.Embedding(tokens, m)
        self.forwards, self.backwards = GRU(m, n, bias), GRU(m, n, bias)

    def read(self, gru, x, known):
        """The states [B, S, n] of one direction. At padding, a state stays as it is."""
        h, states = x.new_zeros(len(x), self.n), []
        for sums, here in zip(gru.W(x).unbind(1), known.unbind(1)):
            h = torch.where(here[:, None], gru(sums, h), h)
            states.append(h)
        return torch.stack(states, 1)

    def forward(self, source):
        """source: tokens [B, S] to annotations [B, S, 2n]."""
        x, known = self.embedding(source), source != PAD
        right = self.read(self.forwards, x, known)
        left = self.read(self.backwards, x.flip(1), known.flip(1)).flip(1)
        return torch.cat([right, left], 2)


class Attention(nn.Module):
    """The alignment model: how well does position j of the source fit the next token? (A.1.2)"""

    def __init__(self, n, alignment, bias=True):
        super().__init__()
        self.W_a = nn.Linear(n, alignment, bias)
        self.U_a = nn.Linear(2 * n, alignment, bias=False)
        self.v_a = nn.Linear(alignment, 1, bias=False)

    def forward(self, s, annotations, keys, known):
        """s: the decoder's state [B, n]. keys: U_a(annotations). The context [B, 2n] and alpha."""
        e = self.v_a(torch.tanh(self.W_a(s)[:, None] + keys))[..., 0]  # [B, S]
        alpha = e.masked_fill(~known, -torch.inf).softmax(1)
        return torch.einsum("bs,bsn->bn", alpha, annotations), alpha


class Decoder(nn.Module):
    """A recurrent network that writes a translation, and looks at the source before each token."""

    def __init__(self, tokens, n, m, maxout, alignment, attention=True, bias=True):
        super().__init__()
        self.n = n
        context = 2 * n if attention else n
        self.start = nn.Linear(n, n, bias)  # W_s
        self.attention = Attention(n, alignment, bias) if attention else None
        self.embedding = nn.Embedding(tokens, m)
        self.unit = GRU(m + context, n, bias)  # W and C, side by side
        self.maxout = nn.Linear(n + m + context, 2 * maxout, bias)  # U_o, V_o and C_o, side by side

    def forward(self, prefix, annotations, known):
        """prefix: the tokens before each position, [B, T]; annotations: [B, S, 2n]; known: [B, S].

        t, from which the next token is scored, [B, T, l]; alpha [B, T, S], None for RNNencdec.
        """
        s = torch.tanh(self.start(annotations[:, 0, self.n :]))  # s_0, from <- h_1
        if self.attention:
            keys = self.attention.U_a(annotations)
        else:
            context = annotations[:, -1, : self.n]  # the last state of the encoder, rightwards
        before, alphas = [], []
        for y in self.embedding(prefix).unbind(1):
            if self.attention:
                context, alpha = self.attention(s, annotations, keys, known)
                alphas.append(alpha)
            before.append(torch.cat([s, y, context], 1))  # s of the step before (A.2.2)
            s = self.unit(self.unit.W(before[-1][:, self.n :]), s)
        t = self.maxout(torch.stack(before, 1)).unflatten(2, (-1, 2)).amax(3)
        return t, torch.stack(alphas, 1) if alphas else None


class RNNsearch(nn.Module):
    """Scores of the next token of a translation, at each of its positions.

    source_tokens, target_tokens: of either vocabulary. n, m, maxout, alignment: see above.
    attention: if False it is RNNencdec: for every token, the context is the last state of the
    encoder's forward direction. s_0 is made from that of the backward direction, in both.
    """

    def __init__(
        self,
        source_tokens=30_000,
        target_tokens=30_000,
        n=1000,
        m=620,
        maxout=500,
        alignment=1000,
        attention=True,
        bias=True,
    ):
        super().__init__()
        check_choice([True, False], attention=attention, bias=bias)
        check_number(int, 1, source_tokens=source_tokens, target_tokens=target_tokens)
        check_number(int, 1, n=n, m=m, maxout=maxout, alignment=alignment)
        self.encoder = Encoder(source_tokens, n, m, bias)
        self.decoder = Decoder(target_tokens, n, m, maxout, alignment, attention, bias)
        self.output = nn.Linear(maxout, target_tokens, bias)
        self.initialize()

    def initialize(self):
        """Recurrent matrices orthogonal, others normal, v_a and biases zero (B.1)."""
        for name, parameter in self.named_parameters():
            if name.endswith(".bias") or "v_a" in name:
                nn.init.zeros_(parameter)
            elif ".U.weight" in name or "U_gates" in name:
                for square in parameter.split(parameter.shape[1]):
                    nn.init.orthogonal_(square)
            else:
                alignment = "W_a" in name or "U_a" in name
                nn.init.normal_(parameter, 0, 0.001 if alignment else 0.01)

    def encode(self, source):
        """source: tokens [B, S]. For decode(): annotations [B, S, 2n]; a mask, false at padding."""
        return self.encoder(source), source != PAD

    def decode(self, prefix, memory):
        """prefix: the tokens before each position, [B, T]; memory: of encode().

        Scores [B, T, target_tokens], and alpha [B, T, S], None for RNNencdec.
        """
        t, alphas = self.decoder(prefix, *memory)
        return self.output(t), alphas

    def forward(self, source, prefix):
        """source: tokens [B, S]; prefix: [B, T]. Scores [B, T, target_tokens] of the next."""
        scores, _ = self.decode(prefix, self.encode(source))
        return scores


# Weights counted by hand, for n = 1000, m = 620, l = 500 and n' = 1000: the paper prints none.
PAPER = {
    "encoder": {"parameters": 18_600_000 + 2 * (3 * 620_000 + 3 * 1_000_000)},
    "decoder": {"parameters": 18_600_000 + 10_860_000 + 1_000_000 + 3_001_000 + 3_620_000},
    "output": {"parameters": 500 * 30_000},
    "total": {"parameters": 80_401_000},
}

if __name__ == "__main__":
    from harness.table import layer_table

    print("The paper prints no counts: these are made by hand, from the sizes that it gives.")
    words = torch.ones(1, 1, dtype=torch.long)  # one to read, one to write
    raise SystemExit(not layer_table(RNNsearch(bias=False), (words, words), PAPER))
