"""Grad-CAM and Guided Grad-CAM against autograd, captum and OpenCV."""

import cv2
import numpy as np
import pytest
import torch
from captum.attr import GuidedGradCam, LayerGradCam
from torch import nn

from helpers import (
    VGG16,
    Deconvnet,
    GuidedBackprop,
    ModelError,
    all_maps,
    all_maps_any,
    cam_from_gradient,
    grad_cam,
    grad_cam_each,
    guided_gradcam,
    guided_gradcam_any,
    guided_gradcam_each,
    resize_maps,
    saliency,
)
from helpers.autograd.cams import gather
from helpers.explicit import gradcam
from helpers.explicit.guided import explain
from helpers.methods import TABLE

from .comparing import assert_close, assert_each_differs
from .networks import for_captum, narrow, noise, torchvision_vgg

pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting .*backward hooks", "ignore:Input Tensor 0 did not already"
)

#: Of float64 values.
EXACTLY = {"rtol": 1e-9, "atol": 1e-12}
#: The last pooling, the ReLU before it, a convolution before an in-place ReLU, the first of all.
LAYERS = [-1, -2, -3, 16, 4, 0]


#: Sizes of steps: all classes at once, one by one, two and one.
STEPS = {"together": 10**9, "one by one": 1, "in steps": 2}


def cam_by_loop(network, x, c, layer):
    """Equations 1 and 2, photo by photo and channel by channel."""
    network, maps = for_captum(network), []
    for photo, one in zip(x, c, strict=True):
        below = photo[None]
        for module in network.features[: layer % len(network.features) + 1]:
            below = module(below)
        below = below.detach().requires_grad_()
        above = below
        for module in network.features[layer % len(network.features) + 1 :]:
            above = module(above)
        network.classifier(network.avgpool(above).reshape(1, -1))[0, one].backward()
        total = 0
        for k in range(below.shape[1]):
            total = total + below.grad[0, k].mean() * below[0, k]
        maps.append(torch.relu(total).detach())
    return torch.stack(maps)


@pytest.mark.parametrize("layer", LAYERS)
def test_grad_cam_equals_the_equations(network, layer):
    x, classes = noise(2, 64, 47, dtype=torch.float64), [3, 5]
    network = network.double()
    result = grad_cam(network, x, classes, layer)
    assert result.maps.max() > 0
    assert_close(result.maps, cam_by_loop(network, x, classes, layer), rtol=1e-9, atol=1e-12)
    assert_close(result.scores, network(x))


@pytest.mark.parametrize("layer", LAYERS)
def test_grad_cam_of_the_embedded_model_equals_captum(exact, layer):
    (network, x), classes = exact, [3, 4, 5]
    plain = for_captum(network)
    want = LayerGradCam(plain, plain.features[layer]).attribute(x, classes, relu_attributions=True)
    assert_close(grad_cam(network, x, classes, layer).maps, want[:, 0].detach(), **EXACTLY)


def test_grad_cam_of_the_full_vgg16_equals_captum(full_vgg16):
    x, plain = noise(1, 96), for_captum(full_vgg16)
    want = LayerGradCam(plain, plain.features[-1]).attribute(x, 8, relu_attributions=True)
    assert_close(grad_cam(full_vgg16, x, 8).maps, want[:, 0].detach(), rtol=1e-3, atol=1e-6)


def test_grad_cam_knows_batch_normalisation_too():
    network, x = torchvision_vgg("vgg11_bn").double(), noise(2, 64, dtype=torch.float64)
    assert_close(
        grad_cam(network, x, [0, 9]).maps,
        cam_by_loop(network, x, [0, 9], -1),
        rtol=1e-9,
        atol=1e-12,
    )


def test_weights_have_either_sign_and_maps_do_not(embedded, photos):
    result = grad_cam(embedded.network, photos)
    assert result.weights.min() < 0 < result.weights.max() and result.maps.min() >= 0


def test_cam_from_gradient_on_numbers_one_can_check():
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 1.0]]]])
    gradient = torch.tensor([[[[1.0, 3.0]], [[-2.0, 0.0]]]])  # means 2 and -1
    cam, weights = cam_from_gradient(maps, gradient)
    assert weights.tolist() == [[2, -1]] and cam.tolist() == [[[0, 3]]]


