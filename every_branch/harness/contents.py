"""What a checkpoint has to hold, as the run that reads it knows.

A sum tells that a file is what was written (checkpoint.load); this tells that it was written by
this run: the names, shapes and types of its own model and optimizer, and numbers that agree.
"""

import copy
import warnings

from harness.errors import diverged, reason
from harness.likeness import (
    Unfit,
    is_number,
    is_whole,
    need,
    need_keys,
    need_like,
    need_tensor,
    not_finite,
    said,
)

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau


def check_numbers(values, when):
    """Diverged if one of {name: number} is not finite."""
    for name, value in values.items():
        if not is_number(value):
            raise diverged(name, when)


def check_finite(saved):
    """Diverged if what is to be saved could not be resumed from."""
    when = f"epoch {saved['epoch']}"
    check_numbers(saved["history"][-1] if saved["history"] else {}, when)
    if name := not_finite(saved):
        raise diverged(name, when)


def need_origin(saved, made_by):
    """Unfit unless it tells settings, and a provenance like that of today."""
    need_keys(saved, ("settings", "provenance"), "it", others=True)
    need_keys(saved["settings"], (), "settings", others=True)
    theirs = saved["provenance"]
    need_keys(theirs, (), "provenance", others=True)
    theirs.setdefault("ranks", 1)  # as before there were several
    need_keys(theirs, made_by, "provenance", others=True)
    for key, value in made_by.items():
        need(type(theirs[key]) is type(value), f"provenance.{key} is {said(theirs[key])}")


def need_weights(found):
    """Unfit unless these are the weights of some model."""
    need_keys(found, (), "weights", others=True)
    for name, value in found.items():
        need(isinstance(value, torch.Tensor), f"weights.{name} is {said(value)}")
        need_tensor(value, value.shape, value.dtype, f"weights.{name}")


def need_history(history, epochs, chooses):
    """Unfit unless it is a list of rows, one an epoch, as Run.validate() writes them."""
    need(isinstance(history, list) and len(history) == epochs, f"history has not {epochs} rows")
    keys = {"epoch", "lr", "examples_per_second", "seconds"}
    keys |= {f"validation_{chooses}"} if chooses else set()
    for number, row in enumerate(history, start=1):
        need_keys(row, keys, f"row {number} of history", others=True)
        need(list(row) == list(history[0]), f"row {number} of history has other columns")
        need(all(map(is_number, row.values())), f"row {number} of history is not all numbers")
        need(row["epoch"] == number, f"row {number} of history is another epoch's")


def need_metrics(metrics, where):
    need_keys(metrics, (), where, others=True)
    named = all(type(name) is str and is_number(value) for name, value in metrics.items())
    need(metrics and named, f"{where} are not all numbers")


def need_chosen(metrics, epoch, history, where):
    """Unfit unless these are the metrics of that epoch."""
    need(is_whole(epoch, 1, len(history)), f"{where} is of no epoch")
    need_metrics(metrics, f"{where}: metrics")
    row = history[epoch - 1]
    same = all(row.get(f"validation_{name}") == value for name, value in metrics.items())
    need(same, f"{where} is not what history says")


def after_a_step(optimizer):
    """The state_dict of an optimizer once every parameter had a step, which a copy makes."""
    optimizer = copy.deepcopy(optimizer)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    type(optimizer).step(optimizer)  # not as a method: schedules put one there, of the original
    return optimizer.state_dict()


def need_a_step(schedule, saved):
    """Unfit if a schedule cannot go on from where it was saved, as a copy tries."""
    if isinstance(schedule, ReduceLROnPlateau):  # goes on from anywhere
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            schedule = copy.deepcopy(schedule)
            schedule.load_state_dict(saved)
            schedule.step()
    except Exception as error:
        raise Unfit(f"does not fit this run: schedule: {reason(error)}") from None


def options_of_today(found, wanted, where):
    """Give the state of an optimizer or schedule the options that this PyTorch has, no others."""
    need_keys(found, (), where, others=True)
    both = [(found, wanted)]
    if "param_groups" in wanted:
        groups = found.get("param_groups")
        need(isinstance(groups, list), f"{where}.param_groups is no list")
        both = zip(groups, wanted["param_groups"])
    for theirs, today in both:
        need_keys(theirs, (), f"{where}.param_groups", others=True)
        for option in theirs.keys() ^ today.keys():
            theirs.pop(option, None)
            if option in today:
                theirs[option] = today[option]


