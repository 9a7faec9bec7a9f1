"""Randomised copies: the right layers change, and the network itself never does."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from helpers import cascade, independent, randomise, weighted_layers

from .comparing import assert_close
from .networks import narrow


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 64, 3),
        nn.Flatten(),
        nn.Linear(64, 300, bias=False),
    )


def changed(network, other):
    return [
        n
        for n in weighted_layers(network)
        if not torch.equal(network.get_submodule(n).weight, other.get_submodule(n).weight)
    ]


def test_from_the_classifier_downwards(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert [(name, changed(network, copy)) for name, copy in cascade(network)] == [
        ("4", ["4"]),
        ("2", ["4", "2"]),
        ("0", ["4", "2", "0"]),
    ]
    assert [(name, changed(network, copy)) for name, copy in independent(network)] == [
        ("4", ["4"]),
        ("2", ["2"]),
        ("0", ["0"]),
    ]
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
    ],
)
def test_computed_weights_are_refused_as_drawing_anew_would_change_nothing(network, change):
    change(network[2])
    if parametrize.is_parametrized(network[2]):
        assert changed(network, randomise(network, ["0"])) == ["0"]
    else:
        with pytest.raises(ValueError, match="Sequential cannot be copied, as it keeps"):
            randomise(network, ["0"])
    with pytest.raises(ValueError, match="weight of 2 is computed from others.*prune.remove"):
        randomise(network, ["0", "2"])


def test_a_forward_that_asks_the_original_is_refused(network):
    x = torch.randn(1, 3, 5, 5)
    assert not torch.equal(network(x), randomise(network, ["4"])(x))
    original = network.forward
    network.forward = lambda x: original(x) + 0
    with pytest.raises(ValueError, match="Sequential has a forward of its own"):
        randomise(network, ["4"])


def test_same_seed_same_numbers_alone_or_together(network):
    alone, together = randomise(network, ["2"]), randomise(network, ["4", "2"])
    assert torch.equal(alone[2].weight, together[2].weight)
    assert not torch.equal(alone[2].weight, randomise(network, ["2"], seed=1)[2].weight)


def test_layers_of_one_shape_get_numbers_of_their_own():
    twins = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    drawn = [
        layer.weight
        for seed in range(3)
        for layer in randomise(twins, weighted_layers(twins), seed)
    ]
    assert len(drawn) == 6 and not any(map(torch.equal, drawn, drawn[1:]))
    assert len({weight.sum().item() for weight in drawn}) == 6


@pytest.mark.parametrize("walk", [cascade, independent])
def test_each_way_takes_its_seed(network, walk):
    for (name, one), (_, other) in zip(walk(network, 1), walk(network, 2), strict=True):
        assert not torch.equal(one.get_submodule(name).weight, other.get_submodule(name).weight)
        again = randomise(network, [name], 1).get_submodule(name).weight
        assert torch.equal(one.get_submodule(name).weight, again)


def test_unless_told_the_seed_is_0():
    network = nn.Sequential(nn.Linear(8, 1))  # one output: its only row gives the variance
    want = randomise(network, ["0"], 0)[0].weight
    (_, first), (_, alone) = *cascade(network), *independent(network)
    for copy in (randomise(network, ["0"]), first, alone):
        assert torch.equal(copy[0].weight, want)
    assert not torch.equal(want, randomise(network, ["0"], 1)[0].weight)


def test_variance_is_he(network):
    drawn = randomise(network, ["4", "2"])
    assert drawn[4].weight.var().item() == pytest.approx(2 / 64, rel=0.05)
    assert drawn[2].weight.var().item() == pytest.approx(2 / 36, rel=0.1)
    assert drawn[4].weight.requires_grad and network[2].bias.any() and not drawn[2].bias.any()


def test_unknown_layers_are_named(network):
    with pytest.raises(ValueError, match="No layer .* 9; there are 4, 2, 0"):
        randomise(network, ["9"])


def test_the_numbers_are_those_of_every_version(network):
    """Chapter 6 tells of what they show: seed 1000 a draw, and the layer's place from the end."""
    for name, inputs, seed in (("4", 64, 3000), ("2", 36, 3001), ("0", 27, 3002)):
        weight = randomise(network, [name], seed=3).get_submodule(name).weight
        generator = torch.Generator().manual_seed(seed)
        want = torch.empty(weight.shape).normal_(0, (2 / inputs) ** 0.5, generator=generator)
        assert_close(weight, want)


def test_the_numbers_are_the_same_under_another_default_dtype():
    network = narrow()
    want = randomise(network, ["classifier.0"]).classifier[0].weight
    torch.set_default_dtype(torch.float64)
    try:
        got = randomise(network, ["classifier.0"]).classifier[0].weight
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(got, want) and not torch.equal(want, network.classifier[0].weight)
