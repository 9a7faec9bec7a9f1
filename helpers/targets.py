"""What is asked of the scores: a class, several, the difference of two, or any number made of them.

Also how a network is asked for them (:func:`scores_of`), and how they are found in what it answers:
:class:`Scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointError

from .checks import check_classes, check_classes_each, check_scores
from .errors import ModelError, PhotoError

#: From all scores ``(N, classes)`` to the number that is explained, one a photo: ``(N,)``.
Target = Callable[[torch.Tensor], torch.Tensor]


def contrast(first, second) -> Target:
    """Why ``first`` rather than ``second``? The difference of two class scores.

    Each is one class, or one a photo. What speaks for both classes alike falls out.

    Examples
    --------
    >>> import torch
    >>> contrast(0, 2)(torch.tensor([[5.0, 1.0, 2.0]]))
    tensor([3.])
    """

    def difference(scores: torch.Tensor) -> torch.Tensor:
        one, other = (check_classes(c, scores)[:, None] for c in (first, second))
        return (scores.gather(1, one) - scores.gather(1, other))[:, 0]

    return difference


def asked(classes, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The number explained for each photo, ``(N, 1)``, and its class, or None if it is none's.

    ``classes`` as :func:`helpers.checks.check_classes` takes them, or a :data:`Target`.
    """
    if callable(classes):
        return check_values(classes(scores), scores)[:, None], None
    chosen = check_classes(classes, scores)[:, None]
    return scores.gather(1, chosen), chosen


def asked_each(classes, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """K numbers explained for each photo, ``(N, K)``, and their classes, or None.

    ``classes`` as :func:`helpers.checks.check_classes_each` takes them, or a list in which
    :data:`Target` stand, too.
    """
    if isinstance(classes, (list, tuple)) and any(map(callable, classes)):
        return torch.cat([asked(one, scores)[0] for one in classes], dim=1), None
    chosen = check_classes_each(classes, scores)
    return scores.gather(1, chosen), chosen


def check_values(values, scores: torch.Tensor) -> torch.Tensor:
    """What a :data:`Target` gave, if it is one finite number a photo that depends on the scores.

    Else a ``ModelError``.
    """
    what = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
    if what != (len(scores),):
        raise ModelError(
            f"What is explained is one number a photo, ({len(scores)},); the callable made {what} "
            f"of the scores {tuple(scores.shape)}."
        )
    if not values.requires_grad or not torch.isfinite(values).all():
        raise ModelError(
            "What is explained has to be finite, and computed from the scores in a way that "
            "autograd can follow."
        )
    return values


def scores_of(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the network answers photos with, if it is finite class scores ``(N, classes)``.

    Else, and if it cannot take such photos, a ``ModelError`` says what is wrong.

    Examples
    --------
    >>> import torch
    >>> scores_of(torch.nn.Flatten(), torch.ones(1, 1, 1, 2))
    tensor([[1., 1.]])
    """
    return check_scores(answer_of(network, x), network, x)


def answer_of(network: nn.Module, x: torch.Tensor):
    """``network(x)``; errors as :func:`asking`."""
    with asking(network, x):
        return network(x)


def gradients_of(values: torch.Tensor, at, **options) -> tuple[torch.Tensor, ...]:
    """``torch.autograd.grad``, with a ``ModelError`` where it finds no way down."""
    try:
        return torch.autograd.grad(values, at, **options)
    except (CheckpointError, torch.OutOfMemoryError):
        raise
    except RuntimeError as error:
        raise ModelError(
            f"Autograd finds no way down through this network: {error} Explain it without what it "
            "names, such as a change in place of what is needed again."
        ) from error


@contextmanager
def asking(network: nn.Module, x: torch.Tensor, name: str | None = None) -> Iterator[None]:
    """While photos go up through a network, or through its parts.

    A ``ModelError`` if it cannot take such photos, and why, if that is known. ``name`` is the
    network's, for the message; its class's unless given.
    """
    like = floats_of(network)
    try:
        yield
    except (ModelError, PhotoError, torch.OutOfMemoryError):
        raise
    # as PyTorch, its zoos and what stands in a forward have them
    except (
        RuntimeError,
        ValueError,
        AssertionError,
        TypeError,
        LookupError,
        AttributeError,
    ) as error:
        raise ModelError(_why_not(name or type(network).__name__, x, like, error)) from error


def _why_not(name: str, x: torch.Tensor, like: torch.Tensor, error: Exception) -> str:
    """Asked afterwards, as there are networks that bring photos to their own type and device."""
    if x.device != like.device:
        return f"The photos are on {x.device}, and {name} is on {like.device}: pass " + (
            f"x.to({str(like.device)!r})."
        )
    if x.dtype != like.dtype:
        return f"The photos are {x.dtype}, and {name} is {like.dtype}: pass x.to({like.dtype})."
    return (
        f"{name} cannot take photos {tuple(x.shape)}, which are (N, C, H, W): "
        f"{type(error).__name__}: {error}. Pass as many channels and pixels as it was made for."
    )


def floats_of(network: nn.Module) -> torch.Tensor:
    """The network's first tensor of floats, whose dtype and device photos need; or a float32.

    A ``ModelError`` if it has no values.
    """
    every = chain(network.parameters(), network.buffers())
    like = next((part for part in every if part.is_floating_point()), torch.zeros(()))
    if like.is_meta:
        raise ModelError(
            f"{type(network).__name__} is on the device 'meta', where weights have no values. Make "
            "it on another device, or give it weights: network.to_empty(device='cpu'), then "
            "load_state_dict."
        )
    return like


class Scores(nn.Module):
    """A network of which only the class scores are seen.

    Parameters
    ----------
    network : nn.Module
        Answers photos with a dict, a tuple, an object with ``logits`` ...
    pick : callable
        From that answer to the scores ``(N, classes)``.

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.Identity()  # answers with a dict, say
    >>> only = Scores(network, lambda answer: answer["logits"])
    >>> only({"logits": torch.zeros(1, 5)}).shape
    torch.Size([1, 5])
    """

    def __init__(self, network: nn.Module, pick: Callable) -> None:
        super().__init__()
        self.network, self.pick = network, pick

    def forward(self, x):
        return self.pick(self.network(x))
