"""Measures of maps against scipy, scikit-image and cases worked out by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import nn

from helpers import all_maps, grad_cam, resize_maps, saliency
from helpers.metrics import (
    blurred,
    centre_gaussian,
    edge_strength,
    energy_in_box,
    pointing_game,
    rank_correlation,
    replacement_curve,
    ssim,
)

from .networks import noise


def test_pointing_game_by_hand():
    values = torch.zeros(4, 6)
    values[1, 4] = -3  # the sign does not matter
    assert pointing_game(values, (4, 1, 5, 2)) == 1
    assert pointing_game(values, (0, 0, 4, 4)) == 0
    values[0, 0] = 3
    assert pointing_game(values, (4, 1, 5, 2)) == 0.5
    assert pointing_game(torch.zeros(4, 6), (0, 0, 3, 2)) == 0.25


def test_energy_by_hand():
    values = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    assert energy_in_box(values, (1, 0, 2, 1)) == pytest.approx(0.2)
    assert energy_in_box(values, (0, 0, 2, 2)) == 1
    assert math.isnan(energy_in_box(torch.zeros(2, 2), (0, 0, 1, 1)))


@pytest.mark.parametrize("box", [(0, 0, 0, 2), (0, 0, 3, 2), (-1, 0, 1, 1), (1, 1, 1, 1)])
def test_bad_boxes_are_refused(box):
    with pytest.raises(ValueError, match="Box"):
        energy_in_box(torch.ones(2, 2), box)


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation_is_scipys(ties):
    a, b = np.random.default_rng(0).random((2, 9, 11))
    if ties:
        a, b = np.floor(4 * a), np.floor(4 * b)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic)
    assert rank_correlation(a, a**3) == pytest.approx(1)


def test_a_constant_map_has_no_ranks():
    assert math.isnan(rank_correlation(np.ones((8, 8)), np.random.default_rng(0).random((8, 8))))


def test_ssim_is_scikit_images_and_blind_to_strength():
    a, b = np.random.default_rng(1).random((2, 16, 16))
    assert ssim(a, b) == pytest.approx(
        structural_similarity(a / a.max(), b / b.max(), data_range=1.0)
    )
    assert ssim(a, -5 * a) == pytest.approx(1)
    with pytest.raises(ValueError, match="size"):
        ssim(a, b[:8])


def test_centre_gaussian_is_symmetric_and_highest_in_the_middle():
    values = centre_gaussian(9, 13)
    assert values.argmax().item() == 4 * 13 + 6 and values.max() == 1
    torch.testing.assert_close(values, values.flip(0, 1))
    assert values[4, 6 + 1] > values[4 + 1, 6]  # wider than high, like the photo


def test_edges_are_strong_at_an_edge_and_nowhere_else():
    photo = np.zeros((16, 16, 3))
    photo[:, 8:] = 1
    edges = edge_strength(photo)
    assert (
        edges.shape == (16, 16)
        and edges[:, 7:9].min() > 0.5
        and edges[:, :6].max() == edges[:, 10:].max() == 0
    )
    with pytest.raises(ValueError, match="H, W, 3"):
        edge_strength(photo.transpose(2, 0, 1))


def test_blurring_keeps_the_mean_and_loses_the_detail():
    x = noise(2, 64)
    soft = blurred(x)
    assert soft.shape == x.shape and soft.var() < 0.1 * x.var()
    torch.testing.assert_close(blurred(torch.ones(1, 3, 40, 64)), torch.ones(1, 3, 40, 64))


class Brightness(nn.Module):
    """Two classes; the first one's score is the sum of all pixels."""

    def forward(self, x):
        total = x.sum(dim=(1, 2, 3))
        return torch.stack([total, torch.zeros_like(total)], dim=1)


def test_replacement_equals_a_loop_over_the_pixels():
    start, end, values = (
        noise(1, 32),
        noise(1, 32).flip(0, 3),
        noise(1, 32)[0, 0].round(decimals=3) + torch.arange(1024).reshape(32, 32),
    )
    network = Brightness()
    curve = replacement_curve(network, start, end, values, 0, steps=4)
    photo, want = start.clone(), [network(start).softmax(1)[0, 0]]
    for place in values.flatten().argsort(descending=True).split(256):
        photo.flatten(2)[..., place] = end.flatten(2)[..., place]
        want.append(network(photo).softmax(1)[0, 0])
    torch.testing.assert_close(curve, torch.stack(want))


def test_replacement_begins_and_ends_with_the_photos(network):
    x, training = noise(1, 64), network.training
    soft = blurred(x)
    curve = replacement_curve(network, x, soft, torch.zeros(64, 64), 2, steps=3)
    both = network.eval()(torch.cat([x, soft])).softmax(1)[:, 2]
    torch.testing.assert_close(curve[[0, -1]], both.detach(), rtol=1e-4, atol=1e-6)
    assert curve.shape == (4,) and not curve.requires_grad and network.train(training)


@pytest.mark.parametrize("n, side, steps", [(2, 32, 4), (1, 40, 4), (1, 32, 0)])
def test_replacement_refuses_what_does_not_fit(n, side, steps):
    with pytest.raises(ValueError, match="Expected two photos|one step"):
        replacement_curve(
            Brightness(), noise(n, 32), noise(n, 32), torch.ones(side, side), 0, steps
        )


def test_all_maps_are_the_methods_own(network):
    x = noise(2, 64)
    maps = all_maps(network, x, [1, 3])
    assert list(maps) == [
        "gradient",
        "Deconvnet",
        "guided backpropagation",
        "Grad-CAM",
        "Guided Grad-CAM",
    ]
    for name, method in zip(list(maps)[:3], ("gradient", "deconvnet", "guided")):
        torch.testing.assert_close(maps[name], saliency(network, x, [1, 3], method))
    torch.testing.assert_close(
        maps["Grad-CAM"],
        resize_maps(grad_cam(network, x, [1, 3]).maps, (64, 64)),
        rtol=1e-3,
        atol=1e-6,
    )
    torch.testing.assert_close(
        maps["Guided Grad-CAM"], maps["Grad-CAM"][:, None] * maps["guided backpropagation"]
    )
