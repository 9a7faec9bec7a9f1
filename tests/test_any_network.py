"""The three rules on autograd, against networks whose ReLUs were exchanged one by one."""

import copy

import pytest
import torch
import torchvision
from captum.attr import GuidedBackprop
from torch import nn
from torch.nn import functional as F

from helpers import (
    METHODS,
    ModelError,
    ReluRule,
    grad_cam,
    grad_cam_any,
    guided_gradcam,
    guided_gradcam_any,
    saliency,
    saliency_any,
)
from helpers.autograd.any_network import _padding

from .comparing import assert_close, assert_each_differs
from .networks import narrow, noise, randomise

FAMILIES = {
    "resnet18": ("layer4", 64),
    "resnext50_32x4d": ("layer4", 64),
    "densenet121": ("features", 64),
    "squeezenet1_1": ("features", 64),
    "mobilenet_v2": ("features", 64),
    "mobilenet_v3_small": ("features", 64),
    "googlenet": ("inception5b", 64),
    "inception_v3": ("Mixed_7c", 80),
    "shufflenet_v2_x0_5": ("conv5", 64),
}
MIXED = {"mobilenet_v3_small"}
methods = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """A torchvision network, random, in float64; photos for it, and its last layer with maps."""
    name = request.param
    layer, size = FAMILIES[name]
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(weights=None, num_classes=9, **quick(name))
    network = randomise(network.to_empty(device="cpu")).double()
    return name, network, noise(2, size, dtype=torch.float64), network.get_submodule(layer)


def quick(name):
    """GoogLeNet's and Inception's own initialisation takes a minute; neither needs other heads."""
    return (
        {"init_weights": False, "aux_logits": False}
        if name in ("googlenet", "inception_v3")
        else {}
    )


def reference_relu(f, top, method):
    """The rules by tensor hooks and a straight-through estimate: nothing of the helper's."""
    y = f.clamp(0, top)
    if method == "deconvnet":  # the values of the clamp, the derivative of the identity
        y = f + (y - f).detach()
    if method != "gradient" and y.requires_grad:
        y = y * 1
        y.register_hook(lambda signal: signal.clamp(min=0))
    return y


class ReferenceReLU(nn.Module):
    def __init__(self, top, method):
        super().__init__()
        self.top, self.method = top, method

    def forward(self, f):
        return reference_relu(f, self.top, self.method)


def reference(network, x, classes, method, monkeypatch):
    """The map of a copy with every ReLU module exchanged, and every ``F.relu`` while it runs."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, (nn.ReLU, nn.ReLU6)):
                setattr(
                    module,
                    name,
                    ReferenceReLU(6.0 if isinstance(child, nn.ReLU6) else torch.inf, method),
                )
    leaf = x.clone().requires_grad_()
    with monkeypatch.context() as patch:
        patch.setattr(F, "relu", lambda f, inplace=False: reference_relu(f, torch.inf, method))
        scores = network(leaf)
        scores[range(len(x)), classes].sum().backward()
    return leaf.grad


@methods
def test_equals_the_network_with_exchanged_relus(family, method, monkeypatch):
    name, network, x, _ = family
    want = reference(network, x, [3, 5], method, monkeypatch)
    got = saliency_any(network, x, [3, 5], method, strict=name not in MIXED)
    assert want.abs().max() > 0
    assert_close(got, want, rtol=1e-9, atol=1e-9 * float(want.abs().max()))


def test_grad_cam_equals_autograd_at_the_layer(family):
    _, network, x, layer = family
    kept = {}
    handle = layer.register_forward_hook(
        lambda module, inputs, output: kept.update(maps=output) or output * 1
    )
    scores = network(x)
    handle.remove()
    (gradient,) = torch.autograd.grad(scores[0, 3] + scores[1, 5], kept["maps"])
    weights = gradient.mean(dim=(2, 3))
    want = (weights[:, :, None, None] * kept["maps"]).sum(dim=1).clamp(min=0).detach()
    got = grad_cam_any(network, x, layer, [3, 5])
    assert_close(got.weights, weights, rtol=1e-9, atol=1e-12)
    # in a random network a whole map may be zero
    torch.testing.assert_close(got.maps, want, rtol=1e-9, atol=1e-12)
    assert_close(got.scores, scores.detach())


@methods
@pytest.mark.parametrize("classes", [None, [3, 5, 7]])
def test_equals_the_explicit_networks(exact, method, classes):
    network, x = exact
    got = saliency_any(network, x, classes, method)
    assert_each_differs(got)
    assert_close(got, saliency(network, x, classes, method), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("classes", [None, [3, 5, 7]])
def test_guided_grad_cam_equals_the_one_pass(exact, classes):
    network, x = exact
    want = guided_gradcam(network, x, classes)
    got = guided_gradcam_any(network, x, network.features, classes)
    for one, other in zip(got, want, strict=True):
        assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_guided_grad_cam_can_be_had_with_other_activations_too():
    """Grad-CAM needs no rule; the guided factor refuses them unless told not to be strict."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Hardswish(), nn.Flatten(), nn.Linear(3600, 3)
    )
    network, x = randomise(network), noise(2, 32)
    with pytest.raises(ModelError, match="but also Hardswish"):
        guided_gradcam_any(network, x, network[0], 0)
    got = guided_gradcam_any(network, x, network[0], [0, 2], strict=False)
    assert_close(got.guided, saliency_any(network, x, [0, 2], "guided", strict=False))
    assert_close(got.maps, got.cam[:, None] * got.guided)


