"""The code of a branch as HTML, and the line of it that a lesson quotes."""

import re

from branches import COMPARED

import pygments
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer


def in_order(files):
    """The names of a branch's files, model.py and train.py first."""
    return sorted(files, key=lambda name: (name not in COMPARED, name))


def highlighted(text):
    """The lines of a Python file as HTML, each whole in itself."""
    lexer, formatter = PythonLexer(stripnl=False), HtmlFormatter(nowrap=True)
    return pygments.highlight(text, lexer, formatter).removesuffix("\n").split("\n")


def line(html, number, href, anchor=""):
    """A line with its number, which is no text: nobody wants to copy it or to hear it read out."""
    anchor = f' id="{anchor}"' if anchor else ""
    number = f'<a class="number" href="{href}" data-n="{number}" tabindex="-1" aria-hidden="true">'
    return f'<span class="line"{anchor}>{number}</a><code>{html}\n</code></span>'


def listing(text):
    """A whole file, whose line 7 has the anchor L7."""
    lines = [line(html, n, f"#L{n}", f"L{n}") for n, html in enumerate(highlighted(text), 1)]
    return f'<div class="highlight listing"><pre tabindex="0">{"".join(lines)}</pre></div>\n'


def find(quote, files):
    """(file, line) where the first of `files`, {name: text}, has `quote` exactly once, or None.

    A name stands for its definition. "..." stands for anything within a line, and a quote may be
    broken otherwise than the code, as it is where it stands in the cell of a table.
    """
    if quote in files:
        return quote, 1
    for file, text in files.items():
        # The commands at its head are quoted for what they do.
        text = re.sub(r'\A""".*?"""', lambda head: "\n" * head[0].count("\n"), text, flags=re.S)
        if re.fullmatch(r"\w+", quote):
            pattern = rf"^ *(?:def|class) {quote}\b|^{quote}\b(?=.* = )"
        elif len(quote) < 6:
            return None  # so short, it is found by accident
        else:
            words = re.findall(r"\.\.\.|\w+|\S", quote)
            pattern = r"\s*".join(".*?" if word == "..." else re.escape(word) for word in words)
            pattern = rf"(?<!\w){pattern}" if quote[0].isalnum() else pattern
            pattern = rf"{pattern}(?!\w)" if quote[-1].isalnum() else pattern
        found = [match.start() for match in re.finditer(pattern, text, re.M)]
        if len(found) == 1:
            start = found[0] + len(re.match(r"\s*", text[found[0] :])[0])
            return file, text.count("\n", 0, start) + 1
    return None
