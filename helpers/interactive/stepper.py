"""One step at a time up through the layers of ``features`` and down again: :func:`frame`.

With D layers there are 2D + 1 steps: step 0 is the photo, steps 1 to D go up one layer each, steps
D + 1 to 2D go down again, back to the photo. What a step shows is a pure function of the walk, the
step and the rule for the ReLU; the widget and the page's player only choose and display.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from .. import scaling
from ..checks import check_photos
from ..explicit.deconvnet import Deconvnet, Trace, one_hot, strongest_unit
from ..explicit.steps import Pooling, Rectifier
from ..methods import RULES, TABLE, rule_of
from ..networks.preprocess import IMAGENET, Preprocess
from .panels import Panel


@dataclass(frozen=True, eq=False)
class Walk:
    """A photo's way up, with what stands between all layers of ``features``.

    net : the two-way network.
    trace : as :meth:`Deconvnet.up` gives it, with the activations, D + 1 tensors ``(1, C, h, w)``.
    photo : ``(H, W, 3)`` in [0, 1], as the network sees it.
    """

    net: Deconvnet
    trace: Trace
    photo: np.ndarray

    @property
    def last_step(self) -> int:
        """Number of the last step, 2D; the first is 0."""
        return 2 * self.net.depth

    @functools.cached_property
    def signals(self) -> Callable[[str, int | None], list[torch.Tensor]]:
        """:func:`_signals` of this walk; they are kept, as a walk down is asked for by steps."""
        return functools.lru_cache(len(RULES))(functools.partial(_signals, self.net, self.trace))


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
    channels : the K channels shown: of largest activation on the way up, of largest absolute signal
        on the way down.
    activation : ``(K, h, w)``.
    mask : bool ``(K, h, w)``, where the ReLU's input was positive; None unless the layer is a ReLU.
    switches : bool ``(K, H, W)`` in the pooling's input, True where a window's maximum was; None
        unless it is a pooling.
    signal : ``(K, h, w)`` on the way down, signed; None on the way up.
    picture : on the way up ``(3, H, W)``, the strongest unit of this level back-projected to the
        photo (step 0: the normalised photo). On the way down the signal so far: ``(h, w)``, at each
        place its largest absolute value over all channels; in the last step ``(3, H, W)``, the
        finished picture.
    photo : ``(H, W, 3)`` in [0, 1], as the network sees it.
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
    photo: np.ndarray


def walk(network: nn.Module, x: torch.Tensor, preprocess: Preprocess = IMAGENET) -> Walk:
    """Send one normalised photo ``(1, 3, H, W)`` up, once, and keep what every layer gives.

    ``preprocess`` is what normalised it.

    Raises
    ------
    ModelError
        As :class:`Deconvnet`.
    ValueError, TypeError
        If ``x`` is not one photo; see :func:`helpers.checks.check_photos`.
    """
    net = Deconvnet(network)
    if len(check_photos(x)) != 1:
        raise ValueError(
            f"One photo is walked through at a time, got {len(x)}; x[i : i + 1] is one of a batch."
        )
    return Walk(net, net.up(x.detach().clone(), keep=True), preprocess.restore(x)[0])


@torch.no_grad()
def frame(
    way: Walk, step: int, rule: str = "guided", c: int | None = None, channels: int = 4
) -> Frame:
    """What step ``step`` of a walk shows under one of the three rules for the ReLU.

    Parameters
    ----------
    way : Walk
        From :func:`walk`; not changed.
    step : int
        0 to ``way.last_step``.
    rule : {"gradient", "deconvnet", "guided"}
        A key of :data:`helpers.methods.RULES`.
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
    relu_down, down = rule_of(rule), step > depth
    level = way.last_step - step if down else step
    layer = (level if down else level - 1) if step else None
    activation, signal = trace.activations[level], None
    if down:
        signal = way.signals(rule, c)[level]
        picture = signal[0].clone() if level == 0 else signal[0].abs().amax(dim=0)
    elif level == 0:
        picture = activation[0].clone()
    else:
        picture = net.down(trace, strongest_unit(activation), level, 0, relu_down)[0]
    shown = strongest_channels(activation if signal is None else signal, channels)
    mask = switches = None
    if layer is not None and isinstance(net.steps[layer], Rectifier):
        mask = trace.memory[layer][0, shown]
    elif layer is not None and isinstance(net.steps[layer], Pooling):
        switches = switch_places(*trace.memory[layer])[0, shown]
    return Frame(
        step,
        level,
        layer,
        "photo" if layer is None else type(net.steps[layer].layer).__name__,
        down,
        rule,
        tuple(activation.shape[1:]),
        tuple(shown),
        activation[0, shown],
        mask,
        switches,
        None if signal is None else signal[0, shown],
        picture,
        way.photo,
    )


def _signals(net: Deconvnet, trace: Trace, rule: str, c: int | None) -> list[torch.Tensor]:
    """The signal at every level, number 0 at the photo."""
    relu_down = RULES[rule]
    if c is None:
        signal = strongest_unit(trace.feature_maps)
    else:
        signal = net.down(trace, one_hot(c, trace.scores), len(net.steps), net.depth, relu_down)
    signals = [signal]
    for level in reversed(range(net.depth)):
        signals.append(net.down(trace, signals[-1], level + 1, level, relu_down))
    return signals[::-1]


def strongest_channels(maps: torch.Tensor, count: int) -> list[int]:
    """The ``count`` channels of ``(1, C, h, w)`` with the largest absolute value, largest first."""
    return maps[0].abs().amax(dim=(1, 2)).topk(min(count, maps.shape[1])).indices.tolist()


