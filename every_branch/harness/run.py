"""A training run: its command line, its folder, its random state, its progress, its checkpoints.

train.py holds what there is to learn; this file keeps the books, the same on every branch:

    options = command_line(__doc__, RECIPES)
    run = Run("LeNet", options)                          # folder, device, seed
    train, validation, test = run.data(prepare)          # loaders of (images, labels)
    model = run.place(LeNet5(...))
    for epoch in run.epochs(model=model, optimizer=optimizer, schedule=schedule):
        for images, labels in run.batches(train):
            ...
            run.log(loss, scores, labels)
        run.validate(model, validation, criterion)
    run.finish(model, test)                              # the test set, once

A run lives in checkpoints/<Name>/<recipe>[-flag-value...]-seed<N>/. While it trains, state.pt
there holds all that is needed to go on, renewed after every epoch in one rename, so that a run
that was killed ends with the same weights as one that was not (on a CPU, bit for bit). A finished
run has weights.pt.
"""

import argparse
import csv
import hashlib
import math
import os
import platform
import random
import sys
import time
import warnings
from pathlib import Path

import torch
from tqdm import tqdm

from harness import data
from harness.data import refuse

ROOT = Path(__file__).resolve().parents[1]
CODE = ("model.py", "train.py", "harness/data.py", "harness/run.py")  # what decides the weights
CODE += ("experiments.py",)  # on a branch that has it
PRODUCTS = ("state.pt", "weights.pt", "history.csv", "curves.png", "predictions.png")
PRODUCTS += ("confusion.png", "filters.png")


# The command line


class Parser(argparse.ArgumentParser):
    def error(self, message):
        refuse(f"{message} (--help lists what there is)")


def positive(kind):
    def convert(text):
        value = kind(text)
        if not 0 < value < math.inf:
            raise ValueError
        return value

    convert.__name__ = f"positive {'number' if kind is float else 'whole number'}"
    return convert


def seed(text):
    value = int(text)
    if not 0 <= value < 2**32:
        raise ValueError
    return value


def finished_run(text):
    """The argument of --start-from: a run's folder, relative to the branch if it is inside."""
    folder = Path(text).resolve()
    if not (folder / "weights.pt").is_file():
        refuse(f"--start-from {text}: no finished run is there, with its weights.pt")
    return folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else str(folder)


def command_line(description, recipes, argv=None, start_from=None, experiments=None, **ablations):
    """The options of train.py, as a namespace.

    description: the docstring of train.py, shown by --help.
    recipes: {name: {"data": ..., "epochs": ..., "batch_size": ..., "lr": ..., and what else the
        recipe needs}}, the default first; the four named here can be overridden by flags. Where
        data is None, the flag has to be given.
    start_from: what --start-from does, where a model can begin with weights of a finished run.
    experiments: {name: (what --help says of it, its own recipes)}, comparisons of several models
        that --experiment picks from; no ablation goes with them.
    ablations: flag=(default, other choices...), which are keyword arguments of the model. A recipe
        may have another default.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a path may hold letters that a terminal lacks
    parser = Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    default = next(iter(recipes))
    every = [recipes, *(own for _, own in (experiments or {}).values())]
    names = list(dict.fromkeys(name for own in every for name in own))
    add = parser.add_argument
    if experiments:
        text = ". ".join(f"{name}: {about}" for name, (about, _) in experiments.items())
        add("--experiment", choices=experiments, help=text)
    add("--recipe", choices=names, default=default, help=f"default: {default}")
    add("--data", metavar="NAME", type=data.data_set, help=f"{', '.join(data.NAMES)}, or a folder")
    add("--epochs", type=positive(int), help="passes over the training images")
    add("--batch-size", type=positive(int), help="images a step")
    add("--lr", type=positive(float), help="learning rate, the highest one of the schedule")
    add("--seed", type=seed, default=0, help="of every random draw (default: 0)")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto")
    add("--limit", type=positive(int), metavar="N", help="train on the first N images only")
    if start_from:
        add("--start-from", metavar="RUN", type=finished_run, help=start_from)
    add("--fresh", action="store_true", help="start over, and drop what the same run left behind")
    add("--dry-run", action="store_true", help="one batch of everything, and nothing written")
    if ablations:
        group = parser.add_argument_group("ablations: switch one idea off, or choose another")
    ablations = {flag: list(choices) for flag, choices in ablations.items()}
    for flag, choices in ablations.items():
        name = "--" + flag.replace("_", "-")
        initial = {name: recipe.get(flag, choices[0]) for name, recipe in recipes.items()}
        if len(set(initial.values())) == 1:
            text = f"default: {initial[default]}"
        else:
            text = "default: " + ", ".join(f"{value} ({name})" for name, value in initial.items())
        group.add_argument(name, type=type(choices[0]), choices=choices, help=text)
    flags = parser.parse_args(argv)

    if experiments and flags.experiment:
        recipes = experiments[flags.experiment][1]
        wrong = [flag for flag in ablations if getattr(flags, flag) is not None]
        if wrong:
            name = wrong[0].replace("_", "-")
            parser.error(f"--{name} does not go with --experiment {flags.experiment}")
    if flags.recipe not in recipes:
        having = [name for name, (_, own) in experiments.items() if flags.recipe in own]
        parser.error(f"--recipe {flags.recipe} is there for --experiment {', '.join(having)}")
    recipe = recipes[flags.recipe]
    defaults = {"experiment": None} if experiments else {}
    defaults |= {**recipe, "limit": None}
    defaults |= {flag: recipe.get(flag, choices[0]) for flag, choices in ablations.items()}
    if start_from:
        defaults["start_from"] = None
    given = {key: value for key, value in vars(flags).items() if value is not None}
    options = {**defaults, **given}
    if options["data"] is None:
        parser.error(f"--recipe {flags.recipe} needs --data <folder of images>, or a data set")
    return argparse.Namespace(**options, defaults=defaults, ablations=[*ablations])


def choose_device(name):
    """The torch.device for --device."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind in ("cuda", "mps") if available[kind]), "cpu")
    if not available.get(name, True):
        refuse(f"--device {name}: PyTorch sees no such device here; --device cpu always works")
    return torch.device(name)


