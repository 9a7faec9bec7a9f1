"""How a map of any range becomes a picture in [0, 1]. Every figure names the one it uses."""

from __future__ import annotations

import numpy as np
import torch

Map = np.ndarray | torch.Tensor


def to_numpy(maps: Map) -> np.ndarray:
    """A map as a float64 array on the CPU; a gradient picture ``(3, H, W)`` becomes ``(H, W, 3)``.

    Raises
    ------
    ValueError
        If it is neither ``(H, W)`` nor ``(3, H, W)`` nor ``(H, W, 3)``, or holds NaN or infinity.
    """
    array = (
        maps.detach().cpu().double().numpy()
        if isinstance(maps, torch.Tensor)
        else np.asarray(maps, dtype=float)
    )
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(
            f"Expected one map (H, W), (3, H, W) or (H, W, 3), got {array.shape}; "
            "index the batch first."
        )
    if not np.isfinite(array).all():
        raise ValueError("The map holds NaN or infinite values.")
    return array


def by_max(maps: Map) -> np.ndarray:
    """Divide a map >= 0 by its largest value: [0, 1], and zero stays zero (an all-zero map too)."""
    array = to_numpy(maps)
    if array.min() < 0:
        raise ValueError("by_max is for maps without negative values; use signed or min_max.")
    return array / (array.max() or 1)


def _limit(amounts: np.ndarray, percentile: float) -> float:
    # in a sparse map the percentile may be zero; in an all-zero map the largest value is, too
    return np.percentile(amounts, percentile) or amounts.max() or 1.0


def signed(maps: Map, percentile: float = 100) -> np.ndarray:
    """A signed map to [0, 1] with zero at 0.5 (grey).

    Divided by the ``percentile`` of its absolute values (100: by the largest), the rest clipped;
    both signs share one scale, so grey is zero in every figure.
    """
    array = to_numpy(maps)
    return np.clip(array / _limit(np.abs(array), percentile), -1, 1) / 2 + 0.5


def min_max(maps: Map) -> np.ndarray:
    """Smallest value to 0, largest to 1; zero lands anywhere. A constant map becomes 0."""
    array = to_numpy(maps)
    low, high = array.min(), array.max()
    return (array - low) / ((high - low) or 1)


def amounts(maps: Map) -> np.ndarray:
    """How much, whatever the sign and colour: the channels' largest absolute value, ``(H, W)``."""
    return np.atleast_3d(np.abs(to_numpy(maps))).max(axis=2)


def strength(maps: Map, percentile: float = 100) -> np.ndarray:
    """:func:`amounts` to [0, 1]: divided by their ``percentile`` (100: the largest), clipped."""
    array = amounts(maps)
    return np.clip(array / _limit(array, percentile), 0, 1)
