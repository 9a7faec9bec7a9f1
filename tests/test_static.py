"""What the pages load: what others have written as published, our own in lines one can read."""

import hashlib
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[1] / "book" / "static"
#: SHA-256 of files as npm has them: onnxruntime-web 1.30.0 (dist/, where the first one ends in
#: .mjs), @fontsource/stix-two-math 5.3.0 (files/).
PUBLISHED = {
    "live/onnxruntime/ort.wasm.bundle.min.js": (
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"
    ),
    "live/onnxruntime/ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
    "equations/stix-two-math-latin-400-normal.woff": (
        "794b8382140b9a061229bcdb5f3786c00e0bad91376d060fa1565184c90bf7c4"
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_is_as_published(name):
    assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == PUBLISHED[name]


def test_licences_lie_beside_it():
    assert (
        "Microsoft" in (STATIC / "live/onnxruntime/LICENSE").read_text()
        and "SIL OPEN FONT" in (STATIC / "equations/LICENSE").read_text()
    )


def test_the_page_knows_how_large_the_runtime_is():
    size = (STATIC / "live/onnxruntime/ort-wasm-simd-threaded.wasm").stat().st_size
    assert f"RUNTIME_BYTES = {size};" in (STATIC / "live/worker.js").read_text()


def test_no_line_of_our_scripts_and_styles_is_longer_than_100_characters():
    """Prettier wraps code, not sentences; ruff looks after Python."""
    ours = [
        path
        for folder in ("book", "helpers")
        for path in (STATIC.parents[1] / folder).rglob("*")
        if path.suffix in {".js", ".mjs", ".css"} and "onnxruntime" not in path.parts
    ]
    assert {"book.css", "live.css", "live.js", "worker.js"} <= {path.name for path in ours}
    lines = [(path.name, line) for path in ours for line in path.read_text("utf-8").splitlines()]
    assert [where for where in lines if len(where[1]) > 100] == []
