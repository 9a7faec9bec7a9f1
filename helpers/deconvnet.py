"""The Deconvnet of Zeiler and Fergus (2014): every step of a VGG-style network, and its way back.

The way up is the network itself; on the way it notes what the way down will need.

====================  ==============================  =================================
layer                 noted on the way up             on the way down
====================  ==============================  =================================
3x3 convolution       the shape of its input          transposed convolution, same weight
ReLU                  where its input was positive    the method's rule (`relu_down`)
2x2 max-pooling       the switches                    unpooling: back to the switches
average pooling       the shape of its input          each value spread over its window
flattening            the shape of its input          that shape again
fully connected       --                              the transposed matrix
====================  ==============================  =================================

Everything but the ReLU is the exact adjoint of the layer (of max-pooling, with its switches held),
so the rule for the ReLU alone tells the Deconvnet, guided backpropagation and the plain gradient
apart; see `methods`.
No autograd is used anywhere in this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .checks import (
    SMALLEST_SIDE,
    check_classes,
    check_finite,
    check_photos,
    evaluating,
    vgg_parts,
)
from .errors import ModelError
from .methods import Rule, deconvnet_rule, gradient_rule, guided_rule


class Step(nn.Module):
    """One layer, both ways.

    ``up(x)`` gives what the layer gives, and a note for the way down; ``down(signal, note, rule)``
    the signal that goes on below. Only a ReLU asks the rule.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def train(self, mode: bool = True):
        self.training = mode  # the layer's mode is its network's business
        return self

    def up(self, x):
        return self.layer(x), x.shape


class Convolution(Step):
    """A convolution up; down, a transposed convolution whose weight *is* the convolution's.

    ``Conv2d`` stores its weight as (out, in, kh, kw), ``ConvTranspose2d`` as (in, out, kh, kw)
    *of its own direction*, whose "in" is the convolution's "out": the same tensor fits both,
    unflipped and unpermuted. There is no bias on the way down: the adjoint of ``Wx + b`` is
    ``W^T``, whatever ``b``.

    The weight is read when it is used. An ``nn.ConvTranspose2d`` would hold on to the parameter
    that it was given, when the convolution has another by now (``load_state_dict(...,
    assign=True)``), and could not hold a weight that is computed (weight norm, pruning).
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ModelError(
                f"Only convolutions with a number of zeros as padding can be undone, got {conv}."
            )

    def down(self, signal, shape, rule):
        conv = self.layer
        # with a stride, the last places may lie beyond all windows; nothing comes back to them
        beyond = [
            (side + 2 * pad - dilation * (kernel - 1) - 1) % stride
            for side, kernel, stride, pad, dilation in zip(
                shape[2:], conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True
            )
        ]
        return F.conv_transpose2d(
            signal, conv.weight, None, conv.stride, conv.padding, beyond, conv.groups, conv.dilation
        )


class Rectifier(Step):
    """A ReLU up; down, whatever the method's rule says."""

    def up(self, x):
        return x.relu(), x > 0

    def down(self, signal, mask, rule):
        return rule(signal, mask)


class Pooling(Step):
    """Max-pooling up, which notes the switches; down, unpooling to the switches, zero elsewhere.

    Where PyTorch does not allow ``nn.MaxUnpool2d`` (in an export to ONNX, under
    ``torch.use_deterministic_algorithms(True)``), a scatter into zeros does the same: windows do
    not overlap, so no two values meet.
    """

    def __init__(self, pool: nn.MaxPool2d) -> None:
        windows = pool.kernel_size, pool.stride, pool.padding
        super().__init__(nn.MaxPool2d(*windows, ceil_mode=pool.ceil_mode, return_indices=True))
        self.unpool = nn.MaxUnpool2d(*windows)
        # MaxUnpool2d has made pairs of them
        if self.unpool.kernel_size != self.unpool.stride or pool.dilation not in (1, (1, 1)):
            # where windows overlap one place may win twice, and unpooling would keep one of the two
            raise ModelError(f"Only max-pooling with separate windows can be unpooled, got {pool}.")

    def up(self, x):
        pooled, switches = self.layer(x)
        return pooled, (switches, x.shape)

    def down(self, signal, note, rule):
        switches, shape = note
        if torch.compiler.is_compiling() or torch.are_deterministic_algorithms_enabled():
            zeros = signal.new_zeros(*shape[:2], shape[2] * shape[3])
            return zeros.scatter_(2, switches.flatten(2), signal.flatten(2)).view(shape)
        return self.unpool(signal, switches, output_size=shape[-2:])


