"""The three rules on autograd: the short way, for any network that has ReLUs.

The explicit networks of :mod:`helpers.deconvnet` know VGG's few kinds of layer. Autograd knows
them all, and only one of them needs another rule on the way down: the ReLU. So the forward pass
runs under :class:`ReluRule`, which puts a ReLU with that rule wherever the network calls one,
as a module or as a function, and autograd does the rest. No module is replaced and no hook set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointError

from .checks import check_classes, check_photos, evaluating
from .deconvnet import METHODS
from .errors import ModelError
from .gradcam import GradCAM, cam_from_gradient, resize_maps
from .guided import GuidedGradCAM


class RuledReLU(torch.autograd.Function):
    """``clamp(f, 0, top)`` on the way up, one of :data:`helpers.METHODS` on the way down.

    Each use of a tensor gets its own signal: where a ReLU's input also feeds a skip branch, the
    rule sees only what came down through the ReLU, and autograd adds the branch's share afterwards.
    """

    @staticmethod
    def forward(ctx, f, top, rule, inplace):
        """``f``: any float tensor. ``top``: infinity for ReLU, 6 for ReLU6. ``rule(signal, mask)``."""
        ctx.rule = rule
        ctx.save_for_backward((f > 0) & (f < top))
        if inplace:  # whoever holds the input meant to see it changed
            ctx.mark_dirty(f)
            return f.clamp_(0, top)
        return f.clamp(0, top)

    @staticmethod
    def backward(ctx, signal):
        """The rule, for ``f``; nothing for the three settings."""
        (mask,) = ctx.saved_tensors
        # a clone: the rules work in place, and other branches of the network may share the signal
        return ctx.rule(signal.clone(), mask), None, None, None


def _relu(input, inplace=False):
    return input, 0.0, torch.inf, inplace


def _relu6(input, inplace=False):
    return input, 0.0, 6.0, inplace


def _hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    return input, min_val, max_val, inplace


def _clamp(input, min=None, max=None):
    return input, min, max, False


def _threshold(input, threshold, value, inplace=False):
    return input, 0.0 if threshold == value == 0 else None, torch.inf, inplace


#: Every call that can be a ReLU, and how to read its arguments: (input, lower, upper, in place).
RECTIFIERS: dict[Callable, Callable] = {
    **dict.fromkeys([F.relu, torch.relu, torch.Tensor.relu], _relu),
    **dict.fromkeys([torch.relu_, torch.Tensor.relu_], lambda input: _relu(input, inplace=True)),
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.hardtanh_: lambda *args, **kwargs: (*_hardtanh(*args, **kwargs)[:3], True),
    F.threshold: _threshold,
    **dict.fromkeys([torch.clamp, torch.Tensor.clamp, torch.clip, torch.Tensor.clip], _clamp),
    **dict.fromkeys(
        [torch.clamp_, torch.Tensor.clamp_],
        lambda *args, **kwargs: (*_clamp(*args, **kwargs)[:3], True),
    ),
    **dict.fromkeys(
        [torch.clamp_min, torch.Tensor.clamp_min], lambda input, min: (input, min, None, False)
    ),
}

#: Activations that take a ReLU's place, for which none of the papers states a rule.
#: Gates (sigmoid, hard sigmoid, tanh, softmax) multiply or normalise; they keep their derivative.
OTHERS: dict[Callable, str] = {
    getattr(owner, name): title
    for title, names in {
        "SiLU": ["silu"], "GELU": ["gelu"], "Hardswish": ["hardswish"], "Mish": ["mish"], "Softplus": ["softplus"],
        "ELU": ["elu", "elu_"], "SELU": ["selu", "selu_"], "CELU": ["celu", "celu_"], "PReLU": ["prelu"],
        "LeakyReLU": ["leaky_relu", "leaky_relu_"], "RReLU": ["rrelu", "rrelu_"],
    }.items()
    for name in names
    for owner in (F, torch, torch.Tensor)
    if hasattr(owner, name)
}  # fmt: skip


class ReluRule(TorchFunctionMode):
    """While it is entered, every ReLU of this thread goes down by ``method``'s rule.

    It sees what Python calls: ``nn.ReLU``, ``nn.ReLU6``, ``F.relu``, ``x.relu_()``, ``x.clamp(min=0)``,
    ``F.threshold(x, 0, 0)`` and their like, in place or not. It cannot see into TorchScript or
    compiled code, nor a ReLU written out with other means, such as ``torch.maximum(x, zero)``.

    Attributes
    ----------
    relus : int
        How many ReLUs were called.
    others : Counter
        How often each activation without a rule was called, by its name.
    """

    def __init__(self, method: str) -> None:
        super().__init__()
        if method not in METHODS:
            raise ModelError(f"There is no method {method!r}; choose one of {', '.join(METHODS)}.")
        self.rule = METHODS[method].relu_down
        self.relus = 0
        self.others: Counter[str] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in RECTIFIERS:
            f, lower, upper, inplace = RECTIFIERS[func](*args, **kwargs)
            if (
                lower is not None
                and not isinstance(lower, torch.Tensor)
                and lower == 0
                and f.is_floating_point()
            ):
                self.relus += 1
                return RuledReLU.apply(f, torch.inf if upper is None else upper, self.rule, inplace)
        elif func in OTHERS:
            self.others[OTHERS[func]] += 1
        return func(*args, **kwargs)


def seen_by_python(network: nn.Module) -> nn.Module:
    """The network, if all of its calls are Python's; a compiled one's original.

    Raises ``ModelError`` for TorchScript, and for compiled parts.
    """
    network = getattr(network, "_orig_mod", network)  # what torch.compile(network) wraps
    for name, module in network.named_modules():
        kind = "TorchScript" if isinstance(module, torch.jit.ScriptModule) else "compiled"
        if (
            kind == "TorchScript"
            or hasattr(module, "_orig_mod")
            or getattr(module, "_compiled_call_impl", None)
        ):
            raise ModelError(
                f"{name or type(network).__name__} is {kind}, so its ReLUs cannot be seen. Use the network as it was before."
            )
    return network


def saliency_any(
    network: nn.Module, x: torch.Tensor, classes=None, method: str = "guided", strict: bool = True
) -> torch.Tensor:
    """Back-project one class score a photo through any network with ReLUs, by one of :data:`helpers.METHODS`.

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
        Refuse networks in which only some activations are ReLUs (MobileNetV3 has Hardswish too). With
        ``False`` the others keep their true derivative, and the map is a mixture that no paper describes.

    Returns
    -------
    torch.Tensor
        ``(N, 3, H, W)``, signed and unscaled.

    Raises
    ------
    ModelError
        If the method is unknown; if no ReLU was called, or (``strict``) other activations as well,
        and the method is not the plain gradient, which needs no rule; if the network's answer is no
        ``(N, classes)`` tensor; if parts of it are compiled or checkpointed.
    """
    rule = ReluRule(method)
    x, network = check_photos(x), seen_by_python(network)
    # a caller's inference mode would forbid the gradient
    with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
        leaf = x.detach().clone().requires_grad_()
        with rule:  # the clone is for an in-place operation at the very start
            scores = check_scores(network(leaf.clone()), network, x)
        if method != "gradient":
            check_relus(rule, network, method, strict)
        chosen = check_classes(classes, scores)
        score = scores.gather(1, chosen[:, None]).sum()
        try:
            (gradient,) = torch.autograd.grad(score, leaf)
        except (
            CheckpointError
        ) as error:  # what is computed again on the way down meets the plain ReLU
            raise ModelError(
                f"{type(network).__name__} computes parts again on the way down (checkpointing), out of the rule's reach. "
                "Switch that off; torchvision's DenseNet does it with memory_efficient=True."
            ) from error
    return gradient


def check_scores(scores, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The network's answer, if it is one row of class scores a photo; else a ``ModelError``."""
    if not isinstance(scores, torch.Tensor) or scores.ndim != 2 or len(scores) != len(x):
        what = (
            f"a tensor {tuple(scores.shape)}"
            if isinstance(scores, torch.Tensor)
            else f"a {type(scores).__name__}"
        )
        raise ModelError(
            f"{type(network).__name__} answers with {what}, not with class scores (N, classes). Wrap it in a module that picks them."
        )
    return scores


