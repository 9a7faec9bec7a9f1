"""Photos that cannot be explained: every function that takes a network and photos says why."""

import functools
import inspect

import numpy as np
import pytest
import torch
from torch import nn

import helpers
from helpers import Deconvnet, Model, ModelError, Preprocess
from helpers.interactive.stepper import walk
from helpers.targets import _why_not

from .networks import narrow, noise, randomise

X = noise(1, 32)
#: Networks of this file are made once; what they are asked leaves them as they were.
made = functools.cache(lambda make: make())


def model_of(network):
    return Model("some", network, tuple("abcdefg"), Preprocess(32, 32), 32, torch.device("cpu"))


def some_map(x):
    return np.zeros(getattr(x, "shape", (32, 32))[-2:])


#: Networks laid out as VGG, with three channels and at least 32 pixels.
VGG = {
    "saliency": lambda network, x: helpers.saliency(network, x, 0, "gradient"),
    "grad_cam": lambda network, x: helpers.grad_cam(network, x, 0),
    "grad_cam_each": lambda network, x: helpers.grad_cam_each(network, x, [0, 1]),
    "guided_gradcam": lambda network, x: helpers.guided_gradcam(network, x, 0),
    "guided_gradcam_each": lambda network, x: helpers.guided_gradcam_each(network, x, [0, 1]),
    "all_maps": lambda network, x: helpers.all_maps(network, x, 0),
    "Deconvnet.up": lambda network, x: Deconvnet(network).up(x),
    "Deconvnet.from_class": lambda network, x: Deconvnet(network).from_class(x, 0),
    "Deconvnet.from_features": lambda network, x: Deconvnet(network).from_features(x),
    "walk": walk,
}
#: Any network, and photos with three channels and at least 32 pixels.
CURVES = {
    "replacement_curve": lambda network, x: helpers.replacement_curve(
        network, x, x, some_map(x), 0
    ),
    "road_curve": lambda network, x: helpers.road_curve(network, x, some_map(x), 0),
}
#: Any network, and whatever it takes.
ANY = {
    "saliency_any": lambda network, x: helpers.saliency_any(network, x, 0),
    "the gradient": lambda network, x: helpers.saliency_any(network, x, 0, "gradient"),
    "saliency_any_each": lambda network, x: helpers.saliency_any_each(network, x, [0, 1]),
    "grad_cam_any": lambda network, x: helpers.grad_cam_any(network, x, "features", 0),
    "the default layer": lambda network, x: helpers.grad_cam_any(network, x),
    "grad_cam_any_each": lambda network, x: helpers.grad_cam_any_each(network, x, [0, 1]),
    "guided_gradcam_any": lambda network, x: helpers.guided_gradcam_any(network, x, "features", 0),
    "guided_gradcam_any_each": lambda network, x: helpers.guided_gradcam_any_each(
        network, x, [0, 1]
    ),
    "all_maps_any": lambda network, x: helpers.all_maps_any(network, x, 0),
    "layers": helpers.layers,
    "integrated_gradients": lambda network, x: helpers.integrated_gradients(network, x, 0, steps=1),
    "smooth_grad": lambda network, x: helpers.smooth_grad(network, x, 0, samples=1),
    "Model.top": lambda network, x: model_of(network).top(x),
    "Model.likeliest": lambda network, x: model_of(network).likeliest(x, "ab"),
}
ASK = VGG | CURVES | ANY
everyone = pytest.mark.parametrize("who", ASK)


def test_every_function_that_takes_a_network_and_photos_is_asked_here():
    found = set()
    for name in helpers.__all__:
        if inspect.isfunction(getattr(helpers, name)):
            taken = inspect.signature(getattr(helpers, name)).parameters
            if "network" in taken and {"x", "start"} & set(taken):
                found.add(name)
    assert len(found) > 15 and found <= set(ASK)


@everyone
def test_photos_that_the_network_takes_are_answered(who):
    """So that what is refused below is refused for the photos' sake."""
    ASK[who](made(narrow), X)
    ASK[who](made(double), X.double())


#: What is no tensor of photos, whatever network is asked, and what is said.
NO_PHOTOS = {
    "an array": (np.zeros((1, 3, 32, 32), np.float32), TypeError, "float tensor .*got ndarray"),
    "a path": ("cat.jpg", TypeError, "got str.*model.preprocess"),
    "whole numbers": (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), TypeError, "got torch.uint8"),
    "no batch": (torch.zeros(3, 32, 32), ValueError, r"got \(3, 32, 32\).*photo\[None\]"),
    "none": (torch.zeros(0, 3, 32, 32), ValueError, r"got \(0, 3, 32, 32\). There is no photo"),
    "a film": (torch.zeros(1, 3, 4, 32, 32), ValueError, r"got \(1, 3, 4, 32, 32\)"),
    "NaN": (torch.full((1, 3, 32, 32), float("nan")), ValueError, "NaN or infinite"),
    "infinity": (torch.full((1, 3, 32, 32), float("-inf")), ValueError, "NaN or infinite"),
    "no values": (X.to("meta"), ValueError, "photos are on the device 'meta'"),
}


