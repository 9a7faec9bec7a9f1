"""Layers by name, by probe, several at once; transformers' tokens and channels that stand last."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
import torchvision
from captum.attr import LayerGradCam
from torch import nn
from torch.utils.checkpoint import checkpoint

from helpers import (
    ModelError,
    Scores,
    grad_cam,
    grad_cam_any,
    guided_gradcam_any,
    layers,
    resize_maps,
)
from helpers.autograd.feature_maps import channels_stand_last, default_layer, misfit, token_grid

from .comparing import assert_close, assert_each_differs
from .networks import narrow, noise, randomise

EXACTLY = {"rtol": 1e-9, "atol": 1e-12}
CLASSES = [3, 5]


def made(make, seed=0):
    """A network with random weights that keep its signals alive, in float64."""
    torch.manual_seed(seed)
    network = make().double().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, 0, 1.5 / parameter[0].numel() ** 0.5)
            elif "bias" in name:
                nn.init.normal_(parameter, 0, 0.1)
    return network


def torchvisions_vit():
    return torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=9)


def torchvisions_swin():
    return torchvision.models.SwinTransformer(
        [2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=9, stochastic_depth_prob=0.0
    )


def timms(name, **settings):
    def make():
        timm = pytest.importorskip("timm")
        return timm.create_model(name, pretrained=False, num_classes=9, **settings)

    return make


VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
SWIN = {
    "img_size": 32,
    "patch_size": 4,
    "embed_dim": 8,
    "depths": (1, 1),
    "num_heads": (1, 2),
    "window_size": 4,
}


def square(tokens):
    return tokens[:, -16:].transpose(1, 2).reshape(len(tokens), -1, 4, 4)


def channels_first(maps):
    return maps.permute(0, 3, 1, 2)


#: Network, a layer, how its output is laid out as maps, and the layer that is the default.
TRANSFORMERS = {
    "torchvision's ViT": (
        torchvisions_vit, "encoder.layers.encoder_layer_2.ln_1", square,
        "encoder.layers.encoder_layer_1",
    ),
    "torchvision's Swin": (torchvisions_swin, "features.3", channels_first, "permute"),
    "timm's ViT": (timms("vit_tiny_patch16_224", **VIT), "blocks.2.norm1", square, "blocks.1"),
    "timm's ViT without a class token": (
        timms("vit_tiny_patch16_224", class_token=False, global_pool="avg", **VIT),
        "blocks.2", square, "norm",
    ),
    "timm's Swin": (
        timms("swin_tiny_patch4_window7_224", **SWIN), "layers.0", channels_first, "norm",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=TRANSFORMERS)
def transformer(request):
    make, layer, lay, default = TRANSFORMERS[request.param]
    return made(make), layer, lay, default


def by_hand(network, x, layer, lay, classes):
    """Equations 1 and 2 with a forward that replaces the layer's output; no helper's code."""
    kept = {}

    def keep(module, inputs, output):
        kept["output"] = output.detach().requires_grad_()
        return kept["output"] * 1

    handle = network.get_submodule(layer).register_forward_hook(keep)
    scores = network(x)
    handle.remove()
    scores[range(len(x)), classes].sum().backward()
    maps, gradient = lay(kept["output"].detach()), lay(kept["output"].grad)
    return torch.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1)), gradient.mean((2, 3))


def test_grad_cam_of_a_transformer_equals_the_equations(transformer):
    network, layer, lay, _ = transformer
    x = noise(2, 32, dtype=torch.float64)
    got = grad_cam_any(network, x, layer, CLASSES)
    maps, weights = by_hand(network, x, layer, lay, CLASSES)
    assert_close(got.weights, weights, **EXACTLY)
    assert_close(got.maps, maps, **EXACTLY)
    assert_each_differs(got.maps)


def test_grad_cam_of_a_transformer_equals_captum(transformer):
    """Of captum, the sum over channels with its own weights; laid out before."""
    network, layer, lay, _ = transformer
    x = noise(2, 32, dtype=torch.float64)
    module = network.get_submodule(layer)

    class Laid(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.maps = inner, nn.Identity()

        def forward(self, *args):
            output = self.inner(*args)
            maps = self.maps(lay(output))  # through these go all gradients of the places
            if output.ndim == 4:
                return maps.permute(0, 2, 3, 1)
            return torch.cat([output[:, :-16], maps.flatten(2).transpose(1, 2)], 1)

    parent, _, name = layer.rpartition(".")
    laid = Laid(module)
    setattr(network.get_submodule(parent), name, laid)
    try:
        want = LayerGradCam(network, laid.maps).attribute(x, CLASSES, relu_attributions=True)
    finally:
        setattr(network.get_submodule(parent), name, module)
    assert_close(grad_cam_any(network, x, layer, CLASSES).maps, want[:, 0].detach(), **EXACTLY)


def test_the_default_layer_of_a_transformer(transformer):
    network, _, _, default = transformer
    x = noise(2, 32, dtype=torch.float64)
    assert default_layer(network, x) == default
    want = grad_cam_any(network, x, default, CLASSES)
    assert_close(grad_cam_any(network, x, classes=CLASSES).maps, want.maps, rtol=0, atol=0)


def test_layers_behind_the_last_attention_are_not_listed():
    network, x = made(torchvisions_vit), noise(1, 32, dtype=torch.float64)
    names = [layer.name for layer in layers(network, x)]
    assert "encoder.layers.encoder_layer_2.ln_1" in names
    assert not {"encoder.layers.encoder_layer_2.ln_2", "encoder.ln", "encoder"} & set(names)


def test_registers_need_a_grid():
    pytest.importorskip("timm")
    network = made(timms("vit_small_patch14_reg4_dinov2", **{**VIT, "num_heads": 2}))
    x = noise(2, 32, dtype=torch.float64)
    with pytest.raises(ModelError, match="^norm, the last .* gives 21 tokens.*grid="):
        grad_cam_any(network, x)
    listed = {layer.name: layer for layer in layers(network, x)}
    assert listed["blocks.1"].maps is None and listed["blocks.1"].output == (1, 21, 16)
    with pytest.raises(ModelError, match="Block gives 21 tokens, which are no grid.*32x32"):
        grad_cam_any(network, x, "blocks.1")
    for layer in (None, "blocks.1"):
        got = grad_cam_any(network, x, layer, CLASSES, grid=(4, 4))
        assert_close(got.maps, by_hand(network, x, "blocks.1", square, CLASSES)[0], **EXACTLY)
    with pytest.raises(ModelError, match=r"no grid \(5, 5\) in 21 tokens"):
        grad_cam_any(network, x, "blocks.1", grid=(5, 5))


@pytest.mark.parametrize(
    ("count", "size", "want"),
    [
        (16, (64, 64), (4, 4)),
        (17, (64, 64), (4, 4)),
        (8, (32, 64), (2, 4)),
        (9, (64, 32), (4, 2)),
        (1, (64, 64), (1, 1)),
        (6, (32, 48), (2, 3)),
        (18, (64, 64), None),
        (36, (32, 64), None),
        (16, (32, 48), None),
    ],
)
def test_the_grid_of_tokens_is_of_the_photos_proportion(count, size, want):
    x = torch.zeros(1, 3, *size)
    if want:
        assert token_grid(count, x, nn.ReLU(), None) == want
    else:
        with pytest.raises(ModelError, match=f"gives {count} tokens"):
            token_grid(count, x, nn.ReLU(), None)


class Tokens(nn.Module):
    """Patches of an oblong photo as tokens, the class token first."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 8, stride=8)
        self.tokens, self.head = nn.Identity(), nn.Linear(6, 7)

    def forward(self, x):
        maps = self.patches(x)
        tokens = maps.flatten(2).transpose(1, 2)
        tokens = self.tokens(torch.cat([tokens.mean(1, keepdim=True), tokens.relu()], 1))
        return self.head(tokens[:, 0] + (tokens[:, 1:] * tokens[:, 1:2]).mean(1))


