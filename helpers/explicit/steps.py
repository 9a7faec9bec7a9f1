"""Every layer of a VGG-style network, both ways: what it notes on the way up, and how it goes down.

====================  ==============================  =================================
layer                 noted on the way up             on the way down
====================  ==============================  =================================
3x3 convolution       the shape of its input          transposed convolution, same weight
ReLU                  where its input was positive    the method's rule (`relu_down`)
2x2 max-pooling       the switches                    unpooling: back to the switches
average pooling       the shape of its input          each value spread over its window
flattening            the shape of its input          that shape again
fully connected       --                              the transposed matrix
====================  ==============================  =================================

Everything but the ReLU is the exact adjoint of the layer (of max-pooling, with its switches held).
No autograd is used anywhere in this file.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import ModelError


class Step(nn.Module):
    """One layer, both ways.

    ``up(x)`` gives what the layer gives, and a note for the way down; ``down(signal, note, rule)``
    the signal that goes on below. Only a ReLU asks the rule.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def train(self, mode: bool = True):
        self.training = mode  # the layer's mode is its network's business
        return self

    def up(self, x):
        return self.layer(x), x.shape


class Convolution(Step):
    """A convolution up; down, a transposed convolution whose weight *is* the convolution's.

    ``Conv2d`` stores its weight as (out, in, kh, kw), ``ConvTranspose2d`` as (in, out, kh, kw)
    *of its own direction*, whose "in" is the convolution's "out": the same tensor fits both,
    unflipped and unpermuted. There is no bias on the way down: the adjoint of ``Wx + b`` is
    ``W^T``, whatever ``b``.

    The weight is read when it is used. An ``nn.ConvTranspose2d`` would hold on to the parameter
    that it was given, when the convolution has another by now (``load_state_dict(...,
    assign=True)``), and could not hold a weight that is computed (weight norm, pruning).
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ModelError(
                f"Only convolutions with a number of zeros as padding can be undone, got {conv}."
            )

    def down(self, signal, shape, rule):
        conv = self.layer
        # with a stride, the last places may lie beyond all windows; nothing comes back to them
        beyond = [
            (side + 2 * pad - dilation * (kernel - 1) - 1) % stride
            for side, kernel, stride, pad, dilation in zip(
                shape[2:], conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True
            )
        ]
        return F.conv_transpose2d(
            signal, conv.weight, None, conv.stride, conv.padding, beyond, conv.groups, conv.dilation
        )


class Rectifier(Step):
    """A ReLU up; down, whatever the method's rule says."""

    def up(self, x):
        return x.relu(), x > 0

    def down(self, signal, mask, rule):
        return rule(signal, mask)


class Pooling(Step):
    """Max-pooling up, which notes the switches; down, unpooling to the switches, zero elsewhere.

    A scatter into zeros does the same, as windows do not overlap and no two values meet. It stands
    in for ``nn.MaxUnpool2d`` where PyTorch does not allow that
    (``torch.use_deterministic_algorithms(True)``), and in an export to ONNX, where it is one
    ``ScatterElements`` in place of a ``ScatterND`` and the arithmetic of its indices.
    """

    def __init__(self, pool: nn.MaxPool2d) -> None:
        windows = pool.kernel_size, pool.stride, pool.padding
        super().__init__(nn.MaxPool2d(*windows, ceil_mode=pool.ceil_mode, return_indices=True))
        self.unpool = nn.MaxUnpool2d(*windows)
        # MaxUnpool2d has made pairs of them
        if self.unpool.kernel_size != self.unpool.stride or pool.dilation not in (1, (1, 1)):
            # where windows overlap one place may win twice, and unpooling would keep one of the two
            raise ModelError(
                f"Only max-pooling with windows side by side can be unpooled, got {pool}."
            )

    def up(self, x):
        pooled, switches = self.layer(x)
        return pooled, (switches, x.shape)

    def down(self, signal, note, rule):
        switches, shape = note
        if torch.compiler.is_compiling() or torch.are_deterministic_algorithms_enabled():
            zeros = signal.new_zeros(*shape[:2], shape[2] * shape[3])
            return zeros.scatter_(2, switches.flatten(2), signal.flatten(2)).view(shape)
        return self.unpool(signal, switches, output_size=shape[-2:])


class AveragePooling(Step):
    """Adaptive average pooling up; down, every value shared out evenly over its window."""

    @staticmethod
    def windows(size: int, pooled: int, like: torch.Tensor) -> torch.Tensor:
        """The averaging matrix ``(pooled, size)`` of one axis: row i is 1/n on window i."""
        identity = torch.eye(size, dtype=like.dtype, device=like.device)
        return F.adaptive_avg_pool1d(identity, pooled).T

    def down(self, signal, shape, rule):
        rows = self.windows(shape[-2], signal.shape[-2], signal)
        columns = self.windows(shape[-1], signal.shape[-1], signal)
        return rows.T @ signal @ columns


class Flattening(Step):
    """``(N, C, h, w)`` to ``(N, C*h*w)`` up, and back down."""

    def down(self, signal, shape, rule):
        return signal.reshape(-1, *shape[1:])


class FullyConnected(Step):
    """``W x + b`` up; down, ``W^T s`` with the same ``W``."""

    def down(self, signal, shape, rule):
        return signal @ self.layer.weight


class Nothing(Step):
    """Dropout and identity: nothing happens when a network is asked rather than trained."""

    def up(self, x):
        return x, None

    def down(self, signal, note, rule):
        return signal


#: The layers that have a way back here.
STEPS: dict[type[nn.Module], type[Step]] = {
    nn.Conv2d: Convolution,
    nn.ReLU: Rectifier,
    nn.MaxPool2d: Pooling,
    nn.AdaptiveAvgPool2d: AveragePooling,
    nn.Flatten: Flattening,
    nn.Linear: FullyConnected,
    nn.Dropout: Nothing,
    nn.Identity: Nothing,
}


def step_for(layer: nn.Module) -> Step:
    """The two-way step for one layer of the network.

    Raises
    ------
    ModelError
        If the layer has no way back here.
    """
    for kind, step in STEPS.items():
        if isinstance(layer, kind):
            return step(layer)
    advice = (
        "These methods need a VGG-style network: convolutions, ReLUs, max-poolings and fully "
        "connected layers, as modules, one behind the other."
    )
    if isinstance(layer, nn.BatchNorm2d):
        advice = (
            "Fold the batch normalisation into the convolutions first: "
            "helpers.fold_batch_norm(network)."
        )
    raise ModelError(f"{type(layer).__name__} has no way back here. {advice}")


def laid_out(x: torch.Tensor) -> torch.Tensor:
    """The same values in the memory layout that the CPU convolves fastest; elsewhere as they are.

    With the channels innermost (``channels_last``) no signal has to be reordered, and max-pooling
    takes a fraction of the time; but the weights have to be, which costs more where a signal has
    many channels and few places.
    """
    if x.ndim != 4 or x.device.type != "cpu":
        return x
    places = x.numel() // x.shape[1]
    return x.contiguous(
        memory_format=torch.channels_last if places > 2 * x.shape[1] else torch.contiguous_format
    )
