"""Where Grad-CAM can look: layers that give maps, found by a probe, and how these are laid out.

Maps come in three layouts: ``(N, C, h, w)``; with the channels last, ``(N, h, w, C)``; and as
tokens, ``(N, T, C)``, of which the last ``h * w`` are places.
"""

from __future__ import annotations

import difflib
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from ..checks import check_any_photos, evaluating, seen_by_python
from ..errors import ModelError
from ..targets import Scores, gradients_of, scores_of
from .signal_path import path_down

#: A layer: one of the network's modules, or its name.
Place = str | nn.Module
#: From a layer's output, or a signal shaped as it, to ``(N, C, h, w)``.
Lay = Callable[[torch.Tensor], torch.Tensor]


class Layer(NamedTuple):
    """A layer at which Grad-CAM can look; see :func:`layers`.

    Attributes
    ----------
    name : str
        As in ``network.get_submodule``.
    kind : str
        The module's class.
    output : tuple of int
        The shape of its output for one photo.
    maps : (int, int, int) or None
        Channels, height and width of the maps; None for tokens whose grid has to be said.
    whole : bool
        Whether everything goes through it that the scores know of the photo, as it does not inside
        of a block with a skip connection.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    maps: tuple[int, int, int] | None
    whole: bool


def layers(network: nn.Module, x: torch.Tensor, grid: tuple[int, int] | None = None) -> list[Layer]:
    """The layers at which :func:`helpers.grad_cam_any` can look, from the photo up.

    Each gives maps of more than one place, once a pass, and the scores depend on them: behind the
    last attention of a vision transformer only the class token counts, and no layer is listed.
    The adaptive average pooling before a classifier is none: its means are no places. The default
    layer is the last that is ``whole``.

    Parameters
    ----------
    network, x, grid
        As for :func:`helpers.grad_cam_any`; only the first photo is looked at.

    Raises
    ------
    ModelError
        As :func:`helpers.grad_cam_any`.

    Examples
    --------
    >>> from helpers import layers, load_model, sample
    >>> model = load_model()
    >>> found = layers(model.network, model.prepare(sample("chelsea")))
    >>> found[-1].name, found[-1].maps
    ('features', (384, 5, 5))
    >>> [layer.name for layer in found if layer.kind == "MaxPool2d"]
    ['features.4', 'features.9', 'features.16', 'features.23', 'features.30']
    """
    x, network = check_any_photos(x)[:1], seen_by_python(network)
    names = {module: name for name, module in modules_of(network).items()}
    with watched_pass(network, x, names) as (leaf, scores, outputs):
        path = path_down(scores, leaf, type(network).__name__)
        whole, found = path.bottlenecks(), []
        # a checkpoint computes again, and would be noted again, when a derivative is asked for
        for module, (output, *more) in [(m, tuple(given)) for m, given in outputs.items()]:
            if (
                more
                or isinstance(module, nn.AdaptiveAvgPool2d)
                or not isinstance(output, torch.Tensor)
                or output.grad_fn not in path
            ):
                continue
            try:
                lay = layout(check_output([output], module, x), leaf, module, grid)
            except ModelError:
                if output.ndim != 3:
                    continue
                lay = None
            if lay is None or lay(output).shape[2:].numel() > 1:
                found.append((module, output, lay))
        if not found:
            return []
        # unequal shares of all scores, so that those of probabilities do not add up to 1
        shares = torch.linspace(1, 2, scores.shape[1]).to(scores)
        outputs = [output for _, output, _ in found]
        reach = gradients_of((scores * shares).sum(), outputs, materialize_grads=True)
    return [
        Layer(
            names[module],
            type(module).__name__,
            tuple(output.shape),
            tuple(lay(output).shape[1:]) if lay else None,
            output.grad_fn in whole,
        )
        for (module, output, lay), signal in zip(found, reach, strict=True)
        if (lay(signal) if lay else signal).any()
    ]


def default_layer(network: nn.Module, x: torch.Tensor, grid=None) -> str:
    """The name of the last layer with maps through which everything goes; see :func:`layers`."""
    whole = [layer for layer in layers(network, x, grid) if layer.whole]
    if whole and whole[-1].maps:
        return whole[-1].name
    name = type(network).__name__
    if whole:
        raise ModelError(
            f"{whole[-1].name}, the last layer through which the whole signal of this {name} goes, "
            f"gives {whole[-1].output[1]} tokens, which are no grid of the photo's proportion with "
            "or without a class token. Say how they lie: grid=(rows, columns)."
        )
    raise ModelError(
        f"{name} has no layer that gives maps and through which the whole signal goes. Name one, "
        "or several: helpers.layers(network, x) lists those that give maps. (If it lists none, the "
        "scores may not depend on the photo at all: a new classifier is sometimes all zero.)"
    )


def modules_of(network: nn.Module) -> dict[str, nn.Module]:
    """The network's modules by their names; of :class:`helpers.Scores` those of what it holds."""
    inner = network.network if isinstance(network, Scores) else network
    return {name: module for name, module in inner.named_modules() if name}


