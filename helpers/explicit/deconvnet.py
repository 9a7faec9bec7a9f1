"""The Deconvnet of Zeiler and Fergus (2014): up a VGG-style network, and its way back to the photo.

The way up is the network itself; on the way its `steps` note what the way down will need. As every
step but the ReLU goes down by the exact adjoint of its layer, the rule for the ReLU alone tells the
Deconvnet, guided backpropagation and the plain gradient apart; see `methods`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..checks import check_classes, check_finite, check_photos, evaluating, vgg_parts
from ..methods import Rule, deconvnet_rule, gradient_rule, guided_rule
from ..targets import asking
from .self_check import check_steps
from .steps import laid_out, step_for


@dataclass(frozen=True)
class Trace:
    """What one way up leaves behind.

    Attributes
    ----------
    scores : torch.Tensor
        Class scores (logits), ``(N, classes)``.
    feature_maps : torch.Tensor
        What the last layer of ``features`` gives, ``(N, C, h, w)``.
    memory : list
        What each step noted for the way down, in the order of the layers.
    size : tuple of 2 int
        Height and width of the photos.
    activations : tuple of torch.Tensor
        Number k is the output of layer k - 1 of ``features``, number 0 the photos; empty unless
        :meth:`Deconvnet.up` was asked to keep them.
    """

    scores: torch.Tensor
    feature_maps: torch.Tensor
    memory: list[Any]
    size: tuple[int, int]
    activations: tuple[torch.Tensor, ...] = ()


class Deconvnet(nn.Module):
    """A VGG-style network with its way back to the pixels, by the Deconvnet's rule.

    :class:`GuidedBackprop` and :class:`Gradient` are the same with another ``relu_down``.

    Parameters
    ----------
    network : nn.Module
        Has ``features`` (Sequential), ``avgpool`` and ``classifier`` (Sequential), as
        :class:`torchvision.models.VGG`; any depth, any width. It is used, never changed: the
        convolutions' parameters are shared, not copied, so moving or training one moves or
        trains the other.

    Raises
    ------
    ModelError
        If the network is of another kind, or computes something that its modules do not show: a
        layer with a forward of its own or a hook, a functional ReLU, a skip connection. Each layer
        is tried for that, see :mod:`helpers.explicit.self_check`.

    Examples
    --------
    >>> from helpers import Deconvnet, load_model, sample
    >>> model = load_model()
    >>> walk, x = Deconvnet(model.network), model.prepare(sample("chelsea"))
    >>> walk.from_features(x, unit="strongest").shape == x.shape
    True
    """

    #: What happens at a ReLU on the way down; one of :data:`helpers.methods.RULES`.
    relu_down = staticmethod(deconvnet_rule)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        #: The network's, for messages.
        self.name = type(network).__name__
        features, avgpool, classifier = vgg_parts(network, nn.Sequential)
        layers = {
            **{f"features[{i}]": layer for i, layer in enumerate(features)},
            "avgpool": avgpool,
            "flatten": nn.Flatten(),  # between the modules, a call
            **{f"classifier[{i}]": layer for i, layer in enumerate(classifier)},
        }
        self.steps = nn.ModuleList(step_for(layer) for layer in layers.values())
        #: Number of layers in ``features``; steps behind it belong to the classifier.
        self.depth = len(features)
        with torch.no_grad(), evaluating(network):
            check_steps(network, layers, self.steps)

    @torch.no_grad()
    def up(self, x: torch.Tensor, keep: bool = False) -> Trace:
        """Send photos ``(N, 3, H, W)``, normalised, up to the class scores.

        H and W are at least 32; odd sizes are welcome.
        ``keep``: whether the trace keeps the activations of all layers of ``features``.
        Photos are refused as by :func:`helpers.checks.check_photos`; what the network cannot take
        (dtype, device, channels, size), and scores that are NaN or infinite, are a ``ModelError``.
        """
        check_photos(x)
        size, memory, between = (x.shape[-2], x.shape[-1]), [], [x]
        with evaluating(self.layers), asking(self, x, self.name):
            for i, step in enumerate(self.steps):
                x, note = step.up(laid_out(x))
                memory.append(note)
                if i < self.depth:
                    between = [*between, x] if keep else [x]
        check_finite(x, "The network answers with")
        return Trace(x, between[-1], memory, size, tuple(between) if keep else ())

    @property
    def layers(self) -> nn.ModuleList:
        """Layers of all steps, to set their mode: in training a computed weight may be another."""
        return nn.ModuleList(step.layer for step in self.steps)

    @torch.no_grad()
    def down(
        self,
        trace: Trace,
        signal: torch.Tensor,
        start: int,
        stop: int = 0,
        relu_down: Rule | None = None,
    ) -> torch.Tensor:
        """Send a signal from the output of step ``start - 1`` down to the input of step ``stop``.

        Parameters
        ----------
        trace : Trace
            From :meth:`up`, of the same photos.
        signal : torch.Tensor
            Shaped as that output: ``(N, C, h, w)`` inside ``features``, ``(N, classes)`` at the
            end.
        start, stop : int
            ``self.depth`` starts at the last feature maps, ``len(self.steps)`` at the scores;
            ``stop=0`` ends at the photo.
        relu_down : callable, optional
            Another rule ``(signal, mask) -> signal`` for this walk; it may overwrite the signal.

        Returns
        -------
        torch.Tensor
            ``(N, 3, H, W)`` for ``stop=0``: signed, in units of the signal per unit of the
            normalised photo; not scaled in any way.

        Raises
        ------
        ModelError
            If what arrives is NaN or infinite.
        """
        rule = relu_down or self.relu_down
        signal = signal.clone()  # ours, to be overwritten
        steps = list(zip(self.steps, trace.memory, strict=True))[stop:start]
        with evaluating(self.layers):
            for step, note in reversed(steps):
                signal = step.down(laid_out(signal), note, rule)
        check_finite(signal, "The way down ends in")
        return signal.contiguous()

    def from_features(self, x: torch.Tensor, unit: str = "all") -> torch.Tensor:
        """Back-project the last feature maps: ``(N, 3, H, W)``.

        ``unit="all"`` starts from every activation; ``unit="strongest"`` from the single largest
        one of each photo, all others set to zero, as Zeiler and Fergus do. Anything else is a
        ``ValueError``; other errors as :meth:`up`.
        """
        if unit not in ("all", "strongest"):
            raise ValueError(f'unit is "all" or "strongest", not {unit!r}.')
        trace = self.up(x)
        start = trace.feature_maps if unit == "all" else strongest_unit(trace.feature_maps)
        return self.down(trace, start, self.depth)

    def from_class(self, x: torch.Tensor, classes=None) -> torch.Tensor:
        """Back-project one class score a photo: ``(N, 3, H, W)``.

        The walk begins at the scores with a 1 at the class and goes through the classifier's own
        ReLUs. ``classes`` is an index, one a photo, or None for each photo's top class
        (errors: :func:`helpers.checks.check_classes`).
        """
        trace = self.up(x)
        return self.down(trace, one_hot(classes, trace.scores), len(self.steps))


class GuidedBackprop(Deconvnet):
    """The same walk; a ReLU lets a signal through that is positive, where its input was, too.

    (Springenberg et al. 2015.)

    Examples
    --------
    >>> from helpers import GuidedBackprop, load_model, sample
    >>> model = load_model()
    >>> x = model.prepare(sample("chelsea"))
    >>> GuidedBackprop(model.network).from_class(x).shape == x.shape
    True
    """

    relu_down = staticmethod(guided_rule)


class Gradient(Deconvnet):
    """The same walk with the ReLU's true derivative: the gradient of Simonyan et al. (2014).

    Examples
    --------
    >>> from helpers import Gradient, load_model, sample
    >>> model = load_model()
    >>> x = model.prepare(sample("chelsea"))
    >>> Gradient(model.network).from_class(x, model.class_index("tabby")).shape == x.shape
    True
    """

    relu_down = staticmethod(gradient_rule)


#: The class for each of :data:`helpers.methods.RULES`, by the rule's key.
METHODS = {"gradient": Gradient, "deconvnet": Deconvnet, "guided": GuidedBackprop}


def one_hot(classes, scores: torch.Tensor) -> torch.Tensor:
    """The start of a walk from one class a photo, shaped as ``scores``: 1 at the class, else 0.

    Examples
    --------
    >>> import torch
    >>> one_hot(2, torch.tensor([[0.1, 0.7, 0.2]]))
    tensor([[0., 0., 1.]])
    """
    return F.one_hot(check_classes(classes, scores), scores.shape[1]).to(scores.dtype)


def strongest_unit(feature_maps: torch.Tensor) -> torch.Tensor:
    """``(N, C, h, w)`` with each photo's largest activation kept and all others zero.

    Examples
    --------
    >>> import torch
    >>> strongest_unit(torch.tensor([[[[1.0, 5.0]], [[3.0, 2.0]]]]))
    tensor([[[[0., 5.]],
    <BLANKLINE>
             [[0., 0.]]]])
    """
    flat = feature_maps.flatten(1)
    place = flat.argmax(dim=1, keepdim=True)
    return torch.zeros_like(flat).scatter_(1, place, flat.gather(1, place)).view_as(feature_maps)
