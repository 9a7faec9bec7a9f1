"""Train the embedded model, from random weights to the end.

``python -m training.train --data FOLDER`` shows a progress bar, writes a checkpoint and a line of
``log.jsonl`` after every epoch, and goes on from there when started again. The resolution grows
during training: small photos are cheap and teach the coarse things first.

Accuracy is measured on photos held out of the training photos (:func:`training.data.held_out`);
every choice was made on them. The validation photos are not read here.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from helpers import VGG16
from helpers.networks.vgg import EMBEDDED_WIDTHS
from training.data import read_classes, read_training, shuffled
from training.teacher import SIDE, decaying, load_teacher, teacher_card
from training.views import augment, evaluate


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how the training goes; the defaults are those of the embedded model.

    widths : channels of the five blocks.
    schedule : ``PIXELSxEPOCHS``, comma-separated.
    batch_size : photos a step.
    average : decay a step of the weights' moving average.
    weight_decay : of weights; biases and normalisations have none.
    seed : of the weights, the crops and the dropout.
    lr : the largest learning rate; it rises for one epoch and falls along a half cosine to zero.
    teacher : the teacher's share of the target, what it answers to the very crop that the network
        sees; the label has the rest.
    smoothing : of the labels.
    area : the smallest share of the photo that a crop keeps.
    jitter : contrast and saturation change by a factor of up to 1 +- this, brightness by up to this
        many standard deviations.
    tint : largest shift of one colour, in standard deviations.
    """

    widths: tuple[int, ...] = EMBEDDED_WIDTHS
    schedule: str = "64x14,96x14,128x30"
    lr: float = 0.2
    weight_decay: float = 5e-4
    batch_size: int = 256
    average: float = 0.998
    teacher: float = 1.0
    smoothing: float = 0.1
    area: float = 0.3
    jitter: float = 0.3
    tint: float = 0.2
    seed: int = 0

    def sizes(self) -> list[int]:
        """``"48x2,64x1"`` as one resolution an epoch: ``[48, 48, 64]``."""
        stages = [stage.split("x") for stage in self.schedule.split(",")]
        return [int(size) for size, epochs in stages for _ in range(int(epochs))]

    def learning_rate(self, epoch: float) -> float:
        """At a moment of the training, counted in epochs."""
        epochs = len(self.sizes())
        if epoch < 1:
            return self.lr * epoch
        return self.lr * (1 + math.cos(math.pi * (epoch - 1) / max(epochs - 1, 1))) / 2


def targets(
    labels: torch.Tensor, answers: torch.Tensor | None, classes: int, recipe: Recipe
) -> torch.Tensor:
    """What the network shall say: float32 ``(N, classes)``, rows that sum to 1.

    Smoothed labels, mixed with the teacher's probabilities (``answers`` are its logits).
    """
    smooth = torch.full((len(labels), classes), recipe.smoothing / classes, device=labels.device)
    smooth.scatter_add_(1, labels[:, None], torch.full_like(smooth[:, :1], 1 - recipe.smoothing))
    if answers is None:
        return smooth
    return (1 - recipe.teacher) * smooth + recipe.teacher * answers.float().softmax(1)


def initialised(recipe: Recipe, classes: int) -> nn.Module:
    """A network with batch normalisation and random weights (He et al. 2015)."""
    torch.manual_seed(recipe.seed)
    model = VGG16(classes, recipe.widths, batch_norm=True)
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    nn.init.normal_(model.classifier[-1].weight, std=0.01)
    return model