def find_layers(
    layer: Place | Sequence[Place] | None, network: nn.Module, x: torch.Tensor, grid=None
) -> list[nn.Module]:
    """The modules meant by ``layer``: a name, a module, several in a list, or None for the default.

    Raises
    ------
    ModelError
        If one is none of the network's.
    """
    if layer is None:
        layer = default_layer(network, x, grid)
    several = list(layer) if isinstance(layer, (list, tuple)) else [layer]
    if not several:
        raise ModelError("There is no layer in the list; None stands for the default.")
    return list(dict.fromkeys(_find(one, network) for one in several))


def _find(layer: Place, network: nn.Module) -> nn.Module:
    known, name = modules_of(network), type(network).__name__
    if isinstance(layer, str):
        if layer in known:
            return known[layer]
        near = difflib.get_close_matches(layer, known, n=3) or list(known)[-3:]
        raise ModelError(
            f"{name} has no layer {layer!r}; {', '.join(near)} are some of its layers, and "
            "helpers.layers(network, x) lists those that give maps."
        )
    if not isinstance(layer, nn.Module):
        raise ModelError(
            "layer is one of the network's modules, such as network.layer4, or its name, or "
            f"several in a list; not a {type(layer).__name__}."
        )
    if not any(module is layer for module in network.modules()):
        raise ModelError(f"The layer is not a module of this {name}.")
    return layer


@contextmanager
def watching(modules) -> Iterator[dict[nn.Module, list]]:
    """What each of the modules gives, in lists, in the passes that this thread makes meanwhile."""
    outputs, thread = defaultdict(list), threading.get_ident()

    def note(module, inputs, output):
        if threading.get_ident() != thread:  # somebody else's pass through the same network
            return None
        outputs[module].append(output)
        # the network goes on with a copy, so that an in-place ReLU behind the layer leaves ours
        # alone
        return output.clone() if isinstance(output, torch.Tensor) else output

    handles = [module.register_forward_hook(note) for module in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def watched_pass(
    network: nn.Module, x: torch.Tensor, modules
) -> Iterator[tuple[torch.Tensor, torch.Tensor, dict[nn.Module, list]]]:
    """A pass up that records its graph: the photo, a leaf; the scores; what the modules gave.

    The network is in eval mode, and gradients are on, until the block ends.
    """
    # a caller's inference mode would forbid the gradient
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        evaluating(network),
        watching(modules) as outputs,
    ):
        # the photo wants a gradient so that frozen networks make a graph too
        leaf = x.detach().clone().requires_grad_()
        yield leaf, scores_of(network, leaf.clone()), outputs


