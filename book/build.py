"""Build the site: every page in English, and under ``ja/`` in Japanese.

    python -m book.build

The notebooks are executed once, for the English pages; the Japanese ones take the same outputs from
the cache. Any warning of either is an error.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import yaml
from jupyter_book.sphinx import build_sphinx

from book.colab import write_notebooks
from book.translate import LANGUAGE, ROOT

#: Large files under _static that the Japanese pages take from the English ones.
SHARED = ("live", "equations", "preview.png")


def run_sphinx(builder: str, folder: Path, *, strict: bool = False, **settings) -> int:
    """What `jupyter-book build` does, with some of Sphinx's settings changed. 0 means success.

    ``folder`` gets the pages; Sphinx keeps what it has read beside it.
    """
    status = build_sphinx(
        ROOT,
        folder,
        noconfig=True,
        path_config=ROOT / "_config.yml",
        builder=builder,
        force_all=strict,  # a page with a broken link would else pass when built a second time
        warningiserror=strict,
        keep_going=strict,
        quiet=True,
        confoverrides={
            "external_toc_path": (ROOT / "_toc.yml").as_posix(),
            "latex_individualpages": False,
            "nitpicky": strict,
            "nb_execution_cache_path": (ROOT / "_build" / ".jupyter_cache").as_posix(),
            **settings,
        },
    )
    if isinstance(status, BaseException):  # told already
        raise SystemExit(1) from status
    return status


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    site, japanese = ROOT / "_build" / "html", ROOT / "_build" / LANGUAGE / "html"
    print("The book in English ...", flush=True)
    failed = run_sphinx("html", site, strict=True, twins=True)
    print("The book in Japanese ...", flush=True)
    failed |= run_sphinx("html", japanese, strict=True, twins=True, language=LANGUAGE)
    if failed:
        sys.exit("error: Sphinx has warned, see above")
    shutil.rmtree(site / LANGUAGE, ignore_errors=True)
    shutil.copytree(japanese, site / LANGUAGE, ignore=shutil.ignore_patterns(*SHARED, ".buildinfo"))
    address = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["html"]["baseurl"]
    write_notebooks(site / LANGUAGE / "_sources" / "notebooks", f"{address}{LANGUAGE}/")


if __name__ == "__main__":
    main()
