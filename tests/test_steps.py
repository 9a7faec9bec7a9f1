"""Each layer's step on its own: tied weights, switches, adjoints."""

import itertools

import pytest
import torch
from torch import nn

from helpers import Deconvnet, ModelError, strongest_unit
from helpers.explicit.steps import (
    AveragePooling,
    Convolution,
    Pooling,
    Rectifier,
    laid_out,
    step_for,
)

from .comparing import assert_close
from .networks import noise


def convolutions(net):
    return [step for step in net.steps if isinstance(step, Convolution)]


def test_steps_use_the_convolutions_themselves(full_vgg16):
    steps = convolutions(Deconvnet(full_vgg16))
    originals = [layer for layer in full_vgg16.features if isinstance(layer, nn.Conv2d)]
    assert len(steps) == len(originals) == 13
    assert all(step.layer is conv for step, conv in zip(steps, originals, strict=True))


@pytest.mark.parametrize("size", [(9, 12), (10, 13), (11, 14)])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"stride": 2, "padding": 1},
        {"stride": (3, 2), "padding": (0, 2)},
        {"stride": 3, "padding": 1},
        {"dilation": 2, "padding": 2},
        {"stride": 2, "dilation": (2, 1), "groups": 2},
    ],
    ids=str,
)
def test_the_way_down_is_torchs_transposed_convolution_with_the_very_weight(size, options):
    conv, x = nn.Conv2d(4, 6, 3, **options), noise(2, *size)[:, [0, 1, 2, 0]]
    signal, shape = step_for(conv).up(x)
    transposed = nn.ConvTranspose2d(6, 4, 3, bias=False, **options)
    transposed.weight = conv.weight
    want = transposed(signal, output_size=x.shape[-2:])
    assert want.shape == x.shape
    assert_close(step_for(conv).down(signal, shape, None), want, rtol=0, atol=0)


def test_a_tied_network_has_no_parameter_of_its_own(network):
    assert {id(p) for p in Deconvnet(network).parameters()} == {id(p) for p in network.parameters()}


def test_editing_a_convolution_edits_its_way_back(network):
    net, x = Deconvnet(network), noise(1, 32)
    before = net.from_class(x, 0)
    step = convolutions(net)[4]
    with torch.no_grad():
        step.layer.weight[0, 0, 1, 1] = 123.0
    assert not torch.equal(net.from_class(x, 0), before)


def test_no_bias_on_the_way_down(network):
    net, x = Deconvnet(network), noise(1, 32)
    assert all(step.layer.bias.abs().min() > 0 for step in convolutions(net))
    trace = net.up(x)
    assert not net.down(trace, torch.zeros_like(trace.scores), len(net.steps)).any()


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d((3, 2)),
        nn.MaxPool2d(3, padding=1),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(6, 6), (7, 9)])
def test_unpooling_puts_each_value_back_where_the_maximum_was(pool, size):
    step, x = Pooling(pool), torch.rand(2, 3, *size) + 0.1
    pooled, memory = step.up(x)
    assert_close(pooled, pool(x), rtol=0, atol=0)
    back = step.down(pooled, memory, None)
    assert back.shape == x.shape
    assert torch.equal(back[back != 0], x[back != 0])  # every value stands where it came from
    assert_close(pool(back), pooled, rtol=0, atol=0)  # and is its window's maximum
    assert (back != 0).sum() == pooled.numel()


def test_relu_notes_where_its_input_was_positive_and_works_on_a_copy():
    x = torch.tensor([[-1.0, 0.0, 2.0]])
    y, mask = Rectifier(nn.ReLU()).up(x)
    assert y.tolist() == [[0, 0, 2]] and mask.tolist() == [[False, False, True]]
    assert x.tolist() == [[-1, 0, 2]]


LINEAR = [
    (nn.Conv2d(3, 5, 3, padding=1), (3, 7, 9)),
    (nn.Conv2d(3, 5, 3, bias=False), (3, 7, 9)),
    (nn.Conv2d(4, 6, 3, stride=2, padding=1), (4, 8, 11)),
    (nn.Conv2d(4, 6, 1, stride=3), (4, 9, 11)),
    (nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(0, 2)), (4, 10, 7)),
    (nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 6, 5)),
    (nn.Conv2d(4, 8, 3, groups=4, stride=2), (4, 8, 9)),
    (nn.Conv2d(2, 3, 3, dilation=2, padding=2), (2, 9, 8)),
    (nn.AdaptiveAvgPool2d(7), (2, 7, 7)),
    (nn.AdaptiveAvgPool2d(7), (2, 3, 16)),
    (nn.AdaptiveAvgPool2d((2, 3)), (2, 5, 7)),
    (nn.AdaptiveAvgPool2d(1), (2, 5, 1)),
    (nn.AdaptiveAvgPool2d((None, 2)), (2, 5, 7)),
    (nn.Linear(11, 4), (11,)),
    (nn.Dropout(), (3, 4, 5)),
    (nn.Identity(), (3, 4, 5)),
]


