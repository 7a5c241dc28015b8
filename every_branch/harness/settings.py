"""Settings: what a run is made from, as one dataclass, and the command line made from it.

    @dataclass(frozen=True, kw_only=True)
    class Recipe(Settings):
        width: Positive  # share of the paper's channels
        lrn: bool = True  # local response normalization

    RECIPES = {"laptop": Recipe(data="fashion-mnist", epochs=30, ...), "paper": Recipe(...)}
    recipe = command_line(__doc__, RECIPES)

Every field is a flag (--width 0.5, --no-lrn), its comment the help, its type what is checked. The
values are those of the recipe that --recipe names, where no flag says otherwise. None: not set.
"""

import argparse
import dataclasses
import hashlib
import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from harness.about import comments, defaults_of
from harness.errors import Refusal, quoted
from harness.values import Count, Positive, Seed, Threads, expected, fits, inner, parse, parts


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of any run; a branch adds its own. Refusal if a value is not of its type."""

    data: str | None  # data set, by its name or its folder
    epochs: Count  # passes over the training data
    batch_size: Count  # examples a step
    lr: Positive  # learning rate, the highest one of the schedule
    limit: Count | None = None  # train on the first N examples only
    seed: Seed = 0  # of every random draw
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # where to compute
    threads: Threads | None = None  # of the processor; not set: as many as pay off
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 on GPUs where it pays off
    compile: bool = False  # let PyTorch compile the network first, for seconds to minutes
    micro_batch: Count | None = None  # examples of a batch in memory at once; not set: all
    checkpoint_every: Positive | None = None  # minutes; not set: after each epoch only
    fresh: bool = False  # start over, and drop what the same run left behind
    dry_run: bool = False  # one batch of everything; no run is written

    name: str = ""  # of the recipe
    defaults: "Settings | None" = dataclasses.field(default=None, repr=False, compare=False)

    # How a run goes: no part of its identity, though micro_batch also changes batch statistics.
    ASIDE: ClassVar = (
        *("device", "threads", "compile", "micro_batch", "checkpoint_every"),
        *("fresh", "dry_run"),
    )
    # Those that put a finished run to use, instead of training one: see use.py.
    USES: ClassVar = ()
    # The metric of the validation data that chooses the weights, and whether more of it is better;
    # None: the last weights are kept.
    chooses: ClassVar[str | None] = "loss"
    higher_is_better: ClassVar[bool] = False

    def __post_init__(self):
        for field in flags(type(self)):
            value = getattr(self, field.name)
            if not fits(field.type, value):
                name = f"{flag(field.name)} {quoted(value)}"
                raise Refusal(f"{name}: it should be {expected(field.type)}")
        for use in self.USES:
            if getattr(self, use) is not None and (self.fresh or self.dry_run):
                raise Refusal(f"{flag(use)} trains nothing: leave out --fresh and --dry-run")

    def refuse_idle(self, **idle):
        """Refusal for a setting that was changed though it would do nothing. {name: whether so}."""
        for name, nothing in idle.items():
            if nothing and getattr(self, name) != getattr(self.defaults or self, name):
                raise Refusal(f"{flag(name)} would do nothing here; --help says where it does")

    def but(self, **values):
        """The same settings with other values; a run's folder is named for what differs."""
        return dataclasses.replace(self, **values, defaults=self.defaults or self)

    def identity(self):
        """{setting: value} of all that decides what a run computes."""
        names = [field.name for field in flags(type(self)) if field.name not in self.ASIDE]
        return {"recipe": self.name} | {name: getattr(self, name) for name in names}

    def prefers(self, new, old):
        """Whether metrics are better than older ones; where nothing chooses, they are."""
        if self.chooses is None:
            return True
        new, old = new[self.chooses], old[self.chooses]
        return new > old if self.higher_is_better else new < old

    def changes(self):
        """The settings that are not the recipe's, each as the words of its flag."""
        for name, value in self.identity().items():
            if name not in ("recipe", "seed") and value != getattr(self.defaults or self, name):
                words = [flag(name, value).removeprefix("--")]
                if not isinstance(value, bool):
                    words += map(short, value if isinstance(value, tuple) else [value])
                yield words

    def title(self):
        """<recipe>[-flag-value...]-seed<N>, the name of the run's folder."""
        return "-".join([self.name, *sum(self.changes(), []), f"seed{self.seed}"])

    def in_words(self, *seeds):
        """The same for people, as the title of a picture, which may be of several seeds."""
        recipe, _, experiment = self.name.partition("-experiment-")
        words = [f"{recipe} recipe", *([experiment.replace("-", " ")] if experiment else [])]
        words += (" ".join([name.replace("-", " "), *value]) for name, *value in self.changes())
        seeds = seeds or [self.seed]
        return ", ".join([*words, f"seed{'s' * (len(seeds) > 1)} {' '.join(map(str, seeds))}"])

    def home(self, name):
        """The folder of the run of these settings, of the branch of that name; relative to ours."""
        return f"checkpoints/{name}/{self.title()}"

    def resolved(self, recipes):
        """What a command line comes to: these, or those of a finished run that it is about."""
        return self