@pytest.mark.parametrize("share", [4, -4])
@pytest.mark.parametrize("of", [cam_from_gradient, lambda maps, weights: gather(weights, maps)])
def test_sums_too_large_for_half_precision_are_refused(of, share):
    """A sum of minus infinity would be 0 behind the ReLU."""
    maps, weights = torch.full((1, 2, 3, 3), 3e4).half(), torch.full((1, 2, 3, 3), share).half()
    assert maps.isfinite().all() and of(maps, weights * 0.1) is not None
    with pytest.raises(ModelError, match="sum to NaN or infinite values.*half precision"):
        of(maps, weights)


@pytest.mark.parametrize("explain", [grad_cam, guided_gradcam])
def test_batch_equals_one_by_one(network, explain):
    x, classes = noise(3, 64, 80), [4, 5, 3]  # classes that some place speaks for
    together = explain(network, x, classes)
    assert_each_differs(together.maps)
    for i, c in enumerate(classes):
        assert_close(
            explain(network, x[i : i + 1], c).maps[0], together.maps[i], rtol=1e-3, atol=1e-6
        )


@pytest.mark.parametrize("explain", [grad_cam, guided_gradcam])
def test_none_is_the_top_class_and_classes_come_in_any_form(network, explain):
    x = noise(2, 64)
    top = network(x).argmax(1)
    asked = explain(network, x)
    assert torch.equal(asked.classes, top) and asked.classes.dtype == torch.int64
    for form in (top, top.to(torch.int32), top.tolist(), tuple(top.tolist()), top.numpy()):
        assert_close(explain(network, x, form).maps, asked.maps, rtol=0, atol=0)
    for form in (4, torch.tensor(4), np.int64(4)):
        assert_close(
            explain(network, x, form).maps, explain(network, x, [4, 4]).maps, rtol=0, atol=0
        )


@pytest.mark.parametrize("size", [(64, 64), (65, 99)])
def test_guided_grad_cam_equals_captum(network, size):
    network, x, classes = network.double(), noise(2, *size, dtype=torch.float64), [3, 5]
    plain = for_captum(network)
    want = GuidedGradCam(plain, plain.features[-1]).attribute(
        x, classes, interpolate_mode="bilinear"
    )
    got = guided_gradcam(network, x, classes).maps
    assert want.abs().max() > 0
    assert_close(got, want.detach(), rtol=1e-9, atol=1e-9 * want.abs().max().item())


def test_guided_grad_cam_is_the_product_of_its_parts(exact):
    (network, x), classes = exact, [1, 2, 3]
    result, cam = guided_gradcam(network, x, classes), grad_cam(network, x, classes)
    assert_close(result.cam, resize_maps(cam.maps, x.shape[-2:]), **EXACTLY)
    assert_close(result.guided, saliency(network, x, classes), **EXACTLY)
    assert_close(result.maps, result.cam[:, None] * result.guided, rtol=0, atol=0)
    assert_close(result.scores, cam.scores, **EXACTLY)


def test_the_product_of_small_numbers_is_not_lost_in_half_precision(network):
    """Of a class whose score moves little: both factors fit float16, and their product does not."""
    x, title = noise(1, 64), TABLE[-1].title
    with torch.no_grad():
        network.classifier[-1].weight *= 3e-3
    want = guided_gradcam(network, x)
    classes, network, x = want.classes, network.half(), x.half()
    got = guided_gradcam(network, x, classes)
    assert got.cam.dtype == got.guided.dtype == torch.float16
    assert got.cam.any() and got.guided.any() and not (got.cam[:, None] * got.guided).any()
    for maps in (
        got.maps,
        all_maps(network, x, classes)[title],
        guided_gradcam_any(network, x, classes=classes).maps,
        all_maps_any(network, x, classes)[title],
    ):
        assert maps.dtype == torch.float32 and want.maps.any()
        assert (maps - want.maps).abs().mean() < 0.2 * want.maps.abs().mean()


