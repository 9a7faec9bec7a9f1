"""Every method's maps from a single pass up: :func:`explain`, and what is made of it.

Guided Grad-CAM (Selvaraju et al. 2017, section 3.2) is the product: where Grad-CAM looks, in the
detail of guided backpropagation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ..checks import check_classes, check_classes_each
from ..methods import TABLE, Rule, gradient_rule, rows_of, rule_of
from .deconvnet import METHODS, Deconvnet, Trace
from .gradcam import cam_from_gradient, first_of_each, resize_maps
from .steps import Pooling


class GuidedGradCAM(NamedTuple):
    """What :func:`guided_gradcam` returns for N photos of H x W pixels; nothing in it is scaled.

    Attributes
    ----------
    maps : torch.Tensor
        ``(N, 3, H, W)``, ``cam * guided``, signed; of a network in half precision float32, as the
        product of two small numbers would be 0.
    cam : torch.Tensor
        ``(N, H, W)``, Grad-CAM resized to the photo, >= 0.
    guided : torch.Tensor
        ``(N, 3, H, W)``, guided backpropagation from the class score, signed.
    classes : torch.Tensor
        ``(N,)`` int64, the classes explained.
    scores : torch.Tensor
        ``(N, classes)``, all class scores (logits).
    """

    maps: torch.Tensor
    cam: torch.Tensor
    guided: torch.Tensor
    classes: torch.Tensor
    scores: torch.Tensor


def saliency(
    network: nn.Module, x: torch.Tensor, classes=None, method: str = "guided"
) -> torch.Tensor:
    """Back-project one class score a photo through ``network`` by one of :data:`METHODS`.

    ``x``: normalised photos ``(N, 3, H, W)``. Returns the same shape, signed and unscaled.
    Errors: :class:`Deconvnet`, :func:`helpers.checks.check_photos`,
    :func:`helpers.checks.check_classes`; an unknown method is a ``ModelError``.

    Examples
    --------
    >>> from helpers import load_model, saliency, sample
    >>> model = load_model()
    >>> x = model.prepare(sample("coffee"))
    >>> saliency(model.network, x, model.class_index("espresso"), "deconvnet").shape == x.shape
    True
    """
    rule_of(method)
    return METHODS[method](network).from_class(x, classes)


def guided_gradcam(network: nn.Module, x: torch.Tensor, classes=None) -> GuidedGradCAM:
    """Guided Grad-CAM of one class a photo, from a single pass up.

    The pass notes switches and masks. A walk down through the classifier gives, by the plain
    gradient's rule, Grad-CAM; by the guided rule, the signal that goes on to the pixels. The result
    is the product of the two, pixel by pixel. No autograd is used, and no gradient of a parameter
    computed.

    ``network`` may also be a :class:`helpers.Deconvnet` (or :class:`helpers.GuidedBackprop`) made
    before, which saves looking the network over at each call. Parameters and errors are otherwise
    those of :class:`helpers.Deconvnet` and its ``from_class``.

    Examples
    --------
    >>> from helpers import guided_gradcam, load_model, sample
    >>> model = load_model()
    >>> result = guided_gradcam(model.network, model.prepare(sample("chelsea")))
    >>> tuple(result.maps.shape), tuple(result.cam.shape)
    ((1, 3, 160, 160), (1, 160, 160))
    """
    return first_of_each(_each(network, x, lambda scores: check_classes(classes, scores)[:, None]))


def guided_gradcam_each(network: nn.Module, x: torch.Tensor, classes) -> GuidedGradCAM:
    """Guided Grad-CAM of K classes of every photo; they share one pass up.

    ``classes`` is a list of K for all photos or an integer array ``(N, K)``. Everything returned
    but the scores has K as its second dimension: maps ``(N, K, 3, H, W)``, cam ``(N, K, H, W)``,
    classes ``(N, K)``. Otherwise as :func:`guided_gradcam`.

    Examples
    --------
    >>> from helpers import guided_gradcam_each, load_model, sample
    >>> model = load_model()
    >>> result = guided_gradcam_each(model.network, model.prepare(sample("chelsea")), [3, 5])
    >>> tuple(result.maps.shape)
    (1, 2, 3, 160, 160)
    """
    return _each(network, x, lambda scores: check_classes_each(classes, scores))


def _each(network: nn.Module, x: torch.Tensor, choose: Callable) -> GuidedGradCAM:
    """Guided Grad-CAM of the K classes a photo, ``(N, K)``, that ``choose`` makes of the scores."""
    net = both_ways(network)
    trace = net.up(x)
    chosen = choose(trace.scores)
    keys = ("guided_grad_cam", "grad_cam", "guided")
    maps = explain(net, trace, chosen, keys)
    return GuidedGradCAM(*(maps[key] for key in keys), chosen, trace.scores)


def all_maps(network: nn.Module, x: torch.Tensor, classes=None) -> dict[str, torch.Tensor]:
    """Every method's map of one class a photo, by the method's title, from a single pass up.

    "Grad-CAM" is ``(N, H, W)``, >= 0; the others, from the class score down, ``(N, 3, H, W)``,
    signed; nothing is scaled. Parameters and errors as for :func:`guided_gradcam`.

    Examples
    --------
    >>> from helpers import all_maps, load_model, sample
    >>> model = load_model()
    >>> list(all_maps(model.network, model.prepare(sample("chelsea"))))
    ['gradient', 'Deconvnet', 'guided backpropagation', 'Grad-CAM', 'Guided Grad-CAM']
    """
    net = both_ways(network)
    trace = net.up(x)
    maps = explain(net, trace, check_classes(classes, trace.scores)[:, None])
    return {row.title: maps[row.key][:, 0] for row in TABLE}


def both_ways(network: nn.Module) -> Deconvnet:
    """The network with its way down, made here unless it is given."""
    return network if isinstance(network, Deconvnet) else Deconvnet(network)


@torch.no_grad()
def explain(
    net: Deconvnet,
    trace: Trace,
    chosen: torch.Tensor,
    keys: Sequence[str] | None = None,
    cut: int | None = None,
) -> dict[str, torch.Tensor]:
    """Maps from a finished pass up, by their method's key: all maps and products are made here.

    Parameters
    ----------
    net, trace
        From :meth:`Deconvnet.up`; which rule is the net's own does not matter.
    chosen : torch.Tensor
        K classes of each photo, int64 ``(N, K)``; they are known to exist.
    keys : sequence of str
        Which methods, by their keys in :data:`helpers.methods.TABLE`. Walks that several of them
        need are made once.
    cut : int, optional
        Grad-CAM looks at the output of layer ``cut - 1`` of ``features``, for which the trace must
        have kept its activations. None: at the last feature maps.

    Returns
    -------
    dict
        Regions ``(N, K, H, W)``, >= 0; the others ``(N, K, 3, H, W)``, signed. Nothing is scaled.
    """
    rows = rows_of(keys)
    rules = list(dict.fromkeys(row.rule for row in rows if row.rule))
    start = F.one_hot(chosen, trace.scores.shape[1]).to(trace.scores.dtype)
    signals = to_features(net, trace, start, list(dict.fromkeys([gradient_rule, *rules])))
    cam = regions(net, trace, signals[gradient_rule], cut)
    pixels = {rule: onwards(net, trace, signals[rule], 0, rule) for rule in rules}
    return {
        row.key: cam
        if row.kind == "regions"
        else pixels[row.rule]
        if row.kind == "pixels"
        else times(cam, pixels[row.rule])
        for row in rows
    }


def times(regions: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """The product of ``(..., H, W)`` and ``(..., C, H, W)``, in float32 at least.

    Examples
    --------
    >>> import torch
    >>> half = torch.full((1, 1, 1), 1e-4, dtype=torch.float16)
    >>> (half * half).any().item(), times(half[0], half).any().item()
    (False, True)
    """
    return regions.unsqueeze(-3).to(torch.promote_types(pixels.dtype, torch.float32)) * pixels


def to_features(
    net: Deconvnet, trace: Trace, start: torch.Tensor, rules: Sequence[Rule]
) -> dict[Rule, torch.Tensor]:
    """Signals ``(N, K, classes)`` at the scores sent down through the classifier, by each rule.

    All rules and all classes go side by side: reading the classifier's weights takes most of the
    time, so they are read once for all.
    """
    if any(isinstance(step, Pooling) for step in net.steps[net.depth :]):
        # a max-pooling's switches are of N photos, and not of all that goes side by side
        def alone(rule: Rule) -> torch.Tensor:
            walks = (
                net.down(trace, one, len(net.steps), net.depth, rule) for one in start.unbind(1)
            )
            return torch.stack(list(walks), dim=1)

        return {rule: alone(rule) for rule in rules}
    sides = (len(rules), *start.shape[:2])

    def side_by_side(signal: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        parts = zip(rules, signal.unflatten(0, sides).unbind(), strict=True)
        # A photo's mask counts for all of its classes. Each rule gets a copy to overwrite: ONNX
        # would write what is overwritten back into the whole.
        return torch.stack([rule(part.clone(), mask[:, None]) for rule, part in parts]).flatten(
            0, 2
        )

    signal = torch.cat([start.flatten(0, 1)] * len(rules))
    signal = net.down(trace, signal, len(net.steps), net.depth, side_by_side)
    return dict(zip(rules, signal.unflatten(0, sides).unbind(), strict=True))


def onwards(
    net: Deconvnet, trace: Trace, signals: torch.Tensor, stop: int, rule: Rule
) -> torch.Tensor:
    """Signals ``(N, K, C, h, w)`` of the last feature maps, sent down to the input of ``stop``."""
    # one class after the other: from here a batch would cost memory and gain no time
    each = [net.down(trace, signal, net.depth, stop, rule) for signal in signals.unbind(1)]
    return torch.stack(each, dim=1)


def regions(
    net: Deconvnet, trace: Trace, gradient: torch.Tensor, cut: int | None = None
) -> torch.Tensor:
    """Grad-CAM ``(N, K, H, W)`` from the gradient of the last feature maps, ``(N, K, C, h, w)``."""
    maps = trace.feature_maps if cut is None else trace.activations[cut]
    gradient = onwards(net, trace, gradient, net.depth if cut is None else cut, gradient_rule)
    cams = [cam_from_gradient(maps, one)[0] for one in gradient.unbind(1)]
    return torch.stack([resize_maps(cam, trace.size) for cam in cams], dim=1)
