"""Sphinx: the book in more than one language."""

from pathlib import Path

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.locale import _ as translated


def settings_with_words(path: Path) -> list[str]:
    """The settings of ``_config.yml`` that readers see."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [settings["title"], settings["author"], settings["html"]["extra_footer"]]


def translate_settings(app, config) -> None:
    """In another language the site's title and footer, from ``sphinx.po``."""
    config.html_title = translated(config.html_title)
    config.author = translated(config.author)
    options = config.html_theme_options
    options["extra_footer"] = translated(options["extra_footer"])


def keep(app, doctree) -> None:
    """Equations and the reference's docstrings are for no translator."""
    for part in doctree.findall(lambda node: isinstance(node, (nodes.math_block, addnodes.desc))):
        for node in part.findall(nodes.TextElement):
            node["translatable"] = False


def setup(app):
    app.connect("config-inited", translate_settings)
    app.connect("doctree-read", keep)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