class AveragePooling(Step):
    """Adaptive average pooling up; down, every value shared out evenly over its window."""

    @staticmethod
    def windows(size: int, pooled: int, like: torch.Tensor) -> torch.Tensor:
        """The averaging matrix ``(pooled, size)`` of one axis: row i is 1/n on window i."""
        identity = torch.eye(size, dtype=like.dtype, device=like.device)
        return F.adaptive_avg_pool1d(identity, pooled).T

    def down(self, signal, shape, rule):
        rows = self.windows(shape[-2], signal.shape[-2], signal)
        columns = self.windows(shape[-1], signal.shape[-1], signal)
        return rows.T @ signal @ columns


class Flattening(Step):
    """``(N, C, h, w)`` to ``(N, C*h*w)`` up, and back down."""

    def down(self, signal, shape, rule):
        return signal.reshape(-1, *shape[1:])


class FullyConnected(Step):
    """``W x + b`` up; down, ``W^T s`` with the same ``W``."""

    def down(self, signal, shape, rule):
        return signal @ self.layer.weight


class Nothing(Step):
    """Dropout and identity: nothing happens when a network is asked rather than trained."""

    def up(self, x):
        return x, None

    def down(self, signal, note, rule):
        return signal


#: The layers that have a way back here.
STEPS: dict[type[nn.Module], type[Step]] = {
    nn.Conv2d: Convolution,
    nn.ReLU: Rectifier,
    nn.MaxPool2d: Pooling,
    nn.AdaptiveAvgPool2d: AveragePooling,
    nn.Flatten: Flattening,
    nn.Linear: FullyConnected,
    nn.Dropout: Nothing,
    nn.Identity: Nothing,
}


#: Steps whose way down is held against their way up by the dot-product test.
AFFINE = (Convolution, AveragePooling, FullyConnected)


def step_for(layer: nn.Module) -> Step:
    """The two-way step for one layer of the network.

    Raises
    ------
    ModelError
        If the layer has no way back here.
    """
    for kind, step in STEPS.items():
        if isinstance(layer, kind):
            return step(layer)
    advice = (
        "These methods need a VGG-style network: convolutions, ReLUs, max-poolings and fully "
        "connected layers, as modules, one behind the other."
    )
    if isinstance(layer, nn.BatchNorm2d):
        advice = (
            "Fold the batch normalisation into the convolutions first: "
            "helpers.fold_batch_norm(network)."
        )
    raise ModelError(f"{type(layer).__name__} has no way back here. {advice}")


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
        If the network is of another kind, or computes something that its modules do not show. So
        that no map is silently wrong, three things are tried, on a small photo and on noise:

        - A layer with weights (or an average pooling) goes down by the adjoint of what it really
          computes, ``<L v, y> = <v, L^T y>``. Else it has a forward of its own (it standardises
          its weight, say) or a hook, and the weight does not lead back through it.
        - Any other layer gives what its step gives, for large numbers, too.
        - The network's scores are those of its steps, one behind the other. Else there is more
          between them: a functional ReLU, a skip connection.

        All of it is done layer by layer in the network's own dtype, without a copy of a weight.
        A comparison of whole maps would need float64: in float32 the rounding of two values
        that nearly tie moves a switch.

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
            self._check_against(network, layers)

    def _check_against(self, network: nn.Module, layers: dict[str, nn.Module]) -> None:
        """The three comparisons of the class's docstring."""
        name, (x, want) = type(network).__name__, first_answer(network)
        for step, (where, layer) in zip(self.steps, layers.items(), strict=True):
            try:
                out, _ = step.up(laid_out(x))
                affine = isinstance(step, AFFINE)
                right = is_adjoint(step, x) if affine else does_the_same(step, layer, x)
            except Exception as error:
                raise ModelError(
                    f"{where} of {name}, a {type(layer).__name__}, does not go with what comes "
                    f"before it: {error}"
                ) from error
            check_finite(out, f"{where} of {name} gives")
            if not right:
                raise ModelError(
                    f"{where} of {name}, a {type(layer).__name__}, does not compute what its kind "
                    "of layer does (a forward of its own, or a hook?), so no way back through it "
                    "is known here. Ask the network by saliency_any and grad_cam_any."
                )
            x = out
        if not agree(want, x):
            raise ModelError(
                f"{name} computes more than its modules show (a functional ReLU such as F.relu, or "
                "a skip connection?). Replace function calls by modules (nn.ReLU), or ask it by "
                "saliency_any and grad_cam_any."
            )

    @torch.no_grad()
    def up(self, x: torch.Tensor, keep: bool = False) -> Trace:
        """Send photos ``(N, 3, H, W)``, normalised, up to the class scores.

        H and W are at least 32; odd sizes are welcome.
        ``keep``: whether the trace keeps the activations of all layers of ``features``.
        """
        check_photos(x)
        size, memory, between = (x.shape[-2], x.shape[-1]), [], [x]
        with evaluating(self.layers):
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
        """
        rule, signal = relu_down or self.relu_down, signal.clone()  # ours, to be overwritten
        steps = list(zip(self.steps, trace.memory, strict=True))[stop:start]
        with evaluating(self.layers):
            for step, note in reversed(steps):
                signal = step.down(laid_out(signal), note, rule)
        check_finite(signal, "The way down ends in")
        return signal.contiguous()

    def from_features(self, x: torch.Tensor, unit: str = "all") -> torch.Tensor:
        """Back-project the last feature maps: ``(N, 3, H, W)``.

        ``unit="all"`` starts from every activation; ``unit="strongest"`` from the single largest
        one of each photo, all others set to zero, as Zeiler and Fergus do.
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


