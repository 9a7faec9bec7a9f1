"""What is passed by mistake to the functions for any network, and several threads at once."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from helpers import (
    Deconvnet,
    Model,
    ModelError,
    all_maps,
    all_maps_any,
    evaluating,
    grad_cam,
    grad_cam_any,
    guided_gradcam,
    guided_gradcam_any,
    guided_gradcam_any_each,
    saliency,
    saliency_any,
)
from helpers.autograd.feature_maps import token_grid

from .comparing import assert_close
from .networks import narrow, noise, randomise


class Wrapped(nn.Module):
    """Three small parts, and how they are called: ``call(network, x)``."""

    def __init__(self, call=lambda net, x: net.head(net.body(net.stem(x)))):
        super().__init__()
        self.call = call
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU(True))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        randomise(self)

    def forward(self, x):
        return self.call(self, x)


def both(network, x, c=None, layer=None):
    """Every function for any network, on one network."""
    layer = layer or next(m for m in network.modules() if isinstance(m, nn.ReLU))
    return {
        **{
            m: lambda m=m: saliency_any(network, x, c, m)
            for m in ("gradient", "deconvnet", "guided")
        },
        "grad_cam": lambda: grad_cam_any(network, x, layer, c).maps,
        "guided_gradcam": lambda: guided_gradcam_any(network, x, layer, c).maps,
    }


X = noise(2, 32)
ANY = {
    "saliency_any": lambda network, x: saliency_any(network, x, 0),
    "the gradient": lambda network, x: saliency_any(network, x, 0, "gradient"),
    "grad_cam_any": lambda network, x: grad_cam_any(network, x, nn.ReLU(), 0),
    "guided_gradcam_any": lambda network, x: guided_gradcam_any(network, x, nn.ReLU(), 0),
}
VGG = {
    "saliency": saliency,
    "grad_cam": grad_cam,
    "guided_gradcam": guided_gradcam,
    "all_maps": all_maps,
    "Deconvnet": lambda network, x: Deconvnet(network),
}
everyone = pytest.mark.parametrize("explain", [*ANY.values(), *VGG.values()], ids=[*ANY, *VGG])


@everyone
def test_a_whole_model_is_told_where_its_network_is(embedded, explain):
    with pytest.raises(
        ModelError, match="nn.Module; a Model holds its network: pass model.network"
    ):
        explain(embedded, X)


@everyone
@pytest.mark.parametrize(
    "network, message",
    [
        (torchvision.models.resnet18, "resnet18 is a function: pass what it returns"),
        (lambda x: x.mean((2, 3)), "<lambda> is a function: .* forward of an nn.Module"),
        (nn.Flatten, "Flatten is a class: pass an instance"),
        ("resnet18", "got a str"),
        (None, "got a NoneType"),
    ],
)
def test_what_is_no_network_is_refused(explain, network, message):
    with pytest.raises(ModelError, match=f"A network is an nn.Module; {message}"):
        explain(network, X)


@pytest.mark.parametrize("explain", VGG.values(), ids=VGG)
def test_what_only_vgg_can_names_what_others_can(explain):
    with torch.device("meta"):
        network = torchvision.models.resnet18(weights=None)
    with pytest.raises(ModelError, match="ResNet.*VGG-style.*grad_cam_any"):
        explain(network, X)


@pytest.mark.parametrize(
    "layer, message",
    [
        ("layer4", "Wrapped has no layer 'layer4'; .*helpers.layers"),
        (-1, "such as network.layer4, or its name, .*; not a int"),
        ([nn.ReLU()], "not a module of this Wrapped"),
        (["stem", 1], "not a int"),
        ([], "no layer in the list"),
        (nn.ReLU, "not a type"),
        (nn.ReLU(), "not a module of this Wrapped"),
    ],
)
def test_layers_of_the_wrong_type_are_refused(layer, message):
    for explain in (grad_cam_any, guided_gradcam_any):
        with pytest.raises(ModelError, match=message):
            explain(Wrapped(), X, layer)


def test_layers_beside_the_way_are_refused():
    network = Wrapped(
        lambda net, x: (net.stem(x), net.head(F.relu(net.body[0](net.stem[0](x)))))[1]
    )
    with pytest.raises(
        ModelError, match="BatchNorm2d is not on the way from the photo to the scores.*Choose"
    ):
        grad_cam_any(network, X, network.stem[1], 0)
    constant = Wrapped(
        lambda net, x: net.head(net.body(net.stem(x)) + net.body(net.stem(torch.ones_like(x))))
    )
    with pytest.raises(ModelError, match="gave"):  # called twice
        grad_cam_any(constant, X, constant.stem, 0)
    prior = Wrapped(
        lambda net, x: net.head(
            F.relu(net.body[0](net.stem[0](x))) + net.body[1](torch.randn(2, 8, 16, 16))
        )
    )
    with pytest.raises(ModelError, match="is not on the way from the photo"):
        grad_cam_any(prior, X, prior.body[1], 0)


def frozen_backbone(net, x):
    with torch.no_grad():
        f = net.body(net.stem(x))
    return net.head(f)


@pytest.mark.parametrize(
    "call",
    [
        frozen_backbone,
        lambda net, x: net.head(net.body(net.stem(x.detach()))),
        lambda net, x: torch.zeros(2, 5),
    ],
)
def test_photos_out_of_autograds_reach_are_an_error(call):
    for explain in both(Wrapped(call), X, 0).values():
        with pytest.raises(ModelError, match="no_grad|gave"):
            explain()


def test_frozen_parameters_do_no_harm():
    network = Wrapped()
    want = {name: explain() for name, explain in both(network, X, 0).items()}
    network.requires_grad_(False)
    for name, explain in both(network, X, 0).items():
        assert want[name].any()
        assert_close(explain(), want[name], rtol=0, atol=0)


def test_reentrant_checkpoints_are_refused():
    network = Wrapped(
        lambda net, x: net.head(checkpoint(net.body, net.stem(x), use_reentrant=True))
    )
    for explain in both(network, X, 0).values():
        with pytest.raises(ModelError, match="use_reentrant=True.*Switch checkpointing off"):
            explain()


def test_other_checkpoints_do_no_harm_to_what_needs_no_rule():
    plain = Wrapped()
    network = Wrapped(
        lambda net, x: net.head(checkpoint(net.body, net.stem(x), use_reentrant=False))
    )
    for name, explain in both(network, X, 0, network.body).items():
        if name in ("gradient", "grad_cam"):
            assert_close(explain(), both(plain, X, 0, plain.body)[name](), rtol=1e-6, atol=1e-9)
        else:
            with pytest.raises(ModelError, match="checkpointing"):
                explain()


def test_exported_modules_are_refused_and_their_modes_stay():
    network = Wrapped()
    exported = torch.export.export(network, (X,)).module()
    for explain in (
        lambda: saliency_any(exported, X, 0),
        lambda: saliency_any(exported, X, 0, "gradient"),
        lambda: grad_cam_any(exported, X, exported, 0),
    ):
        modes = [module.training for module in exported.modules()]
        with pytest.raises(ModelError, match="torch.export.*use the network that it was made from"):
            explain()
        assert [module.training for module in exported.modules()] == modes


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_an_error(value):
    network = Wrapped()
    with torch.no_grad():
        network.head[-1].bias[2] = value
    for explain in both(network, X, 0).values():
        with pytest.raises(ModelError, match="NaN or infinite values"):
            explain()


# --- photos that the network cannot take ----------------------------------------------------------


def test_a_photo_may_be_a_single_pixel():
    network = randomise(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)))
    x = noise(1, 1)
    assert x.shape[2:] == (1, 1) and saliency_any(network, x, 1).any()


def test_what_a_network_itself_refuses_is_said():
    """torchvision's transformers assert, others raise a ValueError."""
    for error in (AssertionError("Wrong height"), ValueError("Wrong height")):

        def refuse(net, x, error=error):
            raise error

        with pytest.raises(ModelError, match=f"{type(error).__name__}: Wrong height") as caught:
            saliency_any(Wrapped(refuse), X, 0)
        assert caught.value.__cause__ is error
    with pytest.raises(torch.OutOfMemoryError):

        def too_much(net, x):
            raise torch.OutOfMemoryError("out of memory")

        saliency_any(Wrapped(too_much), X, 0)


