"""Guided Grad-CAM (Selvaraju et al. 2017, section 3.2): where Grad-CAM looks, in the detail of guided maps."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn

from .checks import check_classes
from .deconvnet import METHODS, FullyConnected, GuidedBackprop, Trace, one_hot
from .gradcam import cam_from_gradient, resize_maps
from .methods import RULES, gradient_rule, rule_of


def saliency(
    network: nn.Module, x: torch.Tensor, classes=None, method: str = "guided"
) -> torch.Tensor:
    """Back-project one class score a photo through ``network`` by one of :data:`METHODS`.

    ``x``: normalised photos ``(N, 3, H, W)``. Returns the same shape, signed and unscaled.
    Errors: :class:`Deconvnet`, :func:`helpers.checks.check_photos`,
    :func:`helpers.checks.check_classes`; an unknown method is a ``ModelError``.
    """
    rule_of(method)
    return METHODS[method](network).from_class(x, classes)


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

    The pass notes switches and masks. A walk down through the classifier gives, by the plain
    gradient's rule, Grad-CAM; by the guided rule, the signal that goes on to the pixels. The result
    is the product of the two, pixel by pixel. No autograd is used, and no gradient of a parameter computed.

    ``network`` may also be a :class:`helpers.GuidedBackprop` made before, which saves looking the
    network over at each call. Parameters and errors are otherwise those of
    :class:`helpers.Deconvnet` and its ``from_class``.
    """
    net = two_way(network)
    trace = net.up(x)
    chosen = check_classes(classes, trace.scores)
    return GuidedGradCAM(
        *(part[:, 0] for part in products(net, trace, chosen[:, None], x.shape[-2:])),
        chosen,
        trace.scores,
    )


def guided_gradcam_each(network: nn.Module, x: torch.Tensor, classes) -> GuidedGradCAM:
    """Guided Grad-CAM of K classes of every photo; they share one pass up.

    ``classes`` is a list of K for all photos or an integer array ``(N, K)``. Everything returned
    but the scores has K as its second dimension: maps ``(N, K, 3, H, W)``, cam ``(N, K, H, W)``,
    classes ``(N, K)``. Otherwise as :func:`guided_gradcam`.
    """
    net = two_way(network)
    trace = net.up(x)
    try:
        chosen = torch.as_tensor(classes, device=x.device)
    except (TypeError, ValueError) as error:  # words, uneven lists
        raise TypeError(
            f"Classes are whole numbers (use model.class_index(name)), got {classes!r}."
        ) from error
    if chosen.ndim == 1:
        chosen = chosen.expand(len(x), -1)
    if chosen.ndim != 2 or len(chosen) != len(x) or chosen.shape[1] == 0:
        raise ValueError(
            f"Expected K classes or (N, K) of them for {len(x)} photos, got shape {tuple(chosen.shape)}."
        )
    chosen = torch.stack(
        [check_classes(column, trace.scores) for column in chosen.unbind(1)], dim=1
    )
    return GuidedGradCAM(*products(net, trace, chosen, x.shape[-2:]), chosen, trace.scores)


def with_bfloat16_classifier(network: nn.Module) -> GuidedBackprop:
    """The guided walk of ``network`` with a copy of its fully connected weights in bfloat16, for :func:`guided_gradcam`.

    They are nine tenths of VGG-16's parameters, and reading them is all of the classifier's time;
    the copy has half the bytes. The convolutions, whose time is arithmetic, stay shared and in the
    network's dtype, as do photos and results. Errors: :class:`helpers.Deconvnet`.
    """
    net = GuidedBackprop(network)
    for step in net.steps:
        if isinstance(step, FullyConnected):
            step.linear = copy.deepcopy(step.linear).bfloat16()
    return net


def two_way(network: nn.Module) -> GuidedBackprop:
    """The network with its guided way down, made here unless it is one already."""
    return network if isinstance(network, GuidedBackprop) else GuidedBackprop(network)


@torch.no_grad()
def products(
    net: GuidedBackprop, trace: Trace, chosen: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, ...]:
    """Maps ``(N, K, 3, H, W)``, Grad-CAM ``(N, K, H, W)`` and guided ``(N, K, 3, H, W)`` of the classes ``(N, K)``."""
    n, k = chosen.shape
    start = torch.cat(
        [one_hot(column, trace.scores)[:, None] for column in chosen.unbind(1)], dim=1
    )

    def both(signal, mask):
        plain, guided = signal.view(2, n, k, *signal.shape[1:])
        mask = mask[:, None]  # a photo's mask counts for all of its classes
        return torch.stack([gradient_rule(plain, mask), net.relu_down(guided, mask)]).view(
            signal.shape
        )

    # Both rules and all classes go through the classifier side by side: on the way down it takes
    # as long to read its large weights once as to use them
    signal = net.down(
        trace, start.flatten(0, 1).repeat(2, 1), len(net.steps), stop=net.depth, relu_down=both
    )
    plain, signal = signal.view(2, n, k, *trace.feature_maps.shape[1:])
    cam, _ = cam_from_gradient(trace.feature_maps.repeat_interleave(k, dim=0), plain.flatten(0, 1))
    cam = resize_maps(cam, size).view(n, k, *size)
    # one class after the other: from here a batch would cost memory and gain no time
    guided = torch.stack([net.down(trace, one, net.depth) for one in signal.unbind(1)], dim=1)
    return cam[:, :, None] * guided, cam, guided


def all_maps(network: nn.Module, x: torch.Tensor, classes=None) -> dict[str, torch.Tensor]:
    """Every method's map of one class a photo, by the method's name, from a single pass up; nothing is scaled.

    "Grad-CAM" is ``(N, H, W)``, >= 0; the others, from the class score down, ``(N, 3, H, W)``, signed.
    Parameters and errors as for :func:`guided_gradcam`.
    """
    net = two_way(network)
    trace = net.up(x)
    chosen = check_classes(classes, trace.scores)
    start = one_hot(chosen, trace.scores)
    maps, cam, guided = (part[:, 0] for part in products(net, trace, chosen[:, None], x.shape[-2:]))
    return {
        "gradient": net.down(trace, start, len(net.steps), relu_down=RULES["gradient"]),
        "Deconvnet": net.down(trace, start, len(net.steps), relu_down=RULES["deconvnet"]),
        "guided backpropagation": guided,
        "Grad-CAM": cam,
        "Guided Grad-CAM": maps,
    }
