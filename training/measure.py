"""Do the maps lie on the object? ``python -m training.measure --data FOLDER``.

Writes ``helpers/assets/measured.json``.

For every validation photo, each method explains the photo's labelled class; the pointing game and
the energy in the box compare the map with the box drawn around the object. Grad-CAM and its product
are read in two places, behind the last pooling and before it, as the paper does. Three maps that
were asked for no class stand beside them: the sum of all channels before the pooling, the photo's
edges, and a Gaussian on the centre.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from helpers import (
    all_maps,
    centre_gaussian,
    edge_strength,
    energy_in_box,
    grad_cam,
    load_model,
    pointing_game,
    resize_maps,
)
from helpers.networks.models import ASSETS, CARD
from training.data import SIDE, read_boxes, read_classes, read_split

MEASURED = ASSETS / "measured.json"
BATCH = 50
SMALL = 0.25  # a box is small below this share of the photo


@torch.no_grad()
def compared(model, photos: np.ndarray, labels: np.ndarray) -> dict[str, torch.Tensor | list]:
    """By method or baseline, one map a photo: ``(H, W)`` or ``(3, H, W)``."""
    x, side = model.prepare(list(photos)), model.input_size
    maps = all_maps(model.network, x, labels.tolist())
    earlier = resize_maps(grad_cam(model.network, x, labels.tolist(), layer=-2).maps, (side, side))
    maps["Grad-CAM before pooling"] = earlier
    maps["Guided Grad-CAM before pooling"] = earlier[:, None] * maps["guided backpropagation"]
    channels = model.network.features[:-1](x).sum(dim=1)
    maps["sum of channels"] = resize_maps(channels, (side, side))
    maps["edges"] = [edge_strength(photo) for photo in model.preprocess.restore(x)]
    maps["centre"] = [centre_gaussian(side, side)] * len(x)
    return maps


def measure(
    model, photos: np.ndarray, labels: np.ndarray, boxes: list[tuple[int, int, int, int]]
) -> dict[str, np.ndarray]:
    """By method ``(N, 3)``: the pointing game, the energy, and whether the map is all zero.

    ``photos`` ``(N, 64, 64, 3)`` uint8; ``boxes`` in their pixels, right and bottom exclusive.
    Where a map is all zero, the energy is the box's share of the photo, as the pointing game is:
    chance.
    """
    side, found = model.input_size, {}
    for start in tqdm(range(0, len(photos), BATCH), desc="measuring", unit=" batches"):
        batch = slice(start, start + BATCH)
        for name, values in compared(model, photos[batch], labels[batch]).items():
            for value, box in zip(values, boxes[batch], strict=True):
                box = tuple(edge * side // SIDE for edge in box)
                share = (box[2] - box[0]) * (box[3] - box[1]) / side**2
                energy = energy_in_box(value, box)
                zero = np.isnan(energy)
                found.setdefault(name, []).append(
                    (pointing_game(value, box), share if zero else energy, zero)
                )
    return {name: np.array(rows, dtype=float) for name, rows in found.items()}


@torch.no_grad()
def named(
    model, photos: np.ndarray, labels: np.ndarray, boxes: list[tuple[int, int, int, int]]
) -> dict[str, np.ndarray]:
    """Is the top class the labelled one? 1 or 0, ``(N,)``: of the photo, its box, its surroundings.

    What is not shown is grey: zero, after normalisation.
    """
    side, found = model.input_size, {"photo": [], "box": [], "surroundings": []}
    for start in tqdm(range(0, len(photos), BATCH), desc="hiding", unit=" batches"):
        batch = slice(start, start + BATCH)
        x = model.prepare(list(photos[batch]))
        inside = torch.zeros(len(x), 1, side, side, dtype=torch.bool, device=x.device)
        for i, box in enumerate(boxes[batch]):
            left, top, right, bottom = (edge * side // SIDE for edge in box)
            inside[i, :, top:bottom, left:right] = True
        for shown, seen in zip(found, (x, x * inside, x * ~inside), strict=True):
            top = model.network(seen).argmax(dim=1).cpu().numpy()
            found[shown].append(top == labels[batch])
    return {shown: np.concatenate(hits) for shown, hits in found.items()}


def summary(
    found: dict[str, np.ndarray],
    right: dict[str, np.ndarray],
    chosen: np.ndarray,
    shares: np.ndarray,
) -> dict:
    """Means over the chosen photos and their standard errors, in percent.

    ``chance`` is the boxes' mean share. ``pointing_lead`` and ``energy_lead`` are the differences
    from the centre, taken photo by photo: their error is smaller than that of two means apart.
    """

    def mean(values):
        return [
            round(100 * values.mean(), 2),
            round(100 * values.std(ddof=1) / len(values) ** 0.5, 2),
        ]

    centre = found["centre"][chosen]
    methods = {
        name: {
            "pointing": mean(rows[chosen, 0]),
            "energy": mean(rows[chosen, 1]),
            "pointing_lead": mean(rows[chosen, 0] - centre[:, 0]),
            "energy_lead": mean(rows[chosen, 1] - centre[:, 1]),
            "all_zero": int(rows[chosen, 2].sum()),
        }
        for name, rows in found.items()
    }
    return {
        "photos": int(chosen.sum()),
        "chance": mean(shares[chosen]),
        "named": {shown: mean(hits[chosen]) for shown, hits in right.items()},
        "methods": methods,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="val.tar and val_boxes.csv, or the unpacked tiny-imagenet-200",
    )
    parser.add_argument("--out", type=Path, default=MEASURED)
    parser.add_argument(
        "--limit", type=int, help="only so many photos, spread over the classes: to try it out"
    )
    args = parser.parse_args(argv)

    model = load_model("embedded")
    photos, labels, names = read_split(args.data, "val", read_classes()[0])
    if args.limit:
        kept = np.linspace(0, len(photos) - 1, args.limit).astype(int)
        photos, labels, names = photos[kept], labels[kept], [names[i] for i in kept]
    known = read_boxes(args.data)
    boxes = [known[name] for name in names]
    shares = np.array(
        [(right - left) * (bottom - top) / SIDE**2 for left, top, right, bottom in boxes]
    )

    right = named(model, photos, labels, boxes)
    found = measure(model, photos, labels, boxes)
    groups = {"all": np.ones(len(photos), dtype=bool), "small box": shares < SMALL}
    groups = {name: chosen for name, chosen in groups.items() if chosen.sum() > 1}
    report = {
        "command": "python -m training.measure --data path/to/tiny-imagenet-200"
        + (f" --limit {args.limit}" if args.limit else ""),
        "weights_sha256": json.loads(CARD.read_text())["sha256"],
        "pixels": model.input_size,
        "explained": "the labelled class",
        "unit": "percent: [mean, standard error]",
        "small_box": SMALL,
        "groups": {name: summary(found, right, chosen, shares) for name, chosen in groups.items()},
    }
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["groups"], indent=1))


if __name__ == "__main__":
    main()