@pytest.mark.parametrize("layer", [-1, -2, 5])
def test_grad_cam_equals_the_vgg_helper_at_any_layer(network, layer):
    x = noise(2, 48)
    want, got = (
        grad_cam(network, x, [4, 5], layer),
        grad_cam_any(network, x, network.features[layer], [4, 5]),
    )
    assert_close(got.maps, want.maps)
    assert_close(got.weights, want.weights)


class Skip(nn.Module):
    """One odd use of a ReLU, ``use(network, f)``, and nothing else; scores are channel means."""

    def __init__(self, use, relu=None):
        super().__init__()
        self.relu, self.use = relu or nn.ReLU(), use

    def forward(self, x):
        return self.use(self, x * 1).mean(dim=(2, 3))


def channel_means(method, use, relu=None):
    """Class 0's map at a photo of 2s in channel 0 and -2s in channel 1, times the pixels."""
    x = torch.full((1, 3, 32, 32), 2.0)
    x[:, 1] = -2
    return [
        saliency_any(Skip(use, relu), x, c, method)[0, c, 0, 0].item() * 32 * 32 for c in (0, 1)
    ]


@pytest.mark.parametrize(
    ("method", "at_plus_two", "at_minus_two"),
    [("gradient", -3 + 1, 1), ("deconvnet", 0 + 1, 0 + 1), ("guided", 0 + 1, 1)],
)
def test_a_skip_branch_keeps_its_own_signal(method, at_plus_two, at_minus_two):
    """``-3 relu(f) + f``: the rule is for what came through the ReLU, -3; then the 1 is added."""
    assert channel_means(method, lambda net, f: -3 * net.relu(f) + f) == [at_plus_two, at_minus_two]


BRANCHES = {
    "relu(f) + f": lambda net, f: net.relu(f) + f,
    "f + relu(f)": lambda net, f: f + net.relu(f),
}


@pytest.mark.parametrize("use", BRANCHES.values(), ids=BRANCHES.keys())
@pytest.mark.parametrize(
    ("method", "up", "down"),
    [
        ("gradient", [2, 1], [-2, -1]),
        ("deconvnet", [2, 2], [-1, -1]),
        ("guided", [2, 1], [-1, -1]),
    ],
)
def test_a_rule_leaves_the_signal_of_the_other_branch_alone(method, up, down, use):
    """Here both get the very same tensor from above, and the rules work in place."""
    assert channel_means(method, use) == up
    assert channel_means(method, lambda net, f: -use(net, f)) == down