class Run:
    """A training and where it stands.

    Attributes
    ----------
    epoch : int
        Epochs finished.
    seconds : float
        Spent in them, by the clock.
    log : list of dict
        A line for each: its size, loss, accuracy on the photos held out, and seconds so far.
    card : dict or None
        The teacher's, by which a run knows it again; see :func:`training.teacher.teacher_card`.
    averaged : AveragedModel
        The moving average of the weights, which is what is kept in the end.
    """

    def __init__(
        self,
        recipe: Recipe,
        classes: int,
        device: str,
        out: Path,
        teacher: nn.Module | None = None,
        card: dict | None = None,
    ) -> None:
        self.recipe, self.device, self.out = recipe, device, out
        self.classes, self.teacher, self.card = classes, teacher, card
        self.model = initialised(recipe, classes).to(device, memory_format=torch.channels_last)
        average = get_ema_multi_avg_fn(recipe.average)
        self.averaged = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        groups = decaying(self.model, recipe.weight_decay)
        self.optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.epoch, self.seconds, self.log = 0, 0.0, []
        out.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        """Where the run is kept between epochs."""
        return self.out / "checkpoint.pt"

    def save(self) -> None:
        """Keep everything that is needed to go on; never half a file."""
        state = {
            "recipe": asdict(self.recipe),
            "teacher": self.card,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "log": self.log,
            "hardware": hardware(self.device),
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.checkpoint)
        # written whole, from what the checkpoint holds: an interruption leaves no line twice
        lines = "".join(json.dumps(line) + "\n" for line in self.log)
        (self.out / "log.jsonl").write_text(lines)

    def resume(self) -> None:
        """Go on where the checkpoint ended. ``SystemExit`` if recipe or teacher are others."""
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise SystemExit(f"{self.checkpoint} belongs to another recipe; choose another --out.")
        if (known := state.get("teacher")) != self.card:
            digest = known["sha256"][:12] + "..." if known else "unknown"
            raise SystemExit(
                f"{self.checkpoint} belongs to another teacher (SHA-256 {digest}); give that one "
                "to --from-teacher, or choose another --out."
            )
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.epoch, self.seconds, self.log = state["epoch"], state["seconds"], state["log"]

    def train_epoch(self, photos: torch.Tensor, labels: torch.Tensor) -> float:
        """One epoch: the mean loss. Photos uint8 ``(N, 3, 64, 64)``, labels int64 ``(N,)``."""
        recipe, size = self.recipe, self.recipe.sizes()[self.epoch]
        self.model.train()
        # dropout draws from the global generator: seeded here, a run that goes on draws the same
        torch.manual_seed(recipe.seed + 1 + self.epoch)
        batches = shuffled(len(photos), recipe.batch_size, self.generator)
        name = f"epoch {self.epoch + 1}/{len(recipe.sizes())} at {size} px"
        bar, total = tqdm(batches, name, unit="batch", mininterval=5), 0.0
        for step, rows in enumerate(bar):
            for group in self.optimizer.param_groups:
                group["lr"] = recipe.learning_rate(self.epoch + (step + 1) / len(batches))
            rows = rows.to(photos.device)
            total += self.train_batch(photos[rows], labels[rows], size)
        return float(total) / len(batches)

    def train_batch(self, photos: torch.Tensor, labels: torch.Tensor, size: int) -> torch.Tensor:
        """One step of the optimiser: the loss, a scalar on the device."""
        recipe, photos, labels = self.recipe, photos.to(self.device), labels.to(self.device)
        cut = size if self.teacher is None else max(size, SIDE)
        x = augment(photos, cut, self.generator, recipe.area, recipe.jitter, recipe.tint)
        cuda, answers = self.device.startswith("cuda"), None
        with torch.autocast("cuda", torch.bfloat16, enabled=cuda):
            if self.teacher is not None:
                with torch.no_grad():
                    answers = self.teacher(x)
                x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
            scores = self.model(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(scores.float(), targets(labels, answers, self.classes, recipe))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.averaged.update_parameters(self.model)
        return loss.detach()


def hardware(device: str) -> str:
    """What the training ran on, for the model card."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}"
    return f"CPU with {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


def averaged_weights(state: dict) -> dict[str, torch.Tensor]:
    """The weights worth keeping of a checkpoint, under the names that ``VGG16`` gives them."""
    named = state["averaged"].items()
    return {key.removeprefix("module."): value for key, value in named if key != "n_averaged"}


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, Recipe]:
    """Where, and the recipe; every field of :class:`Recipe` is an option."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="train.tar, or tiny-imagenet-200")
    parser.add_argument("--out", type=Path, default=Path("training/runs/embedded"))
    parser.add_argument("--from-teacher", type=Path, help="what training.teacher wrote")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="the teacher, by torch.compile")
    parser.add_argument("--stop-after", type=int, help="epochs after which to pause")
    for name, value in asdict(Recipe()).items():
        kind = str if name == "widths" else type(value)
        default = ",".join(map(str, value)) if name == "widths" else value
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    args = parser.parse_args(argv)
    chosen = {name: getattr(args, name) for name in asdict(Recipe())}
    chosen["widths"] = tuple(int(width) for width in args.widths.split(","))
    return args, Recipe(**chosen)


def main(argv: list[str] | None = None) -> None:
    args, recipe = parse(argv)
    if recipe.teacher and not args.from_teacher:
        raise SystemExit(
            "Say where the teacher is (--from-teacher), or train without one (--teacher 0)."
        )
    wnids, _ = read_classes()
    teacher = card = None
    if recipe.teacher:
        teacher, card = load_teacher(args.from_teacher, len(wnids)), teacher_card(args.from_teacher)
        teacher = teacher.to(args.device, memory_format=torch.channels_last)
        if args.compile:
            teacher = torch.compile(teacher)
    if args.device.startswith("cuda"):
        torch.backends.cudnn.benchmark = True
    run = Run(recipe, len(wnids), args.device, args.out, teacher, card)
    if run.checkpoint.exists():
        run.resume()
        print(f"going on after epoch {run.epoch} of {len(recipe.sizes())}")
    learnt, unseen = read_training(args.data, wnids, args.device)
    for size in recipe.sizes()[run.epoch : args.stop_after]:
        began = time.perf_counter()
        loss = run.train_epoch(*learnt)
        run.epoch += 1
        run.seconds += time.perf_counter() - began
        # tested a little larger than trained: crops show things larger than whole photos do
        top1, top5 = evaluate(run.averaged.module, *unseen, max(64, size * 5 // 4))
        line = {
            "epoch": run.epoch, "size": size, "loss": round(loss, 4),
            "top1": round(top1, 2), "top5": round(top5, 2), "seconds": round(run.seconds),
        }  # fmt: skip
        print(json.dumps(line), flush=True)
        run.log.append(line)
        run.save()


if __name__ == "__main__":
    main()
