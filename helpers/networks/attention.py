"""Two small networks that attend, on the frozen feature maps of the embedded one; and their maps.

:class:`AttentionPooling` says how much each place counts, by one softmax over all places, so that
each place's part in a score is known exactly. :class:`TokenTransformer` takes the places as tokens,
which attend to each other four times over; what that does to a score has to be estimated, by
:func:`rollout` or :func:`relevance`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ..checks import check_finite
from ..errors import ModelError, ModelUnavailable
from .models import ASSETS, Model, load_model, read_weights
from .models import CARD as FEATURES_CARD

WEIGHTS = ASSETS / "attention.safetensors"
CARD = ASSETS / "attention.json"


def _check_maps(maps: torch.Tensor, channels: int) -> None:
    """A ``ModelError`` unless they are feature maps ``(N, channels, h, w)``."""
    if maps.ndim != 4 or maps.shape[1] != channels:
        raise ModelError(
            f"Expected feature maps (N, {channels}, h, w), got {tuple(maps.shape)}. Give what the "
            "layers below the head make of photos; the maps of a single one are maps[None]."
        )


class AttentionPooling(nn.Module):
    r"""Scores from feature maps, by a weighted mean over the places.

    With ``f_i`` the features of place ``i``, ``q`` one query that is learnt, ``K`` and ``V``
    matrices,

    .. math:: a = \mathrm{softmax}_i(q \cdot K f_i / \sqrt d), \qquad y = \sum_i a_i V f_i + b

    (the attention of Ilse et al. 2018 in the form of Vaswani et al. 2017). ``a`` asks about no
    class; each place's part in a class score is ``a_i V f_i``, and with ``b`` they add up to it.

    Parameters
    ----------
    channels, classes : int
        Of the feature maps, and how many scores.
    width : int
        ``d``, the length of query and keys.

    Raises
    ------
    ModelError
        From each of its methods, if the maps are no ``(N, channels, h, w)``.

    Examples
    --------
    >>> pooling = AttentionPooling(8, classes=3)
    >>> maps = torch.rand(2, 8, 5, 5)
    >>> pooling(maps).shape, pooling.contributions(maps).shape
    (torch.Size([2, 3]), torch.Size([2, 3, 5, 5]))
    """

    def __init__(self, channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        self.key = nn.Conv2d(channels, width, 1, bias=False)
        self.value = nn.Conv2d(channels, classes, 1, bias=False)
        # not of zeros, which have no gradient for the keys
        self.query = nn.Parameter(torch.randn(width))
        self.bias = nn.Parameter(torch.zeros(classes))

    def attention(self, maps: torch.Tensor) -> torch.Tensor:
        """``a`` of feature maps ``(N, C, h, w)``: ``(N, h, w)``, >= 0, with the sum 1."""
        _check_maps(maps, self.key.in_channels)
        asked = torch.einsum("d,ndhw->nhw", self.query, self.key(maps)) / len(self.query) ** 0.5
        return asked.flatten(1).softmax(dim=1).view_as(asked)

    def contributions(self, maps: torch.Tensor) -> torch.Tensor:
        """Each place's part in each score, of either sign: ``(N, classes, h, w)``."""
        return self.attention(maps)[:, None] * self.value(maps)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Scores ``(N, classes)`` from feature maps ``(N, C, h, w)``."""
        return self.contributions(maps).sum(dim=(2, 3)) + self.bias


class SelfAttention(nn.Module):
    r"""``softmax(Q K^T / sqrt(d)) V`` in several heads (Vaswani et al. 2017, equation 1).

    A ``ModelError`` if the width is no multiple of the heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ModelError(
                f"{heads} heads cannot share a width of {width} equally; choose a divisor of it."
            )
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """From tokens ``(N, T, width)`` to new ones, and the attention ``(N, heads, T, T)``.

        Row ``i`` of the attention says how much token ``i`` takes from each; its sum is 1.
        """
        n, t, width = tokens.shape
        parts = self.qkv(tokens).view(n, t, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attention = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(dim=-1)
        mixed = (attention @ value).transpose(1, 2).reshape(n, t, width)
        return self.out(mixed), attention


class Block(nn.Module):
    """A layer of a transformer, normalised first: self-attention, then two linear layers."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.linear = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def attend(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """New tokens ``(N, T, width)``, and the attention ``(N, heads, T, T)``."""
        taken, attention = self.attention(self.norm1(tokens))
        tokens = tokens + taken
        return tokens + self.linear(self.norm2(tokens)), attention

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """New tokens ``(N, T, width)``."""
        return self.attend(tokens)[0]


class TokenTransformer(nn.Module):
    """Scores from feature maps by a transformer (Dosovitskiy et al. 2021) whose tokens are places.

    A token is a window of ``fold x fold`` places, the channels of all of them; a class token goes
    first, from which the scores are read at the end.

    Parameters
    ----------
    channels, classes : int
        Of the feature maps, and how many scores.
    side : int
        Tokens in a row, and in a column; its positions are learnt, so other sizes are refused.
    fold : int
        Side of a token's window.
    width, depth, heads, hidden : int
        Length of a token, layers, heads of a layer, units between a layer's two linear ones.

    Raises
    ------
    ModelError
        If the width is no multiple of the heads; later, if maps are no ``(N, channels, side * fold,
        side * fold)``.

    Examples
    --------
    >>> network = TokenTransformer(8, classes=3, side=4, width=16, depth=2, heads=2, hidden=16)
    >>> scores, attentions = network.attend(torch.rand(2, 8, 8, 8))
    >>> scores.shape, len(attentions), attentions[0].shape
    (torch.Size([2, 3]), 2, torch.Size([2, 2, 17, 17]))
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        side: int = 10,
        fold: int = 2,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.channels, self.side, self.fold = channels, side, fold
        self.embed = nn.Linear(channels * fold**2, width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, side**2, width))
        self.blocks = nn.Sequential(*(Block(width, heads, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def tokens(self, maps: torch.Tensor) -> torch.Tensor:
        """``(N, 1 + side^2, width)``, the class token first, of maps ``(N, C, h, w)``.

        A ``ModelError`` if there are other channels, or ``h`` and ``w`` are not ``side * fold``.
        """
        _check_maps(maps, self.channels)
        n, wanted = len(maps), self.side * self.fold
        if maps.shape[2:] != (wanted, wanted):
            raise ModelError(
                f"Its positions are learnt for {wanted} x {wanted} places, not for "
                f"{maps.shape[2]} x {maps.shape[3]}: give photos of the size it was taught with."
            )
        windows = F.pixel_unshuffle(maps, self.fold).flatten(2).transpose(1, 2)
        tokens = self.embed(windows) + self.places
        return torch.cat([self.class_token.expand(n, -1, -1), tokens], dim=1)

    def attend(self, maps: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Scores ``(N, classes)``, and each layer's attention ``(N, heads, T, T)``."""
        tokens, attentions = self.tokens(maps), []
        for block in self.blocks:
            tokens, attention = block.attend(tokens)
            attentions.append(attention)
        return self.read(tokens), attentions

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Scores ``(N, classes)``, from the class token behind the last layer."""
        return self.head(self.norm(tokens[:, 0]))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Scores ``(N, classes)`` from feature maps ``(N, C, side * fold, side * fold)``."""
        return self.read(self.blocks(self.tokens(maps)))


def _as_map(row: torch.Tensor) -> torch.Tensor:
    """What a class token has of each place ``(N, side^2)``, as ``(N, side, side)``."""
    side = round(row.shape[1] ** 0.5)
    if side**2 != row.shape[1]:
        raise ModelError(
            f"{row.shape[1]} tokens and one for the class are not the places of a square."
        )
    return row.reshape(-1, side, side)


def _what(value: object) -> str:
    """A tensor's shape, and its dtype if that is none of floats; or what else it is."""
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    return f"{tuple(value.shape)}{'' if value.is_floating_point() else f' of {value.dtype}'}"


def _checked(attentions: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The layers' attentions, if they are; else a ``ModelError``. See :func:`rollout`."""
    attentions = list(attentions)
    tensors = [
        a
        for a in attentions
        if isinstance(a, torch.Tensor) and a.is_floating_point() and a.ndim == 4 and a.numel()
    ]
    kinds = {(len(a), *a.shape[2:], a.dtype, a.device) for a in tensors}
    if not (
        len(kinds) == 1
        and len(tensors) == len(attentions)
        and tensors[0].shape[2] == tensors[0].shape[3] > 1
    ):
        raise ModelError(
            "Expected each layer's attention, (N, heads, T, T) with T > 1 and the class token "
            "first, of the same photos, floats of one dtype and on one device; got "
            f"{', '.join(dict.fromkeys(map(_what, attentions))) or 'none'}."
        )
    for one in attentions:
        check_finite(one, "The attentions hold")
        # in half precision the shares are rounded
        if one.min() < 0 or (one.detach().float().sum(dim=-1) - 1).abs().max() > 1e-2:
            raise ModelError(
                "Each row of an attention holds shares, which are >= 0 and have the sum 1; here "
                "are others. Take what is behind the softmax, without dropout and not transposed."
            )
    return attentions


def rollout(attentions: Sequence[torch.Tensor]) -> torch.Tensor:
    r"""Attention rollout (Abnar and Zuidema 2020): what reaches the class token by attention.

    A layer passes on ``(A + I) / 2``, half of it along the skip connection, ``A`` being the mean
    over the heads; the layers' matrices are multiplied. No class is asked.

    Parameters
    ----------
    attentions : sequence of torch.Tensor
        Of each layer, the first one first: ``(N, heads, T, T)``, the class token being token 0 of
        T; each row is >= 0, with the sum 1. Layers may differ in their heads.

    Raises
    ------
    ModelError
        If the attentions are others, hold NaN, or the T - 1 places are not those of a square.

    Returns
    -------
    torch.Tensor
        ``(N, side, side)``, >= 0, without a graph; with the class token's own share the sum is 1.
    """
    attentions = _checked(attentions)
    flow = torch.eye(attentions[0].shape[-1]).to(attentions[0])
    for attention in attentions:
        mean = attention.detach().mean(dim=1)
        flow = (mean + torch.eye(len(mean[0])).to(mean)) / 2 @ flow
    return _as_map(flow[:, 0, 1:])


def relevance(attentions: Sequence[torch.Tensor], score: torch.Tensor) -> torch.Tensor:
    r"""Attention, weighed by the gradient of a class score (Chefer, Gur and Wolf 2021).

    ``R`` begins as the identity; each layer adds ``\bar{A} R`` to it, where ``\bar{A}`` is the mean
    over the heads of the positive part of attention times gradient (their equations 5 and 6).

    Parameters
    ----------
    attentions : sequence of torch.Tensor
        As for :func:`rollout`, with the graph they were computed in.
    score : torch.Tensor
        The scores to ask about, one a photo, ``(N,)``, with that graph, which stays. To ask inside
        ``torch.no_grad`` is fine, to attend or to take the score there is not.

    Raises
    ------
    ModelError
        As :func:`rollout`. If there is not one score a photo; if the attentions have no graph, or
        none leads to them from the score; if score or gradients are NaN or infinite.

    Returns
    -------
    torch.Tensor
        ``(N, side, side)``, >= 0, without a graph.
    """
    attentions = _checked(attentions)
    photos = len(attentions[0])
    if not isinstance(score, torch.Tensor) or score.shape != (photos,):
        raise ModelError(
            f"Expected one score a photo, ({photos},), got {_what(score)}: "
            "scores.gather(1, classes[:, None])[:, 0]."
        )
    check_finite(score, "The scores hold")
    if not all(attention.requires_grad for attention in attentions):
        raise ModelError(
            "The attentions have no gradient: attend outside torch.no_grad, to feature maps that "
            "require one (maps.requires_grad_())."
        )
    try:  # given ones, as a sum made inside torch.no_grad would have no graph
        gradients = torch.autograd.grad(
            score, attentions, torch.ones_like(score), retain_graph=True
        )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ModelError(
            "No graph leads from the score to these attentions: take both from one and the same "
            "call of attend, outside torch.no_grad, and do not detach them. After backward(), "
            f"attend anew. ({error})"
        ) from error
    total = torch.eye(attentions[0].shape[-1]).to(attentions[0]).repeat(photos, 1, 1)
    for attention, gradient in zip(attentions, gradients, strict=True):
        check_finite(gradient, "The gradients of the attentions hold")
        total = total + (attention * gradient).detach().clamp(min=0).mean(dim=1) @ total
    return _as_map(total[:, 0, 1:])


class OnFeatures(nn.Module):
    """From photos to scores: the first layers of a VGG, frozen, and a head on their maps."""

    def __init__(self, features: nn.Sequential, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores ``(N, classes)`` of photos ``(N, 3, H, W)``."""
        return self.head(self.features(x))


#: The heads by name: their class, and which of VGG-16's five poolings ends the features (counted
#: from 0), and whether these go on through that pooling.
HEADS = {"pooling": (AttentionPooling, 4, False), "transformer": (TokenTransformer, 2, True)}


def features_below(network: nn.Module, name: str) -> nn.Sequential:
    """The layers of a VGG-16 that one of :data:`HEADS` stands on; the weights are shared."""
    _, pooling, through = HEADS[name]
    poolings = [i for i, step in enumerate(network.features) if isinstance(step, nn.MaxPool2d)]
    return network.features[: poolings[pooling] + through]


def load_attention(name: str, device: str | None = None, assets: Path = ASSETS) -> Model:
    """A network that attends, on the features of the embedded one.

    Its ``network.features`` are the embedded network's first layers, its ``network.head`` an
    :class:`AttentionPooling`, in front of the last pooling, or a :class:`TokenTransformer`, behind
    the third. Classes and preprocessing are the embedded network's.

    Parameters
    ----------
    name : {"pooling", "transformer"}
        Which head.
    device : str, optional
        See :func:`helpers.choose_device`.
    assets : Path, optional
        Another folder with the heads' two files, :data:`WEIGHTS` and :data:`CARD`.

    Raises
    ------
    ModelError
        If there is no such head, or the device is none of this machine.
    ModelUnavailable
        If weights are missing or damaged, do not fit their card, or the heads were taught on other
        features.

    Examples
    --------
    >>> from helpers import load_attention, sample
    >>> model = load_attention("pooling", device="cpu")
    >>> x = model.prepare(sample("chelsea"))
    >>> model.network(x).shape, model.network.head.attention(model.network.features(x)).ndim
    (torch.Size([1, 108]), 3)
    """
    if name not in tuple(HEADS):  # a list, too, is none of them
        raise ModelError(f"There is no head {name!r}; choose one of {', '.join(HEADS)}.")
    facts, weights = read_weights(assets / WEIGHTS.name, assets / CARD.name)
    model = load_model("embedded", device)
    try:
        taught_on = facts["features_sha256"]
        head, start = HEADS[name][0](**facts["heads"][name]["architecture"]), f"{name}/"
        head.load_state_dict(
            {key.removeprefix(start): v for key, v in weights.items() if key.startswith(start)}
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelUnavailable(
            f"{CARD.name} does not fit {WEIGHTS.name}; install the package again, or teach the "
            "heads anew: python -m training.attention."
        ) from error
    if taught_on != json.loads(FEATURES_CARD.read_text())["sha256"]:
        raise ModelUnavailable(
            "The embedded network has other weights than when the heads were taught; teach them "
            "anew: python -m training.attention."
        )
    network = OnFeatures(features_below(model.network, name), head.to(model.device)).eval()
    return replace(model, name=f"attention {name}", network=network)
