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

import numpy as np
from PIL import Image


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
    lossless, lossy = (
        encode(picture, "WEBP", lossless=True, method=4),
        encode(picture, "WEBP", quality=quality, method=5),
    )
    return min(lossless, lossy, key=len)


def data_address(file: bytes) -> str:
    """A PNG or WebP file as a ``data:`` address, to stand in HTML."""
    kind = "png" if file.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def board(panels: Sequence[Panel], headline: str = "", words: str = "", file=encode) -> str:
    """Panels with what is said about them. ``file`` turns a picture into the bytes of a PNG or WebP file."""
    tiled = " player-tiled" * any(not panel.large for panel in panels)
    return (
        f'<p class="player-headline">{html.escape(headline)}</p>'
        f'<div class="player-panels{tiled}">{"".join(_panel(panel, file) for panel in panels)}</div>'
        f'<p class="player-words">{html.escape(words)}</p>'
    )


def _panel(panel: Panel, file) -> str:
    pictures = "".join(
        f'<img alt="{html.escape(words, quote=True)}" src="{data_address(file(picture))}">'
        for words, picture in panel.pictures
    )
    return (
        f'<div class="player-panel{" player-large" * panel.large}"><p><b>{html.escape(panel.title)}</b> <span>{html.escape(panel.note)}</span></p>'
        f'<div class="player-pictures{" player-sharp" * panel.sharp}">{pictures}</div></div>'
    )


def track(stops: Sequence[tuple[int, int, str]], here: int) -> str:
    """A map of a walk up (row 1) and down (row 2): a cell a step, at (row, column), coloured by its kind; ``here`` is marked.

    It repeats for the eye what the slider beside it tells a screen reader, and is hidden from that.
    """
    cells = "".join(
        f'<i data-kind="{html.escape(kind, quote=True)}" title="step {step}: {html.escape(kind, quote=True)}" style="grid-area:{row}/{column}"{" data-here" * (step == here)}></i>'
        for step, (row, column, kind) in enumerate(stops)
    )
    kinds = dict.fromkeys(kind for _, _, kind in stops)
    key = "".join(
        f'<span><i data-kind="{html.escape(kind, quote=True)}"></i> {html.escape(kind)}</span>'
        for kind in kinds
    )
    return f'<div class="player-track" aria-hidden="true"><div class="player-cells">{cells}</div><p>{key}<span>upper row: up, lower row: down</span></p></div>'


#: Stands once in every player and widget.
STYLE = """<style>
.player { max-width: 46rem; container-type: inline-size; line-height: 1.45; }
.player-controls { display: flex; flex-wrap: wrap; gap: .5em 1em; align-items: center; margin: .5em 0; }
.player-controls fieldset { border: 0; padding: 0; margin: 0; min-width: 0; }
.player-controls legend { font-size: 1em; margin: 0; font-weight: 600; }
.player-controls fieldset label { display: inline-block; margin-right: 1em; }
.player-controls button, .player-controls select { font: inherit; color: inherit; background: none; padding: .25em .7em; border: 1px solid #8a97a1; border-radius: 6px; cursor: pointer; max-width: 100%; }
.player-controls button:hover, .player-controls select:hover { border-color: currentColor; }
.player-controls option { color: #22313f; background: #fff; }
.player-controls input { accent-color: #0b6e8f; }
.player-controls input[type=range] { width: min(15em, 36cqw); vertical-align: middle; cursor: pointer; }
.player-track { margin: .6em 0 .7em; }
.player-cells { display: grid; grid-auto-columns: minmax(0, 1fr); grid-auto-rows: 1em; gap: 2px; padding: 3px; cursor: pointer; }
.player-track i { display: block; border-radius: 2px; background: #c3ccd3; }
.player-track i[data-kind=ReLU] { background: #0b6e8f; }
.player-track i[data-kind=MaxPool2d] { background: #e0a030; }
.player-track i[data-kind=photo] { background: #7d8b96; }
.player-track i[data-here] { outline: 3px solid currentColor; position: relative; z-index: 1; }
.player-track p { display: flex; flex-wrap: wrap; gap: 0 1.2em; margin: .3em 0 0; font-size: .85em; }
.player-track p i { display: inline-block; width: .8em; height: .8em; }
.player-panels { display: flex; flex-wrap: wrap; align-items: flex-end; gap: .8em; }
.player-panel { flex: 1 1 9em; max-width: 22em; }
.player-panel p { margin: 0 0 .2em; font-size: .9em; line-height: 1.3; }
.player-panel span { opacity: .8; }
.player-pictures { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 4px; aspect-ratio: 4; align-items: start; }
.player-large .player-pictures { display: block; aspect-ratio: auto; }
.player .player-pictures img { display: block; width: 100%; height: auto; margin: 0; padding: 0 !important; border: 0; border-radius: 3px; background: none !important; filter: none !important; }
.player .player-sharp img { image-rendering: pixelated; }
.player-tiled { display: grid; align-items: start; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); grid-template-rows: auto auto 1fr; gap: .7em 1.2em; }
.player-tiled .player-panel { grid-column: 1; max-width: none; }
.player-tiled .player-large { grid-column: 2; grid-row: 1 / span 3; }
.player-headline { margin: 0 0 .5em; font-weight: 600; }
.player-words { margin: .8em 0 0; }
.player-tiled + .player-words { min-height: 4.5em; }
.player-said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
@container (max-width: 32em) {
  .player-tiled { grid-template-columns: minmax(0, 1fr); grid-template-rows: none; }
  .player-tiled .player-large { grid-column: 1; grid-row: auto; order: -1; justify-self: center; width: min(100%, 17em); }
}
</style>"""
