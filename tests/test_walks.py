"""The explicit walks against captum and autograd, which know nothing of them."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from captum.attr import Deconvolution, Saliency
from captum.attr import GuidedBackprop as CaptumGuided
from torch import nn

from helpers import METHODS, Deconvnet, GuidedBackprop, check_classes, saliency

from .comparing import assert_close
from .networks import NETWORKS, for_captum, noise, replace_relus

ORACLES = {
    "gradient": lambda network: Saliency(network),
    "deconvnet": lambda network: Deconvolution(network),
    "guided": lambda network: CaptumGuided(network),
}
OPTIONS = {"gradient": {"abs": False}, "deconvnet": {}, "guided": {}}

pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting backward hooks", "ignore:Input Tensor 0 did not already"
)


def captum_map(network, x, classes, method):
    return (
        ORACLES[method](for_captum(network))
        .attribute(x.clone(), target=classes, **OPTIONS[method])
        .detach()
    )


def assert_same(ours, theirs, tolerance):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert theirs.abs().max() > 0
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@lru_cache(maxsize=1)
def in_float64(name):
    return NETWORKS[name]().double()


SMALL = [(32, 32), (33, 47), (75, 64), (97, 130)]
CASES = [
    (name, size) for name in NETWORKS for size in (SMALL[1:3] if name.startswith("vgg") else SMALL)
]


@pytest.mark.parametrize(
    "name, size",
    # the largest take long, and notice nothing that vgg11 does not
    [
        pytest.param(*case, marks=[pytest.mark.slow] if case[0] in ("vgg13", "vgg19") else [])
        for case in CASES
    ],
    ids=lambda v: v if isinstance(v, str) else f"{v[0]}x{v[1]}",
)
def test_each_walk_equals_captum_in_float64(name, size):
    network, x, classes = in_float64(name), noise(2, *size, dtype=torch.float64), [1, 4]
    for method in METHODS:
        assert_same(
            saliency(network, x, classes, method), captum_map(network, x, classes, method), 1e-9
        )


@pytest.mark.parametrize("method", METHODS)
def test_embedded_model_equals_captum(exact, method):
    (network, x), classes = exact, [5, 40, 107]
    assert_same(
        saliency(network, x, classes, method), captum_map(network, x, classes, method), 1e-9
    )


@pytest.mark.slow
def test_full_vgg16_equals_captum(full_vgg16):
    """In float64: in float32 two values of a window may lie within rounding.

    Then the layout in memory decides which wins.
    """
    network, x, classes = full_vgg16.double(), noise(2, 64, 80, dtype=torch.float64), [281, 967]
    try:
        for method in METHODS:
            assert_same(
                saliency(network, x, classes, method), captum_map(network, x, classes, method), 1e-9
            )
    finally:
        network.float()


def test_gradient_walk_equals_autograd(exact):
    network, x = exact
    leaf = x.clone().requires_grad_()
    (want,) = torch.autograd.grad(network(leaf)[:, 3].sum(), leaf)
    assert_same(saliency(network, x, 3, "gradient"), want, 1e-9)


class Rule(nn.Module):
    """A ReLU whose way back is written out here a second time."""

    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, x):
        y = torch.relu(x)
        rules = {
            "gradient": lambda g: torch.where(x > 0, g, 0),
            "deconvnet": lambda g: torch.where(g > 0, g, 0),
            "guided": lambda g: torch.where((g > 0) & (x > 0), g, 0),
        }
        return _Replace.apply(x, y, rules[self.method])


class _Replace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, rule):
        ctx.rule = rule
        return y.clone()

    @staticmethod
    def backward(ctx, g):
        return ctx.rule(g), None, None


@pytest.mark.parametrize("unit", ["all", "strongest"])
@pytest.mark.parametrize("method", METHODS)
def test_walk_from_features_equals_autograd_with_the_same_rule(network, method, unit):
    network, x = network.double(), noise(2, 70, 51, dtype=torch.float64)
    x_grad = x.clone().requires_grad_()
    maps = replace_relus(network, lambda: Rule(method)).features(x_grad)
    start = (
        (maps * maps.detach()).sum() if unit == "all" else (maps.flatten(1).amax(1) ** 2).sum() / 2
    )
    (want,) = torch.autograd.grad(start, x_grad)
    assert_same(METHODS[method](network).from_features(x, unit), want, 1e-9)


def test_a_walk_from_features_begins_at_all_of_them_unless_told(network):
    net, x = GuidedBackprop(network), noise(2, 70)
    assert_close(net.from_features(x), net.from_features(x, "all"), rtol=0, atol=0)
    assert not torch.allclose(net.from_features(x), net.from_features(x, "strongest"))


def test_trace_holds_the_networks_own_scores_and_feature_maps(network):
    x = noise(3, 40, 65)
    trace = Deconvnet(network).up(x)
    assert_close(trace.scores, network(x))
    assert_close(trace.feature_maps, network.features(x))


@pytest.mark.parametrize("method", METHODS)
def test_batch_equals_one_by_one(network, method):
    x, classes = noise(3, 48), [0, 6, 3]
    together = saliency(network, x, classes, method)
    for i, c in enumerate(classes):
        assert_same(saliency(network, x[i : i + 1], c, method), together[i : i + 1], 1e-4)


@pytest.mark.parametrize(
    "classes",
    [
        [2, 3],
        (2, 3),
        range(2, 4),
        [torch.tensor(2), np.int16(3)],
        torch.tensor([2, 3]),
        torch.tensor([2, 3], dtype=torch.uint8),
        torch.tensor([2, 3], dtype=torch.uint64),
        np.array([2, 3], dtype=np.uint16),
        np.array([2, 3], dtype=object),
        np.array([3, 2])[::-1],
    ],
    ids=repr,
)
def test_classes_may_be_a_list_a_tensor_or_an_array(network, classes):
    chosen = check_classes(classes, torch.zeros(2, 7))
    assert chosen.dtype == torch.int64 and chosen.tolist() == [2, 3]
    x = noise(2, 32)
    want = torch.cat([saliency(network, x[i : i + 1], c) for i, c in enumerate((2, 3))])
    assert want[0].abs().max() > 0 and not torch.allclose(want, saliency(network, x, [3, 2]))
    assert_close(saliency(network, x, classes), want)


@pytest.mark.parametrize("c", [2, np.int8(2), np.uint64(2), np.array(2), torch.tensor(2)], ids=repr)
def test_one_class_counts_for_all_photos(network, c):
    assert check_classes(c, torch.zeros(3, 7)).tolist() == [2, 2, 2]


def test_none_is_the_top_class(network):
    x = noise(4, 40)
    assert_close(saliency(network, x), saliency(network, x, network(x).argmax(1)), rtol=0, atol=0)


def test_a_walk_may_stop_on_the_way(network):
    net, x = Deconvnet(network), noise(1, 45)
    trace = net.up(x)
    signal = torch.ones_like(trace.scores)
    middle = net.down(trace, signal, len(net.steps), stop=net.depth)
    assert middle.is_contiguous() and net.down(trace, middle, net.depth).is_contiguous()
    assert middle.shape == trace.feature_maps.shape
    assert_close(
        net.down(trace, middle, net.depth), net.down(trace, signal, len(net.steps)), rtol=0, atol=0
    )


def test_walks_of_one_pass_do_not_disturb_each_other(network):
    net, x = GuidedBackprop(network), noise(1, 32)
    trace = net.up(x)
    signal = trace.feature_maps.clone()
    first = net.down(trace, trace.feature_maps, net.depth)
    assert_close(net.down(trace, trace.feature_maps, net.depth), first, rtol=0, atol=0)
    assert torch.equal(trace.feature_maps, signal)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_agrees_roughly(network, dtype):
    x = noise(1, 32)
    want = saliency(network, x, 1, "gradient").flatten()
    got = saliency(network.to(dtype), x.to(dtype), 1, "gradient")
    assert got.dtype == dtype
    assert torch.corrcoef(torch.stack([got.float().flatten(), want]))[0, 1] > 0.9
