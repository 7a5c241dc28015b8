"""What a result costs: a plot of a task's models over their multiply-accumulates, as SVG.

Drawn by hand, since it takes its colors from the page, light or dark, and its points are links.
"""

import html
import math
import statistics

import results

WIDTH, HEIGHT = 720, 430
LEFT, RIGHT, TOP, BOTTOM = 60, 700, 20, 380  # the edges of the axes
LETTER = 7.2  # the mean width of one, in pixels of the drawing


def measured(task, models, rows):
    """{name: (multiply-accumulates, mean of the task's first metric)} of the laptop recipes."""
    metric, (factor, _) = next(iter(results.TASKS[task].metrics.items()))
    found = {}
    for model in models:
        own = [r for r in rows if (r["branch"], r["run"]) == (model["name"], results.LAPTOP)]
        values = [dict(pair.split("=") for pair in row["metrics"].split()) for row in own]
        if own:
            mean = statistics.mean(factor * float(value[metric]) for value in values)
            found[model["name"]] = int(own[0]["macs"]), mean
    return found


def ticks(low, high):
    """Round numbers from low to high, at least four of them."""
    step = 10 ** math.floor(math.log10(high - low))
    while (high - low) / step < 4:
        step /= 2
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def short(number):
    """100,000 as 100 k."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def words(text, x, y, anchor="middle", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{html.escape(text)}</text>'


def places(spots, labels):
    """{name: (x, y, anchor)} of labels that meet neither a point nor each other, if it can be."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in spots.values()]
    found = {}
    for name, (x, y) in spots.items():
        width, choices = LETTER * len(labels[name]), []
        for dx, dy, anchor, back in (
            (11, 4, "start", 0),
            (-11, 4, "end", 1),
            (0, -12, "middle", 0.5),
            (0, 22, "middle", 0.5),
        ):
            left, top = x + dx - back * width, y + dy - 12
            box = left, top, left + width, top + 16
            met = sum(
                box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
                for other in taken
            )
            outside = box[0] < LEFT or box[2] > WIDTH or box[1] < 0
            choices.append((met + 9 * outside, len(choices), box, (x + dx, y + dy, anchor)))
        *_, box, found[name] = min(choices)
        taken.append(box)
    return found


def plot(task, models, rows):
    """The SVG, or "" where fewer than three models have been measured."""
    known = measured(task, models, rows)
    if len(known) < 3:
        return ""
    _, heading = next(iter(results.TASKS[task].metrics.values()))
    costs, values = zip(*known.values())
    first, last = math.log10(min(costs)) - 0.15, math.log10(max(costs)) + 0.35
    margin = 0.08 * (max(values) - min(values) or 1)
    low, high = min(values) - margin, max(values) + margin

    def across(cost):
        return LEFT + (math.log10(cost) - first) / (last - first) * (RIGHT - LEFT)

    def up(value):
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP)

    parts = []
    for value in ticks(low, high):
        parts.append(f'<path class="grid" d="M{LEFT} {up(value):.1f}H{RIGHT}"/>')
        parts.append(words(f"{value:g}", LEFT - 8, up(value) + 4, "end"))
    for cost in (n * 10**power for power in range(15) for n in (1, 3)):
        if first <= math.log10(cost) <= last:
            parts.append(f'<path class="grid" d="M{across(cost):.1f} {TOP}V{BOTTOM}"/>')
            parts.append(words(short(cost), across(cost), BOTTOM + 18))
    parts.append(
        words("multiply-accumulates, on a logarithmic axis", (LEFT + RIGHT) / 2, HEIGHT - 8)
    )
    middle = (TOP + BOTTOM) / 2
    parts.append(words(heading, 14, middle, more=f' transform="rotate(-90 14 {middle})"'))

    spots = {name: (across(cost), up(value)) for name, (cost, value) in known.items()}
    labels = {m["name"]: f"{m['name']}, {m['date'].year}" for m in models if m["name"] in known}
    for model in models:
        for parent in model["builds_on"]:
            if parent in spots and model["name"] in spots:
                ends = (f"{x:.1f} {y:.1f}" for x, y in (spots[parent], spots[model["name"]]))
                parts.append(f'<path class="line-of-descent" d="M{"L".join(ends)}"/>')
    where = places(spots, labels)
    ideas = {model["name"]: model["idea"] for model in models}
    for name, (x, y) in spots.items():
        cost, value = known[name]
        hover = html.escape(f"{value:.2f} with {cost:,} multiply-accumulates. {ideas[name]}")
        parts.append(
            # Sphinx marks what was searched for, and fails where it finds that in a <title>.
            f'<a href="{name}/index.html"><title class="nohighlight">{hover}</title>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>{words(labels[name], *where[name])}</a>'
        )
    all_of_it = ", ".join(f"{n} {v:.2f} with {short(c)}" for n, (c, v) in known.items())
    label = html.escape(f"{heading} over multiply-accumulates: {all_of_it}")
    return (
        f'<figure class="plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="group" '
        f'aria-label="{label}">{"".join(parts)}</svg></figure>\n'
    )
