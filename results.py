"""Train what results.csv lacks, and make README's tables from it.

A row of results.csv is a finished run that counts. Runs are trained in .branches/, where every
branch is laid out as its files are today and checkpoints stay: after a stop, the same command goes
on where it was. A row that was made by another model.py or train.py than today's stays, and the
table marks it.

    python results.py                              every laptop recipe, with seeds 0, 1 and 2
    python results.py --models LeNet --seeds 0     only these
    python results.py --again                      the marked rows as well, which it replaces
    python results.py --dry-run                    list what would be trained
    python results.py --add checkpoints/VGG/laptop-config-D-seed0    take in a finished run
    python results.py --readme                     rewrite the tables in README.md, train nothing

Exit code: 0, nothing is missing any more; 1, a training failed or was stopped; 2, an error.
"""

import argparse
import csv
import hashlib
import io
import re
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import branches
from branches import Refusal

COLUMNS = (
    "branch run seed split metrics epoch epochs seconds parameters macs "
    "processor threads python torch code"
).split()
SOURCE = Path(__file__).resolve().parent / "every_branch" / "harness" / "source.py"
digest = runpy.run_path(str(SOURCE))["digest"]
LAPTOP = "laptop"  # the default recipe, and so the name of its runs


class Yardstick(NamedTuple):
    """How a task is measured."""

    data: str  # what the branches ship: --data of their laptop recipes
    metrics: dict  # {metric: what the table multiplies it by, and calls it}
    baselines: tuple  # what stands for the branch in the rows of what a model has to beat


TASKS = {
    "classification": Yardstick(
        "fashion-mnist",
        {"accuracy": (100, "Test accuracy, %")},
        ("baseline: linear classifier",),
    ),
    "language": Yardstick(
        "shakespeare",
        {"bits": (1, "Test bits per character")},
        ("baseline: character 6-gram",),
    ),
    "translation": Yardstick(
        "verses",
        {"chrf": (1, "Test chrF"), "bits": (1, "Test bits per character")},
        ("baseline: most frequent verse", "baseline: copying the source"),
    ),
}


# Rows


def key(row):
    return row["branch"], row["run"], row["seed"]


