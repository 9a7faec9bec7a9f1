"""Numbers about maps: where they lie, how alike two are, what is said without their best pixels.

Also two baselines that ask no network: edges, and the middle of the photo.
"""

from __future__ import annotations

import numpy as np
import torch
from skimage.color import rgb2gray
from skimage.filters import sobel
from skimage.metrics import structural_similarity
from torch import nn
from torchvision.transforms.v2 import functional as v2

from .checks import check_classes, check_photos, evaluating
from .scaling import Map, amounts, strength, to_numpy
from .targets import scores_of

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


def rank_correlation(first: Map, second: Map, signed: bool = False) -> float:
    """Spearman's rank correlation of two maps, -1 to 1; NaN if one of them is constant.

    Of absolute values, channels as in `pointing_game`; or ``signed``: then a coloured map's
    channels are added, and what speaks for the class ranks above what speaks against it.

    Examples
    --------
    >>> import torch
    >>> values = torch.arange(9.0).view(3, 3)
    >>> round(rank_correlation(values, values**2), 6)
    1.0
    """
    from scipy.stats import spearmanr  # takes half a second; only who ranks shall wait

    pair = _pair(first, second)
    if signed:
        pair = [np.atleast_3d(to_numpy(found)).sum(axis=2) for found in (first, second)]
    a, b = (found.ravel() for found in pair)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)


