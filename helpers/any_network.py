"""The three rules on autograd: the short way, for any network that has ReLUs.

The explicit networks of :mod:`helpers.deconvnet` know VGG's few kinds of layer. Autograd knows
them all, and only one of them needs another rule on the way down: the ReLU. So the forward pass
runs under :class:`ReluRule`, which puts a ReLU with that rule wherever the network calls one,
as a module or as a function. Then autograd's graph, which shows what stands between the scores and
the photo however it was spelled (:mod:`helpers.signal_path`), says whether every ReLU on the way
was met. No module is replaced.

All functions here may be called from several threads at once, for one network too: what a call
notes belongs to that call, and its hook passes over what other threads do. A network in training
mode is in eval mode for as long as any call is under way; see :func:`helpers.checks.evaluating`.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointError

from .checks import check_classes, check_network, check_photos, evaluating
from .errors import ModelError
from .gradcam import GradCAM, cam_from_gradient, resize_maps
from .guided import GuidedGradCAM
from .methods import rule_of
from .signal_path import SignalPath, node_name


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


class ReluRule(TorchFunctionMode):
    """While it is entered, every ReLU that this thread calls goes down by ``method``'s rule.

    It sees what Python calls: ``nn.ReLU``, ``nn.ReLU6``, ``F.relu``, ``x.relu_()``,
    ``x.clamp(min=0)``, ``torch.maximum(x, zeros)`` and their like, in place or not. It cannot see
    into TorchScript, compiled code or C++, nor a ReLU written as a formula: :meth:`check` finds
    those in the graph.
    Raises ``ModelError`` if there is no such method.
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
        if name.removesuffix("_") in RECTIFIERS and torch.is_grad_enabled():
            f, lower, upper, inplace = RECTIFIERS[name.removesuffix("_")](*args, **kwargs)
            if f.requires_grad and _is_zero(lower, f) and _is_constant(upper, f):
                top = torch.inf if upper is None else upper
                return self._rectify(f, top, inplace or name.endswith("_"))
        result = func(*args, **kwargs)
        if name in COPIES or name in SCALINGS and not any(map(_varies, args[1:])):
            self._note_copy(args[0])
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
                others["clamped factor that is a gate or, as strict=False takes it, a ReLU"] += 1
        for name, read in self._lost:
            if any(path.hangs_on_photo(node) for node in read):
                others[f"{name}, whose result autograd cannot follow"] += 1
        return relus, others


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
    return bound is not None and bound == 0


def _has_no_way_back(name: str, result) -> bool:
    """Did a call read values and answer without autograd (a comparison, ``detach``, ``item``)?"""
    if not isinstance(result, torch.Tensor):
        return name in ("item", "tolist", "__bool__", "__int__", "__float__", "__complex__")
    return not result.requires_grad and not (name.endswith("_like") or name.startswith("new_"))


def path_down(scores, leaf, name: str, known=None) -> SignalPath:
    """The :class:`SignalPath` from ``scores`` to ``leaf``.

    A ``ModelError`` if there is none, or none that autograd can walk.
    """
    path = SignalPath(scores, leaf, known)
    if not path.nodes:
        raise ModelError(
            f"The scores of {name} do not depend on the photo, as far as autograd sees: a part of "
            "it runs under torch.no_grad() or on detached tensors. Explain it without; frozen "
            "parameters (requires_grad=False) do no harm."
        )
    if any(node_name(node) == "CheckpointFunction" for node in path.nodes):
        raise ModelError(
            f"{name} checkpoints parts with use_reentrant=True, which computes gradients for whole "
            "passes only. Switch checkpointing off to explain it, or use use_reentrant=False for "
            "the gradient and Grad-CAM."
        )
    return path


def listed(counts: Counter[str]) -> str:
    """ "SiLU (49 times), abs (once)" """
    return ", ".join(
        f"{name} ({'once' if count == 1 else f'{count} times'})" for name, count in counts.items()
    )


def seen_by_python(network: nn.Module) -> nn.Module:
    """The network, if all of its calls are Python's; a compiled one's original.

    Raises ``ModelError`` for what is no network, for TorchScript, and for compiled parts.
    """
    network = check_network(network)
    network = getattr(network, "_orig_mod", network)  # what torch.compile(network) wraps
    for name, module in network.named_modules():
        kind = "TorchScript" if isinstance(module, torch.jit.ScriptModule) else "compiled"
        if (
            kind == "TorchScript"
            or hasattr(module, "_orig_mod")
            or getattr(module, "_compiled_call_impl", None)
        ):
            raise ModelError(
                f"{name or type(network).__name__} is {kind}, so its ReLUs cannot be seen. Use the "
                "network as it was before."
            )
    return network


