"""Pictures with their words, as HTML: shown by the player on a page and by the widgets.

Words are text, not pixels, so they follow the reader's theme and font size, and every picture has
its text alternative. Maps are kept in their own size; the browser enlarges them.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

#: Stands once in every player and widget.
STYLE = f"<style>\n{Path(__file__).with_name('player.css').read_text(encoding='utf-8')}</style>"


@dataclass(frozen=True)
class Panel:
    """Pictures of one kind, side by side.

    title : what they show.
    note : how they were scaled, or why there are none.
    pictures : (text alternative, ``(h, w)`` or ``(h, w, 3)`` in [0, 1]) of each.
    large : one picture by itself, rather than a row of at most four tiles.
    """

    title: str
    note: str = ""
    pictures: Sequence[tuple[str, np.ndarray]] = ()
    large: bool = False

    @property
    def sharp(self) -> bool:
        """Whether its pixels are to be seen as squares: maps of few pixels; photos are smoothed."""
        return bool(self.pictures) and len(self.pictures[0][1]) <= (64 if self.large else 32)


def encode(picture: np.ndarray, format: str = "PNG", **options) -> bytes:
    """A picture ``(h, w)`` or ``(h, w, 3)`` in [0, 1] as a file."""
    file = io.BytesIO()
    Image.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)).save(
        file, format, **options
    )
    return file.getvalue()


def light(picture: np.ndarray, quality: int = 80) -> bytes:
    """A picture as WebP: without loss or with, whichever is smaller."""
    lossless = encode(picture, "WEBP", lossless=True, method=4)
    lossy = encode(picture, "WEBP", quality=quality, method=5)
    return min(lossless, lossy, key=len)


def data_address(file: bytes) -> str:
    """A PNG or WebP file as a ``data:`` address, to stand in HTML."""
    kind = "png" if file.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def board(panels: Sequence[Panel], headline: str = "", words: str = "", file=encode) -> str:
    """Panels with what is said about them.

    ``file`` turns a picture into the bytes of a PNG or WebP file.
    """
    tiled = " player-tiled" * any(not panel.large for panel in panels)
    inside = "".join(_panel(panel, file) for panel in panels)
    return (
        f'<p class="player-headline">{html.escape(headline)}</p>'
        f'<div class="player-panels{tiled}">{inside}</div>'
        f'<p class="player-words">{html.escape(words)}</p>'
    )


def _panel(panel: Panel, file) -> str:
    pictures = "".join(
        f'<img alt="{html.escape(words, quote=True)}" src="{data_address(file(picture))}">'
        for words, picture in panel.pictures
    )
    return (
        f'<div class="player-panel{" player-large" * panel.large}">'
        f"<p><b>{html.escape(panel.title)}</b> <span>{html.escape(panel.note)}</span></p>"
        f'<div class="player-pictures{" player-sharp" * panel.sharp}">{pictures}</div></div>'
    )


def track(stops: Sequence[tuple[int, int, str]], here: int) -> str:
    """A map of a walk up (row 1) and down (row 2).

    Each step is a cell at (row, column), coloured by its kind; number ``here`` is marked. The map
    repeats for the eye what the slider beside it tells a screen reader, and is hidden from that.
    """
    cells = "".join(
        f'<i data-kind="{html.escape(kind)}" title="step {step}: {html.escape(kind)}" '
        f'style="grid-area:{row}/{column}"{" data-here" * (step == here)}></i>'
        for step, (row, column, kind) in enumerate(stops)
    )
    kinds = dict.fromkeys(kind for _, _, kind in stops)
    key = "".join(
        f'<span><i data-kind="{html.escape(kind)}"></i> {html.escape(kind)}</span>'
        for kind in kinds
    )
    return (
        f'<div class="player-track" aria-hidden="true"><div class="player-cells">{cells}</div>'
        f"<p>{key}<span>upper row: up, lower row: down</span></p></div>"
    )
