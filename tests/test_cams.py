"""CAMs and averaged gradients, against the papers' sums written out, and against captum."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from helpers import (
    ModelError,
    all_maps_any,
    contrast,
    grad_cam_any,
    grad_cam_any_each,
    integrated_gradients,
    resize_maps,
    smooth_grad,
)
from helpers.autograd import cams, mean_gradients
from helpers.networks.models import CARD
from training import measure_cams

from .comparing import assert_close
from .networks import noise, randomise

N, C, H, W = 2, 5, 3, 4


@pytest.fixture
def seen():
    """Feature maps with zeros, a silent and a negative channel; a gradient of both signs, and 0."""
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(N, C, H, W, generator=random, dtype=torch.float64).clamp(min=0)
    maps[:, 2] *= -1  # not every layer ends in a ReLU
    maps[:, 3] = 0
    gradient = torch.randn(N, C, H, W, generator=random, dtype=torch.float64)
    gradient[:, :, 1, 2] = 0
    return maps, gradient


def by_loops(name: str, A: np.ndarray, G: np.ndarray) -> np.ndarray:
    """Of one photo, ``(C, h, w)`` each: the weights as in the papers, entry by entry."""
    w = np.zeros_like(A)
    for k, i, j in np.ndindex(A.shape):
        places = list(itertools.product(range(A.shape[1]), range(A.shape[2])))
        if name == "Grad-CAM":
            w[k, i, j] = sum(G[k, a, b] for a, b in places) / len(places)
        elif name == "Grad-CAM++":
            for a, b in places:
                below = 2 * G[k, a, b] ** 2 + sum(A[k, p, q] * G[k, a, b] ** 3 for p, q in places)
                if below:
                    w[k, i, j] += G[k, a, b] ** 2 / below * max(G[k, a, b], 0)
        elif name == "XGrad-CAM":
            total = sum(A[k, p, q] for p, q in places)
            w[k, i, j] = sum(A[k, a, b] / total * G[k, a, b] for a, b in places) if total else 0
        elif name == "Layer-CAM":
            w[k, i, j] = max(G[k, i, j], 0)
        elif name == "HiResCAM":
            w[k, i, j] = G[k, i, j]
        elif name == "no class":
            w[k, i, j] = 1
        else:  # the axis along which the places spread most, by the matrix's eigenvectors
            flat = A.reshape(len(A), -1)
            axis = np.linalg.eigh(flat @ flat.T)[1][:, -1]
            w[k, i, j] = axis[k] * np.sign((axis @ flat).sum())
    return w


@pytest.mark.parametrize("name", cams.WEIGHTS)
def test_weights_are_the_papers(seen, name):
    maps, gradient = seen
    weights = cams.WEIGHTS[name](maps, gradient)
    assert weights.shape in [(N, C, 1, 1), (N, C, H, W)]
    want = torch.stack(
        [torch.from_numpy(by_loops(name, a.numpy(), g.numpy())) for a, g in zip(*seen, strict=True)]
    )
    # what a silent channel weighs makes no difference to the map
    heard = maps.abs().amax(dim=(2, 3), keepdim=True) > 0
    assert_close(torch.where(heard, weights, 0).expand(N, C, H, W), torch.where(heard, want, 0))


@pytest.fixture
def asked():
    """A small network, two photos, and feature maps and gradients at its layer "1", class 2."""
    network = randomise(
        nn.Sequential(nn.Conv2d(3, C, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(C * 25, 4))
    ).double()
    x = noise(2, 21, dtype=torch.float64)
    maps = network[:2](x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network[2:](maps)[:, 2].sum(), maps)
    return network, x, maps.detach(), gradient


@pytest.mark.parametrize("name", cams.WEIGHTS)
def test_each_is_had_by_its_name(asked, name):
    network, x, maps, gradient = asked
    want = torch.stack(
        [
            torch.from_numpy((by_loops(name, a.numpy(), g.numpy()) * a.numpy()).sum(0).clip(0))
            for a, g in zip(maps, gradient, strict=True)
        ]
    )
    look = grad_cam_any(network, x, "1", 2, cam=name.upper())
    assert want.any() and (want[0] != want[1]).any()
    assert_close(look.maps, want)
    whole = name in ("Layer-CAM", "HiResCAM")
    assert look.weights.shape == ((2, C, 5, 5) if whole else (2, C))
    weights = look.weights if whole else look.weights[..., None, None]
    assert_close(cams.gather(weights, maps), want)
    each = grad_cam_any_each(network, x, [0, 2], "1", cam=name)
    assert_close(each.maps[:, 1], want)
    named = "Guided " + name
    found = all_maps_any(network, x, 2, ["grad_cam", "guided_grad_cam", "guided"], "1", cam=name)
    assert list(found) == ["guided backpropagation", name, named]
    regions = resize_maps(want, (21, 21))
    assert_close(found[name], regions)
    assert_close(found[named], regions[:, None] * found["guided backpropagation"])


@pytest.mark.parametrize("name", ["Score-CAM", "", None, 3])
def test_other_names_are_refused(asked, name):
    network, x, *_ = asked
    for explain in (grad_cam_any, all_maps_any):
        with pytest.raises(
            ModelError, match=f"no CAM {name!r}; choose one of Grad-CAM, .*HiResCAM"
        ):
            explain(network, x, cam=name)


def test_no_two_methods_are_the_same(seen):
    every = [cams.gather(weigh(*seen), seen[0]) for weigh in cams.WEIGHTS.values()]
    for a, b in itertools.combinations(every, 2):
        assert (a - b).abs().max() > 1e-3


def test_gather_adds_and_keeps_the_positive_part():
    maps = torch.tensor([[[[1.0, 2], [3, 0]], [[4, 0], [1, 5]]]])
    weights = torch.tensor([2.0, -1]).view(1, 2, 1, 1)
    assert cams.gather(weights, maps).tolist() == [[[0, 4], [5, 0]]]
    places = torch.tensor([[[[0.0, 1], [0, 0]], [[1, 0], [0, 2]]]])
    assert cams.gather(places, maps).tolist() == [[[4, 2], [0, 10]]]


def test_gradcam_plus_plus_divides_by_nothing_where_the_denominator_vanishes():
    maps = torch.full((1, 1, 1, 2), 1.0)
    gradient = torch.tensor([[[[-1.0, 2]]]])  # 2 * 1 + 2 * (-1) is zero
    (weight,) = cams.grad_cam_pp_weights(maps, gradient).flatten().tolist()
    assert weight == pytest.approx(4 / (2 * 4 + 2 * 8) * 2)


@pytest.fixture
def small():
    """A network that is cut behind its second layer, and a photo."""
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 6)
    ).double()
    return network.eval(), torch.randn(1, 3, 32, 32, dtype=torch.float64)


def test_ablation_asks_without_each_channel(small):
    network, photo = small
    with torch.no_grad():
        maps = network[:2](photo)
        scores = network[2:](maps)
        c = scores.argmax().item()
        weights = cams.ablation_weights(maps, lambda m: network[2:](m)[:, c], batch=3)
        for k in range(4):
            without = maps.clone()
            without[:, k] = 0
            want = (scores[0, c] - network[2:](without)[0, c]) / scores[0, c]
            assert weights[0, k] == pytest.approx(want.item())
    assert weights.shape == (1, 4, 1, 1) and weights.abs().min() > 1e-6
    worst = scores.argmin().item()
    assert scores[0, worst] < 0
    with pytest.raises(ValueError, match="divides by the score"):
        cams.ablation_weights(maps, lambda m: network[2:](m)[:, worst])
    with pytest.raises(ValueError, match="divides by the score"):
        cams.ablation_weights(maps, lambda m: 0 * network[2:](m)[:, c])


def test_score_cam_asks_about_masked_photos(small):
    network, photo = small
    with torch.no_grad():
        maps = network[:2](photo)
        maps[:, 2] = 0.5  # the same everywhere: a mask of zeros
        maps = torch.nn.functional.avg_pool2d(maps, 4)
        got = cams.score_weights(maps, photo, lambda x: network(x)[:, 1], batch=3)
        scores = []
        for k in range(4):
            mask = torch.nn.functional.interpolate(maps[:, k : k + 1], (32, 32), mode="bilinear")
            span = mask.max() - mask.min()
            mask = (mask - mask.min()) / span if k != 2 else torch.zeros_like(mask)
            scores.append(math.exp(network(photo * mask)[0, 1].item()))
    want = [s / sum(scores) for s in scores]
    assert got.flatten().tolist() == pytest.approx(want) and len(set(want)) == 4


def test_integrated_gradients_are_complete(small):
    network, photo = small
    start = torch.full_like(photo, 0.3)
    for c in (0, 4):
        got = mean_gradients.integrated_gradients(network, photo, c, start, steps=300)
        with torch.no_grad():
            want = network(photo)[0, c] - network(start)[0, c]
        assert abs(want) > 0.01 and got.sum().item() == pytest.approx(want.item(), rel=1e-3)


def test_integrated_gradients_are_captums(small):
    from captum.attr import IntegratedGradients

    network, photo = small
    photos = torch.cat([photo, photo.flip(3) + 0.1])
    want = IntegratedGradients(network).attribute(
        photos, target=[2, 5], n_steps=7, method="gausslegendre"
    )
    assert_close(mean_gradients.integrated_gradients(network, photos, [2, 5], steps=7), want)


def test_one_step_of_integrated_gradients_is_the_gradient_half_way(small):
    network, photo = small
    start = torch.full_like(photo, 0.3)
    leaf = ((photo + start) / 2).requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf)[0, 2], leaf)
    got = mean_gradients.integrated_gradients(network, photo, 2, start, steps=1)
    assert_close(got, (photo - start) * gradient)


@pytest.mark.parametrize(
    "ask, told, other",
    [
        (mean_gradients.integrated_gradients, {"steps": 64}, {"steps": 65}),
        (
            mean_gradients.smooth_grad,
            {"noise": 0.15, "samples": 32, "seed": 0},
            {"noise": 0.15, "samples": 33, "seed": 0},
        ),
    ],
)
def test_what_is_not_told_is_what_the_reference_says(small, ask, told, other):
    network, photo = small
    want = ask(network, photo, 1, **told)
    assert_close(ask(network, photo, 1), want, rtol=0, atol=0)
    assert not torch.equal(ask(network, photo, 1, **other), want)


def test_a_gradient_that_is_no_number_is_refused():
    class Root(nn.Module):
        def forward(self, x):
            return x.abs().sqrt().flatten(1)

    with pytest.raises(ModelError, match="gradient holds NaN or infinite"):
        mean_gradients.smooth_grad(Root(), torch.zeros(1, 3, 2, 2), 0, noise=0)


def test_smooth_grad_is_captums(small):
    """The noise is drawn elsewhere, so the mean over many is compared."""
    from captum.attr import NoiseTunnel, Saliency

    network, photo = small
    spread = float(0.2 * (photo.max() - photo.min()))
    torch.manual_seed(0)
    want = NoiseTunnel(Saliency(network)).attribute(
        photo, target=1, nt_samples=1000, nt_samples_batch_size=100, stdevs=spread, abs=False
    )
    got = mean_gradients.smooth_grad(network, photo, 1, noise=0.2, samples=600)
    plain = mean_gradients.smooth_grad(network, photo, 1, noise=0, samples=1)
    assert (got - want).norm() < 0.1 * want.norm() < 0.5 * (plain - want).norm()


def test_smooth_grad_without_noise_is_the_gradient(small):
    network, photo = small
    leaf = photo.clone().requires_grad_()
    (want,) = torch.autograd.grad(network(leaf)[0, 3], leaf)
    assert_close(mean_gradients.smooth_grad(network, photo, 3, noise=0, samples=2), want)
    one, same, other = (
        mean_gradients.smooth_grad(network, photo, 3, samples=2, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same) and not torch.allclose(one, other)


def test_averages_take_what_any_network_takes():
    """A contrast of two classes, of small photos with one channel."""
    torch.manual_seed(4)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 5 * 3, 6)
    ).double()
    photos, why = torch.randn(2, 1, 7, 5, dtype=torch.float64), contrast([1, 4], 3)
    got = mean_gradients.integrated_gradients(network, photos, why)
    with torch.no_grad():
        scores, start = network(photos), network(0 * photos)
    want = why(scores) - why(start)
    assert got.shape == photos.shape and want.abs().min() > 1e-3
    assert_close(got.sum(dim=(1, 2, 3)), want)
    leaf = photos.clone().requires_grad_()
    for ask, start in (
        (mean_gradients.integrated_gradients, {"start": 0 * leaf}),
        (mean_gradients.smooth_grad, {}),
    ):
        found = ask(network, leaf, why, **start)
        assert not found.requires_grad and leaf.grad is None
        assert_close(found, ask(network, photos, why), rtol=0, atol=0)
    each = [mean_gradients.smooth_grad(network, photos, c, samples=2) for c in ([1, 4], 3, why)]
    assert each[2].abs().max() > 1e-3
    assert_close(each[2], each[0] - each[1])


@pytest.mark.parametrize("ask", [mean_gradients.integrated_gradients, mean_gradients.smooth_grad])
def test_averages_leave_the_network_alone(small, ask):
    network, photo = small
    network.train()
    with torch.inference_mode():
        assert ask(network, photo, None).abs().max() > 0
    assert network.training and all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"samples": 0}, {"noise": -1}])
def test_nonsense_is_refused(small, wrong):
    network, photo = small
    ask = mean_gradients.integrated_gradients if "steps" in wrong else mean_gradients.smooth_grad
    with pytest.raises(ValueError, match="needed|positive"):
        ask(network, photo, 0, **wrong)


def test_a_start_of_another_size_is_refused(small):
    network, photo = small
    with pytest.raises(ValueError, match=r"start \(1, 3, 5, 5\) does not fit the photos"):
        mean_gradients.integrated_gradients(network, photo, 0, torch.zeros(1, 3, 5, 5))


def test_the_stored_figures_are_of_these_weights_and_all_photos():
    report = json.loads(measure_cams.MEASURED.read_text())
    assert report["weights_sha256"] == json.loads(CARD.read_text())["sha256"], (
        "run training.measure_cams again"
    )
    assert report["command"] == "python -m training.measure_cams --data path/to/tiny-imagenet-200"
    assert report["photos"] == 5400 and list(report["layers"]) == list(measure_cams.LAYERS)
    for methods in report["layers"].values():
        assert list(methods) == list(cams.WEIGHTS)
        # a map or a loss that is the same everywhere has no correlation
        assert all(80 < rulers["covers"]["photos"] <= 90 for rulers in methods.values())


def test_gradcam_plus_plus_of_small_gradients_in_half_precision():
    """Their squares and cubes are below float16's smallest number."""
    maps, gradient = torch.rand(1, 3, 4, 4) + 0.1, 1e-4 * torch.rand(1, 3, 4, 4)
    want = cams.grad_cam_pp_weights(maps, gradient)
    got = cams.grad_cam_pp_weights(maps.half(), gradient.half())
    torch.testing.assert_close(got.float(), want, rtol=0.02, atol=1e-7)
    assert want.min() > 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_averages_of_many_add_up_in_half_precision(dtype):
    """Of a linear network, whose gradient is the same everywhere."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 2, bias=False)).to(dtype)
    x = torch.rand(1, 3, 4, 4).to(dtype)
    want = network[1].weight[1].float().view(1, 3, 4, 4)
    got = integrated_gradients(network, x, 1, steps=300)
    torch.testing.assert_close(got, x.float() * want, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        smooth_grad(network, x, 1, samples=300), want.detach(), rtol=1e-3, atol=1e-4
    )
    assert got.dtype == torch.float32 and want.abs().max() > 0.1


class Untracked(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        with torch.no_grad():
            x = x.mean((2, 3))
        return self.head(x)


class ChangedInPlace(Untracked):
    def forward(self, x):
        y = x.exp()
        y += 1
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("classes", [0, contrast(0, 1)])
@pytest.mark.parametrize("average", [integrated_gradients, smooth_grad])
def test_averages_without_a_way_down_are_refused_in_words(average, classes, frozen):
    x = torch.rand(1, 3, 8, 8)
    messages = {Untracked: "do not depend on the photo", ChangedInPlace: "no way down"}
    for kind, message in messages.items():
        with pytest.raises(ModelError, match=message):
            average(kind().requires_grad_(not frozen), x, classes)


def test_smooth_grads_noise_is_the_same_under_another_default_dtype():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 2))
    x = torch.rand(1, 3, 8, 8)
    want = smooth_grad(network, x, 1, samples=2)
    torch.set_default_dtype(torch.float64)
    try:
        got = smooth_grad(network, x, 1, samples=2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(got, want) and not torch.equal(smooth_grad(network, x, 1, samples=3), want)
