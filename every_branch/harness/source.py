"""Whether two files of code do the same, as far as their text tells."""

import hashlib
import io
import tokenize
from functools import lru_cache

ENDS = (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT)


def digest(path):
    """SHA-256 of a file of code: of its text, but for what changes nothing that it does.

    That is comments, docstrings, blank lines, and the order of the imports. Of a file that is no
    Python yet, such as somebody's notes, it is all of its bytes.
    """
    return of(path.read_bytes())


@lru_cache(maxsize=64)  # a comparison asks for each of its runs
def of(content):
    """The same of what is in a file."""
    try:
        text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8").read()
        tokens = [*tokenize.generate_tokens(io.StringIO(text).readline)]
    except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
        return hashlib.sha256(content).hexdigest()
    lines, before = text.split("\n"), tokenize.NEWLINE
    for token, after in zip(tokens, tokens[1:]):
        alone = before in ENDS and after.type == tokenize.NEWLINE
        (first, start), (last, end) = token.start, token.end
        if token.type == tokenize.COMMENT or token.type == tokenize.STRING and alone:
            rest = lines[last - 1][end:]
            lines[first - 1] = lines[first - 1][:start].rstrip() + rest
            lines[first:last] = [""] * (last - first)
        before = token.type if token.type != tokenize.COMMENT else before
    lines = [line for line in lines if line]
    lines.sort(key=lambda line: line if line.startswith(("from ", "import ")) else "~")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
