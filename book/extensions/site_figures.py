"""Sphinx: figures as WebP of known size; rows of pictures as pictures, with their words as text.

What `helpers.plotting` draws carries its words in its PNG. Here a row of pictures becomes a grid of
its panels, all cut out of one file, which a narrow screen may wrap; titles and notes are text, in
the colours of the theme. Any other PNG stays one picture.
"""

import json
from html import escape
from itertools import pairwise
from pathlib import Path

import numpy as np
from docutils import nodes
from PIL import Image

#: Bytes in rows of pictures are rounded to multiples of this, which halves the files, and is off by
#: no more than 2 of 255, which nobody sees. Charts, with few colours, are kept as they are.
STEP = 4
#: Pixels that are added on each side of a panel.
EDGE = 8


def show_image(translator, node) -> None:
    """Instead of the translator's own visit of an image."""
    builder = translator.builder
    name = builder.images.get(node["uri"], "")
    if not name.endswith(".png") or {"width", "height", "scale"} & set(node.attributes):
        return type(translator).visit_image(translator, node)
    # what is at the top of a page is wanted at once, the rest when it is near
    first = not getattr(translator, "has_figure", False)
    translator.has_figure = True
    words, size, file = convert(
        Path(builder.srcdir) / node["uri"], Path(builder.outdir) / builder.imagedir, name
    )
    del builder.images[node["uri"]]  # the PNG itself is shown nowhere
    src = f"{builder.imgpath}/{file}"
    when = 'fetchpriority="high"' if first else 'loading="lazy"'
    # the theme's own class for what looks right on a dark page
    image = f'<img class="dark-light" src="{src}" width="{size[0]}" height="{size[1]}"'
    image += f' {when} decoding="async"'
    alt = escape(node.get("alt", ""))
    if words.get("panels"):
        shown = panels(words, size, image, alt)
    elif words:
        # never so small that its words, set for half its size, get too small to be read
        least = f"--least: {size[0] // 2}px"
        shown = f'<div class="chart" style="{least}">{image} alt="{alt}"></div>'
    else:
        shown = f'{image.replace("dark-light", "foreign")} alt="{alt}">'
    translator.body.append(shown + note(words))


def convert(source: Path, folder: Path, name: str) -> tuple[dict, tuple[int, int], str]:
    """Write a PNG as WebP into a folder: its words, the size and the name of what is written.

    Of a chart the note below it is left out; of a row of pictures only they are kept, and the words
    say where they are now.
    """
    with Image.open(source) as picture:
        words = read_words(picture.info.get("Description", ""))
        pixels = np.asarray(picture.convert("RGB"))
    if words.get("panels"):
        pixels, words["panels"] = sheet(pixels, words["panels"])
        pixels = np.clip(np.rint(pixels / STEP) * STEP, 0, 255).astype(np.uint8)
    elif words.get("note"):
        pixels = pixels[: words["note_top"]]
    target = folder / Path(name).with_suffix(".webp")
    folder.mkdir(parents=True, exist_ok=True)
    # a notebook's picture is named after its content
    if not target.exists() or target.stat().st_mtime < Path(__file__).stat().st_mtime:
        Image.fromarray(pixels).save(target, lossless=True)
    return words, (pixels.shape[1], pixels.shape[0]), target.name


def sheet(pixels: np.ndarray, boxes: list[list[int]]) -> tuple[np.ndarray, list[list[int]]]:
    """The panels alone, in their rows, and their new boxes.

    Around each its outermost pixels go on, so that none of what lies beside it shines through where
    a browser draws it smaller.
    """
    rows, placed, top = [], [], 0
    for first, after in pairwise([*row_starts(boxes), len(boxes)]):
        parts, left = [], 0
        height = max(box[3] for box in boxes[first:after])
        for x, y, width, own_height in boxes[first:after]:
            around = ((EDGE, EDGE + height - own_height), (EDGE, EDGE), (0, 0))
            parts.append(np.pad(pixels[y : y + own_height, x : x + width], around, mode="edge"))
            placed.append([left + EDGE, top + EDGE, width, own_height])
            left += width + 2 * EDGE
        rows.append(np.hstack(parts))
        top += height + 2 * EDGE
    widest = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0)), mode="edge") for row in rows]
    return np.vstack(rows), placed


def row_starts(boxes: list[list[int]]) -> list[int]:
    """The first panel of each row: it lies further left than the one before."""
    return [i for i, box in enumerate(boxes) if i == 0 or box[0] <= boxes[i - 1][0]]


def read_words(text: str) -> dict:
    """What `helpers.plotting` has written into a PNG; {} for other pictures."""
    try:
        words = json.loads(text)
    except ValueError:
        return {}
    return words if isinstance(words, dict) and "panels" in words else {}


def panels(words: dict, size: tuple[int, int], image: str, alt: str) -> str:
    """The panels of a row of pictures as HTML, each one a window onto the same file."""
    boxes = words["panels"]
    starts = row_starts(boxes)
    columns = max(after - first for first, after in pairwise([*starts, len(boxes)]))
    narrow = 3 if columns % 3 == 0 else min(columns, 2)
    widest = max(width for _, _, width, _ in boxes)
    made = []
    for i, (title, (left, top, width, height)) in enumerate(
        zip(words["titles"], boxes, strict=True)
    ):
        window = f"aspect-ratio: {width} / {height}; width: {100 * width / widest:.4g}%"
        place = (
            f"width: {100 * size[0] / width:.6g}%; left: {-100 * left / width:.6g}%; "
            f"top: {-100 * top / height:.6g}%"
        )
        made.append(
            f'<div class="panel{" panel-first" * (i in starts)}">'
            f'<div class="panel-title">{escape(title).replace(chr(10), "<br>")}</div>'
            f'<div class="panel-window" style="{window}">{image} alt="" style="{place}"></div>'
            "</div>"
        )
    style = f"--columns: {columns}; --narrow: {narrow}"
    return (
        f'<div class="panels" role="img" aria-label="{alt}" style="{style}">{"".join(made)}</div>'
    )


def note(words: dict) -> str:
    """How the pictures were scaled, as a paragraph."""
    return f'<p class="figure-note">{escape(words["note"])}</p>' if words.get("note") else ""


def setup(app):
    app.add_node(nodes.image, override=True, html=(show_image, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