def switch_places(switches: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Max-pooling's indices ``(N, C, h, w)`` as bool ``(N, C, H, W)``: True where a maximum was."""
    flat = torch.zeros(*shape[:2], shape[2] * shape[3], dtype=torch.bool, device=switches.device)
    return flat.scatter_(2, switches.flatten(2), True).view(shape)


_WORDS = {row.key: row.words for row in TABLE}
_UP = {
    "Conv2d": "Nothing has to be noted: the weights are there on the way down as well.",
    "ReLU": "It notes its mask, of the same shape: where its input was positive.",
    "MaxPool2d": "It notes its switches: which of the four places of each window held the largest "
    "value.",
}
_DOWN = {
    "Conv2d": "A transposed convolution with the same weights sends the signal on.",
    "MaxPool2d": "Every value goes back to its switch; the other three places of the window get "
    "zero.",
}


def stops(way: Walk) -> list[tuple[int, int, str]]:
    """(row, column, kind) of every step on a map of the walk.

    Row 1 goes up, from left to right; row 2 comes down, back again.
    """
    layers = [step.layer for step in way.net.steps[: way.net.depth]]
    kinds = ["photo", *(type(layer).__name__ for layer in layers)]
    up = [(1, level + 1, kind) for level, kind in enumerate(kinds)]
    return up + [(2, column, kind) for _, column, kind in reversed(up[1:])]


def headline(shot: Frame) -> str:
    """Where the walk is, in a few words, with the shape ``channels x height x width``."""
    size = " x ".join(map(str, shot.shape))
    if shot.layer is None:
        return f"Step 0: the photo, {size}."
    way = "down" if shot.down else "up"
    return f"Step {shot.step}: {way} through features[{shot.layer}], {shot.kind}, to {size}."


def describe(shot: Frame) -> str:
    """What happens in the step, and what its large picture shows."""
    if shot.layer is None:
        return (
            "Channels x height x width; the tiles are its channels, red, green and blue, "
            "normalised."
        )
    if not shot.down:
        return (
            f"{_UP.get(shot.kind, '')} The large picture is the strongest unit of these "
            f'{shot.shape[0]} channels, sent back to the photo under the rule "{shot.rule}".'
        )
    done = (
        f'The rule "{shot.rule}": {_WORDS[shot.rule]}.'
        if shot.kind == "ReLU"
        else _DOWN.get(shot.kind, "")
    )
    end = (
        f'the finished one, under the rule "{shot.rule}"'
        if shot.level == 0
        else "the signal so far, at each place that of the strongest channel"
    )
    return f"{done} The large picture is {end}."


def panels_of(shot: Frame) -> list[Panel]:
    """The frame as it is shown: activation, mask or switches, signal, and the picture.

    Every map has its own size. Each is divided by the 99.5th percentile of its own absolute values,
    the rest clipped. Grey is 0 where there are negative values, black is 0 elsewhere; of masks and
    switches white is True.
    """
    signed = bool((shot.activation < 0).any())
    noted, name = (shot.mask, "mask") if shot.mask is not None else (shot.switches, "switches")
    rows = [
        _row(
            "activation",
            "grey is 0" if signed else "black is 0",
            shot,
            shot.activation,
            _signed if signed else _amount,
        )
    ]
    if noted is None:
        rows.append(Panel("mask or switches", f"a {shot.kind} has none"))
    else:
        rows.append(_row(name, "white is kept", shot, noted, lambda m: m.double().cpu().numpy()))
    if shot.signal is None:
        rows.append(Panel("signal", "only on the way down"))
    else:
        rows.append(_row("signal", "grey is 0", shot, shot.signal, _signed))
    if shot.layer is None:
        title, note, picture = "photo", "as the network sees it", shot.photo
    elif not shot.down:
        title, note, picture = "strongest unit, in the photo", *_in_photo(shot)
    elif shot.level:
        title, note, picture = "signal so far", "all channels; black is 0", _amount(shot.picture)
    else:
        title, note, picture = "finished picture", "grey is 0", _signed(shot.picture)
    return [
        *rows,
        Panel(title, note, [(f"{title}, {note}. {headline(shot)}", picture)], large=True),
    ]


def _row(title: str, note: str, shot: Frame, maps: torch.Tensor, scale) -> Panel:
    return Panel(
        title,
        note,
        [
            (f"{title} of channel {channel}", scale(tile))
            for channel, tile in zip(shot.channels, maps, strict=True)
        ],
    )


def _amount(values: torch.Tensor) -> np.ndarray:
    return scaling.strength(values, 99.5)


def _signed(values: torch.Tensor) -> np.ndarray:
    return scaling.signed(values, 99.5)


def _in_photo(shot: Frame) -> tuple[str, np.ndarray]:
    """A unit's picture in the rectangle that it reaches, and around it the photo, faded."""
    reached = (shot.picture != 0).any(dim=0)
    if not reached.any():
        return "all is 0", _signed(shot.picture)
    rows, columns = (reached.any(dim=d).nonzero().flatten().tolist() for d in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    # colours last: three columns of (3, h, 3) could not be told from three colours
    part = shot.picture.movedim(0, -1)[box]
    shown = 0.3 * shot.photo + 0.35
    shown[box] = _signed(part)
    note = "grey is 0" if part.shape == shown.shape else "grey is 0; around it the photo, faded"
    return note, shown
