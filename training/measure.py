"""Do the maps lie on the object? ``python -m training.measure --data FOLDER``.

Writes ``helpers/assets/measured.json``.

For every validation photo, each method explains the photo's labelled class; the pointing game and
the energy in the box compare the map with the box drawn around the object. Two maps that need
no network stand beside them: a Gaussian on the centre, and the photo's edges.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from helpers import (
    all_maps,
    centre_gaussian,
    edge_strength,
    energy_in_box,
    load_model,
    pointing_game,
)
from helpers.models import ASSETS, CARD
from training.data import SIDE, read_boxes, read_classes, read_split

MEASURED = ASSETS / "measured.json"
BATCH = 50
SMALL = 0.25  # a box is small below this share of the photo


def measure(
    model, photos: np.ndarray, labels: np.ndarray, boxes: list[tuple[int, int, int, int]]
) -> dict[str, np.ndarray]:
    """By method ``(N, 3)``: the pointing game, the energy, and whether the map is all zero.

    ``photos`` ``(N, 64, 64, 3)`` uint8; ``boxes`` in their pixels, right and bottom exclusive.
    Where a map is all zero, the energy is the box's share of the photo, as the pointing game is:
    chance.
    """
    side, found = model.input_size, {}
    gaussian = centre_gaussian(side, side)
    for start in tqdm(range(0, len(photos), BATCH), desc="measuring", unit=" batches"):
        batch = slice(start, start + BATCH)
        x = model.prepare(list(photos[batch]))
        maps = all_maps(model.network, x, labels[batch].tolist())
        maps["edges"] = [edge_strength(photo) for photo in model.preprocess.restore(x)]
        maps["centre"] = [gaussian] * len(x)
        for name, values in maps.items():
            for value, box in zip(values, boxes[batch], strict=True):
                box = tuple(edge * side // SIDE for edge in box)
                share = (box[2] - box[0]) * (box[3] - box[1]) / side**2
                energy = energy_in_box(value, box)
                zero = np.isnan(energy)
                found.setdefault(name, []).append(
                    (pointing_game(value, box), share if zero else energy, zero)
                )
    return {name: np.array(rows, dtype=float) for name, rows in found.items()}


def summary(found: dict[str, np.ndarray], chosen: np.ndarray, shares: np.ndarray) -> dict:
    """Means over the chosen photos and their standard errors, in percent.

    ``chance`` is the boxes' mean share.
    """

    def mean(values):
        return [
            round(100 * values.mean(), 2),
            round(100 * values.std(ddof=1) / len(values) ** 0.5, 2),
        ]

    methods = {
        name: {
            "pointing": mean(rows[chosen, 0]),
            "energy": mean(rows[chosen, 1]),
            "all_zero": int(rows[chosen, 2].sum()),
        }
        for name, rows in found.items()
    }
    return {"photos": int(chosen.sum()), "chance": mean(shares[chosen]), "methods": methods}


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
        "groups": {name: summary(found, chosen, shares) for name, chosen in groups.items()},
    }
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["groups"], indent=1))


if __name__ == "__main__":
    main()
