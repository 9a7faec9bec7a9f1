"""Whether the steps of a network compute what the network does, so that no map is silently wrong.

Three things are tried, on a small photo and on noise:

- A layer with weights (or an average pooling) goes down by the adjoint of what it really computes,
  ``<L v, y> = <v, L^T y>``. Else it has a forward of its own (it standardises its weight, say) or a
  hook, and the weight does not lead back through it.
- Any other layer gives what its step gives, for large numbers, too.
- The network's scores are those of its steps, one behind the other. Else there is more between
  them: a functional ReLU, a skip connection.

All of it is done layer by layer in the network's own dtype, without a copy of a weight. A
comparison of whole maps would need float64: in float32 the rounding of two values that nearly tie
moves a switch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from ..checks import SMALLEST_SIDE, check_finite
from ..errors import ASK_ANY, ModelError
from ..targets import floats_of
from .steps import AveragePooling, Convolution, FullyConnected, Step, laid_out

#: Steps whose way down is held against their way up by the dot-product test.
AFFINE = (Convolution, AveragePooling, FullyConnected)


def check_steps(network: nn.Module, layers: Mapping[str, nn.Module], steps: Iterable[Step]) -> None:
    """A ``ModelError`` unless the steps, one for each of the named layers, are the network."""
    name = type(network).__name__
    x, want = first_answer(network)
    for step, (where, layer) in zip(steps, layers.items(), strict=True):
        try:
            out, _ = step.up(laid_out(x))
            affine = isinstance(step, AFFINE)
            right = is_adjoint(step, x) if affine else does_the_same(step, layer, x)
        except Exception as error:
            raise ModelError(
                f"{where} of {name}, a {type(layer).__name__}, does not go with what comes "
                f"before it: {error}"
            ) from error
        check_finite(out, f"{where} of {name} gives")
        if not right:
            raise ModelError(
                f"{where} of {name}, a {type(layer).__name__}, does not compute what its kind of "
                "layer does (a forward of its own, or a hook?), so no way back through it is "
                f"known here. Ask the network by {ASK_ANY}."
            )
        x = out
    if not agree(want, x):
        raise ModelError(
            f"{name} computes more than its modules show (a functional ReLU such as F.relu, or a "
            "skip connection?). Replace function calls by modules (nn.ReLU), or ask it by "
            f"{ASK_ANY}."
        )


def first_answer(network: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """A small photo, and the network's scores for it; of several sizes the first that it takes.

    Raises ``ModelError`` if it takes none.
    """
    like = floats_of(network)
    for side in (SMALLEST_SIDE, 64, 224):  # some classifiers fit one size only
        x = probe(side).to(like)
        try:
            return x, network(x.clone())
        except Exception as error:
            reason = error
    raise ModelError(
        f"{type(network).__name__} fails on photos of 32, 64 and 224 pixels a side: {reason}"
    ) from reason


def is_adjoint(step: nn.Module, like: torch.Tensor) -> bool:
    """Whether an affine step for inputs such as ``like`` goes down by the adjoint of its way up.

    The dot-product test: ``<L v, y> = <v, L^T y>`` for the step's linear part ``L``, a random
    signal ``y``, and the differences ``v`` of a random input to two others, in which constants fall
    out. One of these is large, for what a layer does beyond a limit. The inputs have at least 6 x 7
    places, so that a kernel meets more than the border.
    """
    random = torch.Generator().manual_seed(0)
    places = (max(side, least) for side, least in zip(like.shape[2:], (6, 7), strict=False))
    x = torch.randn((3, like.shape[1], *places), generator=random).to(like)
    x[2:] *= large(like)
    out, noted = step.up(laid_out(x))
    signal = torch.randn((1, *out.shape[1:]), generator=random).to(like)
    down = step.down(laid_out(signal), noted, None)
    x, out, signal, down = (t.cpu().double() for t in (x, out, signal, down))
    above, below = ((t[:1] - t[1:]).flatten(1) for t in (out, x))
    above, below = above * signal.flatten(1), below * down.flatten(1)
    # of what has been rounded
    size = (out[:1].norm() + out[1:].flatten(1).norm(dim=1)) + below.norm(dim=1)
    return bool(((above.sum(1) - below.sum(1)).abs() <= rounding(like) * size).all())


def does_the_same(step: nn.Module, layer: nn.Module, like: torch.Tensor) -> bool:
    """Whether a layer gives what its step gives, for ``like`` and for large random numbers."""
    random = torch.Generator().manual_seed(0)
    wide = large(like) * torch.randn(like.shape, generator=random).to(like)
    return all(agree(layer(x.clone()), step.up(laid_out(x))[0]) for x in (like, wide))


def large(like: torch.Tensor) -> float:
    """A number larger than what flows in networks, of which sums fit the dtype of ``like``."""
    return 1e4 if torch.finfo(like.dtype).max > 1e30 else 10.0


def rounding(x: torch.Tensor) -> float:
    """What rounding may amount to, as a share, in layers that work in the dtype of ``x``."""
    if x.dtype == torch.float64:
        return 1e-10
    # other devices may multiply float32 with the ten bits of TF32
    return 1e-4 if x.dtype == torch.float32 and x.device.type == "cpu" else 2e-2


def agree(want: torch.Tensor, got: torch.Tensor) -> bool:
    """Whether two results are the same but for rounding."""
    if not isinstance(want, torch.Tensor) or want.shape != got.shape:
        return False
    return bool((want - got).abs().max() <= rounding(got) * want.abs().max())


def probe(size: int) -> torch.Tensor:
    """A photo ``(1, 3, size, size)`` to try a network on: waves from -1 to 1, always the same."""
    return torch.linspace(-2, 2, 3 * size * size).sin().reshape(1, 3, size, size)
