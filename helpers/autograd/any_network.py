"""The book's maps by autograd, the short way: for any network, the three rules where it has ReLUs.

The explicit networks of :mod:`helpers.explicit.deconvnet` know VGG's few kinds of layer. Autograd
knows them all, and only one of them needs another rule on the way down: the ReLU. So the forward
pass runs under :class:`ReluRule`, which puts a ReLU with that rule wherever the network calls one,
as a module or as a function. Then autograd's graph, which shows what stands between the scores and
the photo however it was spelled (:mod:`helpers.autograd.signal_path`), says whether every ReLU on
the way was met. No module is replaced.

All functions here may be called from several threads at once, for one network too: what a call
notes belongs to that call, and its hook passes over what other threads do. A network in training
mode is in eval mode for as long as any call is under way; see :func:`helpers.checks.evaluating`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointError

from ..checks import check_any_photos, check_finite, check_scores, evaluating, seen_by_python
from ..errors import ModelError
from ..explicit.gradcam import GradCAM, first_of_each, resize_maps
from ..explicit.guided import GuidedGradCAM, times
from ..methods import RULES, rows_of, rule_of
from ..targets import answer_of, asked, asked_each, gradients_of
from .cams import GRAD_CAM, cam_by_name, name_of
from .feature_maps import Place, check_output, find_layers, layout, watched_pass
from .signal_path import SignalPath, node_name, path_down


class RuledReLU(torch.autograd.Function):
    """``clamp(f, 0, top)`` on the way up, one of :data:`helpers.methods.RULES` on the way down.

    Each use of a tensor gets its own signal: where a ReLU's input also feeds a skip branch, the
    rule sees only what came down through the ReLU, and autograd adds the branch's share afterwards.
    """

    @staticmethod
    def forward(ctx, f, top, rule, inplace):
        """``f``: any float tensor. ``top``: infinity for ReLU, 6 for ReLU6."""
        # this ctx is autograd's node itself: what is noted here can be read, and changed, in the
        # graph
        ctx.top, ctx.rule = top, rule
        ctx.save_for_backward((f > 0) & (f < top))
        if inplace:  # whoever holds the input meant to see it changed
            ctx.mark_dirty(f)
        y = f.relu_() if inplace else f.relu()
        return y.clamp_(max=top) if has_ceiling(top) else y

    @staticmethod
    def backward(ctx, signal):
        """The rule, for ``f``; nothing for the three settings."""
        (mask,) = ctx.saved_tensors
        if mask.dtype != torch.bool:  # a checkpoint that checks nothing has put another here
            raise CheckpointError("the mask of a ReLU is none")
        # a clone: the rules work in place, and other branches of the network may share the signal
        return ctx.rule(signal.clone(), mask), None, None, None


def has_ceiling(top: float | torch.Tensor) -> bool:
    """ReLU6 has one, ReLU has none."""
    return isinstance(top, torch.Tensor) or top < torch.inf


def _relu(input, inplace=False):
    return input, 0.0, torch.inf, inplace


def _hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    return input, min_val, max_val, inplace


def _clamp(input, min=None, max=None):
    return input, min, max, False


def _threshold(input, threshold, value, inplace=False):
    return input, 0.0 if threshold == value == 0 else None, torch.inf, inplace


def _leaky(input, negative_slope=0.01, inplace=False):
    return input, 0.0 if negative_slope == 0 else None, torch.inf, inplace


def _larger(input, other=None, *args, **kwargs):
    """``torch.maximum(f, zeros)``, in either order; ``torch.max(f, dim)`` is no ReLU."""
    if not isinstance(other, torch.Tensor) or args or kwargs:
        return input, None, None, False
    return (input, other, None, False) if input.requires_grad else (other, input, None, False)


#: Every call that can be a ReLU, by its name (PyTorch has most of them as a function, as a method
#: and in ``torch.nn.functional``), and how to read its arguments: (input, lower, upper, in place).
#: ``NAME_`` is the same in place.
RECTIFIERS: dict[str, Callable] = {
    "relu": _relu,
    "relu6": lambda input, inplace=False: (input, 0.0, 6.0, inplace),
    "hardtanh": _hardtanh,
    "threshold": _threshold,
    "_threshold": _threshold,  # F.threshold
    "leaky_relu": _leaky,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": lambda input, min: (input, min, None, False),
    "maximum": _larger,
    "max": _larger,
    "fmax": _larger,
}


#: Changes in place that are linear whatever is written, and those that are if the factor is
#: constant.
COPIES = {"__setitem__", "copy_", "fill_", "zero_", "add_", "sub_", "__iadd__", "__isub__"}
SCALINGS = {"mul_", "div_", "__imul__", "__itruediv__"}


#: What is padded with numbers as large as this, or their negatives, is meant for a maximum that
#: never takes them.
NEVER = 1e4


class ReluRule(TorchFunctionMode):
    """While it is entered, every ReLU that this thread calls goes down by ``method``'s rule.

    It sees what Python calls: ``nn.ReLU``, ``nn.ReLU6``, ``F.relu``, ``x.relu_()``,
    ``x.clamp(min=0)``, ``torch.maximum(x, zeros)`` and their like, in place or not. It cannot see
    into TorchScript, compiled code or C++, nor a ReLU written as a formula: :meth:`check` finds
    those in the graph.
    Raises ``ModelError`` if there is no such method.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([-1.0, 2.0], requires_grad=True)
    >>> with ReluRule("deconvnet"):
    ...     y = x.relu()
    >>> torch.autograd.grad(y.sum(), x)  # the plain gradient is 0 at -1
    (tensor([1., 1.]),)
    """

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method, self.rule = method, rule_of(method)
        #: What the graph alone does not tell of its nodes.
        self._known: dict[object, str] = {}
        #: Calls whose result has no way back, and the nodes of what they read.
        self._lost: list[tuple[str, list]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").split(".")[0]  # ATen's own names: "relu.default"
        if name.removesuffix("_") in RECTIFIERS and torch.is_grad_enabled() and "out" not in kwargs:
            f, lower, upper, inplace = RECTIFIERS[name.removesuffix("_")](*args, **kwargs)
            if f.requires_grad and _is_zero(lower, f) and _is_constant(upper, f):
                top = torch.inf if upper is None else upper
                return self._rectify(f, top, inplace or name.endswith("_"))
        result = func(*args, **kwargs)
        if name in COPIES or name in SCALINGS and not any(map(_varies, args[1:])):
            self._note_copy(args[0])
        if name in ("pad", "constant_pad_nd"):
            self._note_padding(result, abs(_padding(*args, **kwargs)))
        if name.strip("_") == "threshold":
            self._known[result.grad_fn] = "bend"  # a ReLU would be replaced
        if _has_no_way_back(name, result):
            # x.to(y), x.expand_as(y) read no values of y
            values = args[:1] if name == "to" or name.endswith("_as") else args
            if read := [value.grad_fn for value in values if _varies(value)]:
                self._lost.append((name.replace("__get__", "data"), read))
        return result

    def _rectify(self, f, top, inplace):
        view = inplace and f._is_view()  # autograd would hide the ReLU behind a "CopySlices"
        y = RuledReLU.apply(f, top, self.rule, inplace and not view)
        if hasattr(y.grad_fn, "rule"):  # torch.compile puts its own node here
            self._known[y.grad_fn] = "relu"
        if not view:
            return y
        f.copy_(y)
        self._note_copy(f)
        return f

    def _note_padding(self, tensor, value):
        """Autograd shows where constants were put, and not which."""
        if tensor.grad_fn and node_name(tensor.grad_fn) == "ConstantPadNd":
            kind = "zeros" if value == 0 else "mix" if value >= NEVER else "pad"
            self._known[tensor.grad_fn] = kind

    def _note_copy(self, tensor):
        """Autograd shows a change of a view as "CopySlices", without what was done."""
        node = (tensor._base if tensor._is_view() else tensor).grad_fn
        if node is not None and node_name(node) == "CopySlices":
            self._known[node] = "mix"

    def check(
        self, scores: torch.Tensor, leaf: torch.Tensor, name: str, strict: bool = True
    ) -> None:
        """Look through the graph between ``scores`` and the photo ``leaf``, made under this mode.

        Afterwards every ReLU on the way is known to go down by the rule. A ``relu6`` that is part
        of something else (a hard sigmoid, a hard swish written by hand) has its true derivative
        again. ``name`` is the network's, for the messages.

        Raises
        ------
        ModelError
            If the photo is not on the way; if a ReLU on the way is, or may be, out of the rule's
            reach; if there is none; or, if ``strict``, if anything else bends the signal.
        """
        path = path_down(scores, leaf, name, self._known)
        hidden = path.count("opaque", "plain relu")
        if hidden:
            raise ModelError(
                f"{name}: between photo and scores stands {listed(hidden)}, where {self.method!r} "
                "cannot reach a ReLU. Write it with nn.ReLU or F.relu, outside of TorchScript, "
                "compiled code and autograd Functions of your own; or ask for method='gradient' "
                "or Grad-CAM, which need no rule."
            )
        relus, others = self._sort(path)
        also = f", but {'also ' if relus else ''}{listed(others)}" if others else ""
        if not relus:
            raise ModelError(
                f"{name} has no ReLU between photo and scores{also}: {self.method!r} would be the "
                "plain gradient under another name. Ask for method='gradient', or use Grad-CAM."
            )
        if strict and others:
            raise ModelError(
                f"{name} has {relus} ReLU{'s' * (relus > 1)} between photo and scores{also}, for "
                f"which {self.method!r} has no rule. strict=False leaves them their true "
                "derivative; method='gradient' and Grad-CAM need no rule."
            )

    def _sort(self, path: SignalPath) -> tuple[int, Counter[str]]:
        """How many ReLUs go down by the rule, and everything else that bends the signal."""
        relus, others = 0, path.others()
        inner = set().union(*(path.within(curve) for curve in path.curves))
        for node in path.of_kind("relu"):
            role = "gate" if node in inner else path.role(node) if has_ceiling(node.top) else "relu"
            if role == "gate":
                node.rule = rule_of("gradient")
                continue
            relus += 1
            if role == "unclear":
                others["clamped factor that may be a gate but strict=False takes for a ReLU"] += 1
        for name, read in self._lost:
            if any(path.hangs_on_photo(node) for node in read):
                others[f"{name}, whose result autograd cannot follow"] += 1
        return relus, others


def _padding(input, pad, *more, value=None, **others) -> float:
    """The constant that ``F.pad(input, pad, mode, value)`` or ``constant_pad_nd`` writes."""
    value = more[-1] if more and not isinstance(more[-1], str) else value
    return value or 0.0


def _varies(value) -> bool:
    """Is it a tensor that autograd follows?"""
    return isinstance(value, torch.Tensor) and value.requires_grad


def _is_constant(bound, f: torch.Tensor) -> bool:
    """Is ``bound`` a number, None, or a tensor that is not learned and fits ``f``?"""
    if not isinstance(bound, torch.Tensor):
        return True
    keeps_shape = torch.broadcast_shapes(bound.shape, f.shape) == f.shape
    return keeps_shape and not _varies(bound) and torch.result_type(bound, f) == f.dtype


def _is_zero(bound, f: torch.Tensor) -> bool:
    if isinstance(bound, torch.Tensor):
        return _is_constant(bound, f) and not bound.count_nonzero()
    return bound == 0


def _has_no_way_back(name: str, result) -> bool:
    """Did a call read values and answer without autograd (a comparison, ``detach``, ``item``)?"""
    if not isinstance(result, torch.Tensor):
        return name in ("item", "tolist", "__bool__", "__int__", "__float__", "__complex__")
    return not result.requires_grad and not (name.endswith("_like") or name.startswith("new_"))


def listed(counts: Counter[str]) -> str:
    """ "SiLU (49 times), abs (once)" """
    return ", ".join(
        f"{name} ({'once' if count == 1 else f'{count} times'})" for name, count in counts.items()
    )


def saliency_any(
    network: nn.Module, x: torch.Tensor, classes=None, method: str = "guided", strict: bool = True
) -> torch.Tensor:
    """Back-project one class score a photo through any network with ReLUs, by one of three rules.

    The same numbers as :func:`helpers.saliency` on a VGG-style network; here skip connections,
    concatenations, batch normalisation and functional ReLUs are welcome too.

    Parameters
    ----------
    network : nn.Module
        From photos ``(N, C, H, W)`` to class scores ``(N, classes)``; :class:`helpers.Scores` makes
        such a network of one that answers otherwise. It is left as it was.
    x : torch.Tensor
        Normalised photos ``(N, C, H, W)``, of the network's dtype and device, and as many channels
        and pixels as it takes.
    classes : int, sequence, tensor or callable, optional
        A class for all photos, one each, or ``None`` for each photo's top class; or a callable that
        makes one number a photo, ``(N,)``, of the scores, such as :func:`helpers.contrast`.
    method : str
        "gradient", "deconvnet" or "guided".
    strict : bool
        Refuse networks in which anything but ReLUs bends the signal between photo and scores:
        other activations, also as formulas (``x * sigmoid(x)``), clamps, absolute values, choices
        that autograd cannot follow (``x > 0``), operations not known here. Max-pooling,
        normalisations, attention and gates that multiply other signals (squeeze-and-excitation)
        are let through with their derivative. With ``False`` all this keeps its true derivative,
        and the map is a mixture that no paper describes. A maximum counts as pooling unless it
        compares a signal with constants or with copies of itself (padded, stacked, joined,
        multiplied); a maximum over what a matrix, a convolution or an index made (maxout) is let
        through. A product counts as a gate unless both factors are made of one and the same number.

    Returns
    -------
    torch.Tensor
        ``(N, C, H, W)``, signed and unscaled.

    Raises
    ------
    ModelError
        If the method is unknown; if what is given is no network, its answer no ``(N, classes)``
        tensor of finite scores, or the photo out of autograd's reach; if it cannot take such
        photos (their dtype, device, channels, size); if the way down ends in NaN or infinite
        values, as it may in half precision. And for the methods with a rule of their own: if there
        is no ReLU between photo and scores; if something else is (``strict``); if, strict or not, a
        ReLU is or may be where the rule cannot reach it (TorchScript, compiled or checkpointed
        parts, an ``autograd.Function`` of one's own, C++).

    Notes
    -----
    Not seen is what a scripted function decides by comparisons in its first two calls, which
    TorchScript runs step by step.

    Examples
    --------
    >>> from helpers import load_model, saliency_any, sample
    >>> model = load_model()
    >>> tuple(saliency_any(model.network, model.prepare(sample("chelsea"))).shape)
    (1, 3, 160, 160)
    """
    return _saliency(network, x, partial(asked, classes), method, strict)[:, 0]


def saliency_any_each(
    network: nn.Module, x: torch.Tensor, classes, method: str = "guided", strict: bool = True
) -> torch.Tensor:
    """:func:`saliency_any` of K classes of every photo, which share one pass up.

    Returns ``(N, K, C, H, W)``. ``classes`` is a list of K for all photos, in which
    callables may stand too, or an integer array ``(N, K)``.

    Examples
    --------
    >>> from helpers import load_model, saliency_any_each, sample
    >>> model = load_model()
    >>> x = model.prepare(sample("chelsea"))
    >>> tuple(saliency_any_each(model.network, x, [3, 5]).shape)
    (1, 2, 3, 160, 160)
    """
    return _saliency(network, x, partial(asked_each, classes), method, strict)


def _saliency(network, x, ask: Callable, method: str, strict: bool) -> torch.Tensor:
    """Maps ``(N, K, C, H, W)`` of the K numbers a photo that ``ask`` makes out of the scores."""
    rule = ReluRule(method)
    x, network = check_any_photos(x), seen_by_python(network)
    name = type(network).__name__
    # a caller's inference mode would forbid the gradient
    with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
        leaf = x.detach().clone().requires_grad_()
        # the plain gradient is autograd's own, without a rule
        with nullcontext() if method == "gradient" else rule:
            # the clone is for an in-place operation at the very start
            answer = answer_of(network, leaf.clone())
        scores = check_scores(answer, network, x)
        if method == "gradient":
            path_down(scores, leaf, name)
        else:
            rule.check(scores, leaf, name, strict)
        values, _ = ask(scores)
        try:
            gradients = [gradient for (gradient,) in walks_down(values, [leaf])]
        except CheckpointError as error:  # what is computed again meets the plain ReLU
            raise ModelError(
                f"{name} computes parts again on the way down (checkpointing), out of the rule's "
                "reach. Switch that off; torchvision's DenseNet does it with "
                "memory_efficient=True."
            ) from error
    return torch.stack(gradients, dim=1)


def walks_down(values: torch.Tensor, at: list[torch.Tensor]) -> Iterator[tuple[torch.Tensor, ...]]:
    """For each of K columns of ``(N, K)`` numbers its gradient for all tensors of ``at``."""
    for k, column in enumerate(values.unbind(1)):
        # photos do not mix, so the sum's gradient is each photo's own
        gradients = gradients_of(column.sum(), at, retain_graph=k + 1 < values.shape[1])
        for gradient in gradients:
            check_finite(gradient, "The way down ends in")
        yield gradients


def grad_cam_any(
    network: nn.Module,
    x: torch.Tensor,
    layer: Place | Sequence[Place] | None = None,
    classes=None,
    grid: tuple[int, int] | None = None,
    cam: str = GRAD_CAM,
) -> GradCAM:
    """Grad-CAM, or one of its kin, at any module's output, for any network.

    Parameters
    ----------
    network, x, classes
        As for :func:`saliency_any`.
    layer : str, nn.Module or a list of them, optional
        One of the network's own modules, by itself or by its name ("layer4" in a ResNet), called
        once a pass, whose output is maps ``(N, C, h, w)``, maps with the channels last
        ``(N, h, w, C)``, or tokens ``(N, T, C)``; :func:`helpers.layers` lists them. None: the last
        maps through which everything goes that the scores know of the photo, found by a probe.
        Of several layers each map is divided by its largest value, and they are averaged at the
        finest one's places: ``maps`` are then in [0, 1], and ``weights`` a tuple.
    grid : (int, int), optional
        How many tokens lie below and beside each other, h and w, if it is not the photo's
        proportion; tokens before these (of a class, registers) are left out.
    cam : str
        How the feature maps are weighed: one of :data:`helpers.autograd.cams.WEIGHTS`,
        "Grad-CAM++" or "HiResCAM" for example, in upper or lower case.

    Returns
    -------
    GradCAM
        As from :func:`helpers.grad_cam`; ``classes`` is None where a callable was asked about,
        and ``weights`` are ``(N, C, h, w)`` where a CAM weighs each place by itself.

    Raises
    ------
    ModelError
        As :func:`saliency_any`, and if a layer is none of this, or not between photo and scores, or
        there is no such CAM.

    Examples
    --------
    >>> from helpers import contrast, grad_cam_any, load_model, sample
    >>> model = load_model()
    >>> x = model.prepare(sample("chelsea"))
    >>> tuple(grad_cam_any(model.network, x).maps.shape)  # at model.network.features
    (1, 5, 5)
    >>> rather = contrast(model.class_index("tabby"), model.class_index("Egyptian cat"))
    >>> tuple(grad_cam_any(model.network, x, "features.28", rather).maps.shape)
    (1, 10, 10)
    """
    each = _grad_cam(network, x, layer, partial(asked, classes), grid, cam)
    return first_of_each(each)


def grad_cam_any_each(
    network: nn.Module,
    x: torch.Tensor,
    classes,
    layer: Place | Sequence[Place] | None = None,
    grid: tuple[int, int] | None = None,
    cam: str = GRAD_CAM,
) -> GradCAM:
    """:func:`grad_cam_any` of K classes of every photo; they share one pass up.

    ``classes`` is a list of K for all photos, in which callables may stand too, or an integer array
    ``(N, K)``. Everything returned but the scores has K as its second dimension.

    Examples
    --------
    >>> from helpers import grad_cam_any_each, load_model, sample
    >>> model = load_model()
    >>> x = model.prepare(sample("chelsea"))
    >>> tuple(grad_cam_any_each(model.network, x, [3, 5, 7]).maps.shape)
    (1, 3, 5, 5)
    """
    return _grad_cam(network, x, layer, partial(asked_each, classes), grid, cam)


def _grad_cam(network, x, layer, ask: Callable, grid, cam: str = GRAD_CAM) -> GradCAM:
    """Grad-CAM of the K numbers a photo, ``(N, K)``, that ``ask`` makes out of the scores."""
    cam = name_of(cam)
    x, network = check_any_photos(x), seen_by_python(network)
    places = find_layers(layer, network, x, grid)
    with watched_pass(network, x, places) as (leaf, scores, outputs):
        above = [check_output(outputs[place], place, x) for place in places]
        path = path_down(scores, leaf, type(network).__name__)
        for place, output in zip(places, above, strict=True):
            if output.grad_fn not in path:
                raise ModelError(
                    f"This {type(place).__name__} is not on the way from the photo to the scores, "
                    "so they have no gradient there. Choose a layer that is: "
                    "helpers.layers(network, x) lists them."
                )
        lay = [
            layout(output, leaf, place, grid) for place, output in zip(places, above, strict=True)
        ]
        maps = [one(output.detach()) for one, output in zip(lay, above, strict=True)]
        values, chosen = ask(scores)
        cams = [
            [cam_by_name(cam, m, one(g)) for m, one, g in zip(maps, lay, gradients, strict=True)]
            for gradients in walks_down(values, above)
        ]
    each = [
        tuple(torch.stack(parts, dim=1) for parts in zip(*column, strict=True))
        for column in zip(*cams, strict=True)
    ]
    found, weights = each[0]
    if len(each) > 1:
        found, weights = averaged([m for m, _ in each]), tuple(w for _, w in each)
    return GradCAM(found, weights, chosen, scores.detach())


def averaged(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Maps ``(N, K, h, w)`` >= 0 of several layers as one in [0, 1], at the finest one's places."""
    size = max((m.shape[2:] for m in maps), key=math.prod)
    shares = [m / m.amax((2, 3), keepdim=True).clamp(min=torch.finfo(m.dtype).tiny) for m in maps]
    return (
        torch.stack([resize_maps(m.flatten(0, 1), size) for m in shares])
        .mean(0)
        .view(*maps[0].shape[:2], *size)
    )


def guided_gradcam_any(
    network: nn.Module,
    x: torch.Tensor,
    layer: Place | Sequence[Place] | None = None,
    classes=None,
    strict: bool = True,
    grid: tuple[int, int] | None = None,
    cam: str = GRAD_CAM,
) -> GuidedGradCAM:
    """Guided Grad-CAM for any network with ReLUs: two passes up and down, one for each factor.

    Parameters, result and errors: :func:`grad_cam_any`, :func:`saliency_any` and
    :class:`helpers.GuidedGradCAM`.

    Examples
    --------
    >>> from helpers import guided_gradcam_any, load_model, sample
    >>> model = load_model()
    >>> result = guided_gradcam_any(model.network, model.prepare(sample("chelsea")))
    >>> tuple(result.maps.shape)
    (1, 3, 160, 160)
    """
    ask = partial(asked, classes)
    return first_of_each(_guided_gradcam(network, x, layer, ask, strict, grid, cam))


def guided_gradcam_any_each(
    network: nn.Module,
    x: torch.Tensor,
    classes,
    layer: Place | Sequence[Place] | None = None,
    strict: bool = True,
    grid: tuple[int, int] | None = None,
    cam: str = GRAD_CAM,
) -> GuidedGradCAM:
    """:func:`guided_gradcam_any` of K classes of every photo; they share two passes up.

    ``classes`` and the result's shapes: as for :func:`grad_cam_any_each`.

    Examples
    --------
    >>> from helpers import guided_gradcam_any_each, load_model, sample
    >>> model = load_model()
    >>> x = model.prepare(sample("chelsea"))
    >>> tuple(guided_gradcam_any_each(model.network, x, [3, 5]).cam.shape)
    (1, 2, 160, 160)
    """
    return _guided_gradcam(network, x, layer, partial(asked_each, classes), strict, grid, cam)


def _guided_gradcam(network, x, layer, ask: Callable, strict, grid, cam) -> GuidedGradCAM:
    look = _grad_cam(network, x, layer, ask, grid, cam)
    if look.classes is not None:  # the same for both factors, should two passes differ
        ask = partial(asked_each, look.classes)
    cam = resize_maps(look.maps.flatten(0, 1), x.shape[-2:]).view(
        *look.maps.shape[:2], *x.shape[-2:]
    )
    guided = _saliency(network, x, ask, "guided", strict)
    return GuidedGradCAM(times(cam, guided), cam, guided, look.classes, look.scores)


def all_maps_any(
    network: nn.Module,
    x: torch.Tensor,
    classes=None,
    methods: Sequence[str] | None = None,
    layer: Place | Sequence[Place] | None = None,
    strict: bool = True,
    grid: tuple[int, int] | None = None,
    cam: str = GRAD_CAM,
) -> dict[str, torch.Tensor]:
    """Every method's map, or that of some, by the method's title, for any network.

    The same as :func:`helpers.all_maps`, which takes one pass and VGG's layout; here each rule
    takes a pass.

    Parameters
    ----------
    network, x, classes, layer, strict, grid, cam
        As for :func:`grad_cam_any` and :func:`saliency_any`. Another CAM's name takes Grad-CAM's
        place in the titles: "Guided Layer-CAM".
    methods : sequence of str, optional
        Keys in :data:`helpers.methods.TABLE`: "gradient", "deconvnet", "guided", "grad_cam",
        "guided_grad_cam". Unless given, all that the network can be asked by: those with a rule for
        ReLUs are left out where they are refused: it has none, or other activations, too, or their
        numbers grow too large for its dtype.

    Returns
    -------
    dict
        Regions ``(N, H, W)``, >= 0; the others ``(N, C, H, W)``, signed. Nothing is scaled.

    Raises
    ------
    ModelError
        As the functions for one method; and if there is no such method.

    Examples
    --------
    >>> from helpers import all_maps_any, load_model, sample
    >>> model = load_model()
    >>> x = model.prepare(sample("chelsea"))
    >>> maps = all_maps_any(model.network, x, methods=["guided", "grad_cam"])
    >>> {title: tuple(found.shape) for title, found in maps.items()}
    {'guided backpropagation': (1, 3, 160, 160), 'Grad-CAM': (1, 160, 160)}
    """
    rows, keys = rows_of(methods), {rule: key for key, rule in RULES.items()}
    regions, walks, refused, found, cam = None, {}, set(), {}, name_of(cam)
    if any(row.kind != "pixels" for row in rows):
        look = grad_cam_any(network, x, layer, classes, grid, cam)
        regions = resize_maps(look.maps, x.shape[-2:])
        # one for all methods, also where rounding decides between two
        classes = look.classes if classes is None else classes
    for row in rows:
        if row.rule in refused:
            continue
        try:
            if row.rule and row.rule not in walks:
                walks[row.rule] = saliency_any(network, x, classes, keys[row.rule], strict)
        except ModelError:
            if methods is None and row.key != "gradient":
                refused.add(row.rule)
                continue
            raise
        walk = walks.get(row.rule)
        product = row.kind == "product"
        title = row.title.replace(GRAD_CAM, cam)
        found[title] = regions if walk is None else times(regions, walk) if product else walk
    return found
