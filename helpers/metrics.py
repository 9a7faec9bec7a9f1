"""Numbers about maps: where they lie, and how alike two of them are."""

from __future__ import annotations

import numpy as np
import torch
from skimage.color import rgb2gray
from skimage.filters import sobel
from skimage.metrics import structural_similarity
from torch import nn
from torchvision.transforms.v2 import functional as v2

from .checks import check_classes, check_photos, evaluating
from .scaling import Map, amounts, strength

Box = tuple[int, int, int, int]


def _inside(values: Map, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """The map's amounts ``(H, W)``, and True where the box is."""
    found = amounts(values)
    (height, width), (left, top, right, bottom) = found.shape, box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(
            f"Box (left, top, right, bottom) = {box} is empty or leaves the map of "
            f"{height} x {width} pixels."
        )
    inside = np.zeros(found.shape, dtype=bool)
    inside[top:bottom, left:right] = True
    return found, inside


def pointing_game(values: Map, box: Box) -> float:
    """Does the strongest place lie in the box? 1 or 0; of several, their share inside.

    ``box`` is ``(left, top, right, bottom)`` in pixels, right and bottom exclusive. Of a signed or
    coloured map the largest absolute value of the channels counts. A constant map, the all-zero map
    too, so scores the box's share of the area: what chance would. (Zhang et al. 2016, without
    their tolerance of 15 pixels.)

    Examples
    --------
    >>> import torch
    >>> pointing_game(torch.tensor([[0.0, 1.0], [0.0, 0.5]]), (1, 0, 2, 1))
    1.0
    """
    found, inside = _inside(values, box)
    return float(inside[found == found.max()].mean())


def energy_in_box(values: Map, box: Box) -> float:
    """The share of the map's absolute values in the box, from 0 to 1; NaN for an all-zero map.

    ``box`` and channels as in `pointing_game`. (Wang et al. 2020, the energy-based pointing game.)

    Examples
    --------
    >>> import torch
    >>> energy_in_box(torch.tensor([[0.0, 1.0], [0.0, 3.0]]), (1, 0, 2, 1))
    0.25
    """
    found, inside = _inside(values, box)
    return float(found[inside].sum() / found.sum()) if found.any() else float("nan")


def _pair(first: Map, second: Map) -> tuple[np.ndarray, np.ndarray]:
    a, b = amounts(first), amounts(second)
    if a.shape != b.shape:
        raise ValueError(f"The maps differ in size, {a.shape} and {b.shape}; resize one first.")
    return a, b


def ssim(first: Map, second: Map) -> float:
    """Structural similarity of two maps' absolute values, from -1 to 1.

    Each map is divided by its largest value. Channels as in `pointing_game`; windows of 7 x 7
    pixels, so the maps need 7 pixels a side.

    Examples
    --------
    >>> import torch
    >>> values = torch.arange(64.0).view(8, 8)
    >>> round(ssim(values, 2 * values), 6)
    1.0
    """
    a, b = _pair(first, second)
    return float(structural_similarity(strength(a), strength(b), data_range=1.0))


def rank_correlation(first: Map, second: Map) -> float:
    """Spearman's rank correlation of two maps' absolute values, -1 to 1; NaN if one is constant.

    Examples
    --------
    >>> import torch
    >>> values = torch.arange(9.0).view(3, 3)
    >>> round(rank_correlation(values, values**2), 6)
    1.0
    """
    from scipy.stats import spearmanr  # takes half a second; only who ranks shall wait

    a, b = (found.ravel() for found in _pair(first, second))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)


def centre_gaussian(height: int, width: int, spread: float = 0.25) -> torch.Tensor:
    """The baseline that looks at nothing: a Gaussian on the centre, ``(H, W)``, largest near 1.

    Its standard deviation is ``spread`` times each side. Photographers centre their subject, so
    this map does well without a network; a method has to beat it.

    Examples
    --------
    >>> centre_gaussian(3, 3).argmax().item()
    4
    """
    if height < 1 or width < 1 or spread <= 0:
        raise ValueError(f"Sides and spread must be positive, got {height} x {width} and {spread}.")
    y = (torch.arange(height) + 0.5) / height - 0.5
    x = (torch.arange(width) + 0.5) / width - 0.5
    return torch.exp(-(y[:, None] ** 2 + x[None] ** 2) / (2 * spread**2))


