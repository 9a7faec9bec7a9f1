"""What is asked of the scores: several classes, differences, callables; and all maps at once."""

import pytest
import torch
from torch import nn

from helpers import (
    ModelError,
    all_maps,
    all_maps_any,
    contrast,
    grad_cam_any,
    grad_cam_any_each,
    guided_gradcam_any,
    guided_gradcam_any_each,
    saliency_any,
    saliency_any_each,
)
from helpers.methods import TABLE

from .comparing import assert_close, assert_each_differs
from .networks import noise, randomise

EXACTLY = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture
def skipping():
    """A network with a skip connection, which no VGG helper takes, in float64."""

    class Skipping(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(True))
            self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(True))
            self.maps, self.head = nn.Conv2d(6, 8, 3, stride=2), nn.Linear(8, 5)

        def forward(self, x):
            x = self.stem(x)
            x = self.maps(x + self.block(x)).relu()
            return self.head(x.amax((2, 3)))

    return randomise(Skipping()).double()


X = noise(2, 24, dtype=torch.float64)
LISTS = [[4, 0, 2], [[4, 0, 2], [1, 1, 3]]]


@pytest.mark.parametrize("asked", LISTS)
def test_several_classes_of_each_photo_are_those_asked_one_by_one(skipping, asked):
    classes = torch.tensor(asked).expand(2, 3)
    cam = grad_cam_any_each(skipping, X, asked, "maps")
    guided = saliency_any_each(skipping, X, asked)
    both = guided_gradcam_any_each(skipping, X, asked, "maps")
    assert cam.maps.shape == (2, 3, 11, 11) and guided.shape == (2, 3, 3, 24, 24)
    assert torch.equal(cam.classes, classes) and torch.equal(both.classes, classes)
    assert_each_differs(cam.weights[0]), assert_each_differs(guided[0])
    for k, one in enumerate(classes.T):
        want = guided_gradcam_any(skipping, X, "maps", one)
        assert_close(cam.weights[:, k], grad_cam_any(skipping, X, "maps", one).weights, **EXACTLY)
        assert_close(guided[:, k], want.guided, **EXACTLY)
        assert_close(both.maps[:, k], want.maps, **EXACTLY)
        assert_close(both.cam[:, k], want.cam, **EXACTLY)
    assert_close(both.scores, skipping(X).detach(), **EXACTLY)


def test_several_classes_share_one_pass_up(skipping):
    passes = []
    skipping.stem.register_forward_hook(lambda *_: passes.append(1))
    grad_cam_any_each(skipping, X, [0, 1, 2, 3, 4], "maps")
    saliency_any_each(skipping, X, [0, 1, 2, 3, 4])
    assert len(passes) == 2


@pytest.mark.parametrize("method", ["gradient", "deconvnet", "guided"])
def test_a_contrast_is_the_difference_of_two_scores(skipping, method):
    """The plain gradient and Grad-CAM's weights are linear in the scores; the rules are not."""
    rather = contrast([3, 0], 1)
    got = saliency_any(skipping, X, rather, method)
    one, other = (saliency_any(skipping, X, c, method) for c in ([3, 0], 1))
    if method == "gradient":
        assert_close(got, one - other, **EXACTLY)
    else:
        # by hand: the same network, whose last layer gives the difference as its only score
        for i, c in enumerate((3, 0)):
            head = nn.Linear(8, 1).double()
            with torch.no_grad():
                head.weight[0] = skipping.head.weight[c] - skipping.head.weight[1]
            kept, skipping.head = skipping.head, head
            want = saliency_any(skipping, X[i : i + 1], 0, method)
            skipping.head = kept
            assert_close(got[i : i + 1], want, **EXACTLY)
        assert not torch.allclose(got, one - other)
    look = grad_cam_any(skipping, X, "maps", rather)
    weights = [grad_cam_any(skipping, X, "maps", c).weights for c in ([3, 0], 1)]
    assert_close(look.weights, weights[0] - weights[1], **EXACTLY)
    assert look.classes is None and look.scores.shape == (2, 5)


def test_any_number_made_of_the_scores_is_explained(skipping):
    def log_probability(scores):
        return scores.log_softmax(1)[:, 2]

    x = X.clone().requires_grad_()
    log_probability(skipping(x)).sum().backward()
    assert_close(saliency_any(skipping, X, log_probability, "gradient"), x.grad, **EXACTLY)
    both = guided_gradcam_any(skipping, X, "maps", log_probability)
    assert both.classes is None and both.maps.any()
    each = guided_gradcam_any_each(skipping, X, [2, log_probability, contrast(2, 0)], "maps")
    assert each.classes is None
    assert_close(each.maps[:, 1], both.maps, **EXACTLY)
    assert_close(each.maps[:, 0], guided_gradcam_any(skipping, X, "maps", 2).maps, **EXACTLY)
    assert_each_differs(each.guided[0])


WRONG = {
    "all photos at once": (lambda scores: scores.sum(), r"one number a photo, \(2,\); .*made \(\)"),
    "a column": (lambda scores: scores[:, :1], r"made \(2, 1\)"),
    "a number": (lambda scores: 1.0, "made float"),
    "which is the largest": (lambda scores: scores.argmax(1), "autograd can follow"),
    "detached": (lambda scores: scores[:, 0].detach(), "autograd can follow"),
    "infinite": (lambda scores: scores[:, 0] / 0, "finite"),
}


@pytest.mark.parametrize("target, message", WRONG.values(), ids=WRONG)
def test_callables_that_give_something_else_are_refused(skipping, target, message):
    for explain in (
        lambda: saliency_any(skipping, X, target),
        lambda: grad_cam_any(skipping, X, "maps", target),
        lambda: grad_cam_any_each(skipping, X, [0, target], "maps"),
    ):
        with pytest.raises(ModelError, match=message):
            explain()


@pytest.mark.parametrize("target", [contrast(0, 5), contrast(-1, 0)])
def test_contrasts_with_classes_that_do_not_exist_are_refused(skipping, target):
    with pytest.raises(IndexError, match="no class"):
        grad_cam_any(skipping, X, "maps", target)


@pytest.mark.parametrize("classes", [None, [3, 5]])
def test_all_maps_are_those_of_the_vgg_helper(network, classes):
    network, x = network.double(), noise(2, 64, dtype=torch.float64)
    want, got = all_maps(network, x, classes), all_maps_any(network, x, classes)
    assert list(got) == list(want)
    for title in want:
        assert_close(got[title], want[title], **EXACTLY)


def test_some_of_all_maps(skipping):
    got = all_maps_any(skipping, X, [4, 1], ["guided_grad_cam", "gradient"], "stem")
    assert list(got) == [row.title for row in TABLE if row.key in ("guided_grad_cam", "gradient")]
    want = guided_gradcam_any(skipping, X, "stem", [4, 1])
    assert_close(got["Guided Grad-CAM"], want.maps, **EXACTLY)
    assert_close(got["gradient"], saliency_any(skipping, X, [4, 1], "gradient"), **EXACTLY)
    with pytest.raises(ModelError, match="no method 'lime'; choose some of gradient"):
        all_maps_any(skipping, X, methods=["lime"])


def test_maps_that_a_network_cannot_be_asked_by_are_left_out_unless_named():
    network = randomise(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )
    )
    x = noise(1, 16)
    assert list(all_maps_any(network, x)) == ["gradient", "Grad-CAM"]
    with pytest.raises(ModelError, match="SiLU"):
        all_maps_any(network, x, methods=["guided"])
