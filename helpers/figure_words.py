"""What stands in a figure, in words that its PNG carries; the site sets them as text."""

from __future__ import annotations

import json
import math
from itertools import pairwise

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def carry_words(figure: Figure, note: str, below: Text | None) -> None:
    """Let the figure's PNG say in words what stands in it.

    The PNG's text "Description" is JSON: ``titles`` of the pictures in it; for each of them in
    ``panels`` its left, top, width and height in pixels; ``note``, and the row of pixels where it
    begins as ``note_top``, or null; and for charts beside each other ``chart``, where to cut them.
    """
    # a notebook's backend calls print_png itself, and there is no argument to pass metadata by
    write = getattr(figure.canvas, "print_png", None)
    if write is None:  # one that draws SVG or PDF
        return

    def print_png(file, *, metadata=None, pil_kwargs=None, **_others):
        # only now, laid out and cropped, everything is where it will be; y counts upwards
        height = int(figure.bbox.height)
        shown = [axis for axis in figure.axes if axis.images]
        panels = []
        for box in (axis.get_window_extent() for axis in shown):
            left, bottom = math.ceil(box.x0), math.ceil(box.y0)
            panels.append([left, height - int(box.y1), int(box.x1) - left, int(box.y1) - bottom])
        words = {
            "titles": [axis.get_title() for axis in shown],
            "panels": panels,
            "note": note,
            "note_top": height - math.ceil(below.get_window_extent().y1) if below else None,
        }
        if len(figure.axes) > 1 and not shown:
            words["chart"] = _cut_chart(figure, words["note_top"] or height)
        metadata = {"Description": json.dumps(words), **(metadata or {})}
        write(file, metadata=metadata, pil_kwargs=pil_kwargs)

    figure.canvas.print_png = print_png


def _cut_chart(figure: Figure, bottom: int) -> dict[str, list] | None:
    """Boxes (left, top, width, height) in pixels of a figure's charts, that share their y axis.

    ``panels`` has a box a chart: side by side they are all of the figure below its legend and above
    the row ``bottom``. ``strip`` holds the words of the y axis, which stand before the first chart
    alone; ``entries`` the legend's lines, each with its name. None if two charts' words overlap.
    """
    figure.canvas.draw()  # a legend's lines get their places when it is drawn
    width, height = figure.canvas.get_width_height()
    around = [axis.get_tightbbox() for axis in figure.axes]
    if any(one.x1 > next.x0 for one, next in pairwise(around)):
        return None
    top, entries = 0, []
    for legend in figure.legends:
        top = round(height - (legend.get_window_extent().y0 + max(box.y1 for box in around)) / 2)
        for line, name in zip(legend.legend_handles, legend.get_texts(), strict=True):
            both = Bbox.union([line.get_window_extent(), name.get_window_extent()])
            left, upper = math.floor(both.x0) - 2, height - math.ceil(both.y1) - 2
            entries.append([left, upper, math.ceil(both.x1) + 2 - left, math.ceil(both.height) + 4])
    edges = [0, *(round((one.x1 + next.x0) / 2) for one, next in pairwise(around)), width]
    # the ticks stay out: each chart has its own
    words = figure.axes[0].yaxis.get_tightbbox()
    upper = max(top, height - math.ceil(words.y1) - 1)
    lower = min(bottom, height - math.floor(words.y0) + 1)
    return {
        "panels": [[left, top, right - left, bottom - top] for left, right in pairwise(edges)],
        "strip": [0, upper, math.ceil(words.x1) + 1, lower - upper],
        "entries": entries,
    }