def test_several_classes_of_each_photo_are_those_asked_one_by_one(network):
    x = noise(2, 50, 70)
    for asked in ([4, 5, 3], torch.tensor([[4, 5, 3], [3, 3, 5]])):
        got = guided_gradcam_each(network, x, asked)
        assert (
            got.maps.shape == (2, 3, 3, 50, 70)
            and got.cam.shape == (2, 3, 50, 70)
            and got.classes.tolist() == torch.as_tensor(asked).expand(2, 3).tolist()
        )
        assert_each_differs(got.cam.transpose(0, 1)), assert_each_differs(got.cam)
        for k in range(3):
            want = guided_gradcam(network, x, got.classes[:, k])
            assert_close(got.maps[:, k], want.maps)
            assert_close(got.cam[:, k], want.cam)
            assert_close(got.guided[:, k], want.guided)
    assert_close(got.scores, want.scores)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("asked", [[4, 5, 3], [[4, 5, 3], [3, 3, 5]]])
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_grad_cam_of_several_classes_is_that_of_each(network, layer, asked, step, monkeypatch):
    network, x = network.double(), noise(2, 50, 70, dtype=torch.float64)
    maps = network.features[: layer % len(network.features) + 1](x.clone())
    monkeypatch.setattr(gradcam, "MOST_NUMBERS", step * maps.numel())
    got = grad_cam_each(network, x, torch.tensor(asked), layer)
    assert got.classes.tolist() == torch.tensor(asked).expand(2, 3).tolist()
    assert got.classes.dtype == torch.int64
    assert_each_differs(got.weights[0]), assert_each_differs(got.weights)
    for k in range(3):
        want = grad_cam(network, x, got.classes[:, k], layer)
        assert want.maps.any()
        assert_close(got.maps[:, k], want.maps, **EXACTLY)
        assert_close(got.weights[:, k], want.weights, **EXACTLY)
    assert_close(got.scores, network(x).detach(), **EXACTLY)


def test_grad_cam_of_each_class_equals_the_equations(network):
    x, network = noise(2, 64, 47, dtype=torch.float64), network.double()
    got = grad_cam_each(network, x, [[3, 5], [4, 3]])
    for k, classes in enumerate(([3, 4], [5, 3])):
        assert_close(got.maps[:, k], cam_by_loop(network, x, classes, -1), **EXACTLY)


@pytest.mark.parametrize("explain", [guided_gradcam_each, grad_cam_each])
@pytest.mark.parametrize(
    ("classes", "error"),
    [
        ([], ValueError),
        ([[1, 2]] * 3, ValueError),
        (4, ValueError),
        ([0, 7], IndexError),
        ([0.5], TypeError),
        (["cat"], TypeError),
        ([[1], [1, 2]], (TypeError, ValueError)),
    ],
)
def test_several_classes_that_are_none_are_refused(network, explain, classes, error):
    with pytest.raises(error):
        explain(network, noise(2, 32), classes)


def test_a_walk_made_before_serves_as_well(network):
    """And follows its network: weights are shared, not copied."""
    walk, x = GuidedBackprop(network), noise(2, 48)
    for _ in range(2):
        assert_close(guided_gradcam(walk, x).maps, guided_gradcam(network, x).maps, rtol=0, atol=0)
        torch.nn.init.constant_(network.classifier[0].weight, 0.01)


def test_all_maps_are_each_methods_own_in_the_order_of_the_table(exact):
    (network, x), classes = exact, [3, 2, 1]
    maps = all_maps(network, x, classes)
    assert list(maps) == [row.title for row in TABLE]
    for row in TABLE[:3]:
        assert_close(maps[row.title], saliency(network, x, classes, row.key), **EXACTLY)
    cam = resize_maps(grad_cam(network, x, classes).maps, x.shape[-2:])
    assert_close(maps["Grad-CAM"], cam, **EXACTLY)
    assert_close(maps["Guided Grad-CAM"], guided_gradcam(network, x, classes).maps, **EXACTLY)


