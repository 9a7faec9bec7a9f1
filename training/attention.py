"""Teach two heads that attend, and measure their maps: ``python -m training.attention --data DIR``.

The embedded network stays as it is; its feature maps are computed once (float16; 8 GB for both
heads, which stay in memory, not on the GPU). Writes ``helpers/assets/attention.safetensors`` with a
card, ``attention.json``, and then ``attention_measured.json``: how the maps do in the boxes of the
validation photos, and what they say about each other. ``--teach-only`` leaves that out,
``--measure-only`` measures the heads that are there. Both draw the same numbers on every device;
the measurement is made on the CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from helpers import energy_in_box, grad_cam_any, load_model, pointing_game, resize_maps
from helpers.networks.attention import (
    CARD,
    HEADS,
    WEIGHTS,
    AttentionPooling,
    features_below,
    load_attention,
    relevance,
    rollout,
)
from helpers.networks.models import ASSETS
from helpers.networks.models import CARD as FEATURES_CARD
from training.data import SIDE, held_out, read_boxes, read_classes, read_split, shuffled
from training.measure_cams import correlation, mean
from training.teacher import decaying

COMMAND = "python -m training.attention --data path/to/tiny-imagenet-200"
MEASURED = ASSETS / "attention_measured.json"
BATCH = 100
#: What the rulers are multiplied by: two are stored in percent.
SCALES = {"pointing": 100, "energy": 100}


@dataclass(frozen=True)
class Recipe:
    """How a head is taught; usual numbers, which were not searched.

    drop : share of the tokens that the transformer does not see, drawn anew for every photo.
    """

    epochs: int
    rate: float
    decay: float
    smoothing: float = 0.1
    batch_size: int = 256
    drop: float = 0.0
    seed: int = 0


RECIPES = {
    "pooling": Recipe(epochs=4, rate=2e-3, decay=0.01),
    "transformer": Recipe(epochs=12, rate=1e-3, decay=0.05, drop=0.7),
}


@torch.inference_mode()
def feature_maps(model, photos: np.ndarray) -> dict[str, torch.Tensor]:
    """What each head gets of photos uint8 ``(N, 64, 64, 3)``, by its name.

    Float16 ``(N, C, h, w)`` on the CPU, whatever the model's device: they are too many for most
    GPUs.
    """
    found: dict[str, torch.Tensor] = {}
    bodies = {name: features_below(model.network, name) for name in HEADS}
    for start in tqdm(range(0, len(photos), BATCH), "feature maps", unit=" batches"):
        x = model.prepare(list(photos[start : start + BATCH]))
        done, at = x, 0
        for name in sorted(HEADS, key=lambda name: len(bodies[name])):  # the longer goes on
            done = bodies[name][at:](done)
            at = len(bodies[name])
            if name not in found:
                found[name] = torch.empty(len(photos), *done.shape[1:], dtype=torch.float16)
            found[name][start : start + len(x)] = done
    return found


def unseen(head: nn.Module, maps: torch.Tensor, drop: float) -> torch.Tensor:
    """Scores of maps, of which a transformer does not see a share of the tokens."""
    if not drop:
        return head(maps)
    tokens = head.tokens(maps)
    # drawn on the CPU: the same numbers on every device
    kept = torch.rand(tokens.shape[0], tokens.shape[1] - 1).argsort(dim=1) + 1
    kept = kept[:, : round(kept.shape[1] * (1 - drop))].to(tokens.device)
    rest = tokens.gather(1, kept[:, :, None].expand(-1, -1, tokens.shape[2]))
    return head.read(head.blocks(torch.cat([tokens[:, :1], rest], dim=1)))


def teach(
    head: nn.Module,
    maps: torch.Tensor,
    labels: torch.Tensor,
    rows: torch.Tensor,
    classes: int,
    recipe: Recipe,
) -> None:
    """Teach a head, in place and where it is.

    Maps float16 ``(N, C, h, w)`` and labels int64 ``(N,)`` on the CPU; ``rows``, int64, says which
    of them it may see.
    """
    device, size = next(head.parameters()).device, min(recipe.batch_size, len(rows))
    optimiser = torch.optim.AdamW(decaying(head, recipe.decay), recipe.rate, betas=(0.9, 0.98))
    steps = recipe.epochs * (len(rows) // size)

    def rate(step: int) -> float:
        """Rises for a twentieth of the steps, then falls along a half cosine to zero."""
        start = steps / 20
        return min(step / start, (1 + math.cos(math.pi * (step - start) / (steps - start))) / 2)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step + 1))
    head.train()
    for epoch in range(recipe.epochs):
        order = rows[shuffled(len(rows), size, torch.default_generator)]
        bar, total = tqdm(order, f"epoch {epoch + 1}/{recipe.epochs}", mininterval=5), 0.0
        for step, chosen in enumerate(bar):
            x = maps[chosen].to(device).float()
            wanted, scores = labels[chosen].to(device), unseen(head, x, recipe.drop)
            loss = F.cross_entropy(scores, wanted, label_smoothing=recipe.smoothing)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += loss.item()
            bar.set_postfix(loss=f"{total / (step + 1):.3f}", refresh=False)
    head.eval()


@torch.inference_mode()
def accuracy(head: nn.Module, maps: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Top-1 and top-5, in percent, of maps and labels on the CPU."""
    device = next(head.parameters()).device
    scores = torch.cat([head(part.to(device).float()).cpu() for part in maps.split(BATCH)])
    hit = scores.topk(min(5, scores.shape[1])).indices == labels[:, None]
    return {
        "top1": round(100 * hit[:, 0].float().mean().item(), 1),
        "top5": round(100 * hit.any(1).float().mean().item(), 1),
    }


