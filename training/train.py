"""Train the embedded model from scratch: ``python -m training.train --data FOLDER``.

Shows a progress bar, writes a checkpoint after every epoch and goes on from it when started
again. The resolution grows during training (small photos are cheap and teach the coarse things
first); the last epochs run at the size at which the chapters ask the network.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from helpers.architecture import EMBEDDED_WIDTHS, VGG16
from training.data import read_classes, read_split

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def normalise(photos: torch.Tensor) -> torch.Tensor:
    """uint8 ``(N, 3, H, W)`` to float32 with ImageNet's mean and deviation."""
    return (photos.float() / 255 - MEAN.to(photos.device)) / STD.to(photos.device)


def augment(
    photos: torch.Tensor, size: int, generator: torch.Generator, min_area: float = 0.3, jitter: float = 0.3, tint: float = 0.0
) -> torch.Tensor:
    """Random resized crop, flip, brightness, contrast, saturation and tint, for a whole batch at once.

    Crops keep ``min_area`` to 1 of the photo's area; colours change by a factor of up to 1 +- ``jitter``,
    and each of red, green and blue is shifted by up to ``tint`` standard deviations.

    One affine map a photo does crop, aspect ratio, flip and resize in a single interpolation.
    """
    n, device = len(photos), photos.device

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=generator).to(device) * (high - low) + low

    area, ratio = uniform(min_area, 1.0), torch.exp(uniform(-math.log(4 / 3), math.log(4 / 3)))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = width * flip, height
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height)
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    x = F.grid_sample(normalise(photos), grid, padding_mode="reflection", align_corners=False)

    def per_photo(values: torch.Tensor) -> torch.Tensor:
        return values.view(n, 1, 1, 1)

    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * per_photo(uniform(1 - jitter, 1 + jitter))
    mean = x.mean((2, 3), keepdim=True)
    x = mean + (x - mean) * per_photo(uniform(1 - jitter, 1 + jitter)) + per_photo(uniform(-jitter, jitter))
    if tint:
        x = x + torch.stack([uniform(-tint, tint) for _ in range(3)], 1).view(n, 3, 1, 1)
    return x


@torch.inference_mode()
def evaluate(model: nn.Module, photos: torch.Tensor, labels: torch.Tensor, size: int) -> tuple[float, float]:
    """Top-1 and top-5 accuracy, in percent, on whole photos resized to ``size``."""
    model.eval()
    device = next(model.parameters()).device
    top1 = top5 = 0
    for start in range(0, len(photos), 256):
        x = normalise(photos[start : start + 256].to(device))
        x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
        best = model(x.contiguous(memory_format=torch.channels_last)).topk(5).indices.cpu()
        hit = best == labels[start : start + 256, None]
        top1, top5 = top1 + hit[:, 0].sum().item(), top5 + hit.any(1).sum().item()
    return 100 * top1 / len(photos), 100 * top5 / len(photos)


