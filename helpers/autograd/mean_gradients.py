"""Averages of the gradient over many photos: integrated gradients and SmoothGrad.

Both ask any differentiable network, by autograd, and leave it as it was.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from ..checks import check_any_photos, check_classes, check_finite, check_network, evaluating
from ..targets import asked, gradients_of, scores_of
from .signal_path import path_down


def integrated_gradients(
    network: nn.Module,
    x: torch.Tensor,
    classes=None,
    start: torch.Tensor | None = None,
    steps: int = 64,
) -> torch.Tensor:
    r"""Integrated gradients of one class a photo (Sundararajan et al. 2017, equation 1).

    .. math:: (x - x_0) \odot \int_0^1 \nabla y^c\big(x_0 + t\,(x - x_0)\big)\,dt

    The integral is a sum over ``steps`` points (Gauss and Legendre's). *Completeness*: the sum over
    all pixels is ``y(x) - y(x0)``, as nearly as the sum is the integral.

    Parameters
    ----------
    network, x, classes
        As for :func:`helpers.saliency_any`: photos of any channels and size; a class, one a photo,
        or a callable such as :func:`helpers.contrast`. None is the top class of ``x``.
    start : torch.Tensor, optional
        The photo ``x0`` with which the way begins, broadcast to ``x``; zeros, the mean colour of
        normalised photos, unless given. Another dtype or device becomes that of ``x``.
    steps : int
        How many gradients are taken.

    Returns
    -------
    torch.Tensor
        Shaped as ``x``, signed, in units of the score; not scaled. Of a network in half precision
        float32, in which many small numbers add up.

    Raises
    ------
    ModelError
        If the network is none, cannot take such photos (dtype, device, channels, size), or scores
        or gradients are NaN or infinite.
    IndexError, TypeError, ValueError
        As :func:`helpers.checks.check_photos` and :func:`helpers.checks.check_classes`; also if
        there is no step, or ``start`` does not fit ``x``.

    Examples
    --------
    >>> import torch
    >>> from helpers import integrated_gradients, load_model, sample
    >>> model = load_model()
    >>> x, c = model.prepare(sample("coffee")), model.class_index("espresso")
    >>> with torch.no_grad():
    ...     difference = model.network(x)[0, c] - model.network(0 * x)[0, c]
    >>> values = integrated_gradients(model.network, x, c, steps=64)
    >>> bool((values.sum() - difference).abs() < 0.05 * difference.abs())
    True
    """
    x = check_any_photos(x).detach()
    start = torch.zeros_like(x) if start is None else _like(start, x)
    if steps < 1:
        raise ValueError(f"At least one step is needed, got {steps}.")
    points, shares = np.polynomial.legendre.leggauss(steps)  # on [-1, 1], where shares sum to 2
    photos = (start + float(t + 1) / 2 * (x - start) for t in points)
    return (x - start) * mean_gradient(network, x, classes, photos, shares / 2)


def _like(start: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """``start`` as photos shaped as ``x``, of its dtype and device; else a ``ValueError``."""
    try:
        return check_any_photos(start.detach().to(x).expand_as(x))
    except RuntimeError as error:
        raise ValueError(
            f"start {tuple(start.shape)} does not fit the photos {tuple(x.shape)}."
        ) from error


def smooth_grad(
    network: nn.Module,
    x: torch.Tensor,
    classes=None,
    noise: float = 0.15,
    samples: int = 32,
    seed: int = 0,
) -> torch.Tensor:
    """SmoothGrad of one class a photo (Smilkov et al. 2017): the gradient's mean over noisy copies.

    ``noise`` is the standard deviation as a share of each photo's range, 0.1 to 0.2 in the paper.
    Parameters and errors otherwise as for :func:`integrated_gradients`. Returns the shape of ``x``,
    signed, not scaled, float32 at least; the same for the same ``seed`` on every device.

    Examples
    --------
    >>> from helpers import load_model, sample, smooth_grad
    >>> model = load_model()
    >>> x = model.prepare(sample("coffee"))
    >>> smooth_grad(model.network, x, samples=2).shape == x.shape
    True
    """
    check_any_photos(x)
    if samples < 1 or noise < 0:
        raise ValueError(f"Samples and noise must be positive, got {samples} and {noise}.")
    random = torch.Generator().manual_seed(seed)
    spread = noise * (x.amax(dim=(1, 2, 3)) - x.amin(dim=(1, 2, 3))).view(-1, 1, 1, 1)
    draws = (torch.randn(x.shape, generator=random, dtype=torch.float32) for _ in range(samples))
    photos = (x + spread * draw.to(x) for draw in draws)
    return mean_gradient(network, x, classes, photos, np.full(samples, 1 / samples))


def mean_gradient(
    network: nn.Module, x: torch.Tensor, classes, photos: Iterable[torch.Tensor], shares: np.ndarray
) -> torch.Tensor:
    """The gradients of one class a photo at ``photos``, each like ``x``, summed by ``shares``."""
    network = check_network(network)
    total = None
    with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
        with torch.no_grad():
            scores = scores_of(network, x.clone())
        if not callable(classes):
            classes = check_classes(classes, scores)  # for None once, and not for each photo
        for photo, share in zip(photos, shares, strict=True):
            leaf = photo.detach().clone().requires_grad_()
            scores = scores_of(network, leaf.clone())
            if total is None:
                path_down(scores, leaf, type(network).__name__)
                total = torch.zeros_like(leaf, dtype=torch.promote_types(x.dtype, torch.float32))
            score, _ = asked(classes, scores)
            (gradient,) = gradients_of(score.sum(), leaf)
            total = total + float(share) * gradient.to(total.dtype)
    check_finite(total, "The gradient holds")
    return total