def new_head(name: str, maps: torch.Tensor, classes: int) -> tuple[nn.Module, dict]:
    """A head with random weights for such maps, on the CPU, and how it is built."""
    architecture = {"channels": maps.shape[1], "classes": classes}
    if name == "pooling":
        architecture["width"] = 64
    else:
        architecture |= {"side": maps.shape[2] // 2, "fold": 2, "width": 128, "depth": 4}
        architecture |= {"heads": 4, "hidden": 256}
    torch.manual_seed(RECIPES[name].seed)
    return HEADS[name][0](**architecture), architecture


def teach_all(model, data: Path, every: int, out: Path) -> None:
    """Teach the heads, with each so-manieth photo, and write them with their card."""
    wnids, classes = read_classes()
    photos, numbers, _ = read_split(data, "train", wnids)
    held = held_out(numbers)
    # of both kinds, so that few photos are still some of each
    taken = np.sort(np.concatenate([np.flatnonzero(kind)[::every] for kind in (held, ~held)]))
    photos, held = photos[taken], torch.from_numpy(held[taken])
    labels = torch.from_numpy(numbers[taken])
    maps = feature_maps(model, photos)
    weights, cards = {}, {}
    for name in HEADS:
        found = maps.pop(name)
        head, architecture = new_head(name, found, len(classes))
        head.to(model.device)
        teach(head, found, labels, (~held).nonzero()[:, 0], len(classes), RECIPES[name])
        halves = {key: value.half().cpu() for key, value in head.state_dict().items()}
        head.load_state_dict({key: value.float() for key, value in halves.items()})
        weights |= {f"{name}/{key}": value for key, value in halves.items()}
        cards[name] = {
            "architecture": architecture,
            "recipe": asdict(RECIPES[name]),
            "accuracy_percent": {"held out": accuracy(head, found[held], labels[held])},
        }
        print(name, json.dumps(cards[name]["accuracy_percent"]))
    raw = safetensors.torch.save(weights)
    out.mkdir(parents=True, exist_ok=True)
    (out / WEIGHTS.name).write_bytes(raw)
    facts = {
        "command": COMMAND,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "features_sha256": json.loads(FEATURES_CARD.read_text())["sha256"],
        "photos": int((~held).sum()),
        "heads": cards,
    }
    (out / CARD.name).write_text(json.dumps(facts, indent=1) + "\n")


def maps_of(head: nn.Module, maps: torch.Tensor, classes: torch.Tensor) -> dict:
    """Each method's map of these classes: ``(N, h, w)``, >= 0, by its name."""
    if isinstance(head, AttentionPooling):
        with torch.no_grad():
            parts = head.contributions(maps)[torch.arange(len(maps)), classes]
            return {"attention": head.attention(maps), "contribution": parts.clamp(min=0)}
    scores, attentions = head.attend(maps.clone().requires_grad_())
    last = attentions[-1].detach().mean(dim=1)[:, 0, 1:]
    return {
        "last attention": last.view(-1, head.side, head.side),
        "rollout": rollout(attentions),
        "relevance": relevance(attentions, scores.gather(1, classes[:, None])[:, 0]),
        "Grad-CAM": grad_cam_any(head, maps, head.blocks[-2], classes).maps,
    }


def against(head: AttentionPooling, maps: torch.Tensor, classes: torch.Tensor) -> dict:
    """What attention says beside the exact contributions, a value a photo.

    correlation : of the two.
    places : share of the places that get more than their share of attention.
    against : share of these that speak against the class, each beside a place whose value is 0;
        ``against, bias shared``: the bias is given to all places; ``against, mean class``: beside
        what the place says for the mean class, which changes no probability.
    """
    rows = torch.arange(len(maps))
    with torch.no_grad():
        attention = head.attention(maps).flatten(1)
        values = head.value(maps)
    beside = {
        "against": values,
        "against, bias shared": values + head.bias.detach()[:, None, None],
        "against, mean class": values - values.mean(dim=1, keepdim=True),
    }
    high = attention > 1 / attention.shape[1]
    exact = attention * values[rows, classes].flatten(1)
    negative = {name: v[rows, classes].flatten(1) < 0 for name, v in beside.items()}
    return {
        "correlation": list(map(correlation, attention, exact)),
        "places": high.float().mean(dim=1).tolist(),
        **{name: (n & high).sum(1).div(high.sum(1)).tolist() for name, n in negative.items()},
    }


@torch.no_grad()
def without(
    head: nn.Module, maps: torch.Tensor, classes: torch.Tensor, missing: torch.Tensor
) -> torch.Tensor:
    """Probability of each photo's class, ``(N,)``, if a head does not get some of the places.

    ``missing`` int64 ``(N, k)``: which ones, row by row. Shares of attention grow so that they add
    up to 1 again; a transformer never sees these tokens.
    """
    rows = torch.arange(len(maps))[:, None]
    if isinstance(head, AttentionPooling):
        shares = head.attention(maps).flatten(1)
        shares[rows, missing] = 0
        values = head.value(maps).flatten(2)
        scores = torch.einsum("np,ncp->nc", shares / shares.sum(1, keepdim=True), values)
        scores = scores + head.bias
    else:
        tokens = head.tokens(maps)
        stay = torch.ones(tokens.shape[:2], dtype=torch.bool)
        stay[rows, missing + 1] = False  # the class token goes first
        scores = head.read(head.blocks(tokens[stay].view(len(maps), -1, tokens.shape[2])))
    return scores.softmax(dim=1)[rows[:, 0], classes]


def measure_head(
    head: nn.Module, maps: torch.Tensor, labels: torch.Tensor, boxes: list, side: int
) -> dict:
    """What the photos with these maps say about a head; boxes in pixels, of ``side`` a photo."""
    found, about = defaultdict(lambda: defaultdict(list)), defaultdict(list)
    by_lot = torch.Generator().manual_seed(0)
    for start in tqdm(range(0, len(maps), BATCH), type(head).__name__, unit=" batches"):
        part, c = maps[start : start + BATCH].float(), labels[start : start + BATCH]
        with torch.no_grad():
            scores = head(part)
        # the likeliest class that is not the one asked about
        other = scores.scatter(1, c[:, None], -torch.inf).argmax(dim=1)
        mine, others = maps_of(head, part, c), maps_of(head, part, other)
        about["probability"] += scores.softmax(dim=1).gather(1, c[:, None])[:, 0].tolist()
        if isinstance(head, AttentionPooling):
            for what, values in against(head, part, c).items():
                about[what] += values
        for method, values in mine.items():
            rulers = found[method]
            rulers["other class"] += map(correlation, values, others[method])
            for i, picture in enumerate(resize_maps(values, (side, side)), start):
                left, top, right, bottom = boxes[i]
                share = (right - left) * (bottom - top) / side**2
                energy = energy_in_box(picture, boxes[i])
                rulers["pointing"].append(pointing_game(picture, boxes[i]))
                rulers["energy"].append(share if np.isnan(energy) else energy)
        lot = torch.rand(next(iter(mine.values())).shape, generator=by_lot)
        for method, values in {**mine, "by lot": lot}.items():
            order = values.flatten(1).argsort(dim=1, descending=True)
            quarter = order.shape[1] // 4
            for what, missing in {
                "without strongest": order[:, :quarter],
                "without weakest": order[:, -quarter:],
            }.items():
                found[method][what] += without(head, part, c, missing).tolist()
    return {
        "accuracy_percent": accuracy(head, maps, labels),
        **{what: mean(values, 1) for what, values in about.items()},
        "maps": {
            method: {ruler: mean(values, SCALES.get(ruler, 1)) for ruler, values in rulers.items()}
            for method, rulers in found.items()
        },
    }


def measure(model, data: Path, limit: int | None, heads: Path = ASSETS) -> dict:
    """What the validation photos say; see the chapter for what each number means."""
    photos, labels, files = read_split(data, "val", read_classes()[0])
    chosen = np.linspace(0, len(photos) - 1, limit or len(photos)).astype(int)
    photos, labels = photos[chosen], torch.from_numpy(labels[chosen])
    known, side = read_boxes(data), model.input_size
    boxes = [tuple(edge * side // SIDE for edge in known[files[i]]) for i in chosen]
    maps = feature_maps(model, photos)
    report = {}
    for name in HEADS:
        head = load_attention(name, "cpu", heads).network.head
        report[name] = measure_head(head, maps[name], labels, boxes, side)
    return {
        "command": COMMAND,
        "weights_sha256": json.loads((heads / CARD.name).read_text())["sha256"],
        "photos": len(photos),
        "pixels": side,
        "heads": report,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="as for training.train")
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder for the three files")
    parser.add_argument("--device", help="cpu, cuda, mps; the best there is unless given")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--teach-only", action="store_true", help="measure nothing")
    parts.add_argument("--measure-only", action="store_true", help="teach nothing")
    parser.add_argument("--limit", type=int, help="measure only so many photos: to try it out")
    parser.add_argument(
        "--every", type=int, default=1, help="teach with each so-manieth photo: to try it out"
    )
    args = parser.parse_args(argv)
    if not args.measure_only:
        teach_all(load_model("embedded", args.device), args.data, args.every, args.out)
    if not args.teach_only:
        report = measure(load_model("embedded", "cpu"), args.data, args.limit, args.out)
        (args.out / MEASURED.name).write_text(json.dumps(report, indent=1) + "\n")
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
