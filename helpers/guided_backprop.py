"""Guided backpropagation (Springenberg et al. 2015), and the plain gradient, as rules for one ReLU.

With ``f`` a ReLU's input on the way up and ``R`` the signal that arrives at it on the way down:

====================  ===========================
plain gradient        ``R * (f > 0)``
Deconvnet             ``R * (R > 0)``
guided                ``R * (R > 0) * (f > 0)``
====================  ===========================

All three overwrite the signal: on the way down a walk needs it once.
"""

from __future__ import annotations

import torch
from torch import nn

from .deconvnet import Deconvnet
from .errors import ModelError


def keep(signal: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``signal * mask``, in place; the mask is bool and of the same shape, or broadcasts to it."""
    # as bytes PyTorch multiplies it several times as fast; ONNX knows no such view
    return signal.mul_(mask if torch.compiler.is_compiling() else mask.view(torch.uint8))


class GuidedBackprop(Deconvnet):
    """As :class:`Deconvnet`, and through a ReLU only where it let something through on the way up."""

    @staticmethod
    def relu_down(signal: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Keep what is positive in the signal *and* was positive on the way up; in place."""
        return keep(signal.clamp_(min=0), mask)


class Gradient(Deconvnet):
    """The same walk with the true derivative of the ReLU: the gradient of Simonyan et al. (2014)."""

    @staticmethod
    def relu_down(signal: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Keep the signal, of either sign, where the ReLU's input was positive; in place."""
        return keep(signal, mask)


#: The three methods by name, in the order of the table above.
METHODS: dict[str, type[Deconvnet]] = {
    "gradient": Gradient,
    "deconvnet": Deconvnet,
    "guided": GuidedBackprop,
}


def saliency(
    network: nn.Module, x: torch.Tensor, classes=None, method: str = "guided"
) -> torch.Tensor:
    """Back-project one class score a photo through ``network`` by one of :data:`METHODS`.

    ``x``: normalised photos ``(N, 3, H, W)``. Returns the same shape, signed and unscaled.
    Errors: :class:`Deconvnet`, :func:`helpers.checks.check_photos`,
    :func:`helpers.checks.check_classes`; an unknown method is a ``ModelError``.
    """
    if method not in METHODS:
        raise ModelError(f"There is no method {method!r}; choose one of {', '.join(METHODS)}.")
    return METHODS[method](network).from_class(x, classes)