# Files that are whole or not there


def replace(path, write):
    """write(file name) to a temporary file, then rename it: `path` is never half written."""
    part = path.with_name(path.name + ".part")
    write(part)
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def write_csv(path, rows):
    """A list of dicts with the same keys, as a CSV file with a head line."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def load_file(path):
    """What torch.save wrote to a file, on the CPU; raises nearly anything if the file is broken."""
    with warnings.catch_warnings(action="ignore"):
        return torch.load(path, map_location="cpu", weights_only=True)


def read_checkpoint(path, identity, *needed):
    """The dict in a file that this run wrote; any other file is refused by name, unexecuted.

    needed: keys that the dict has to have besides the identity.
    """
    try:
        saved = load_file(path)
        theirs = saved["identity"]
        differing = [key for key in identity if theirs.get(key) != identity[key]]
        differing += theirs.keys() - identity.keys()
        if not differing and not saved.keys() >= set(needed):
            raise KeyError
    except Exception:
        refuse(f"{path} is no checkpoint of this program, or a broken one; --fresh starts over")
    if not differing:
        return saved
    key = differing[0]
    if key in CODE:
        refuse(f"{path} was made by other code: {key} has changed since; --fresh starts over")
    there, here = theirs.get(key), identity.get(key)
    refuse(f"{path} is of another run: {key} is {there} there, {here} here; --fresh starts over")


def random_state(device):
    """The state of every random generator that training on `device` may draw from."""
    state = {"python": random.getstate(), "cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state, device):
    """Back to a random_state(); what the device draws goes on only on a device of the same kind."""
    random.setstate(state["python"])
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    if device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


def share_right(predicted, true):
    """The share of the true classes that are among the predicted ones."""
    return (predicted == true).sum().item() / len(true)


def short(value):
    """A setting in the name of a run's folder: of a path the last part, and a sum if it is far."""
    path = Path(str(value))
    if path.is_absolute():
        return f"{path.name}-{hashlib.sha256(str(value).encode()).hexdigest()[:6]}"
    return path.name


def clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}"


# The run


def in_turn(title, variants):
    """Yield each of a list of variants, with a line that says which it is, and what is left."""
    times = []
    for done, variant in enumerate(variants):
        words = ", ".join(f"{key} {value}" for key, value in variant.items())
        trained = [seconds for seconds in times if seconds > 2]  # the others were finished before
        left = sum(trained) / max(len(trained), 1) * (len(variants) - done)
        about = f", about {clock(left)} min left" if trained else ""
        print(f"\n{title}, {done + 1} of {len(variants)}: {words}{about}", flush=True)
        began = time.perf_counter()
        yield variant
        times.append(time.perf_counter() - began)


