"""Layers that are not quite PyTorch's own: the walk down is autograd's gradient, or there is none.

Networks are in float64, so that a wrong way down cannot pass for rounding.
"""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune
from torch.testing import assert_close

from helpers import (
    METHODS,
    VGG16,
    Deconvnet,
    ModelError,
    all_maps,
    fold_batch_norm,
    grad_cam,
    guided_gradcam,
    guided_gradcam_each,
    saliency,
)
from helpers.interactive.stepper import walk

from .networks import narrow, noise, randomise

FIRST, SECOND, POOL, LINEAR = "features.0", "features.2", "features.4", "classifier.3"


def photos(side=40):
    return noise(2, side, side + 7, dtype=torch.float64)


def precise():
    """A small VGG-16 in float64. No ReLU works in place: some layers here need what they gave."""
    network = narrow().double()
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return network


def with_layer(name, layer):
    """The same with another layer in the place of ``name``, whose weights it gets."""
    network = precise()
    layer.load_state_dict(network.get_submodule(name).state_dict())
    parent, _, last = name.rpartition(".")
    network.get_submodule(parent).register_module(last, layer)
    return network.double().eval()


def with_hook(hook, name):
    network = precise()
    network.get_submodule(name).register_forward_hook(hook)
    return network


def autograd(network, x, classes=(1, 4)):
    """The gradient of a class score a photo, with nothing of ours in it."""
    leaf = x.clone().requires_grad_()
    scores = network(leaf)
    (gradient,) = torch.autograd.grad(scores[range(len(x)), list(classes)].sum(), leaf)
    return gradient


def off(network, x):
    """By how much the walk's gradient is off autograd's, as a share."""
    want = autograd(network, x)
    got = METHODS["gradient"](network).from_class(x, [1, 4])
    assert want.abs().max() > 0
    return float((got - want).abs().max() / want.abs().max())


class Standardised(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019): the filters have mean 0 and variance 1."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Scaled(nn.Conv2d):
    """One part in a thousand more than the weight says."""

    def _conv_forward(self, x, weight, bias):
        return 1.001 * super()._conv_forward(x, weight, bias)


class Squashed(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).tanh()


