"""LSTM: the paper's figures, the cells step by step, truncated gradients, PyTorch's layers."""

import math

import pytest
import torch
from torch import nn

NAME = "LSTM"
CELLS = ["tanh", "1997", "2000", "today"]


@pytest.mark.parametrize(
    "sizes, weights",
    [
        ((7, 7, "1997", 4, 1, "gates"), 264),
        ((7, 7, "1997", 3, 2, "gates"), 276),
        ((54, 2, "1997", 2, 1, "none"), 364),
        ((1004, 2, "1997", 2, 1, "none"), 6_064),
        ((1, 1, "1997", 3, 1, "hidden"), 102),
        ((2, 1, "1997", 2, 2, "all"), 93),
        ((8, 4, "1997", 2, 2, "all"), 156),
        ((8, 8, "1997", 3, 2, "all"), 308),
    ],
)
def test_the_networks_have_as_many_weights_as_in_the_paper(model, sizes, weights):
    network = model.LastOutput(*sizes)
    assert sum(parameter.numel() for parameter in network.parameters()) == weights


def test_the_layer_of_2000_has_as_many_weights_as_published(model):
    """424 in all, with biases at the gates, where its 7 outputs see the 7 inputs, too."""
    layer = model.ForgetLSTM(7, 4, 2, "gates")
    assert sum(p.numel() for p in layer.parameters()) + 7 * (7 + 8 + 1) == 424


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def by_hand(layer, x, forgets):
    """What one sequence [T, inputs] makes the cells put out, number by number; and all outputs.

    Units are input gates, forget gates if any, output gates, cells.
    """
    blocks, size, kinds = layer.blocks, layer.size, 2 + forgets
    weights, recurrent, bias = (p.tolist() for p in (layer.weight_ih, layer.weight_hh, layer.bias))
    seen, states, outputs = [0.0] * len(recurrent[0]), [0.0] * blocks * size, []
    for step in x.tolist():
        net = [
            sum(w * v for w, v in zip(ws, step)) + sum(r * v for r, v in zip(rs, seen)) + b
            for ws, rs, b in zip(weights, recurrent, bias)
        ]
        gates = [sigmoid(value) for value in net[: kinds * blocks]]
        cells = []
        for cell, value in enumerate(net[kinds * blocks :]):
            block = cell // size
            keep = gates[blocks + block] if forgets else 1.0
            states[cell] = keep * states[cell] + gates[block] * (4 * sigmoid(value) - 2)
            squashed = 2 * sigmoid(states[cell]) - 1
            cells.append(gates[(kinds - 1) * blocks + block] * squashed)
        outputs.append(cells)
        seen = cells if forgets else gates + cells
    return torch.tensor(outputs)


@pytest.mark.parametrize("cell", ["1997", "2000"])
def test_the_published_cells_number_by_number(model, cell):
    torch.manual_seed(0)
    layer = model.CELLS[cell](3, 2, 2)
    layer.initialize(1.0)
    x = torch.randn(2, 12, 3)
    outputs, _ = layer(x)
    for sequence, output in zip(x, outputs):
        torch.testing.assert_close(output, by_hand(layer, sequence, cell == "2000"))


@pytest.mark.parametrize("cell", ["1997", "2000"])
def test_the_gradient_is_truncated(model, cell):
    """It is that of a network whose recurrent inputs are constants: finite differences of such."""
    torch.manual_seed(1)
    network = model.LastOutput(3, 2, cell).double()
    network.memory.initialize(1.0)
    x, memory = torch.randn(4, 9, 3, dtype=torch.double), network.memory
    seen, step = [], memory.step

    def recorded(net, y, s):
        seen.append(y.detach())
        return step(net, y, s)

    memory.step = recorded
    outputs, _ = network(x)
    outputs.square().sum().backward()

    def with_constants():
        constants = iter(seen)
        memory.step = lambda net, y, s: step(net, next(constants), s)
        with torch.no_grad():
            return network(x)[0].square().sum().item()

    for parameter in network.parameters():
        values, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for place in range(0, len(values), 3):
            value = values[place].item()
            values[place] = value + 1e-6
            above = with_constants()
            values[place] = value - 1e-6
            below = with_constants()
            values[place] = value
            assert gradient[place].item() == pytest.approx((above - below) / 2e-6, abs=1e-7)


@pytest.mark.parametrize("cell, kept", [("1997", 1.0), ("2000", None)])
def test_what_flows_back_along_a_state(model, cell, kept):
    """All of it in 1997, however far; in 2000, the product of the forget gates."""
    torch.manual_seed(0)
    layer = model.CELLS[cell](3, 2, 2).double()
    layer.initialize(0.5)
    s = torch.zeros(1, 4, dtype=torch.double, requires_grad=True)
    y = torch.zeros(1, layer.recurrent, dtype=torch.double)
    gates, step = [], layer.step

    def recorded(net, y, s):
        gates.append(torch.sigmoid(net + y @ layer.weight_hh.T)[:, 2:4])
        return step(net, y, s)

    layer.step = recorded
    _, (_, after) = layer(torch.randn(1, 200, 3, dtype=torch.double), (y, s))
    (gradient,) = torch.autograd.grad(after.sum(), s)
    expected = torch.stack(gates).prod(0).repeat_interleave(2, 1) if kept is None else kept
    torch.testing.assert_close(gradient, torch.ones_like(gradient) * expected)


