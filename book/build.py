"""Build the book by Sphinx, in English or in another language."""

from __future__ import annotations

from pathlib import Path

from jupyter_book.sphinx import build_sphinx

ROOT = Path(__file__).parents[1]


def run_sphinx(builder: str, folder: Path, **settings):
    """What `jupyter-book build` does, with some of Sphinx's settings changed. 0 means success."""
    return build_sphinx(
        ROOT,
        folder,
        noconfig=True,
        path_config=ROOT / "_config.yml",
        doctreedir=folder.parent / f".doctrees-{builder}",
        builder=builder,
        quiet=True,
        confoverrides={
            "external_toc_path": (ROOT / "_toc.yml").as_posix(),
            "latex_individualpages": False,
            **settings,
        },
    )
