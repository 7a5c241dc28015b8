"""What accuracy costs: a plot of a task's models over their multiply-accumulates, as SVG.

Written by hand, since it takes its colors from the page, light or dark, and its points are links.
"""

import html
import math
import statistics

import results

WIDTH, HEIGHT = 720, 430
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 20, 50  # margins
LETTER = 7.2  # the mean width of one, in pixels of the drawing


def points(task, models, rows):
    """{name: (multiply-accumulates, mean of the task's first metric)} of the laptop recipes."""
    metric, (factor, _) = next(iter(results.TASKS[task].metrics.items()))
    found = {}
    for model in models:
        own = [r for r in rows if (r["branch"], r["run"]) == (model["name"], results.LAPTOP)]
        values = [dict(pair.split("=") for pair in row["metrics"].split()) for row in own]
        if own and own[0]["macs"]:
            mean = statistics.mean(factor * float(value[metric]) for value in values)
            found[model["name"]] = int(own[0]["macs"]), mean
    return found


def ticks(low, high):
    """Round numbers from low to high, four to nine of them."""
    step = 10 ** math.floor(math.log10(high - low))
    while (high - low) / step < 4:
        step /= 2
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def short(number):
    """100,000 as 100 k."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def places(spots, labels):
    """{name: (x, y, anchor)} of labels that meet neither a point nor each other, if it can be."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in spots.values()]
    found = {}
    for name, (x, y) in spots.items():
        width = LETTER * len(labels[name])
        choices = []
        for dx, dy, anchor in (
            (11, 4, "start"),
            (-11, 4, "end"),
            (0, -12, "middle"),
            (0, 22, "middle"),
        ):
            left = x + dx - {"start": 0, "end": width, "middle": width / 2}[anchor]
            box = left, y + dy - 12, left + width, y + dy + 4
            met = sum(
                box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken
            )
            outside = box[0] < LEFT or box[2] > WIDTH or box[1] < 0
            choices.append((met + 9 * outside, len(choices), box, (x + dx, y + dy, anchor)))
        _, _, box, found[name] = min(choices)
        taken.append(box)
    return found


def plot(task, models, rows):
    """The SVG, or "" where fewer than three models have been measured."""
    known = points(task, models, rows)
    if len(known) < 3:
        return ""
    _, heading = next(iter(results.TASKS[task].metrics.values()))
    costs, values = ([pair[i] for pair in known.values()] for i in (0, 1))
    first, last = math.log10(min(costs)) - 0.15, math.log10(max(costs)) + 0.35
    margin = 0.08 * (max(values) - min(values) or 1)
    low, high = min(values) - margin, max(values) + margin

    def across(cost):
        return LEFT + (math.log10(cost) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def up(value):
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    by_name = {model["name"]: model for model in models}
    spots = {name: (across(cost), up(value)) for name, (cost, value) in known.items()}
    labels = {name: f"{name} {by_name[name]['date'].year}" for name in known}
    parts = []
    for value in ticks(low, high):
        parts.append(f'<path class="grid" d="M{LEFT} {up(value):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{up(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for power in range(math.floor(first), math.ceil(last)):
        for cost in (10**power, 3 * 10**power):
            if first <= math.log10(cost) <= last:
                x = f"{across(cost):.1f}"
                parts.append(f'<path class="grid" d="M{x} {TOP}V{HEIGHT - BOTTOM}"/>')
                parts.append(
                    f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{short(cost)}</text>'
                )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">multiply-accumulates for one example, logarithmic</text>'
    )
    parts.append(
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{html.escape(heading)}</text>'
    )
    for name, (x, y) in spots.items():
        for parent in by_name[name]["builds_on"]:
            if parent in spots:
                a, b = spots[parent]
                parts.append(f'<path class="descent" d="M{a:.1f} {b:.1f}L{x:.1f} {y:.1f}"/>')
    for name, (x, y, anchor) in places(spots, labels).items():
        cost, value = known[name]
        title = (
            f"{labels[name]}: {value:.2f}, {cost:,} multiply-accumulates. {by_name[name]['idea']}"
        )
        parts.append(
            f'<a href="{name}/index.html"><title class="nohighlight">{html.escape(title)}</title>'
            f'<circle cx="{spots[name][0]:.1f}" cy="{spots[name][1]:.1f}" r="5.5"/>'
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{labels[name]}</text></a>'
        )
    described = f"{heading} over multiply-accumulates: " + ", ".join(
        f"{name} {value:.2f} with {short(cost)}" for name, (cost, value) in known.items()
    )
    return (
        f'<figure class="plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="group" '
        f'aria-label="{html.escape(described)}">{"".join(parts)}</svg></figure>\n'
    )