def test_captum_clamps_the_sum_at_a_skip_branch():
    """Why captum is no oracle where a ReLU's input has a second reader.

    Its hook sees 1 - 3 = -2 and cuts it to 0.
    """
    x = torch.full((1, 3, 32, 32), 2.0)
    network = nn.Sequential(nn.Identity(), Skip(lambda net, f: -3 * net.relu(f) + f))
    with pytest.warns(UserWarning, match="hooks"):
        theirs = (
            GuidedBackprop(network).attribute(x.requires_grad_(), target=0)[0, 0, 0, 0].item()
            * 32
            * 32
        )
    assert theirs != channel_means("guided", lambda net, f: -3 * net.relu(f) + f)[0]


def in_place_then_read_again(net, f):
    """The trap of pre-activated residual blocks: the skip branch reads what the ReLU changed."""
    g = net.relu(f)
    return -3 * g + f


@methods
def test_an_in_place_relu_is_seen_by_all_readers_of_its_input(method):
    """As in the network itself: then ``-3 relu(f) + relu(f)``, one signal of -2 at the ReLU."""
    want = {"gradient": [-2, 0], "deconvnet": [0, 0], "guided": [0, 0]}[method]
    assert channel_means(method, in_place_then_read_again, nn.ReLU(inplace=True)) == want


def by_parts(f):
    f[:, 0] = f[:, 0].relu()
    f[:, 1].relu_()
    return f


SPELLINGS = {
    "nn.ReLU": lambda f: nn.ReLU()(f),
    "nn.ReLU in place": lambda f: nn.ReLU(True)(f),
    "F.relu": F.relu,
    "F.relu in place": lambda f: F.relu(f, inplace=True),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "x.relu()": lambda f: f.relu(),
    "x.relu_() as a statement": lambda f: (f.relu_(), f)[1],
    "F.threshold": lambda f: F.threshold(f, 0, 0),
    "nn.Threshold": lambda f: nn.Threshold(0, 0)(f),
    "clamp": lambda f: f.clamp(min=0),
    "clamp_": lambda f: f.clamp_(0),
    "clip": lambda f: torch.clip(f, 0.0),
    "clamp_min": lambda f: torch.clamp_min(f, 0),
    "nn.Hardtanh": lambda f: nn.Hardtanh(0, 50)(f),
    "F.hardtanh_": lambda f: F.hardtanh_(f, 0.0, 6.0),
    "F.relu6": lambda f: F.relu6(f),
    "nn.ReLU6 in place": lambda f: nn.ReLU6(True)(f),
    "F.relu by keyword": lambda f: F.relu(input=f, inplace=True),
    "clamp_min_": lambda f: f.clamp_min_(0),
    "torch.threshold": lambda f: torch.threshold(f, 0, 0),
    "threshold_": lambda f: F.threshold_(f, 0, 0),
    "clamp to a tensor": lambda f: f.clamp(min=torch.zeros(3, 1, 1)),
    "clamp between tensors": lambda f: f.clamp(torch.zeros(()), torch.full((32,), 9.0)),
    "maximum": lambda f: torch.maximum(f, torch.zeros(())),
    "max, the zeros first": lambda f: torch.max(torch.zeros_like(f), f),
    "x.fmax": lambda f: f.fmax(torch.zeros(1)),
    "leaky with slope 0": lambda f: F.leaky_relu(f, 0.0),
    "ATen's": lambda f: torch.ops.aten.relu.default(f),
    "of a part, in place": lambda f: (f[:, :2].relu_(), f)[1],
    "of a part, assigned": by_parts,
    "clamp_ of a part to a tensor": lambda f: (f[:, :2].clamp_(torch.zeros(())), f)[1],
}


