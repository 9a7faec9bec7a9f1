"""One step at a time up through the layers of ``features`` and down again: :func:`frame`.

With D layers there are 2D + 1 steps: step 0 is the photo, steps 1 to D go up one layer each, steps
D + 1 to 2D go down again, back to the photo. What a step shows is a pure function of the walk, the
step and the rule for the ReLU; the widget and the page's player only choose and display.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from . import scaling
from .checks import check_photos
from .deconvnet import Deconvnet, Pooling, Rectifier, Trace, one_hot, strongest_unit
from .errors import ModelError
from .guided_backprop import METHODS


@dataclass(frozen=True)
class Walk:
    """A photo's way up, with what stands between all layers of ``features``.

    net : the two-way network.
    trace : as :meth:`Deconvnet.up` gives it.
    activations : D + 1 tensors ``(1, C, h, w)``; number k is the output of layer k - 1, number 0 the photo.
    """

    net: Deconvnet
    trace: Trace
    activations: tuple[torch.Tensor, ...]

    @property
    def last_step(self) -> int:
        """Number of the last step, 2D; the first is 0."""
        return 2 * self.net.depth


@dataclass(frozen=True)
class Frame:
    """What one step shows; nothing in it is scaled. K channels are shown, the strongest first.

    step : its number, 0 to 2D.
    level : k for the tensor between layer k - 1 and layer k of ``features``.
    layer : the layer just passed, up or down; None for step 0.
    kind : its class name, "Conv2d", "ReLU", "MaxPool2d"; "photo" for step 0.
    down : whether the walk is on its way down.
    rule : "gradient", "deconvnet" or "guided".
    shape : ``(C, h, w)`` at this level.
    channels : the K channels shown: of largest activation on the way up, of largest absolute signal on the way down.
    activation : ``(K, h, w)``.
    mask : bool ``(K, h, w)``, where the ReLU's input was positive; None unless the layer is a ReLU.
    switches : bool ``(K, H, W)`` in the pooling's input, True where a window's maximum was; None unless it is a pooling.
    signal : ``(K, h, w)`` on the way down, signed; None on the way up.
    picture : on the way up ``(3, H, W)``, the strongest unit of this level back-projected to the photo
        (step 0: the normalised photo). On the way down the signal so far: ``(h, w)``, at each place its
        largest absolute value over all channels; in the last step ``(3, H, W)``, the finished picture.
    """

    step: int
    level: int
    layer: int | None
    kind: str
    down: bool
    rule: str
    shape: tuple[int, int, int]
    channels: tuple[int, ...]
    activation: torch.Tensor
    mask: torch.Tensor | None
    switches: torch.Tensor | None
    signal: torch.Tensor | None
    picture: torch.Tensor


@torch.no_grad()
def walk(network: nn.Module, x: torch.Tensor) -> Walk:
    """Send one normalised photo ``(1, 3, H, W)`` up, once, and keep what every layer gives.

    Raises
    ------
    ModelError
        As :class:`Deconvnet`.
    ValueError, TypeError
        If ``x`` is not one photo; see :func:`helpers.checks.check_photos`.
    """
    net = Deconvnet(network)
    if len(check_photos(x)) != 1:
        raise ValueError(f"One photo is walked through at a time, got {len(x)}; x[i : i + 1] is one of a batch.")
    here, memory, between = x, [], [x]
    for step in net.steps:
        here, noted = step.up(here.clone())  # a ReLU overwrites what it is given
        memory.append(noted)
        between.append(here)
    activations = tuple(between[: net.depth + 1])
    return Walk(net, Trace(here, activations[-1], memory), activations)


@torch.no_grad()
def frame(way: Walk, step: int, rule: str = "guided", c: int | None = None, channels: int = 4) -> Frame:
    """What step ``step`` of a walk shows under one of the three rules for the ReLU.

    Parameters
    ----------
    way : Walk
        From :func:`walk`; not changed.
    step : int
        0 to ``way.last_step``.
    rule : {"gradient", "deconvnet", "guided"}
        A key of :data:`helpers.METHODS`.
    c : int, optional
        The way down begins at this class's score, and reaches the last feature maps through the
        classifier, under the same rule. None: it begins at the strongest unit of these maps.
    channels : int
        How many channels are shown, at most.

    Raises
    ------
    IndexError
        If there is no such step or class.
    ModelError
        If the rule is unknown.
    """
    net, trace, depth = way.net, way.trace, way.net.depth
    if not 0 <= step <= way.last_step:
        raise IndexError(f"There are steps 0 to {way.last_step}, not {step}.")
    if rule not in METHODS:
        raise ModelError(f"There is no rule {rule!r}; choose one of {', '.join(METHODS)}.")
    relu_down, down = METHODS[rule].relu_down, step > depth
    level = way.last_step - step if down else step
    layer = (level if down else level - 1) if step else None
    activation, signal = way.activations[level], None
    if down:
        if c is None:
            start, begin = strongest_unit(trace.feature_maps), depth
        else:
            start, begin = one_hot(c, trace.scores), len(net.steps)
        signal = net.down(trace, start, begin, level, relu_down)
        picture = signal[0] if level == 0 else signal[0].abs().amax(dim=0)
    elif level == 0:
        picture = activation[0]
    else:
        picture = net.down(trace, strongest_unit(activation), level, 0, relu_down)[0]
    shown = strongest_channels(activation if signal is None else signal, channels)
    mask = switches = None
    if layer is not None and isinstance(net.steps[layer], Rectifier):
        mask = trace.memory[layer][0, shown]
    elif layer is not None and isinstance(net.steps[layer], Pooling):
        switches = switch_places(*trace.memory[layer])[0, shown]
    return Frame(
        step, level, layer, "photo" if layer is None else _kind(net.steps[layer]), down, rule,
        tuple(activation.shape[1:]), tuple(shown), activation[0, shown], mask, switches,
        None if signal is None else signal[0, shown], picture,
    )


def strongest_channels(maps: torch.Tensor, count: int) -> list[int]:
    """Indices of the ``count`` channels of ``(1, C, h, w)`` with the largest absolute value, largest first."""
    return maps[0].abs().amax(dim=(1, 2)).topk(min(count, maps.shape[1])).indices.tolist()


def switch_places(switches: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Max-pooling's indices ``(N, C, h, w)`` as bool ``(N, C, H, W)``: True where a maximum was taken from."""
    flat = torch.zeros(*shape[:2], shape[2] * shape[3], dtype=torch.bool, device=switches.device)
    return flat.scatter_(2, switches.flatten(2), True).view(shape)