def test_tokens_of_an_oblong_photo_lie_as_its_patches_do():
    network, x = randomise(Tokens()).double(), noise(2, 32, 48, dtype=torch.float64)
    got = grad_cam_any(network, x, "tokens", CLASSES)

    def lay(t):
        return t[:, 1:].transpose(1, 2).reshape(2, 6, 4, 6)

    assert_close(got.maps, by_hand(network, x, "tokens", lay, CLASSES)[0], **EXACTLY)


class Registers(Tokens):
    """Two more tokens that lie nowhere."""

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.tokens(torch.cat([tokens[:, :2], tokens], 1)).relu()
        return self.head((tokens[:, 2:] * tokens[:, :1]).mean(1))


def test_tokens_without_a_grid_have_no_default():
    x = noise(2, 32, 48, dtype=torch.float64)
    network = randomise(nn.Sequential(nn.Conv2d(3, 3, 1), Registers())).double()
    with pytest.raises(ModelError, match=r"^1.tokens, the last layer .* gives 26 tokens, which"):
        default_layer(network, x)
    assert default_layer(network, x, grid=(4, 6)) == "1.tokens"


@pytest.mark.parametrize("height, width", [(30, 30), (32, 48), (50, 30)])
def test_rounding_of_the_sides_explains_a_small_misfit_and_no_other(height, width):
    """A side of maps is off by less than a place, or by one exactly."""
    x, proportion = torch.zeros(1, 3, height, width), Fraction(height, width)
    explained = set()
    for h, w in itertools.product(range(1, 40), range(2, 40)):
        fits = Fraction(h - 1, w + 1) <= proportion <= Fraction(h + 1, w - 1)
        want = 0 if fits else abs(math.log(Fraction(h, w) / proportion))
        assert misfit(h, w, x) == pytest.approx(want, abs=1e-12)
        explained.add(fits)
    assert explained == {False, True}


