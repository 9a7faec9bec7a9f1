"""Three rulers for the CAMs: ``python -m training.measure_cams --data FOLDER``.

Writes ``helpers/assets/cams.json``.

For every validation photo and its labelled class, at the layer in front of the last pooling and
behind it, each of :data:`helpers.autograd.cams.WEIGHTS` makes a map, and

- *cells*: each place of the layer is set to zero in turn. How well does the map foretell what the
  score loses? (correlation)
- *pointing*, *energy*: does the map lie in the box drawn around the object? (as training.measure)
- *covers*: the part of the photo that lies under each place is covered in grey in turn. How well
  does the map foretell what the score loses? (correlation; on each of a few photos only, as this
  takes a pass for every place)
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from helpers import energy_in_box, load_model, pointing_game, resize_maps
from helpers.autograd.cams import WEIGHTS, gather
from helpers.networks.models import ASSETS, CARD
from training.data import SIDE, read_boxes, read_classes, read_split

MEASURED = ASSETS / "cams.json"
#: By its name in the file: how many layers of ``features`` lie behind it.
LAYERS = {"in front": 1, "behind": 0}
BATCH = 50


def halves(network: nn.Module, behind: int) -> tuple[nn.Module, nn.Module]:
    """The network up to a layer, and from there to the scores."""
    cut = len(network.features) - behind
    rest = [*network.features[cut:], network.avgpool, nn.Flatten(), *network.classifier]
    return network.features[:cut], nn.Sequential(*rest)


def maps_and_gradient(lower, upper, x, classes) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer's output, and the gradient of each photo's class score, ``(N, C, h, w)``."""
    with torch.no_grad():
        maps = lower(x)
    leaf = maps.clone().requires_grad_()
    score = upper(leaf).gather(1, classes[:, None]).sum()
    return maps, torch.autograd.grad(score, leaf)[0]


@torch.no_grad()
def loss_of_each_place(ask, whole: torch.Tensor, h: int, w: int, c: int) -> torch.Tensor:
    """What the score loses when a place is taken away: ``(h, w)``.

    ``whole`` is ``(1, C, a * h, a * w)`` and loses the ``a x a`` entries of that place; ``ask``
    gives scores for it.
    """
    keep = 1 - torch.eye(h * w).view(h * w, 1, h, w)
    size = whole.shape[-2] // h, whole.shape[-1] // w
    keep = keep.repeat_interleave(size[0], 2).repeat_interleave(size[1], 3)
    left = torch.cat([ask(whole * part)[:, c] for part in keep.split(BATCH)])
    return (ask(whole)[0, c] - left).view(h, w)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Pearson's; NaN if one of the two is the same everywhere."""
    pair = torch.stack([a.flatten(), b.flatten()]).double()
    return float(torch.corrcoef(pair)[0, 1]) if (pair.std(dim=1) > 0).all() else float("nan")


def measure(model, photos, labels, boxes, covers: int) -> dict:
    """By layer, method and ruler, one value a photo; each ``covers``-th is covered."""
    found = {layer: defaultdict(lambda: defaultdict(list)) for layer in LAYERS}
    side, network = model.input_size, model.network
    for start in tqdm(range(0, len(photos), BATCH), desc="measuring", unit=" batches"):
        x = model.prepare(list(photos[start : start + BATCH]))
        classes = torch.as_tensor(labels[start : start + BATCH])
        for layer, behind in LAYERS.items():
            lower, upper = halves(network, behind)
            maps, gradient = maps_and_gradient(lower, upper, x, classes)
            h, w = maps.shape[2:]
            every = {name: gather(weigh(maps, gradient), maps) for name, weigh in WEIGHTS.items()}
            for i, c in enumerate(classes.tolist()):
                number = start + i
                box = tuple(edge * side // SIDE for edge in boxes[number])
                share = (box[2] - box[0]) * (box[3] - box[1]) / side**2
                truths = {"cells": loss_of_each_place(upper, maps[i : i + 1], h, w, c)}
                if number % covers == 0:
                    truths["covers"] = loss_of_each_place(network, x[i : i + 1], h, w, c)
                for name, values in every.items():
                    rulers = found[layer][name]
                    large = resize_maps(values[i : i + 1], (side, side))[0]
                    energy = energy_in_box(large, box)
                    rulers["pointing"].append(pointing_game(large, box))
                    rulers["energy"].append(share if np.isnan(energy) else energy)
                    for ruler, truth in truths.items():
                        rulers[ruler].append(correlation(values[i], truth))
    return found


def mean(values: list[float], scale: float) -> dict:
    """Mean and standard error, of the values that are numbers, and how many those are."""
    values = np.array(values)
    values = scale * values[np.isfinite(values)]
    error = values.std(ddof=1) / len(values) ** 0.5
    return {"mean": round(values.mean(), 3), "error": round(error, 3), "photos": len(values)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="as for training.measure")
    parser.add_argument("--out", type=Path, default=MEASURED)
    parser.add_argument("--covers", type=int, default=60, help="cover each so-manieth photo")
    parser.add_argument("--limit", type=int, help="only so many photos: to try it out")
    args = parser.parse_args(argv)
    model = load_model("embedded", device="cpu")
    photos, labels, names = read_split(args.data, "val", read_classes()[0])
    chosen = np.linspace(0, len(photos) - 1, args.limit or len(photos)).astype(int)
    known = read_boxes(args.data)
    boxes = [known[names[i]] for i in chosen]
    found = measure(model, photos[chosen], labels[chosen], boxes, args.covers)
    scales = {"cells": 1, "covers": 1, "pointing": 100, "energy": 100}
    report = {
        "command": "python -m training.measure_cams --data path/to/tiny-imagenet-200",
        "weights_sha256": json.loads(CARD.read_text())["sha256"],
        "pixels": model.input_size,
        "photos": len(chosen),
        "layers": {
            layer: {
                name: {ruler: mean(rulers[ruler], scale) for ruler, scale in scales.items()}
                for name, rulers in methods.items()
            }
            for layer, methods in found.items()
        },
    }
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["layers"], indent=1))


if __name__ == "__main__":
    main()
