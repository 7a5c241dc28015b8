"""Writing a translation: beam search; with a beam of one hypothesis, it is greedy."""

from typing import Annotated

from harness.values import Rule
from harness.words import BEGIN, END, PAD

import torch

MORE = 10  # tokens that a translation may have more than its source
BEAM, ALPHA = 4, 1.0  # by chrF of the validation verses; Vaswani et al. have 4 and 0.6
Beam = Annotated[int, Rule("a whole number from 1 to 100", lambda value: 1 <= value <= 100)]


@torch.inference_mode()
def beam_search(model, source, beam=1, longest=50, alpha=0.0):
    """For each row of source [B, S], the tokens of the best translation that is found.

    beam: how many hypotheses are kept a sentence. longest: tokens at most, a number or [B]; of
    hypotheses that have ended by then, the best is taken. alpha: of the length penalty; 0 takes
    what is most probable, more prefers longer ones (Wu et al., arXiv 1609.08144, equation 14).
    """
    model.eval()
    device, found = source.device, [None] * len(source)
    longest = torch.as_tensor(longest, device=device).expand(len(source))
    memory = tuple(part.repeat_interleave(beam, 0) for part in model.encode(source))
    going = torch.arange(len(source), device=device)  # sentences with a hypothesis that goes on
    prefix = torch.full((len(source), beam, 1), BEGIN, device=device)
    total = torch.full((len(source), beam), -torch.inf, device=device)
    total[:, 0] = 0  # at first, all hypotheses of a sentence are the same
    length = torch.zeros(len(source), beam, device=device)
    done = torch.zeros(len(source), beam, dtype=torch.bool, device=device)
    while len(going):
        scores, _ = model.decode(prefix.flatten(0, 1), memory)
        gains = scores[:, -1].log_softmax(1).view(*total.shape, -1)
        gains[:, :, [PAD, BEGIN]] = -torch.inf
        gains[done] = -torch.inf
        gains[..., PAD][done] = 0  # what has ended goes on with nothing
        longer = (length + ~done)[..., None]
        ranks = (total[..., None] + gains) / ((5 + longer) / 6) ** alpha
        best = ranks.flatten(1).topk(beam).indices  # [sentences, beam], in order
        parent, token = best // gains.shape[2], best % gains.shape[2]
        total = (total[..., None] + gains).flatten(1).gather(1, best)
        length, done = longer[..., 0].gather(1, parent), done.gather(1, parent) | (token == END)
        prefix = prefix.gather(1, parent[..., None].expand_as(prefix))
        prefix = torch.cat([prefix, token[..., None]], 2)

        over = done.all(1) | (prefix.shape[2] > longest[going])
        if over.any():  # no more work for these
            for sentence, rows in zip(going[over].tolist(), prefix[over, :, 1:].tolist()):
                row = next((row for row in rows if END in row), rows[0])
                found[sentence] = row[: row.index(END)] if END in row else row
            memory = tuple(part[(~over).repeat_interleave(beam)] for part in memory)
            state = going, prefix, total, length, done
            going, prefix, total, length, done = (part[~over] for part in state)
    return found
