"""Turn a training checkpoint into the embedded model: ``python -m training.export CHECKPOINT --data FOLDER``.

Folds batch normalisation, rounds to float16, measures on the validation photos and writes
``embedded.safetensors`` and ``embedded.json`` (class names, preprocessing, SHA-256, accuracy).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch

from helpers.architecture import EMBEDDED_WIDTHS, VGG16, fold_batch_norm
from helpers.models import CARD, WEIGHTS
from training.data import read_classes, read_split
from training.train import averaged_weights, evaluate, runs

SIZES = (64, 96, 128, 160)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "--data", type=Path, help="photos to measure on; without it, accuracy is left out"
    )
    parser.add_argument("--input-size", type=int, default=128)
    args = parser.parse_args(argv)

    _, names = read_classes()
    state = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    trained = VGG16(len(names), batch_norm=True)
    trained.load_state_dict(averaged_weights(state))
    network = fold_batch_norm(trained)
    halves = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    network.load_state_dict({key: value.float() for key, value in halves.items()})

    accuracy = {}
    if args.data:
        wnids, _ = read_classes()
        photos, labels, _ = read_split(args.data, "val", wnids)
        photos, labels = torch.from_numpy(photos).permute(0, 3, 1, 2), torch.from_numpy(labels)
        for size in SIZES:
            top1, top5 = evaluate(network, photos, labels, size)
            accuracy[str(size)] = {"top1": round(top1, 1), "top5": round(top5, 1)}
            print(f"{size:4d} px: top-1 {top1:.1f} %, top-5 {top5:.1f} %")

    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    raw = safetensors.torch.save(halves)
    WEIGHTS.write_bytes(raw)
    facts = {
        "architecture": {"widths": EMBEDDED_WIDTHS, "hidden": 256, "pooled": 2},
        "resize": args.input_size,
        "crop": args.input_size,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "training": runs(state),
        "validation_accuracy_percent": accuracy,
        "class_names": names,
    }
    CARD.write_text(json.dumps(facts, indent=1) + "\n")
    print(
        f"{WEIGHTS.name}: {len(raw) / 1e6:.2f} MB, {sum(v.numel() for v in halves.values()):,} parameters"
    )


if __name__ == "__main__":
    main()
