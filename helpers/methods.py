"""The book's five methods, in one table, from which figures, controls and graphs make their lists.

Also here: the rules that tell three of them apart, each for one ReLU. With ``f`` the ReLU's input
on the way up and ``R`` the signal that arrives at it on the way down:

====================  ===========================
plain gradient        ``R * (f > 0)``
Deconvnet             ``R * (R > 0)``
guided                ``R * (R > 0) * (f > 0)``
====================  ===========================

All three overwrite the signal, which a walk down needs once: with a batch of eight photos, fresh
memory at every ReLU would cost a tenth of the walk's time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .errors import ModelError

#: From the signal ``R`` and the mask ``f > 0`` to the signal that goes on down.
Rule = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def gradient_rule(signal: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Keep the signal, of either sign, where the ReLU's input was positive; in place."""
    return signal.mul_(mask)


def deconvnet_rule(signal: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Keep what is positive *in the signal*, in place; ``mask`` is unused."""
    return signal.clamp_(min=0)


def guided_rule(signal: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Keep what is positive in the signal *and* was positive on the way up; in place."""
    return signal.clamp_(min=0).mul_(mask)


@dataclass(frozen=True)
class Method:
    """A row of :data:`TABLE`.

    key : its name in code: in ``METHODS``, in the exported graph, on the live page.
    title : its name in figures, in controls and in ``all_maps``.
    words : what it does, in a few words that go on after a colon.
    kind : "pixels" for a walk down to the photo, signed ``(3, H, W)``; "regions" for a map of the
        last feature maps' places, >= 0, resized to ``(H, W)``; "product" for one times the other.
    colour, mark : of its curves and bars; the colours are Okabe and Ito's, safe for colour-blind
        readers.
    rule : what its walk to the pixels does at a ReLU; None if it does not go there.
    """

    key: str
    title: str
    words: str
    kind: str
    colour: str
    mark: str
    rule: Rule | None = None


#: The methods, in the order in which figures and tables show them.
TABLE = (
    Method(
        "gradient", "gradient",
        "keep the signal where the input was positive",
        "pixels", "#E69F00", "o", gradient_rule,
    ),
    Method(
        "deconvnet", "Deconvnet",
        "keep what is positive in the signal",
        "pixels", "#56B4E9", "s", deconvnet_rule,
    ),
    Method(
        "guided", "guided backpropagation",
        "keep what is positive in the signal, where the input was positive",
        "pixels", "#D55E00", "^", guided_rule,
    ),
    Method(
        "grad_cam", "Grad-CAM",
        "weigh each of the last feature maps by its mean gradient, add them, keep what is positive",
        "regions", "#0072B2", "D",
    ),
    Method(
        "guided_grad_cam", "Guided Grad-CAM",
        "multiply Grad-CAM and guided backpropagation, pixel by pixel",
        "product", "#009E73", "v", guided_rule,
    ),
)  # fmt: skip

#: The three walks to the pixels, by key: all that tells them apart.
RULES: dict[str, Rule] = {row.key: row.rule for row in TABLE if row.kind == "pixels"}

#: The table with the coarse maps first: the order of the explorer and of the exported graph.
REGIONS_FIRST = tuple(sorted(TABLE, key=lambda row: row.kind != "regions"))


def rule_of(method: str) -> Rule:
    """The rule of one of :data:`RULES`; a ``ModelError`` names them if ``method`` is none."""
    if method not in RULES:
        raise ModelError(f"There is no method {method!r}; choose one of {', '.join(RULES)}.")
    return RULES[method]


def rows_of(keys: Sequence[str] | None) -> list[Method]:
    """The rows of :data:`TABLE` with these keys, in its order; all for None.

    A ``ModelError`` if a key is none.
    """
    known = [row.key for row in TABLE]
    if unknown := [key for key in keys or () if key not in known]:
        raise ModelError(f"There is no method {unknown[0]!r}; choose some of {', '.join(known)}.")
    return [row for row in TABLE if keys is None or row.key in keys]
