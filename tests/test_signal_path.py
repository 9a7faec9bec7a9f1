"""What stands between scores and photo: found in autograd's graph however it was spelled."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.zoo import reference
from helpers import ModelError, saliency_any
from helpers.autograd import signal_path

from .comparing import assert_close
from .networks import noise

CLASSES = [3, 5]  # those that the reference asks about


class Bottleneck(nn.Module):
    """A convolution, one odd step ``step(network, f)``, the mean, and scores."""

    def __init__(self, step):
        super().__init__()
        self.step = step
        generator = torch.Generator().manual_seed(0)
        self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.squeeze, self.norm, self.head = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Linear(8, 7)
        with torch.no_grad():
            for p in self.parameters():
                p.normal_(0, 0.3, generator=generator)
            self.norm.running_var.uniform_(0.5, 2, generator=generator)
        self.double().eval()

    def forward(self, x):
        return self.head(self.step(self, self.stem(x)).mean((2, 3)))


X = noise(2, 32, dtype=torch.float64)


def guided(step, strict=True, method="guided"):
    return saliency_any(Bottleneck(step), X, CLASSES, method, strict)


def assert_same_map(got, want):
    assert want.abs().max() > 1e-6 and (want[0] != want[1]).any()
    assert_close(got, want, rtol=1e-9, atol=1e-12)


# --- gates, normalisations, attention: no activation, and let through -------------------------


def squeeze_and_excitation(gate):
    def step(net, f):
        f = F.relu(f)
        return f * gate(net.squeeze(F.relu(net.squeeze(f.mean((2, 3), keepdim=True)))))

    return step


def attention(net, f):
    tokens = F.relu(f).flatten(2)
    weights = torch.softmax(tokens.transpose(1, 2) @ tokens, dim=-1)
    return (tokens @ weights).view_as(f)


def self_calibrated(net, f):
    """As SCNet has it: the gate is a sum of the signal and of its coarse version."""
    f = F.relu(f)
    coarse = F.interpolate(net.squeeze(F.avg_pool2d(f, 4)), f.shape[-2:])
    return f + net.conv(f) * torch.sigmoid(f + coarse)


def assigned(net, f):
    """Parts written into a tensor of zeros, in several ways, as a shift of channels does."""
    f, out = F.relu(f), torch.zeros_like(f)
    out[:, :4] = f[:, 4:]
    out[:, 4:6].add_(f[:, :2])
    out[:, 6:].copy_(f[:, 2:4]).mul_(2.0)
    return out


LET_THROUGH = {
    "squeeze and excitation": squeeze_and_excitation(torch.sigmoid),
    "hard sigmoid": squeeze_and_excitation(F.hardsigmoid),
    "tanh as a gate": squeeze_and_excitation(lambda g: 1 + torch.tanh(g)),
    "gated linear unit": lambda net, f: F.glu(F.relu(net.conv(F.relu(f))), dim=1).repeat(
        1, 2, 1, 1
    ),
    "the same by hand": lambda net, f: torch.cat(
        [(h := F.relu(f).chunk(2, 1))[0] * h[1].sigmoid()] * 2, 1
    ),
    "spatial attention": lambda net, f: (
        (h := F.relu(f)) * torch.sigmoid(net.conv(h).amax(1, keepdim=True))
    ),
    "attention": attention,
    "self-calibrated": self_calibrated,
    "layer normalisation": lambda net, f: F.relu(net.conv(F.layer_norm(F.relu(f), (32, 32)))),
    "group normalisation": lambda net, f: F.relu(net.conv(F.group_norm(F.relu(f), 2))),
    "instance normalisation": lambda net, f: F.relu(net.conv(F.instance_norm(F.relu(f)))),
    "local response normalisation": lambda net, f: F.local_response_norm(F.relu(f), 3, alpha=1.0),
    "unit length": lambda net, f: F.normalize(F.relu(f)),
    "root mean square, by hand": lambda net, f: (
        (h := F.relu(f)) * torch.rsqrt(h.pow(2).mean(1, keepdim=True) + 1e-6)
    ),
    "max-pooling": lambda net, f: F.max_pool2d(F.relu(f), 3, 2),
    "max-pooling, padded": lambda net, f: F.max_pool2d(F.relu(f) - f, 3, 2, 1),
    "zeros around what is positive": lambda net, f: F.max_pool2d(
        nn.ZeroPad2d(1)(F.relu(f).clone()[:, :6]).view(2, 6, 34, 34), 3
    ).repeat(1, 2, 1, 1)[:, :8],
    "infinity around anything": lambda net, f: net.conv(
        F.max_pool2d(F.pad(F.relu(f) - f, (0, 1, 0, 1), value=-torch.inf), 3, 2)
    ),
    "the same, without its name": lambda net, f: net.conv(
        F.max_pool2d(F.pad(F.relu(f) - f, (0, 1, 0, 1), "constant", -65504), 3, 2)
    ),
    "a mirror around anything": lambda net, f: net.conv(
        F.max_pool2d(F.pad(F.relu(f) - f, (1, 1, 1, 1), "reflect"), 3, 2)
    ),
    "max-pooling of copies": lambda net, f: F.max_pool2d(
        torch.cat([h := net.conv(F.relu(f)), -h], 1), 2
    )[:, 4:12],
    "the four largest": lambda net, f: net.conv(F.relu(f)).flatten(2).topk(4).values[..., None],
    "a gate of the neighbour": lambda net, f: (
        F.relu(f) * net.conv(f).roll(1, 1).sigmoid() + (h := F.relu(f)) * h.roll(1, 1).sigmoid()
    ),
    "a gate of each channel": lambda net, f: (
        (h := F.relu(f)) * F.conv2d(h, net.conv.weight[:, :1], padding=1, groups=8).sigmoid()
    ),
    "global max-pooling": lambda net, f: F.relu(f).amax((2, 3), keepdim=True),
    "average pooling, padded": lambda net, f: F.avg_pool2d(F.pad(F.relu(f), (1, 2, 1, 2)), 2),
    "interpolation": lambda net, f: F.interpolate(F.relu(f), scale_factor=2, mode="bilinear"),
    "batch normalisation": lambda net, f: F.relu(net.norm(f)),
    "shuffled, cut and rolled": lambda net, f: (
        F.channel_shuffle(F.relu(f), 2)[:, 1:7].roll(3, 2).repeat(1, 2, 1, 1)[:, :8]
    ),
    "parts written in place": assigned,
    "a constant mask": lambda net, f: F.relu(f) * (torch.arange(32) > 9),
    "a constant factor, in two ways": lambda net, f: torch.addcdiv(
        torch.addcmul(h := F.relu(f), h, torch.arange(32.0).double()),
        h,
        torch.full((32,), 3.0).double(),
    ),
    "a constant minimum elsewhere": lambda net, f: F.relu(f) * net.head.weight.clamp(min=0).sum(),
}


@pytest.mark.parametrize("method", ["deconvnet", "guided"])
@pytest.mark.parametrize("step", LET_THROUGH.values(), ids=LET_THROUGH.keys())
def test_what_is_no_activation_is_let_through_with_its_derivative(step, method):
    want, relus = reference(Bottleneck(step), X, method)
    plain, _ = reference(Bottleneck(step), X, "gradient")
    assert relus >= 1 and not torch.allclose(want, plain)
    assert_same_map(guided(step, method=method), want)


def test_a_factor_that_is_nowhere_open_shows_no_curve():
    def shut(net, f):
        return (h := F.relu(f)) + h * F.avg_pool2d(F.relu(h - 100), 1)

    assert_same_map(guided(shut), guided(lambda net, f: F.relu(f)))


@pytest.mark.parametrize("last", [nn.Softmax(dim=1), nn.Sigmoid(), nn.LogSoftmax(dim=1)])
def test_probabilities_are_scores_too(last):
    network = nn.Sequential(Bottleneck(lambda net, f: F.relu(f)), last)
    assert_same_map(saliency_any(network, X, CLASSES), reference(network, X, "guided")[0])


# --- other activations by any name: strict refuses, and else they keep their derivative --------


def leaky(f):
    return F.leaky_relu(f, 0.1)


def same(f):
    """A layer that changes nothing."""
    return F.conv2d(f, torch.eye(8, dtype=f.dtype)[..., None, None])


#: A formula, how it is refused, and PyTorch's function of the same values.
FORMULAS = {
    "SiLU": (lambda f: f * torch.sigmoid(f), "a signal times a function of itself", F.silu),
    "SiLU, the shape changed": (
        lambda f: f * f.view(2, 8, -1).sigmoid().view_as(f),
        "a signal times",
        F.silu,
    ),
    "SiLU of a part that is the whole": (lambda f: f * f[:].sigmoid(), "a signal times", F.silu),
    "SiLU by halves": (
        lambda f: f * torch.cat([half.sigmoid() for half in f.chunk(2, 1)], 1),
        "a signal times",
        F.silu,
    ),
    "SiLU, turned and turned back": (
        lambda f: f * f.flip(1).flip(1).sigmoid(),
        "a signal times",
        F.silu,
    ),
    "SiLU through a pooling of one": (
        lambda f: f * F.avg_pool2d(f, 1).sigmoid(),
        "a signal times",
        F.silu,
    ),
    "SiLU through an identity": (
        lambda f: same(f) * torch.sigmoid(same(f) + 0),
        "a signal times a function of itself \\(once\\), for which",
        F.silu,
    ),
    "softsign through an identity": (
        lambda f: f / (1 + same(f).abs()),
        "a signal times a function of itself \\(once\\), for which",
        F.softsign,
    ),
    "Hardswish": (lambda f: f * F.relu6(f + 3) / 6, "a signal times", F.hardswish),
    "Hardswish in place": (
        lambda f: f * f.clone().add_(3).clamp_(0, 6).div_(6),
        "a signal times",
        F.hardswish,
    ),
    "sigmoid by division": (
        lambda f: torch.ones_like(f) / (1 + torch.exp(-f)),
        "division \\(once\\)",
        torch.sigmoid,
    ),
    "sigmoid by addcdiv": (
        lambda f: torch.addcdiv(torch.zeros_like(f), torch.ones_like(f), 1 + torch.exp(-f)),
        "Addcdiv \\(once\\)",
        torch.sigmoid,
    ),
    "Hardswish by clamp": (lambda f: f * (f / 6 + 0.5).clamp(0, 1), "a signal times", F.hardswish),
    "Mish": (lambda f: f * torch.tanh(F.softplus(f)), "a signal times", F.mish),
    "softsign": (lambda f: f / (1 + f.abs()), "a signal times", F.softsign),
    "SiLU by addcmul": (
        lambda f: torch.addcmul(torch.zeros_like(f), f, f.sigmoid()),
        "a signal times",
        F.silu,
    ),
    "softsign by addcdiv": (
        lambda f: torch.addcdiv(torch.zeros_like(f), f, 1 + f.abs()),
        "a signal times",
        F.softsign,
    ),
    "GELU": (lambda f: f * 0.5 * (1 + torch.erf(f / 2**0.5)), "a signal times", F.gelu),
    "leaky by maximum": (lambda f: torch.maximum(f, 0.1 * f), "maximum \\(once\\)", leaky),
    "leaky by a stack": (lambda f: torch.stack([f, 0.1 * f]).amax(0), "maximum \\(once\\)", leaky),
    "leaky by a cat with a constant": (
        lambda f: 0.1 * f + 0.9 * torch.cat([f[None], torch.zeros_like(f)[None]]).amax(0),
        "maximum \\(once\\)",
        leaky,
    ),
    "leaky by a constant product": (
        lambda f: (f[..., None] * f.new_tensor([1, 0.1])).amax(-1),
        "maximum \\(once\\)",
        leaky,
    ),
    "leaky by copies": (
        lambda f: torch.cat([f[None], 0.1 * f[None]]).max(0).values,
        "maximum \\(once\\)",
        leaky,
    ),
    "leaky by sorting": (
        lambda f: torch.stack([f, 0.1 * f]).sort(0).values[1],
        "sort \\(once\\)",
        leaky,
    ),
    "leaky by pooling": (
        lambda f: F.max_pool2d(torch.stack([f, 0.1 * f], -1).flatten(3), (1, 2)),
        "max-pooling with zeros or copies of the signal \\(once\\)",
        leaky,
    ),
    "ReLU by padding": (lambda f: F.pad(f[..., None], (0, 1)).amax(-1), "maximum \\(once", None),
    "ReLU by padding and topk": (
        lambda f: F.pad(f[..., None], (0, 1)).topk(1).values[..., 0],
        "topk \\(once",
        None,
    ),
    "ReLU by padding and kthvalue": (
        lambda f: F.pad(f[..., None], (0, 1)).kthvalue(2).values,
        "kthvalue \\(once",
        None,
    ),
    "a half of it": (
        lambda f: F.pad(f[:, :4, None], (0, 0, 0, 0, 0, 1)).amax(2).repeat(1, 2, 1, 1),
        "maximum \\(once",
        None,
    ),
    "pooling with zeros around": (
        lambda f: F.max_pool2d(F.pad(f, (1, 1, 1, 1)), 3, 1),
        "max-pooling with zeros",
        None,
    ),
    "pooling with ones around what is positive": (
        lambda f: F.max_pool2d(F.pad(f.relu(), (1, 1, 1, 1), value=1.0), 3, 1),
        "max-pooling with",
        None,
    ),
    "leaky by where": (
        lambda f: torch.where(f > 0, f, 0.1 * f),
        "where \\(once\\), gt, whose result autograd cannot follow",
        leaky,
    ),
    "leaky by a mask": (
        lambda f: 0.1 * f + 0.9 * f * (f > 0),
        "gt, whose result autograd cannot follow \\(once\\)",
        leaky,
    ),
    "leaky by a mask from a copy": (
        lambda f: 0.1 * f + 0.9 * f * (f.detach() > 0),
        "detach, whose result",
        leaky,
    ),
    "leaky by a mask from data": (
        lambda f: 0.1 * f + 0.9 * f * (f.data > 0),
        "data, whose result",
        leaky,
    ),
    "abs of the neighbour": (lambda f: f * f.roll(1, 1).abs(), "abs \\(once\\)", None),
    "leaky by abs": (lambda f: 0.55 * f + 0.45 * f.abs(), "abs \\(once\\)", leaky),
    "leaky by two clamps": (lambda f: F.relu(f) + 0.1 * f.clamp(max=0), "clamp \\(once\\)", None),
    "a minimum": (
        lambda f: torch.minimum(f, torch.ones(())),
        "minimum \\(once\\)",
        lambda f: f.clamp(max=1),
    ),
    "sigmoid": (lambda f: 1 / (1 + torch.exp(-f)), "reciprocal", torch.sigmoid),
    "sigmoid itself": (
        torch.sigmoid,
        "Sigmoid \\(once\\)",
        lambda f: 0.5 + 0.5 * torch.tanh(f / 2),
    ),
    "a power": (lambda f: f**2, "pow \\(once\\)", torch.square),
    "a square": (lambda f: f * f, "a signal times", torch.square),
    "a function unknown here": (lambda f: torch.special.i0(f), "I0 \\(once\\)", torch.i0),
    "a scale read off": (
        lambda f: f / f.max().item(),
        "item, whose result",
        lambda f: f / f.detach().max(),
    ),
    "SELU": (F.selu, "ELU or SELU", None),
}


@pytest.mark.parametrize("formula, message, named", FORMULAS.values(), ids=FORMULAS.keys())
def test_other_activations_are_refused_however_they_are_spelled(formula, message, named):
    def step(f_of):
        return lambda net, f: F.relu(net.conv(f_of(net.conv(f))))

    with pytest.raises(
        ModelError, match=f"between photo and scores, but also .*{message}.*strict=False"
    ):
        guided(step(formula))
    want = reference(Bottleneck(step(named or formula)), X, "guided")[0]
    if (
        formula is not FORMULAS["leaky by two clamps"][0]
    ):  # where a ReLU of its own goes by the rule
        assert_same_map(guided(step(formula), strict=False), want)
    plain = reference(Bottleneck(step(formula)), X, "gradient")[0]
    assert_same_map(guided(step(formula), method="gradient"), plain)


def test_a_hard_sigmoid_by_hand_is_the_gate_that_it_is():
    """Its ``relu6`` has a ReLU's name, but the signal's sign there says nothing about evidence."""
    want = guided(squeeze_and_excitation(F.hardsigmoid))
    by_relu6 = squeeze_and_excitation(lambda g: F.relu6(g + 3) / 6)
    by_clamp = squeeze_and_excitation(lambda g: (g * (1 / 6) + 0.5).clamp(0, 1))
    assert_same_map(guided(by_relu6), want)
    assert_same_map(guided(by_clamp), want)
    ruled = reference(Bottleneck(by_relu6), X, "guided")[0]
    assert not ruled.allclose(want)


def test_a_clamped_factor_that_may_be_either_is_refused():
    """StarNet multiplies so: is ``relu6`` its activation, or a gate?"""

    def star(net, f):
        return F.relu6(net.squeeze(f)) * net.conv(f)

    def with_a_sum(net, f):
        return F.relu6(net.squeeze(f) + net.squeeze(-f)) * net.conv(f)

    for step in (star, with_a_sum):
        with pytest.raises(ModelError, match=r"clamped factor that may be a gate but .* \(once\)"):
            guided(step)
    assert_same_map(guided(star, strict=False), reference(Bottleneck(star), X, "guided")[0])

    def beside_a_gate(net, f):
        return F.relu6(net.conv(f)) * torch.sigmoid(net.squeeze(f))

    assert_same_map(guided(beside_a_gate), reference(Bottleneck(beside_a_gate), X, "guided")[0])


# --- a ReLU on the way without the rule: an error, strict or not -------------------------------


class OwnReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, f):
        y = F.relu(f)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, signal):
        return signal * (ctx.saved_tensors[0] > 0)


@torch.jit.script
def scripted_relu(f):
    return torch.relu(f)


def sigmoid_of_a_part(net, f):
    f = F.relu(f) * 1
    f[:, :2].sigmoid_()
    return f


def compiled_relu(net, f):
    return torch.compile(F.relu, backend="aot_eager")(net.conv(F.relu(f)))


HIDDEN = {
    "a Function of one's own": (lambda net, f: OwnReLU.apply(F.relu(f)), "OwnReLU \\(once\\)"),
    "scripted": (lambda net, f: scripted_relu(F.relu(f)), "(ReLU|TorchScript) \\(once\\)"),
    "compiled": pytest.param(
        compiled_relu,
        "compiled code",
        marks=pytest.mark.skipif(
            torch.__version__.startswith(("2.8.", "2.9.")), reason="runs uncompiled: see below"
        ),
    ),
    "a part in place": (sigmoid_of_a_part, "a change in place of a part of a tensor \\(once\\)"),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("step, message", HIDDEN.values(), ids=HIDDEN.keys())
def test_relus_that_the_rule_cannot_reach_are_an_error(step, message, strict):
    for _ in range(3):  # TorchScript shows its steps twice, and then no more
        with pytest.raises(ModelError, match=f"between photo and scores stands {message}.*nn.ReLU"):
            guided(step, strict)
        with pytest.raises(ModelError, match="cannot reach a ReLU"):
            guided(step, strict, "deconvnet")
    plain = reference(Bottleneck(lambda net, f: step(net, f)), X, "gradient")[0]
    assert_same_map(guided(step, method="gradient"), plain)


@pytest.mark.parametrize("method", ["guided", "deconvnet"])
def test_a_relu_in_compiled_code_is_refused_or_reached(method):
    """PyTorch 2.8 and 2.9 do not compile while ReLUs are watched: there the rule reaches it."""

    def uncompiled(net, f):
        return F.relu(net.conv(F.relu(f)))

    want = guided(uncompiled, method=method)
    try:
        assert_same_map(guided(compiled_relu, method=method), want)
    except ModelError as error:
        assert re.search("between photo and scores stands compiled code.*nn.ReLU", str(error))
    assert_same_map(guided(compiled_relu, method="gradient"), guided(uncompiled, method="gradient"))


def test_what_is_reached_by_many_ways_is_looked_at_once(monkeypatch):
    """Each exchange of halves leads by two ways to the one before it: 2 ** 24 ways in all."""
    asked, plain = [], signal_path.node_name

    def counted(node):
        asked.append(node)
        assert len(asked) < 20_000
        return plain(node)

    def exchanged(f):
        for _ in range(24):  # an even number: in the end all is where it was
            f = torch.cat(f.chunk(2, 1)[::-1], 1)
        return f

    def pooled(f):
        return F.max_pool2d(F.pad(f, (1, 1, 1, 1)), 2)

    monkeypatch.setattr(signal_path, "node_name", counted)
    want = guided(lambda net, f: pooled(F.relu(f)))
    assert_same_map(guided(lambda net, f: pooled(exchanged(F.relu(f)))), want)
    for step in (pooled, lambda f: torch.cat([f[..., None], 0.1 * f[..., None]], -1).amax(-1)):
        with pytest.raises(ModelError, match="max"):
            guided(lambda net, f, step=step: step(exchanged(f)))


def test_relus_beside_the_photos_path_neither_count_nor_matter():
    """Swin V2 computes the bias of its attention so."""

    with pytest.raises(ModelError, match="no ReLU between photo and scores"):
        guided(lambda net, f: f + F.relu(net.squeeze.weight).mean())
    want = guided(lambda net, f: F.relu(f))
    assert_same_map(guided(lambda net, f: F.relu(f) * F.relu(-net.squeeze.weight).sum() ** 0), want)
    assert_same_map(guided(lambda net, f: (F.relu(net.conv(f)), F.relu(f))[1]), want)
