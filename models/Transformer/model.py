"""The Transformer: translation with attention alone.

A. Vaswani, N. Shazeer, N. Parmar, J. Uszkoreit, L. Jones, A. N. Gomez, Ł. Kaiser, I. Polosukhin,
"Attention Is All You Need", arXiv 1706.03762, 2017. Its new idea: attention is enough. No layer
passes a state from word to word; every position looks at every other one directly, so that all
positions of a sentence are computed at once, and no two words are more than one step apart.

Sections and equations are the paper's, and most names: d_model is the dimension of a position, d_ff
units are in the feed-forward network, d_k numbers in a head's queries and keys.

paper                              here                          why
initialization not given           Xavier; embeddings with a     sums keep the variance of
                                   variance of 1 / d_model;      what is summed
                                   learned positions as large
                                   as sinusoids
biases of attention not given      with                          most networks have them
epsilon of norms not given         1e-5                          PyTorch's
any number of positions            256 at most                   a table made once
"""

import math

import torch
from torch import nn

PAD = 0  # the number of the token that fills up a batch

# Table 3: the base model, and what the rows change of it.
BASE = {"layers": 6, "d_model": 512, "d_ff": 2048, "heads": 8, "dropout": 0.1}
ROWS = {
    "base": {},
    "A: 1 head": {"heads": 1},
    "A: 4 heads": {"heads": 4},
    "A: 16 heads": {"heads": 16},
    "A: 32 heads": {"heads": 32},
    "B: d_k 16": {"d_k": 16},
    "B: d_k 32": {"d_k": 32},
    "C: 2 layers": {"layers": 2},
    "C: 4 layers": {"layers": 4},
    "C: 8 layers": {"layers": 8},
    "C: d_model 256": {"d_model": 256},
    "C: d_model 1024": {"d_model": 1024},
    "C: d_ff 1024": {"d_ff": 1024},
    "C: d_ff 4096": {"d_ff": 4096},
    "big": {"d_model": 1024, "d_ff": 4096, "heads": 16, "dropout": 0.3},
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


def attention(q, k, v, mask):
    """softmax(Q K^T / sqrt(d_k)) V, and the softmax (equation 1).

    q: [..., T, d_k]; k: [..., S, d_k]; v: [..., S, d_v]. mask: [..., T, S], true where a query may
    look. The softmax is [..., T, S].
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return weights @ v, weights


class MultiHeadAttention(nn.Module):
    """h attentions side by side, each with projections of its own (3.2.2)."""

    def __init__(self, d_model, heads, d_k):
        super().__init__()
        self.heads = heads
        # The projections of all heads, side by side; split() cuts them apart.
        self.W_Q = nn.Linear(d_model, heads * d_k)
        self.W_K = nn.Linear(d_model, heads * d_k)
        self.W_V = nn.Linear(d_model, d_model)
        self.W_O = nn.Linear(d_model, d_model)

    def forward(self, x, y, mask):
        """Positions x [B, T, d_model] look at positions y [B, S, d_model]; where, [B, h, T, S]."""

        def split(z):
            return z.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, h, positions, d_k]

        values, weights = attention(
            split(self.W_Q(x)), split(self.W_K(y)), split(self.W_V(y)), mask
        )
        return self.W_O(values.transpose(1, 2).flatten(2)), weights


class FeedForward(nn.Sequential):
    """Two layers, the same at every position (3.3)."""

    def __init__(self, d_model, d_ff):
        super().__init__(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Linear(d_ff, d_model))


class Residual(nn.Module):
    """What goes around each sub-layer: LayerNorm(x + Sublayer(x)), with dropout (3.1, 5.4).

    norm: "post", as published; "pre" is x + Sublayer(LayerNorm(x)), as most networks have it today.
    """

    def __init__(self, d_model, dropout, norm):
        super().__init__()
        self.pre = norm == "pre"
        self.norm, self.dropout = nn.LayerNorm(d_model), nn.Dropout(dropout)

    def forward(self, x, sublayer):
        if self.pre:
            return x + self.dropout(sublayer(self.norm(x)))
        return self.norm(x + self.dropout(sublayer(x)))


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network (Figure 1, left)."""

    def __init__(self, d_model, d_ff, heads, d_k, dropout, norm):
        super().__init__()
        self.attention = MultiHeadAttention(d_model, heads, d_k)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.around = nn.ModuleList(Residual(d_model, dropout, norm) for _ in range(2))

    def forward(self, x, mask):
        x = self.around[0](x, lambda x: self.attention(x, x, mask)[0])
        return self.around[1](x, self.feed_forward)


class DecoderLayer(nn.Module):
    """Self-attention on what is written, attention to the source, then a feed-forward network."""

    def __init__(self, d_model, d_ff, heads, d_k, dropout, norm):
        super().__init__()
        self.attention = MultiHeadAttention(d_model, heads, d_k)
        self.to_source = MultiHeadAttention(d_model, heads, d_k)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.around = nn.ModuleList(Residual(d_model, dropout, norm) for _ in range(3))

    def forward(self, x, mask, source, source_mask):
        """x: [B, T, d_model], and where it looked in the source, [B, h, T, S]."""
        looked = None

        def look(x):
            nonlocal looked
            found, looked = self.to_source(x, source, source_mask)
            return found

        x = self.around[0](x, lambda x: self.attention(x, x, mask)[0])
        x = self.around[1](x, look)
        return self.around[2](x, self.feed_forward), looked


class Encoder(nn.Module):
    """N layers that read the source. Only pre-norm has a norm after the last."""

    def __init__(self, layers, d_model, d_ff, heads, d_k, dropout, norm):
        super().__init__()
        sizes = d_model, d_ff, heads, d_k, dropout, norm
        self.layers = nn.ModuleList(EncoderLayer(*sizes) for _ in range(layers))
        self.last = nn.LayerNorm(d_model) if norm == "pre" else nn.Identity()

    def forward(self, x, mask):
        for layer in self.layers:
            x = layer(x, mask)
        return self.last(x)  # [B, S, d_model]


class Decoder(nn.Module):
    """N layers that write the translation; also where the last of them looked."""

    def __init__(self, layers, d_model, d_ff, heads, d_k, dropout, norm):
        super().__init__()
        sizes = d_model, d_ff, heads, d_k, dropout, norm
        self.layers = nn.ModuleList(DecoderLayer(*sizes) for _ in range(layers))
        self.last = nn.LayerNorm(d_model) if norm == "pre" else nn.Identity()

    def forward(self, x, mask, source, source_mask):
        for layer in self.layers:
            x, looked = layer(x, mask, source, source_mask)
        return self.last(x), looked  # [B, T, d_model], [B, h, T, S]


def sinusoids(length, d_model):
    """PE(pos, 2i) = sin(pos / 10000^(2i/d_model)), PE(pos, 2i+1) its cosine (3.5).

    [length, d_model].
    """
    positions = torch.arange(length)[:, None]
    rates = 10_000 ** (-torch.arange(0, d_model, 2) / d_model)
    return torch.stack([(positions * rates).sin(), (positions * rates).cos()], 2).flatten(1)


class Transformer(nn.Module):
    """Scores of the next token of a translation, at each of its positions.

    tokens: of the one vocabulary of both languages. d_k: of a head's queries and keys; None is
    d_model / h. positions: "sinusoids", "learned" (Table 3, row E) or "none", and at most `longest`
    of them. norm: "post", as published, or "pre".
    """

    def __init__(
        self,
        tokens=37_000,
        layers=6,
        d_model=512,
        d_ff=2048,
        heads=8,
        dropout=0.1,
        d_k=None,
        positions="sinusoids",
        norm="post",
        longest=256,
    ):
        super().__init__()
        check_number(int, 1, tokens=tokens, layers=layers, d_model=d_model, d_ff=d_ff, heads=heads)
        check_number(int, 1, d_k=d_model if d_k is None else d_k, longest=longest)
        check_number(float, 0, 1, dropout=dropout)
        check_choice(["sinusoids", "learned", "none"], positions=positions)
        check_choice(["post", "pre"], norm=norm)
        if d_model % heads or d_model % 2:
            raise ValueError(
                f"d_model is {d_model}, must be even, and a multiple of heads, {heads}"
            )
        self.d_model, self.longest = d_model, longest
        sizes = d_model, d_ff, heads, d_k or d_model // heads, dropout, norm
        self.embedding = nn.Embedding(tokens, d_model)
        self.dropout = nn.Dropout(dropout)
        self.encoder = Encoder(layers, *sizes)
        self.decoder = Decoder(layers, *sizes)
        self.output = nn.Linear(d_model, tokens, bias=False)
        self.output.weight = self.embedding.weight  # one matrix for all three (3.4)
        if positions == "learned":
            self.positions = nn.Parameter(torch.empty(longest, d_model))
        else:
            table = sinusoids(longest, d_model)
            table = table if positions == "sinusoids" else torch.zeros_like(table)
            self.register_buffer("positions", table, persistent=False)
        self.initialize()

    def initialize(self):
        """The paper gives none: sums keep the variance of what is summed, roughly."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, 0, self.d_model**-0.5)
        if isinstance(self.positions, nn.Parameter):
            nn.init.normal_(self.positions, 0, 0.5**0.5)  # as large as sinusoids

    def embed(self, tokens):
        """tokens [B, T] with their positions, [B, T, d_model] (3.4, 3.5)."""
        if tokens.shape[1] > self.longest:
            raise ValueError(f"longest is {self.longest}, must be {tokens.shape[1]} or more")
        x = self.embedding(tokens) * math.sqrt(self.d_model)
        return self.dropout(x + self.positions[: tokens.shape[1]])

    def encode(self, source):
        """source: tokens [B, S]. What decode() looks at."""
        mask = (source != PAD)[:, None, None]  # [B, 1, 1, S]: no position looks at padding
        return self.encoder(self.embed(source), mask), mask

    def decode(self, prefix, memory):
        """prefix: the tokens before each position, [B, T]; memory: of encode().

        Scores [B, T, tokens], and where the last layer looked, [B, T, S], the mean of its heads.
        """
        places = torch.arange(prefix.shape[1], device=prefix.device)
        mask = places[:, None] >= places  # [T, T]: no position looks at a later one
        x, looked = self.decoder(self.embed(prefix), mask, *memory)
        return self.output(x), looked.mean(1)

    def forward(self, source, prefix):
        """source: tokens [B, S]; prefix: [B, T]. Scores [B, T, tokens] of the next tokens."""
        scores, _ = self.decode(prefix, self.encode(source))
        return scores


def formula(tokens, layers=6, d_model=512, d_ff=2048, heads=8, d_k=None, dropout=None):
    """The parameters, counted on paper."""
    d, keys = d_model, heads * (d_k or d_model // heads)
    attend = 2 * (d * keys + keys) + 2 * (d * d + d)
    feed, norm = 2 * d * d_ff + d_ff + d, 2 * d
    return (
        layers * (attend + feed + 2 * norm) + layers * (2 * attend + feed + 3 * norm) + tokens * d
    )


# Table 3 prints parameters in millions, and Section 5.1 a vocabulary of "about 37000" tokens.
PRINTED = {
    "base": "65",
    "C: 2 layers": "36",
    "C: 4 layers": "50",
    "C: 8 layers": "80",
    "C: d_model 256": "28",
    "C: d_model 1024": "168",
    "C: d_ff 1024": "53",
    "C: d_ff 4096": "90",
    "big": "213",
}

if __name__ == "__main__":
    from harness.table import layer_table

    print("The paper prints no exact counts: those on the right are its formula's.")
    met = True
    for name, change in ROWS.items():
        sizes = BASE | change
        with torch.device("meta"):
            count = sum(p.numel() for p in Transformer(**sizes).parameters())
        right = count == formula(37_000, **sizes)
        paper = f"; paper: {PRINTED[name]} million" if name in PRINTED else ""
        print(f"{name:<16} {count:>12,} parameters{paper}{'' if right else ': not the formula'}")
        met &= right
    words = torch.ones(1, 1, dtype=torch.long)  # one to read, one to write
    tied = {"total": {"parameters": 44_138_496 + 512 * 37_000}}
    raise SystemExit(not (layer_table(Transformer(), (words, words), tied) and met))
