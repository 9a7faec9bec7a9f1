"""Grad-CAM (Selvaraju et al. 2017): which places of the last feature maps speak for a class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Integral
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import VGG

from ..checks import (
    check_classes,
    check_classes_each,
    check_finite,
    check_photos,
    check_scores,
    evaluating,
    vgg_parts,
)
from ..errors import ModelError
from ..networks.vgg import VGG16, as_written
from ..targets import asking, gradients_of
from .self_check import agree, first_answer

#: So many numbers of gradients at the layer are made at once; 16 MB in float32.
MOST_NUMBERS = 2**22


class GradCAM(NamedTuple):
    """What :func:`grad_cam` returns; N photos, C channels of h x w places.

    Attributes
    ----------
    maps : torch.Tensor
        ``(N, h, w)``, >= 0, in units of the class score, not scaled.
    weights : torch.Tensor
        ``(N, C)``, the alpha of equation 1, of either sign.
    classes : torch.Tensor
        ``(N,)`` int64, the classes explained.
    scores : torch.Tensor
        ``(N, classes)``, all class scores (logits).
    """

    maps: torch.Tensor
    weights: torch.Tensor
    classes: torch.Tensor
    scores: torch.Tensor


def grad_cam(network: nn.Module, x: torch.Tensor, classes=None, layer: int = -1) -> GradCAM:
    r"""Grad-CAM of one class a photo.

    .. math::

        \alpha_k^c = \frac{1}{Z}\sum_{i,j} \frac{\partial y^c}{\partial A^k_{ij}}, \qquad
        L^c = \mathrm{ReLU}\Big(\sum_k \alpha_k^c A^k\Big)

    (equations 1 and 2 of the paper), with ``A`` the output of ``network.features[layer]``.

    Parameters
    ----------
    network : nn.Module
        With ``features``, ``avgpool`` and ``classifier``. Not changed: its mode is restored, no
        hook is set, no parameter receives a gradient.
    x : torch.Tensor
        Normalised photos ``(N, 3, H, W)``, float.
    classes : int, sequence of int, tensor or None
        One class, one a photo, or None for each photo's top class.
    layer : int
        Which layer of ``features``; -1 is the last, behind the fifth pooling.

    Raises
    ------
    ModelError
        If the network has no ``features``, ``avgpool`` and ``classifier``, or computes more than
        these one behind the other; if it cannot take such photos (dtype, device, channels, size);
        if there is no such layer; or if scores or gradients are NaN or infinite.
    IndexError, TypeError, ValueError
        As :func:`helpers.checks.check_photos` and :func:`helpers.checks.check_classes`.

    Examples
    --------
    >>> from helpers import grad_cam, load_model, sample
    >>> model = load_model()
    >>> look = grad_cam(model.network, model.prepare(sample("chelsea")))
    >>> tuple(look.maps.shape), model.class_names[look.classes[0]] in model.class_names
    ((1, 5, 5), True)
    """
    return first_of_each(
        _each(network, x, lambda scores: check_classes(classes, scores)[:, None], layer)
    )


def grad_cam_each(network: nn.Module, x: torch.Tensor, classes, layer: int = -1) -> GradCAM:
    """Grad-CAM of K classes of every photo; they share one pass up.

    ``classes`` is a list of K for all photos or an integer array ``(N, K)``. Everything returned
    but the scores has K as its second dimension: maps ``(N, K, h, w)``, weights ``(N, K, C)``,
    classes ``(N, K)``. Otherwise as :func:`grad_cam`.

    Examples
    --------
    >>> from helpers import grad_cam_each, load_model, sample
    >>> model = load_model()
    >>> look = grad_cam_each(model.network, model.prepare(sample("chelsea")), range(108))
    >>> tuple(look.maps.shape)
    (1, 108, 5, 5)
    """
    return _each(network, x, lambda scores: check_classes_each(classes, scores), layer)


def first_of_each(each: NamedTuple) -> NamedTuple:
    """A result for K = 1 without that dimension, which the scores, its last part, do not have."""

    def first(part):
        if isinstance(part, tuple):  # weights of several layers
            return tuple(map(first, part))
        return None if part is None else part[:, 0]

    *parts, scores = each
    return type(each)(*map(first, parts), scores)


def _each(network: nn.Module, x: torch.Tensor, choose: Callable, layer: int) -> GradCAM:
    """Grad-CAM of the K classes a photo, ``(N, K)``, that ``choose`` makes out of the scores."""
    check_photos(x)
    features, avgpool, classifier = vgg_parts(network)
    if not isinstance(layer, Integral) or not -len(features) <= layer < len(features):
        raise ModelError(f"features has layers 0 to {len(features) - 1}, not {layer!r}.")
    cut = layer % len(features) + 1
    # a caller's inference mode would forbid the gradients that are needed
    with torch.inference_mode(False), evaluating(network):
        with torch.no_grad(), asking(network, x):
            _check_parts(network, x, cut)
            below = features[:cut](x.clone())
        with torch.enable_grad(), asking(network, x):
            below.requires_grad_()
            # the clone keeps an in-place ReLU behind the cut away from the maps themselves
            top = avgpool(features[cut:](below.clone()))
            scores = classifier(torch.flatten(top, 1))
        check_finite(scores, "The network answers with")
        chosen, maps = choose(scores), below.detach()
        pairs = [cam_from_gradient(maps, one) for one in _gradients(scores, below, chosen)]
    cams, weights = (torch.stack(part, dim=1) for part in zip(*pairs, strict=True))
    check_finite(weights, "The gradient holds")
    return GradCAM(cams, weights, chosen, scores.detach())


def _check_parts(network: nn.Module, x: torch.Tensor, cut: int) -> None:
    """A ``ModelError`` unless the parts, ``features`` cut in two, give the network's scores."""
    if _runs_its_parts(network):  # as it is written; asking would take a third of the time
        return
    features, avgpool, classifier = vgg_parts(network)
    try:
        x, want = first_answer(network)  # of a small photo, which takes the least time
    except ModelError:
        x, want = x[:1].clone(), network(x[:1].clone())
    check_scores(want, network, x)
    try:
        above = features[cut:](features[:cut](x))
        same = agree(want, classifier(torch.flatten(avgpool(above), 1)))
    except RuntimeError:  # there is more between them, without which the shapes do not fit
        same = False
    if not same:
        raise ModelError(
            f"{type(network).__name__} computes something else than features, avgpool and "
            "classifier one behind the other (a functional ReLU between them?). Ask it by "
            "grad_cam_any."
        )


