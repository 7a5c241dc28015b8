"""Letting a language model write, as --sample asks."""

from harness import use

import torch


@torch.inference_mode()
def write(model, vocabulary, begin, characters, temperature=1.0, seed=0):
    """The text that a model writes after `begin`, a character drawn at a time."""
    model.eval()
    device = next(model.parameters()).device
    draws = torch.Generator().manual_seed(seed)
    given, state, written = vocabulary.encode(begin or "\n")[None].to(device), None, []
    for _ in range(characters):
        scores, state = model(given, state)
        scores = scores[0, -1, : len(vocabulary.known)].float().cpu()  # not the unknown one
        scores = (scores - scores.max()) / temperature  # at most 0, however low the temperature
        given = torch.multinomial(scores.softmax(0), 1, generator=draws)[None]
        written.append(int(given))
        given = given.to(device)
    return begin + vocabulary.decode(written)


def sample(run, model, vocabulary):
    """Print what a finished run writes after --sample."""
    use.bring_back(run, model)
    recipe = run.settings
    how = recipe.characters, recipe.temperature, recipe.seed
    print(write(model, vocabulary, recipe.sample, *how))