@pytest.mark.parametrize("cell, kind", [("today", nn.LSTM), ("tanh", nn.RNN)])
def test_it_is_pytorchs_layer(model, cell, kind):
    """In outputs, last states and gradients, with the same weights; the order of gates differs."""
    torch.manual_seed(0)
    ours, theirs = model.CELLS[cell](5, 7).double(), kind(5, 7, batch_first=True).double()
    order = torch.arange(len(ours.bias))
    if cell == "today":
        order = order.view(4, 7)[[0, 1, 3, 2]].flatten()  # theirs: input, forget, cell, output
    with torch.no_grad():
        ours.weight_ih.copy_(theirs.weight_ih_l0[order])
        ours.weight_hh.copy_(theirs.weight_hh_l0[order])
        ours.bias.copy_((theirs.bias_ih_l0 + theirs.bias_hh_l0)[order])
    x = torch.randn(3, 11, 5, dtype=torch.double, requires_grad=True)
    outputs, state = ours(x)
    (gradient,) = torch.autograd.grad(outputs.square().sum(), x, retain_graph=True)
    outputs.square().sum().backward()
    expected, last = theirs(x)
    (theirs_x,) = torch.autograd.grad(expected.square().sum(), x, retain_graph=True)
    expected.square().sum().backward()
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(gradient, theirs_x)
    for mine, other in zip(state, last if cell == "today" else [last]):
        torch.testing.assert_close(mine, other[0])
    torch.testing.assert_close(ours.weight_ih.grad, theirs.weight_ih_l0.grad[order])
    torch.testing.assert_close(ours.weight_hh.grad, theirs.weight_hh_l0.grad[order])
    torch.testing.assert_close(ours.bias.grad, theirs.bias_hh_l0.grad[order])