@pytest.mark.parametrize("layer, shape", LINEAR, ids=lambda v: str(v))
def test_every_linear_step_goes_down_by_its_exact_adjoint(layer, shape):
    step = step_for(layer.double())
    x = torch.randn(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        up, memory = step.up(x)
        linear = up - step.up(torch.zeros_like(x))[0]  # without the bias
        y = torch.randn_like(up)
        down = step.down(y, memory, None)
    assert down.shape == x.shape
    assert_close((linear * y).sum(), (x * down).sum(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("pooled", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [1, 2, 4, 7, 10, 23])
def test_averaging_windows_are_those_of_torch(size, pooled):
    x = torch.randn(1, 1, size, 1, dtype=torch.float64)
    matrix = AveragePooling.windows(size, pooled, x)
    assert_close(matrix @ x[0, 0], nn.AdaptiveAvgPool2d((pooled, 1))(x)[0, 0])


def test_strongest_unit_keeps_one_activation_a_photo():
    maps = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    maps[:, 0, 0, 0] = -9  # the largest, not the largest in amount
    kept = strongest_unit(maps)
    assert (kept != 0).flatten(1).sum(1).tolist() == [1] * 4
    assert_close(kept.amax((1, 2, 3)), maps.amax((1, 2, 3)), rtol=0, atol=0)
    assert torch.equal(kept[kept != 0], maps[kept != 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("signals", [1, 2, 3])
def test_a_fully_connected_layer_goes_down_by_its_transposed_matrix(dtype, signals):
    step = step_for(nn.Linear(11, 6).to(dtype))
    signal = torch.randn(signals, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    signal[:, 2:4] = 0  # two silent units
    signal[1:2] = 0  # a silent signal
    got = step.down(signal, None, None)
    assert got.dtype == dtype
    assert_close(
        got.double(),
        signal.double() @ step.layer.weight.detach().double(),
        rtol=1e-2,
        atol=1e-6 if dtype == torch.float32 else 1e-2,
    )
    silence = step.down(torch.zeros_like(signal), None, None)
    assert silence.shape == got.shape and not silence.any()


def test_the_way_up_may_keep_what_every_layer_gives(network):
    net, x = Deconvnet(network), noise(1, 64)
    trace = net.up(x, keep=True)
    assert len(trace.activations) == net.depth + 1 and trace.size == (64, 64)
    pairs = itertools.pairwise(trace.activations)
    for layer, (below, above) in zip(network.features, pairs, strict=True):
        with torch.no_grad():
            assert_close(above, layer(below.clone()))
        # no ReLU has overwritten its input
        assert not isinstance(layer, nn.Conv2d) or above.min() < 0 < above.max()
    assert trace.activations[-1] is trace.feature_maps and net.up(x).activations == ()


def test_a_mode_set_here_is_not_the_networks(network):
    """A dropout switched off by a helper would stay off while the network is trained further."""
    network.train()
    net = Deconvnet(network).eval()
    assert not any(module.training for module in (net, *net.steps))
    assert all(module.training for module in network.modules())


def test_a_pooling_with_other_windows_is_refused_however_it_is_written():
    pools = [(3, 2), ((2, 3), 2), (2, 3), (2, (2, 3))]  # overlapping, and with gaps
    for pool in [*(nn.MaxPool2d(*sides) for sides in pools), nn.MaxPool2d(2, dilation=(1, 2))]:
        with pytest.raises(ModelError, match="windows side by side"):
            step_for(pool)
    step_for(nn.MaxPool2d(2, (2, 2), dilation=(1, 1)))


@pytest.mark.parametrize(
    "padding",
    [{"padding": "same"}]
    + [{"padding": 1, "padding_mode": mode} for mode in ("reflect", "replicate", "circular")],
    ids=str,
)
def test_a_convolution_that_pads_otherwise_is_refused(padding):
    with pytest.raises(ModelError, match="number of zeros as padding"):
        step_for(nn.Conv2d(3, 4, 3, **padding))


@pytest.mark.parametrize("side, innermost", [(2, False), (3, True)])
def test_channels_lie_innermost_where_there_are_many_places(side, innermost):
    """3 photos of 10 channels: 18 places are no more than two for each channel, 27 are."""
    x = torch.randn(3, 10, 3, side)
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        got = laid_out(given)
        assert torch.equal(got, x) and (got.stride(1) == 1) == innermost
    exactly = torch.randn(3, 9, 3, 2)  # 18 places are no more than twice 9
    assert laid_out(exactly).is_contiguous() and not laid_out(exactly[:, :8]).is_contiguous()
    assert laid_out(torch.ones(50, 2)).is_contiguous()
    elsewhere = x.to("meta")
    assert laid_out(elsewhere) is elsewhere
