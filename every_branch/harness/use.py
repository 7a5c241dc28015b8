"""A finished run put to use, as --sample, --translate and --predict ask, instead of trained."""

import contextlib
import dataclasses

from harness import ROOT, checkpoint, contents
from harness.errors import Refusal, quoted
from harness.likeness import Unfit, need_keys
from harness.source import digest
from harness.values import relative


def need_finished(run, *uses):
    """Refusal if a setting asks for something of the finished run, and it is not finished."""
    for name in uses:
        if getattr(run.settings, name) is not None and not run.finished:
            raise Refusal(
                f"--{name}: {run.folder} holds no finished run; the same command without "
                f"--{name} trains it"
            )


def bring_back(run, model):
    """Load the weights of a finished run into its model; Refusal if they are not of it."""
    with checkpoint.fitting(run.folder / "weights.pt"):
        contents.need_like(run.finished["weights"], model.state_dict(), "weights")
    model.load_state_dict(run.finished["weights"])


def told(folder):
    """What the finished run in a folder tells of itself, a dict; Unfit."""
    saved = checkpoint.load(folder / "weights.pt")
    contents.need_origin(saved, {"code": {}})
    need_keys(saved["settings"], ["recipe"], "settings", others=True)
    return saved


def newest(title):
    """The folder of a finished run of train.py with this model.py; None if there is none.

    One of that title comes first, and then the newest. Checkpoints of other branches, and runs of
    experiments.py, lie beside them.
    """
    code = digest(ROOT / "model.py")
    runs = [path.parent for path in (ROOT / "checkpoints").glob("*/*/weights.pt")]
    runs.sort(key=lambda run: (run.name == title, (run / "weights.pt").stat().st_mtime))
    for run in reversed(runs):
        with contextlib.suppress(Unfit):
            same = told(run)["provenance"]["code"].get("model.py") == code
            if same and "-experiment-" not in run.name:
                return run
    return None


def resolved(settings, recipes):
    """The settings of the finished run that a command line is about, as far as it tells.

    That is the run in settings.run, or the one that the command would train. If no flag says which,
    and that one is not there, it is the newest one that is.
    """
    name, recipe = next(iter(recipes.items()))
    if settings.title() != dataclasses.replace(recipe, name=name).title():
        if settings.run:
            raise Refusal("--run: that run has settings of its own; leave out the flags of others")
        return settings
    folder = ROOT / settings.run if settings.run else newest(settings.title())
    if folder is None:
        return settings
    try:
        theirs = told(folder)["settings"]
    except Unfit as unfit:
        raise Refusal(f"{folder / 'weights.pt'} {unfit}") from None
    name = str(theirs["recipe"])
    recipe = recipes.get(name.partition("-experiment-")[0])
    if recipe is None:
        raise Refusal(f"{folder} is of the recipe {quoted(name)}, which this branch does not have")
    recipe = dataclasses.replace(recipe, name=name)
    known = {key: theirs[key] for key in theirs.keys() & recipe.identity().keys() - {"recipe"}}
    ours = {key: getattr(settings, key) for key in settings.ASIDE}
    return recipe.but(**known, **ours | {"run": relative(folder)})
