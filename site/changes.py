"""What changed from a parent to its child, as HTML that is read side by side or unified.

Both views are the same elements: style.css lays the two halves of a block beside each other, or
one below the other. A switch on the page chooses, without a script.
"""

import itertools

from branches import git
from listing import highlighted, line

CONTEXT = 3  # unchanged lines that stay unfolded around a change
SWITCH = """\
<fieldset class="switch"><legend>Show the changes</legend>
<label><input type="radio" name="view" id="beside" checked> side by side</label>
<label><input type="radio" name="view" id="unified"> unified</label>
</fieldset>
"""


def blocks(old, new):
    """[(same, lines of old, lines of new)] of two files, in order, as `git diff` sees them."""
    everything = sum(len(path.read_bytes().splitlines()) for path in (old, new))
    words = ("--no-index", "--no-color", "--no-ext-diff", "--text", "--diff-algorithm=default")
    output = git("diff", *words, f"--unified={everything}", "--", old, new, good=(0, 1))
    if not output:
        lines = old.read_text(encoding="utf-8").splitlines()
        return [(True, lines, lines)]
    body = output.split("\n@@ ", 1)[1].split("\n")[1:]
    found = []
    for same, group in itertools.groupby(body, lambda row: row[:1] not in ("-", "+", "\\")):
        group = list(group)
        came = [row[1:] for row in group if row[:1] != "-" and row[:1] != "\\"]
        went = [row[1:] for row in group if row[:1] != "+" and row[:1] != "\\"]
        found.append((same, went, came))
    return found


def folds(count, first, last):
    """(lines shown before, lines folded, lines shown after) of `count` unchanged lines."""
    before, after = 0 if first else CONTEXT, 0 if last else CONTEXT
    folded = count - before - after
    return (before, folded, after) if folded > 2 * CONTEXT else (count, 0, 0)


def comparison(old, new, old_page, new_page):
    """The blocks of two files as HTML. Each page is where the lines of that file have anchors."""
    left, right = (highlighted(path.read_text(encoding="utf-8")) for path in (old, new))

    def half(tag, lines, start, stop, page):
        rows = [line(lines[i], i + 1, f"{page}#L{i + 1}") for i in range(start, stop)]
        return f"<{tag}>{''.join(rows)}</{tag}>"

    def pair(kind, i, n, j, m):
        sides = half("del" if kind == "change" else "div", left, i, i + n, old_page)
        sides += half("ins" if kind == "change" else "div", right, j, j + m, new_page)
        return f'<div class="{kind}">{sides}</div>\n'

    html, i, j = [], 0, 0
    found = blocks(old, new)
    for place, (same, went, came) in enumerate(found):
        n, m = len(went), len(came)
        if same:
            before, folded, after = folds(n, place == 0, place == len(found) - 1)
            middle = pair("same", i + before, folded, j + before, folded)
            html += [
                pair("same", i, before, j, before) if before else "",
                f"<details><summary>{folded} lines stay</summary>{middle}</details>\n"
                if folded
                else "",
                pair("same", i + n - after, after, j + m - after, after) if after else "",
            ]
        else:
            html.append(pair("change", i, n, j, m))
        i, j = i + n, j + m
    return f'<div class="highlight changes">{"".join(html)}</div>\n'