@pytest.mark.parametrize("size", [(32, 32), (100, 57), (5, 3), (1, 1)])
def test_resize_maps_is_what_opencv_does(size):
    maps = torch.rand(3, 4, 7, dtype=torch.float64)
    want = [cv2.resize(m.numpy(), size[::-1], interpolation=cv2.INTER_LINEAR) for m in maps]
    # OpenCV rounds the places between which it interpolates to float32
    np.testing.assert_allclose(resize_maps(maps, size).numpy(), np.stack(want), atol=1e-5)


def test_the_cut_may_lie_before_an_in_place_layer_of_any_kind():
    network = Bent(nn.Identity())
    network.features = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Dropout(inplace=True), nn.ReLU(inplace=True)
    )
    network.avgpool, network.classifier = nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Linear(4, 2))
    x = noise(1, 32)
    result = grad_cam(network, x, 0, layer=0)
    maps = network.features[0](x)
    weights = (network.classifier[0].weight[0][:, None, None] * (maps[0] > 0)).mean((1, 2)) / maps[
        0, 0
    ].numel()
    assert_close(result.maps[0], torch.relu((weights[:, None, None] * maps[0]).sum(0)).detach())


def test_a_method_that_is_none_is_named(network):
    net = Deconvnet(network)
    trace = net.up(noise(1, 32))
    with pytest.raises(ModelError, match="no method 'mine'; choose some of gradient, deconvnet"):
        explain(net, trace, torch.zeros(1, 1, dtype=torch.int64), ["grad_cam", "mine", "yours"])


class Bent(nn.Module):
    """Laid out as a VGG; ``between`` is what happens to the feature maps before the pooling."""

    def __init__(self, between):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
        self.avgpool, self.between = nn.AdaptiveAvgPool2d(2), between
        self.classifier = nn.Sequential(nn.Linear(16, 5))

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.between(self.features(x))), 1))


def test_what_stands_between_the_parts_is_not_passed_over():
    assert grad_cam(Bent(nn.Identity()), noise(1, 40), 1).scores.shape == (1, 5)
    with pytest.raises(ModelError, match="something else than features.*grad_cam_any"):
        grad_cam(Bent(nn.functional.relu), noise(1, 40), 1)
    with pytest.raises(ModelError, match="something else than features.*grad_cam_any"):
        grad_cam(Bent(lambda f: f[:, :, :1]), noise(1, 40), 1)


class Doubled(VGG16):
    def forward(self, x):
        return 2 * super().forward(x)


class DoubledCall(VGG16):
    def __call__(self, x):
        return 2 * super().__call__(x)


def test_a_vgg_that_runs_as_it_is_written_is_not_asked_twice():
    """And one that does not is refused, however that came."""
    passes, plain = [], narrow()
    plain.features[0].register_forward_pre_hook(lambda *_: passes.append(1))
    grad_cam(plain, noise(1, 32), 0)
    assert passes == [1]
    hooked, behind, patched = narrow(), narrow(), narrow()
    hooked.register_forward_pre_hook(lambda module, inputs: (-inputs[0],))
    behind.register_forward_hook(lambda module, inputs, scores: 2 * scores)
    patched.forward = lambda x: 2 * VGG16.forward(patched, x)
    subclasses = narrow(), narrow()
    for network, kind in zip(subclasses, (Doubled, DoubledCall), strict=True):
        network.__class__ = kind
    for network in (hooked, behind, patched, *subclasses):
        with pytest.raises(ModelError, match="something else than features"):
            grad_cam(network, noise(1, 32), 0)


def test_a_network_of_one_size_is_checked_at_that_size():
    network = Bent(nn.Identity())
    network.avgpool = nn.Identity()
    network.classifier[0] = nn.Linear(4 * 36 * 36, 5)
    assert grad_cam(network, noise(1, 40), 1).maps.any()
    network.between = nn.ReLU()
    with pytest.raises(ModelError, match="something else than features"):
        grad_cam(network, noise(1, 40), 1)


@pytest.mark.parametrize("layer", ["features", None, 1.0, nn.ReLU()])
def test_a_layer_that_is_no_number_is_refused(layer):
    with pytest.raises(ModelError, match="features has layers 0 to 2, not "):
        grad_cam(Bent(nn.Identity()), noise(1, 40), 1, layer)


