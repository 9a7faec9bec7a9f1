"""Pictures whose truth is known, the networks taught with them, and the marks of their maps."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from helpers import (
    Deconvnet,
    ModelError,
    ModelUnavailable,
    all_maps,
    energy_in_box,
    load_model,
    load_twin,
    rank_correlation,
    saliency,
    saliency_any,
    ssim,
    two_digits,
)
from helpers.methods import TABLE
from helpers.networks import models, twins
from helpers.networks.twins import QUESTIONS, SEEDS, STROKES, TWINS
from training import twins as training

NAMES = [(name, seed) for name in TWINS for seed in SEEDS]


@pytest.fixture(scope="module")
def pictures():
    """Pictures that nothing was taught with or measured on."""
    return two_digits(300, seed=77)


@pytest.fixture(scope="module")
def report():
    return json.loads(training.MEASURED.read_text())


# The pictures


def test_the_drawing_is_seeded(pictures):
    again, other = two_digits(300, seed=77), two_digits(300, seed=78)
    for part, same, different in zip(pictures, again, other, strict=True):
        assert torch.equal(part, same) and not torch.equal(part, different)


def test_the_default_dtype_changes_nothing(pictures):
    torch.set_default_dtype(torch.float64)
    try:
        again, twin = two_digits(300, seed=77), load_twin("red")
        network = load_model(device="cpu").network
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(pictures, again, strict=True))
    assert {p.dtype for net in (twin, network) for p in net.parameters()} == {torch.float32}


def test_the_digits_do_not_meet_and_stay_in_their_halves(pictures):
    left, right = pictures.ink.unbind(1)
    assert not (left & right).any()
    assert left.flatten(1).sum(1).min() > 50 and right.flatten(1).sum(1).min() > 50
    assert not left[..., 24:].any() and not right[..., :24].any()
    # nothing is cut off at an edge
    for edge in (pictures.ink[..., 0, :], pictures.ink[..., -1, :], left[..., [0, 23]]):
        assert not edge.any()
    assert not right[..., [24, 47]].any()


def test_a_box_is_the_ink_and_two_pixels_around_it(pictures):
    for ink, boxes in zip(pictures.ink[:50].numpy(), pictures.boxes[:50].tolist(), strict=True):
        for place, (digit, box) in enumerate(zip(ink, boxes, strict=True)):
            rows, columns = np.nonzero(digit)
            assert box == [
                max(columns.min() - 2, 24 * place),
                max(rows.min() - 2, 0),
                min(columns.max() + 3, 24 * place + 24),
                min(rows.max() + 3, 48),
            ]


def test_colours_are_where_they_are_said_to_be(pictures):
    assert pictures.pixels.shape == (300, 3, 48, 48) and pictures.pixels.dtype == torch.float32
    assert pictures.pixels.min() >= 0 and pictures.pixels.max() <= 1
    assert 0.3 < pictures.red.float().mean() < 0.7
    for pixels, red, ink in zip(pictures.pixels, pictures.red, pictures.ink, strict=True):
        tint = pixels[0] - pixels[2]
        assert tint[ink[red]].mean() > 0.15 and tint[ink[1 - red]].mean() < -0.15
        assert abs(tint[~ink.any(0)].mean()) < 0.05
    torch.testing.assert_close(pictures.x / 2 + 0.5, pictures.pixels)


def test_the_pictures_are_drawn_as_those_that_the_twins_were_taught_with(pictures):
    """Colours and places on average; written down when the twins were taught."""
    ink, rows = pictures.ink, torch.arange(300)
    assert ink.float().mean().item() == pytest.approx(0.0620, abs=1e-4)
    middle = ink.nonzero()[:, 2:].double().mean(0)
    assert middle.tolist() == pytest.approx([23.93, 23.63], abs=0.01)
    for digit, want in (
        (pictures.red, [0.795, 0.301, 0.272]),
        (1 - pictures.red, [0.275, 0.416, 0.797]),
    ):
        colours = pictures.pixels.transpose(0, 1)[:, ink[rows, digit]]
        assert colours.mean(1).tolist() == pytest.approx(want, abs=1e-3)


def test_kind_colour_and_place_are_independent(pictures):
    digits = pictures.digits
    assert torch.bincount(digits.flatten(), minlength=10).min() > 30
    assert 0.03 < (digits[:, 0] == digits[:, 1]).float().mean() < 0.2


def test_answers_by_hand(pictures):
    for i in range(40):
        (left, right), red = pictures.digits[i].tolist(), pictures.red[i].item()
        truth = {
            "red": right if red else left,
            "blue": left if red else right,
            "left": left,
            "right": right,
        }
        for question, answer in truth.items():
            assert pictures.answers(question)[i] == answer
            assert pictures.digits[i, pictures.place(question)[i]] == answer
    with pytest.raises(ModelError, match="no question 'green'; choose one of red, blue"):
        pictures.place("green")


def test_lines_are_as_far_as_their_nearest_point():
    lines = twins.lines()
    assert lines.shape == (10, 16, 2) and len(STROKES) == 10
    line = lines[[2, 8]] * 2.5 + torch.tensor([12.0, 24.0])
    t = torch.linspace(0, 1, 400)[:, None]
    for points, distance in zip(line, twins.distance_to(line), strict=True):
        dense = torch.cat([a + t * (b - a) for a, b in zip(points, points[1:], strict=False)])
        y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(24) + 0.5, indexing="ij")
        want = torch.cdist(torch.stack([x, y], -1).reshape(-1, 2), dense).amin(1).view(48, 24)
        assert want.max() > 5 and want.min() < 0.5
        torch.testing.assert_close(distance, want, rtol=0, atol=0.02)


def test_chosen_digits_are_drawn():
    chosen = torch.tensor([[3, 5], [8, 8]])
    pictures = two_digits(2, 1, chosen)
    assert torch.equal(pictures.digits, chosen)
    for other in (chosen.to(torch.uint8), chosen.int().numpy()):
        again = two_digits(2, 1, other)
        assert again.digits.dtype == torch.int64 and torch.equal(again.pixels, pictures.pixels)
    # nothing else changes with them
    assert torch.equal(pictures.red, two_digits(2, 1).red)
    for n, digits in [(0, None), (2, [[1, 2]]), (1, [[1, 10]]), (1, [[0.5, 1.0]])]:
        with pytest.raises(ValueError, match="At least one|pairs of digits from 0 to 9"):
            two_digits(n, 0, digits)


# The networks


def test_all_networks_together_are_small_and_have_a_card():
    facts = json.loads(twins.CARD.read_text())
    assert twins.WEIGHTS.stat().st_size < 1_000_000
    assert set(facts["networks"]) == {f"{name}/{seed}" for name, seed in NAMES}
    for name, seed in NAMES:
        card = facts["networks"][f"{name}/{seed}"]
        assert (card["taught"], card["seed"]) == (name, seed)
        assert card["command"] == training.COMMAND and card["steps"] in training.STEPS.values()


def test_a_twin_is_ready_to_be_asked():
    network = load_twin("red")
    assert not network.training and next(network.parameters()).dtype == torch.float32
    assert not any(isinstance(part, nn.BatchNorm2d) for part in network.modules())
    Deconvnet(network)  # refuses what is not VGG-style
    other = load_twin("red", 1).state_dict()
    assert not any(torch.equal(v, other[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("name, seed", [("green", 0), ("red", 3), ("", 0)])
def test_unknown_twins_are_refused(name, seed):
    with pytest.raises(ModelError, match="choose one of red, blue.*seed from 0 to 2") as caught:
        load_twin(name, seed)
    assert not isinstance(caught.value, ModelUnavailable)


def test_one_changed_byte_of_the_weights_is_noticed(tmp_path, monkeypatch):
    copy = shutil.copy(twins.WEIGHTS, tmp_path)
    raw = bytearray(twins.WEIGHTS.read_bytes())
    raw[-1] ^= 1
    open(copy, "wb").write(raw)
    monkeypatch.setattr(twins, "WEIGHTS", models.Path(copy))
    with pytest.raises(ModelUnavailable, match="twins.safetensors is damaged.*SHA-256"):
        load_twin("red")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_twin_answers_its_question_and_no_other(pictures, question, seed):
    network = load_twin(question, seed)
    assert training.named(network, pictures.x, pictures.answers(question)) >= 97
    opposite = {"red": "blue", "blue": "red", "left": "right", "right": "left"}[question]
    assert training.named(network, pictures.x, pictures.answers(opposite)) < 20


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_other_digit_does_not_matter_to_a_twin(pictures, question):
    kept = training.stays(load_twin(question), pictures, question)
    assert kept["other"] >= 95 and kept["deciding"] <= 5


@pytest.mark.slow
def test_what_was_learnt_by_heart():
    for seed in SEEDS:
        seen, labels = training.by_heart(seed)
        fresh = two_digits(300, seed=77)
        for name, label in labels.items():
            network = load_twin(name, seed)
            assert training.named(network, seen.x, label) >= 95
            generalises = training.named(network, fresh.x, fresh.answers("red"))
            assert generalises > 80 if name == "true labels" else generalises < 20


# The marks


@pytest.mark.parametrize("name", TWINS)
def test_maps_are_those_of_autograd(pictures, name):
    network, x = load_twin(name), pictures.x[:8]
    classes = network(x).argmax(1)
    maps = all_maps(network, x, classes)
    for row in TABLE[:3]:
        want = saliency_any(network, x, classes, row.key)  # PyTorch's own way down
        assert want.abs().amax((1, 2, 3)).min() > 0
        torch.testing.assert_close(maps[row.title], want, rtol=1e-3, atol=1e-5)
        walked = saliency(network, x, classes, row.key)
        torch.testing.assert_close(walked, want, rtol=1e-3, atol=1e-5)
    below = network.features(x).detach().requires_grad_()
    scores = network.classifier(network.avgpool(below).flatten(1))
    scores.gather(1, classes[:, None]).sum().backward()
    cam = (below.grad.mean((2, 3), keepdim=True) * below).sum(1, keepdim=True).relu()
    cam = nn.functional.interpolate(cam, (48, 48), mode="bilinear", align_corners=False)[:, 0]
    assert cam.max() > 0
    torch.testing.assert_close(maps["Grad-CAM"], cam, rtol=1e-3, atol=1e-5)


def test_energies_are_the_deciding_digits_first(pictures):
    few = twins.Pictures(*(part[:6] for part in pictures))
    network = load_twin("red")
    energy = training.energies(network, few, "red")
    mirrored = training.energies(network, few, "blue")
    maps = all_maps(network, few.x, network(few.x).argmax(1))
    for i in range(6):
        red = few.red[i].item()
        want = energy_in_box(maps["gradient"][i], few.boxes[i, red].tolist())
        assert energy["gradient"][i, 0] == pytest.approx(want) and want > 0.2
    np.testing.assert_allclose(energy["gradient"][:, :2], mirrored["gradient"][:, 1::-1])
    assert not np.allclose(energy["gradient"][:, 0], energy["gradient"][:, 1])


def test_the_error_of_a_mean_counts_pictures_and_networks():
    values = np.array([[0.1, 0.3, 0.5], [0.3, 0.5, 0.7]])
    pictures, networks = np.array([0.2, 0.4, 0.6]), np.array([0.3, 0.5])
    want = (pictures.var(ddof=1) / 3 + networks.var(ddof=1) / 2) ** 0.5
    assert training.mean(values) == [40.0, round(100 * want, 2)]
    assert training.mean(np.array([[0.1, np.nan], [0.3, 0.5]]))[0] == 30


def test_the_stored_marks_are_of_these_weights_and_enough_pictures(report):
    assert report["weights_sha256"] == json.loads(twins.CARD.read_text())["sha256"], (
        "run training.twins --measure again"
    )
    assert report["pictures"]["energy"] >= 500 and len(report["seeds"]) >= 3
    methods = [row.title for row in TABLE]
    for groups in report["energy"].values():
        for rows in groups.values():
            assert list(rows) == [*methods, "edges"]
    assert list(report["likeness"]) == methods


@pytest.mark.parametrize("title, marked", training.MARKED.items())
def test_the_stored_marks_are_those_of_other_pictures_too(report, pictures, title, marked):
    few = twins.Pictures(*(part[:80] for part in pictures))
    networks = {(name, seed): load_twin(name, seed) for name in marked for seed in SEEDS}
    for name, row in training.marks(networks, few, marked).items():
        for what in ("deciding", "other"):
            stored, error = report["energy"][title]["any digits"][name][what]
            here, here_error = row[what]
            assert abs(here - stored) < 4 * (error**2 + here_error**2) ** 0.5 + 0.5, (name, what)


def test_likeness_is_of_networks_of_different_seeds():
    random = np.random.default_rng(0)
    first, second = (list(random.normal(size=(3, 2, 8, 8))) for _ in range(2))
    second[1][0] = first[0][0]
    second[0][1] = first[0][1]  # of one seed: not compared
    found = training.likeness(first, second)
    for title, like in (("rank_correlation", rank_correlation), ("ssim", ssim)):
        assert found[title].shape == (3, 2)
        far = like(first[0][0], second[2][0])
        assert found[title][0, 0] == pytest.approx((1 + far) / 2) and abs(far) < 0.6
        assert abs(found[title][0, 1]) < 0.6
    second[2][1] = 0
    ranks = training.likeness(first, second)["rank_correlation"]
    assert np.isnan(ranks[:, 1]).tolist() == [True, True, False]


def test_pictures_whose_map_is_zero_are_left_out_of_all_likenesses(pictures, monkeypatch):
    def some(network, x, classes):
        values = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(network))
        values[1] = 0 if network == 3 else values[1]
        return {"one": values}

    monkeypatch.setattr(training, "all_maps", some)
    networks = {(name, seed): 3 * (name[0] == "r") + seed for name, seed in NAMES[-6:]}
    row = training.told_apart(networks, twins.Pictures(*(part[:4] for part in pictures)))["one"]
    assert row["left_out"] == 25
    both, one, fall = (
        row[title]["rank_correlation"][0] for title in ("both true", "one random", "fall")
    )
    assert both != one and fall == pytest.approx(both - one, abs=0.02)


def test_the_stored_likenesses_are_those_of_other_pictures_too(report, pictures):
    few = twins.Pictures(*(part[:20] for part in pictures))
    networks = {(name, seed): load_twin(name, seed) for name, seed in NAMES[-6:]}
    for method, row in training.told_apart(networks, few).items():
        for title in (*training.COMPARED, "fall"):
            (here, a), (stored, b) = (
                found[title]["rank_correlation"] for found in (row, report["likeness"][method])
            )
            assert abs(here - stored) < 4 * (a**2 + b**2) ** 0.5 + 0.5, (method, title)


@pytest.mark.slow
def test_teaching_from_beginning_to_end(tmp_path, monkeypatch):
    for name, value in {
        "STEPS": {"questions": 3, "labels": 2},
        "BY_HEART": 20,
        "N_CARD": 40,
        "N_ENERGY": 6,
        "N_LIKENESS": 3,
        "BATCH": 8,
    }.items():
        monkeypatch.setattr(training, name, value)
    training.main(["--out", str(tmp_path)])
    monkeypatch.setattr(twins, "WEIGHTS", tmp_path / "twins.safetensors")
    monkeypatch.setattr(twins, "CARD", tmp_path / "twins.json")
    report = json.loads((tmp_path / "twins_measured.json").read_text())
    assert report["energy"]["place"]["same digit twice"]["gradient"]["deciding"][0] > 0
    # float16 is what was measured, and the twins of a seed are no longer the same network
    fresh = two_digits(40, training.FRESH)
    card = json.loads(twins.CARD.read_text())["networks"]["red/0"]["named_percent"]
    red, blue = load_twin("red"), load_twin("blue")
    assert training.named(red, fresh.x, fresh.answers("red")) == card["red"]
    assert not torch.equal(red.features[0].weight, blue.features[0].weight)
    again = training.teach("questions", 0)["red"]
    torch.testing.assert_close(again.state_dict(), red.state_dict(), rtol=1e-3, atol=1e-5)