def start_from(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load weights into ``model``, whose layers may be wider, without changing what it computes.

    New channels keep their random weights; what reads them starts at zero, so the scores are
    those of the narrower network, and training takes it from there.
    """
    wide = model.state_dict()
    for name, value in wide.items():
        old = state.get(name)
        if old is None or old.ndim != value.ndim or any(a > b for a, b in zip(old.shape, value.shape)):
            raise SystemExit(f"--init holds {name} as {None if old is None else tuple(old.shape)}, needed is {tuple(value.shape)} or less.")
        if value.ndim > 1:
            value[: old.shape[0], old.shape[1] :] = 0
        value[tuple(slice(n) for n in old.shape)] = old
    model.load_state_dict(wide)


def averaged_weights(state: dict) -> dict[str, torch.Tensor]:
    """The weights worth keeping of a checkpoint, under the names that ``VGG16`` gives them."""
    return {key.removeprefix("module."): value for key, value in state["averaged"].items() if key != "n_averaged"}


def runs(state: dict) -> list[dict]:
    """Schedule, epochs and seconds of the runs behind a checkpoint, the one that wrote it last."""
    return [*state.get("earlier", []), dict(schedule=state["schedule"], epochs=state["epoch"], seconds=round(state["seconds"]))]


def parse_schedule(text: str) -> list[int]:
    """``"48x9,64x10"`` to one resolution an epoch."""
    return [int(size) for stage in text.split(",") for size, n in [stage.split("x")] for _ in range(int(n))]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.tar and val.tar, or tiny-imagenet-200")
    parser.add_argument("--out", type=Path, default=Path("training/runs/default"), help="checkpoints and log")
    parser.add_argument("--widths", default=",".join(map(str, EMBEDDED_WIDTHS)), help="channels of the five blocks")
    parser.add_argument("--schedule", default="48x9,64x10,96x2", help="PIXELSxEPOCHS, ...")
    parser.add_argument("--area", type=float, default=0.3, help="smallest share of the photo that a crop keeps")
    parser.add_argument("--tint", type=float, default=0.0, help="largest shift of one colour, in standard deviations")
    parser.add_argument("--calm-after", type=int, default=15, help="epochs after which the augmentation is mild")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--tune-after", type=int, default=19, help="epochs after which --tune-lr falls linearly to zero")
    parser.add_argument("--tune-lr", type=float, default=0.015)
    parser.add_argument("--calm-area", type=float, default=0.5, help="smallest share of the photo that a mild crop keeps")
    parser.add_argument("--init", type=Path, help="checkpoint of an earlier, perhaps narrower, run to start from")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)

    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    wnids, names = read_classes()
    photos, labels, _ = read_split(args.data, "train", wnids)
    val_photos, val_labels, _ = read_split(args.data, "val", wnids)
    photos, val_photos = (torch.from_numpy(a).permute(0, 3, 1, 2).contiguous() for a in (photos, val_photos))
    labels, val_labels = torch.from_numpy(labels), torch.from_numpy(val_labels)

    sizes = parse_schedule(args.schedule)
    model = VGG16(len(names), tuple(int(width) for width in args.widths.split(",")), batch_norm=True)
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    nn.init.normal_(model.classifier[-1].weight, std=0.01)
    checkpoint, earlier_runs = args.out / "checkpoint.pt", []
    if args.init and not checkpoint.exists():
        earlier = torch.load(args.init, map_location="cpu", weights_only=True)
        start_from(model, averaged_weights(earlier))
        earlier_runs = runs(earlier)
    model = model.to(args.device, memory_format=torch.channels_last)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
    decay = [p for p in model.parameters() if p.ndim > 1]
    keep = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": decay, "weight_decay": args.weight_decay}, {"params": keep, "weight_decay": 0.0}],
        lr=args.lr, momentum=0.9, nesterov=True,
    )
    steps = len(photos) // args.batch_size
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=steps * len(sizes), pct_start=0.1, cycle_momentum=False
    )
    generator = torch.Generator().manual_seed(args.seed)
    first, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if state["schedule"] != args.schedule:
            raise SystemExit(f"{checkpoint} belongs to schedule {state['schedule']}; choose another --out.")
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        generator.set_state(state["generator"])
        first, seconds, earlier_runs = state["epoch"], state["seconds"], state.get("earlier", [])
        print(f"going on after epoch {first} of {len(sizes)}")

    autocast = torch.autocast("cuda", torch.bfloat16, enabled=args.device.startswith("cuda"))
    for epoch in range(first, len(sizes)):
        size, began, total = sizes[epoch], time.perf_counter(), 0.0
        # towards the end it sees nearly what it is tested on: a guess, not compared with a run without
        strength = dict(min_area=args.calm_area, jitter=0.15) if epoch >= args.calm_after else dict(min_area=args.area, tint=args.tint)
        model.train()
        # dropout draws from the global generator: seeded here, a run that goes on draws what it would have drawn
        torch.manual_seed(args.seed + 1 + epoch)
        order = torch.randperm(len(photos), generator=generator)
        bar = tqdm(range(steps), desc=f"epoch {epoch + 1}/{len(sizes)} at {size} px", unit="batch", mininterval=5)
        for step in bar:
            if epoch >= args.tune_after:
                # larger steps for the new resolution than the cycle's tail has: a guess, too
                left = 1 - ((epoch - args.tune_after) * steps + step) / ((len(sizes) - args.tune_after) * steps)
                for group in optimizer.param_groups:
                    group["lr"] = args.tune_lr * left
            rows = order[step * args.batch_size : (step + 1) * args.batch_size]
            x = augment(photos[rows].to(args.device), size, generator, **strength).contiguous(memory_format=torch.channels_last)
            with autocast:
                loss = F.cross_entropy(model(x), labels[rows].to(args.device), label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if epoch < args.tune_after:
                scheduler.step()
            averaged.update_parameters(model)
            total += loss.item()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{total / (step + 1):.3f}", lr=f"{optimizer.param_groups[0]['lr']:.4f}")
        seconds += time.perf_counter() - began
        top1, top5 = evaluate(averaged.module, val_photos, val_labels, max(64, size))
        line = dict(epoch=epoch + 1, size=size, loss=round(total / steps, 4), top1=round(top1, 2), top5=round(top5, 2), seconds=round(seconds))
        print(json.dumps(line), flush=True)
        with open(args.out / "log.jsonl", "a") as log:
            log.write(json.dumps(line) + "\n")
        state = dict(
            schedule=args.schedule, epoch=epoch + 1, seconds=seconds, earlier=earlier_runs, model=model.state_dict(),
            averaged=averaged.state_dict(), optimizer=optimizer.state_dict(),
            scheduler=scheduler.state_dict(), generator=generator.get_state(),
        )
        torch.save(state, checkpoint.with_suffix(".part"))
        os.replace(checkpoint.with_suffix(".part"), checkpoint)


if __name__ == "__main__":
    main()
