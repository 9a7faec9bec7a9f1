"""Randomised copies of a network: the sanity check of Adebayo et al. (2018)."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn


def weighted_layers(network: nn.Module) -> list[str]:
    """Names of the layers with weights (convolutions and linear), the last registered first.

    In a network that registers its layers in their order, that is the classifier's last one.

    Examples
    --------
    >>> from helpers import load_model
    >>> weighted_layers(load_model().network)[:2]
    ['classifier.6', 'classifier.3']
    """
    return [
        name for name, part in network.named_modules() if isinstance(part, (nn.Conv2d, nn.Linear))
    ][::-1]


@torch.no_grad()
def randomise(network: nn.Module, layers: list[str], seed: int = 0) -> nn.Module:
    """A copy of the network in which the named layers are drawn anew; the network is left as it is.

    Weights are normal with variance 2 / inputs (He et al. 2015), so that strengths survive the
    ReLUs; biases are zero. A layer gets the same numbers for the same seed, whichever others are
    drawn with it, so a cascade differs from step to step in one layer only.

    Raises
    ------
    ValueError
        If the network has no convolution or linear layer of that name; or a copy would not be drawn
        anew: the layer's weight is computed from others, a part has a forward of its own, or the
        network keeps what was computed.

    Examples
    --------
    >>> from helpers import load_model
    >>> network = load_model().network
    >>> other = randomise(network, ["classifier.6"])
    >>> (other.classifier[6].weight == network.classifier[6].weight).any().item()
    False
    """
    known = weighted_layers(network)
    unknown = [name for name in layers if name not in known]
    if unknown:
        raise ValueError(
            f"No layer with weights is called {', '.join(unknown)}; there are {', '.join(known)}."
        )
    for name in layers:
        if "weight" not in network.get_submodule(name)._parameters:
            raise ValueError(
                f"The weight of {name} is computed from others (pruning, weight norm). Make it a "
                "plain one first: prune.remove, remove_parametrizations."
            )
    try:
        clone = copy.deepcopy(network)
    except RuntimeError as error:
        raise ValueError(
            f"{type(network).__name__} cannot be copied, as it keeps what was computed (a pruned "
            f"weight, its last answer): {error}"
        ) from error
    for name, part in clone.named_modules():
        forward = vars(part).get("forward")  # a function, which still knows the original
        if forward is not None and getattr(forward, "__self__", None) is not part:
            raise ValueError(
                f"{name or type(part).__name__} has a forward of its own, by which a copy would "
                "ask the original. Write it as a class."
            )
    for name in layers:
        layer = clone.get_submodule(name)
        # drawn on the CPU, for the same numbers on every device
        generator = torch.Generator().manual_seed(1000 * seed + known.index(name))
        weight = torch.empty(layer.weight.shape, dtype=torch.float32)
        layer.weight.copy_(nn.init.kaiming_normal_(weight, generator=generator))
        if layer.bias is not None:
            layer.bias.zero_()
    return clone


def cascade(network: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Randomise from the classifier downwards: ``(layer, copy with all down to it anew)``.

    Examples
    --------
    >>> from helpers import load_model
    >>> len(list(cascade(load_model().network)))
    16
    """
    names = weighted_layers(network)
    for depth, name in enumerate(names, 1):
        yield name, randomise(network, names[:depth], seed)


def independent(network: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Randomise one at a time, the classifier's last first: ``(layer, copy with it anew)``.

    Examples
    --------
    >>> from helpers import load_model
    >>> [layer for layer, _ in independent(load_model().network)][-1]
    'features.0'
    """
    for name in weighted_layers(network):
        yield name, randomise(network, [name], seed)
