"""What stands in a figure, in words that its PNG carries: `site_figures.py` sets them as text."""

from __future__ import annotations

import json
import math

from matplotlib.figure import Figure
from matplotlib.text import Text


def carry_words(figure: Figure, note: str, below: Text | None) -> None:
    """Let the figure's PNG say in words what stands in it.

    The PNG's text "Description" is JSON: ``titles`` of the pictures in it; for each of them in
    ``panels`` its left, top, width and height in pixels; ``note``, and the row of pixels where it
    begins as ``note_top``, or null.
    """
    # a notebook's backend calls print_png itself, and there is no argument to pass metadata by
    write = figure.canvas.print_png

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
        metadata = {"Description": json.dumps(words), **(metadata or {})}
        write(file, metadata=metadata, pil_kwargs=pil_kwargs)

    figure.canvas.print_png = print_png
