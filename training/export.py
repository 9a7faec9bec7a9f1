"""Turn a training run into the embedded model: ``python -m training.export RUN --data FOLDER``.

Folds batch normalisation, rounds to float16, and writes ``embedded.safetensors``, ``embedded.json``
(class names, preprocessing, SHA-256, recipe, teacher, accuracy) and ``training.jsonl``, the log of
the run. Accuracy is measured on the photos held out; with ``--final``, once everything is chosen,
on the validation photos as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from helpers import VGG16, fold_batch_norm
from helpers.networks.models import CARD, WEIGHTS
from training.data import read_classes, read_split, read_training
from training.train import Recipe, averaged_weights
from training.views import evaluate

SIZES = (96, 128, 160, 192)


def stored(state: dict, classes: int) -> tuple[dict[str, torch.Tensor], nn.Module]:
    """The weights as they are stored, float16, and a network that computes with them."""
    widths = tuple(state["recipe"]["widths"])
    trained = VGG16(classes, widths, batch_norm=True)
    trained.load_state_dict(averaged_weights(state))
    network = fold_batch_norm(trained)
    halves = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    network.load_state_dict({key: value.float() for key, value in halves.items()})
    return halves, network


def measure(network: nn.Module, data: Path, split: str, sizes: tuple[int, ...]) -> dict[str, dict]:
    """Top-1 and top-5 accuracy in percent by size, on ``"held out"`` or ``"val"`` photos."""
    wnids, _ = read_classes()
    if split == "held out":
        _, (photos, labels) = read_training(data, wnids)
    else:
        pictures, numbers, _ = read_split(data, split, wnids)
        photos = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        labels = torch.from_numpy(numbers)
    accuracy = {}
    for size in sizes:
        top1, top5 = evaluate(network, photos, labels, size)
        accuracy[str(size)] = {"top1": round(top1, 1), "top5": round(top5, 1)}
        print(f"{split}, {size:4d} px: top-1 {top1:.1f} %, top-5 {top5:.1f} %")
    return accuracy


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the folder that training.train wrote")
    parser.add_argument("--data", type=Path, required=True, help="photos to measure on")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--input-size", type=int, default=160)
    parser.add_argument("--final", action="store_true", help="measure on the validation photos")
    args = parser.parse_args(argv)

    _, names = read_classes()
    state = torch.load(args.run / "checkpoint.pt", map_location="cpu", weights_only=True)
    log = (args.run / "log.jsonl").read_text()
    planned = len(Recipe(**state["recipe"]).sizes())
    if state["epoch"] < planned:
        raise SystemExit(f"The run has finished {state['epoch']} of {planned} epochs: go on first.")
    halves, network = stored(state, len(names))
    network = network.to(args.device, memory_format=torch.channels_last)
    accuracy = {"held out": measure(network, args.data, "held out", SIZES)}
    if args.final:
        accuracy["validation"] = measure(network, args.data, "val", (args.input_size,))

    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    raw = safetensors.torch.save(halves)
    WEIGHTS.write_bytes(raw)
    facts = {
        "architecture": {"widths": state["recipe"]["widths"], "hidden": 256, "pooled": 2},
        "resize": args.input_size,
        "crop": args.input_size,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "recipe": state["recipe"],
        "teacher": state["teacher"],
        "epochs": state["epoch"],
        "seconds": round(state["seconds"]),
        "hardware": state["hardware"],
        "accuracy_percent": accuracy,
        "class_names": names,
    }
    CARD.write_text(json.dumps(facts, indent=1) + "\n")
    CARD.with_name("training.jsonl").write_text(log)
    count = sum(v.numel() for v in halves.values())
    print(f"{WEIGHTS.name}: {len(raw) / 1e6:.2f} MB, {count:,} parameters")


if __name__ == "__main__":
    main()
