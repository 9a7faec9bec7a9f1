"""What the page "Try your own photo" asks its server for, beside its own code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import ImageOps

from helpers import SAMPLES, Model, heat_map, sample
from helpers.interactive.export import export_onnx
from helpers.methods import RULES, TABLE
from helpers.networks.images import FEWEST_PIXELS_A_SIDE, MEAN, MOST_PIXELS, STD
from helpers.networks.models import FITS

#: Pixels a side of the picture on a sample's button, for screens with two pixels a point.
BUTTON = 112


def export_page(model: Model, folder: str | Path) -> None:
    """Write ``model.onnx``, ``model.json`` and the samples, lossless and small, into ``folder``.

    ``model.json`` holds the names of the classes, the methods, the preprocessing, the limits for
    photos, the colours, and what the network says of each sample.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stored = export_onnx(model.network, folder / "model.onnx", model.input_size)
    facts = {
        "bytes": stored["bytes"],
        "classNames": model.class_names,
        "resize": model.preprocess.resize,
        "crop": model.preprocess.crop,
        "mean": MEAN,
        "std": STD,
        "mostPixels": MOST_PIXELS,
        "fewestPixelsASide": FEWEST_PIXELS_A_SIDE,
        "heat": np.rint(heat_map(np.linspace(0, 1, 256)[None]) * 255).astype(int).ravel().tolist(),
        "samples": sample_rows(model),
        "methods": method_rows(),
    }
    for name in SAMPLES:
        photo = sample(name)
        photo.save(folder / f"{name}.webp", lossless=True, exact=True)
        ImageOps.fit(photo, (BUTTON, BUTTON)).save(folder / f"{name}-small.webp", quality=80)
    # last, so that where it is, all is
    (folder / "model.json").write_text(json.dumps(facts, separators=(",", ":")), encoding="utf-8")


def sample_rows(model: Model) -> list[dict]:
    """Of each sample its name, the classes that fit it, and the one that the network says."""
    answers = model.top(model.prepare([sample(name) for name in SAMPLES]), k=1)
    return [
        {"name": name, "fits": [fit for fit in FITS[name] if fit in model.class_names],
         "says": says}
        for name, [(says, _)] in zip(SAMPLES, answers, strict=True)
    ]  # fmt: skip


def method_rows() -> list[dict]:
    """The table of methods without what only Python needs; ``rule`` is a key, or null."""
    names = {rule: key for key, rule in RULES.items()}
    return [
        {"key": row.key, "title": row.title, "words": row.words, "kind": row.kind,
         "rule": names.get(row.rule)}
        for row in TABLE
    ]  # fmt: skip