def hog_correlation(first: Map, second: Map) -> float:
    """Correlation of two maps' histograms of oriented gradients, -1 to 1; NaN if one has none.

    Absolute values, channels as in `pointing_game`, divided by their largest. The histograms are of
    cells of 8 x 8 pixels, so the maps need 24 pixels a side. (Dalal and Triggs 2005; as a measure
    of maps, Adebayo et al. 2018.)

    Examples
    --------
    >>> import torch
    >>> values = torch.rand(32, 32, generator=torch.Generator().manual_seed(0))
    >>> round(hog_correlation(values, 2 * values), 6)
    1.0
    """
    from skimage.feature import hog

    a, b = _pair(first, second)
    if min(a.shape) < 24:
        raise ValueError(
            f"The maps need 24 pixels a side, these have {a.shape}; resize them first."
        )
    a, b = (hog(strength(found)) for found in (a, b))
    return float(np.corrcoef(a, b)[0, 1]) if a.any() and b.any() else float("nan")


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
        Normalised photos ``(1, 3, H, W)``, of the network's dtype and device.
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
    ModelError
        If the network cannot take such photos (dtype, device, channels, size).
    ValueError
        If photos and map differ in size, there is more than one photo, or no step.
    IndexError, TypeError
        If there is no such class, or ``class_index`` is not one whole number.

    Examples
    --------
    >>> from helpers import all_maps, blurred, load_model, replacement_curve, sample
    >>> model = load_model()
    >>> x = model.prepare(sample("coffee"))
    >>> cam, c = all_maps(model.network, x)["Grad-CAM"][0], model.network(x).argmax().item()
    >>> replacement_curve(model.network, x, blurred(x), cam, c, steps=4).shape
    torch.Size([5])
    """
    check_photos(start)
    check_photos(end)
    found = _of_one_photo(start, values, steps)
    if start.shape != end.shape:
        raise ValueError(
            f"Expected two photos of one size, got {tuple(start.shape)} and {tuple(end.shape)}."
        )
    rank = torch.from_numpy(_order_of_strength(found)).to(start.device)
    # whole numbers: a rounded share would take a pixel more
    counts = torch.arange(steps + 1, device=start.device) * found.size
    replaced = rank * steps < counts[:, None, None]
    return _probabilities(
        network, torch.where(replaced[:, None], end.to(start), start), class_index
    )


@torch.no_grad()
def road_curve(
    network: nn.Module,
    x: torch.Tensor,
    values: Map,
    class_index: int,
    steps: int = 8,
    noise: float = 0.01,
) -> torch.Tensor:
    """The class's probability while the map's strongest pixels go and leave little trace: ROAD.

    As *deletion* by `replacement_curve`, but what is gone is `imputed` from what is left. (Rong et
    al. 2022, removing the most relevant first.) A good map makes it fall soon.

    Parameters
    ----------
    network, values, class_index
        As for `replacement_curve`.
    x : torch.Tensor
        One normalised photo ``(1, 3, H, W)``.
    steps : int
        In how many equal shares the pixels go. The last of them stays: from nothing, nothing can be
        imputed.
    noise : float
        As for `imputed`; drawn once and for all.

    Returns
    -------
    torch.Tensor
        ``(steps,)`` float32 on the CPU, in [0, 1]; ``k / steps`` of the pixels are gone in entry k.

    Raises
    ------
    ModelError
        If the network cannot take such photos (dtype, device, channels, size).
    ValueError
        If photo and map differ in size, there is more than one photo, or no step.
    IndexError, TypeError
        If there is no such class, or ``class_index`` is not one whole number.

    Examples
    --------
    >>> from helpers import all_maps, load_model, road_curve, sample
    >>> model = load_model()
    >>> x = model.prepare(sample("chelsea"))
    >>> cam, c = all_maps(model.network, x)["Grad-CAM"][0], model.network(x).argmax().item()
    >>> curve = road_curve(model.network, x, cam, c, steps=4)
    >>> curve.shape, bool(curve[-1] < curve[0])
    (torch.Size([4]), True)
    """
    check_photos(x)
    found = _of_one_photo(x, values, steps)
    rank = _order_of_strength(found)
    gone = [rank * steps < k * found.size for k in range(1, steps)]
    photos = [x] + [imputed(x, missing, noise, seed) for seed, missing in enumerate(gone)]
    return _probabilities(network, torch.cat(photos), class_index)


def imputed(
    x: torch.Tensor, missing: np.ndarray, noise: float = 0.01, seed: int = 0
) -> torch.Tensor:
    """Photos ``(N, 3, H, W)`` whose ``missing`` pixels are made up from what surrounds them.

    Each missing pixel becomes the mean of its eight neighbours, those at a side counting twice
    those at a corner, plus normal noise of deviation ``noise``. The neighbours may be missing, too,
    so all of them are found at once, from one system of linear equations: noisy linear imputation
    (Rong et al. 2022).

    ``missing`` is ``(H, W)``, boolean; the noise is the same for the same ``seed``. ValueError if
    sizes differ, or if nothing is left.

    Examples
    --------
    >>> import numpy as np, torch
    >>> missing = np.zeros((8, 8), dtype=bool)
    >>> missing[3:5, 3:5] = True
    >>> made_up = imputed(torch.ones(1, 3, 8, 8), missing, noise=0)
    >>> bool((made_up - 1).abs().max() < 1e-6)
    True
    """
    from scipy.sparse import diags, kron, kronsum
    from scipy.sparse.csgraph import laplacian
    from scipy.sparse.linalg import splu

    x, missing = x.detach(), np.asarray(missing, dtype=bool)
    if missing.shape != x.shape[-2:] or missing.all():
        raise ValueError(
            f"Expected (H, W) booleans for photos {tuple(x.shape)}, some of them False, "
            f"got {missing.shape} with {missing.sum()} True."
        )
    if not missing.any():
        return x.clone()
    height, width = missing.shape
    # which pixel lies beside which: in a row, in a column, and both for the corners
    row, column = (diags([1.0, 1.0], [-1, 1], shape=(n, n)) for n in (width, height))
    weights = ((2 * kronsum(row, column) + kron(column, row)) / 12).tocsr()
    gone, left = np.flatnonzero(missing), np.flatnonzero(~missing)
    pixels = x.flatten(0, 1).flatten(1).cpu().double().numpy().T
    # a pixel's whole weight less its neighbours'; it has fewer at the border of the photo
    system = splu(laplacian(weights).tocsr()[gone][:, gone].tocsc())
    made_up = torch.from_numpy(system.solve(weights[gone][:, left] @ pixels[left]))
    random = torch.Generator().manual_seed(seed)
    made_up += noise * torch.randn(made_up.shape, generator=random, dtype=torch.float64)
    filled = x.clone().flatten(0, 1).flatten(1)
    filled[:, torch.from_numpy(gone).to(x.device)] = made_up.T.to(x)
    return filled.view_as(x)


def _of_one_photo(x: torch.Tensor, values: Map, steps: int) -> np.ndarray:
    """The map's amounts ``(H, W)``, if there is one photo of its size, and a step."""
    found = amounts(values)
    if len(x) != 1 or found.shape != x.shape[-2:]:
        raise ValueError(
            f"Expected one photo (1, 3, H, W) and a map (H, W), got {tuple(x.shape)} "
            f"and {found.shape}."
        )
    if steps < 1:
        raise ValueError(f"At least one step is needed, got {steps}.")
    return found


def _order_of_strength(found: np.ndarray) -> np.ndarray:
    """Each pixel's place when the strongest goes first, ``(H, W)``; equals in a fixed disorder."""
    ties = np.random.default_rng(0).permutation(found.size)
    return np.lexsort((ties, -found.ravel())).argsort().reshape(found.shape)


def _probabilities(network: nn.Module, photos: torch.Tensor, class_index: int) -> torch.Tensor:
    """The class's probability for each photo, ``(N,)`` float32 on the CPU."""
    with evaluating(network):
        scores = scores_of(network, photos)
    chosen = check_classes([class_index], scores[:1]).expand(len(scores))
    return scores.softmax(dim=1).gather(1, chosen[:, None])[:, 0].float().cpu()
