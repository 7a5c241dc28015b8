"""Several runs in one process: variants of some settings, seeds, their mean and spread.

A comparison is a function of settings in a branch's experiments.py:

    EXPERIMENTS = {"figure1": (figure1, RECIPES), ...}

    if __name__ == "__main__":
        program(lambda: experiment(__doc__, EXPERIMENTS))
"""

import dataclasses
import statistics
import sys
import time

from harness import ROOT, files, lock, ranks
from harness.errors import Diverged, Refusal, RefusalOfAll, harmless, reason, warn
from harness.meter import clock
from harness.settings import command_line, flag


def experiment(description, experiments, argv=None):
    """Run the experiment that the command line names, with its own settings.

    experiments: {name: (function of Settings, {recipe: Settings})}.
    """
    if ranks.WORLD > 1:
        raise RefusalOfAll("experiments.py compares runs of one process: start it without torchrun")
    name, *argv = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(description)
        return
    if name not in experiments:
        raise Refusal(f"{name}: the experiments are {', '.join(experiments)} (--help tells more)")
    function, recipes = experiments[name]
    chosen = command_line(function.__doc__, recipes, argv, f"experiments.py {name}")
    for use in chosen.USES:
        if getattr(chosen, use) is not None:
            raise Refusal(f"{flag(use)} is for train.py, and one run")
    function(dataclasses.replace(chosen, name=f"{chosen.name}-experiment-{name}"))


def seeds_of(settings, count):
    """The seeds of a comparison: `count` from that of some Settings on, in a dry run only that."""
    return range(settings.seed, settings.seed + (1 if settings.dry_run else count))


def varied(variants):
    """The settings in which some runs, or Settings, differ from one another, in order."""
    identities = [variant.identity() for variant in variants]
    keys = [key for key in identities[0] if key != "recipe"]
    return [key for key in keys if len({str(one[key]) for one in identities}) > 1]


def in_turn(title, variants):
    """Yield each of a list of Settings, with a line that says which it is, and what is left."""
    times, keys = [], varied(variants) if variants else []
    for done, variant in enumerate(variants):
        words = ", ".join(f"{key} {getattr(variant, key)}" for key in keys)
        trained = [seconds for seconds in times if seconds > 2]  # the others were finished before
        left = sum(trained) / max(len(trained), 1) * (len(variants) - done)
        about = f", about {clock(left)} min left" if trained else ""
        print(f"\n{title}, {done + 1} of {len(variants)}: {words}{about}", flush=True)
        began = time.perf_counter()
        yield variant
        times.append(time.perf_counter() - began)


def unless_diverged(function, *arguments):
    """What a function returns, or None, with a line that says so, if its training diverges."""
    try:
        return function(*arguments)
    except Diverged as error:
        print(f"Left out: {error}", flush=True)
        return None


def need_whole_batches(settings):
    """Refusal of --micro-batch, where layers are measured: they see parts, and some twice."""
    if settings.micro_batch:
        raise Refusal("--micro-batch: this experiment measures layers on a batch in one piece")


def need_some(runs):
    """Diverged if there is none."""
    if not runs:
        raise Diverged("every network has diverged: there is nothing to compare")


def compare(name, settings, runs, panels, quantity, level=None, **along):
    """Write points.csv, every epoch of several runs, and curves.png, by plots.comparison().

    Both go to a folder of their own, which is named for the settings of the comparison. along: as
    there, where the curves are not by epoch. Diverged if no run is left.
    """
    need_some(runs)
    keys = varied([settings, *(run.settings for run in runs)])
    rows = []
    for run in runs:
        own = {key: getattr(run.settings, key) for key in keys}
        rows += [own | row | own for row in run.history]  # lr: of the settings, not of the epoch
    columns = dict.fromkeys(key for row in rows for key in row)
    rows = [{key: row.get(key, "") for key in columns} for row in rows]
    seeds = sorted({run.settings.seed for run in runs})
    folder, title = ROOT / "checkpoints" / name / settings.title(), settings.in_words(*seeds)
    lock.hold(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_csv(folder / "points.csv", rows)
        told = f"Every epoch is in {folder / 'points.csv'}"
    except OSError as error:  # it can be made again: the runs are finished, each in its folder
        warn(f"{folder / 'points.csv'} cannot be written: {reason(error)}")
        told = f"In {folder}"
    with harmless("curves.png"):
        from harness import plots  # matplotlib takes a second to import, and may be broken

        def curves(path):
            plots.comparison(path, panels, quantity, level, f"{name}: {title}", **along)

        if plots.draw(folder, {"curves.png": curves}):
            told += ", the curves in curves.png there"
    print(told)


def mean_and_spread(values, unit=100, digits=2):
    """Mean and standard deviation, of shares in percent; the others may have diverged."""
    mean = f"{unit * statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return f"{mean}, one run"
    return f"{mean} ± {unit * statistics.stdev(values):.{digits}f}"


def percent(curves):
    """Lists of shares as lists of percents."""
    return [[100 * value for value in curve] for curve in curves]
