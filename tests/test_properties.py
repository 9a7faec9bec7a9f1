"""What must hold for every network, size, dtype and input: hypothesis looks for the exception."""

import gc

import numpy as np
import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from helpers import METHODS, VGG16, grad_cam, guided_gradcam, saliency

from .networks import narrow, noise, randomise

#: Few, derandomised examples: the same on every machine, and quick.
EXAMPLES = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
METHOD_NAMES = sorted(METHODS)


@st.composite
def vggs(draw) -> nn.Module:
    """VGG-style networks in float64: VGG-16's layout at any width, or a short, odder one."""
    if draw(st.booleans()):
        widths = tuple(draw(st.lists(st.integers(1, 6), min_size=5, max_size=5)))
        network = VGG16(
            draw(st.integers(1, 5)),
            widths=widths,
            hidden=draw(st.integers(1, 8)),
            pooled=draw(st.integers(1, 4)),
        )
        return randomise(network, seed=draw(st.integers(0, 99))).double()
    layers, channels = [], 3
    for _ in range(draw(st.integers(1, 3))):
        for _ in range(draw(st.integers(1, 2))):
            width, kernel = draw(st.integers(1, 5)), draw(st.sampled_from([1, 3, 5]))
            layers.append(nn.Conv2d(channels, width, kernel, padding=kernel // 2))
            layers.append(nn.ReLU(inplace=draw(st.booleans())))
            channels = width
        layers.append(nn.MaxPool2d(2, 2, ceil_mode=draw(st.booleans())))
    network = nn.Module()
    network.features = nn.Sequential(*layers)
    pooled = draw(st.integers(1, 3))
    network.avgpool = nn.AdaptiveAvgPool2d(pooled)
    network.classifier = nn.Sequential(
        nn.Linear(channels * pooled**2, 6), nn.ReLU(True), nn.Linear(6, draw(st.integers(1, 5)))
    )
    network.forward = lambda x: network.classifier(
        torch.flatten(network.avgpool(network.features(x)), 1)
    )
    randomise(network, seed=draw(st.integers(0, 99)))
    if draw(st.booleans()):
        layers[0].bias = None
    return network.double()


photos = st.builds(
    noise,
    st.integers(1, 3),
    st.integers(32, 70),
    st.integers(32, 70),
    dtype=st.just(torch.float64),
    seed=st.integers(0, 99),
)


def classes_of(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A class a photo, not always the top one."""
    count = network.classifier[-1].out_features
    return torch.arange(len(x)) % count


def test_the_examples_give_something_to_compare():
    """In many a random network a layer is dead, or no place speaks for the class; not in most."""
    alive = []

    @EXAMPLES
    @given(network=vggs(), x=photos)
    def look(network, x):
        answer = guided_gradcam(network, x, classes_of(network, x))
        alive.append([part.any().item() for part in (answer.guided, answer.cam, answer.maps)])

    look()
    assert np.mean(alive, axis=0).min() > 0.3, alive


@pytest.mark.filterwarnings("ignore:Input Tensor 0", "ignore:Setting backward hooks")  # captum's
@pytest.mark.parametrize("method", METHOD_NAMES)
@EXAMPLES
@given(network=vggs(), x=photos)
def test_walks_equal_autograd_and_captum(method, network, x):
    assume(not draws(network, x))
    classes = classes_of(network, x)
    got = saliency(network, x, classes, method)
    network = without_inplace(network)
    if method == "gradient":
        leaf = x.clone().requires_grad_()
        (want,) = torch.autograd.grad(network(leaf).gather(1, classes[:, None]).sum(), leaf)
    else:
        want = (
            {"guided": GuidedBackprop, "deconvnet": Deconvolution}[method](network)
            .attribute(x, target=classes)
            .detach()
        )
    assert_close(got, want, rtol=1e-9, atol=1e-9 * max(1.0, float(want.abs().max())))


def draws(network: nn.Module, x: torch.Tensor) -> bool:
    """Whether the largest two values of a window are equal but for rounding.

    Then the switch is wherever an implementation's rounding puts it, and each map is right. So it
    is above a dead layer: all places of a channel have the bias for value. Zeros, which are exact,
    are no draw: everyone takes the first.
    """
    found = []

    def look(pool, inputs):
        (maps,) = inputs
        if pool.ceil_mode:
            maps = F.pad(maps, (0, maps.shape[-1] % 2, 0, maps.shape[-2] % 2), value=-torch.inf)
        windows = maps.unfold(-2, 2, 2).unfold(-2, 2, 2).flatten(-2)
        first, second = windows.topk(2).values.unbind(-1)
        found.append(((first > 0) & (first - second < 1e-9)).any().item())

    hooks = [
        module.register_forward_pre_hook(look)
        for module in network.modules()
        if isinstance(module, nn.MaxPool2d)
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return any(found)


def test_a_draw_is_seen_and_zeros_are_none():
    pool, odd = nn.Sequential(nn.MaxPool2d(2)), nn.Sequential(nn.MaxPool2d(2, ceil_mode=True))
    maps = torch.tensor([[[[0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 1.0, 1.0], [3.0, 3.0, 0.0, 0.0]]]])
    assert not draws(pool, maps)  # the last row lies outside all windows
    assert draws(odd, maps)
    maps[..., 2, 0] += 1e-6
    assert not draws(odd, maps)
    maps[..., 0, 3] = 1.0
    assert draws(pool, maps)


def without_inplace(network: nn.Module) -> nn.Module:
    """captum's hooks do not stand in-place ReLUs; ours do."""
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return network


@EXAMPLES
@given(network=vggs(), x=photos)
def test_the_one_pass_is_its_parts(network, x):
    """One pass gives Grad-CAM's classes and map, the guided map, and their product."""
    classes = classes_of(network, x)
    answer = guided_gradcam(network, x, classes)
    assert answer.maps.shape == x.shape and answer.cam.shape == (len(x), *x.shape[-2:])
    assert (answer.cam >= 0).all() and torch.isfinite(answer.maps).all()
    assert_close(answer.guided, saliency(network, x, classes, "guided"), rtol=1e-9, atol=1e-12)
    assert_close(answer.scores, grad_cam(network, x, classes).scores, rtol=1e-9, atol=1e-12)
    assert_close(answer.maps, answer.cam[:, None] * answer.guided)


@EXAMPLES
@given(network=vggs(), x=photos, factor=st.sampled_from([0.25, 3.0]))
def test_maps_scale_with_the_last_layer(network, x, factor):
    """A class score times a number > 0 gives a map times that number: all rules are homogeneous."""
    before = guided_gradcam(network, x, 0)
    with torch.no_grad():
        network.classifier[-1].weight.mul_(factor)
        network.classifier[-1].bias.mul_(factor)
    after = guided_gradcam(network, x, 0)
    assert_close(after.guided, factor * before.guided, rtol=1e-9, atol=1e-12)
    assert_close(after.cam, factor * before.cam, rtol=1e-9, atol=1e-12)


@EXAMPLES
@given(network=vggs(), x=photos, order=st.randoms(use_true_random=False))
def test_photos_do_not_mix(network, x, order):
    """The order of the batch is the order of the maps."""
    shuffled = list(range(len(x)))
    order.shuffle(shuffled)
    classes = classes_of(network, x)
    together = guided_gradcam(network, x, classes).maps
    assert_close(
        guided_gradcam(network, x[shuffled], classes[shuffled]).maps,
        together[shuffled],
        rtol=1e-9,
        atol=1e-12,
    )


@settings(EXAMPLES, max_examples=10)
@given(
    size=st.integers(32, 64),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    bad=st.sampled_from([float("nan"), float("inf"), -float("inf")]),
    where=st.integers(0, 10**6),
)
def test_one_bad_pixel_is_refused(size, dtype, bad, where):
    network, x = narrow().to(dtype), noise(2, size, dtype=dtype)
    x.view(-1)[where % x.numel()] = bad
    for explain in (guided_gradcam, grad_cam, saliency):
        with pytest.raises(ValueError, match="NaN or infinite"):
            explain(network, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_same_question_has_the_same_answer(dtype):
    """To the last bit, on one machine, photo by photo."""
    network, x = narrow().to(dtype), noise(2, 50, 61, dtype=dtype)
    first, second = guided_gradcam(network, x), guided_gradcam(network, x)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("explain", [guided_gradcam, grad_cam, saliency])
def test_a_long_run_holds_no_memory(explain):
    """After a hundred explanations there are as many tensors alive as after five."""
    network, x = narrow(), noise(1, 32)

    def alive() -> int:
        gc.collect()
        # by type(): isinstance() would wake deprecated objects, and their warnings
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    for _ in range(5):
        explain(network, x)
    before = alive()
    for _ in range(100):
        explain(network, x)
    assert alive() <= before
