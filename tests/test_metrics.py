"""Measures of maps against scipy, scikit-image and cases worked out by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from skimage.feature import hog
from skimage.metrics import structural_similarity
from torch import nn

from helpers import (
    blurred,
    centre_gaussian,
    edge_strength,
    energy_in_box,
    hog_correlation,
    imputed,
    pointing_game,
    rank_correlation,
    replacement_curve,
    road_curve,
    ssim,
)

from .comparing import assert_close
from .networks import narrow, noise


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


@pytest.mark.parametrize(
    "box",
    [(0, 0, 0, 2), (0, 1, 2, 1), (2, 0, 1, 2), (0, 2, 2, 1)]
    + [(0, 0, 3, 2), (0, 0, 2, 3), (-1, 0, 1, 1), (0, -1, 1, 1)],
)
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


def test_signed_ranks_are_scipys_of_the_sum_of_the_colours():
    a, b = noise(2, 16)
    want = spearmanr(a.sum(0).ravel(), b.sum(0).ravel()).statistic
    assert rank_correlation(a, b, signed=True) == pytest.approx(want) and abs(want) > 1e-3
    # against itself with the other sign: the same strengths, and all ranks the other way round
    assert rank_correlation(a, -a) == pytest.approx(1)
    assert rank_correlation(a, -a, signed=True) == pytest.approx(-1)
    assert rank_correlation(a[0], -a[0], signed=True) == pytest.approx(-1)


@pytest.mark.filterwarnings("error")  # NumPy would warn
def test_hog_is_scikit_images_and_blind_to_strength_but_not_to_direction():
    down, across = np.mgrid[:32, :32] % 8 < 4.0
    rough = np.random.default_rng(2).random((32, 32))
    a, b = down + rough, across + rough
    want = np.corrcoef(*(hog(one / one.max()) for one in (a, b)))[0, 1]
    assert hog_correlation(a, b) == pytest.approx(want) and want < 0.8
    assert hog_correlation(a, -7 * a) == pytest.approx(1)
    assert math.isnan(hog_correlation(a, np.zeros((32, 32))))
    assert math.isnan(hog_correlation(np.ones((32, 32)), b))
    with pytest.raises(ValueError, match="24 pixels"):
        hog_correlation(a[:, :23], b[:, :23])
    assert math.isfinite(hog_correlation(a[:, :24], b[:, :24]))


@pytest.mark.filterwarnings("error")  # SciPy would warn
def test_a_constant_map_has_no_ranks():
    constant, other = np.ones((8, 8)), np.random.default_rng(0).random((8, 8))
    assert math.isnan(rank_correlation(constant, other))
    assert math.isnan(rank_correlation(other, constant))


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


def test_centre_gaussians_standard_deviation_is_its_share_of_each_side():
    one_away = math.exp(-1 / 2)
    high = centre_gaussian(10, 1)[:, 0]  # middles of the pixels at 0.05, 0.15, 0.25 ... off centre
    wide = centre_gaussian(1, 30, spread=0.05)[0]
    assert high[7].item() == pytest.approx(one_away) and high[2].item() == pytest.approx(one_away)
    assert wide[16].item() == pytest.approx(one_away) and wide[13].item() == pytest.approx(one_away)
    both = centre_gaussian(10, 30, spread=0.05)
    assert both[5, 16].item() == pytest.approx(math.exp(-1))


@pytest.mark.parametrize("sides", [(0, 4, 0.25), (4, 0, 0.25), (4, 4, 0)])
def test_a_gaussian_without_extent_is_refused(sides):
    with pytest.raises(ValueError, match="must be positive"):
        centre_gaussian(*sides)


def test_edges_are_strong_at_an_edge_and_nowhere_else():
    photo = np.zeros((16, 16, 3))
    photo[:, 8:, 1] = 1  # in one colour only
    edges = edge_strength(photo)
    assert edges.shape == (16, 16) and edges[:, 7:9].min() > 0.3
    assert edges[:, :6].max() < 1e-12 and edges[:, 10:].max() < 1e-12
    for other in (photo.transpose(2, 0, 1), np.zeros((1, 16, 3, 3)), photo[..., 0]):
        with pytest.raises(ValueError, match="H, W, 3"):
            edge_strength(other)


@pytest.mark.parametrize("spread", [None, 1 / 10])
def test_blurring_is_scipys_gaussian_of_a_share_of_the_shorter_side(spread):
    x = noise(2, 96, 64, dtype=torch.float64)
    soft = blurred(x) if spread is None else blurred(x, spread)
    sigma = 64 * (spread or 1 / 16)
    # "mirror" is PyTorch's "reflect"; the kernel reaches two standard deviations, rounded
    want = gaussian_filter(x.numpy(), sigma, mode="mirror", truncate=2, axes=(2, 3))
    assert_close(soft, torch.from_numpy(want), rtol=1e-6, atol=1e-7)
    assert soft.var() < 0.1 * x.var()


def test_blurring_keeps_what_has_no_detail():
    flat = torch.ones(1, 3, 40, 64)
    assert_close(blurred(flat), flat)


class Brightness(nn.Module):
    """Two classes; the first one's score is the pixels' sum, small enough for a soft answer."""

    def forward(self, x):
        total = x.sum(dim=(1, 2, 3)) / 100
        return torch.stack([total, torch.zeros_like(total)], dim=1)


@pytest.mark.parametrize("class_index", [0, 1])
def test_replacement_equals_a_loop_over_the_pixels(class_index):
    start, end = noise(1, 32), noise(1, 32, seed=1)
    values = noise(1, 32, seed=2)[0]  # signed and in colour: the largest absolute value counts
    network = Brightness()
    curve = replacement_curve(network, start, end, values, class_index, steps=4)
    photo, want = start.clone(), [network(start).softmax(1)[0, class_index]]
    for place in values.abs().amax(0).flatten().argsort(descending=True).split(256):
        photo.flatten(2)[..., place] = end.flatten(2)[..., place]
        want.append(network(photo).softmax(1)[0, class_index])
    assert_close(curve, torch.stack(want))
    in_double = replacement_curve(network, start.double(), end.double(), values, class_index, 4)
    assert_close(in_double, curve)  # which is float32
    assert len(curve.unique()) == 5 and 0.1 < curve.min() < curve.max() < 0.9


class Counting(nn.Module):
    """Notes how many pixels of each photo are 1."""

    def __init__(self):
        super().__init__()
        self.counts = []

    def forward(self, x):
        self.counts += x[:, 0].sum((1, 2)).int().tolist()
        return x[:, :2].mean((2, 3))


@pytest.mark.parametrize("steps", [5, 7, 10, 50])
def test_each_step_takes_its_share_of_the_pixels_and_not_one_more(steps):
    start, end = torch.zeros(1, 3, 160, 160), torch.ones(1, 3, 160, 160)
    network = Counting()
    replacement_curve(network, start, end, noise(1, 160)[0], 0, steps)
    assert network.counts == [math.ceil(Fraction(k * 160**2, steps)) for k in range(steps + 1)]


def test_equally_strong_pixels_are_replaced_in_an_order_that_is_none_and_always_the_same():
    start, end = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    end[..., :16, :] = end[..., :16] = -1  # row by row, or column by column, darker first
    end -= end.mean()
    zero, network = torch.zeros(32, 32), Brightness()
    curve = replacement_curve(network, start, end, zero, 0, steps=8)
    assert (curve - 0.5).abs().max() < 0.2 and curve[1:-1].std() > 0
    assert torch.equal(curve, replacement_curve(network, start, end, zero + 1, 0, steps=8))


def test_replacement_begins_and_ends_with_the_photos(network):
    x, _ = noise(1, 64), network.train()
    soft = blurred(x)
    curve = replacement_curve(network, x, soft, torch.zeros(64, 64), 2, steps=3)
    assert all(module.training for module in network.modules())
    both = network.eval()(torch.cat([x, soft])).softmax(1)[:, 2]
    assert_close(curve[[0, -1]], both.detach(), rtol=1e-4, atol=1e-6)
    assert curve.shape == (4,) and not curve.requires_grad
    assert len(replacement_curve(network, x, soft, torch.zeros(64, 64), 2)) == 33


@pytest.mark.parametrize("n, side, steps", [(2, 32, 4), (1, 40, 4), (1, 32, 0)])
def test_replacement_refuses_what_does_not_fit(n, side, steps):
    x, values, asked = noise(n, 32), torch.ones(side, side), (0, steps)
    with pytest.raises(ValueError, match="Expected one photo|one step"):
        replacement_curve(Brightness(), x, x, values, *asked)
    with pytest.raises(ValueError, match="Expected one photo|one step"):
        road_curve(Brightness(), x, values, *asked)


def test_replacement_needs_two_photos_of_one_size():
    with pytest.raises(ValueError, match="two photos of one size"):
        replacement_curve(Brightness(), noise(1, 32), noise(1, 64), torch.ones(32, 32), 0)


def solved_pixel_by_pixel(photo, missing):
    """Every missing pixel the weighted mean of its neighbours: a dense system, row by row."""
    height, width = missing.shape
    unknown = [tuple(place) for place in np.argwhere(missing)]
    system, known = np.zeros((len(unknown), len(unknown))), np.zeros((len(unknown), 3))
    for row, (i, j) in enumerate(unknown):
        for di, dj in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b):
            near, weight = (i + di, j + dj), 1 if di and dj else 2
            if 0 <= near[0] < height and 0 <= near[1] < width:
                system[row, row] += weight
                if missing[near]:
                    system[row, unknown.index(near)] -= weight
                else:
                    known[row] += weight * photo[:, near[0], near[1]]
    return unknown, np.linalg.solve(system, known)


def test_imputation_solves_the_system_that_numpy_solves():
    x = noise(2, 12, 9, dtype=torch.float64)
    missing = np.random.default_rng(0).random((12, 9)) < 0.6
    missing[:4, :5] = True  # a hole at a corner, wider than a pixel
    filled = imputed(x, missing, noise=0)
    for photo, result in zip(x, filled, strict=True):
        places, want = solved_pixel_by_pixel(photo.numpy(), missing)
        got = torch.stack([result[:, i, j] for i, j in places])
        assert_close(got, torch.from_numpy(want), rtol=1e-9, atol=1e-12)
    assert torch.equal(imputed(x.clone().requires_grad_(), missing, noise=0), filled)
    left = torch.from_numpy(~missing)
    assert torch.equal(filled[..., left], x[..., left]) and missing.any() and left.any()


def test_imputation_goes_on_with_a_slope():
    slope = torch.arange(24.0).expand(1, 3, 16, 24).contiguous()
    missing = np.zeros((16, 24), dtype=bool)
    missing[4:12, 5:20] = True
    assert_close(imputed(slope, missing, noise=0), slope, rtol=1e-5, atol=1e-5)
    assert imputed(slope, missing).dtype == slope.dtype


def test_the_noise_has_its_deviation_and_is_the_same_for_the_same_seed():
    x, missing = torch.zeros(1, 3, 64, 64), np.ones((64, 64), dtype=bool)
    missing[0] = False
    rough = imputed(x, missing, noise=0.5)
    assert rough[..., 1:, :].std().item() == pytest.approx(0.5, rel=0.05)
    assert not rough[..., 0, :].any()
    assert torch.equal(rough, imputed(x, missing, noise=0.5))
    assert not torch.equal(rough, imputed(x, missing, noise=0.5, seed=1))
    assert torch.equal(imputed(x, missing), imputed(x, missing, noise=0.01, seed=0))
    assert imputed(x, missing).std().item() == pytest.approx(0.01, rel=0.1)


def test_imputation_needs_something_to_begin_with():
    x = noise(1, 8)
    nothing = np.zeros((8, 8), dtype=bool)
    same = imputed(x, nothing)
    assert torch.equal(same, x) and same.data_ptr() != x.data_ptr()
    for missing in (~nothing, np.eye(9, dtype=bool)):
        with pytest.raises(ValueError, match="some of them False"):
            imputed(x, missing)


@pytest.mark.parametrize("class_index", [0, 1])
def test_road_equals_a_loop_that_takes_the_strongest_pixels(class_index):
    x, values, network = noise(1, 32), noise(1, 32, seed=2)[0], Brightness()
    curve = road_curve(network, x, values, class_index, steps=4, noise=0)
    want = [network(x).softmax(1)[0, class_index]]
    order = values.abs().amax(0).flatten().argsort(descending=True).numpy()
    for k in (1, 2, 3):
        missing = np.zeros(32 * 32, dtype=bool)
        missing[order[: 256 * k]] = True
        photo = x[0].numpy().copy()
        places, solved = solved_pixel_by_pixel(photo, missing.reshape(32, 32))
        for (i, j), value in zip(places, solved, strict=True):
            photo[:, i, j] = value
        want.append(network(torch.from_numpy(photo)[None]).softmax(1)[0, class_index])
    assert_close(curve, torch.stack(want), rtol=1e-4, atol=1e-5)
    assert len(curve.unique()) == 4
    rough = road_curve(network, x, values, class_index, steps=4, noise=1)
    assert rough[0] == curve[0] and not torch.equal(rough, curve)
    as_asked = road_curve(network, x, values, class_index, steps=8, noise=0.01)
    assert torch.equal(as_asked, road_curve(network, x, values, class_index))


@pytest.mark.parametrize(
    "class_index, error",
    [(None, TypeError), ([0, 1, 2], ValueError), (True, TypeError), (9, IndexError)],
)
def test_curves_are_of_one_class(class_index, error):
    """None would be each altered photo's own, and a list each step's."""
    network, x, values = narrow(), noise(1, 32), np.random.default_rng(0).random((32, 32))
    for ask in (
        lambda: replacement_curve(network, x, 0 * x, values, class_index, steps=2),
        lambda: road_curve(network, x, values, class_index, steps=3),
    ):
        with pytest.raises(error):
            ask()