def saliency_any(
    network: nn.Module, x: torch.Tensor, classes=None, method: str = "guided", strict: bool = True
) -> torch.Tensor:
    """Back-project one class score a photo through any network with ReLUs, by one of three rules.

    The same numbers as :func:`helpers.saliency` on a VGG-style network; here skip connections,
    concatenations, batch normalisation and functional ReLUs are welcome too.

    Parameters
    ----------
    network : nn.Module
        From photos ``(N, 3, H, W)`` to class scores ``(N, classes)``. It is left as it was.
    x : torch.Tensor
        Normalised photos ``(N, 3, H, W)``, float.
    classes : int, sequence or tensor, optional
        A class for all photos, one each, or ``None`` for each photo's top class.
    method : str
        "gradient", "deconvnet" or "guided".
    strict : bool
        Refuse networks in which anything but ReLUs bends the signal between photo and scores:
        other activations, also as formulas (``x * sigmoid(x)``), clamps, absolute values, choices
        that autograd cannot follow (``x > 0``), operations not known here. Max-pooling,
        normalisations, attention and gates that multiply other signals (squeeze-and-excitation)
        are let through with their derivative. With ``False`` all this keeps its true derivative,
        and the map is a mixture that no paper describes.

    Returns
    -------
    torch.Tensor
        ``(N, 3, H, W)``, signed and unscaled.

    Raises
    ------
    ModelError
        If the method is unknown; if what is given is no network, its answer no ``(N, classes)``
        tensor of finite scores, or the photo out of autograd's reach. And for the methods with a
        rule of their own: if there is no ReLU between photo and scores; if something else is
        (``strict``); if, strict or not, a ReLU is or may be where the rule cannot reach it
        (TorchScript, compiled or checkpointed parts, an ``autograd.Function`` of one's own, C++).

    Notes
    -----
    Not seen is what a scripted function decides by comparisons in its first two calls, which
    TorchScript runs step by step.
    """
    rule = ReluRule(method)
    x, network = check_photos(x), seen_by_python(network)
    name = type(network).__name__
    # a caller's inference mode would forbid the gradient
    with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
        leaf = x.detach().clone().requires_grad_()
        # the plain gradient is autograd's own, without a rule
        with nullcontext() if method == "gradient" else rule:
            # the clone is for an in-place operation at the very start
            answer = network(leaf.clone())
        scores = check_scores(answer, network, x)
        if method == "gradient":
            path_down(scores, leaf, name)
        else:
            rule.check(scores, leaf, name, strict)
        chosen = check_classes(classes, scores)
        score = scores.gather(1, chosen[:, None]).sum()
        try:
            (gradient,) = torch.autograd.grad(score, leaf)
        except CheckpointError as error:  # what is computed again meets the plain ReLU
            raise ModelError(
                f"{name} computes parts again on the way down (checkpointing), out of the rule's "
                "reach. Switch that off; torchvision's DenseNet does it with "
                "memory_efficient=True."
            ) from error
    return gradient


