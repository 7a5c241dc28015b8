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
    """[(do they stay, how many lines of old, how many of new)], in order, as `git diff` has it."""
    counts = [len(path.read_bytes().splitlines()) for path in (old, new)]
    words = ("--no-index", "--no-color", "--no-ext-diff", "--text", "--diff-algorithm=default")
    output = git("diff", *words, f"--unified={sum(counts)}", "--", old, new, good=(0, 1))
    if not output:
        return [(True, *counts)]
    signs = [row[:1] for row in output.split("\n@@ ", 1)[1].split("\n")[1:]]
    signs = [sign for sign in signs if sign != "\\"]  # "\ No newline at end of file" is no line
    found = []
    for stays, group in itertools.groupby(signs, lambda sign: sign not in ("-", "+")):
        group = list(group)
        found.append((stays, len(group) - group.count("+"), len(group) - group.count("-")))
    return found


def fold(count, first, last):
    """(lines shown, lines folded, lines shown) of `count` that stay."""
    before, after = 0 if first else CONTEXT, 0 if last else CONTEXT
    folded = count - before - after
    return (before, folded, after) if folded > 2 * CONTEXT else (count, 0, 0)


def comparison(old, new, old_home, new_home, page):
    """Two files as HTML, whose line numbers lead to `page` of each one's branch."""
    left, right = (highlighted(path.read_text(encoding="utf-8")) for path in (old, new))

    def half(tag, lines, start, count, home):
        rows = [
            line(lines[i], i + 1, f"{home}{page}#L{i + 1}") for i in range(start, start + count)
        ]
        return f"<{tag}>{''.join(rows)}</{tag}>"

    def block(kind, i, n, j, m):
        tags = ("del", "ins") if kind == "change" else ("div", "div")
        sides = half(tags[0], left, i, n, old_home) + half(tags[1], right, j, m, new_home)
        return f'<div class="{kind}">{sides}</div>\n' if n or m else ""

    made, i, j = "", 0, 0
    found = blocks(old, new)
    for place, (stays, n, m) in enumerate(found):
        if stays:
            before, folded, after = fold(n, place == 0, place == len(found) - 1)
            made += block("same", i, before, j, before)
            if folded:
                inside = block("same", i + before, folded, j + before, folded)
                made += f"<details><summary>{folded} lines stay</summary>{inside}</details>\n"
            made += block("same", i + n - after, after, j + n - after, after)
        else:
            made += block("change", i, n, j, m)
        i, j = i + n, j + m
    return f'<div class="highlight changes">{made}</div>\n'
