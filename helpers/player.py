"""Pictures to step through on a page without a kernel: HTML and a few lines of script, all in one piece.

Nothing is fetched. Every control is one of HTML's own (a slider, a list, buttons), so it works by
keyboard; each picture has its text alternative, also read out when it changes, and stands as the
caption below. Without JavaScript the first picture is shown.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .explorer import encode


@dataclass(frozen=True)
class Control:
    """One thing to choose.

    label : what it is called.
    options : its values in words.
    kind : "slider" (with Back and On beside it), "buttons" or "list".
    """

    label: str
    options: Sequence[str]
    kind: str = "list"
    start: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("slider", "buttons", "list"):
            raise ValueError(f'kind is "slider", "buttons" or "list", not {self.kind!r}.')


def player(name: str, title: str, controls: Sequence[Control], shot: Callable[..., tuple[np.ndarray, str]], quality: int = 60) -> str:
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
        Called with one index a control; gives the picture ``(H, W, 3)`` in [0, 1] and its text.
        Called for all combinations, here and now.
    quality : int
        Of WebP, 0 to 100. Every picture is part of the page: look at its weight.
    """
    pictures, words, known = [], [], {}
    for choice in itertools.product(*(range(len(control.options)) for control in controls)):
        picture, text = shot(*choice)
        data = base64.b64encode(encode(picture, "WEBP", quality=quality, method=5)).decode()
        # the same picture under two choices is kept once
        pictures.append(known.setdefault(data, len(known)))
        words.append(text)
    height, width = picture.shape[:2]
    sizes = [len(control.options) for control in controls]
    first = 0
    for control, size in zip(controls, sizes):
        first = first * size + control.start
    data = list(known)
    # "</" would end the script early
    packed = json.dumps({"sizes": sizes, "shots": pictures, "words": words, "pictures": data}, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    parts = "".join(_control(name, i, control) for i, control in enumerate(controls))
    text = html.escape(words[first], quote=True)
    return f"""<div class="player" id="{name}" role="group" aria-label="{html.escape(title, quote=True)}" style="max-width:{max(width, 420)}px">
<div style="display:flex;flex-wrap:wrap;gap:.4em 1em;align-items:center;margin:.4em 0">{parts}</div>
<img alt="{text}" width="{width}" height="{height}" style="max-width:100%;height:auto;background:#fff" src="data:image/webp;base64,{data[pictures[first]]}">
<p class="player-words" aria-live="polite" style="min-height:4.5em">{text}</p>
<script type="application/json">{packed}</script>
<script>{_SCRIPT.replace("NAME", name)}</script>
</div>"""


def _control(name: str, i: int, control: Control) -> str:
    label, options = html.escape(control.label), [html.escape(option) for option in control.options]
    if control.kind == "slider":
        last = len(options) - 1
        return (
            f'<button type="button" data-move="-1" data-of="{i}">Back</button>'
            f'<label>{label} <input type="range" data-control="{i}" min="0" max="{last}" value="{control.start}" style="width:14em;max-width:50vw"></label>'
            f'<button type="button" data-move="1" data-of="{i}">On</button>'
        )
    if control.kind == "buttons":
        radios = "".join(
            f'<label style="margin-right:.8em"><input type="radio" name="{name}-{i}" data-control="{i}" value="{j}"{" checked" * (j == control.start)}> {option}</label>'
            for j, option in enumerate(options)
        )
        return f'<fieldset style="border:0;padding:0;margin:0"><legend style="font-size:1em;margin:0">{label}</legend>{radios}</fieldset>'
    choices = "".join(f'<option value="{j}"{" selected" * (j == control.start)}>{option}</option>' for j, option in enumerate(options))
    return f'<label>{label} <select data-control="{i}" autocomplete="off">{choices}</select></label>'


_SCRIPT = """(function () {
  const box = document.getElementById("NAME");
  const data = JSON.parse(box.querySelector("script[type='application/json']").textContent);
  const picture = box.querySelector("img"), words = box.querySelector(".player-words");
  const value = i => {
    const all = [...box.querySelectorAll(`[data-control="${i}"]`)];
    return Number((all.find(one => one.checked) || all[0]).value);
  };
  function show() {
    const shot = data.sizes.reduce((at, size, i) => at * size + value(i), 0);
    picture.src = "data:image/webp;base64," + data.pictures[data.shots[shot]];
    picture.alt = words.textContent = data.words[shot];
    box.querySelectorAll("input[type=range]").forEach(one => one.setAttribute("aria-valuetext", data.words[shot].split(":")[0]));
  }
  box.addEventListener("input", show);
  box.querySelectorAll("[data-move]").forEach(button => button.addEventListener("click", () => {
    const slider = box.querySelector(`[data-control="${button.dataset.of}"]`);
    slider.value = Number(slider.value) + Number(button.dataset.move);
    show();
  }));
  show();
})();"""
