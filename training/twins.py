"""Teach the twins of chapter 8, and mark their maps: ``python -m training.twins``.

Writes ``helpers/assets/twins.safetensors`` and ``twins.json``, the networks with a card for each,
and then ``twins_measured.json``: how much of each method's map lies on the digit that decides, and
how alike the maps of two networks are. ``--measure`` only measures the networks that are there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from helpers import (
    all_maps,
    edge_strength,
    energy_in_box,
    fold_batch_norm,
    rank_correlation,
    ssim,
)
from helpers.networks.models import ASSETS
from helpers.networks.twins import (
    CARD,
    HALF,
    QUESTIONS,
    SEEDS,
    SIDE,
    TWINS,
    WEIGHTS,
    Pictures,
    Twin,
    load_twin,
    two_digits,
)

COMMAND = "python -m training.twins"
MEASURED = ASSETS / "twins_measured.json"
BATCH, RATE, DECAY = 64, 4e-3, 0.01
STEPS = {"questions": 320, "labels": 1000}
BY_HEART = 1000  # how many pictures are learnt by heart
#: How many fresh pictures the cards, the energies and the likenesses are measured on.
N_CARD, N_ENERGY, N_LIKENESS = 1000, 500, 200
#: Seeds of pictures that no network was taught with.
FRESH, TWICE = 1_000_000, 1_000_001
#: Whose maps are marked together, and by which question.
MARKED = {
    "colour": {"red": "red", "blue": "blue"},
    "place": {"left": "left", "right": "right"},
    "true labels": {"true labels": "red"},
    "random labels": {"random labels": "red"},
}

#: Whose maps are compared, by what the two networks were taught.
COMPARED = {
    "both true": ("true", "true"),
    "one random": ("true", "random"),
    "both random": ("random", "random"),
}

#: By what they were taught, and the seed.
Networks = dict[tuple[str, int], nn.Module]


def by_heart(seed: int) -> tuple[Pictures, dict[str, torch.Tensor]]:
    """The pictures that two networks of a seed see again and again, and the labels by name."""
    generator = torch.Generator().manual_seed(seed)
    pictures = two_digits(BY_HEART, seed)
    return pictures, {
        "true labels": pictures.answers("red"),
        "random labels": torch.randint(10, (BY_HEART,), generator=generator),
    }


def batches(kind: str, seed: int) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """What is seen at each step, ``(64, 3, 48, 48)``, and the labels by the networks' names."""
    if kind == "questions":  # no picture is seen twice
        for step in range(STEPS[kind]):
            pictures = two_digits(BATCH, 10_000 * (seed + 1) + step)
            yield pictures.x, {question: pictures.answers(question) for question in QUESTIONS}
    else:
        generator = torch.Generator().manual_seed(seed)
        pictures, labels = by_heart(seed)
        for _ in range(STEPS[kind]):
            drawn = torch.randint(BY_HEART, (BATCH,), generator=generator)
            yield pictures.x[drawn], {name: label[drawn] for name, label in labels.items()}


def teach(kind: str, seed: int) -> dict[str, nn.Module]:
    """Networks that begin with the same weights and see the same pictures in the same order."""
    pupils, steps = {}, STEPS[kind]
    for x, labels in tqdm(batches(kind, seed), f"{kind}, seed {seed}", total=steps):
        for name, label in labels.items():
            if name not in pupils:
                torch.manual_seed(seed)
                network = Twin(batch_norm=True)
                optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
                rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
                pupils[name] = network, optimiser, rate
            network, optimiser, rate = pupils[name]
            optimiser.zero_grad()
            F.cross_entropy(network(x), label).backward()
            optimiser.step()
            rate.step()
    return {name: as_stored(network) for name, (network, *_) in pupils.items()}


def as_stored(network: nn.Module) -> nn.Module:
    """Batch normalisation folded, weights rounded to float16: what the file holds, as float32."""
    plain = fold_batch_norm(network).requires_grad_(False)
    plain.load_state_dict({key: value.half() for key, value in plain.state_dict().items()})
    return plain


def percent(flags: torch.Tensor) -> float:
    return round(100 * flags.float().mean().item(), 1)


