"""All figures of the book: rows of pictures, heat maps over photos, bars of class probabilities.

Pictures come in as arrays in [0, 1] (`scaling` says how maps get there) and are drawn pixel for
pixel, without a scale of matplotlib's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

#: The book's colours: one for what is meant, one for what it is set against, one for the rest.
INK, ACCENT, CONTRAST, PALE = "#22313f", "#0b6e8f", "#d1495b", "#b8c4cc"
HEAT = "jet"  # as in the paper and the original post; viridis reads better in grey
PANEL_INCHES = 2.7

STYLE = {
    "font.size": 10,
    "axes.titlesize": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def _new_figure(width: float, height: float) -> Figure:
    # Made outside `rc_context`: the first figure of a session starts the notebook's backend, and
    # the context, on leaving, would undo the interactive mode that this switches on.
    return plt.figure(figsize=(width, height), dpi=110, facecolor="white", layout="constrained")


def check_picture(picture: np.ndarray) -> np.ndarray:
    """Return ``picture`` if it is ``(H, W)`` or ``(H, W, 3)`` in [0, 1].

    Raises
    ------
    ValueError
        If it has another shape or leaves [0, 1] (scale it, and say how: `helpers.scaling`).
    """
    picture = np.asarray(picture, dtype=float)
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3):
        raise ValueError(f"Expected a picture (H, W) or (H, W, 3), got {picture.shape}.")
    if not (picture.min() >= 0 and picture.max() <= 1):
        raise ValueError("A picture must lie in [0, 1]; scale the map first, for example scaling.signed(map).")
    return picture


def heat_map(values: np.ndarray, colours: str = HEAT) -> np.ndarray:
    """Colours of a map ``(H, W)`` in [0, 1], by a table of 256 entries: ``(H, W, 3)`` in [0, 1]."""
    table = matplotlib.colormaps[colours](np.linspace(0, 1, 256))[:, :3]
    return table[np.rint(check_picture(values) * 255).astype(int)]


def overlay(photo: np.ndarray, values: np.ndarray, strength: float = 0.7, colours: str = HEAT) -> np.ndarray:
    """``(1 - strength) * photo + strength * heat map``: ``(H, W, 3)`` in [0, 1].

    ``photo`` is ``(H, W, 3)`` and ``values`` ``(H, W)``, both in [0, 1]; 0.7 is the original's blend.

    Raises
    ------
    ValueError
        If their sizes differ, or ``strength`` is not in [0, 1].
    """
    if np.shape(photo)[:2] != np.shape(values):
        raise ValueError(f"Photo {np.shape(photo)} and map {np.shape(values)} differ in size; resize the map first.")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is a share from 0 to 1, not {strength}.")
    return (1 - strength) * check_picture(photo) + strength * heat_map(values, colours)


def show_row(pictures: Sequence[np.ndarray], titles: Sequence[str], note: str = "", columns: int = 4) -> Figure:
    """Pictures beside each other, a title each; ``note`` stands below and says how they were scaled.

    Greys ``(H, W)`` and colours ``(H, W, 3)``, all in [0, 1]; after ``columns`` a new row begins.
    """
    if len(pictures) != len(titles) or len(pictures) == 0:
        raise ValueError(f"{len(pictures)} pictures need as many titles, got {len(titles)}.")
    pictures = [check_picture(picture) for picture in pictures]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    # a panel as wide as the widest picture needs at the common height: about one area for all shapes
    aspect = max(picture.shape[1] / picture.shape[0] for picture in pictures)
    width = PANEL_INCHES * max(1.0, aspect**0.5)
    figure = _new_figure(width * columns, (width / aspect + 0.3) * rows + 0.3 * bool(note))
    with plt.rc_context(STYLE):
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, picture, title in zip(axes.flat, pictures, titles):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(title)
        if note:
            figure.supxlabel(note, fontsize=8.5)
    return figure


def show_probabilities(top: Sequence[tuple[str, float]], title: str = "") -> Figure:
    """Bars of class probabilities, ``[(name, probability), ...]``, the first on top and accented."""
    names, probabilities = zip(*top)
    figure = _new_figure(5.4, 0.36 * len(top) + 0.6)
    with plt.rc_context(STYLE):
        axis = figure.subplots()
        # by place, not by name: ImageNet has two classes called "crane"
        bars = axis.barh(range(len(names)), [100 * p for p in probabilities], color=[ACCENT] + [PALE] * (len(top) - 1), tick_label=names)
        axis.bar_label(bars, fmt="%.0f %%", padding=4)
        axis.invert_yaxis()
        axis.set(xlim=(0, 110), xlabel="probability (%)", title=title)
    return figure
