"""A finished run put to use, as --sample and --translate ask, instead of trained."""

from harness import checkpoint, contents
from harness.errors import Refusal


def need_finished(run, setting):
    """Refusal if a setting asks for something of the finished run, and it is not finished."""
    if getattr(run.settings, setting) is not None and not run.finished:
        raise Refusal(
            f"--{setting}: {run.folder} holds no finished run; the same command without "
            f"--{setting} trains it"
        )


def bring_back(run, model):
    """Load the weights of a finished run into its model; Refusal if they are not of it."""
    with checkpoint.fitting(run.folder / "weights.pt"):
        contents.need_like(run.finished["weights"], model.state_dict(), "weights")
    model.load_state_dict(run.finished["weights"])
