"""A chapter's notebook in another language, from its catalogue, for Colab.

Only the blocks of text that the catalogue translates are exchanged; code, outputs and metadata
stay. Links to other pages of the book lead to the site: in Colab nothing lies beside a notebook.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.deflist import deflist_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

from book.translate import ROOT, SITE, catalogues, translations

PARSER = MarkdownIt("commonmark").enable("table")
for plugin in (colon_fence_plugin, deflist_plugin, dollarmath_plugin):
    PARSER.use(plugin)
DIRECTIVE = re.compile(r"\{[\w:-]+\}\s*(.*)")
OPTIONS = re.compile(r"((?::[\w-]+:.*\n)*)([\s\S]*)")
IMAGE = re.compile(r"(?<=!\[)[^\]]*(?=\]\()")
SUMMARY = re.compile(r"(?<=<summary>)[^<]*")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^()\s]+?)\.(?:ipynb|md)(#[^()\s]*)?\)")


def translate_markdown(text: str, messages: dict[str, str]) -> str:
    """Text in MyST with its paragraphs, titles and cells of tables exchanged where they are known.

    ``messages`` leads from a block's text, on one line, to its translation.
    """

    def known(found: re.Match) -> str:
        return messages.get(found[0], found[0])

    lines = text.split("\n")
    done = {}  # of each line the column up to which it is translated: cells of one row
    for token in PARSER.parse(text):
        if token.map is None:
            continue
        start, end = token.map
        if token.type in ("fence", "colon_fence"):
            directive = DIRECTIVE.fullmatch(token.info.strip())
            if directive is None:
                continue
            title = directive[1]
            if title in messages:
                lines[start] = lines[start].replace(title, messages[title])
            prefix = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
            options, content = OPTIONS.fullmatch(token.content.rstrip("\n")).groups()
            inside = (options + translate_markdown(content, messages)).split("\n")
            _put(lines, start + 1, end - 1, [prefix + line if line else line for line in inside])
        elif token.type == "inline":
            translation = messages.get(" ".join(token.content.split("\n")).strip())
            if not translation:  # it may be a picture and nothing else
                lines[start] = IMAGE.sub(known, lines[start])
                continue
            first, *rest = token.content.split("\n")
            column = lines[start].find(first, done.get(start, 0))
            if column < 0:
                continue
            after = "" if rest else lines[start][column + len(first) :]
            lines[start] = lines[start][:column] + translation + after
            done[start] = column + len(translation)
            _put(lines, start + 1, start + 1 + len(rest), [])
    return SUMMARY.sub(known, "\n".join(line for line in lines if line is not None))


def _put(lines: list, start: int, end: int, inside: list[str]) -> None:
    """Exchange lines; the number of lines stays, so that others are where the parser saw them."""
    for i in range(start, end):
        lines[i] = None
    if inside:
        lines[start] = "\n".join(inside)


def link_to(site: str, page: str, text: str) -> str:
    """Links from ``page`` to the book's other pages as addresses of a site."""
    folder = posixpath.dirname(page)

    def address(found: re.Match) -> str:
        other = posixpath.normpath(posixpath.join(folder, found[1]))
        return f"]({site}{other}.html{found[2] or ''})"

    return LINK.sub(address, text)


def translate_notebook(source: Path, page: str, messages: dict[str, str], site: str) -> str:
    """A notebook's JSON with its text cells translated; its badge opens itself."""
    notebook = json.loads(source.read_text(encoding="utf-8"))
    language = site.rstrip("/").rsplit("/", 1)[-1]
    for cell in notebook["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        text = translate_markdown("".join(cell["source"]), messages)
        text = text.replace("/blob/main/notebooks/", f"/blob/{language}/notebooks/")
        cell["source"] = link_to(site, page, text).splitlines(keepends=True)
    return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"


def write_notebooks(folder: Path, site: str) -> None:
    """Every notebook translated, under its own name; ``site`` is the address of the pages."""
    every = catalogues()
    for source in sorted((ROOT / "notebooks").glob("*.ipynb")):
        page = f"notebooks/{source.stem}"
        messages = {**translations(every[SITE]), **translations(every.get(page, ()))}
        notebook = translate_notebook(source, page, messages, site)
        (folder / source.name).write_text(notebook, encoding="utf-8")