class Branched(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + 0.1 * x[:, :1]


class Cosine(nn.Linear):
    def forward(self, x):
        return F.linear(F.normalize(x), F.normalize(self.weight), self.bias)


class Residual(nn.Linear):
    def forward(self, x):
        return super().forward(x) + x


class Smoothed(nn.MaxPool2d):
    def forward(self, x):
        return super().forward(x) + F.avg_pool2d(x, 2)


class Generalised(nn.AdaptiveAvgPool2d):
    """Generalised mean pooling, between the mean and the maximum."""

    def forward(self, x):
        return super().forward(x.clamp(min=1e-6) ** 3) ** (1 / 3)


class Leaking(nn.ReLU):
    def forward(self, x):
        return F.leaky_relu(x, 0.2)


class Bounded(nn.ReLU):
    def forward(self, x):
        return x.clamp(0, 0.5)


class BoundedFarAway(nn.ReLU):
    def forward(self, x):
        return x.clamp(0, 6)


class Saturated(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).clamp(-50, 50)


class Always(nn.Dropout):
    """Drops half of the units when asked, too (Monte Carlo dropout), here always the same."""

    def forward(self, x):
        return x * (torch.arange(x.shape[1], dtype=x.dtype) % 2 * 2)


class Doubling(nn.Identity):
    def forward(self, x):
        return 2 * x


def own_forward_on_the_instance():
    network = precise()
    layer = network.get_submodule(SECOND)
    layer.forward = lambda x: F.conv2d(x, layer.weight.abs(), layer.bias, padding=1)
    return network


OWN = {
    "standardised": (lambda: with_layer(SECOND, Standardised(4, 4, 3, padding=1)), "features[2]"),
    "standardised first": (lambda: with_layer(FIRST, Standardised(3, 4, 3, padding=1)), "[0]"),
    "a little scaled": (lambda: with_layer(SECOND, Scaled(4, 4, 3, padding=1)), "features[2]"),
    "squashed": (lambda: with_layer(SECOND, Squashed(4, 4, 3, padding=1)), "features[2]"),
    "branched": (lambda: with_layer(SECOND, Branched(4, 4, 3, padding=1)), "features[2]"),
    "cosine": (lambda: with_layer(LINEAR, Cosine(9, 9)), "classifier[3]"),
    "residual": (lambda: with_layer(LINEAR, Residual(9, 9)), "classifier[3]"),
    "smoothed pooling": (lambda: with_layer(POOL, Smoothed(2, 2)), "features[4]"),
    "generalised pooling": (lambda: with_layer("avgpool", Generalised(3)), "avgpool"),
    "leaking": (lambda: with_layer("features.1", Leaking()), "features[1]"),
    "bounded": (lambda: with_layer("features.3", Bounded()), "features[3]"),
    "always dropping": (lambda: with_layer("classifier.2", Always()), "classifier[2]"),
    "an identity that is none": (lambda: with_layer("classifier.2", Doubling()), "classifier[2]"),
    "on the instance": (own_forward_on_the_instance, "features[2]"),
    "hook on a convolution": (lambda: with_hook(lambda m, i, o: 3 * o, SECOND), "features[2]"),
    "hook on a linear layer": (lambda: with_hook(lambda m, i, o: o * o, LINEAR), "classifier[3]"),
    "hook on a ReLU": (lambda: with_hook(lambda m, i, o: 3 * o, "features.3"), "features[3]"),
}


@pytest.mark.parametrize("make, where", OWN.values(), ids=OWN.keys())
def test_a_layer_that_computes_more_is_refused_by_its_name(make, where, monkeypatch):
    network = make()
    for kind in METHODS.values():
        with pytest.raises(ModelError, match="does not compute what its kind") as caught:
            kind(network)
    assert where in str(caught.value) and "saliency_any" in str(caught.value)
    # and rightly so: the map would be another
    monkeypatch.setattr("helpers.explicit.deconvnet.check_steps", lambda *args: None)
    assert off(network, photos(70)) > 1e-4


@pytest.mark.parametrize(
    "make, where",
    [
        (lambda: with_layer("features.3", BoundedFarAway()), "features[3]"),
        (lambda: with_layer(SECOND, Saturated(4, 4, 3, padding=1)), "features[2]"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_layer_that_computes_more_is_found_where_only_large_numbers_come(make, where, dtype):
    """What no probe of everyday size meets, a photo may."""
    with pytest.raises(ModelError, match="does not compute what its kind") as caught:
        Deconvnet(make().to(dtype))
    assert where in str(caught.value)


class BoundedBelow(nn.Dropout):
    def forward(self, x):
        return super().forward(x).clamp(min=-1000)


def test_a_layer_that_is_bounded_on_one_side_is_found():
    with pytest.raises(ModelError, match=r"classifier\[2\] .*does not compute what its kind"):
        Deconvnet(with_layer("classifier.2", BoundedBelow()))


class Rippled(nn.Conv2d):
    """What is added is a ripple, which drowns in the rounding of large numbers."""

    def forward(self, x):
        return (y := super().forward(x)) + 0.1 * y.sin()


def test_a_layer_that_computes_more_is_found_where_only_everyday_numbers_come():
    with pytest.raises(ModelError, match=r"features\[2\] .*does not compute what its kind"):
        Deconvnet(with_layer(SECOND, Rippled(4, 4, 3, padding=1)).float())


class Written(nn.Conv2d):
    """A forward of its own that is a convolution's, and a constant."""

    def forward(self, x):
        padded = F.pad(x, (1, 1, 1, 1))
        return F.conv2d(padded, self.weight, self.bias) + 0.25


class Noted(nn.Linear):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


@pytest.mark.parametrize(
    "network",
    [
        with_layer(SECOND, Written(4, 4, 3, padding=1)),
        with_layer(LINEAR, Noted(9, 9)),
        with_hook(lambda module, inputs, output: output + 1, SECOND),
        with_hook(lambda module, inputs, output: None, POOL),
    ],
    ids=["written out", "noted", "hook that adds", "hook that looks"],
)
def test_a_forward_of_its_own_that_leads_back_by_the_weight_is_welcome(network):
    assert off(network, photos()) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_layer_that_computes_more_is_found_in_every_dtype(dtype):
    assert Deconvnet(narrow().to(dtype))
    network = with_layer(SECOND, Standardised(4, 4, 3, padding=1)).to(dtype)
    with pytest.raises(ModelError, match=r"features\[2\] of VGG16, a Standardised, does not"):
        Deconvnet(network)


def test_a_thousandth_more_is_found_in_single_precision_too():
    assert Deconvnet(precise().float())
    with pytest.raises(ModelError, match=r"features\[2\] of VGG16, a Scaled, does not"):
        Deconvnet(with_layer(SECOND, Scaled(4, 4, 3, padding=1)).float())


def test_a_layer_that_computes_more_is_found_where_the_photo_does_not_come():
    """All units before it are silent for the small photo, and so is its part in the scores."""
    network = with_layer(SECOND, Standardised(4, 4, 3, padding=1))
    with torch.no_grad():
        network.features[0].bias.fill_(-1000)
        assert not network.features[:2](photos()).any()
    with pytest.raises(ModelError, match=r"features\[2\]"):
        Deconvnet(network)


def changed(network):
    """Other weights of the same shapes."""
    return randomise(type(network)(7, (4, 6, 8, 10, 12), 9, 3), seed=1).double().state_dict()


class Positive(nn.Module):
    def forward(self, weight):
        return weight.abs() + 0.01


ASSIGN = {
    "load_state_dict": lambda n: n.load_state_dict(changed(n)),
    "load_state_dict(assign=True)": lambda n: n.load_state_dict(changed(n), assign=True),
    "a parameter": lambda n: setattr(
        n.features[2], "weight", nn.Parameter(changed(n)["features.2.weight"])
    ),
    "data": lambda n: setattr(n.features[2].weight, "data", changed(n)["features.2.weight"]),
    "a linear parameter": lambda n: setattr(
        n.classifier[3], "weight", nn.Parameter(changed(n)["classifier.3.weight"])
    ),
    "pruned": lambda n: [
        prune.l1_unstructured(layer, "weight", 0.3) for layer in (n.features[2], n.classifier[3])
    ],
    "parametrized": lambda n: [
        parametrize.register_parametrization(layer, "weight", Positive())
        for layer in (n.features[2], n.classifier[3])
    ],
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("assign", ASSIGN.values(), ids=ASSIGN.keys())
def test_weights_given_after_construction_are_used_both_ways(assign, method):
    network, x = precise(), photos()
    net = METHODS[method](network)
    before = net.from_class(x, [1, 4])
    assign(network)
    after = net.from_class(x, [1, 4])
    assert (after - before).abs().max() > 1e-3 * before.abs().max() > 0
    assert_close(after, METHODS[method](network).from_class(x, [1, 4]), rtol=0, atol=0)
    if method == "gradient":
        assert_close(after, autograd(network, x), rtol=1e-9, atol=1e-12)


@torch.no_grad()
def computed(change):
    """Both kinds of layer with weights that are computed from others, and are not those others."""
    network = precise()
    for name in (SECOND, LINEAR, "features.28", "classifier.0"):
        layer = network.get_submodule(name)
        before = layer.weight.clone()
        change(layer)
        for key, parameter in layer.named_parameters():
            if key.endswith(
                ("_g", "original0")
            ):  # weight norm's lengths, at first the weight's own
                parameter.mul_(torch.linspace(0.7, 1.4, len(parameter)).view_as(parameter))
        layer(torch.zeros(1, layer.weight.shape[1], *[4] * (layer.weight.ndim - 2)).double())
        assert (layer.weight - before).abs().max() > 0.01
    return network


COMPUTED = {
    "weight norm": parametrizations.weight_norm,
    "weight norm by hook": torch.nn.utils.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm by hook": torch.nn.utils.spectral_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.4),
    "pruned channels": lambda layer: prune.ln_structured(layer, "weight", 0.3, n=2, dim=0),
    "pruned twice": lambda layer: [prune.l1_unstructured(layer, "weight", a) for a in (0.1, 0.3)],
    "own": lambda layer: parametrize.register_parametrization(layer, "weight", Positive()),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("training", [False, True], ids=["asked", "in training mode"])
@pytest.mark.parametrize("change", COMPUTED.values(), ids=COMPUTED.keys())
def test_weights_that_are_computed_are_used_both_ways(change, training):
    torch.manual_seed(0)
    network, x = computed(change).eval(), photos()
    want = autograd(network, x)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train(training)
    net = METHODS["gradient"](network)
    assert_close(net.from_class(x, [1, 4]), want, rtol=1e-9, atol=1e-12)
    assert all(module.training == training for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    # what they are computed from may change; only with `new` weights is the walk autograd's
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    new = autograd(network.eval(), x)
    assert (new - want).abs().max() > 1e-3 * want.abs().max()
    assert_close(net.from_class(x, [1, 4]), new, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("change", COMPUTED.values(), ids=COMPUTED.keys())
def test_every_method_takes_weights_that_are_computed(change):
    torch.manual_seed(0)
    network, x = computed(change).eval(), photos()
    plain = precise()  # the same network, its weights written down
    with torch.no_grad():
        network(x)
        for name, layer in plain.named_modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.weight.copy_(network.get_submodule(name).weight)
    want = all_maps(plain, x, [1, 4])
    for name, got in all_maps(network, x, [1, 4]).items():
        assert want[name].abs().max() > 0
        assert_close(got, want[name], rtol=1e-9, atol=1e-12)
    assert_close(grad_cam(network, x, [1, 4]).maps, grad_cam(plain, x, [1, 4]).maps)


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


ALL = {
    "grad_cam": lambda n, x: grad_cam(n, x).maps,
    "guided_gradcam": lambda n, x: guided_gradcam(n, x).maps,
    "guided_gradcam_each": lambda n, x: guided_gradcam_each(n, x, [1, 4]).maps,
    "all_maps": lambda n, x: torch.cat([m.flatten() for m in all_maps(n, x).values()]),
    "from_features": lambda n, x: Deconvnet(n).from_features(x),
    "strongest": lambda n, x: Deconvnet(n).from_features(x, "strongest"),
    "stepper": lambda n, x: walk(n, x[:1]).trace.scores,
    **{m: lambda n, x, m=m: saliency(n, x, None, m) for m in METHODS},
}
every = pytest.mark.parametrize("explain", ALL.values(), ids=ALL.keys())


@every
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_deterministic_algorithms_give_the_same_maps(explain, ceil_mode, request):
    network, x = narrow(ceil_mode=ceil_mode), noise(2, 45, 70)
    want = explain(network, x)
    assert want.any()
    request.getfixturevalue("deterministic")
    with pytest.raises(RuntimeError, match="deterministic"):  # the mode is on
        nn.MaxUnpool2d(2)(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1, dtype=torch.int64))
    assert torch.equal(explain(network, x), want)


def network_of(*layers):
    network = VGG16(3, widths=(4,) * 5, hidden=5)
    network.features = nn.Sequential(*layers)
    network.avgpool = nn.AdaptiveAvgPool2d(2)
    return randomise(network)


def conv(channels=3):
    return nn.Conv2d(channels, 4, 3, padding=1)


@pytest.mark.parametrize(
    "layers, place",
    [
        ([conv(), nn.ReLU(), nn.BatchNorm2d(4)], "behind a ReLU"),
        ([conv(), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(4), conv(4)], "behind a MaxPool2d"),
        ([nn.BatchNorm2d(3), conv()], "first of all"),
    ],
    ids=["behind a ReLU", "behind a pooling", "first"],
)
def test_a_batch_normalisation_that_cannot_be_folded_says_so(layers, place):
    network = network_of(*layers)
    with pytest.raises(ModelError, match="BatchNorm2d has no way back here.*fold_batch_norm"):
        Deconvnet(network)
    with pytest.raises(ModelError, match=f"batch normalisation.* stands {place}.*saliency_any"):
        fold_batch_norm(network)


def test_two_batch_normalisations_are_folded_one_after_the_other():
    network = network_of(conv(), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU()).double()
    x = photos()
    with pytest.raises(ModelError, match="fold_batch_norm"):
        Deconvnet(network)
    assert_close(
        METHODS["gradient"](fold_batch_norm(network)).from_class(x, [0, 2]),
        autograd(network, x, [0, 2]),
    )


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("change", COMPUTED.values(), ids=COMPUTED.keys())
def test_a_computed_weight_has_to_be_made_plain_before_folding(change):
    network = network_of(conv(), nn.BatchNorm2d(4), nn.ReLU())
    change(network.features[0])
    with pytest.raises(ModelError, match=r"features\[1\].*computed from others.*prune.remove"):
        fold_batch_norm(network)


class Doubled(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


def halved(module, args, output):
    return output / 2


@pytest.mark.parametrize(
    "layers, hook, other",
    [
        ([Standardised(3, 4, 3, padding=1), nn.BatchNorm2d(4)], None, "Standardised"),
        ([Scaled(3, 4, 3, padding=1), nn.BatchNorm2d(4)], None, "Scaled"),
        ([conv(), Doubled(4)], None, "Doubled"),
        ([conv(), nn.BatchNorm2d(4)], lambda a, b: a.register_forward_hook(halved), "Conv2d"),
        ([conv(), nn.BatchNorm2d(4)], lambda a, b: b.register_forward_hook(halved), "BatchNorm2d"),
        (
            [conv(), nn.BatchNorm2d(4)],
            lambda a, b: b.register_forward_pre_hook(lambda b, args: (args[0] / 2,)),
            "BatchNorm2d",
        ),
        (
            [conv(), nn.BatchNorm2d(4)],
            lambda a, b: setattr(b, "forward", lambda x: 3 * x),
            "BatchNorm2d",
        ),
    ],
)
def test_what_does_more_than_its_kind_is_not_folded(layers, hook, other):
    network = network_of(*layers, nn.ReLU())
    if hook:
        assert len(fold_batch_norm(network).features) == 2
        hook(*network.features[:2])
    with pytest.raises(ModelError, match=rf"features\[1\].*the {other} there may do.*saliency_any"):
        fold_batch_norm(network)


class Twice(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("what", ["subclass", "forward", "hook"])
def test_features_that_do_more_than_their_layers_are_not_folded(what):
    network = network_of(conv(), nn.BatchNorm2d(4), nn.ReLU())
    inner = network.features
    if what == "subclass":
        network.features = Twice(*inner)
    elif what == "forward":
        inner.forward = lambda x: 2 * nn.Sequential.forward(inner, x)
    else:
        inner.register_forward_hook(halved)
    with pytest.raises(ModelError, match="may do more than one layer behind the other.*saliency_a"):
        fold_batch_norm(network)


def test_a_batch_normalisation_without_statistics_cannot_be_folded():
    network = network_of(conv(), nn.ReLU())
    network.features.insert(1, nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(ModelError, match=r"features\[1\].*track_running_stats=False"):
        fold_batch_norm(network)


def test_what_has_no_features_cannot_be_folded():
    with pytest.raises(ModelError, match="Linear has no features"):
        fold_batch_norm(nn.Linear(2, 2))


@pytest.mark.parametrize("explain", [Deconvnet, lambda n: grad_cam(n, noise(1, 32))])
def test_empty_features_are_refused(explain):
    network = network_of()
    network.classifier[0] = nn.Linear(12, 5)
    assert network(noise(1, 32)).shape == (1, 3)
    with pytest.raises(ModelError, match="features of VGG16 are empty"):
        explain(network)


@every
@pytest.mark.parametrize(
    "name, value",
    [
        (FIRST, -math.inf),
        ("features.28", math.nan),
        ("classifier.0", -math.inf),
        ("classifier.6", math.inf),
    ],
)
def test_a_weight_that_is_no_number_is_refused(network, explain, value, name):
    """Minus infinity is silenced by the next ReLU: the scores may be finite, the map cannot."""
    layer = network.get_submodule(name)
    with torch.no_grad():
        layer.weight.view(-1)[5] = value
    with pytest.raises(ModelError, match="NaN or infinite values. Look at the network's weights"):
        explain(network, noise(2, 32))


@every
def test_a_score_that_is_no_number_is_refused(network, explain):
    with torch.no_grad():
        network.classifier[6].bias[3] = math.inf
    with pytest.raises(ModelError, match="NaN or infinite values"):
        explain(network, noise(2, 32))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_a_weight_that_is_no_number_any_more_is_refused(network, method, value):
    net, x = METHODS[method](network), noise(1, 32)
    assert net.from_class(x).any()
    with torch.no_grad():
        network.features[2].weight[0, 0] = value
    with pytest.raises(ModelError, match="NaN or infinite values"):
        net.from_class(x)


class Fixed(nn.Module):
    """A classifier that fits photos of one size only, and no average pooling before it."""

    def __init__(self, side):
        super().__init__()
        self.features = nn.Sequential(conv(), nn.ReLU(), nn.MaxPool2d(8))
        self.avgpool = nn.Identity()
        self.classifier = nn.Sequential(nn.Linear(4 * (side // 8) ** 2, 6))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@pytest.mark.parametrize("side", [32, 64, 224])
def test_a_network_may_fit_one_size_only(side):
    network, x = randomise(Fixed(side)).double(), noise(2, side, dtype=torch.float64)
    assert_close(METHODS["gradient"](network).from_class(x, [1, 4]), autograd(network, x))


def test_a_network_that_takes_no_photo_of_ours_is_refused():
    with pytest.raises(ModelError, match="Fixed fails on photos of 32, 64 and 224 .*shapes"):
        Deconvnet(Fixed(96))


@pytest.mark.parametrize(
    "place, layer, message",
    [
        ("features", nn.Linear(5, 5), r"features\[1\] of VGG16, a Linear, does not go with"),
        ("classifier", conv(9), r"classifier\[1\] of VGG16, a Conv2d, does not go with"),
    ],
)
def test_a_layer_out_of_its_place_is_refused(place, layer, message):
    network = network_of(conv(), nn.ReLU())
    network.get_submodule(place).insert(1, layer)
    network.forward = lambda x: x.flatten(1)[:, :3]
    with pytest.raises(ModelError, match=message):
        Deconvnet(network)


def test_a_network_may_have_no_parameter():
    network = network_of(nn.ReLU())
    network.classifier = nn.Sequential()
    x = noise(1, 32)
    assert not list(network.parameters()) and (x < 0).any()
    got = METHODS["gradient"](network).from_class(x, 3)
    assert_close(got, autograd(network, x, [3])) and got.any()
