"""What the networks in training see of a photo: normalised, and cut anew each time."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from helpers.networks import images

MEAN = torch.tensor(images.MEAN).view(1, 3, 1, 1)
STD = torch.tensor(images.STD).view(1, 3, 1, 1)


def normalise(photos: torch.Tensor) -> torch.Tensor:
    """uint8 ``(N, 3, H, W)`` to float32 with ImageNet's mean and deviation."""
    return (photos.float() / 255 - MEAN.to(photos.device)) / STD.to(photos.device)


def augment(
    photos: torch.Tensor,
    size: int,
    generator: torch.Generator,
    min_area: float = 0.3,
    jitter: float = 0.3,
    tint: float = 0.0,
) -> torch.Tensor:
    """Random resized crop, flip, brightness, contrast, saturation and tint, for a batch at once.

    One affine map a photo does crop, aspect ratio, flip and resize in a single interpolation. The
    strengths are those of :class:`training.train.Recipe`. Float32 ``(N, 3, size, size)``.
    """
    n, device = len(photos), photos.device

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=generator).to(device) * (high - low) + low

    area, ratio = uniform(min_area, 1.0), torch.exp(uniform(-math.log(4 / 3), math.log(4 / 3)))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = width * flip, height
    theta[:, 0, 2] = uniform(-1, 1) * (1 - width)
    theta[:, 1, 2] = uniform(-1, 1) * (1 - height)
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    x = F.grid_sample(normalise(photos), grid, padding_mode="reflection", align_corners=False)

    def per_photo(values: torch.Tensor) -> torch.Tensor:
        return values.view(n, 1, 1, 1)

    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * per_photo(uniform(1 - jitter, 1 + jitter))
    mean = x.mean((2, 3), keepdim=True)
    x = mean + (x - mean) * per_photo(uniform(1 - jitter, 1 + jitter))
    x = x + per_photo(uniform(-jitter, jitter))
    if tint:
        x = x + torch.stack([uniform(-tint, tint) for _ in range(3)], 1).view(n, 3, 1, 1)
    return x


@torch.inference_mode()
def evaluate(
    model: nn.Module, photos: torch.Tensor, labels: torch.Tensor, size: int
) -> tuple[float, float]:
    """Top-1 and top-5 accuracy, in percent, on whole photos resized to ``size``."""
    model.eval()
    device = next(model.parameters()).device
    top1 = top5 = 0
    for start in range(0, len(photos), 256):
        x = normalise(photos[start : start + 256].to(device))
        x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
        best = model(x.contiguous(memory_format=torch.channels_last)).topk(5).indices.cpu()
        hit = best == labels[start : start + 256, None].cpu()
        top1, top5 = top1 + hit[:, 0].sum().item(), top5 + hit.any(1).sum().item()
    return 100 * top1 / len(photos), 100 * top5 / len(photos)