def flags(kind):
    """The fields of a class of settings that are flags."""
    return [f for f in dataclasses.fields(kind) if f.name not in ("name", "defaults")]


def flag(name, value=None):
    """--batch-size; --no-lrn where the value is False."""
    return f"--{'no-' if value is False else ''}{name.replace('_', '-')}"


def short(value):
    """A value in the name of a folder: of a path the last part, and a sum if others may have it."""
    path = Path(str(value))
    if path.is_absolute() or len(path.parts) > 2 and path.parts[0] != "checkpoints":
        return f"{path.name}-{hashlib.sha256(os.fsencode(value)).hexdigest()[:6]}"
    return path.name


# The command line


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Refusal(f"{message} (--help lists what there is)")


def command_line(description, recipes, argv=None, prog=None):
    """The settings that the command line asks for.

    description: for --help, the docstring of the program. recipes: {name: Settings}, the default
    first, all of one class. Refusal for what does not fit.
    """
    parser = Parser(
        prog,
        description=inspect.cleandoc(description),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    default = next(iter(recipes))
    kind = type(recipes[default])
    every, own = (parser.add_argument_group(title) for title in ("every run", "this training"))
    every.add_argument("--recipe", choices=recipes, default=default, help=f"default: {default}")
    about, inherited = comments(kind), {field.name for field in flags(kind.__base__)}
    for field in flags(kind):
        text = about.get(field.name, "")
        if field.name not in ("fresh", "dry_run"):
            text += f"; {defaults_of(field.name, recipes)}"
        how = {"help": text.replace("%", "%%")}
        origin, of = parts(inner(field.type))
        if inner(field.type) is bool:
            aside = field.name in kind.ASIDE
            how["action"] = "store_true" if aside else argparse.BooleanOptionalAction
        elif origin is Literal:
            how["metavar"] = "{" + ",".join(map(str, of)) + "}"
        elif origin is tuple:
            how["nargs"] = "+"
        group = every if field.name in inherited else own
        group.add_argument(flag(field.name), default=None, **how)
    given = vars(parser.parse_args(argv))
    name = given.pop("recipe")
    values = {
        field.name: given[field.name]
        if isinstance(given[field.name], bool)
        else parse(field.type, given[field.name])
        for field in flags(kind)
        if given[field.name] is not None
    }
    recipe = dataclasses.replace(recipes[name], name=name)
    for field, value in values.items():
        usual = getattr(recipe, field)
        if isinstance(usual, tuple) and len(value) > len(usual):
            most = f"this recipe takes {len(usual)} at most"
            raise Refusal(f"{flag(field)} {quoted(value)}: {most}")
    return recipe.but(**values).resolved(recipes)