def test_scores_without_a_gradient_are_refused():
    network = Bent(nn.Identity())
    network.classifier[0].register_forward_hook(lambda module, inputs, output: output.detach())
    with pytest.raises(ModelError, match="have no gradient"):
        grad_cam(network, noise(1, 40), 1)


class Flipped(nn.Sequential):
    def forward(self, x):
        return super().forward(x).flip(1)


def test_features_that_do_more_than_their_layers_are_refused():
    """Grad-CAM runs them in two parts, without what the container itself does."""
    hooked, before, patched, subclass = (narrow() for _ in range(4))
    hooked.features.register_forward_hook(lambda module, inputs, output: output.flip(1))
    before.features.register_forward_pre_hook(lambda module, inputs: (-inputs[0],))
    patched.features.forward = lambda x: nn.Sequential.forward(patched.features, x).flip(1)
    subclass.features.__class__ = Flipped
    for network in (hooked, before, patched, subclass):
        with pytest.raises(ModelError, match="something else than features"):
            grad_cam(network, noise(1, 32), 0)
    seen, watched = [], narrow()
    watched.features.register_forward_hook(lambda *given: seen.append(given))
    x = noise(1, 32)
    assert_close(grad_cam(watched, x, 0).weights, grad_cam(narrow(), x, 0).weights)


class Answers(VGG16):
    def forward(self, x):
        return {"logits": super().forward(x)}


def test_an_answer_that_is_no_tensor_is_refused_in_words():
    network = narrow()
    network.__class__ = Answers
    with pytest.raises(ModelError, match="answers with a dict.*helpers.Scores"):
        grad_cam(network, noise(1, 32), 0)


class Untracked(nn.Module):
    def forward(self, x):
        with torch.no_grad():
            return x.mean((2, 3), keepdim=True)


class ChangedInPlace(nn.Module):
    def forward(self, x):
        y = x.exp()
        y += 1
        return y.mean((2, 3), keepdim=True)


class Strange(torch.autograd.Function):
    """Its derivative looks at a value, which a batch of signals forbids."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, signal):
        return signal * (1 if signal.sum().item() > 0 else 2)


class Stranger(nn.Module):
    def forward(self, x):
        return Strange.apply(x).mean((2, 3), keepdim=True)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "part, message",
    [(Untracked, "no gradient at this layer"), (ChangedInPlace, "no way down")],
)
def test_what_has_no_way_down_is_refused_in_words(part, message, frozen):
    network = narrow(pooled=1).requires_grad_(not frozen)
    network.avgpool = part()
    with pytest.raises(ModelError, match=message):
        grad_cam(network, noise(1, 32), 0)


def test_a_derivative_that_takes_no_batch_is_refused_for_several_classes_only():
    network, x = narrow(pooled=1), noise(1, 32)
    network.avgpool = Stranger()
    assert grad_cam(network, x, 0).weights.any()
    with pytest.raises(ModelError, match="no way down"):
        grad_cam_each(network, x, [0, 1])


def test_layers_have_numbers_of_every_kind():
    network, x = narrow(), noise(1, 32)
    assert_close(grad_cam(network, x, 0, np.int64(3)).maps, grad_cam(network, x, 0, 3).maps)
    with pytest.raises(ModelError, match="not 3.0"):
        grad_cam(network, x, 0, 3.0)


@pytest.mark.parametrize("side, size", [(32, 1), (64, 2)])
def test_a_max_pooling_in_place_of_the_average_is_explained(side, size):
    """Its switches are of each photo, and several rules and classes go down through them."""
    network, x = narrow(pooled=1), noise(2, side)
    network.avgpool = nn.MaxPool2d(size)
    classes = network(x).topk(2).indices
    each = guided_gradcam_each(network, x, classes)
    maps = all_maps(network, x, classes[:, 0])
    for k, c in enumerate(classes.T):
        assert_close(each.guided[:, k], saliency(network, x, c))
        assert_close(each.cam[:, k], guided_gradcam_any(network, x, "features", c).cam)
    assert_close(maps["Deconvnet"], saliency(network, x, classes[:, 0], "deconvnet"))
    assert_close(maps["Grad-CAM"], each.cam[:, 0])
