"""What networks that translate have to hold: masks, tested by perturbation; PyTorch's layers."""

import torch
import torch.nn.functional as F


def pair():
    """A source [2, 5] and a prefix [2, 4] of tokens from 3 to 10."""
    return torch.randint(3, 11, (2, 5)), torch.randint(3, 11, (2, 4))


def padding_changes_nothing(network):
    """Neither scores nor gradients."""
    source, prefix = pair()
    padded, found = (F.pad(source, (0, 3)), F.pad(prefix, (0, 2))), []
    for inputs in ((source, prefix), padded):
        network.zero_grad()
        scores = network(*inputs)[:, :4]
        scores.square().sum().backward()
        found.append([scores.detach(), *(p.grad.clone() for p in network.parameters())])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(network(source[:1], prefix[:1]), network(*padded)[:1, :4])


def other_at(tokens, place):
    """The same tokens with another one at a place of every row."""
    other = tokens.clone()
    other[:, place] = 3 + (other[:, place] - 2) % 8
    return other


def scores_depend_on_the_source_and_no_later_token(network):
    """Each on every token of the source, and on those of the prefix up to its own place."""
    source, prefix = pair()
    before = network(source, prefix)

    def changed(*inputs):
        return ((network(*inputs) - before).abs().amax(2) > 1e-9).tolist()

    for place in range(4):
        expected = [False] * place + [True] * (4 - place)
        assert changed(source, other_at(prefix, place)) == [expected] * 2
    for place in range(5):
        assert changed(other_at(source, place), prefix) == [[True] * 4] * 2


def copied(mine, theirs):
    """nn.MultiheadAttention's weights into ours."""
    with torch.no_grad():
        weights, biases = theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3)
        for part, w, b in zip((mine.W_Q, mine.W_K, mine.W_V), weights, biases):
            part.weight.copy_(w)
            part.bias.copy_(b)
        mine.W_O.load_state_dict(theirs.out_proj.state_dict())


def again(*leaves):
    """The same tensors once more, each with a gradient of its own."""
    return [leaf.detach().clone().requires_grad_() for leaf in leaves]


def equal_with_gradients(found, expected, leaves, layers=()):
    """Outputs, and the gradients of the sum of their squares, of pairs of tensors and of layers.

    layers: ours and PyTorch's; attention of ours has three matrices where PyTorch's has one.
    """
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    for mine, theirs in leaves:
        torch.testing.assert_close(mine.grad, theirs.grad)
    for mine, theirs in layers:
        if hasattr(theirs, "in_proj_weight"):
            parts, whole = (mine.W_Q, mine.W_K, mine.W_V), theirs.in_proj_weight
        else:
            parts, whole = (mine,), theirs.weight
        torch.testing.assert_close(torch.cat([part.weight.grad for part in parts]), whole.grad)
