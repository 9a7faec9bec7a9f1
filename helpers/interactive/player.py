"""Pictures to step through on a page without a kernel: HTML, CSS and script, all in one piece.

Nothing is fetched. Every control is one of HTML's own (a slider, a list, buttons), so it works by
keyboard; each picture has its text alternative, and what has changed is read out once the reader
rests. Without JavaScript the first pictures are shown.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .panels import STYLE, Panel, board, light, track

_SCRIPT = Path(__file__).with_name("player.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Control:
    """One thing to choose.

    label : what it is called.
    options : its values in words.
    kind : "slider" (with Back and Next beside it), "buttons" or "list".
    start : number of the option chosen at first.
    stops : for a slider, a place on its map for each option; see
        :func:`helpers.interactive.panels.track`.
    """

    label: str
    options: Sequence[str]
    kind: str = "list"
    start: int = 0
    stops: Sequence[tuple[int, int, str]] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("slider", "buttons", "list"):
            raise ValueError(f'kind is "slider", "buttons" or "list", not {self.kind!r}.')


class _Store(dict):
    """Numbers for things, the same thing once, in the order of their coming."""

    def __missing__(self, thing):
        self[thing] = len(self)
        return self[thing]


def make_player(
    name: str,
    title: str,
    controls: Sequence[Control],
    shot: Callable[..., tuple[str, str, Sequence[Panel]]],
    quality: int = 80,
) -> str:
    """HTML of a player.

    Parameters
    ----------
    name : str
        Letters and digits; every player on a page has another.
    title : str
        What a screen reader calls it.
    controls : sequence of Control
        What can be chosen.
    shot : callable
        Called with one index a control; gives a headline, a text, and as many :class:`Panel` each
        time. Called for all combinations, here and now.
    quality : int
        Of WebP, 0 to 100, for pictures that are smaller with loss. The same picture is kept once.
    """
    sizes = [len(control.options) for control in controls]
    pixels, pictures, texts, shots = {}, _Store(), _Store(), []

    def number(picture: np.ndarray) -> int:
        key = (picture.shape, picture.tobytes())
        if key not in pixels:  # encoding takes most of the time
            pixels[key] = pictures[base64.b64encode(light(picture, quality)).decode()]
        return pixels[key]

    for choice in itertools.product(*map(range, sizes)):
        headline, words, panels = shot(*choice)
        shown = [
            [
                texts[p.title],
                texts[p.note],
                int(p.sharp),
                [[number(picture), texts[alt]] for alt, picture in p.pictures],
            ]
            for p in panels
        ]
        shots.append([texts[headline], texts[words], shown])
    headline, words, panels = shot(*(control.start for control in controls))
    first = board(panels, headline, words, file=lambda picture: light(picture, quality))
    # "</" would end the script early, "<!--" late
    packed = (
        json.dumps(
            {"sizes": sizes, "shots": shots, "texts": list(texts), "pictures": list(pictures)},
            ensure_ascii=False,
            separators=(",", ":"),
        )
        .replace("</", "<\\/")
        .replace("<!--", "\\u003c!--")
    )
    parts = "".join(_control(name, i, control) for i, control in enumerate(controls))
    maps = "".join(
        f'<div data-map="{i}">{track(control.stops, control.start)}</div>'
        for i, control in enumerate(controls)
        if control.stops
    )
    return f"""{STYLE}
<div class="player" id="{name}" role="group" aria-label="{html.escape(title, quote=True)}">
<div class="player-controls">{parts}</div>
{maps}{first}
<p class="player-said" role="status"></p>
<script type="application/json">{packed}</script>
<script>{_SCRIPT.replace("NAME", name)}</script>
</div>"""


def _control(name: str, i: int, control: Control) -> str:
    label, options = html.escape(control.label), [html.escape(option) for option in control.options]
    if control.kind == "slider":
        last = len(options) - 1
        return (
            f'<button type="button" data-move="-1" data-of="{i}">Back</button>'
            f'<label>{label} <input type="range" data-control="{i}" min="0" max="{last}" '
            f'value="{control.start}" autocomplete="off"></label>'
            f'<button type="button" data-move="1" data-of="{i}">Next</button>'
        )
    if control.kind == "buttons":
        radios = "".join(
            f'<label><input type="radio" name="{name}-{i}" data-control="{i}" value="{j}"'
            f'{" checked" * (j == control.start)} autocomplete="off"> {option}</label>'
            for j, option in enumerate(options)
        )
        return f"<fieldset><legend>{label}</legend>{radios}</fieldset>"
    choices = "".join(
        f'<option value="{j}"{" selected" * (j == control.start)}>{option}</option>'
        for j, option in enumerate(options)
    )
    return (
        f'<label>{label} <select data-control="{i}" autocomplete="off">{choices}</select></label>'
    )
