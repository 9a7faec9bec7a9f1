"""The stepper's frames against the walks, autograd and the layers themselves."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers import METHODS, Deconvnet, ModelError, saliency
from helpers.interactive.stepper import (
    describe,
    frame,
    headline,
    panels_of,
    stops,
    switch_places,
    walk,
)

from .comparing import assert_close
from .networks import narrow, noise

X = noise(1, 64)
NETWORK = narrow()
WAY = walk(NETWORK, X)
UP, DOWN = range(WAY.net.depth + 1), range(WAY.net.depth + 1, WAY.last_step + 1)
rules = pytest.mark.parametrize("rule", METHODS)


def test_a_walk_is_done_with_its_photo():
    x = X.clone()
    way = walk(NETWORK, x)
    want = frame(way, 0).picture.clone()
    x.zero_()
    assert want.any() and torch.equal(frame(way, 0).picture, want)


def test_there_are_31_layers_up_and_31_down():
    assert WAY.net.depth == 31 and WAY.last_step == 62
    levels = [frame(WAY, step).level for step in range(63)]
    assert levels == [*range(32), *range(30, -1, -1)]
    assert [frame(WAY, step).layer for step in range(63)] == [None, *range(31), *range(30, -1, -1)]


@torch.no_grad()
def test_on_the_way_up_stand_the_networks_own_activations_strongest_first():
    x = X.clone()
    for step in UP:
        if step:
            x = NETWORK.features[step - 1](x.clone())
        shot = frame(WAY, step, channels=3)
        assert shot.shape == x.shape[1:] and not shot.down and shot.signal is None
        assert_close(shot.activation, x[0, list(shot.channels)])
        amounts = x[0].abs().flatten(1).amax(1)
        assert [amounts[k].item() for k in shot.channels] == sorted(amounts.tolist(), reverse=True)[
            :3
        ]


@rules
def test_the_last_step_is_the_methods_picture(rule):
    for c in (0, 3):
        assert_close(frame(WAY, 62, rule, c).picture, saliency(NETWORK, X, c, rule)[0])
    assert_close(
        frame(WAY, 62, rule).picture, METHODS[rule](NETWORK).from_features(X, "strongest")[0]
    )


def test_under_the_gradients_rule_every_signal_is_autograds():
    x, way = (
        noise(1, 64, dtype=torch.float64),
        walk(narrow().double(), noise(1, 64, dtype=torch.float64)),
    )
    network, tensors = narrow().double(), [x.requires_grad_()]
    for layer in network.features:
        tensors.append(layer(tensors[-1].clone()))
    score = network.classifier(network.avgpool(tensors[-1]).flatten(1))[0, 2]
    for level, gradient in enumerate(torch.autograd.grad(score, tensors[:-1])):
        shot = frame(way, 62 - level, "gradient", 2)
        assert_close(shot.signal, gradient[0, list(shot.channels)])


@rules
def test_each_step_down_is_one_layers_step_of_the_one_before(rule):
    many = 10**6
    before = None
    for step in DOWN:
        shot = frame(WAY, step, rule, 5, channels=many)
        signal = shot.signal[np.argsort(shot.channels)][None]
        amounts = signal[0].abs().flatten(1).amax(1)
        assert amounts[list(shot.channels)].diff().max() <= 0 < amounts.max()  # strongest first
        if shot.level:
            assert_close(shot.picture, signal[0].abs().amax(0))
        if before is not None:
            want = WAY.net.steps[shot.layer].down(
                before, WAY.trace.memory[shot.layer], METHODS[rule].relu_down
            )
            assert_close(signal, want)
        before = signal


def test_on_the_way_up_the_picture_is_the_strongest_units():
    level = 12
    activation = WAY.trace.activations[level]
    start = torch.where(activation == activation.max(), activation, 0)
    assert_close(
        frame(WAY, level, "deconvnet").picture, Deconvnet(NETWORK).down(WAY.trace, start, level)[0]
    )


def test_masks_and_switches_stand_where_they_belong():
    for step in range(1, 63):
        shot = frame(WAY, step)
        assert (shot.mask is not None) == (shot.kind == "ReLU") and (shot.switches is not None) == (
            shot.kind == "MaxPool2d"
        )
        if shot.kind == "Conv2d":
            continue
        below = WAY.trace.activations[shot.layer][0, list(shot.channels)]
        if shot.mask is not None:
            assert torch.equal(shot.mask, below > 0)
        if shot.switches is not None:
            assert torch.equal(
                below[shot.switches].sort().values, F.max_pool2d(below, 2).flatten().sort().values
            )


def test_switch_places_by_hand():
    x = torch.tensor([[[[1.0, 2], [4, 3]]]])
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    assert switch_places(indices, x.shape).tolist() == [[[[False, False], [True, False]]]]


@rules
def test_every_frame_is_shown_in_the_same_four_panels_and_told_in_words(rule):
    shots = [frame(WAY, step, rule, 5) for step in range(63)]
    for shot in shots:
        shown = panels_of(shot)
        assert [panel.large for panel in shown] == [False, False, False, True] and len(
            shown[3].pictures
        ) == 1
        second = shot.switches if shot.mask is None else shot.mask
        maps_of = (shot.activation, second, shot.signal)
        for panel, maps in zip(shown[:3], maps_of, strict=True):
            sides = [] if maps is None else [maps.shape[1]] * len(shot.channels)
            assert [len(picture) for _, picture in panel.pictures] == sides
            assert panel.note
            for (words, _), k in zip(panel.pictures, shot.channels, strict=maps is not None):
                assert f"channel {k}" in words
        for picture in (picture for panel in shown for _, picture in panel.pictures):
            assert 0 <= picture.min() and picture.max() <= 1
    assert len({headline(shot) for shot in shots}) == 63
    assert all(
        f"tep {shot.step}:" in headline(shot) and " x ".join(map(str, shot.shape)) in headline(shot)
        for shot in shots
    )
    assert all(describe(shot) for shot in shots)


def test_a_panels_scale_is_what_it_says():
    """Grey where there is a sign, black where there is none, divided by its 99.5th percentile."""
    for step, zero in ((1, 0.5), (2, 0)):  # a convolution, a ReLU
        shot = frame(WAY, step)
        (_, shown), *_ = panels_of(shot)[0].pictures
        values = shot.activation[0].double().numpy()
        share = np.clip(values / np.percentile(abs(values), 99.5), -1, 1)
        np.testing.assert_allclose(shown, share / 2 + 0.5 if zero else share, atol=1e-6)
    shot = frame(WAY, 40, "guided", 5)
    for (_, shown), mask in zip(panels_of(shot)[1].pictures, shot.mask, strict=True):
        assert np.array_equal(shown, mask)


def test_around_a_units_picture_stands_the_photo_faded():
    shot = frame(WAY, 3, "gradient")  # a unit behind two convolutions has reached 5 x 5 pixels
    ((_, shown),) = panels_of(shot)[3].pictures
    assert panels_of(shot)[3].note == "grey is 0; around it the photo, faded"
    assert (
        panels_of(frame(WAY, 31, "gradient"))[3].note == "grey is 0"
    )  # it has reached every pixel
    faded = 0.3 * shot.photo + 0.35
    inside = ~np.isclose(shown, faded).all(axis=2)
    rows, columns = (np.flatnonzero(inside.any(axis=d)) for d in (1, 0))
    assert 0 < len(rows) <= 5 and 0 < len(columns) <= 5
    assert (
        shot.picture[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].abs().sum()
        == shot.picture.abs().sum()
    )


@pytest.mark.parametrize("height", [2, 3])
def test_a_unit_that_reaches_three_columns_keeps_its_colours_and_its_places(height):
    shot = frame(WAY, 3)
    part = torch.arange(1.0, 1 + 9 * height).view(3, height, 3)
    picture = torch.zeros_like(shot.picture)
    picture[:, 4 : 4 + height, 7:10] = part
    ((_, shown),) = panels_of(replace(shot, picture=picture))[3].pictures
    share = np.clip(part.numpy() / np.percentile(part, 99.5), -1, 1).transpose(1, 2, 0)
    np.testing.assert_allclose(shown[4 : 4 + height, 7:10], share / 2 + 0.5, atol=1e-6)


def test_the_map_of_the_walk_goes_up_and_comes_back():
    places = stops(WAY)
    assert len(places) == 63 == len({place[:2] for place in places})
    for step, (row, column, kind) in enumerate(places):
        shot = frame(WAY, step)
        assert (row, kind) == (1 + shot.down, shot.kind)
        assert column == (1 if shot.layer is None else shot.layer + 2)


def test_a_frame_changes_nothing_it_is_made_of():
    before = [a.clone() for a in WAY.trace.activations]
    for step in (0, 40, 62):
        first = frame(WAY, step, "guided", 5)
        picture = first.picture.clone()
        assert picture.any()
        first.picture.zero_()
        assert torch.equal(frame(WAY, step, "guided", 5).picture, picture)
    assert all(map(torch.equal, before, WAY.trace.activations))


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ((63,), IndexError, "steps 0 to 62"),
        ((-1,), IndexError, "steps 0"),
        ((3, "lrp"), ModelError, "choose one of gradient"),
        ((40, "guided", 7), IndexError, "no class"),
    ],
)
def test_what_does_not_exist_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        frame(WAY, *arguments)


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match="One photo"):
        walk(NETWORK, noise(2, 64))


def test_a_walk_goes_with_its_last_user():
    """Also after a way down, whose signals are kept with it."""
    way = walk(narrow(), noise(1, 32))
    last = frame(way, way.last_step, "guided", 0)
    assert frame(way, way.last_step, "guided", 0).picture is not None and last.picture.any()
    assert way.signals("guided", 0) is way.signals("guided", 0)
    gone = weakref.ref(way.net)
    del way
    gc.collect()
    assert gone() is None