def test_maps_whose_axes_fit_the_photo_equally_badly_are_refused():
    x = noise(1, 16).requires_grad_()
    maps = randomise(nn.Linear(3 * 16 * 16, 4 * 8 * 16))(x.flatten(1)).view(1, 4, 8, 16)
    assert misfit(8, 16, x) == misfit(4, 8, x) > 0
    with pytest.raises(ModelError, match="do not look like maps"):
        channels_stand_last(maps, x, nn.ReLU())
    flat = randomise(nn.Conv2d(3, 4, 3, stride=(2, 1), padding=1))(
        x
    )  # its rows are from left to right
    assert flat.shape == maps.shape and not channels_stand_last(flat, x, nn.ReLU())


# --- by name, by probe, several ------------------------------------------------------------------


def resnet():
    with torch.device("meta"):
        network = torchvision.models.resnet18(weights=None, num_classes=9)
    return randomise(network.to_empty(device="cpu"))


def test_a_layer_by_its_name_is_the_layer():
    network, x = resnet(), noise(2, 64)
    want = grad_cam_any(network, x, network.layer3[1].conv1, CLASSES)
    assert_close(
        grad_cam_any(network, x, "layer3.1.conv1", CLASSES).maps, want.maps, rtol=0, atol=0
    )
    with pytest.raises(ModelError, match=r"no layer 'layer33'; .*layer3"):
        grad_cam_any(network, x, "layer33")
    with pytest.raises(ModelError, match="'quux'; layer4.1.bn2, avgpool, fc are some of"):
        grad_cam_any(network, x, "quux")


def test_layers_of_a_resnet():
    found = layers(resnet(), noise(3, 64))
    by_name = {layer.name: layer for layer in found}
    assert found[-1] == ("layer4", "Sequential", (1, 512, 2, 2), (512, 2, 2), True)
    assert by_name["layer3.1.conv1"].maps == (256, 4, 4) and not by_name["layer3.1.conv1"].whole
    assert by_name["conv1"].whole and by_name["maxpool"].maps == (64, 16, 16)
    assert not {"avgpool", "fc", "layer4.1.relu"} & set(by_name)  # one place, none, called twice


@pytest.mark.parametrize(
    "name, size, want",
    [
        ("resnet18", 64, "layer4"),
        ("mobilenet_v3_small", 64, "features"),
        ("squeezenet1_1", 64, "classifier.2"),
        ("alexnet", 96, "features"),
        ("shufflenet_v2_x0_5", 64, "conv5"),
    ],
)
def test_the_default_is_the_last_layer_that_everything_goes_through(name, size, want):
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(weights=None, num_classes=9)
    network, x = randomise(network.to_empty(device="cpu")), noise(2, size)
    assert default_layer(network, x) == want
    got = grad_cam_any(network, x, classes=CLASSES)
    want = grad_cam_any(network, x, want, CLASSES)
    assert_close(got.weights, want.weights, rtol=0, atol=0)


def test_the_default_of_a_vgg_is_the_vgg_helpers():
    network, x = narrow(pooled=2), noise(2, 128)
    assert_close(grad_cam_any(network, x, classes=[4, 5]).maps, grad_cam(network, x, [4, 5]).maps)


def test_a_network_without_maps_has_no_default():
    network = randomise(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5), nn.ReLU()))
    with pytest.raises(ModelError, match="no layer that gives maps"):
        grad_cam_any(network, noise(1, 8))
    assert layers(network, noise(1, 8)) == []