def _runs_its_parts(network: nn.Module) -> bool:
    """Is its forward the book's or torchvision's, and nothing done before or behind it?"""
    kind = type(network)
    return (
        kind.forward in (VGG16.forward, VGG.forward)
        and kind.__call__ is nn.Module.__call__
        and as_written(network)
        and as_written(network.features, nn.Sequential)
    )


def _gradients(
    scores: torch.Tensor, maps: torch.Tensor, chosen: torch.Tensor
) -> Iterator[torch.Tensor]:
    """For each of the K classes ``(N, K)`` its scores' gradient, shaped as ``maps``.

    As many at once as :data:`MOST_NUMBERS` allows: then the large weights of a classifier are read
    once for all of them. A batch of repeated maps would do so, too, and take twice as long.
    """
    parts = chosen.split(max(1, MOST_NUMBERS // maps.numel()), dim=1)
    for part in parts:
        # photos do not mix, so the sum's gradient is each photo's own
        start = F.one_hot(part.T, scores.shape[1]).to(scores.dtype)
        many = len(start) > 1  # one by itself needs nothing of vmap, which not every layer knows
        options = {"grad_outputs": start if many else start[0], "is_grads_batched": many}
        more = part is not parts[-1]
        found = [None]
        if scores.requires_grad:
            found = gradients_of(scores, maps, retain_graph=more, allow_unused=True, **options)
        if found[0] is None:
            raise ModelError(
                "The scores have no gradient at this layer: a part behind it runs under "
                "torch.no_grad() or on detached tensors. Explain the network without."
            )
        yield from found[0] if many else found


def cam_from_gradient(
    feature_maps: torch.Tensor, gradient: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Equations 1 and 2: maps ``(N, h, w)`` and weights ``(N, C)`` from two ``(N, C, h, w)``.

    Raises ``ModelError`` if a sum over the channels is NaN or infinite.

    Examples
    --------
    >>> import torch
    >>> maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 1.0]]]])
    >>> gradient = torch.tensor([[[[1.0, 3.0]], [[-2.0, 0.0]]]])  # means 2 and -1
    >>> cam_from_gradient(maps, gradient)
    (tensor([[[0., 3.]]]), tensor([[ 2., -1.]]))
    """
    weights = gradient.mean(dim=(2, 3))
    return positive_part(torch.einsum("nc,nchw->nhw", weights, feature_maps)), weights


def positive_part(sums: torch.Tensor) -> torch.Tensor:
    """The ReLU of weighted feature maps' sums; a ``ModelError`` if one is NaN or infinite."""
    check_finite(sums, "The weighted feature maps sum to")  # the ReLU would hide -infinity
    return sums.clamp(min=0)


def resize_maps(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Maps ``(N, h, w)`` to ``(N, H, W)``, bilinear: ``cv2.resize`` for a batch on any device.

    Examples
    --------
    >>> import torch
    >>> resize_maps(torch.tensor([[[0.0, 4.0]]]), (1, 4))
    tensor([[[0., 1., 3., 4.]]])
    """
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