def first_answer(network: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """A small photo, and the network's scores for it; of several sizes the first that it takes.

    Raises ``ModelError`` if it takes none.
    """
    like = next(network.parameters(), torch.zeros(()))
    for side in (SMALLEST_SIDE, 64, 224):  # some classifiers fit one size only
        x = probe(side).to(like)
        try:
            return x, network(x.clone())
        except Exception as error:
            reason = error
    raise ModelError(
        f"{type(network).__name__} fails on photos of 32, 64 and 224 pixels a side: {reason}"
    ) from reason


def is_adjoint(step: nn.Module, like: torch.Tensor) -> bool:
    """Whether an affine step for inputs such as ``like`` goes down by the adjoint of its way up.

    The dot-product test: ``<L v, y> = <v, L^T y>`` for the step's linear part ``L``, a random
    signal ``y``, and the differences ``v`` of a random input to two others, in which constants fall
    out. One of these is large, for what a layer does beyond a limit. The inputs have at least 6 x 7
    places, so that a kernel meets more than the border.
    """
    random = torch.Generator().manual_seed(0)
    places = (max(side, least) for side, least in zip(like.shape[2:], (6, 7), strict=False))
    x = torch.randn((3, like.shape[1], *places), generator=random).to(like)
    x[2:] *= large(like)
    out, noted = step.up(laid_out(x))
    signal = torch.randn((1, *out.shape[1:]), generator=random).to(like)
    down = step.down(laid_out(signal), noted, None)
    x, out, signal, down = (t.cpu().double() for t in (x, out, signal, down))
    above, below = ((t[:1] - t[1:]).flatten(1) for t in (out, x))
    above, below = above * signal.flatten(1), below * down.flatten(1)
    # of what has been rounded
    size = (out[:1].norm() + out[1:].flatten(1).norm(dim=1)) + below.norm(dim=1)
    return bool(((above.sum(1) - below.sum(1)).abs() <= rounding(like) * size).all())


def does_the_same(step: nn.Module, layer: nn.Module, like: torch.Tensor) -> bool:
    """Whether a layer gives what its step gives, for ``like`` and for large random numbers."""
    random = torch.Generator().manual_seed(0)
    wide = large(like) * torch.randn(like.shape, generator=random).to(like)
    return all(agree(layer(x.clone()), step.up(laid_out(x))[0]) for x in (like, wide))


def large(like: torch.Tensor) -> float:
    """A number larger than what flows in networks, of which sums fit the dtype of ``like``."""
    return 1e4 if torch.finfo(like.dtype).max > 1e30 else 10.0


def rounding(x: torch.Tensor) -> float:
    """What rounding may amount to, as a share, in layers that work in the dtype of ``x``."""
    if x.dtype == torch.float64:
        return 1e-10
    # other devices may multiply float32 with the ten bits of TF32
    return 1e-4 if x.dtype == torch.float32 and x.device.type == "cpu" else 2e-2


def agree(want: torch.Tensor, got: torch.Tensor) -> bool:
    """Whether two results are the same but for rounding."""
    if not isinstance(want, torch.Tensor) or want.shape != got.shape:
        return False
    return bool((want - got).abs().max() <= rounding(got) * want.abs().max())


def probe(size: int) -> torch.Tensor:
    """A photo ``(1, 3, size, size)`` to try a network on: waves from -1 to 1, always the same."""
    return torch.linspace(-2, 2, 3 * size * size).sin().reshape(1, 3, size, size)


def laid_out(x: torch.Tensor) -> torch.Tensor:
    """The same values in the memory layout that the CPU convolves fastest; elsewhere as they are.

    With the channels innermost (``channels_last``) no signal has to be reordered, and max-pooling
    takes a fraction of the time; but the weights have to be, which costs more where a signal has
    many channels and few places.
    """
    if x.ndim != 4 or x.device.type != "cpu":
        return x
    places = x.numel() // x.shape[1]
    return x.contiguous(
        memory_format=torch.channels_last if places > 2 * x.shape[1] else torch.contiguous_format
    )


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
