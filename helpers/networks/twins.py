"""Pictures whose answer is known, and small networks that were taught to read them.

A picture shows two digits on noise. One is red and one is blue, one stands on the left and one on
the right; kind, colour and place are drawn independently. So there are four questions (which digit
is red, blue, on the left, on the right?), and for each of them one digit decides and the other must
not matter. Twins are networks that saw the same pictures and were taught different questions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from ..errors import ModelError
from .models import ASSETS, read_weights
from .vgg import vgg_features

WEIGHTS = ASSETS / "twins.safetensors"
CARD = ASSETS / "twins.json"

#: Side of a picture in pixels; each digit stays in its half.
SIDE = 48
HALF = SIDE // 2
#: Pixels around a digit that its box includes.
MARGIN = 2

#: What decides: the digit of this colour, or at this place.
QUESTIONS = ("red", "blue", "left", "right")
#: The networks by what they were taught. The last two learnt 1,000 pictures by heart: the red
#: digits, and labels drawn at random.
TWINS = (*QUESTIONS, "true labels", "random labels")
SEEDS = (0, 1, 2)

#: Each digit is one line through points on a grid of 5 x 7, written as column and row.
STROKES = (
    "10 30 41 45 36 16 05 01 10",
    "02 20 26",
    "01 10 30 41 42 06 46",
    "01 10 30 41 42 33 44 45 36 16 05",
    "36 30 04 44",
    "40 00 03 33 44 45 36 06",
    "40 20 02 05 16 36 45 44 33 03",
    "00 40 16",
    "33 42 41 30 10 01 02 13 33 44 45 36 16 05 04 13",
    "06 26 44 41 30 10 01 02 13 43",
)

#: Red and blue as (R, G, B) in [0, 1].
TINTS = torch.tensor([[0.95, 0.25, 0.20], [0.20, 0.40, 0.95]])


class Pictures(NamedTuple):
    """N pictures and the truth about them.

    pixels : ``(N, 3, 48, 48)`` float32 in [0, 1].
    digits : ``(N, 2)`` int64, the digit on the left and the one on the right.
    red : ``(N,)`` int64, which of the two is red; the other one is blue.
    ink : ``(N, 2, 48, 48)`` bool, the pixels that each digit covers.
    """

    pixels: torch.Tensor
    digits: torch.Tensor
    red: torch.Tensor
    ink: torch.Tensor

    @property
    def x(self) -> torch.Tensor:
        """What the networks get: the pixels, from -1 to 1."""
        return 2 * self.pixels - 1

    @property
    def boxes(self) -> torch.Tensor:
        """``(N, 2, 4)`` int64: each digit's box, left, top, right, bottom, the last two exclusive.

        It includes a margin of two pixels and stays in its half.
        """
        columns, rows = self.ink.any(dim=2).int(), self.ink.any(dim=3).int()
        start = torch.tensor([0, HALF])
        left = (columns.argmax(dim=2) - MARGIN).maximum(start)
        right = (SIDE - columns.flip(2).argmax(dim=2) + MARGIN).minimum(start + HALF)
        top = (rows.argmax(dim=2) - MARGIN).clamp(min=0)
        bottom = (SIDE - rows.flip(2).argmax(dim=2) + MARGIN).clamp(max=SIDE)
        return torch.stack([left, top, right, bottom], dim=2)

    def place(self, question: str) -> torch.Tensor:
        """``(N,)`` int64: 0 where the digit on the left decides this question, else 1.

        A question that is none of :data:`QUESTIONS` is a ``ModelError``.
        """
        if question not in QUESTIONS:
            raise ModelError(
                f"There is no question {question!r}; choose one of {', '.join(QUESTIONS)}."
            )
        left = torch.zeros_like(self.red)
        return dict(zip(QUESTIONS, (self.red, 1 - self.red, left, left + 1), strict=True))[question]

    def answers(self, question: str) -> torch.Tensor:
        """``(N,)`` int64: the digit that decides this question."""
        return self.digits.gather(1, self.place(question)[:, None])[:, 0]


def lines() -> torch.Tensor:
    """:data:`STROKES` as ``(10, 16, 2)`` float32, x and y around (0, 0).

    A shorter line goes on in its last point.
    """
    points = [[[float(x), float(y)] for x, y in stroke.split()] for stroke in STROKES]
    longest = max(map(len, points))
    padded = [line + line[-1:] * (longest - len(line)) for line in points]
    return (torch.tensor(padded) - torch.tensor([2.0, 3.0])).float()


def distance_to(line: torch.Tensor) -> torch.Tensor:
    """How far pixels' centres are from a line through K points ``(N, K, 2)``: ``(N, 48, 24)``."""
    down, across = (torch.arange(side, dtype=torch.float32) + 0.5 for side in (SIDE, HALF))
    down = down[:, None]
    nearest = torch.full((len(line), SIDE, HALF), torch.inf, dtype=torch.float32)
    for start, end in zip(line.unbind(1), line[:, 1:].unbind(1), strict=False):
        x, y = start[:, :, None, None].unbind(1)
        dx, dy = (end - start)[:, :, None, None].unbind(1)
        along = ((across - x) * dx + (down - y) * dy) / (dx * dx + dy * dy + 1e-6)
        along.clamp_(0, 1)
        away = (across - x - along * dx).square_() + (down - y - along * dy).square_()
        nearest = torch.minimum(nearest, away)
    return nearest.sqrt()


