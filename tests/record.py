"""Record coarse maps of every sample photo: ``python -m tests.record``.

Run it when the embedded weights have changed, look at what changed, and commit
``tests/data/maps.npz``; `test_recorded` compares with it.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from helpers import (
    METHODS,
    SAMPLES,
    Model,
    grad_cam,
    guided_gradcam,
    load_model,
    saliency,
    sample,
)
from helpers.networks import models

RECORD = Path(__file__).with_name("data") / "maps.npz"
SIDE = 8


def coarse(maps: torch.Tensor) -> np.ndarray:
    """The mean positive and negative part of a map ``(..., H, W)`` in 64 fields: ``(2, 8, 8)``."""
    flat = maps.reshape(1, -1, *maps.shape[-2:])
    parts = [
        F.adaptive_avg_pool2d(part, SIDE).mean(1)[0]
        for part in (flat.clamp(min=0), flat.clamp(max=0))
    ]
    return torch.stack(parts).numpy().astype(np.float32)


def explain(model: Model, name: str, c: int | None = None) -> tuple[int, dict[str, np.ndarray]]:
    """The class explained, and a coarse map of each method; None for the photo's top class."""
    x = model.prepare(sample(name))
    cam = grad_cam(model.network, x, c)
    c = cam.classes.item()
    maps = {"cam": cam.maps, "finer cam": grad_cam(model.network, x, c, layer=-2).maps}
    maps |= {method: saliency(model.network, x, c, method) for method in METHODS}
    maps["guided_gradcam"] = guided_gradcam(model.network, x, c).maps
    return c, {method: coarse(m[0]) for method, m in maps.items()}


def digest() -> str:
    """The SHA-256 of the weights on disk."""
    return hashlib.sha256(models.WEIGHTS.read_bytes()).hexdigest()


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    model, record = load_model("embedded", device="cpu"), {"sha256": np.array(digest())}
    for name in SAMPLES:
        c, maps = explain(model, name)
        record[f"{name}/class"] = np.array(model.class_names[c])
        record |= {f"{name}/{method}": m for method, m in maps.items()}
        print(f"{name}: {model.class_names[c]}")
    RECORD.parent.mkdir(exist_ok=True)
    np.savez_compressed(RECORD, **record)
    print(f"{RECORD}: {RECORD.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