def _kind(step: nn.Module) -> str:
    return {"Convolution": "Conv2d", "Rectifier": "ReLU", "Pooling": "MaxPool2d"}.get(type(step).__name__, type(step).__name__)


RULES = {
    "gradient": "keep the signal where the input was positive",
    "deconvnet": "keep what is positive in the signal",
    "guided": "keep what is positive in the signal, where the input was positive",
}
_UNDONE = {"Conv2d": "transposed convolution, the same weight", "MaxPool2d": "unpooling: every value back to its switch"}


def describe(shot: Frame) -> str:
    """The frame in words: where the walk is, what happens there, and the shapes."""
    c, h, w = shot.shape
    size = f"{c} x {h} x {w}"
    if shot.layer is None:
        return f"Step 0: the photo, {size} (channels x height x width)."
    if not shot.down:
        noted = {"ReLU": f"It notes its mask, {size}: where its input was positive. ", "MaxPool2d": "It notes its switches: which of four was the largest. "}
        return (
            f"Step {shot.step}, up through features[{shot.layer}], {shot.kind}: activation {size}. {noted.get(shot.kind, '')}"
            f"Strongest channels: {', '.join(map(str, shot.channels))}. "
            f"Right: the strongest unit back-projected to the photo, rule \"{shot.rule}\"."
        )
    rule = f"rule \"{shot.rule}\": {RULES[shot.rule]}" if shot.kind == "ReLU" else _UNDONE.get(shot.kind, "undone")
    end = "the finished picture" if shot.level == 0 else "the signal so far, its largest channel at each place"
    return f"Step {shot.step}, down through features[{shot.layer}], {shot.kind}, {rule}. Signal {size}. Right: {end}."


SIDE, GAP, LABEL = 72, 4, 16  # pixels: a channel's tile, between two, a line of words


def draw(shot: Frame) -> np.ndarray:
    """The frame as one picture ``(H, W, 3)`` in [0, 1]; all frames have the same size.

    Left, one row each: activations, divided by the level's largest of those shown, black is 0
    (step 0: signed); mask or switches, white is kept; signal, signed, grey is 0. Right: the picture,
    ``(h, w)`` divided by its largest value, ``(3, H, W)`` signed, by its 99.5th percentile.
    """
    line = LABEL + SIDE + GAP
    board = Image.new("RGB", (4 * (SIDE + GAP) + 3 * line, 3 * line), "white")
    pen, font = ImageDraw.Draw(board), ImageFont.load_default(12)
    # convolutions give both signs; grey is zero wherever a negative value can be
    grey = scaling.signed if bool((shot.activation < 0).any()) else scaling.by_max
    noted, name = (shot.mask, "mask") if shot.mask is not None else (shot.switches, "switches")
    rows = [
        ("activation, grey is 0" if grey is scaling.signed else "activation, black is 0", shot.activation, grey),
        ("mask, switches: none here" if noted is None else f"{name}, white is kept", noted, lambda m: m.double().cpu().numpy()),
        ("signal: not yet" if shot.signal is None else "signal, grey is 0", shot.signal, scaling.signed),
    ]
    for i, (words, maps, scale) in enumerate(rows):
        pen.text((0, i * line), words, fill="#22313f", font=font)
        if maps is not None:
            for j, tile in enumerate(_tiles(maps, scale)[:4]):
                board.paste(_picture(tile, SIDE), (j * (SIDE + GAP), i * line + LABEL))
    left, side = 4 * (SIDE + GAP), 3 * line - LABEL - GAP
    flat = shot.picture.ndim == 2
    words = "the signal so far, black is 0" if flat else "the photo" if shot.layer is None else "back in the photo, grey is 0"
    pen.text((left, 0), words, fill="#22313f", font=font)
    board.paste(_picture(scaling.by_max(shot.picture) if flat else scaling.signed(shot.picture, 99.5), side), (left, LABEL))
    return np.asarray(board) / 255


def _tiles(maps: torch.Tensor, scale) -> list[np.ndarray]:
    """Maps ``(K, h, w)`` scaled together, so that they can be compared."""
    k, h, w = maps.shape
    return list(scale(maps.reshape(k * h, w)).reshape(k, h, w))


def _picture(values: np.ndarray, side: int) -> Image.Image:
    """At most ``side`` pixels high and wide, pixel edges sharp when enlarged."""
    picture = Image.fromarray(np.rint(values * 255).astype(np.uint8)).convert("RGB")
    factor = side / max(picture.size)
    size = [max(1, math.floor(n * factor)) for n in picture.size]
    return picture.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX)
