"""Guided Grad-CAM (Selvaraju et al. 2017, section 3.2): where Grad-CAM looks, in the detail of guided maps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from .checks import check_classes
from .deconvnet import one_hot
from .gradcam import cam_from_gradient, resize_maps
from .guided_backprop import Gradient, GuidedBackprop, saliency


class GuidedGradCAM(NamedTuple):
    """What :func:`guided_gradcam` returns for N photos of H x W pixels; nothing in it is scaled.

    maps : ``(N, 3, H, W)``, ``cam * guided``, signed.
    cam : ``(N, H, W)``, Grad-CAM resized to the photo, >= 0.
    guided : ``(N, 3, H, W)``, guided backpropagation from the class score, signed.
    classes : ``(N,)`` int64, the classes explained.
    scores : ``(N, classes)``, all class scores (logits).
    """

    maps: torch.Tensor
    cam: torch.Tensor
    guided: torch.Tensor
    classes: torch.Tensor
    scores: torch.Tensor


def guided_gradcam(network: nn.Module, x: torch.Tensor, classes=None) -> GuidedGradCAM:
    """Guided Grad-CAM of one class a photo, from a single pass up.

    The pass notes switches and masks. One walk down through the classifier, by the plain
    gradient's rule, gives Grad-CAM; one walk down to the pixels, by the guided rule, gives the
    detail; the result is their product, pixel by pixel. No autograd is used.

    Parameters and errors are those of :class:`helpers.Deconvnet` and its ``from_class``.
    """
    net = GuidedBackprop(network)
    trace = net.up(x)
    chosen = check_classes(classes, trace.scores)
    start = one_hot(chosen, trace.scores)
    gradient = net.down(trace, start, len(net.steps), stop=net.depth, relu_down=Gradient.relu_down)
    cam, _ = cam_from_gradient(trace.feature_maps, gradient)
    cam = resize_maps(cam, x.shape[-2:])
    guided = net.down(trace, start, len(net.steps))
    return GuidedGradCAM(cam[:, None] * guided, cam, guided, chosen, trace.scores)


def all_maps(network: nn.Module, x: torch.Tensor, classes=None) -> dict[str, torch.Tensor]:
    """Every method's map of one class a photo, by the method's name; nothing is scaled.

    "Grad-CAM" is ``(N, H, W)``, >= 0; the others, from the class score down, ``(N, 3, H, W)``, signed.
    Parameters and errors as for :func:`guided_gradcam`.
    """
    answer = guided_gradcam(network, x, classes)
    return {
        "gradient": saliency(network, x, answer.classes, "gradient"),
        "Deconvnet": saliency(network, x, answer.classes, "deconvnet"),
        "guided backpropagation": answer.guided,
        "Grad-CAM": answer.cam,
        "Guided Grad-CAM": answer.maps,
    }