def check_relus(rule: ReluRule, network: nn.Module, method: str, strict: bool) -> None:
    """A ``ModelError`` unless the pass just made called ReLUs and, if ``strict``, no other activation."""
    name = type(network).__name__
    others = ", ".join(f"{other} ({count} times)" for other, count in rule.others.items())
    if not rule.relus:
        raise ModelError(
            f"{name} called no ReLU{f', but {others}' if others else ''}: {method!r} would be the plain gradient under "
            "another name. Ask for method='gradient', or use Grad-CAM."
        )
    if strict and others:
        raise ModelError(
            f"{name} calls {rule.relus} ReLUs, but also {others}, for which {method!r} has no rule. strict=False leaves "
            "them their true derivative; method='gradient' and Grad-CAM need no rule."
        )


def grad_cam_any(network: nn.Module, x: torch.Tensor, layer: nn.Module, classes=None) -> GradCAM:
    """Grad-CAM at any module's output, for any network.

    ``layer`` is one of the network's own modules, called once a pass, with feature maps
    ``(N, C, h, w)`` as its output: ``network.layer4`` in a ResNet, ``network.features`` in a
    DenseNet. Returns and raises as :func:`helpers.grad_cam` and :func:`saliency_any` do; a
    ``layer`` that is none of this is a ``ModelError``.
    """
    x, network = check_photos(x), seen_by_python(network)
    if not any(module is layer for module in network.modules()):
        raise ModelError(f"The layer is not a module of this {type(network).__name__}.")
    outputs = []

    def note(module, inputs, output):
        outputs.append(output)
        # the network goes on with a copy, so that an in-place ReLU behind the layer leaves ours alone
        return output.clone() if isinstance(output, torch.Tensor) else output

    handle = layer.register_forward_hook(note)
    try:
        with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
            # the photo wants a gradient so that frozen networks make a graph too
            scores = check_scores(network(x.detach().clone().requires_grad_().clone()), network, x)
            if (
                len(outputs) != 1
                or not isinstance(outputs[0], torch.Tensor)
                or outputs[0].ndim != 4
            ):
                shapes = [
                    tuple(o.shape) if isinstance(o, torch.Tensor) else type(o).__name__
                    for o in outputs
                ]
                raise ModelError(
                    f"Grad-CAM needs a layer with one output (N, C, h, w) a pass; this {type(layer).__name__} gave {shapes}."
                )
            chosen = check_classes(classes, scores)
            (gradient,) = torch.autograd.grad(scores.gather(1, chosen[:, None]).sum(), outputs[0])
    finally:
        handle.remove()
    maps, weights = cam_from_gradient(outputs[0].detach(), gradient)
    return GradCAM(maps, weights, chosen, scores.detach())


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
