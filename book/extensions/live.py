"""Sphinx: before the site is built, write what the page "Try your own photo" loads, into _build/live.

It is made once; `make book` empties _build when the helpers or the weights change.
"""

import shutil
from pathlib import Path

from helpers import load_model
from helpers.export import export_page


def write_assets(app) -> None:
    folder = Path(app.outdir).parent / "live"
    if not (folder / "live" / "model.json").exists():  # written last
        shutil.rmtree(folder, ignore_errors=True)
        export_page(load_model("embedded", device="cpu"), folder / "live")
    app.config.html_static_path.append(str(folder))


def setup(app):
    app.connect("builder-inited", write_assets)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