def two_digits(n: int, seed: int = 0, digits: torch.Tensor | None = None) -> Pictures:
    """Draw N pictures; the same ones for the same seed.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        Of everything that is random: kind, colour, place, size, turn, wobble, line width, noise.
    digits : torch.Tensor, optional
        ``(N, 2)`` whole numbers from 0 to 9, to choose the digits; else each is any of the ten.

    Raises
    ------
    ValueError
        If there is no picture to draw, or ``digits`` are others.

    Examples
    --------
    >>> pictures = two_digits(2, seed=1)
    >>> len(pictures[0])
    2
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float32)

    if n < 1:
        raise ValueError(f"At least one picture has to be drawn, got {n}.")
    drawn = torch.randint(10, (n, 2), generator=generator)
    digits = drawn if digits is None else torch.as_tensor(digits)
    known = not digits.is_floating_point() and ((digits >= 0) & (digits < 10)).all()
    if digits.shape != (n, 2) or not known:
        raise ValueError(f"Expected {n} pairs of digits from 0 to 9, got {digits}.")
    digits, red = digits.long(), torch.randint(2, (n,), generator=generator)
    colours = TINTS[torch.stack([red, 1 - red], dim=1)] + uniform(-0.15, 0.15, n, 2, 3)

    # each digit with a hand of its own: every point moved a little, then scaled, turned, put down
    points = lines()[digits]
    points = points + uniform(-0.35, 0.35, *points.shape)
    points = points * uniform(2.2, 2.7, n, 2, 1, 2)
    angle = uniform(-0.25, 0.25, n, 2)
    sine, cosine = angle.sin(), angle.cos()
    turn = torch.stack([cosine, -sine, sine, cosine], dim=2).view(n, 2, 2, 2)
    centre = torch.stack([uniform(11, 13, n, 2), uniform(13, SIDE - 13, n, 2)], dim=2)
    points = points @ turn + centre[:, :, None]
    reach = uniform(1.5, 2.1, n, 2, 1, 1)

    pixels = 0.45 + 0.15 * torch.randn(n, 3, SIDE, SIDE, generator=generator, dtype=torch.float32)
    ink = torch.zeros(n, 2, SIDE, SIDE, dtype=torch.float32)
    for place in (0, 1):
        half = slice(place * HALF, place * HALF + HALF)
        cover = (reach[:, place] - distance_to(points[:, place])).clamp(0, 1)  # soft at its edge
        ink[:, place, :, half] = cover
        grain = 0.1 * torch.randn(n, 3, SIDE, HALF, generator=generator, dtype=torch.float32)
        paint = colours[:, place, :, None, None] + grain
        pixels[..., half] += cover[:, None] * (paint - pixels[..., half])
    return Pictures(pixels.clamp_(0, 1), digits, red, ink > 0)


class Twin(nn.Module):
    """The first three blocks of VGG-11 (Simonyan & Zisserman 2015), a few channels wide.

    Laid out as :class:`torchvision.models.VGG`, so every method takes it. ``batch_norm`` is for
    training only; :func:`helpers.fold_batch_norm` takes it away.
    """

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__()
        self.features = vgg_features(((12, 1), (24, 1), (32, 2)), batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(
            nn.Linear(32 * 4, 32), nn.ReLU(inplace=True), nn.Linear(32, 10)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores ``(N, 10)``, one a digit, of pictures ``(N, 3, H, W)`` from -1 to 1."""
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def load_twin(name: str, seed: int = 0) -> Twin:
    """One of :data:`TWINS`, in eval mode, float32, on the CPU.

    Networks of one seed began with the same weights and saw the same pictures in the same order.

    Raises
    ------
    ModelError
        If there is no such network; the message names what there is.
    ModelUnavailable
        If the weights are missing or damaged.

    Examples
    --------
    >>> from helpers import load_twin
    >>> load_twin("true labels").training
    False
    """
    if name not in TWINS or seed not in SEEDS:
        raise ModelError(
            f"There is no twin {name!r} of seed {seed}; choose one of {', '.join(TWINS)}, "
            f"and a seed from {SEEDS[0]} to {SEEDS[-1]}."
        )
    _, weights = read_weights(WEIGHTS, CARD)
    network, start = Twin(), f"{name}/{seed}/"
    network.load_state_dict(
        {key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}
    )
    return network.float().eval()