@pytest.mark.parametrize("relu", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_every_spelling_of_a_relu_is_seen(relu):
    assert channel_means("gradient", lambda net, f: -relu(f)) == [-1, 0]
    assert channel_means("deconvnet", lambda net, f: relu(f)) == [1, 1]
    assert channel_means("guided", lambda net, f: relu(f)) == [1, 0]
    assert channel_means("guided", lambda net, f: -relu(f)) == [0, 0]


WITH_A_CEILING = {
    "F.relu6": F.relu6, "nn.ReLU6 in place": nn.ReLU6(True), "nn.Hardtanh": nn.Hardtanh(0, 6),
    "F.hardtanh_": lambda f: F.hardtanh_(f, 0, 6), "clamp": lambda f: f.clamp(0, 6),
    "clamp_": lambda f: f.clamp_(0, 6),
}  # fmt: skip


@pytest.mark.parametrize("relu", WITH_A_CEILING.values(), ids=WITH_A_CEILING.keys())
def test_relu6_passes_nothing_at_its_ceiling(relu):
    assert channel_means("guided", lambda net, f: relu(4 * f)) == [0, 0]  # 8 is above 6
    assert channel_means("guided", lambda net, f: relu(3 * f)) == [0, 0]  # 6 is the ceiling itself
    assert channel_means("guided", lambda net, f: relu(2 * f)) == [2, 0]
    assert channel_means("gradient", lambda net, f: relu(0 * f)) == [0, 0]


def test_hardtanhs_ceiling_is_1_unless_told():
    for tanh in (lambda f: F.hardtanh_(f, 0), lambda f: F.hardtanh(f, 0), nn.Hardtanh(0)):
        assert channel_means("guided", lambda net, f, tanh=tanh: tanh(0.75 * f)) == [0, 0]
        assert channel_means("guided", lambda net, f, tanh=tanh: tanh(0.25 * f)) == [0.25, 0]


def test_a_relu_passes_nothing_at_zero():
    assert channel_means("gradient", lambda net, f: net.relu(f - 2) + f) == [1, 1]


NO_RELUS = {
    "clamp at 0.000001": lambda f: f.clamp(min=1e-6).clamp(max=9),
    "clamp below": lambda f: f.clamp(max=0),
    "threshold to 5": lambda f: F.threshold(f, 0, 5),
    "threshold at 1": lambda f: F.threshold(f, 1, 0),
    "threshold at 1 to 1": lambda f: F.threshold(f, 1, 1),
    "hardtanh": F.hardtanh,
    "hardtanh_": lambda f: F.hardtanh_(1 * f),
    "hardtanh to 0": lambda f: F.hardtanh(f, -1, 0),
    "nn.Hardtanh in place": nn.Hardtanh(inplace=True),
    "clamp at -1": lambda f: f.clamp(min=-1),
    "maximum with -1": lambda f: torch.maximum(f, -torch.ones(())),
    "clamp to 0, -3 and 0": lambda f: f.clamp(min=torch.tensor([0.0, -3, 0])[:, None, None]),
    "leaky": lambda f: F.leaky_relu(f, 0.1),
    "whole numbers": lambda f: f + f.long().relu(),
    "maximum with what is learned": lambda f: torch.maximum(f, nn.Parameter(torch.zeros(()))),
}


@pytest.mark.parametrize("use", NO_RELUS.values(), ids=NO_RELUS.keys())
def test_clamps_and_thresholds_that_are_no_relu_are_left_alone(use):
    with pytest.raises(ModelError, match="no ReLU between photo and scores, but"):
        channel_means("guided", lambda net, f: use(f))
    beside = Skip(lambda net, f: use(f * 1) + 0 * net.relu(f))
    x = torch.linspace(-8, 8, 32 * 32).view(1, 1, 32, 32).repeat(1, 3, 1, 1)
    with pytest.raises(ModelError, match="1 ReLU between photo and scores, but also"):
        saliency_any(beside, x, 1)
    # and beside a ReLU they keep their derivative
    leaf = x.clone().requires_grad_()
    use(leaf * 1)[:, 1].sum().backward()
    assert_close(saliency_any(beside, x, 1, "guided", strict=False) * 32 * 32, leaf.grad)


@pytest.mark.parametrize(
    "given, value",
    [((), 0), (("constant",), 0), (("reflect",), 0), (("constant", 3.0), 3), ((-3.0,), -3)],
)
def test_what_is_padded_with_is_read_in_every_spelling(given, value):
    """``F.pad(f, pad, mode, value)`` and ``constant_pad_nd(f, pad, value)``."""
    f = torch.ones(1, 1, 2, 2)
    assert _padding(f, (1, 1), *given) == value
    if given[-1:] != (value,):
        assert _padding(f, (1, 1), *given, value=5) == 5


@pytest.mark.parametrize(
    "like",
    [lambda f: torch.ones(()).to(f), lambda f: torch.ones(1, 1, 1).expand_as(f[0])],
    ids=["to", "expand_as"],
)
def test_what_is_made_like_a_signal_reads_none_of_its_values(like):
    assert channel_means("guided", lambda net, f: net.relu(f) * like(f)) == [1, 0]


IN_PLACE = {
    "nn.ReLU": (nn.ReLU(True), 9),
    "torch.relu_": (torch.relu_, 9),
    "x.relu_()": (torch.Tensor.relu_, 9),
    "x.clamp_()": (lambda f: f.clamp_(0), 9),
    "nn.ReLU6": (nn.ReLU6(True), 6),
    "F.hardtanh_": (lambda f: F.hardtanh_(f, 0, 6), 6),
    "nn.Threshold": (nn.Threshold(0, 0, True), 9),
}


@pytest.mark.parametrize(("relu", "nine"), IN_PLACE.values(), ids=IN_PLACE.keys())
def test_a_relu_in_place_changes_its_input_and_others_do_not(relu, nine):
    f = torch.tensor([9.0, -9.0], requires_grad=True)
    with ReluRule("guided"):
        given = f * 1
        assert relu(given) is given and given.tolist() == [nine, 0]
        assert given.grad_fn.name() == "RuledReLUBackward"
        others = (
            F.relu, torch.relu, F.relu6, lambda f: f.clamp(0), lambda f: F.threshold(f, 0, 0),
            lambda f: torch.threshold(f, 0, 0), lambda f: F.hardtanh(f, 0, 6),
            lambda f: F.leaky_relu(f, 0.0),
        )  # fmt: skip
        made = [
            other(f) for other in others
        ]  # kept, as older versions name no node without its tensor
        assert all(y.grad_fn.name() == "RuledReLUBackward" for y in made)
    assert f.tolist() == [9, -9]


def test_checkpointed_parts_are_refused():
    """They would be computed again on the way down, where the rule is over."""
    network = torchvision.models.densenet121(weights=None, memory_efficient=True)
    with pytest.raises(ModelError, match="memory_efficient"):
        saliency_any(network, noise(1, 64), 0, "guided")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.LazyLinear(3)),
            "no ReLU between photo and scores, but SiLU \\(once\\).*Grad-CAM",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.LazyLinear(3)),
            "no ReLU between photo and scores, but GELU",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(), nn.Flatten(), nn.LazyLinear(3)),
            "no ReLU between photo and scores, but LeakyReLU",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(3)),
            "no ReLU between photo and scores: 'guided' would be the plain gradient",
        ),
        (
            nn.Sequential(nn.ReLU(), nn.PReLU(), nn.PReLU(), nn.Flatten(), nn.LazyLinear(3)),
            "1 ReLU between photo and scores, but also PReLU \\(2 times\\).*strict=False",
        ),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), "answers with a tensor \\(1, 4, 30, 30\\)"),
    ],
)
def test_networks_without_a_rule_are_refused(network, message):
    x = noise(1, 32)
    network(x)  # the lazy layers
    with pytest.raises(ModelError, match=message):
        saliency_any(network, x, 0)


