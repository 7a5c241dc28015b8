"""Writing a translation: beam search; with a beam of one hypothesis, it is greedy."""

from harness.words import BEGIN, END, PAD

import torch


@torch.inference_mode()
def beam_search(model, source, beam=1, longest=50, alpha=0.0):
    """For each row of source [B, S], the tokens of the best translation that is found.

    beam: how many hypotheses are kept a sentence. alpha: of the length penalty; 0 takes what is
    most probable, more of it prefers longer ones (Wu et al., arXiv 1609.08144, equation 14).
    """
    model.eval()
    rows, device = len(source), source.device
    memory = model.encode(source.repeat_interleave(beam, 0))
    prefix = torch.full((rows * beam, 1), BEGIN, device=device)
    total = torch.full((rows, beam), -torch.inf, device=device)
    total[:, 0] = 0  # at first, all hypotheses of a sentence are the same
    length = torch.zeros(rows, beam, device=device)
    done = torch.zeros(rows, beam, dtype=torch.bool, device=device)
    for _ in range(longest):
        scores, _ = model.decode(prefix, memory)
        gains = scores[:, -1].log_softmax(1).view(rows, beam, -1)
        gains[:, :, [PAD, BEGIN]] = -torch.inf
        gains[done] = -torch.inf
        gains[..., PAD][done] = 0  # what has ended goes on with nothing
        longer = (length + ~done)[..., None]
        ranks = (total[..., None] + gains) / ((5 + longer) / 6) ** alpha
        best = ranks.flatten(1).topk(beam).indices  # [rows, beam]
        parent, token = best // gains.shape[2], best % gains.shape[2]
        total = (total[..., None] + gains).flatten(1).gather(1, best)
        length, done = longer[..., 0].gather(1, parent), done.gather(1, parent) | (token == END)
        places = (parent + torch.arange(rows, device=device)[:, None] * beam).flatten()
        prefix = torch.cat([prefix[places], token.view(-1, 1)], 1)
        if done.all():
            break
    found = prefix.view(rows, beam, -1)[:, 0, 1:].tolist()  # topk has them in order
    return [row[: row.index(END)] if END in row else row for row in found]