def check_scores(scores, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The answer, if it is one row of finite class scores a photo; else a ``ModelError``."""
    name = type(network).__name__
    if not isinstance(scores, torch.Tensor) or scores.ndim != 2 or len(scores) != len(x):
        is_tensor = isinstance(scores, torch.Tensor)
        what = f"a tensor {tuple(scores.shape)}" if is_tensor else f"a {type(scores).__name__}"
        raise ModelError(
            f"{name} answers with {what}, not with class scores (N, classes). Wrap it in a module "
            "that picks them."
        )
    if not torch.isfinite(scores).all():
        raise ModelError(
            f"{name} answers with NaN or infinite scores; look at its weights, and at the photos' "
            "values."
        )
    return scores


def grad_cam_any(network: nn.Module, x: torch.Tensor, layer: nn.Module, classes=None) -> GradCAM:
    """Grad-CAM at any module's output, for any network.

    ``layer`` is one of the network's own modules, called once a pass, with feature maps
    ``(N, C, h, w)`` as its output: ``network.layer4`` in a ResNet, ``network.features`` in a
    DenseNet. Returns and raises as :func:`helpers.grad_cam` and :func:`saliency_any` do; a
    ``layer`` that is none of this, or not between photo and scores, is a ``ModelError``, and so are
    maps whose channels stand last, as far as their shape shows it.
    """
    x, network = check_photos(x), seen_by_python(network)
    check_layer(layer, network)
    outputs, thread = [], threading.get_ident()

    def note(module, inputs, output):
        if threading.get_ident() != thread:  # somebody else's pass through the same network
            return None
        outputs.append(output)
        # the network goes on with a copy, so that an in-place ReLU behind the layer leaves ours
        # alone
        return output.clone() if isinstance(output, torch.Tensor) else output

    handle = layer.register_forward_hook(note)
    try:
        with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
            # the photo wants a gradient so that frozen networks make a graph too
            leaf = x.detach().clone().requires_grad_()
            scores = check_scores(network(leaf.clone()), network, x)
            maps = check_maps(outputs, layer, x)
            if maps.grad_fn not in path_down(scores, leaf, type(network).__name__):
                raise ModelError(
                    f"This {type(layer).__name__} is not on the way from the photo to the scores, "
                    "so they have no gradient there. Choose a layer that is: network.layer4 in a "
                    "ResNet, network.features in a DenseNet."
                )
            check_order(maps, leaf, layer)
            chosen = check_classes(classes, scores)
            (gradient,) = torch.autograd.grad(scores.gather(1, chosen[:, None]).sum(), maps)
    finally:
        handle.remove()
    maps, weights = cam_from_gradient(maps.detach(), gradient)
    return GradCAM(maps, weights, chosen, scores.detach())


def check_layer(layer, network: nn.Module) -> None:
    """A ``ModelError`` unless ``layer`` is a module of ``network``."""
    name = type(network).__name__
    if not isinstance(layer, nn.Module):
        hint = f"network.get_submodule({layer!r})" if isinstance(layer, str) else "network.layer4"
        raise ModelError(
            f"layer is one of the network's modules, such as {hint}, not a {type(layer).__name__}."
        )
    if not any(module is layer for module in network.modules()):
        raise ModelError(f"The layer is not a module of this {name}.")


def check_maps(outputs: list, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the layer gave, if it is one tensor of maps ``(N, C, h, w)``; else a ``ModelError``."""
    kind = type(layer).__name__
    shapes = [tuple(o.shape) if isinstance(o, torch.Tensor) else type(o).__name__ for o in outputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][0] != len(x):
        raise ModelError(
            f"Grad-CAM needs a layer with one output (N, C, h, w) a pass; this {kind} gave "
            f"{shapes}. Tokens (N, T, C) can be laid out as maps in a module of your own, between "
            "the layers."
        )
    return outputs[0]


def check_order(maps: torch.Tensor, photos: torch.Tensor, layer: nn.Module) -> None:
    """A ``ModelError`` if the maps, made from ``photos``, have their channels last.

    Their proportion tells, compared with the photos'. Where both readings fit, as in 64 channels
    of 64 x 64 places, it is asked which axis goes from left to right in the photos.
    """
    _, c, h, w = maps.shape
    if w == 1:
        return
    first, last = misfit(h, w, photos), misfit(c, h, photos)
    if last < first or last == first == 0 and shift(maps, photos, 2) > shift(maps, photos, 3):
        raise ModelError(
            f"This {type(layer).__name__} gives {tuple(maps.shape)}, whose channels seem to stand "
            "last. Choose a layer behind which they stand first (network.permute in torchvision's "
            "Swin), or put one there: a module whose forward is x.permute(0, 3, 1, 2)."
        )


def shift(maps: torch.Tensor, photos: torch.Tensor, axis: int) -> float:
    """How far to the right of its first entry the last one of ``axis`` looks in the photos."""
    centres = []
    for entry in (maps.select(axis, 0), maps.select(axis, -1)):
        (reach,) = torch.autograd.grad(entry.sum(), photos, retain_graph=True)
        weights = reach.abs().sum(dim=(0, 1, 2))
        places = torch.arange(len(weights), device=weights.device)
        centres.append(float((weights * places).sum() / weights.sum()))
    return centres[1] - centres[0]


def misfit(h: int, w: int, x: torch.Tensor) -> float:
    """By what logarithm ``h : w`` is off the photos' proportion; 0 if rounding can explain it."""
    height, width = x.shape[-2:]
    if (h - 1) * width <= (w + 1) * height and (h + 1) * width >= (w - 1) * height:
        return 0.0
    return abs(math.log(h * width / (w * height)))


def guided_gradcam_any(
    network: nn.Module, x: torch.Tensor, layer: nn.Module, classes=None, strict: bool = True
) -> GuidedGradCAM:
    """Guided Grad-CAM for any network with ReLUs: two passes up and down, one for each factor.

    Parameters, result and errors: :func:`grad_cam_any`, :func:`saliency_any` and
    :class:`helpers.GuidedGradCAM`.
    """
    look = grad_cam_any(network, x, layer, classes)
    cam = resize_maps(look.maps, x.shape[-2:])
    guided = saliency_any(network, x, look.classes, "guided", strict)
    return GuidedGradCAM(cam[:, None] * guided, cam, guided, look.classes, look.scores)