def test_the_plain_gradient_needs_no_relu():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(4 * 30 * 30, 3))
    x = noise(1, 32)
    leaf = x.clone().requires_grad_()
    network(leaf)[0, 1].backward()
    assert_close(saliency_any(network, x, 1, "gradient"), leaf.grad)


class Answers(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x.relu())


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: {"out": x},
        lambda x: (x.mean((2, 3)), x),
        lambda x: x.mean((0, 2, 3))[None].repeat(5, 1),
        lambda x: x.mean((2, 3))[:, :, None],
    ],
)
def test_answers_that_are_no_class_scores_are_refused(answer):
    with pytest.raises(ModelError, match="not with class scores"):
        saliency_any(Answers(answer), noise(2, 32), 0)
    with pytest.raises(ModelError, match="not with class scores"):
        network = nn.Sequential(nn.Conv2d(3, 3, 1), Answers(answer))
        grad_cam_any(network, noise(2, 32), network[0], 0)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::FutureWarning"
)
def test_torchscript_is_refused(network):
    scripted = torch.jit.trace(network, noise(1, 32))
    for explain in (saliency_any, lambda n, x, c: grad_cam_any(n, x, n.features, c)):
        with pytest.raises(ModelError, match="is TorchScript"):
            explain(scripted, noise(1, 32), 0)


