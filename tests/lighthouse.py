"""Lighthouse's marks for pages of the built book on a phone: `make lighthouse`.

Fails where one is below LEAST, or where what is shown moves by more than MOST_SHIFT. The pages are
served packed, as GitHub Pages does.
"""

import argparse
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

from .browser import Quiet, find_chromium, serve

VERSION = "12.8.2"  # the last one for Node.js 18 and 20
PAGES = ("book/intro", "notebooks/01_grad_cam", "book/try")
RUNS = 3  # the median counts: one run differs from the next by up to ten points
KINDS = ("performance", "accessibility", "best-practices", "seo")
LEAST = {"performance": 0.85, "accessibility": 1.0}
MOST_SHIFT = 0.05
PACKED = (".html", ".css", ".js", ".json", ".svg", ".wasm", ".onnx")


class Packing(Quiet):
    """Answers with gzip, as most servers do."""

    def send_head(self):
        path = Path(self.translate_path(self.path))
        if path.suffix not in PACKED or not path.is_file():
            return super().send_head()
        content = gzip.compress(path.read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)


def marks(address: str) -> dict:
    """Lighthouse's report of a page on a phone with a slow line and a slow processor."""
    command = ["npx", "--yes", f"lighthouse@{VERSION}", address, "--quiet", "--output=json"]
    command += [f"--only-categories={','.join(KINDS)}", "--chrome-flags=--headless --no-sandbox"]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "CHROME_PATH": find_chromium() or ""},
    )
    if run.returncode:
        sys.exit(f"error: Lighthouse could not run: {run.stderr[-2000:]}")
    return json.loads(run.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, help="folder of the built book")
    parser.add_argument("pages", nargs="*", default=PAGES)
    chosen = parser.parse_args()
    bad = []
    with serve(chosen.site, handler=Packing) as address:
        for page in chosen.pages:
            runs = [marks(f"{address}/{page}.html") for _ in range(RUNS)]
            runs.sort(key=lambda report: report["categories"]["performance"]["score"])
            report = runs[RUNS // 2]
            scores = {kind: report["categories"][kind]["score"] for kind in KINDS}
            shift = report["audits"]["cumulative-layout-shift"]["numericValue"]
            words = ", ".join(f"{kind} {100 * score:.0f}" for kind, score in scores.items())
            print(f"{page}: {words}, layout shift {shift:.3f}", flush=True)
            bad += [f"{page}: {kind}" for kind, least in LEAST.items() if scores[kind] < least]
            bad += [f"{page}: layout shift"] * (shift > MOST_SHIFT)
    if bad:
        sys.exit(f"error: not good enough: {', '.join(bad)}")


if __name__ == "__main__":
    main()
