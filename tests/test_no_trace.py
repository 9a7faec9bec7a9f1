"""Explaining a network leaves no trace in it, in the photos, or in the process."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import (
    METHODS,
    Deconvnet,
    ModelError,
    grad_cam,
    grad_cam_any,
    grad_cam_each,
    guided_gradcam,
    guided_gradcam_any,
    saliency,
    saliency_any,
)

from .comparing import assert_close
from .networks import noise

EXPLAIN = {
    "grad_cam": lambda network, x, c: grad_cam(network, x, c).maps,
    "grad_cam inside": lambda network, x, c: grad_cam(network, x, c, layer=-2).maps,
    "grad_cam_each": lambda network, x, c: (
        grad_cam_each(network, x, np.ravel([c]).tolist() + [6]).maps
    ),
    "guided_gradcam": lambda network, x, c: guided_gradcam(network, x, c).maps,
    **{
        method: lambda network, x, c, method=method: saliency(network, x, c, method)
        for method in METHODS
    },
    "saliency_any": lambda network, x, c: saliency_any(network, x, c),
    "grad_cam_any": lambda network, x, c: grad_cam_any(network, x, network.features, c).maps,
    "guided_gradcam_any": lambda network, x, c: (
        guided_gradcam_any(network, x, network.features, c).maps
    ),
}
every = pytest.mark.parametrize("explain", EXPLAIN.values(), ids=EXPLAIN.keys())
HOOKS = [name for name in vars(nn.Module()) if "hooks" in name]


def look(network):
    """All that could have been changed."""
    return {
        "state": {key: value.clone() for key, value in network.state_dict().items()},
        "parameters": [
            (name, id(p), p.requires_grad, p.grad if p.grad is None else p.grad.tolist())
            for name, p in network.named_parameters()
        ],
        "modules": [
            (name, id(m), m.training, getattr(m, "inplace", None))
            for name, m in network.named_modules()
        ],
        "hooks": [len(getattr(m, hooks) or ()) for m in network.modules() for hooks in HOOKS],
    }


def assert_untouched(network, before):
    after = look(network)
    for key in ("parameters", "modules", "hooks"):
        assert before[key] == after[key]
    assert before["state"].keys() == after["state"].keys()
    assert all(torch.equal(before["state"][key], after["state"][key]) for key in before["state"])


@pytest.fixture
def mixed(network):
    """Some modules in training mode, some not; some parameters frozen, one with a gradient."""
    network.train()
    network.features[3].eval()
    network.classifier[2].eval()
    network.features[0].weight.requires_grad_(False)
    network.classifier[0].bias.grad = torch.ones_like(network.classifier[0].bias)
    return network


@every
def test_the_network_stays_as_it_was(mixed, explain):
    before = look(mixed)
    explain(mixed, noise(2, 64), [3, 5])
    assert_untouched(mixed, before)


@every
def test_the_network_stays_as_it_was_when_a_class_does_not_exist(mixed, explain):
    before = look(mixed)
    with pytest.raises(IndexError):
        explain(mixed, noise(2, 64), [3, 7])
    assert_untouched(mixed, before)


def test_the_network_stays_as_it_was_when_its_forward_fails(mixed):
    mixed.classifier[3] = nn.Linear(5, 5)
    before = look(mixed)
    for explain in (lambda: grad_cam(mixed, noise(1, 64)), lambda: Deconvnet(mixed)):
        with pytest.raises(ModelError, match="shapes cannot be multiplied"):
            explain()
        assert_untouched(mixed, before)


def test_the_network_stays_as_it_was_when_it_is_refused(mixed):
    mixed.forward = lambda x: type(mixed).forward(mixed, x) * 2
    before = look(mixed)
    with pytest.raises(ModelError):
        Deconvnet(mixed)
    assert_untouched(mixed, before)


@every
def test_a_network_in_training_mode_is_explained_as_in_eval_mode(network, explain):
    x = noise(2, 64)
    want = explain(network, x, [3, 5])
    assert_close(explain(network.train(), x, [3, 5]), want, rtol=0, atol=0)


class GradientsOfWeights(TorchDispatchMode):
    """Counts the convolutions whose way back is asked for a gradient of weight or bias."""

    backwards = of_weights = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            self.backwards += 1
            self.of_weights += any(args[-1][1:])  # output_mask: input, weight, bias
        return func(*args, **(kwargs or {}))


@every
def test_no_gradient_of_a_parameter_is_computed(network, explain):
    with GradientsOfWeights() as count:
        explain(network, noise(1, 64), 3)
    assert count.of_weights == 0


def test_the_counter_sees_gradients_of_parameters(network):
    with GradientsOfWeights() as count:
        network(noise(1, 64)).sum().backward()
    assert count.of_weights == count.backwards == 13


@every
def test_photos_stay_as_they_were(network, explain):
    x = noise(2, 64)
    copy = x.clone()
    explain(network, x, [3, 5])
    assert torch.equal(x, copy) and x.grad is None and not x.requires_grad


@every
def test_photos_that_want_gradients_get_none(network, explain):
    x = noise(2, 64).requires_grad_()
    result = explain(network, x, [3, 5])
    assert x.grad is None and not result.requires_grad


@pytest.mark.parametrize(
    "explain",
    [
        grad_cam,
        guided_gradcam,
        lambda network, x: grad_cam_any(network, x, network.features),
        lambda network, x: guided_gradcam_any(network, x, network.features),
    ],
)
def test_nothing_that_comes_back_holds_on_to_the_graph(network, explain):
    assert not any(part.requires_grad for part in explain(network, noise(2, 64)))


@pytest.mark.parametrize(
    "explain",
    [
        lambda network, x: grad_cam(network, x, 0, layer=0).maps,
        lambda network, x: grad_cam_any(network, x, network.features[0], 0).maps,
        saliency_any,
        saliency,
        lambda network, x: guided_gradcam(network, x).guided,
    ],
)
def test_photos_stay_as_they_were_when_the_first_layer_works_in_place(network, explain):
    network.features.insert(0, nn.ReLU(inplace=True))
    x = noise(2, 64)
    copy = x.clone()
    assert explain(network, x).any()
    assert torch.equal(x, copy) and x.min() < 0


@every
def test_random_numbers_go_on_as_if_nothing_had_been(network, explain):
    x = noise(1, 64)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    explain(network.train(), x, 3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


@every
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_callers_grad_mode_neither_matters_nor_changes(network, explain, mode):
    x = noise(2, 64)
    want = explain(network, x, [3, 5])
    assert torch.is_grad_enabled() and want.any()
    with mode():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        got = explain(network, x.clone(), [3, 5])
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
        assert_close(got, want, rtol=0, atol=0)
    assert torch.is_grad_enabled()


@every
def test_frozen_networks_can_be_explained(network, explain):
    x = noise(2, 64)
    want = explain(network, x, [3, 5])
    assert_close(explain(network.requires_grad_(False), x, [3, 5]), want, rtol=0, atol=0)
