"""Sphinx: figures as WebP of known size; rows of pictures as pictures, with their words as text.

What `helpers.plotting` draws carries its words in its PNG, and where its pictures lie. Here each
picture of a row is cut out into a file of its own, so that a narrow screen may wrap the row; titles
and notes are text, in the colours of the theme. Charts beside each other are cut apart, too, for a
narrow screen to stack them. Any other PNG stays one picture.
"""

import json
from html import escape
from pathlib import Path

import numpy as np
from docutils import nodes
from languages import words_of
from PIL import Image

#: Bytes of the pictures in a row are rounded to multiples of this, which takes a third off their
#: files, and is off by no more than 2 of 255, which nobody sees. Charts are kept as they are.
STEP = 4


def show_image(translator, node) -> None:
    """Instead of the translator's own visit of an image."""
    builder = translator.builder
    name = builder.images.get(node["uri"], "")
    if not name.endswith(".png") or {"width", "height", "scale"} & set(node.attributes):
        return type(translator).visit_image(translator, node)
    del builder.images[node["uri"]]  # the PNG itself is shown nowhere
    # what is at the top of a page is wanted at once, the rest when it is near
    first = not getattr(translator, "has_figure", False)
    translator.has_figure = True
    words, files = convert(
        Path(builder.srcdir) / node["uri"], Path(builder.outdir) / builder.imagedir, name
    )
    shown = [(f"{builder.imgpath}/{file}", size) for file, size in files]
    alt = node.get("alt", "")
    if alt:  # the one text that Sphinx has not translated
        alt = words_of(builder.app, builder.current_docname)(alt)
    translator.body.append(markup(words, shown, alt, first))


def convert(source: Path, folder: Path, name: str) -> tuple[dict, list]:
    """Write a PNG's pictures as WebP into a folder.

    Returns the words in the PNG, and of each file its name and ``(width, height)``: one a panel of
    a row of pictures; the parts of charts beside each other, see `cut_chart`; else one, of a chart
    without the note below it.
    """
    with Image.open(source) as picture:
        words = read_words(picture.info.get("Description", ""))
        pixels = np.asarray(picture.convert("RGB"))
    if words.get("panels"):
        rounded = np.clip(np.rint(pixels / STEP) * STEP, 0, 255).astype(np.uint8)
        parts = [rounded[y : y + high, x : x + wide] for x, y, wide, high in words["panels"]]
    elif words.get("chart"):
        parts = cut_chart(pixels, **words["chart"])
    else:
        parts = [pixels[: words.get("note_top")]]
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for i, part in enumerate(parts):
        file = f"{Path(name).stem}-{i}.webp"
        Image.fromarray(part).save(folder / file, lossless=True)
        files.append((file, part.shape[1::-1]))
    return words, files


def cut_chart(pixels: np.ndarray, panels: list, strip: list, entries: list) -> list[np.ndarray]:
    """Parts of charts beside each other, from the boxes that `helpers.figure_words` gives.

    The panels; the words of the y axis, in white as high as a panel, to stand before those that
    have none; and if there is a legend, the whole of it and then its entries one by one.
    """

    def cut(box):
        x, y, wide, high = box
        return pixels[y : y + high, x : x + wide]

    _, top, _, high = panels[0]
    x, y, wide, tall = strip
    words = np.full_like(pixels[:high, :wide], 255)
    words[y - top : y - top + tall] = cut(strip)
    legend = [pixels[:top], *map(cut, entries)] if entries else []
    return [*map(cut, panels), words, *legend]


def read_words(text: str) -> dict:
    """What `helpers.plotting` has written into a PNG; {} for other pictures."""
    try:
        words = json.loads(text)
    except ValueError:
        return {}
    return words if isinstance(words, dict) and "panels" in words else {}


def markup(words: dict, shown: list, alt: str, first: bool) -> str:
    """A figure's pictures, ``(address, size)`` each, as HTML; and its note, as a paragraph."""
    when = 'fetchpriority="high"' if first else 'loading="lazy"'
    # dark-light: the theme's class for what looks right on a dark page
    kind = "dark-light" if words else "foreign"
    images = [
        f'<img class="{kind}" src="{src}" width="{wide}" height="{high}" {when} decoding="async"'
        for src, (wide, high) in shown
    ]
    alt = escape(alt)
    if not words:
        return f'{images[0]} alt="{alt}">'
    note = f'<p class="figure-note">{escape(words["note"])}</p>' if words["note"] else ""
    if words.get("chart"):
        return stack(images, shown, len(words["chart"]["panels"]), alt) + note
    if not words["panels"]:
        # never so small that its words, set for half its size, get too small to be read
        least = f"--least: {shown[0][1][0] // 2}px"
        return f'<div class="chart" style="{least}">{images[0]} alt="{alt}"></div>{note}'
    widest = max(wide for _, (wide, _) in shown)
    # the one long word of the titles may be broken where it is put together
    titles = [
        escape(title).replace("\n", "<br>").replace("backprop", "back&shy;prop")
        for title in words["titles"]
    ]
    panels = "".join(
        f'<div class="panel"><div class="panel-title">{title}</div>'
        f'{image} alt="" style="width: {100 * wide / widest:.4g}%"></div>'
        for image, title, (_, (wide, _)) in zip(images, titles, shown, strict=True)
    )
    columns = row_length(words["panels"])
    narrow = 3 if columns % 3 == 0 else min(columns, 2)
    style = f"--columns: {columns}; --narrow: {narrow}"
    return f'<div class="panels" role="img" aria-label="{alt}" style="{style}">{panels}</div>{note}'


def stack(images: list[str], shown: list, count: int, alt: str) -> str:
    """Charts beside each other as HTML, from the parts that `cut_chart` gives.

    Where they stack, the words of the y axis are before each, and the legend's entries wrap.
    """
    wide = [width for _, (width, _) in shown]
    # widths are numbers, of which the stylesheet makes shares of what is there
    parts = [
        f'{image} alt="" style="--wide: {width}">'
        for image, width in zip(images, wide, strict=True)
    ]
    (first, *others), strip, legend = parts[:count], parts[count], parts[count + 1 :]
    strip = strip.replace('class="', 'class="again ')
    rows = [first, *(strip + panel for panel in others)]
    whole, widest = sum(wide[:count]), max(wide[0], wide[count] + max(wide[1:count]))
    above = ""
    if legend:
        entries = "".join(legend[1:])
        above = f'<div class="legend">{legend[0]}</div><div class="entries">{entries}</div>'
    return (
        f'<div class="chart" role="img" aria-label="{alt}" style="--least: {whole // 2}px">'
        f'<div class="stack" style="--whole: {whole}; --widest: {widest}">{above}'
        f'<div class="charts">{"".join(f"<div>{row}</div>" for row in rows)}</div></div></div>'
    )


def row_length(boxes: list[list[int]]) -> int:
    """How many panels stand in the first row: the next begins further left."""
    starts = (i for i in range(1, len(boxes)) if boxes[i][0] <= boxes[i - 1][0])
    return next(starts, len(boxes))


def setup(app):
    app.add_node(nodes.image, override=True, html=(show_image, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
