"""Checks shared by all methods: the input, the class asked about, the mode of the network."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from .errors import ASK_ANY, ModelError

#: VGG halves the photo five times; below 32 pixels nothing is left.
SMALLEST_SIDE = 32


def check_photos(
    x: torch.Tensor, channels: int | None = 3, smallest: int = SMALLEST_SIDE
) -> torch.Tensor:
    """Return ``x`` if it is a finite float tensor ``(N, 3, H, W)`` with N >= 1 and H, W >= 32.

    Networks of other kinds may take other ``channels`` (None: any number of them) and sides.

    Raises
    ------
    TypeError
        If it is no floating-point tensor.
    ValueError
        If its shape is another, or it holds NaN or infinity.

    Examples
    --------
    >>> import torch
    >>> check_photos(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 3, 32, 32])
    >>> check_photos(torch.zeros(3, 32, 32))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: Expected photos of shape (N, 3, H, W), got (3, 32, 32)...
    """
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(
            f"Expected a float tensor of photos, got {kind}. Use model.preprocess(photo)."
        )
    if x.ndim != 4 or x.shape[1] != (channels or x.shape[1]) or x.numel() == 0:
        empty = x.ndim == 4 and x.numel() == 0
        raise ValueError(
            f"Expected photos of shape (N, {channels or 'C'}, H, W), got {tuple(x.shape)}. "
            + ("There is no photo in it." if empty else "A single photo is photo[None].")
        )
    if min(x.shape[-2:]) < smallest:
        raise ValueError(
            f"Photos must be at least {smallest} pixels a side, got {x.shape[-2]}x{x.shape[-1]}."
        )
    if x.is_meta:
        raise ValueError("The photos are on the device 'meta', where tensors hold no values.")
    if not all_finite(x):
        raise ValueError(
            "The photos hold NaN or infinite values; look at what came before preprocessing."
        )
    return x


def check_any_photos(x: torch.Tensor) -> torch.Tensor:
    """:func:`check_photos` for networks of every kind: any channels, any size."""
    return check_photos(x, channels=None, smallest=1)


def check_classes(
    classes: int | Sequence[int] | torch.Tensor | None, scores: torch.Tensor
) -> torch.Tensor:
    """One class index a photo, int64 ``(N,)``: as given, or each photo's top class for ``None``.

    A single number counts for every photo of the batch.

    Raises
    ------
    IndexError
        If a class does not exist.
    ValueError
        If there is neither one class nor one a photo.
    TypeError
        If a class is not a whole number; ``True`` and ``1.0`` are none, either.

    Examples
    --------
    >>> import torch
    >>> scores = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    >>> check_classes(None, scores), check_classes(2, scores)
    (tensor([1, 0]), tensor([2, 2]))
    """
    if classes is None:
        return scores.argmax(dim=1)
    chosen = class_tensor(classes, scores)
    if chosen.ndim == 0:
        chosen = chosen.expand(len(scores))
    if chosen.shape != (len(scores),):
        raise ValueError(
            f"Expected one class, or one for each of the {len(scores)} photos, "
            f"got shape {tuple(chosen.shape)}."
        )
    return chosen


def check_classes_each(classes, scores: torch.Tensor) -> torch.Tensor:
    """K class indices of every photo, int64 ``(N, K)``: as given, or the same K for all photos.

    Raises
    ------
    IndexError, TypeError
        As :func:`check_classes`.
    ValueError
        If there are neither K classes nor ``(N, K)`` of them, or none at all.
    """
    chosen = class_tensor(classes, scores)
    if chosen.ndim == 1:
        chosen = chosen.expand(len(scores), -1)
    if chosen.ndim != 2 or len(chosen) != len(scores) or chosen.shape[1] == 0:
        raise ValueError(
            f"Expected K classes or (N, K) of them for {len(scores)} photos, "
            f"got shape {tuple(chosen.shape)}."
        )
    return chosen


def class_tensor(classes, scores: torch.Tensor) -> torch.Tensor:
    """Classes of these scores in the shape they come in, int64; errors as :func:`check_classes`."""
    numbers = _whole_numbers(classes, scores.shape[1])
    try:
        return torch.tensor(numbers, dtype=torch.int64, device=scores.device)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Expected lists of the same length, got {classes!r}.") from error


def _whole_numbers(classes, count: int):
    """A number, or lists of numbers, as Python has them, if each is a class below ``count``."""
    if hasattr(classes, "tolist"):  # tensors, arrays and the numbers in them, of every dtype
        classes = classes.tolist()
    if isinstance(classes, Sequence) and not isinstance(classes, (str, bytes, bytearray)):
        return [_whole_numbers(part, count) for part in classes]
    if not isinstance(classes, int) or isinstance(classes, bool):
        raise TypeError(
            f"Classes are whole numbers (use model.class_index(name)), got {classes!r}."
        )
    if not 0 <= classes < count:
        raise IndexError(
            f"There is no class {classes}: this network knows classes 0 to {count - 1}."
        )
    return classes


def check_network(network) -> nn.Module:
    """Return ``network`` if it is an ``nn.Module``; else a ``ModelError`` says what to pass."""
    if isinstance(network, nn.Module):
        return network
    what = getattr(network, "__name__", type(network).__name__)
    if isinstance(getattr(network, "network", None), nn.Module):
        advice = f"a {what} holds its network: pass model.network."
    elif isinstance(network, type) and issubclass(network, nn.Module):
        advice = f"{what} is a class: pass an instance of it."
    elif callable(network):
        advice = (
            f"{what} is a function: pass what it returns, or call it in the forward of an "
            "nn.Module."
        )
    else:
        advice = f"got a {what}."
    raise ModelError(f"A network is an nn.Module; {advice}")


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


def check_scores(scores, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The answer, if it is one row of finite class scores a photo; else a ``ModelError``."""
    name = type(network).__name__
    if not isinstance(scores, torch.Tensor) or scores.ndim != 2 or len(scores) != len(x):
        is_tensor = isinstance(scores, torch.Tensor)
        what = f"a tensor {tuple(scores.shape)}" if is_tensor else f"a {type(scores).__name__}"
        raise ModelError(
            f"{name} answers with {what}, not with class scores (N, classes). Say which part of it "
            "they are: helpers.Scores(network, lambda answer: answer.logits)."
        )
    if not scores.is_floating_point() or not scores.shape[1]:
        raise ModelError(
            f"{name} answers with {scores.shape[1]} numbers a photo of {scores.dtype}, not with "
            "class scores, which are floats. Leave out what comes behind them (an argmax?)."
        )
    check_finite(scores, f"{name} answers with")
    return scores