@pytest.mark.parametrize("cell", CELLS)
def test_a_text_in_two_pieces_gives_the_same_scores(model, cell):
    torch.manual_seed(0)
    network = model.LanguageModel(9, cell, 3, 2)
    text = torch.randint(9, (2, 20))
    whole, end = network(text)
    first, state = network(text[:, :8])
    second, state = network(text[:, 8:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    assert all(torch.equal(a, b) for a, b in zip(state, end)) and whole.shape == (2, 20, 9)


def test_dropout_leaves_out_what_the_cells_put_out_in_training_alone(model):
    torch.manual_seed(0)
    network = model.LanguageModel(9, blocks=500, dropout=0.4)
    text, seen = torch.randint(9, (1, 3)), []
    network.output.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    network.train()(text), network.eval()(text)
    share = (seen[0] == 0).float().mean().item()
    assert share == pytest.approx(0.4, abs=0.05) and (seen[1] != 0).all()
    kept = seen[0] != 0
    torch.testing.assert_close(seen[0][kept], seen[1][kept] / 0.6)


def test_how_gates_begin(model):
    torch.manual_seed(0)
    low, high = [-0.5, -1, -1.5, -2, -0.5], [0.5, 1, 1.5, 2, 0.5]
    for cell, expected in (
        ("1997", [-3, -6, -9, -12, -3] + [0] * 10),
        ("2000", low + high + low + [0] * 5),
        ("today", [0] * 5 + [1] * 5 + [0] * 10),
    ):
        bias = model.LastOutput(2, 1, cell, 5, 1, input_gate=-3.0).memory.bias
        assert bias.tolist() == pytest.approx(expected, abs=0.101)
        model.LastOutput(2, 1, cell, 5, 1, "none", -3.0)  # there is nothing to begin with
    assert 0.09 < max(p.abs().max() for p in model.LastOutput(2, 1).parameters()) <= 0.1


# The tasks


def draw(branch, name, count=2_000, lag=100, seed=0):
    task = branch.tasks.TASKS[name]
    return task.draw(count, lag, torch.Generator().manual_seed(seed))


def test_the_adding_problem(branch):
    lengths = {draw(branch, "adding", 1, seed=seed)[0].shape[1] for seed in range(40)}
    assert len(lengths) > 5 and min(lengths) >= 100 and max(lengths) <= 110
    inputs, targets = draw(branch, "adding")
    second = set()
    for (numbers, markers), target in zip(inputs.transpose(1, 2).tolist(), targets[:, 0].tolist()):
        assert markers[0] == markers[-1] == -1
        marked = [place for place, marker in enumerate(markers) if marker == 1]
        assert {*markers[1:-1]} == {0, 1} and 1 <= len(marked) <= 2
        assert min(marked) < 10 or len(marked) == 1  # else one is the first, which counts as 0
        assert target == pytest.approx(0.5 + sum(numbers[place] for place in marked) / 4, abs=1e-6)
        second.add(max(marked))
    assert max(second) == 48 and inputs[:, :, 0].abs().max() <= 1
    # Whoever answers 0.5 is off by a sum of two numbers of variance 1/3.
    assert (targets - 0.5).square().mean().item() == pytest.approx(2 / 3 / 16, rel=0.1)


def test_the_temporal_order_problem(branch):
    inputs, targets = draw(branch, "temporal-order")
    names, classes, places = "abcdXYEB", "XX XY YX YY".split(), [set(), set()]
    for symbols, target in zip(inputs.argmax(2).tolist(), targets):
        text = "".join(names[symbol] for symbol in symbols)
        found = [place for place, symbol in enumerate(text) if symbol in "XY"]
        assert text[0] == "E" and text[-1] == "B" and len(found) == 2
        assert {*text[1:-1]} <= {*"abcdXY"}
        assert classes[target.argmax()] == "".join(text[place] for place in found)
        for which, place in zip(places, found):
            which.add(place)
    assert [(min(which), max(which)) for which in places] == [(10, 20), (50, 60)]
    assert inputs.sum(2).eq(1).all() and targets.sum(1).eq(1).all()
    assert targets.mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.04)


def test_training_sequences_never_come_twice_and_held_out_ones_do(branch):
    recipe = branch.parse("--data", "adding", "--batch-size", 4, "--limit", 8)
    train, validation, test = branch.tasks.loaders(recipe, "cpu")
    sums = [[targets.tolist() for _, targets in loader] for loader in (train, train)]
    assert sums[0] != sums[1] and len(sums[0]) == 2
    torch.manual_seed(5)
    again = branch.tasks.loaders(recipe, "cpu")
    for ours, theirs in zip((validation, test), again[1:]):
        batches = [*ours]
        assert sum(len(targets) for _, targets in batches) == 2_560
        assert all(torch.equal(a[1], b[1]) for a, b in zip(batches, theirs))
    assert not torch.equal(next(iter(validation))[1], next(iter(test))[1])


def test_an_answer_is_right_if_every_output_is_close(branch):
    outputs = torch.tensor([[0.1, 0.9], [0.29, 0.75], [0.31, 0.9], [0.0, 0.6]])
    targets = torch.tensor([[0.0, 1.0]]).expand(4, 2)
    data = torch.utils.data
    loader = data.DataLoader(data.TensorDataset(outputs, targets), batch_size=3)

    class Echo(nn.Module):
        def forward(self, x):
            return x, None

    found = branch.tasks.evaluate(Echo(), loader, 0.3)
    assert found == {"loss": pytest.approx(nn.MSELoss()(outputs, targets).item()), "correct": 0.5}


def test_the_paper_recipe_trains_on_both_tasks(branch, monkeypatch):
    monkeypatch.setattr(branch.tasks, "HELD_OUT", 32)
    for task in ("adding", "temporal-order"):
        words = ("--recipe", "paper", "--data", task, "--limit", 20, "--epochs", 1, "--seed", 3)
        done = branch("train.py", *words)
        assert done.code == 0 and "correct" in done.out, done.err
    done = branch("train.py", "--recipe", "paper", "--length", 20, "--dry-run")
    assert done.code == 2 and "--length 20" in done.err


def test_what_is_left_of_a_gradient(branch):
    """Before any training: all of it for the cells of 1997, next to nothing for the others."""
    torch.manual_seed(0)
    inputs, _ = draw(branch, "adding", 16)
    left = {
        cell: branch.experiments.gradient_by_lag(branch.model.LastOutput(2, 1, cell), inputs)
        for cell in CELLS
    }
    assert left["1997"].tolist() == pytest.approx([1.0] * inputs.shape[1])
    assert left["tanh"][50] < 1e-10 and left["2000"][50] < 1e-6 and left["today"][50] < 1e-4


def test_the_experiment_tells_when_a_task_was_solved(branch, monkeypatch):
    monkeypatch.setattr(branch.tasks, "HELD_OUT", 32)
    assert branch.experiments.solved([0.2, 0.5, 0.91, 0.89]) == 3
    assert branch.experiments.solved([0.2, 0.89]) is None
    words = ("--limit", 32, "--epochs", 1, "--data", "adding", "--cell", "1997")
    done = branch("experiments.py", "lags", *words)
    assert done.code == 0 and "never, never, never" in done.out, done.err
    (folder,) = {path.parent for path in branch.home.rglob("gradients.csv")}
    rows = (folder / "gradients.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "data,cell,training,seed,steps,gradient" and len(rows) > 4 * 100