class ForAndAgainst(nn.Module):
    """Two scores, of which one is the other's negative."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        score = self.features(x).relu().mean((1, 2, 3))
        return torch.stack([score, -score], 1)


@pytest.mark.parametrize("n", [1, 2])
def test_layers_are_found_where_the_scores_cancel_each_other(n):
    network, x = randomise(ForAndAgainst()), noise(n, 16)
    assert not network(x).sum(1).any() and network(x).any()
    assert [layer.name for layer in layers(network, x)] == ["features"]


def test_several_layers_are_averaged():
    network, x, names = (
        resnet().double(),
        noise(2, 64, dtype=torch.float64),
        ["layer2", "layer4", "layer3"],
    )
    got = grad_cam_any(network, x, names, CLASSES)
    want = []
    for name in names:
        maps = grad_cam_any(network, x, name, CLASSES).maps
        shares = torch.stack([m / m.max() if m.max() > 0 else m for m in maps])
        want.append(resize_maps(shares, (8, 8)))
    assert_close(got.maps, sum(want) / 3, **EXACTLY)
    assert 0 < got.maps.max() <= 1 and [w.shape[1] for w in got.weights] == [128, 512, 256]
    for name, weights in zip(names, got.weights, strict=True):
        assert_close(weights, grad_cam_any(network, x, name, CLASSES).weights, **EXACTLY)
    both = guided_gradcam_any(network, x, ["layer3", network.layer4], CLASSES)
    assert_close(
        both.cam,
        resize_maps(grad_cam_any(network, x, ["layer3", "layer4"], CLASSES).maps, (64, 64)),
    )


def test_a_layer_named_twice_counts_once():
    network, x = resnet(), noise(1, 64)
    got = grad_cam_any(network, x, ["layer4", network.layer4], 3)
    assert_close(got.maps, grad_cam_any(network, x, "layer4", 3).maps, rtol=0, atol=0)


def test_no_layer_in_a_list_is_refused():
    with pytest.raises(ModelError, match="no layer in the list"):
        grad_cam_any(resnet(), noise(1, 64), [])


# --- channels, sizes, answers ---------------------------------------------------------------------


def small(channels):
    return randomise(
        nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(True),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
        )
    ).double()  # fmt: skip


@pytest.mark.parametrize("channels", [1, 2, 6, 13])
@pytest.mark.parametrize("size", [(8, 8), (5, 11), (28, 28)])
def test_photos_of_other_kinds(channels, size):
    """Grey, multispectral, and smaller than a VGG takes."""
    network, (height, width) = small(channels), size
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, height, width, generator=generator, dtype=torch.float64)
    got = guided_gradcam_any(network, x, classes=[3, 1])
    want, weights = by_hand(network, x, "3", lambda maps: maps, [3, 1])
    assert got.guided.shape == x.shape and got.guided.any()
    assert_close(grad_cam_any(network, x, classes=[3, 1]).weights, weights, **EXACTLY)
    torch.testing.assert_close(got.cam, resize_maps(want, size), **EXACTLY)
    assert_close(got.maps, got.cam[:, None] * got.guided, rtol=0, atol=0)


class Answers(nn.Module):
    def __init__(self, network, how):
        super().__init__()
        self.inner, self.how = network, how

    def forward(self, x):
        return self.how(self.inner(x))


class Output:
    def __init__(self, logits):
        self.logits = logits


@pytest.mark.parametrize(
    "answer, pick",
    [
        (lambda s: {"logits": s, "loss": None}, lambda answer: answer["logits"]),
        (lambda s: (s.sum(), s), lambda answer: answer[1]),
        (Output, lambda answer: answer.logits),
        (lambda s: s[:, :, None, None], lambda answer: answer.flatten(1)),
    ],
)
def test_scores_are_picked_from_any_answer(answer, pick):
    network, x = small(3), noise(2, 16, dtype=torch.float64)
    odd = Answers(network, answer)
    with pytest.raises(ModelError, match="answers with a.*helpers.Scores"):
        grad_cam_any(odd, x, "inner.3")
    got = guided_gradcam_any(Scores(odd, pick), x, "inner.3", [3, 1])
    assert_close(got.maps, guided_gradcam_any(network, x, "3", [3, 1]).maps, **EXACTLY)
    assert default_layer(Scores(odd, pick), x) == "inner.3"


class Checkpointed(nn.Module):
    """Computes its second part again on the way down, if told."""

    def __init__(self, again):
        super().__init__()
        self.again = again
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.part = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
        )  # fmt: skip

    def forward(self, x):
        x = self.stem(x)
        return checkpoint(self.part, x, use_reentrant=False) if self.again else self.part(x)


def test_what_is_computed_again_is_listed_once():
    plain = randomise(Checkpointed(False))
    again = Checkpointed(True).eval()
    again.load_state_dict(plain.state_dict())
    x = noise(1, 32)
    names = [layer.name for layer in layers(plain, x)]
    assert names == [layer.name for layer in layers(again, x)] and len(names) == 5
    assert default_layer(again, x) == default_layer(plain, x) == "part.3"


class ChangedInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.maps, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        y = self.maps(x).relu().exp()
        y += 1
        return self.head(y.mean((2, 3)))


def test_a_change_in_place_is_refused_in_words_whether_a_layer_is_named_or_not():
    network, x = ChangedInPlace(), noise(1, 32)
    for ask in (
        lambda: layers(network, x),
        lambda: grad_cam_any(network, x),
        lambda: grad_cam_any(network, x, "maps"),
    ):
        with pytest.raises(ModelError, match="Autograd finds no way down"):
            ask()