def check_output(outputs: list, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the layer gave, if it is one tensor of maps or tokens; else a ``ModelError``."""
    shapes = [tuple(o.shape) if isinstance(o, torch.Tensor) else type(o).__name__ for o in outputs]
    if len(shapes) != 1 or len(shapes[0]) not in (3, 4) or shapes[0][0] != len(x):
        raise ModelError(
            "Grad-CAM needs a layer with one output a pass, maps (N, C, h, w) or (N, h, w, C) or "
            f"tokens (N, T, C); this {type(layer).__name__} gave {shapes}. What is something else "
            "can be laid out as maps in a module of your own, between the layers."
        )
    return outputs[0]


def layout(
    output: torch.Tensor,
    photos: torch.Tensor,
    layer: nn.Module,
    grid: tuple[int, int] | None = None,
) -> Lay:
    """How ``output``, computed from ``photos``, and signals shaped as it become ``(N, C, h, w)``.

    Raises
    ------
    ModelError
        If that is in doubt.
    """
    if output.ndim == 3:
        size = token_grid(output.shape[1], photos, layer, grid)
        if grid is None and tokens_stand_last(output, photos, layer):
            raise ModelError(
                f"This {type(layer).__name__} gives {tuple(output.shape)}, with the tokens last. "
                "Choose a layer behind the one that puts the channels last, (N, T, C), or before "
                "the maps were flattened."
            )
        return lambda tokens: tokens[:, -math.prod(size) :].transpose(1, 2).unflatten(2, size)
    if channels_stand_last(output, photos, layer):
        return lambda maps: maps.permute(0, 3, 1, 2)
    return lambda maps: maps


def token_grid(
    count: int, photos: torch.Tensor, layer: nn.Module, grid: tuple[int, int] | None
) -> tuple[int, int]:
    """Rows and columns of tokens; without ``grid`` of the photo's proportion, and 0 or 1 before."""
    height, width = photos.shape[-2:]
    if grid is not None:
        pair = isinstance(grid, (tuple, list)) and [type(side) for side in grid] == [int, int]
        if pair and min(grid) >= 1 and math.prod(grid) <= count:
            return tuple(grid)
        raise ModelError(f"There is no grid {grid} in {count} tokens: it is (rows, columns).")
    for places in (count, count - 1):
        rows = math.isqrt(places * height // width)
        if rows and places % rows == 0 and rows * width == places // rows * height:
            return rows, places // rows
    raise ModelError(
        f"This {type(layer).__name__} gives {count} tokens, which are no grid of the photo's "
        f"proportion, {height}x{width}, with or without a class token. Say how they lie: "
        "grid=(rows, columns)."
    )


def tokens_stand_last(output: torch.Tensor, photos: torch.Tensor, layer: nn.Module) -> bool:
    """Are tokens laid out as ``(N, C, T)``? Asked only where both axes could be a grid."""
    try:
        token_grid(output.shape[2], photos, layer, None)
    except ModelError:
        return False
    last = shift(output, photos, 2)
    return last > photos.shape[3] / 8 and last > shift(output, photos, 1)


def channels_stand_last(maps: torch.Tensor, photos: torch.Tensor, layer: nn.Module) -> bool:
    """Are maps made from ``photos`` laid out as ``(N, h, w, C)``? A ``ModelError`` in doubt.

    Their proportion tells, compared with the photos'. Where both readings fit, as in 64 channels
    of 64 x 64 places, it is asked which axis goes from left to right in the photos.
    """
    _, c, h, w = maps.shape
    if h == w == 1:
        return False
    first, last = misfit(h, w, photos), misfit(c, h, photos)
    if last == first == 0:
        return shift(maps, photos, 2) > shift(maps, photos, 3)
    if last == 0 or first == 0:
        return last == 0
    if first <= last and shift(maps, photos, 3) > photos.shape[3] / 8:
        return False
    raise ModelError(
        f"This {type(layer).__name__} gives {tuple(maps.shape)}, which do not look like maps "
        "(N, C, h, w) or (N, h, w, C) of such photos. Choose a layer that gives maps "
        "(helpers.layers(network, x) lists them), or put one behind it that lays them out so."
    )


def shift(maps: torch.Tensor, photos: torch.Tensor, axis: int) -> float:
    """How far to the right of its first entry the last one of ``axis`` looks in the photos.

    0 if one of them looks nowhere.
    """
    centres = []
    for entry in (maps.select(axis, 0), maps.select(axis, -1)):
        (reach,) = gradients_of(entry.sum(), photos, retain_graph=True)
        weights = reach.abs().sum(dim=(0, 1, 2))
        places = torch.arange(len(weights), device=weights.device)
        if not weights.any():  # a dead channel looks nowhere
            return 0.0
        centres.append(float((weights * places).sum() / weights.sum()))
    return centres[1] - centres[0]


def misfit(h: int, w: int, x: torch.Tensor) -> float:
    """By what logarithm ``h : w`` is off the photos' proportion; 0 if rounding can explain it."""
    height, width = x.shape[-2:]
    if (h - 1) * width <= (w + 1) * height and (h + 1) * width >= (w - 1) * height:
        return 0.0
    return abs(math.log(h * width / (w * height)))