class Diverged(SystemExit):
    """A loss that is not finite: ends the program with exit code 1 and this message on stderr.

    A comparison may catch it, and go on without the run.
    """


class Run:
    """One training run of one model; a process may hold several, one after another.

    name: of the branch. options: from command_line(). variant: options that this run overrides,
    as when a script trains one model with and without an idea.
    """

    def __init__(self, name, options, **variant):
        settings = {**vars(options), **variant}
        defaults = settings.pop("defaults")
        self.dry_run, self.fresh = settings.pop("dry_run"), settings.pop("fresh")
        self.device = choose_device(settings.pop("device"))
        self.ablations = {flag: settings[flag] for flag in settings.pop("ablations")}
        self.settings, self.variant = settings, variant
        changed = "".join(
            f"-{key.replace('_', '-')}-{short(settings[key])}"
            for key in defaults
            if settings[key] != defaults[key]
        )
        title = f"{settings['recipe']}{changed}-seed{settings['seed']}"
        self.title = f"{name}, {title}"
        self.folder = ROOT / "checkpoints" / name / title
        sums = {
            file: hashlib.sha256((ROOT / file).read_bytes()).hexdigest()
            for file in CODE
            if (ROOT / file).exists()
        }
        self.identity = {"model": name, **settings, **sums}
        if settings.get("start_from"):
            self.start = ROOT / settings["start_from"] / "weights.pt"
            with open(self.start, "rb") as file:
                started = hashlib.file_digest(file, "sha256").hexdigest()
            self.identity["weights at the start"] = started[:12]

        self.epoch, self.history, self.best = 0, [], {"accuracy": -1.0}
        self.loaded, self.saved, self.result = (None, None), None, None
        random.seed(settings["seed"])
        torch.manual_seed(settings["seed"])

    def load(self, side):
        """The data set as a data.Data, read once. Sets self.classes and self.channels.

        Where the settings have a fold, from 1 to folds, it is the one that validates.
        """
        if self.loaded[0] != side:
            name, limit = self.settings["data"], self.settings["limit"]
            loaded = data.load(name, ROOT / "data", limit, side)
            if self.settings.get("fold"):
                loaded = data.fold(loaded, self.settings["fold"], self.settings["folds"])
            self.loaded = side, loaded
        loaded = self.loaded[1]
        self.classes, self.channels = loaded.classes, loaded.channels
        return loaded

    def colors(self, side):
        """Mean [C] and covariance [C, C] of the training images' colours; side as for data()."""
        return data.colors(self.load(side).train)

    def data(self, prepare, augment=None, side=224, whole=False):
        """Three loaders of (images, labels): training, validation and test.

        prepare: uint8 images [B, C, H, W] to the network's float input; augment: what training
        images go through after that. side: of the square that the images of a folder are brought
        to before both. whole: only the training images are; of validation and test images, the
        shorter side is brought to it, and they come one at a time, since each has a shape of its
        own. Sets self.classes and self.channels.

        Where a folder has no test images, the third loader is the second, and the result is named
        for what it is.
        """
        settings, loaded = self.settings, self.load(side)
        self.last_split = "test" if loaded.test else "validation"
        if isinstance(loaded.train, data.Images):
            self.identity["files"] = data.digest(loaded)
        self.recall()
        size = settings["batch_size"]

        def augmented(images):
            return augment(prepare(images)) if augment else prepare(images)

        def unchanged(split):
            at_once = max(size, 250)
            if isinstance(split, data.Images):
                split.whole, at_once = whole, 1 if whole else at_once
            return data.batches(split, at_once, prepare, False, self.device)

        train = data.batches(loaded.train, size, augmented, True, self.device)
        validation, test = (
            unchanged(split) if split else None for split in (loaded.validation, loaded.test)
        )
        return train, validation, test or validation

    def recall(self):
        """Read what the same run left behind, finished or not; refuse what is of another."""
        if self.fresh or self.dry_run:
            return
        if (self.folder / "weights.pt").exists():
            finished = read_checkpoint(
                self.folder / "weights.pt", self.identity, "result", "history", "weights"
            )
            self.result, self.history = finished["result"], finished["history"]
            self.best["weights"] = finished["weights"]
        elif (self.folder / "state.pt").exists():
            self.saved = read_checkpoint(self.folder / "state.pt", self.identity, "epoch")

    def place(self, model):
        """The model on this run's device, in the memory layout that convolutions are fastest in."""
        return model.to(self.device, memory_format=torch.channels_last)

    def carry_over(self, model, stages):
        """Copy the weights of the named stages from the run that --start-from names."""
        shapes = {
            key: value.shape
            for key, value in model.state_dict().items()
            if key.split(".")[0] in stages
        }
        try:
            weights = load_file(self.start)["weights"]
            misfits = [
                key
                for key, shape in shapes.items()
                if key not in weights or weights[key].shape != shape
            ]
        except Exception:
            refuse(f"{self.start} holds no weights of this program, or is broken")
        if misfits:
            refuse(f"{self.start} does not fit: {misfits[0]} is not there, or of another shape")
        model.load_state_dict({key: weights[key] for key in shapes}, strict=False)

    def epochs(self, **state):
        """Yield the number of each epoch that is left, from 1; save after each.

        state: what a checkpoint holds (model=, optimizer=, schedule=): all that has a state_dict.
        """
        if self.result:
            return
        self.state = state
        total = self.settings["epochs"]
        if self.saved:
            self.restore()
        elif not self.dry_run:
            self.folder.mkdir(parents=True, exist_ok=True)
            for product in PRODUCTS:
                (self.folder / product).unlink(missing_ok=True)
            self.save()
        parameters = sum(p.numel() for p in state["model"].parameters())
        print(
            f"{self.title}: {parameters:,} parameters, on {self.describe_machine()}",
            f"{total} epochs" + (f", {self.epoch} of them done before" if self.epoch else ""),
            sep="\n",
            flush=True,
        )
        sys.excepthook = self.interrupted
        while self.epoch < total:
            self.epoch += 1
            self.started = time.perf_counter()
            self.lr = state["optimizer"].param_groups[0]["lr"]
            yield self.epoch
            if self.dry_run:
                return
            self.save()

    def batches(self, loader):
        """Yield the batches of one epoch behind a progress bar."""
        self.seen, self.loss, self.right = 0, 0.0, 0
        self.checked = began = time.perf_counter()
        with self.progress(loader, f"epoch {self.epoch}/{self.settings['epochs']}") as self.bar:
            for batch in loader:
                yield batch
                if self.dry_run:
                    break
        speed = self.seen / (time.perf_counter() - began)
        self.trained = {**self.averages(), "images_per_second": speed}

    def progress(self, loader, title):
        """A bar over the images of a loader; none where the output is no terminal."""
        images = len(loader.dataset)
        return tqdm(total=images, desc=title, unit=" images", leave=False, disable=None)

    def log(self, loss, scores, labels):
        """Count a training batch. The loss is a mean over the batch, scores are [B, classes]."""
        count = len(labels)
        self.seen += count
        # Kept on the device: .item() at each step would make it wait for the processor.
        self.loss += loss.detach() * count
        self.right += (scores.detach().argmax(1) == labels).sum()
        self.bar.update(count)
        if time.perf_counter() - self.checked > 1:
            self.bar.set_postfix({key: f"{value:.4f}" for key, value in self.averages().items()})
            self.checked = time.perf_counter()

    def averages(self):
        """Mean loss and accuracy over the images seen in this epoch; stops if it has diverged."""
        loss = float(self.loss) / self.seen
        if not math.isfinite(loss):
            self.bar.close()
            lr, seen = self.settings["lr"], f"{self.seen:,} images into epoch {self.epoch}"
            sys.excepthook = sys.__excepthook__
            raise Diverged(
                f"The loss is {loss}, {seen}: training has diverged, and stops. "
                f"Try a learning rate below --lr {lr:g}"
            )
        return {"loss": loss, "accuracy": float(self.right) / self.seen}

    @torch.inference_mode()
    def evaluate(self, model, loader, criterion=None, title="test", predict=None):
        """(mean loss, up to five classes with the best scores [N, 5], true classes [N]).

        predict(model, images): the scores, where they are not simply model(images).
        """
        training = model.training
        model.eval()
        loss, predicted, true = 0.0, [], []
        with self.progress(loader, title) as bar:
            for images, labels in loader:
                scores = predict(model, images) if predict else model(images)
                if criterion:
                    loss += criterion(scores, labels) * len(labels)
                ranked = scores.sort(dim=1, descending=True, stable=True).indices
                predicted.append(ranked[:, :5])
                true.append(labels)
                bar.update(len(labels))
                if self.dry_run:
                    break
        model.train(training)
        predicted, true = torch.cat(predicted).cpu(), torch.cat(true).cpu()
        return float(loss) / len(true), predicted, true

    def validate(
        self, model, loader, criterion, predict=None, others=None, measured=None, choose=True
    ):
        """Accuracy on the validation images; ends the epoch's line and keeps the best weights.

        others: {name: another predict}, the accuracy of which is for history.csv alone, as are
        the numbers in measured, {column: number}. Without choose, the last weights are kept.
        """
        loss, predicted, true = self.evaluate(model, loader, criterion, "validation", predict)
        accuracy = share_right(predicted[:, 0], true)
        now = {"loss": loss, "accuracy": accuracy}
        row = {"epoch": self.epoch}
        row |= {f"train_{key}": self.trained[key] for key in now}
        row |= {f"validation_{key}": value for key, value in now.items()}
        for name, other in (others or {}).items():
            _, theirs, _ = self.evaluate(model, loader, title=name, predict=other)
            row[f"validation_accuracy_{name}"] = share_right(theirs[:, 0], true)
        row |= measured or {}
        row["lr"] = self.lr
        row["images_per_second"] = self.trained["images_per_second"]
        row["seconds"] = time.perf_counter() - self.started
        self.history.append(row)
        better = accuracy > self.best["accuracy"] or not choose
        if better:
            weights = {
                key: value.detach().to("cpu", copy=True)
                for key, value in model.state_dict().items()
            }
            self.best = {"accuracy": accuracy, "epoch": self.epoch, "weights": weights}
        left = (self.settings["epochs"] - self.epoch) * row["seconds"]
        print(
            f"epoch {self.epoch:>3}/{self.settings['epochs']}"
            f"   train: loss {row['train_loss']:.4f}, accuracy {row['train_accuracy']:.4f}"
            f"   validation: loss {loss:.4f}, accuracy {accuracy:.4f}{'*' if better else ' '}"
            f"   {row['images_per_second']:,.0f} images/s, {clock(left)} left",
            flush=True,
        )
        return accuracy

    def finish(self, model, loader=None, predict=None, pictures=True):
        """Test the best weights by validation, once; write weights and pictures; the result.

        Leaves those weights in the model. Without a loader nothing is tested or drawn.
        """
        if self.dry_run:
            parts = "training and validation"
            if loader:
                self.evaluate(model, loader, predict=predict)
                parts = "training, validation and test"
            print(f"Dry run: a batch of {parts} went through; nothing written")
            return None
        model.load_state_dict(self.best["weights"])
        if self.result:
            print(f"{self.title}: finished before. {self.summary()}")
            print(f"In {self.folder}; --fresh trains it again")
            return self.result
        self.result = {
            "chosen_at": self.best["accuracy"],
            "split": self.last_split if loader else None,
            "epoch": self.best["epoch"],
            "seconds": sum(row["seconds"] for row in self.history),
            "machine": self.describe_machine(),
        }
        drawing = loader and pictures
        if loader:
            _, predicted, true = self.evaluate(model, loader, predict=predict)
            self.result |= {
                f"{self.last_split}_accuracy": share_right(predicted[:, 0], true),
                f"{self.last_split}_top5": share_right(predicted, true[:, None]),
                "images": len(true),
            }
            if drawing:
                self.draw(model, loader, predicted[:, 0], true)
        whole = {
            "identity": self.identity,
            "result": self.result,
            "history": self.history,
            "weights": self.best["weights"],
        }
        replace(self.folder / "weights.pt", lambda path: torch.save(whole, path))
        (self.folder / "state.pt").unlink()
        sys.excepthook = sys.__excepthook__
        print(self.summary())
        products = "Weights, history.csv and pictures" if drawing else "Weights and history.csv"
        print(f"{products} are in {self.folder}")
        return self.result

    def compare(self, runs, panels, quantity, level=None):
        """Write points.csv, every epoch of several runs, and curves.png, by plots.comparison().

        Both go to the folder of this run, which stands for the comparison and is not trained.
        """
        from harness import plots

        varied = list(dict.fromkeys(key for run in runs for key in run.variant))
        rows = [
            {key: run.settings[key] for key in varied} | row for run in runs for row in run.history
        ]
        columns = dict.fromkeys(key for row in rows for key in row)
        rows = [{key: row.get(key, "") for key in columns} for row in rows]
        self.folder.mkdir(parents=True, exist_ok=True)
        replace(self.folder / "points.csv", lambda path: write_csv(path, rows))
        replace(
            self.folder / "curves.png",
            lambda path: plots.comparison(path, panels, quantity, level, self.title),
        )
        print(f"The curves are in {self.folder / 'curves.png'}, every point in points.csv there")

    def summary(self):
        result, split = self.result, self.result["split"]
        trained = f"trained in {clock(result['seconds'])} min on {result['machine']}"
        if split is None:
            return f"Validation accuracy {result['chosen_at']:.2%}, not tested; {trained}"
        if split == "test":
            chosen = f"validation {result['chosen_at']:.2%}"
        else:
            chosen = f"chosen at {result['chosen_at']:.2%} on the same images: no others to test on"
        top5 = f" (top five: {result[f'{split}_top5']:.2%})" if len(self.classes) > 10 else ""
        return (
            f"{split.capitalize()} accuracy {result[f'{split}_accuracy']:.2%}{top5} on "
            f"{result['images']:,} images, with the weights of epoch {result['epoch']} ({chosen}); "
            f"{trained}"
        )

    def draw(self, model, loader, predicted, true):
        """The pictures of a finished run."""
        from harness import plots  # matplotlib takes a second to import: not before it is needed

        count = min(40, len(true))
        images = []
        for batch, _ in loader:
            images += batch[: count - len(images)].cpu()
            if len(images) == count:
                break
        classes = len(self.classes)
        matrix = torch.bincount(true * classes + predicted, minlength=classes**2)
        kernels = next((p for p in model.parameters() if p.dim() == 4), None)
        pictures = {
            "curves.png": lambda path: plots.learning_curves(path, self.history, self.title),
            "predictions.png": lambda path: plots.predictions(
                path, images, true[:count], predicted[:count], self.classes, self.last_split
            ),
            "confusion.png": lambda path: plots.confusion_matrix(
                path, matrix.view(classes, classes), self.classes, self.last_split
            ),
        }
        if kernels is not None:
            title = "Filters of the first convolution"
            pictures["filters.png"] = lambda path: plots.filters(
                path, kernels.detach().cpu(), title
            )
        for name, draw in pictures.items():
            replace(self.folder / name, draw)

    # Checkpoints

    def save(self):
        """All that a run needs to go on, in one file and one rename; history.csv beside it."""
        checkpoint = {
            "identity": self.identity,
            "epoch": self.epoch,
            "history": self.history,
            "best": self.best,
            "random": random_state(self.device),
            **{key: part.state_dict() for key, part in self.state.items()},
        }
        replace(self.folder / "state.pt", lambda path: torch.save(checkpoint, path))
        self.saved_epoch = self.epoch
        if self.history:
            replace(self.folder / "history.csv", lambda path: write_csv(path, self.history))

    def restore(self):
        """Bring model, optimizer, schedule and random states back to the last saved epoch."""
        try:
            for key, part in self.state.items():
                part.load_state_dict(self.saved[key])
            set_random_state(self.saved["random"], self.device)
            self.epoch, self.history = self.saved["epoch"], self.saved["history"]
            self.best, self.saved_epoch = self.saved["best"], self.epoch
        except Exception:
            refuse(f"{self.folder / 'state.pt'} does not fit this model; --fresh starts over")

    def interrupted(self, kind, error, trace):
        """sys.excepthook while training: Ctrl-C gets a line instead of a traceback."""
        if kind is not KeyboardInterrupt or self.dry_run:
            return sys.__excepthook__(kind, error, trace)
        print(
            f"\nStopped. {self.folder / 'state.pt'} holds epoch {self.saved_epoch}; "
            "the same command goes on from there",
            file=sys.stderr,
        )

    def describe_machine(self):
        """Hardware and versions, for the record."""
        if self.device.type == "cuda":
            where = torch.cuda.get_device_name(self.device)
        else:
            where = f"{self.device.type} ({torch.get_num_threads()} threads)"
        return f"{where}, Python {platform.python_version()}, PyTorch {torch.__version__}"
