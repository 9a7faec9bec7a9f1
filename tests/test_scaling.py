"""What the scalings promise, for any map."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import scaling

numbers = st.floats(-1e6, 1e6, width=32)
maps = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.lists(numbers, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
        lambda values: np.array(values).reshape(shape)
    )
)
quick = settings(max_examples=100, deadline=None)
SCALINGS = {
    "by_max": lambda m: scaling.by_max(np.abs(m)),
    "signed": scaling.signed,
    "signed 90": lambda m: scaling.signed(m, 90),
    "min_max": scaling.min_max,
    "strength": scaling.strength,
    "strength 90": lambda m: scaling.strength(m, 90),
}
every = pytest.mark.parametrize("scale", SCALINGS.values(), ids=SCALINGS.keys())


@every
@quick
@given(m=maps)
def test_every_scaling_ends_in_zero_to_one_and_leaves_its_map_alone(scale, m):
    copy = m.copy()
    scaled = scale(m)
    assert scaled.shape == m.shape and scaled.dtype == np.float64
    assert scaled.min() >= 0 and scaled.max() <= 1
    assert np.array_equal(m, copy)


@quick
@given(m=maps)
def test_by_max_keeps_zero_and_proportions(m):
    m = np.abs(m)
    np.testing.assert_allclose(scaling.by_max(m) * m.max(), m, rtol=1e-12, atol=1e-300)


@quick
@given(m=maps)
def test_signed_keeps_signs_around_grey_and_turns_with_them(m):
    scaled = scaling.signed(m)
    assert np.array_equal(scaled > 0.5, m > 0) or np.abs(m).max() > 1e12 * np.abs(m)[m != 0].min()
    np.testing.assert_allclose(scaling.signed(-m), 1 - scaled, atol=1e-12)
    np.testing.assert_allclose((scaled - 0.5) * 2 * np.abs(m).max(), m, rtol=1e-9, atol=1e-9)


@quick
@given(m=maps)
def test_min_max_uses_the_whole_range(m):
    scaled = scaling.min_max(m)
    assert scaled.min() == 0 and scaled.max() == (1 if m.max() > m.min() else 0)


@quick
@given(m=maps)
def test_strength_does_not_know_the_sign(m):
    np.testing.assert_array_equal(scaling.strength(m), scaling.strength(-m))
    np.testing.assert_array_equal(scaling.strength(m), scaling.by_max(np.abs(m)))


def test_scalings_on_numbers_one_can_check():
    m = np.array([[-2.0, 0.0], [1.0, 4.0]])
    assert scaling.signed(m).tolist() == [[0.25, 0.5], [0.625, 1]]
    assert scaling.min_max(m).tolist() == [[0, 1 / 3], [0.5, 1]]
    assert scaling.strength(m).tolist() == [[0.5, 0], [0.25, 1]]
    assert scaling.by_max(np.abs(m)).tolist() == [[0.5, 0], [0.25, 1]]


def test_a_percentile_clips_what_lies_beyond():
    m = np.arange(-100.0, 101.0).reshape(1, -1)
    scaled = scaling.signed(m, 50)
    assert scaled[0, 0] == 0 and scaled[0, -1] == 1 and scaled[0, 125] == 0.75
    assert (scaling.strength(m, 50) == 1).sum() == 102


@pytest.mark.parametrize("scale", [scaling.signed, scaling.strength])
def test_a_single_value_in_a_sparse_map_is_still_seen(scale):
    m = np.zeros((100, 100))
    m[3, 4] = 5.0
    assert scale(m, 99)[3, 4] == 1


@pytest.mark.parametrize("value", [0.0, 3.0])
@every
def test_constant_maps_have_a_picture_too(scale, value):
    scaled = scale(np.full((4, 5), value))
    assert len(np.unique(scaled)) == 1 and 0 <= scaled.min() <= 1


def test_zero_maps_stay_zero_and_grey_for_signed():
    zero = np.zeros((2, 2))
    assert not any(f(zero).any() for f in (scaling.by_max, scaling.min_max, scaling.strength))
    assert (scaling.signed(zero) == 0.5).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@every
def test_nan_and_infinity_are_refused(scale, value):
    m = np.ones((3, 3))
    m[1, 1] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        scale(m)


@pytest.mark.parametrize("shape", [(3,), (1, 3, 4, 4), (4, 4, 2), (2, 4, 5)])
def test_batches_and_other_shapes_are_refused_as_they_came(shape):
    with pytest.raises(ValueError, match=f"got {re.escape(str(shape))}; index the batch first"):
        scaling.to_numpy(np.zeros(shape))


def test_three_rows_in_colour_are_no_channels():
    m = np.arange(3 * 5 * 3.0).reshape(3, 5, 3)
    assert np.array_equal(scaling.to_numpy(m), m)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_channels_may_come_first_however_narrow_the_picture(width):
    m = np.arange(3 * 5 * width * 1.0).reshape(3, 5, width)
    assert np.array_equal(scaling.to_numpy(m), np.moveaxis(m, 0, 2))


def test_by_max_refuses_negative_values():
    with pytest.raises(ValueError, match="use signed or min_max"):
        scaling.by_max(np.array([[-1.0, 2.0]]))


def test_gradient_pictures_of_torch_and_numpy_mean_the_same():
    gradient = torch.randn(3, 4, 5, requires_grad=True)
    array = scaling.to_numpy(gradient)
    assert array.shape == (4, 5, 3)
    np.testing.assert_array_equal(array, scaling.to_numpy(gradient.detach().numpy()))
    np.testing.assert_array_equal(array, scaling.to_numpy(array))
    np.testing.assert_array_equal(
        scaling.strength(gradient, 100), np.abs(array).max(2) / np.abs(array).max()
    )