def test_a_network_may_bring_photos_to_its_own_type():
    network = Wrapped().double()
    want = both(network, X.double(), 0, network.body)
    network.call = lambda net, x: net.head(net.body(net.stem(x.double())))
    for name, explain in both(network, X, 0, network.body).items():
        assert_close(explain(), want[name]().to(explain().dtype), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_floats_are_explained_as_float32_is(dtype):
    network, share = Wrapped(), 1e-5 if dtype == torch.float64 else 0.05
    want = {name: explain() for name, explain in both(network, X, 0, network.body).items()}
    network = network.to(dtype)
    explain = both(network, X.to(dtype), 0, network.body)
    for name, one in explain.items():
        got = one()
        # the product of two small numbers is too small for float16
        least = torch.float32 if name == "guided_gradcam" else dtype
        assert got.dtype == torch.promote_types(dtype, least) and want[name].any()
        # here and there rounding lets another value be the larger
        assert (got - want[name]).abs().mean() < share * want[name].abs().mean()


@pytest.mark.parametrize("name", both(Wrapped(), X))
def test_what_grows_too_large_for_half_precision_on_the_way_down_is_refused(name):
    """A score of some thousands from feature maps below 0.001: the slope is beyond 65504."""
    network = Wrapped(lambda net, x: 3e3 * net.head(3e4 * net.body(net.stem(x))))
    with torch.no_grad():
        network.body[0].weight.mul_(1e-4), network.body[0].bias.mul_(1e-4)
    explain = both(network.half(), X.half(), 0, network.body)[name]
    assert network(X.half()).isfinite().all()
    with pytest.raises(ModelError, match="ends in NaN or infinite values.*half precision"):
        explain()


def test_nothing_is_computed_without_values():
    network = Wrapped().to("meta")
    for explain in both(network, X, 0, network.body).values():
        with pytest.raises(ModelError, match="on the device 'meta'.*to_empty"):
            explain()
    with pytest.raises(ModelError, match="on the device 'meta'"):
        Model.of(network)
    for explain in both(Wrapped(), X.to("meta"), 0).values():
        with pytest.raises(ValueError, match="photos are on the device 'meta'"):
            explain()


# --- maps whose channels stand last -------------------------------------------------------------


class Permuted(nn.Module):
    def __init__(self, *dims):
        super().__init__()
        self.dims = dims

    def forward(self, x):
        return x.permute(*self.dims)


def channels_last(height, width, channels):
    """A network with maps ``(N, h, w, C)``, and a module behind that puts the channels first."""
    return randomise(
        nn.Sequential(
            nn.Conv2d(3, channels, 4, stride=4),
            nn.ReLU(),
            Permuted(0, 2, 3, 1),
            nn.Linear(channels, channels),
            Permuted(0, 3, 1, 2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, 3),
        )
    )


@pytest.mark.parametrize("height, width", [(64, 64), (64, 96), (96, 52), (33, 47)])
@pytest.mark.parametrize("channels", [6, 16, 96])
def test_maps_with_the_channels_last_are_those_with_the_channels_first(height, width, channels):
    network = channels_last(height, width, channels)
    x = noise(1, height, width)
    want, got = (grad_cam_any(network, x, network[place], 0) for place in (4, 3))
    assert want.maps.shape == (1, height // 4, width // 4) and want.weights.shape == (1, channels)
    assert_close(got.weights, want.weights)
    torch.testing.assert_close(got.maps, want.maps)  # of one class in some of them all zero


class Heads(nn.Module):
    """Gives something of four dimensions that are no places: (N, heads, tokens, part of a head)."""

    def forward(self, x):
        return x.flatten(2).unflatten(1, (2, 4)).transpose(2, 3)


@pytest.mark.parametrize("silent", [0, 3, 7])
def test_a_silent_channel_does_not_decide_where_the_channels_stand(silent):
    """Eight channels of 8 x 8 places: both readings fit, and the silent channel looks nowhere."""
    network, x = channels_last(32, 32, 8), noise(1, 32)
    network[3] = nn.ReLU()  # so that the silent channel has no gradient at all
    with torch.no_grad():
        network[0].weight[silent], network[0].bias[silent] = 0, -1
    want, got = (grad_cam_any(network, x, network[place], 1) for place in (4, 3))
    assert want.weights.any()
    assert_close(got.weights, want.weights)
    torch.testing.assert_close(got.maps, want.maps)


def test_one_channel_may_stand_last():
    network, x = channels_last(32, 32, 1), noise(1, 32)
    for place in (3, 4):
        assert grad_cam_any(network, x, network[place], 0).maps.shape == (1, 8, 8)


@pytest.mark.parametrize("channels", [16, 64])
def test_tokens_that_stand_last_are_refused(channels):
    """As many channels as a grid has places are no grid."""

    class Head(nn.Linear):
        def forward(self, tokens):
            return super().forward(tokens.mean(1))

    network, x = (
        randomise(
            nn.Sequential(
                nn.Conv2d(3, channels, 4, 4), nn.Flatten(2), Permuted(0, 2, 1), Head(channels, 5)
            )
        ),
        noise(1, 32),
    )
    assert_close(grad_cam_any(network, x, "2", 1).maps, grad_cam_any(network, x, "0", 1).maps)
    with pytest.raises(ModelError, match="with the tokens last"):
        grad_cam_any(network, x, "1", 1)


@pytest.mark.parametrize("grid", [8, "8x8", (8,), (8, 8, 1), (8.0, 8.0), (-1, -64), (9, 8)])
def test_a_grid_that_is_none_is_refused(grid):
    with pytest.raises(ModelError, match="no grid .* in 64 tokens: it is .rows, columns"):
        token_grid(64, noise(1, 32), nn.Identity(), grid)


def test_what_autograd_cannot_go_down_is_said():
    """A sigmoid needs its values again."""
    network = Wrapped(lambda net, x: net.head(net.body(net.stem(x).sigmoid().mul_(2))))
    for name in ("gradient", "grad_cam"):
        with pytest.raises(ModelError, match="no way down.*inplace operation"):
            both(network, X, 0, network.stem)[name]()


def test_a_checkpoint_that_checks_nothing_is_found():
    network = Wrapped(
        lambda net, x: net.head(
            checkpoint(
                F.relu, net.body[0](net.stem(x)), use_reentrant=False, determinism_check="none"
            )
        )
    )
    with pytest.raises(ModelError, match="checkpointing"):
        saliency_any(network, X, 0)


def test_what_has_four_dimensions_but_no_places_is_refused():
    network = randomise(
        nn.Sequential(
            nn.Conv2d(3, 8, 8, stride=8), heads := Heads(), nn.Flatten(), nn.Linear(512, 3)
        )
    )
    with pytest.raises(ModelError, match=r"Heads gives \(1, 2, 64, 4\), which do not look like"):
        grad_cam_any(network, noise(1, 64), heads, 0)


@pytest.mark.parametrize("shape", [(40, 64), (64, 40), (33, 95), (32, 320), (64, 64)])
def test_maps_with_the_channels_first_are_taken(shape):
    for network, depth in (
        (narrow(), 31),
        (narrow(widths=(2, 2, 2, 2, 2)), 31),
        (narrow(widths=(1, 2, 4, 10, 20)), 24),
    ):
        look = grad_cam_any(network, noise(1, *shape), network.features[depth - 1], 0)
        assert look.maps.ndim == 3


def test_maps_of_other_photos_are_refused():
    """Windows, say, that were put beside each other in the batch."""
    network = Wrapped(lambda net, x: net.head(net.body(net.stem(x.repeat(3, 1, 1, 1))))[:2])
    with pytest.raises(ModelError, match=r"gave \[\(6, 6, 32, 32\)\]"):
        grad_cam_any(network, X, network.stem, 0)


# --- several threads ----------------------------------------------------------------------------


@pytest.fixture
def hasty():
    """Threads take turns as often as Python allows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_four_threads_explain_one_network(hasty):
    network = Wrapped().train()
    network.stem[1].eval()
    modes = [module.training for module in network.modules()]
    photos = [noise(1, 32, seed=seed) for seed in range(4)]
    want = [{k: f() for k, f in both(network, x, 0, network.body).items()} for x in photos]
    assert not torch.equal(want[0]["guided"], want[1]["guided"])
    barrier = threading.Barrier(4)

    def work(i):
        barrier.wait()
        return [
            {k: f() for k, f in both(network, photos[i], 0, network.body).items()}
            for _ in range(10)
        ]

    with ThreadPoolExecutor(4) as pool:
        for i, got in enumerate(pool.map(work, range(4))):
            for maps in got:
                for name, value in maps.items():
                    assert_close(value, want[i][name], rtol=1e-5, atol=1e-7)
    assert [module.training for module in network.modules()] == modes
    assert not any(module._forward_hooks for module in network.modules())


def test_other_passes_through_the_network_meet_no_hook_of_ours():
    """Somebody's own pass, in another thread, while we look at a layer."""
    network, seen = Wrapped(), []

    def meanwhile(module, inputs, output):
        if threading.current_thread() is not threading.main_thread():
            return
        thread = threading.Thread(target=lambda: seen.append(network(noise(3, 32))))
        thread.start()
        thread.join()

    handle = network.body.register_forward_hook(meanwhile)
    got = grad_cam_any(network, X, network.body, 0)
    handle.remove()
    assert len(seen) == 1 and len(seen[0]) == 3
    assert_close(got.maps, grad_cam_any(network, X, network.body, 0).maps)


def test_the_last_to_leave_gives_the_mode_back():
    """Also where networks share a part."""
    network = Wrapped().train()
    other = nn.Sequential(network.body, nn.Flatten()).train()
    first, second = evaluating(network), evaluating(other)
    first.__enter__()
    second.__enter__()
    assert not any(m.training for m in [*network.modules(), *other.modules()])
    first.__exit__(None, None, None)
    assert network.stem.training and not network.body.training and not network.body[0].training
    second.__exit__(None, None, None)
    assert all(m.training for m in [*network.modules(), *other.modules()])


class Merging(nn.Linear):
    """As adapters do (LoRA): in eval mode its parts are one weight."""

    merged = False

    def train(self, mode=True):
        self.merged = not mode
        return super().train(mode)


def test_what_a_module_does_on_changing_its_mode_is_undone():
    network = nn.Sequential(nn.Flatten(), nn.Sequential(Merging(192, 2), nn.Dropout())).train()
    network[1][1].eval()
    with evaluating(network):
        assert network[1][0].merged and not network.training
    assert network.training and not network[1][0].merged and network[1][0].training
    assert not network[1][1].training
    network.eval()
    with evaluating(network):
        pass
    assert network[1][0].merged and not network[1][0].training


def test_constants_may_be_written_into_a_tensor():
    def with_constant(net, f):
        low = torch.empty(3)
        torch.clamp(torch.arange(3.0), min=1, out=low)
        return net.head(net.body(net.stem(f))) + 0 * low.sum()

    want = saliency_any(Wrapped(), X, 0)
    assert want.any() and torch.equal(saliency_any(Wrapped(with_constant), X, 0), want)


def test_a_rule_that_is_refused_is_asked_for_once():
    network, passes = Wrapped(), []
    network.body[1] = nn.SiLU()
    network.register_forward_hook(lambda *_: passes.append(1))
    maps = all_maps_any(network, X, 0, layer=network.body)
    assert list(maps) == ["gradient", "Grad-CAM"]
    assert len(passes) == 4  # Grad-CAM, the gradient, and two rules


def test_another_cam_may_be_a_factor():
    network = Wrapped()
    got = guided_gradcam_any(network, X, network.stem, 0, cam="HiResCAM")
    want = all_maps_any(network, X, 0, ["guided_grad_cam"], network.stem, cam="HiResCAM")
    assert_close(got.maps, want["Guided HiResCAM"])
    assert not torch.allclose(got.maps, guided_gradcam_any(network, X, network.stem, 0).maps)
    each = guided_gradcam_any_each(network, X, [0, 1], network.stem, cam="HiResCAM")
    assert_close(each.maps[:, 0], got.maps)
