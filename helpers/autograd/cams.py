r"""Class activation maps that differ in one thing: how the feature maps are weighed.

With ``A`` the feature maps of a layer and ``G`` the gradient of the class score with respect to
them, both ``(N, C, h, w)``, each map here is

.. math:: L_{ij} = \mathrm{ReLU}\Big(\sum_k w^k_{ij} A^k_{ij}\Big)

(:func:`gather`), and each function below gives the weights ``w``, ``(N, C, h, w)`` or one a
channel, ``(N, C, 1, 1)``. :data:`WEIGHTS` lists those that need ``A`` and ``G`` alone; two more
(:func:`score_weights`, :func:`ablation_weights`) ask the network once for each channel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..errors import ModelError
from ..explicit.gradcam import cam_from_gradient, positive_part, resize_maps
from ..methods import TABLE

#: From feature maps ``A`` and gradients ``G``, ``(N, C, h, w)``, to weights.
Weights = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
#: From a batch ``(M, ...)``, of feature maps or of photos, to the class's score for each, ``(M,)``.
Score = Callable[[torch.Tensor], torch.Tensor]


def gather(weights: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """The weighted sum's positive part: ``(N, h, w)``, >= 0, not scaled.

    ``weights`` is ``(N, C, h, w)``, or ``(N, C, 1, 1)`` for one a channel; ``maps`` is
    ``(N, C, h, w)``. Raises ``ModelError`` if a sum is NaN or infinite.
    """
    return positive_part((weights * maps).sum(dim=1))


def no_class(maps: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """One for each channel: where anything at all is active. A yardstick, and no method."""
    return torch.ones_like(maps[:, :, :1, :1])


def grad_cam_weights(maps: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient's mean over all places (Selvaraju et al. 2017, equation 1)."""
    return gradient.mean(dim=(2, 3), keepdim=True)