def vgg_parts(
    network: nn.Module, classifier: type[nn.Module] = nn.Module
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """``features``, ``avgpool`` and ``classifier`` of a VGG-style network.

    Raises
    ------
    ModelError
        If it has no such parts, nothing in ``features``, or is no network.
    """
    check_network(network)
    kinds = {"features": nn.Sequential, "avgpool": nn.Module, "classifier": classifier}
    parts = {name: getattr(network, name, None) for name in kinds}
    if not all(isinstance(parts[name], kind) for name, kind in kinds.items()):
        raise ModelError(
            f"{type(network).__name__} is not VGG-style: features, avgpool and classifier are "
            "needed, as in torchvision.models.vgg16; use a VGG-style network, or ask this one by "
            f"{ASK_ANY}."
        )
    if not len(parts["features"]):
        raise ModelError(f"The features of {type(network).__name__} are empty: there are no maps.")
    return parts["features"], parts["avgpool"], parts["classifier"]


def all_finite(values: torch.Tensor) -> bool:
    """Whether none is NaN or infinite. An export to ONNX has no values yet to look at."""
    return torch.compiler.is_compiling() or bool(torch.isfinite(values).all())


def check_finite(values: torch.Tensor, words: str) -> None:
    """A ``ModelError`` if any value is NaN or infinite; ``words`` say who has it, and the verb."""
    if not all_finite(values):
        raise ModelError(
            f"{words} NaN or infinite values. Look at the network's weights; in half precision "
            "also at whether its numbers grow too large for it."
        )


#: Modules in eval mode for a while: by how many threads at once, and the mode that each goes back
#: to.
_borrowed: dict[nn.Module, tuple[int, bool]] = {}
_lock = threading.Lock()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Put the network in eval mode for a while; afterwards every module has its own mode again.

    Several threads may do so at once, also with networks that share modules: the last to leave a
    module gives it its mode back. Only who sets modes in another way meanwhile, such as a training
    loop in another thread, is not waited for.

    Raises
    ------
    ModelError
        If the network has no eval mode, as what ``torch.export`` has made.

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.Dropout().train()
    >>> with evaluating(network):
    ...     print(network.training)
    False
    >>> network.training
    True
    """
    modules = list(network.modules())
    with _lock:
        for module in modules:
            users, mode = _borrowed.get(module, (0, module.training))
            _borrowed[module] = users + 1, mode
    try:
        try:
            network.eval()
        except NotImplementedError as error:
            raise ModelError(
                f"{type(network).__name__} has no eval mode ({error}). What torch.export made "
                "cannot be explained; use the network that it was made from."
            ) from error
        yield network
    finally:
        with _lock:
            free = []
            for module in modules:
                users, mode = _borrowed.pop(module)
                if users > 1:
                    _borrowed[module] = users - 1, mode
                else:
                    free.append((module, mode))
            for module, mode in free:  # adapters merge their weights by a `train` of their own
                if mode and type(module).train is not nn.Module.train:
                    module.train()
            for module, mode in free:
                module.training = mode