def edge_strength(photo: np.ndarray) -> torch.Tensor:
    """The other baseline without a network: Sobel's edges, ``(H, W)``, >= 0.

    ``photo`` is ``(H, W, 3)`` in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> edge_strength(np.zeros((4, 5, 3))).shape
    torch.Size([4, 5])
    """
    if np.ndim(photo) != 3 or np.shape(photo)[2] != 3:
        raise ValueError(
            f"Expected a photo (H, W, 3), got {np.shape(photo)}; "
            "model.preprocess.restore(x)[0] is one."
        )
    return torch.from_numpy(sobel(rgb2gray(photo))).float()


def blurred(x: torch.Tensor, spread: float = 1 / 16) -> torch.Tensor:
    """Photos ``(N, 3, H, W)`` in a Gaussian blur of ``spread`` times the shorter side.

    Examples
    --------
    >>> import torch
    >>> blurred(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 3, 32, 32])
    """
    sigma = spread * min(x.shape[-2:])
    return v2.gaussian_blur(x, kernel_size=2 * round(2 * sigma) + 1, sigma=sigma)


@torch.no_grad()
def replacement_curve(
    network: nn.Module,
    start: torch.Tensor,
    end: torch.Tensor,
    values: Map,
    class_index: int,
    steps: int = 32,
) -> torch.Tensor:
    """The class's probability while ``start`` turns into ``end``, the map's strongest pixels first.

    From the photo to a blurred copy this is *deletion*: a good map makes it fall soon. From the
    blurred copy to the photo it is *insertion*: a good map makes it rise soon. (Petsiuk et al.
    2018.)

    Parameters
    ----------
    network : nn.Module
        From photos to class scores; asked in eval mode, and left as it was.
    start, end : torch.Tensor
        Normalised photos ``(1, 3, H, W)`` on the network's device.
    values : Map
        ``(H, W)`` or ``(3, H, W)``; of a signed or coloured map the largest absolute value of the
        channels counts. Equally strong pixels (Grad-CAM's zeros) go in an order drawn once and for
        all.
    class_index : int
        Whose probability.
    steps : int
        How often an equal share of the pixels is replaced.

    Returns
    -------
    torch.Tensor
        ``(steps + 1,)`` float32 on the CPU, in [0, 1], the first of ``start``, the last of ``end``.

    Raises
    ------
    ValueError
        If photos and map differ in size, there is more than one photo, or no step.

    Examples
    --------
    >>> from helpers import all_maps, blurred, load_model, replacement_curve, sample
    >>> model = load_model()
    >>> x = model.prepare(sample("coffee"))
    >>> cam, c = all_maps(model.network, x)["Grad-CAM"][0], model.network(x).argmax().item()
    >>> replacement_curve(model.network, x, blurred(x), cam, c, steps=4).shape
    torch.Size([5])
    """
    check_photos(start), check_photos(end)
    found = amounts(values)
    if len(start) != 1 or start.shape != end.shape or found.shape != start.shape[-2:]:
        raise ValueError(
            f"Expected two photos (1, 3, H, W) and a map (H, W), got {tuple(start.shape)}, "
            f"{tuple(end.shape)} and {found.shape}."
        )
    if steps < 1:
        raise ValueError(f"At least one step is needed, got {steps}.")
    ties = np.random.default_rng(0).permutation(found.size)
    order = np.lexsort((ties, -found.ravel()))
    # a pixel's place in that order; 0 is replaced first
    rank = torch.from_numpy(order.argsort().reshape(found.shape)).to(start.device)
    shares = torch.arange(steps + 1, device=start.device) / steps
    replaced = rank < shares[:, None, None] * found.size
    with evaluating(network):
        scores = network(torch.where(replaced[:, None], end, start))
    chosen = check_classes(class_index, scores)
    return scores.softmax(dim=1).gather(1, chosen[:, None])[:, 0].float().cpu()
