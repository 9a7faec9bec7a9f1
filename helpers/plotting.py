"""All figures of the book: rows of pictures, heat maps over photos, bars of class probabilities.

Pictures come in as arrays in [0, 1] (`scaling` says how maps get there) and are drawn pixel for
pixel, without a scale of matplotlib's own.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from .figure_words import carry_words
from .methods import TABLE

#: The book's colours: one for what is meant, one for what it is set against, one for the rest.
INK, ACCENT, CONTRAST, PALE = "#22313f", "#0b6e8f", "#d1495b", "#b8c4cc"
#: Tables of colours that keep their order in grey and for colour-blind readers: for maps >= 0, and
#: for signed ones.
SAFE = {"amount": "viridis", "signed": "PuOr"}
HEAT = SAFE["amount"]  # the papers and the original post have "jet"
PANEL_INCHES = 2.7
PAGE_INCHES = 7.4  # a wider figure would be shrunk by the page, words and all
PHONE_INCHES = 4.1  # what is no wider keeps its words readable on a phone
NOTE_POINTS = 8.5
#: A colour, a mark and a line for each method and baseline.
LINES = {
    **{row.title: (row.colour, row.mark, "-") for row in TABLE},
    "edges": ("#666666", "x", "--"),
    "centre": ("#111111", "+", ":"),
    "random": ("#999999", ".", "-."),
}

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
    "text.parse_math": False,  # a class may be called "US$ or CA$"
}


@contextmanager
def _drawing(
    width: float, height: float, note: str = "", rows: int = 1, columns: int = 1, **shared
):
    """A figure in the book's style and its axes ``(rows, columns)``; the note is set below them."""
    # Made outside `rc_context`: the first figure of a session starts the notebook's backend, and
    # the context, on leaving, would undo the interactive mode that this switches on.
    figure = plt.figure(figsize=(width, height), dpi=160, facecolor="white", layout="constrained")
    with plt.rc_context(STYLE):
        yield figure, figure.subplots(rows, columns, squeeze=False, **shared)
        below = None
        if note:
            letters = int(width * 72 / (0.53 * NOTE_POINTS))  # about half as wide as high
            # lines of about one length; a last one of one word looks lost
            length = min(letters, len(note) // math.ceil(len(note) / letters) + 8)
            below = figure.supxlabel(textwrap.fill(note, length), fontsize=NOTE_POINTS)
    carry_words(figure, note, below)


def _check_titles(things: Sequence, titles: Sequence[str]) -> None:
    if len(things) != len(titles) or len(things) == 0:
        raise ValueError(
            f"{len(things)} pictures or panels need as many titles, got {len(titles)}."
        )


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
        raise ValueError(
            "A picture must lie in [0, 1]; scale the map first, for example scaling.signed(map)."
        )
    return picture


def heat_map(values: np.ndarray, colours: str = HEAT) -> np.ndarray:
    """Colours of a map ``(H, W)`` in [0, 1], by a table of 256 entries: ``(H, W, 3)`` in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> heat_map(np.eye(4)).shape
    (4, 4, 3)
    """
    if np.ndim(values) != 2:
        raise ValueError(f"Expected a map (H, W), got {np.shape(values)}.")
    table = matplotlib.colormaps[colours](np.linspace(0, 1, 256))[:, :3]
    return table[np.rint(check_picture(values) * 255).astype(int)]


def check_opacity(opacity: float) -> None:
    """A ``ValueError`` unless it is in [0, 1]."""
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is a share from 0 to 1, not {opacity}.")


def overlay(
    photo: np.ndarray, values: np.ndarray, opacity: float = 0.7, colours: str = HEAT
) -> np.ndarray:
    """``(1 - opacity) * photo + opacity * heat map``: ``(H, W, 3)`` in [0, 1].

    ``photo`` is ``(H, W, 3)`` and ``values`` ``(H, W)``, both in [0, 1]; 0.7 is what
    the blog post had with which the book began.

    Raises
    ------
    ValueError
        If their sizes differ, or ``opacity`` is not in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> overlay(np.zeros((4, 4, 3)), np.eye(4), opacity=0.0).any().item()
    False
    """
    if np.shape(photo)[:2] != np.shape(values):
        raise ValueError(
            f"Photo {np.shape(photo)} and map {np.shape(values)} differ in size; "
            "resize the map first."
        )
    check_opacity(opacity)
    return (1 - opacity) * check_picture(photo) + opacity * heat_map(values, colours)


def show_row(
    pictures: Sequence[np.ndarray], titles: Sequence[str], note: str = "", columns: int = 4
) -> Figure:
    """Pictures beside each other, a title each; ``note`` below them says how they were scaled.

    Greys ``(H, W)`` and colours ``(H, W, 3)``, all in [0, 1]; after ``columns`` a new row begins.

    Examples
    --------
    >>> import numpy as np
    >>> len(show_row([np.eye(4), np.zeros((4, 4, 3))], ["grey", "colours"]).axes)
    2
    """
    _check_titles(pictures, titles)
    pictures = [check_picture(picture) for picture in pictures]
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    # as wide as the widest picture needs at the common height: about one area for all shapes
    aspect = max(picture.shape[1] / picture.shape[0] for picture in pictures)
    width = min(PANEL_INCHES * max(1.0, aspect**0.5), PAGE_INCHES / columns)
    # long titles are set smaller, not into each other
    longest = max(len(line) for title in titles for line in title.split("\n")) or 1
    size = max(6.0, min(10.0, width * 72 / (0.6 * longest)))
    height = (width / aspect + 0.3) * rows + 0.3 * bool(note)
    with _drawing(width * columns, height, note, rows, columns) as (figure, axes):
        for axis in axes.flat:
            axis.axis("off")
        # the last row may have room left
        for axis, picture, title in zip(axes.flat, pictures, titles, strict=False):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(title, fontsize=size)
    return figure


def show_probabilities(top: Sequence[tuple[str, float]], title: str = "") -> Figure:
    """Bars of class probabilities, ``[(name, probability), ...]``, the first on top, accented.

    Examples
    --------
    >>> len(show_probabilities([("tabby", 0.7), ("tiger cat", 0.2)]).axes)
    1
    """
    with _drawing(PHONE_INCHES, 0.36 * len(top) + 0.6) as (figure, ((axis,),)):
        # by place, not by name: ImageNet has two classes called "crane"
        bars = axis.barh(
            range(len(top)),
            [100 * probability for _, probability in top],
            color=[ACCENT] + [PALE] * (len(top) - 1),
            tick_label=[name for name, _ in top],
        )
        axis.bar_label(bars, fmt="%.0f %%", padding=4)
        axis.invert_yaxis()
        axis.set(xlim=(0, 110), xlabel="probability (%)", title=title)
    return figure


def show_curves(
    charts: Sequence[Mapping[str, Sequence[float]]],
    titles: Sequence[str],
    places: Sequence,
    xlabel: str = "",
    ylabel: str = "",
    note: str = "",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Charts of curves beside each other on common axes; each maps a method's name to its values.

    ``places`` are the numbers along the x axis, or words, one a value. Of several runs, ``(runs,
    places)``, the mean is drawn, in a band of one standard deviation. A name of :data:`LINES` is
    drawn by its entry, any other by the next one that none has; all charts are drawn alike. NaN
    leaves a gap.

    Examples
    --------
    >>> len(show_curves([{"edges": [0.1, 0.3]}], ["deletion"], [0, 1]).axes)
    1
    """
    _check_titles(charts, titles)
    names = list(dict.fromkeys(itertools.chain.from_iterable(charts)))
    turns = itertools.cycle([LINES[key] for key in LINES if key not in names] or LINES.values())
    styles = {name: LINES.get(name) or next(turns) for name in names}
    words = isinstance(places[0], str)
    alone = len(charts) == 1
    width, height = (PHONE_INCHES, 3.8) if alone else (PAGE_INCHES, 4.2)
    height += 0.6 * words
    with _drawing(width, height, note, columns=len(charts), sharex=True, sharey=True) as (
        figure,
        (axes,),
    ):
        for axis, curves, title in zip(axes, charts, titles, strict=True):
            for name, values in curves.items():
                colour, mark, line = styles[name]
                runs = np.ma.masked_invalid(np.atleast_2d(values))
                values, spread = runs.mean(axis=0).filled(np.nan), runs.std(axis=0).filled(0)
                along = range(len(values)) if words else places
                if len(runs) > 1:
                    low, high = values - spread, values + spread
                    axis.fill_between(along, low, high, color=colour, alpha=0.2, linewidth=0)
                axis.plot(
                    along,
                    values,
                    line,
                    color=colour,
                    marker=mark,
                    markersize=5,
                    markevery=max(1, len(values) // 16),
                    label=name,
                )
            axis.set(title=title, xlabel=xlabel, **({"ylim": limits} if limits else {}))
            axis.grid(color=PALE, linewidth=0.5)
            axis.axhline(0, color=INK, linewidth=0.8)
            if words:
                axis.set_xticks(range(len(places)), places, rotation=90)
        axes[0].set_ylabel(ylabel)
        entries: dict = {}
        for axis in axes:
            entries.update(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        figure.legend(
            [entries[name] for name in names],
            names,
            loc="outside upper center",
            ncols=2 if alone else 4,
            frameon=False,
        )
    return figure


def show_bars(
    charts: Sequence[Mapping[str, tuple[float, float]]],
    titles: Sequence[str],
    chance: Sequence[float] | None = None,
    xlabel: str = "",
    note: str = "",
    number: str = "%.0f",
) -> Figure:
    """Charts of horizontal bars, ``{name: (value, standard error)}``, the first name on top.

    ``chance``, one number a chart, is drawn as a dashed line. A name of :data:`LINES` has its
    colour, also where words follow it. ``number`` is the format of the values beside the bars.

    Examples
    --------
    >>> len(show_bars([{"edges": (40.0, 2.0)}], ["pointing game"]).axes)
    1
    """
    _check_titles(charts, titles)
    names = list(charts[0])
    # "Grad-CAM behind the pooling" is Grad-CAM, "Grad-CAM++" is not
    known = [[k for k in LINES if f"{name} ".startswith((f"{k} ", f"{k},"))] for name in names]
    colours = [LINES[max(keys, key=len)][0] if keys else PALE for keys in known]
    width, height = min(1.6 + 2.5 * len(charts), PAGE_INCHES), 0.36 * len(names) + 1.2
    with _drawing(width, height, note, columns=len(charts), sharey=True) as (figure, (axes,)):
        for i, (axis, rows, title) in enumerate(zip(axes, charts, titles, strict=True)):
            bars = axis.barh(
                range(len(names)),
                [rows[name][0] for name in names],
                xerr=[rows[name][1] for name in names],
                ecolor=INK,
                color=colours,
                tick_label=[textwrap.fill(name, 20) for name in names],
            )
            axis.bar_label(bars, fmt=number, padding=4)
            axis.set(title=title, xlabel=xlabel)
            axis.margins(x=0.12)
            if chance is not None:
                axis.axvline(chance[i], color=CONTRAST, linestyle="--", linewidth=1.4)
        axes[0].invert_yaxis()
    return figure