def read_rows():
    """The rows of results.csv, each a dict of strings."""
    try:
        with open(branches.ROOT / "results.csv", newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refusal(f"results.csv is no table in UTF-8: {error}") from None
    if reader.fieldnames != COLUMNS:
        raise Refusal(f"results.csv: its first line should be {','.join(COLUMNS)}")
    for line, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise Refusal(f"results.csv: line {line} should have {len(COLUMNS)} values")
    keys = [key(row) for row in rows]
    for one in keys:
        if keys.count(one) > 1:
            raise Refusal(f"results.csv: two rows for {', '.join(one)}")
    return rows


def add(row):
    """Put a row into results.csv, in place of the same run's if there is one, and into README."""
    rows = read_rows()  # anew, since they may have changed during a training
    place = [key(old) for old in [*rows, row]].index(key(row))
    rows[place : place + 1] = [row]
    made = tables(branches.todays_models(), rows)  # before anything is written: it may refuse
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    branches.write(branches.ROOT / "results.csv", text.getvalue())
    branches.write_readme(lambda text: branches.rewrite(text, "results.py", made))


def code(sums):
    """What stands for model.py and train.py in a row, made of {file: its SHA-256}."""
    return hashlib.sha256((sums["model.py"] + sums["train.py"]).encode()).hexdigest()[:12]


def todays_code(name):
    """What a row of a model bears if it is made by its files as they are now."""
    home = branches.ROOT / "models" / name
    return code({file: digest(home / file) for file in branches.COMPARED})


def finished(folder, busy=False):
    """The row of a finished run, from the weights.pt in its folder; without its time if `busy`."""
    import torch  # not before it is needed: all else here is done without it

    path = folder.resolve() / "weights.pt"
    run = re.fullmatch(r"(.+)-seed\d+", path.parent.name)
    if not path.is_file() or not run:
        raise Refusal(f"{folder} is no folder of a finished run, checkpoints/<Name>/<run>-seed<N>")
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():  # PyTorch itself does not look at the sums of what it reads
                raise zipfile.BadZipFile
        saved = torch.load(path, map_location="cpu", weights_only=True)
        result, made_by, data = saved["result"], saved["provenance"], saved["settings"]["data"]
        metrics = " ".join(f"{name}={value:.6g}" for name, value in result["metrics"].items())
        device = "" if made_by["device"] == "cpu" else f", {made_by['device']}"
        row = {
            "branch": path.parents[1].name,
            "run": run[1],
            "seed": saved["settings"]["seed"],
            "metrics": metrics,
            "split": result["split"],
            "seconds": "" if busy else f"{result['seconds']:.1f}",
            "processor": made_by["processor"] + device,
            "code": code(made_by["code"]),
        }
        row |= {name: int(result[name]) for name in ("epoch", "epochs", "parameters", "macs")}
        row |= {name: made_by[name] for name in ("threads", "python", "torch")}
    except Exception:
        raise Refusal(f"{path} is no result of this program, or a broken one") from None
    for model in [model for model in branches.todays_models() if model["name"] == row["branch"]]:
        if data != (usual := TASKS[model["task"]].data):
            raise Refusal(f"{folder} was trained on {data}; README's table is of {usual}")
    return {column: str(row[column]) for column in COLUMNS}


# Training


def wanted(models, seeds, again):
    """[(name, seed)] of the laptop runs that have no row, or with `again` one by older code."""
    rows = {key(row): row for row in read_rows()}
    runs = []
    for name in models:
        for seed in seeds:
            row = rows.get((name, LAPTOP, str(seed)))
            if row is None or again and row["code"] != todays_code(name):
                runs.append((name, seed))
    return runs


def time_left(runs, took):
    """In words, what these runs [(name, seed)] will take.

    It goes by the same branches' rows, or else by took, {name: seconds of each run now}.
    """
    seconds = {}
    for row in read_rows():
        if row["run"] == LAPTOP and row["seconds"]:
            seconds.setdefault(row["branch"], []).append(float(row["seconds"]))
    seconds = took | seconds
    known = [statistics.mean(seconds[name]) for name, _ in runs if name in seconds]
    if not known:
        return ""
    about = "about" if len(known) == len(runs) else "more than"
    return f", {about} {sum(known) / 60:.0f} min left"


def by_other_code(folder, branch):
    """Whether a run is by other code than a branch now has, as far as it matters.

    A finished run is of model.py and train.py; what is half way may use all but experiments.py.
    """
    import torch  # as above

    for path in (folder / "weights.pt", folder / "state.pt"):
        if path.exists():
            try:
                saved = torch.load(path, map_location="cpu", weights_only=True)
                sums = saved["provenance"]["code"]
                used = {*sums} - {"experiments.py"} if path.stem == "state" else branches.COMPARED
                files = [branch / name for name in used if (branch / name).exists()]
                return any(digest(file) != sums[file.name] for file in files)
            except Exception:
                return False  # a broken file, which train.py refuses
    return False


def lay_out(names):
    """These branches as their files are today in .branches/, beside what earlier runs left."""
    home = branches.ROOT / ".branches"
    with tempfile.TemporaryDirectory() as fresh:
        branches.preview(Path(fresh))
        for name in names:
            for old in (home / name).glob("*"):
                if old.name not in ("checkpoints", "data"):  # what was trained, and downloaded
                    shutil.rmtree(old) if old.is_dir() else old.unlink()
            shutil.copytree(Path(fresh, name), home / name, dirs_exist_ok=True)
    return home


def train(runs, busy):
    """Train these runs [(name, seed)] and add their rows; the number of those that failed."""
    home = lay_out({name for name, _ in runs})
    failed, took = [], {}
    for done, (name, seed) in enumerate(runs):
        left, began = time_left(runs[done:], took), time.monotonic()
        print(f"\n{name}, seed {seed}: run {done + 1} of {len(runs)}{left}", flush=True)
        branch = home / name
        folder = branch / "checkpoints" / name / f"{LAPTOP}-seed{seed}"
        command = [sys.executable, "train.py", "--seed", str(seed)]
        if by_other_code(folder, branch):
            command.append("--fresh")
        if subprocess.run(command, cwd=branch).returncode:
            failed.append(f"python {' '.join(command[1:])} in .branches/{name}")
        else:
            if (seconds := time.monotonic() - began) > 2:  # others were finished before
                took.setdefault(name, []).append(seconds)
            add(finished(folder, busy))
    if failed:
        print("\nFailed, for the reasons above:", *failed, sep="\n    ", file=sys.stderr)
    return len(failed)


# README


def tables(models, rows):
    """README's tables of results, as Markdown: one a task, and what they were measured on."""
    names = [model["name"] for model in models]
    tasks = list(dict.fromkeys(model["task"] for model in models))
    for task in tasks:
        if task not in TASKS:
            raise Refusal(f"results.py: TASKS has no yardstick for the task {task} of path.toml")
    shown = {*names, *(one for task in tasks for one in TASKS[task].baselines)}
    for row in rows:
        if row["branch"] not in shown:
            raise Refusal(f"results.csv: {row['branch']} is neither in path.toml nor a baseline")
    blocks = []
    for task in tasks:
        if len(tasks) > 1:
            blocks.append(f"### {task.capitalize()}")
        try:
            blocks.append(table(task, [model for model in models if model["task"] == task], rows))
        except (KeyError, ValueError) as error:
            raise Refusal(f"results.csv: a value is missing, or no number: {error}") from None
    if "†" in "".join(blocks):
        blocks.append("† Measured with an earlier version of model.py or train.py.")
    if any(row["processor"] for row in rows):
        blocks.append(machines(rows))
    return "\n\n".join(blocks)


def table(task, models, rows):
    yardstick = TASKS[task]
    headings = [heading for _, heading in yardstick.metrics.values()]
    shown = {*yardstick.baselines, *(model["name"] for model in models)}
    timed = any(row["seconds"] for row in rows if row["branch"] in shown)
    columns = ["Branch", "Parameters", "Multiply-accumulates", *headings]
    columns += ["Minutes"] if timed else []
    lines = [f"| {' | '.join(columns)} |", f"|---{'|--:' * (len(columns) - 1)}|"]
    for baseline in yardstick.baselines:
        if own := [row for row in rows if row["branch"] == baseline]:
            lines.append(line(f"*{baseline}*", own, yardstick, timed))
    for model in models:
        name = model["name"]
        own = [row for row in rows if row["branch"] == name]
        for run in dict.fromkeys([LAPTOP, *(row["run"] for row in own)]):
            label = f"{name}, `{run}`" if run != LAPTOP else name
            if run == LAPTOP and "row" in model:
                label += f" ({model['row']})"
            alike = [row for row in own if row["run"] == run]
            lines.append(line(label, alike, yardstick, timed, todays_code(name)))
    return "\n".join(lines)


def line(label, rows, yardstick, timed, today=None):
    """A line of a table: rows that differ in their seed alone.

    timed: whether the table has a column of minutes. today: the code without a mark.
    """
    if not rows:
        return f"| {label} | | | not run yet |{' |' * (len(yardstick.metrics) - 1 + timed)}"
    metrics = [dict(pair.split("=") for pair in row["metrics"].split()) for row in rows]
    measured = []
    for name, (factor, _) in yardstick.metrics.items():
        values = [factor * float(named[name]) for named in metrics if today or name in named]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        measured.append(f"{statistics.mean(values):.2f}{spread}" if values else "")
    about = [] if rows[0]["split"] in ("test", "") else [rows[0]["split"]]
    if rows[0]["seed"]:  # what only counts draws nothing at random
        about.append(f"{len(rows)} seed{'s' if len(rows) > 1 else ''}")
    about = f" ({', '.join(about)})" if about else ""
    parameters, macs = (
        f"{int(rows[0][name]):,}" if rows[0][name] else "" for name in ("parameters", "macs")
    )
    mark = " †" if today and any(row["code"] != today for row in rows) else ""
    cells = [label, parameters, macs, measured[0] + about + mark, *measured[1:]]
    if timed:
        minutes = [float(row["seconds"]) / 60 for row in rows if row["seconds"]]
        cells.append(f"{statistics.mean(minutes):.1f}" if minutes else "")
    return f"| {' | '.join(cells)} |"


def machines(rows):
    """What the rows were measured on: a sentence, or a list of machines."""
    named = {}
    for row in [row for row in rows if row["processor"]]:
        threads = f"{row['threads']} thread{'s' if row['threads'] != '1' else ''}"
        versions = f"PyTorch {row['torch']}, Python {row['python']}"
        where = f"{row['processor']} ({threads}), {versions}"
        named.setdefault(where, {})[row["branch"]] = None
    if len(named) == 1:
        return f"Measured on {next(iter(named))}."
    measured = (f"- {', '.join(names)}: {where}" for where, names in named.items())
    return "\n".join(["Measured on:", "", *measured])


def with_tables(text, models, rows):
    """README.md of main with its tables of results made anew."""
    return branches.rewrite(text, "results.py", tables(models, rows))


# The command line


def arguments(argv):
    description, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--models", nargs="+", metavar="NAME", help="default: all of path.toml")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", default=[0, 1, 2])
    parser.add_argument("--again", action="store_true", help="replace rows by older code")
    parser.add_argument(
        "--busy", action="store_true", help="record no times: the machine does other things, too"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="list what would be trained")
    what.add_argument("--add", type=Path, metavar="FOLDER", help="take in a finished run")
    what.add_argument("--readme", action="store_true", help="rewrite the tables in README.md")
    return parser.parse_args(argv)


def carry_out(options):
    models = branches.todays_models()
    names = [model["name"] for model in models]
    for name in options.models or ():
        if name not in names:
            raise Refusal(f"path.toml lists no {name}")
    if options.readme:
        return branches.write_readme(lambda text: with_tables(text, models, read_rows()))
    if options.add:
        row = finished(options.add, options.busy)
        if key(row) in map(key, read_rows()) and not options.again:
            raise Refusal(f"results.csv has {', '.join(key(row))} already; --again replaces it")
        return add(row)
    runs = wanted(options.models or names, options.seeds, options.again)
    if options.dry_run:
        for name, seed in runs:
            print(f"{name}, seed {seed}")
        print(f"{len(runs)} to train{time_left(runs, {})}")
        return 0
    failed = train(runs, options.busy) if runs else 0
    print(f"\nresults.csv has:\n\n{tables(models, read_rows())}")
    return failed


def main(argv=None):
    options = arguments(argv)
    try:
        return 1 if carry_out(options) else 0
    except KeyboardInterrupt:
        print("results.py: stopped; the same command goes on from here", file=sys.stderr)
        return 1
    except (Refusal, OSError, ImportError) as error:  # ImportError: PyTorch is not installed
        print(f"results.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