def grad_cam_pp_weights(maps: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Grad-CAM++: positive gradients, weighed by place (Chattopadhay et al. 2018, equation 19).

    The paper explains ``exp(y)``; its factor, the same for all places, is left out, as it scales
    the whole map.
    """
    # of equation 19's fraction the gradient's square is left out above and below
    below = 2 + maps.sum(dim=(2, 3), keepdim=True) * gradient
    alpha = torch.where(below == 0, 0, 1 / below)
    return (alpha * gradient.clamp(min=0)).sum(dim=(2, 3), keepdim=True)


def xgrad_cam_weights(maps: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """XGrad-CAM: the mean of the gradient, weighed by the activations (Fu et al. 2020, eq. 8).

    A channel that is nowhere active has the weight 0.
    """
    total = maps.sum(dim=(2, 3), keepdim=True)
    share = torch.where(total == 0, 0, maps / total)
    return (share * gradient).sum(dim=(2, 3), keepdim=True)


def layer_cam_weights(maps: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Layer-CAM: the gradient's positive part, place by place (Jiang et al. 2021, equation 4)."""
    return gradient.clamp(min=0)


def hires_cam_weights(maps: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """HiResCAM: the gradient itself, place by place (Draelos and Carin 2020)."""
    return gradient


def eigen_cam_weights(maps: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Eigen-CAM: the first right singular vector of places x channels (Muhammad and Yeasin 2020).

    No class is asked. A singular vector has no sign of its own: it gets the one with which the sum
    over all places is positive. As in the paper, and other than in pytorch-grad-cam, the mean is
    not taken away first.
    """
    places = maps.flatten(2).transpose(1, 2)  # (N, h * w, C)
    first = torch.linalg.svd(places.cpu().double(), full_matrices=False).Vh[:, 0].to(maps)
    sign = (places @ first[:, :, None]).sum(dim=(1, 2)).sign()
    return (first * sign[:, None])[:, :, None, None]


#: The name of the first of them.
GRAD_CAM = next(row.title for row in TABLE if row.key == "grad_cam")
#: Weights that need feature maps and gradients only, by the method's name in figures.
WEIGHTS: dict[str, Weights] = {
    GRAD_CAM: grad_cam_weights,
    "Grad-CAM++": grad_cam_pp_weights,
    "XGrad-CAM": xgrad_cam_weights,
    "Layer-CAM": layer_cam_weights,
    "HiResCAM": hires_cam_weights,
    "Eigen-CAM": eigen_cam_weights,
    "no class": no_class,
}


def name_of(cam: str) -> str:
    """A name in :data:`WEIGHTS`, given in upper or lower case; a ``ModelError`` if it is none.

    Examples
    --------
    >>> name_of("grad-cam++")
    'Grad-CAM++'
    """
    names = {name.lower(): name for name in WEIGHTS}
    if not isinstance(cam, str) or cam.lower() not in names:
        raise ModelError(f"There is no CAM {cam!r}; choose one of {', '.join(WEIGHTS)}.")
    return names[cam.lower()]


def cam_by_name(
    cam: str, maps: torch.Tensor, gradient: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps ``(N, h, w)`` from feature maps and gradients ``(N, C, h, w)``, and the weights.

    ``cam`` is a name as :func:`name_of` gives it. The weights are ``(N, C)``, or ``(N, C, h, w)``
    where a method weighs each place by itself.
    """
    if cam == GRAD_CAM:
        return cam_from_gradient(maps, gradient)
    weights = WEIGHTS[cam](maps, gradient)
    one_a_channel = weights.shape[2:].numel() == 1
    return gather(weights, maps), weights.flatten(1) if one_a_channel else weights


@torch.no_grad()
def score_weights(
    maps: torch.Tensor, photo: torch.Tensor, score: Score, batch: int = 32
) -> torch.Tensor:
    """Score-CAM: what the photo scores if only a channel's places are let through.

    (Wang et al. 2020, algorithm 1.) Each channel, resized to the photo and scaled to [0, 1], masks
    the photo; the softmax of these scores over the channels is their weights. A channel that is
    the same everywhere masks with zeros.

    Parameters
    ----------
    maps, photo : torch.Tensor
        Of one photo: ``(1, C, h, w)`` and ``(1, 3, H, W)``.
    score : callable
        From photos ``(M, 3, H, W)`` to the class's scores ``(M,)``.
    batch : int
        How many masked photos the network sees at a time.

    Returns
    -------
    torch.Tensor
        ``(1, C, 1, 1)``, positive, with the sum 1.
    """
    masks = resize_maps(maps[0], photo.shape[-2:])[:, None]
    low, high = masks.amin(dim=(2, 3), keepdim=True), masks.amax(dim=(2, 3), keepdim=True)
    masks = torch.where(high > low, (masks - low) / (high - low), 0)
    scores = torch.cat([score(photo * part) for part in masks.split(batch)])
    return scores.softmax(dim=0).view(1, -1, 1, 1)


@torch.no_grad()
def ablation_weights(maps: torch.Tensor, score: Score, batch: int = 128) -> torch.Tensor:
    """Ablation-CAM: the share of the score that is lost without the channel.

    (Desai and Ramaswamy 2020, equation 3.) ``maps`` are those of one photo, ``(1, C, h, w)``;
    ``score`` goes from feature maps ``(M, C, h, w)`` to the class's scores ``(M,)``. Returns
    ``(1, C, 1, 1)``. Where the score is not positive, the share would change all signs; as the
    paper explains a predicted class, a ``ValueError`` says so.
    """
    (whole,) = score(maps)
    if whole <= 0:
        raise ValueError(
            f"The class scores {float(whole):.2g}; Ablation-CAM divides by the score, which has to "
            "be positive. Ask about a class that the network considers."
        )
    lost = []
    for channels in torch.arange(maps.shape[1], device=maps.device).split(batch):
        without = maps.repeat(len(channels), 1, 1, 1)
        without[torch.arange(len(channels)), channels] = 0
        lost.append(whole - score(without))
    return (torch.cat(lost) / whole).view(1, -1, 1, 1)
