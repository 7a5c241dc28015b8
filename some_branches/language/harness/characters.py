"""Text as numbers: someone's own file, and the characters that a text consists of."""

from harness.errors import Refusal, reason
from harness.files import readable

import torch


def read_own(path):
    """The text of someone's own file; Refusal if there is none."""
    readable(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{path} is no text in UTF-8: {reason(error)}") from None


class Characters:
    """The characters of a text, numbered in their order; all that are not in it share the last."""

    def __init__(self, text):
        self.known = "".join(sorted(set(text)))
        self.numbers = {character: number for number, character in enumerate(self.known)}

    def __len__(self):
        return len(self.known) + 1

    def encode(self, text):
        """The numbers of a text's characters, int64 [N]."""
        unknown = len(self.known)
        return torch.tensor([self.numbers.get(c, unknown) for c in text], dtype=torch.long)

    def decode(self, numbers):
        """The text that numbers [N] stand for."""
        return "".join((self.known + "\N{REPLACEMENT CHARACTER}")[number] for number in numbers)
