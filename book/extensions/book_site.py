"""Sphinx: what the site needs beyond what stands in the repository, and what it does not need."""

import re
import shutil
from pathlib import Path

from docutils import nodes
from live_page import export_page

from helpers import load_model

SCHEMATIC = re.compile(
    r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/main/(book/static/figures/\w+\.svg)"
)


def write_live_assets(app) -> None:
    """Before the build: what the page "Try your own photo" loads, into _build/live.

    It is made once; `make book` empties _build when the helpers or the weights change.
    """
    folder = Path(app.outdir).parent / "live"
    if not (folder / "live" / "model.json").exists():  # it is written last
        shutil.rmtree(folder, ignore_errors=True)
        export_page(load_model("embedded", device="cpu"), folder / "live")
    app.config.html_static_path.append(str(folder))


def own_badge(app, docname, source) -> None:
    """The badge's picture from the site itself; a notebook's address for it works everywhere."""
    source[0] = source[0].replace(
        "https://colab.research.google.com/assets/colab-badge.svg", "/book/static/colab-badge.svg"
    )


def draw_schematics(app, doctree, docname) -> None:
    """A schematic becomes part of its page, so that its colours follow the page's theme.

    In the notebooks it is a picture, at an address that works everywhere.
    """
    for image in list(doctree.findall(nodes.image)):
        found = SCHEMATIC.fullmatch(image["uri"])
        if found and app.builder.format == "html":
            drawing = (Path(app.srcdir) / found[1]).read_text(encoding="utf-8")
            image.replace_self(nodes.raw("", drawing, format="html"))


def drop_thebe(app, pagename, templatename, context, doctree) -> None:
    """Take Thebe away, which jupyter-book always adds and this book does not use.

    It declares its constants twice, which is an error on every page.
    """
    scripts = context.get("script_files", [])
    context["script_files"] = [
        s
        for s in scripts
        if "thebe"
        not in str(getattr(s, "filename", s) or getattr(s, "attributes", {}).get("body", ""))
    ]


def setup(app):
    app.connect("builder-inited", write_live_assets)
    app.connect("source-read", own_badge)
    app.connect("doctree-resolved", draw_schematics)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
