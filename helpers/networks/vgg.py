"""VGG-16's layout at any width, named as torchvision names it."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized

from ..errors import ASK_ANY, ModelError

#: How many 3x3 convolutions stand before each of VGG-16's five poolings (13 in all).
CONVS_PER_BLOCK = (2, 2, 3, 3, 3)

#: Channels of the five blocks in the embedded model: three eighths of VGG-16's, in the last block
#: three quarters (on a CPU the early, large maps cost the time; a wide last block is nearly free).
EMBEDDED_WIDTHS = (24, 48, 96, 192, 384)


def vgg_features(blocks: Iterable[tuple[int, int]], batch_norm: bool = False) -> nn.Sequential:
    """Blocks ``(channels, convolutions)`` of 3x3 convolutions and ReLUs, a pooling behind each."""
    layers: list[nn.Module] = []
    channels = 3
    for width, convs in blocks:
        for _ in range(convs):
            layers.append(nn.Conv2d(channels, width, kernel_size=3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU(inplace=True))
            channels = width
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


class VGG16(nn.Module):
    """VGG-16 (Simonyan & Zisserman 2015, configuration D) of any width.

    Module names and their order are those of :class:`torchvision.models.VGG`
    (``features``, ``avgpool``, ``classifier``), so whatever reads one reads the other.

    Parameters
    ----------
    num_classes : int
        Length of the score vector.
    widths : tuple of 5 int
        Channels of the five blocks; ``(64, 128, 256, 512, 512)`` is the original.
    hidden : int
        Units of the two hidden fully connected layers (4096 in the original).
    pooled : int
        Side of the adaptive average pooling's output (7 in the original).
    batch_norm : bool
        Put a batch normalisation behind every convolution. Only training does; see
        :func:`fold_batch_norm`.
    dropout : float
        Dropout probability in the classifier; does nothing in eval mode.

    Examples
    --------
    >>> import torch
    >>> VGG16(10, widths=(4, 4, 8, 8, 8))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int,
        widths: tuple[int, ...] = EMBEDDED_WIDTHS,
        hidden: int = 256,
        pooled: int = 2,
        batch_norm: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.features = vgg_features(zip(widths, CONVS_PER_BLOCK, strict=True), batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d((pooled, pooled))
        self.classifier = nn.Sequential(
            nn.Linear(widths[-1] * pooled * pooled, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores (logits) ``(N, num_classes)`` of photos ``(N, 3, H, W)``, H and W >= 32."""
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def as_written(module: nn.Module, kind: type[nn.Module] | None = None) -> bool:
    """Does it run what its class says: no forward of the instance's own, no hook?

    ``kind``: which class it has to be, and no subclass of it.
    """
    own = "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
    return not own and kind in (None, type(module))


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in eval mode whose batch normalisations live in the convolutions.

    At run time a batch normalisation is a fixed scale and shift per channel,
    ``gamma * (w * x + b - mean) / sqrt(var + eps) + beta``; scaling ``w`` and shifting ``b``
    says the same in one convolution. Scores agree up to rounding. Works on the embedded model
    in training and on torchvision's ``vgg11_bn`` ... ``vgg19_bn``; ``model`` stays as it is. The
    layers behind a batch normalisation move up: a forward of the model's own that takes layers of
    ``features`` by their numbers would take others.

    Raises
    ------
    ModelError
        If a batch normalisation in ``features`` does not stand right behind a convolution (behind
        a ReLU, say), has no running statistics, the convolution's weight is computed from others
        (pruning, weight norm), or one of the two may do something else (a subclass, a forward of
        its own, a hook).

    Examples
    --------
    >>> network = VGG16(10, widths=(4, 4, 8, 8, 8), batch_norm=True)
    >>> len(network.features), len(fold_batch_norm(network).features)
    (44, 31)
    """
    layers = getattr(model, "features", None)
    if not isinstance(layers, nn.Sequential):
        raise ModelError(f"{type(model).__name__} has no features (a Sequential) to fold.")
    if not as_written(layers, nn.Sequential):
        raise ModelError(
            f"The features of {type(model).__name__} may do more than one layer behind the other "
            f"(a subclass of Sequential, a forward of its own, a hook). Ask it by {ASK_ANY}."
        )
    last = None  # but for batch normalisations
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.BatchNorm2d):
            _check_foldable(layer, last, f"features[{i}] of {type(model).__name__}")
        else:
            last = layer
    plain = copy.deepcopy(model).eval()
    folded: list[nn.Module] = []
    for layer in plain.features:
        if isinstance(layer, nn.BatchNorm2d):
            folded[-1] = fuse_conv_bn_eval(folded[-1], layer)
        else:
            folded.append(layer)
    plain.features = nn.Sequential(*folded).eval()  # the new container, too
    return plain


def _check_foldable(norm: nn.BatchNorm2d, before: nn.Module | None, where: str) -> None:
    """A ``ModelError`` unless the layer before a batch normalisation can take it in."""
    if not isinstance(before, nn.Conv2d):
        place = "first of all" if before is None else f"behind a {type(before).__name__}"
        raise ModelError(
            f"{where}, a batch normalisation, stands {place}, not behind a convolution that could "
            f"take it in. Ask the network by {ASK_ANY}."
        )
    if norm.running_mean is None:
        raise ModelError(
            f"{where} normalises each batch by itself (track_running_stats=False), which is no "
            f"fixed scale and shift. Ask the network by {ASK_ANY}."
        )
    if is_parametrized(before) or before._forward_pre_hooks:
        raise ModelError(
            f"The convolution before {where} has a weight that is computed from others. Make it a "
            "plain one first: torch.nn.utils.parametrize.remove_parametrizations, prune.remove, "
            "remove_weight_norm or remove_spectral_norm."
        )
    for part, kind in ((before, nn.Conv2d), (norm, nn.BatchNorm2d)):
        if not as_written(part, kind):
            raise ModelError(
                f"{where} cannot be folded: the {type(part).__name__} there may do something else "
                f"than a {kind.__name__} (a subclass, a forward of its own, a hook). Ask the "
                f"network by {ASK_ANY}."
            )
