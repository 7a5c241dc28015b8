"""Boxes and arrows, of which the diagrams of the lessons are made."""

from matplotlib.patches import FancyArrowPatch, Rectangle

BLUE, ORANGE, GREEN, GRAY, YELLOW = "#b5d2ec", "#f4c7a1", "#a9d8b8", "#dddddd", "#fbe9a7"
RED = "#c44e52"  # of what a picture is about


def box(axes, x, y, text, color, width=1.0, height=0.6, size=9):
    """A rectangle around (x, y) with a text in it."""
    corner = x - width / 2, y - height / 2
    axes.add_patch(Rectangle(corner, width, height, facecolor=color, edgecolor="#666", lw=0.6))
    axes.text(x, y, text, ha="center", va="center", fontsize=size)


def arrow(axes, start, end, color="#666", style="-", width=1.0, curve=0.0, shrink=2.0):
    """An arrow from one place (x, y) to another. shrink: points that it stays away from both."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            connectionstyle=f"arc3,rad={curve}",
            arrowstyle="-|>",
            mutation_scale=9,
            color=color,
            linestyle=style,
            lw=width,
            shrinkA=shrink,
            shrinkB=shrink,
        )
    )
