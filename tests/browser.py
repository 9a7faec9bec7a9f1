"""A real browser for the tests: the reader's Chromium, driven headless by playwright.

Tests that use the fixtures `page` or `site` are skipped, with a reason, where Chromium or
playwright is missing. playwright's own browsers are not downloaded.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

ROOT = Path(__file__).parents[1]
CONTENTS = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
#: The pages of the book, as in its table of contents.
PAGES = [CONTENTS["root"]] + [
    chapter["file"] for part in CONTENTS["parts"] for chapter in part["chapters"]
]
WAIT = 90_000  # milliseconds for anything a test waits for: a busy machine needs them
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
# What a notebook opened in JupyterLab asks another server for: the picture on its badge. The tests
# run without a network, so it is answered here; the pages of the book have a copy of their own.
ANSWERS = {
    "https://colab.research.google.com/assets/colab-badge.svg": (
        "image/svg+xml",
        '<svg xmlns="http://www.w3.org/2000/svg" width="117" height="20"/>',
    ),
}


def find_chromium() -> str | None:
    """Path of a Chromium or Chrome: that of the variable CHROMIUM, or the first one found."""
    named = os.environ.get("CHROMIUM")
    found = (
        [named]
        if named
        else [shutil.which(name) for name in NAMES]
        + [path for path in APPLICATIONS if Path(path).exists()]
    )
    return next(filter(None, found), None)


@pytest.fixture(scope="session")
def chromium():
    """playwright's Browser over the installed Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_chromium()
    if path is None:
        pytest.skip(
            "no Chromium or Chrome is installed; set CHROMIUM=/path/to/chrome if it lies elsewhere"
        )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-quic", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@contextmanager
def open_tab(chromium):
    """A fresh tab, whose ``complaints`` are the errors it logs or throws, and foreign addresses."""
    context = chromium.new_context(viewport={"width": 1200, "height": 1000})
    context.set_default_timeout(WAIT)
    tab, complaints = context.new_page(), []
    tab.on(
        "console",
        lambda message: (
            complaints.append(f"console: {message.text} {message.location.get('url', '')}")
            if message.type == "error"
            else None
        ),
    )
    tab.on("pageerror", lambda error: complaints.append(f"thrown: {error}"))

    def guard(route):
        url = route.request.url
        if url in ANSWERS:
            kind, body = ANSWERS[url]
            return route.fulfill(content_type=kind, body=body)
        if url.startswith(("http://localhost", "http://127.0.0.1", "data:", "blob:", "file:")):
            return route.continue_()
        complaints.append(f"foreign address: {url}")
        return route.abort()

    context.route("**/*", guard)
    tab.complaints = complaints  # a test may take out what it expects
    yield tab
    context.close()


@pytest.fixture
def page(chromium):
    """A fresh tab. The test fails if the page logs an error, throws, or asks a foreign server."""
    with open_tab(chromium) as tab:
        yield tab
    assert not tab.complaints, "\n".join(tab.complaints)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args, headers=(), **options):
        self.more_headers = dict(headers)
        super().__init__(*args, **options)

    def end_headers(self):
        for name, value in self.more_headers.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *args):
        pass


@contextmanager
def serve(folder: Path, headers: Mapping[str, str] = (), handler=Quiet) -> Iterator[str]:
    """Serve a folder on a free local port; gives the address, without a slash at the end."""
    handler = functools.partial(handler, directory=str(folder), headers=headers)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.fixture(scope="session")
def built(chromium, tmp_path_factory):
    """Folder of the built book, from the outputs the notebooks were committed with.

    The variable BUILT names one that is there already, such as _build/html after ``make book``.
    """
    if os.environ.get("BUILT"):
        return Path(os.environ["BUILT"])
    pytest.importorskip("jupyter_book", reason="jupyter-book is not installed")
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return build(tmp_path_factory.mktemp("book"))
    folder = tmp_path_factory.getbasetemp().parent / "book"  # one for all workers
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            folder.mkdir()
            build(folder)
    html = folder / "_build" / "html"
    assert html.is_dir(), "the book was not built, see the first failure"
    return html


def build(folder: Path) -> Path:
    """Write the book into an empty folder, no notebook executed; gives the folder of its pages."""
    for name in ("book", "notebooks", "locale"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints")
        )
    for name in ("_toc.yml", "Makefile"):  # the model card shows what the Makefile runs
        shutil.copy(ROOT / name, folder)
    settings = (ROOT / "_config.yml").read_text(encoding="utf-8")
    assert settings.count("execute_notebooks: cache") == 1
    (folder / "_config.yml").write_text(
        settings.replace("execute_notebooks: cache", 'execute_notebooks: "off"'), encoding="utf-8"
    )
    built = subprocess.run(
        [sys.executable, "-m", "book.build"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
    return folder / "_build" / "html"


@pytest.fixture(scope="session")
def site(built):
    """Address of the built book."""
    with serve(built) as address:
        yield address