@everyone
@pytest.mark.parametrize("x, error, message", NO_PHOTOS.values(), ids=NO_PHOTOS)
def test_photos_that_are_none_are_refused(who, x, error, message):
    with pytest.raises(error, match=message):
        ASK[who](made(narrow), x)


#: What a VGG, or this one, does not take.
OTHERS = {
    "grey": (torch.zeros(1, 1, 32, 32), r"got \(1, 1, 32, 32\)"),
    "channels last": (
        torch.zeros(1, 32, 32, 3),
        r"\(N, 3, H, W\), .*A single photo is photo\[None",
    ),
    "too low": (torch.zeros(1, 3, 31, 64), "at least 32 pixels a side, got 31x64"),
    "too narrow": (torch.zeros(1, 3, 64, 31), "at least 32 pixels a side, got 64x31"),
}


@everyone
@pytest.mark.parametrize("x, message", OTHERS.values(), ids=OTHERS)
def test_photos_that_are_none_for_a_vgg_are_refused(who, x, message):
    if who in ANY:  # asks the network, which says so in PyTorch's words
        message = "cannot take.*(expected input|Output size is too small)"
    with pytest.raises(ModelError if who in ANY else ValueError, match=message):
        ASK[who](made(narrow), x)


def double():
    return narrow().double()


def of_one_channel():
    network = narrow()
    network.features[0] = nn.Conv2d(1, 4, 3, padding=1)
    return randomise(network)


def of_one_size():
    """Takes photos of 64 x 64 pixels only."""
    network = narrow(pooled=2)
    network.avgpool = nn.Identity()
    return network


#: A network, photos that it does not take, and what is said.
WRONG = {
    "float32, float64": (double, X, "float32, and VGG16 is torch.float64: pass"),
    "float32, float16": (lambda: narrow().half(), X, r"pass x.to\(torch.float16\)"),
    "float32, bfloat16": (lambda: narrow().bfloat16(), X, r"pass x.to\(torch.bfloat16\)"),
    "float64, float32": (narrow, X.double(), r"are torch.float64.*pass x.to\(torch.float32\)"),
    "bfloat16, float32": (narrow, X.bfloat16(), r"pass x.to\(torch.float32\)"),
    "channels": (of_one_channel, X, "VGG16 (cannot take|fails on) photos .*1 channels"),
    "size": (of_one_size, noise(1, 96), r"VGG16 cannot take photos \(\d+, 3, 96, 96\).*shapes"),
}


@everyone
@pytest.mark.parametrize("make, x, message", WRONG.values(), ids=WRONG)
def test_photos_that_the_network_cannot_take_are_an_error_that_says_so(who, make, x, message):
    network = made(make).train()
    with pytest.raises(ModelError, match=message) as caught:
        ASK[who](network, x)
    assert isinstance(caught.value.__cause__, RuntimeError)
    if not who.startswith("Model"):  # whose networks are in eval mode
        assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


@everyone
def test_networks_without_values_are_refused(who):
    with pytest.raises(ModelError, match="VGG16 is on the device 'meta'.*to_empty"):
        ASK[who](narrow().to("meta"), X)


def test_the_device_is_named():
    """Of what had to be on one device; the tests' machines have no other that holds values."""
    words = _why_not("VGG16", X.to("meta"), torch.zeros(()), RuntimeError("in PyTorch's words"))
    assert words == "The photos are on meta, and VGG16 is on cpu: pass x.to('cpu')."


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no second device")
def test_photos_on_another_device_are_an_error_that_says_so(network):
    for where, x in (("cpu", X.cuda()), ("cuda:0", X)):
        network.to(where)
        for explain in ASK.values():
            with pytest.raises(ModelError, match=rf"pass x.to\('{where}'\)"):
                explain(network, x)


def test_where_integrated_gradients_begin_is_brought_to_the_photos():
    network, start = narrow(), noise(1, 32, seed=1)
    want = helpers.integrated_gradients(network, X, 0, start, steps=2)
    assert want.any()
    assert torch.equal(helpers.integrated_gradients(network, X, 0, start.double(), steps=2), want)
    for start in (torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 32, 32)):
        with pytest.raises(ValueError, match=r"start \(\d, 3, \d+, \d+\) does not fit .*32, 32"):
            helpers.integrated_gradients(network, X, 0, start, steps=2)
    with pytest.raises(ValueError, match="NaN"):
        helpers.integrated_gradients(network, X, 0, torch.tensor(torch.nan), steps=2)