def test_compiled_networks_are_explained_as_they_were_compiled_parts_refused(network):
    x = noise(1, 32)
    assert_close(saliency_any(torch.compile(network), x, 0), saliency(network, x, 0))
    network.classifier = torch.compile(network.classifier)
    with pytest.raises(ModelError, match="classifier is compiled"):
        saliency_any(network, x, 0)


def test_networks_compiled_where_they_are_are_refused(network):
    """``module.compile()`` wraps nothing: only its calls go another way."""
    network.features[3].compile()
    with pytest.raises(ModelError, match=r"features\.3 is compiled.*as it was before"):
        saliency_any(network, noise(1, 32), 0)
    whole = narrow()
    whole.compile()
    with pytest.raises(ModelError, match="VGG16 is compiled"):
        grad_cam_any(whole, noise(1, 32), whole.features, 0)


def test_layers_that_give_no_maps_are_refused(network):
    x = noise(1, 32)
    with pytest.raises(ModelError, match="not a module of this VGG16"):
        grad_cam_any(network, x, narrow().features)
    with pytest.raises(ModelError, match=r"one output a pass.*\(1, 7\)"):
        grad_cam_any(network, x, network.classifier[-1])
    twice = nn.Sequential(
        relu := nn.ReLU(), nn.Conv2d(3, 3, 1), relu, nn.Flatten(), nn.Linear(3072, 2)
    )
    with pytest.raises(ModelError, match="one output"):
        grad_cam_any(twice, x, relu)


def test_unknown_methods_are_refused(network):
    with pytest.raises(ModelError, match="There is no method 'smooth'"):
        saliency_any(network, noise(1, 32), 0, "smooth")


def test_what_is_asked_for_by_default_is_the_guided_map_of_the_top_class(network):
    x = noise(2, 48)
    want = saliency(network, x, network(x).argmax(1), "guided")
    assert_close(saliency_any(network, x), want)
    assert_close(saliency(network, x), want, rtol=0, atol=0)


class Undecided(nn.Module):
    """Finds another class likeliest at each call, for no reason."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear, self.calls = nn.Conv2d(3, 4, 3), nn.Linear(4, 7), 0

    def forward(self, x):
        self.calls += 1
        favoured = F.one_hot(torch.tensor(self.calls % 7), 7)
        return self.linear(self.conv(x).relu().mean((2, 3))) + 10 * favoured


def test_both_factors_are_of_one_class_even_if_two_passes_differ():
    network, x = randomise(Undecided()), noise(2, 16)
    assert not torch.equal(network(x).argmax(1), network(x).argmax(1))
    got = guided_gradcam_any(network, x, network.conv)
    want = guided_gradcam_any(network, x, network.conv, got.classes)
    other = guided_gradcam_any(network, x, network.conv, (got.classes + 1) % 7)
    assert_close(got.guided, want.guided, rtol=0, atol=0)
    assert_close(got.maps, want.maps, rtol=0, atol=0)
    assert not torch.allclose(got.guided, other.guided)


def test_the_rule_ends_with_its_block(network):
    """Also when the network raises inside it."""
    f = torch.tensor([1.0], requires_grad=True)
    with pytest.raises(RuntimeError), ReluRule("guided"):
        (-F.relu(f)).backward()
        assert f.grad == 0
        network(noise(1, 32)[:, :2])
    (-F.relu(f)).backward()
    assert f.grad == -1


def test_a_batch_is_explained_as_one_by_one(family):
    name, network, x, _ = family
    strict = name not in MIXED
    assert_each_differs(saliency_any(network, x, [3, 5], "guided", strict))
    alone = torch.cat(
        [
            saliency_any(network, photo[None], c, "guided", strict)
            for photo, c in zip(x, (3, 5), strict=True)
        ]
    )
    assert_close(saliency_any(network, x, [3, 5], "guided", strict), alone, rtol=1e-7, atol=1e-12)