@torch.no_grad()
def named(network: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> float:
    """For how many pictures the network names this label, in percent."""
    return percent(network(x).argmax(dim=1) == labels)


@torch.no_grad()
def stays(network: nn.Module, pictures: Pictures, question: str) -> dict[str, float]:
    """How often the answer stays if one digit is exchanged, the other or the deciding, in percent.

    A half of the picture is replaced by that half of another one, whose red digit is at the same
    place; where both show the same digit there, the pair is not counted.
    """
    order = pictures.red.argsort(stable=True)
    first, second = order[1:], order[:-1]
    alike = pictures.red[first] == pictures.red[second]
    first, second = first[alike], second[alike]
    x, digits, place = pictures.x, pictures.digits, pictures.place(question)[first]
    before = network(x[first]).argmax(dim=1)
    kept: dict[str, list[torch.Tensor]] = {"other": [], "deciding": []}
    for half in (0, 1):
        mixed, columns = x[first].clone(), slice(half * HALF, (half + 1) * HALF)
        mixed[..., columns] = x[second][..., columns]
        same = network(mixed).argmax(dim=1) == before
        counted = digits[first, half] != digits[second, half]
        kept["deciding"].append(same[counted & (place == half)])
        kept["other"].append(same[counted & (place != half)])
    return {name: percent(torch.cat(flags)) for name, flags in kept.items()}


def card(taught: str, network: nn.Module, seed: int, fresh: Pictures) -> dict:
    """What to know about one network, in percent of pictures; ``fresh``: it was not taught with."""
    with torch.no_grad():
        says = network(fresh.x).argmax(dim=1)
    facts = {
        "taught": taught,
        "seed": seed,
        "steps": STEPS["questions" if taught in QUESTIONS else "labels"],
        "command": COMMAND,
        "named_percent": {q: percent(says == fresh.answers(q)) for q in QUESTIONS},
    }
    if taught in QUESTIONS:
        return facts | {"answer_stays_percent": stays(network, fresh, taught)}
    pictures, labels = by_heart(seed)
    return facts | {"by_heart_percent": named(network, pictures.x, labels[taught])}


def store(networks: Networks, folder: Path) -> None:
    """Write the weights, as float16, and their cards."""
    fresh = two_digits(N_CARD, FRESH)
    raw = safetensors.torch.save(
        {
            f"{name}/{seed}/{key}": value.half().contiguous()
            for (name, seed), network in networks.items()
            for key, value in network.state_dict().items()
        }
    )
    (folder / WEIGHTS.name).write_bytes(raw)
    facts = {
        "sha256": hashlib.sha256(raw).hexdigest(),
        "fresh_pictures": N_CARD,
        "networks": {
            f"{name}/{seed}": card(name, network, seed, fresh)
            for (name, seed), network in networks.items()
        },
    }
    (folder / CARD.name).write_text(json.dumps(facts, indent=1) + "\n")


def area(box: list[int]) -> float:
    """The box's share of the picture."""
    left, top, right, bottom = box
    return (right - left) * (bottom - top) / SIDE**2


def energies(network: nn.Module, pictures: Pictures, question: str) -> dict[str, np.ndarray]:
    """By method ``(N, 3)``: the map's share on the deciding digit, on the other; is it all zero?

    The maps explain the network's answers; "edges" has seen no network. Where a map is all zero,
    the shares are those of the boxes' area: chance.
    """
    with torch.no_grad():
        classes = network(pictures.x).argmax(dim=1)
    maps = all_maps(network, pictures.x, classes)
    maps["edges"] = [edge_strength(photo) for photo in pictures.pixels.movedim(1, -1).numpy()]
    boxes, places, found = pictures.boxes.tolist(), pictures.place(question).tolist(), {}
    for name, values in maps.items():
        rows = []
        for value, (left, right), place in zip(values, boxes, places, strict=True):
            pair = (right, left) if place else (left, right)
            shares = [energy_in_box(value, box) for box in pair]
            zero = np.isnan(shares[0])
            rows.append([*(map(area, pair) if zero else shares), zero])
        found[name] = np.array(rows, dtype=float)
    return found


def mean(values: np.ndarray) -> list[float]:
    """Of ``(networks, pictures)`` the mean and its standard error, in percent; NaN is left out.

    The error counts both kinds of luck: in the pictures drawn and in the networks taught.
    """
    luck = 0.0
    for axis in (0, 1):
        means = np.nanmean(values, axis=axis)
        luck += np.nanvar(means, ddof=1) / np.isfinite(means).sum()
    return [round(100 * float(np.nanmean(values)), 2), round(100 * float(luck) ** 0.5, 2)]


def marks(networks: Networks, pictures: Pictures, marked: dict[str, str]) -> dict:
    """By method, the mean energies over pictures and seeds of the networks of one :data:`MARKED`.

    ``ahead``: how often the deciding digit has more of the map than the other one.
    """
    found = [
        energies(networks[name, seed], pictures, question)
        for name, question in marked.items()
        for seed in SEEDS
    ]
    table = {}
    for name in found[0]:
        rows = np.stack([energy[name] for energy in found])
        table[name] = {
            "deciding": mean(rows[..., 0]),
            "other": mean(rows[..., 1]),
            "ahead": mean((rows[..., 0] > rows[..., 1]).astype(float)),
            "all_zero": int(rows[..., 2].sum()),
        }
    return table


def likeness(first: list, second: list) -> dict[str, np.ndarray]:
    """Of networks' maps, each ``(N, ...)``: how alike they are, ``(networks, N)`` by measure.

    Each network of the first list is compared with all of the second but the one of its own seed,
    and the mean is taken: pairs that share a network count as one. An all-zero map has no ranks
    and gives NaN.
    """
    return {
        title: np.array(
            [
                np.mean(
                    [
                        [like(a, b) for a, b in zip(one, other, strict=True)]
                        for j, other in enumerate(second)
                        if j != i
                    ],
                    axis=0,
                )
                for i, one in enumerate(first)
            ]
        )
        for title, like in (("rank_correlation", rank_correlation), ("ssim", ssim))
    }


def told_apart(networks: Networks, pictures: Pictures) -> dict:
    """By method and :data:`COMPARED`: how alike the maps of two networks of different seeds are.

    ``fall``: how much less alike they are than two that learnt true labels, if one learnt random
    ones. All maps explain the red digit; pictures for which any network's map is all zero are left
    out, ``left_out`` of each hundred.
    """
    classes = pictures.answers("red")
    maps = {
        name: [all_maps(networks[f"{name} labels", seed], pictures.x, classes) for seed in SEEDS]
        for name in ("true", "random")
    }
    table = {}
    for method in maps["true"][0]:
        of = {name: [found[method] for found in each] for name, each in maps.items()}
        alike = {title: likeness(of[a], of[b]) for title, (a, b) in COMPARED.items()}
        both, one = alike["both true"], alike["one random"]
        alike["fall"] = {title: both[title] - one[title] for title in both}
        ranks = np.concatenate([found["rank_correlation"] for found in alike.values()])
        kept = np.isfinite(ranks).all(axis=0)
        table[method] = {
            title: {name: mean(values[:, kept]) for name, values in found.items()}
            for title, found in alike.items()
        }
        table[method]["left_out"] = percent(torch.from_numpy(~kept))
    return table


def measure(networks: Networks, sha256: str) -> dict:
    """All that ``twins_measured.json`` holds."""
    generator = torch.Generator().manual_seed(TWICE)
    twice = torch.randint(10, (N_ENERGY, 1), generator=generator).expand(-1, 2)
    groups = {
        "any digits": two_digits(N_ENERGY, FRESH),
        "same digit twice": two_digits(N_ENERGY, TWICE, twice),
    }
    boxes = [box for pair in groups["any digits"].boxes.tolist() for box in pair]
    return {
        "command": f"{COMMAND} --measure",
        "weights_sha256": sha256,
        "explained": "the network's answer; for likeness, the red digit",
        "unit": "percent: [mean, standard error]",
        "seeds": list(SEEDS),
        "pictures": {"energy": N_ENERGY, "likeness": N_LIKENESS},
        "chance": round(100 * float(np.mean([area(box) for box in boxes])), 2),
        "energy": {
            title: {name: marks(networks, pictures, marked) for name, pictures in groups.items()}
            for title, marked in MARKED.items()
        },
        "likeness": told_apart(networks, two_digits(N_LIKENESS, FRESH)),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="only measure, teach nothing")
    parser.add_argument("--out", type=Path, default=ASSETS, help="the folder to write to")
    args = parser.parse_args(argv)
    if args.measure:
        networks = {(name, seed): load_twin(name, seed) for name in TWINS for seed in SEEDS}
        sha256 = json.loads(CARD.read_text())["sha256"]
    else:
        networks = {
            (name, seed): network
            for seed in SEEDS
            for kind in STEPS
            for name, network in teach(kind, seed).items()
        }
        store(networks, args.out)
        sha256 = json.loads((args.out / CARD.name).read_text())["sha256"]
    report = measure(networks, sha256)
    (args.out / MEASURED.name).write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
