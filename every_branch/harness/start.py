"""Beginning with weights of another run, as --start-from asks."""

import hashlib

from harness import ROOT, checkpoint
from harness.errors import Refusal


class Start:
    """The finished run in a folder, which lends its weights; where there is no folder, none.

    identity: what tells a run with this start from others. Refusal if the folder has no such run.
    """

    def __init__(self, folder):
        self.folder, self.weights, self.identity = folder, None, {}
        if folder is not None:
            self.weights = checkpoint.weights(ROOT / folder)
            file = (ROOT / folder / "weights.pt").read_bytes()
            self.identity = {"weights at the start": hashlib.sha256(file).hexdigest()[:12]}

    def carry_over(self, model, stages):
        """Copy the weights of the named stages into a model; Refusal if they do not fit."""
        if self.weights is None:
            return
        own = {k: v for k, v in model.state_dict().items() if k.split(".")[0] in stages}
        for key, value in own.items():
            if key not in self.weights or self.weights[key].shape != value.shape:
                raise Refusal(
                    f"--start-from {self.folder} does not fit: {key} is missing or of another shape"
                )
        model.load_state_dict({key: self.weights[key] for key in own}, strict=False)
