"""What the explorer knows and computes; `widgets` shows it. No ipywidgets here.

The photo goes up through the network once, when it is chosen. A change of class, method, layer,
scale or colours works on what that pass left behind.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from .. import scaling
from ..checks import check_classes
from ..errors import PhotoError
from ..explicit.guided import explain
from ..explicit.steps import Pooling, Rectifier
from ..methods import REGIONS_FIRST
from ..networks.images import SAMPLES, Source, sample
from ..networks.models import Model
from ..plotting import HEAT, check_opacity, overlay
from .stepper import Walk, walk

#: Methods by the names that the explorer shows.
CHOICES = tuple(row.title for row in REGIONS_FIRST)
#: How a map comes to [0, 1], in the words shown under it.
SCALES = {
    "percentile": "divided by the 99.5th percentile of its absolute values, the rest clipped",
    "largest": "divided by its largest absolute value",
    "min-max": "smallest value to 0, largest to 1; zero lands anywhere",
}
_PERCENTILES = {"percentile": 99.5, "largest": 100}
COLOURS = (HEAT, "jet", "gray")
_KEYS = {row.title: row.key for row in REGIONS_FIRST}
#: Files larger than this are refused unread.
MOST_BYTES = 30_000_000


class Explorer:
    """One photo, one network, and any number of questions.

    Parameters
    ----------
    model : Model
        From :func:`helpers.load_model`.
    photo : Source, optional
        The first photo; the sample "chelsea" unless given.

    Attributes
    ----------
    passes : int
        How often a photo went up through the network.
    top : list of (int, str, float)
        Class index, name and probability of the five most probable classes, for the photo at hand.
    seen : numpy.ndarray
        The part of the photo that the network sees, ``(H, W, 3)`` in [0, 1].
    """

    def __init__(self, model: Model, photo: Source | None = None) -> None:
        self.model, self.passes = model, 0
        self.load(sample(SAMPLES[0]) if photo is None else photo)

    def load(self, photo: Source) -> None:
        """Take another photo. If it is refused (:class:`PhotoError`), the one at hand stays.

        Raises
        ------
        PhotoError
            As :func:`helpers.load_photo`; and for files of more than 30 MB.
        """
        if isinstance(photo, (bytes, bytearray, memoryview)) and len(photo) > MOST_BYTES:
            raise PhotoError(
                f"The file has {len(photo) / 1e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f} MB are "
                "read. Scale the picture down first."
            )
        x = self.model.prepare(photo)
        way = walk(self.model.network, x, self.model.preprocess)
        # everything that can fail has happened; from here on the state changes
        self.x, self.way, self.passes = x, way, self.passes + 1
        self.seen = self.model.preprocess.restore(x)[0]
        self.probabilities = way.trace.scores.softmax(dim=1)[0]
        values, indices = self.probabilities.topk(min(5, len(self.probabilities)))
        self.top = [
            (i, self.model.class_names[i], p)
            for i, p in zip(indices.tolist(), values.tolist(), strict=True)
        ]
        self._map = functools.lru_cache(32, typed=True)(functools.partial(class_map, way))

    def find(self, text: str) -> int:
        """Index of a class by its name, or by the only name that contains ``text``.

        Raises
        ------
        KeyError
            In words, if there is none or several.
        """
        near = [
            i
            for i, name in enumerate(self.model.class_names)
            if text.strip() and text.strip().lower() in name.lower()
        ]
        return near[0] if len(near) == 1 else self.model.class_index(text.strip())

    def layers(self) -> list[tuple[str, int]]:
        """What Grad-CAM may look at: (words, index) of the poolings and ReLUs, last first."""
        found = []
        for i, step in enumerate(self.way.net.steps[: self.way.net.depth]):
            if isinstance(step, (Pooling, Rectifier)):
                places = "x".join(map(str, self.way.trace.activations[i + 1].shape[2:]))
                found.append((f"features[{i}] {type(step.layer).__name__}, {places}", i))
        return found[::-1]

    def map(self, c: int, method: str = CHOICES[0], layer: int = -1) -> torch.Tensor:
        """The unscaled map of one class, of the photo's size.

        Grad-CAM is ``(H, W)``, >= 0; the others are ``(3, H, W)``, signed.
        ``layer`` counts only for Grad-CAM. Errors: :func:`class_map`.
        """
        return self._map(c, method, layer if method == CHOICES[0] else -1).clone()

    def picture(
        self,
        c: int,
        method: str = CHOICES[0],
        layer: int = -1,
        opacity: float = 0.7,
        colours: str = HEAT,
        scale: str = "percentile",
    ) -> np.ndarray:
        """A map as it is shown, ``(H, W, 3)`` in [0, 1].

        Grad-CAM is laid over the photo, in ``colours``, with ``opacity`` from 0 (photo) to 1 (map).
        The others are signed and coloured themselves: grey is zero, except for scale "min-max";
        ``opacity`` mixes them with the photo as well.
        """
        values = self.map(c, method, layer)
        by = scaling.strength if values.ndim == 2 else scaling.signed  # zero stays zero, or grey
        shown = scaling.min_max(values) if scale == "min-max" else by(values, _PERCENTILES[scale])
        if values.ndim == 2:
            return overlay(self.seen, shown, opacity, colours)
        check_opacity(opacity)
        return (1 - opacity) * self.seen + opacity * shown

    def describe(self, c: int, method: str, layer: int = -1) -> str:
        """One sentence on a picture, for its text alternative and its caption."""
        where = f" at features[{layer % self.way.net.depth}]" if method == CHOICES[0] else ""
        return (
            f"{method}{where} for {self.model.class_names[c]!r}, "
            f"probability {self.probabilities[c]:.1%}"
        )


def class_map(way: Walk, c: int, method: str, layer: int = -1) -> torch.Tensor:
    """The map of class ``c`` from a finished walk up: no second pass. See :meth:`Explorer.map`.

    Raises
    ------
    IndexError
        If there is no such class, or no such layer of ``features``.
    ValueError
        If there is no such method.
    """
    if method not in CHOICES:
        raise ValueError(f"There is no method {method!r}; choose one of {', '.join(CHOICES)}.")
    if not -way.net.depth <= layer < way.net.depth:
        raise IndexError(f"features has layers 0 to {way.net.depth - 1}, not {layer}.")
    chosen = check_classes(c, way.trace.scores)[:, None]
    key, cut = _KEYS[method], layer % way.net.depth + 1
    return explain(way.net, way.trace, chosen, [key], cut)[key][0, 0]
