"""The batches of an epoch, and what there is to do between two: synchronize ranks, save, stop."""

import time
from signal import SIGTERM

from harness import precision, provenance, ranks, stop, threads
from harness.errors import Refusal, RefusalOfAll, Stopped
from harness.meter import Meter

import torch

WAYS = ("micro_batch", "compile")  # settings that a finished run tells, though not in its name


def of_epoch(run, loader):
    """Yield the batches of an epoch of a run, of each this rank's part, behind a progress bar.

    loader: a DataLoader of (inputs, targets) whose sampler is an Order.
    """
    order, settings, model = loader.sampler, run.settings, run.state["model"]
    run.meter = meter = Meter(f"epoch {run.epoch}/{settings.epochs}")
    resumed, run.resumed = run.resumed, None
    order.begin((settings.seed, run.epoch), **resumed["order"] if resumed else {})
    if resumed:
        meter.load_state_dict(resumed["meter"])
    saved, parts = time.perf_counter(), meter.watched(loader)
    while True:
        batch = next(parts, None)
        due = time.perf_counter() - saved > 60 * (settings.checkpoint_every or 1e9)
        here = 0 if batch is None else meter.count
        everywhere, going_on, due, asked = ranks.total(
            here, batch is not None, due, bool(stop.asked)
        )
        ended = going_on < ranks.WORLD  # where files are broken, a rank may have fewer batches
        if not run.announced and (resumed or not ended):
            announce(run, meter.example if ended else batch[0])
        if ended:
            break
        if ranks.WORLD > 1:
            meter.everywhere, model.share = int(everywhere), here / everywhere
        yield batch
        if (due or asked) and not (order.in_one_go or settings.dry_run):
            ranks.share_statistics(run.state)
            place = getattr(loader, "used", order.place)
            meter.means()  # or it has diverged
            run.save({"order": order.state_dict(place), "meter": meter.state_dict()})
            saved = time.perf_counter()
        if asked:
            parts.close()
            raise stopped()
    parts.close()
    if meter.example is None:
        raise Refusal("no batch to train on: there are fewer examples than processes")
    if ranks.WORLD > 1:
        torch.set_rng_state(order.common)
        ranks.share_statistics(run.state)


def stopped():
    """What ends a run that was asked to stop, on this rank or on another."""
    return Stopped(stop.asked[0] if stop.asked else SIGTERM)


def after_epoch(run, last):
    """Save a run, and stop if it was asked to.

    A checkpoint that takes a second or more is left out where saving would take more than a tenth
    of the time, as after short epochs of a large network; that of the last epoch never is.
    """
    asked = ranks.total(bool(stop.asked))[0]
    if asked or last or time.perf_counter() >= run.next_save:
        began = time.perf_counter()
        run.save()
        took = time.perf_counter() - began
        run.next_save = began + (10 * took if took >= 1 else 0)
    if asked:
        raise stopped()


def chosen_before(run):
    """Whether threads and precision have been chosen: not before the first step is due."""
    saved = run.half_way
    return bool(saved and (saved["epoch"] or saved["middle"]))


def restore_choices(run, saved):
    """Where training is over, what is left has the precision that trained, a test the threads."""
    if len(run.history) < run.settings.epochs:
        return
    before, device = saved["provenance"], run.device
    if not run.finished:
        threads.choose(run.settings, before["threads"], None, (), device)
    in_use = precision.settled(run.settings, before.get("precision"), device) or "fp32"
    precision.use(ranks.alone(run.state["model"]), in_use)
    run.made_by |= {"threads": torch.get_num_threads(), "precision": in_use}
    run.made_by |= {name: before[name] for name in WAYS if name in before}


def announce(run, inputs):
    """Before the first batch, choose threads and precision, and say what is trained, and how."""
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    before = run.half_way["provenance"] if chosen_before(run) else {}
    model, settings = ranks.alone(run.state["model"]), run.settings
    why = threads.choose(settings, before.get("threads"), model, inputs, run.device)
    in_use, reason = precision.choose(settings, before.get("precision"), model, inputs, run.device)
    run.made_by |= {"threads": torch.get_num_threads(), "precision": in_use}
    run.made_by |= {name: getattr(settings, name) for name in WAYS}
    parameters = sum(p.numel() for p in model.parameters())
    where = provenance.describe(run.made_by, why or reason)
    print(f"{run.title}: {parameters:,} parameters, on {where}")
    done = f", {run.epoch - 1} of them done before" if run.epoch > 1 else ""
    print(f"{settings.epochs} epochs{done}", flush=True)
    run.announced, run.meter.began = True, time.perf_counter()


def need_even(batch_size):
    """Refusal if a batch cannot be divided evenly between the ranks."""
    if batch_size % ranks.WORLD:
        raise RefusalOfAll(
            f"--batch-size {batch_size} cannot be divided evenly between {ranks.WORLD} processes: "
            "choose another, or another --nproc-per-node"
        )