def need_middle(middle):
    """Unfit unless it tells where in an epoch a run was left, as batches() writes it."""
    if middle is None:
        return
    need_keys(middle, ("order", "meter", "seconds", "lr"), "middle")
    order, meter = middle["order"], middle["meter"]
    need(is_number(middle["seconds"]), "middle: seconds is no number")
    need(is_number(middle["lr"]), "middle: lr is no number")
    need_keys(order, ("place", "draws", "random"), "middle: order")
    need_keys(meter, ("seen", "sums", "example"), "middle: meter")
    need(is_whole(order["place"], 1), "middle: place is no number")
    need(is_whole(meter["seen"], 1), "middle: seen is no number")
    need_keys(order["draws"], (), "middle: draws", others=True)
    state = torch.get_rng_state()
    for value in (*order["draws"].values(), order["random"]):
        need_tensor(value, state.shape, state.dtype, "middle: a random state")
    need(all(is_whole(place, 0) for place in order["draws"]), "middle: a place is no number")
    need_keys(meter["sums"], (), "middle: sums", others=True)
    for name, value in meter["sums"].items():
        need(type(name) is str and is_number(value), f"middle: {name} is no number")


def need_half_way(saved, state, epochs, chooses):
    """Unfit unless a state.pt is of the run whose model, optimizer and so on these are."""
    keys = ("settings", "provenance", "epoch", "history", "best", "example", "random", *state)
    saved.setdefault("middle", None)  # as before an epoch could be left in the middle
    need_keys(saved, (*keys, "middle"), "it")
    epoch, best, middle = saved["epoch"], saved["best"], saved["middle"]
    need(is_whole(epoch, 0, epochs - bool(middle)), f"epoch is not one of {epochs}")
    need_middle(middle)
    need_history(saved["history"], epoch, chooses)
    for name, part in state.items():
        optimizes = isinstance(part, torch.optim.Optimizer)
        wanted = after_a_step(part) if optimizes and (epoch or middle) else part.state_dict()
        has_options = optimizes or isinstance(part, torch.optim.lr_scheduler.LRScheduler)
        if has_options and saved["provenance"].get("torch") != torch.__version__:
            options_of_today(saved[name], wanted, name)
        need_like(saved[name], wanted, name)
    if epoch == 0:
        need(best is None, "it has a result before the first epoch")
    if "schedule" in state and (middle or 0 < epoch < epochs):
        schedule = saved["schedule"]
        trained = middle and schedule.get("last_epoch") == schedule.get("total_steps", -1)
        if not (trained and epoch + 1 == epochs):  # the last step may have been before it was saved
            need_a_step(state["schedule"], schedule)
    if epoch == 0:
        return
    need_keys(best, ("metrics", "epoch", "weights"), "best")
    need_chosen(best["metrics"], best["epoch"], saved["history"], "best")
    need_like(best["weights"], state["model"].state_dict(), "best.weights")


def need_finished(saved, state, epochs, chooses):
    """The same of a weights.pt."""
    need_keys(saved, ("result", "history", "weights", "input"), "it", others=True)
    keys = ("metrics", "split", "chosen_by", "epoch", "epochs", "seconds", "parameters", "macs")
    result, history, shape = saved["result"], saved["history"], saved["input"]
    need_history(history, epochs, chooses)
    need_keys(result, keys, "result", others=True)
    need_metrics(result["metrics"], "result: metrics")
    need_chosen(result["chosen_by"], result["epoch"], history, "result")
    need(type(result["split"]) is str, "result: split is no text")
    need(result["epochs"] == epochs, f"result is not of {epochs} epochs")
    need(is_number(result["seconds"]), "result: seconds is no number")
    parameters = sum(p.numel() for p in state["model"].parameters())
    need(result["parameters"] == parameters, f"result is not of {parameters:,} parameters")
    need(is_whole(result["macs"], 0), "result: macs is no number")
    sides = isinstance(shape, tuple) and all(is_whole(side, 1) for side in shape)
    need(sides, "input is no shape")
    need_like(saved["weights"], state["model"].state_dict(), "weights")
