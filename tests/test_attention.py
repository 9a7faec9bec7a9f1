"""Attention pooling, the transformer, rollout and relevance beside independent code."""

import hashlib
import io
import itertools
import json
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from helpers import (
    VGG16,
    Model,
    ModelError,
    ModelUnavailable,
    Preprocess,
    grad_cam_any,
    load_attention,
)
from helpers.networks import attention as module
from helpers.networks import models
from helpers.networks.attention import (
    HEADS,
    AttentionPooling,
    OnFeatures,
    SelfAttention,
    TokenTransformer,
    features_below,
    relevance,
    rollout,
)
from training import attention as training
from training.data import read_split


@pytest.fixture
def pooling():
    torch.manual_seed(0)
    head = AttentionPooling(6, classes=4, width=5).double()
    nn.init.normal_(head.bias)
    return head


@pytest.fixture
def transformer():
    torch.manual_seed(0)
    head = TokenTransformer(3, classes=5, side=3, fold=2, width=16, depth=3, heads=4, hidden=24)
    nn.init.normal_(head.class_token)
    for part in head.modules():  # each of its own, where a new one would do nothing
        if isinstance(part, nn.LayerNorm):
            nn.init.normal_(part.weight, 1)
            nn.init.normal_(part.bias)
    return head.double().eval()


@pytest.fixture
def maps():
    torch.manual_seed(1)
    return torch.rand(2, 3, 6, 6, dtype=torch.float64)


# ------------------------------------------------------------ pooling


def test_pooling_is_pytorchs_attention_with_one_query(pooling):
    maps = torch.rand(3, 6, 2, 4, dtype=torch.float64)
    keys = pooling.key(maps).flatten(2).transpose(1, 2)
    values = pooling.value(maps).flatten(2).transpose(1, 2)
    query = pooling.query.expand(3, 1, -1)
    want = F.scaled_dot_product_attention(query, keys, values)[:, 0] + pooling.bias
    torch.testing.assert_close(pooling(maps), want)
    assert want.std() > 0.01


def test_contributions_add_up_and_attention_asks_about_no_class(pooling):
    maps = torch.rand(3, 6, 2, 4, dtype=torch.float64)
    attention, parts = pooling.attention(maps), pooling.contributions(maps)
    assert attention.shape == (3, 2, 4) and parts.shape == (3, 4, 2, 4)
    torch.testing.assert_close(attention.sum(dim=(1, 2)), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(parts.sum(dim=(2, 3)) + pooling.bias, pooling(maps))
    assert attention.std() > 1e-3 and (parts < 0).any() and (parts > 0).any()
    # a part is what the score loses if the place's value is taken away and its attention kept
    value = pooling.value(maps).clone()
    value[:, :, 1, 2] = 0
    without = (attention[:, None] * value).sum(dim=(2, 3)) + pooling.bias
    torch.testing.assert_close(pooling(maps) - without, parts[:, :, 1, 2])


def test_a_part_is_value_times_gradient(pooling):
    """Of the values that the places bring, by autograd, photo by photo and class by class."""
    maps = torch.rand(2, 6, 2, 4, dtype=torch.float64)
    brought = []

    def keep(_, __, output):
        output.retain_grad()
        brought.append(output)

    handle = pooling.value.register_forward_hook(keep)
    for i, c in itertools.product(range(2), range(4)):
        pooling.zero_grad()
        pooling(maps[i : i + 1])[0, c].backward()
        values = brought.pop()
        want = (values * values.grad)[0].sum(dim=0)
        torch.testing.assert_close(pooling.contributions(maps[i : i + 1])[0, c], want)
    handle.remove()
    assert want.abs().max() > 1e-3


def test_the_query_is_drawn_last():
    """So that a seed gives the keys and values it gave when the query was drawn by others."""
    torch.manual_seed(0)
    head = AttentionPooling(6, classes=4)
    torch.manual_seed(0)
    key, value = nn.Conv2d(6, 64, 1, bias=False), nn.Conv2d(6, 4, 1, bias=False)
    assert torch.equal(head.key.weight, key.weight) and torch.equal(head.value.weight, value.weight)
    assert torch.equal(head.query, nn.init.normal_(torch.empty(64))) and head.query.std() > 0.5
    head(torch.rand(2, 6, 3, 3)).square().sum().backward()
    assert head.key.weight.grad.abs().max() > 1e-4


@pytest.mark.parametrize("method", ["forward", "attention", "contributions"])
@pytest.mark.parametrize("shape", [(6, 2, 4), (1, 5, 2, 4), (1, 6, 8)])
def test_pooling_refuses_other_maps(pooling, method, shape):
    with pytest.raises(ModelError, match=r"maps \(N, 6, h, w\), got .*maps\[None\]"):
        getattr(pooling, method)(torch.rand(shape, dtype=torch.float64))


# ------------------------------------------------------------ the transformer


def test_the_transformer_is_pytorchs(transformer, maps):
    """torch.nn.TransformerEncoderLayer with the same weights, token for token."""
    tokens = transformer.tokens(maps)
    assert tokens.shape == (2, 10, 16)
    for block in transformer.blocks:
        layer = nn.TransformerEncoderLayer(
            16, 4, 24, dropout=0, activation="gelu", batch_first=True, norm_first=True
        ).double()
        own = layer.self_attn
        own.in_proj_weight, own.in_proj_bias = block.attention.qkv.weight, block.attention.qkv.bias
        own.out_proj = block.attention.out
        layer.linear1, layer.linear2 = block.linear[0], block.linear[2]
        layer.norm1, layer.norm2 = block.norm1, block.norm2
        _, weights = own(*[block.norm1(tokens)] * 3, average_attn_weights=False)
        mine, attention = block.attend(tokens)
        torch.testing.assert_close(attention, weights)
        tokens = layer(tokens)
        torch.testing.assert_close(mine, tokens)
    scores = transformer.head(transformer.norm(tokens[:, 0]))
    torch.testing.assert_close(transformer(maps), scores)
    torch.testing.assert_close(transformer.attend(maps)[0], scores)
    assert scores.std() > 0.01


def test_a_token_is_a_window(transformer, maps):
    """What lies in window (row 1, column 2) changes token 1 + 3 * 1 + 2, and no other one."""
    changed = maps.clone()
    changed[:, :, 2:4, 4:6] += 1
    moved = (transformer.tokens(changed) - transformer.tokens(maps)).abs().amax(dim=(0, 2))
    assert moved.nonzero().flatten().tolist() == [1 + 3 * 1 + 2]


def test_another_size_is_refused(transformer):
    with pytest.raises(ModelError, match="6 x 6 places, not for 8 x 6"):
        transformer(torch.rand(1, 3, 8, 6, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(3, 6, 6), (1, 4, 6, 6), (1, 3, 36)])
@pytest.mark.parametrize("method", ["forward", "attend", "tokens"])
def test_the_transformer_refuses_other_maps(transformer, method, shape):
    with pytest.raises(ModelError, match=r"maps \(N, 3, h, w\), got .*maps\[None\]"):
        getattr(transformer, method)(torch.rand(shape, dtype=torch.float64))


@pytest.mark.parametrize("heads", [3, 0, -4])
def test_heads_share_the_width_equally(heads):
    assert SelfAttention(16, 8)(torch.rand(1, 3, 16))[1].shape == (1, 8, 3, 3)
    with pytest.raises(ModelError, match=f"{heads} heads cannot share a width of 16"):
        SelfAttention(16, heads)


# ------------------------------------------------------------ rollout and relevance


def test_rollout_follows_paths(transformer, maps):
    """Abnar and Zuidema's equation 1, as a sum over all paths, written with loops."""
    _, attentions = transformer.attend(maps)
    raw = [(a.mean(1) + torch.eye(10).double()) / 2 for a in attentions]
    want = torch.zeros(2, 9, dtype=torch.float64)
    for place in range(9):
        for second in range(10):
            for first in range(10):
                path = raw[2][:, 0, second] * raw[1][:, second, first] * raw[0][:, first, place + 1]
                want[:, place] += path
    got = rollout(attentions)
    torch.testing.assert_close(got, want.view(2, 3, 3))
    assert got.flatten(1).std(dim=1).min() > 1e-5


def chefer(attentions, gradients):
    """For one photo, as their published code: avg_heads, then apply_self_attention_rules."""
    relevance = torch.eye(attentions[0].shape[-1], dtype=attentions[0].dtype)
    for cam, grad in zip(attentions, gradients, strict=True):
        cam = (grad * cam).clamp(min=0).mean(dim=0)
        relevance = relevance + torch.matmul(cam, relevance)
    return relevance[0, 1:]


def test_relevance_is_the_papers(transformer, maps):
    scores, attentions = transformer.attend(maps)
    got = relevance(attentions, scores[:, 2])
    for i in range(2):
        own_scores, own = transformer.attend(maps[i : i + 1])
        gradients = torch.autograd.grad(own_scores[0, 2], own)
        want = chefer([a[0] for a in own], [g[0] for g in gradients]).view(3, 3)
        torch.testing.assert_close(got[i], want.detach())
        assert want.std() > 1e-6
    other = relevance(attentions, scores[:, 3])
    assert not torch.allclose(got, other, rtol=0.01)


def test_relevance_without_a_gradient_says_what_to_do(transformer, maps):
    with torch.no_grad():
        scores, attentions = transformer.attend(maps)
    with pytest.raises(ModelError, match=r"maps.requires_grad_\(\)"):
        relevance(attentions, scores[:, 0])


OTHERS = "Expected each layer's attention"
SHARES = "behind the softmax"
#: Not what a transformer's layers attend with, made of what they do; and what the refusal says.
SPOILT = {
    "no layer": (lambda layers: [], f"{OTHERS}.*got none"),
    "no tensors": (lambda layers: [None] * 3, f"{OTHERS}.*got NoneType"),
    "one of no tensor": (lambda layers: [*layers[:2], None], OTHERS),
    "mean over the heads": (lambda layers: [a.mean(dim=1) for a in layers], OTHERS),
    "the class token's row": (lambda layers: [a[:, :, :1] for a in layers], OTHERS),
    "one token": (lambda layers: [torch.ones_like(a[:, :, :1, :1]) for a in layers], OTHERS),
    "no photo": (lambda layers: [a[:0] for a in layers], OTHERS),
    "no head": (lambda layers: [a[:, :0] for a in layers], OTHERS),
    "other photos": (lambda layers: [layers[0][:1], *layers[1:]], OTHERS),
    "other tokens": (
        lambda layers: [layers[0][:, :, :5, :5].softmax(dim=-1), *layers[1:]],
        rf"{OTHERS}.*got \(2, 4, 5, 5\), \(2, 4, 10, 10\)",
    ),
    "other dtype": (lambda layers: [layers[0].float(), *layers[1:]], OTHERS),
    "whole numbers": (
        lambda layers: [torch.eye(10).int().expand_as(a) for a in layers],
        rf"{OTHERS}.*got \(2, 4, 10, 10\) of torch.int32",
    ),
    "other device": (lambda layers: [layers[0].to("meta"), *layers[1:]], OTHERS),
    "NaN": (lambda layers: [*layers[:2], layers[2] * torch.nan], "attentions hold NaN"),
    "logits": (lambda layers: [a.log() for a in layers], SHARES),
    "negative shares": (lambda layers: [5 * a - 0.4 for a in layers], SHARES),
    "large shares": (lambda layers: [1.02 * a for a in layers], SHARES),
    "small shares": (lambda layers: [*layers[:2], 0.98 * layers[2]], SHARES),
    "transposed": (lambda layers: [a.transpose(2, 3) for a in layers], SHARES),
    "dropout": (lambda layers: [F.dropout(a, 0.5) for a in layers], SHARES),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_is_no_attention_is_refused(transformer, maps, what):
    spoil, words = SPOILT[what]
    scores, attentions = transformer.attend(maps)
    spoilt = spoil(attentions)
    if what == "negative shares":  # with the right sum: each check has to see its own
        torch.testing.assert_close(spoilt[0].sum(dim=-1), torch.ones(2, 4, 10).double())
    with pytest.raises(ModelError, match=words):
        rollout(spoilt)
    with pytest.raises(ModelError, match=words):
        relevance(spoilt, scores[:, 0])


def test_rounded_shares_and_other_heads_are_fine(transformer, maps):
    scores, attentions = transformer.attend(maps)
    rounded = [attention.bfloat16() for attention in attentions]
    assert max((a.float().sum(dim=-1) - 1).abs().max() for a in rounded) > 1e-3
    want = rollout(attentions).bfloat16()
    torch.testing.assert_close(rollout(tuple(rounded)), want, rtol=0.05, atol=1e-3)
    fewer = [attentions[0][:, :1].expand(-1, 2, -1, -1), *attentions[1:]]
    one = [attentions[0][:, :1], *attentions[1:]]
    torch.testing.assert_close(rollout(fewer), rollout(one))
    assert not torch.allclose(rollout(one), rollout(attentions), rtol=0.01)


EACH = r"one score a photo, \(2,\), got .*scores.gather\(1, classes\[:, None\]\)\[:, 0\]"
GRAPH = "one and the same call of attend"
#: Not one score a photo with the graph, made of the scores; and what the refusal says.
SCORES = {
    "of all classes": (lambda scores: scores, EACH),
    "of one class, as a column": (lambda scores: scores[:, :1], EACH),
    "of one photo": (lambda scores: scores[:1, 0], EACH),
    "their sum": (lambda scores: scores[:, 0].sum(), EACH),
    "a number": (lambda scores: scores[0, 0].item(), EACH),
    "an array": (lambda scores: scores[:, 0].detach().numpy(), EACH),
    "NaN": (lambda scores: scores[:, 0] * torch.nan, "scores hold NaN"),
    "a root of 0": (lambda scores: (scores[:, 0] * 0).sqrt(), "gradients .* hold NaN"),
    "detached": (lambda scores: scores[:, 0].detach(), GRAPH),
    "of nothing": (lambda scores: torch.ones(2, requires_grad=True) * 2, GRAPH),
}


@pytest.mark.parametrize("what", SCORES)
def test_what_is_not_one_score_a_photo_is_refused(transformer, maps, what):
    make, words = SCORES[what]
    scores, attentions = transformer.attend(maps)
    with pytest.raises(ModelError, match=words):
        relevance(attentions, make(scores))


def test_scores_of_another_pass_are_refused(transformer, maps):
    scores, attentions = transformer.attend(maps)
    others, _ = transformer.attend(maps)
    with pytest.raises(ModelError, match=GRAPH):
        relevance(attentions, others[:, 0])
    with torch.no_grad():
        late = scores.gather(1, torch.tensor([[0], [1]]))[:, 0]
    with pytest.raises(ModelError, match=GRAPH):
        relevance(attentions, late)
    assert relevance(attentions, scores[:, 0]).max() > 0
    scores.sum().backward()
    with pytest.raises(ModelError, match=r"After backward\(\), attend anew"):
        relevance(attentions, scores[:, 0])


def test_full_memory_is_not_blamed_on_the_scores(transformer, maps, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("full")

    scores, attentions = transformer.attend(maps)
    monkeypatch.setattr(torch.autograd, "grad", full)
    with pytest.raises(torch.OutOfMemoryError):
        relevance(attentions, scores[:, 0])


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_maps_are_made_without_a_graph_and_where_there_is_none(transformer, maps, without):
    scores, attentions = transformer.attend(maps)
    score = scores[:, 2]
    assert score.requires_grad and all(a.requires_grad for a in attentions)
    want = relevance(attentions, score), rollout(attentions)
    assert not any(found.requires_grad for found in want)
    with without():
        found = relevance(attentions, score), rollout(attentions)
    for one, other in zip(found, want, strict=True):
        assert torch.equal(one, other) and one.std() > 1e-6


def test_tokens_that_are_no_square_are_refused():
    with pytest.raises(ModelError, match="5 tokens and one for the class"):
        rollout([torch.rand(1, 2, 6, 6).softmax(dim=-1)])


# ------------------------------------------------------------ on the embedded network


@pytest.fixture(scope="module")
def heads(embedded, tmp_path_factory):
    """A folder with untaught heads of the shapes that the embedded network's maps have."""
    folder = tmp_path_factory.mktemp("heads")
    x = torch.rand(1, 3, embedded.input_size, embedded.input_size)
    weights, cards = {}, {}
    for name in HEADS:
        with torch.no_grad():
            maps = features_below(embedded.network, name)(x)
        head, architecture = training.new_head(name, maps, len(embedded.class_names))
        weights |= {f"{name}/{key}": value.half() for key, value in head.state_dict().items()}
        cards[name] = {"architecture": architecture}
    raw = safetensors.torch.save(weights)
    (folder / module.WEIGHTS.name).write_bytes(raw)
    features = json.loads(module.FEATURES_CARD.read_text())["sha256"]
    facts = {"sha256": hashlib.sha256(raw).hexdigest(), "features_sha256": features, "heads": cards}
    (folder / module.CARD.name).write_text(json.dumps(facts))
    return folder


def outputs_of(network, layer, x):
    """What a layer gives in a pass of the whole network, by a hook."""
    found = []
    handle = layer.register_forward_hook(lambda _, __, output: found.append(output.clone()))
    with torch.no_grad():
        network(x)
    handle.remove()
    return found[0]


@pytest.mark.parametrize("name", HEADS)
def test_a_head_stands_on_the_layers_it_was_taught_on(embedded, photos, heads, name):
    """In front of the last pooling, and behind the third, as the whole network computes them."""
    model = load_attention(name, "cpu", heads)
    poolings = [step for step in embedded.network.features if isinstance(step, nn.MaxPool2d)]
    if name == "pooling":
        want = outputs_of(embedded.network, embedded.network.features[-2], photos)
    else:
        want = outputs_of(embedded.network, poolings[2], photos)
    assert want.std() > 0.01 and want.shape[1] in {step.out_channels for step in convs(embedded)}
    with torch.no_grad():
        maps = model.network.features(photos)
        torch.testing.assert_close(maps, want)
        scores = model.network(photos)
        torch.testing.assert_close(scores, model.network.head(maps))
    assert scores.shape == (len(photos), len(model.class_names)) and scores.std() > 0
    assert not model.network.training and isinstance(model.network, OnFeatures)
    assert (model.class_names, model.preprocess) == (embedded.class_names, embedded.preprocess)
    stored = safetensors.torch.load_file(heads / module.WEIGHTS.name)
    own = {key: value.half() for key, value in model.network.head.state_dict().items()}
    assert own.keys() == {key.split("/")[1] for key in stored if key.startswith(name)}
    assert all(torch.equal(value, stored[f"{name}/{key}"]) for key, value in own.items())


def convs(model):
    return [step for step in model.network.features if isinstance(step, nn.Conv2d)]


def test_the_heads_of_the_book_are_small_and_know_the_classes():
    facts = json.loads(module.CARD.read_text())
    assert module.WEIGHTS.stat().st_size < 4_000_000
    assert facts["heads"].keys() == HEADS.keys()
    for name, card in facts["heads"].items():
        load_attention(name, "cpu")
        assert 20 < card["accuracy_percent"]["held out"]["top1"] < 90
    torch.manual_seed(0)
    for name, channels in (("pooling", 384), ("transformer", 96)):  # unless told, they are those
        head = HEADS[name][0](channels, classes=108)
        stored = load_attention(name, "cpu").network.head
        shapes = [{k: v.shape for k, v in one.state_dict().items()} for one in (head, stored)]
        assert shapes[0] == shapes[1]
    places = head.places.flatten()
    assert places.std().item() == pytest.approx(0.02, rel=0.05) and places.mean().abs() < 1e-3
    measured = json.loads(training.MEASURED.read_text())
    assert measured["weights_sha256"] == facts["sha256"], "python -m training.attention --help"


def test_grad_cam_finds_the_tokens(photos, heads):
    """The helper for any network, asked for the layer before the last, against plain autograd."""
    network, c = load_attention("transformer", "cpu", heads).network, 5
    head = network.head
    got = grad_cam_any(network, photos, head.blocks[-2], c).maps
    with torch.no_grad():
        tokens = head.blocks[:-1](head.tokens(network.features(photos)))
    tokens.requires_grad_()
    score = head.head(head.norm(head.blocks[-1](tokens)[:, 0]))[:, c].sum()
    (gradient,) = torch.autograd.grad(score, tokens)
    weights = gradient[:, 1:].mean(dim=1, keepdim=True)
    want = (weights * tokens[:, 1:]).sum(dim=2).clamp(min=0).view(len(photos), head.side, -1)
    assert want.amax(dim=(1, 2)).min() > 0
    torch.testing.assert_close(got, want.detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_all_of_a_head_goes_to_the_device(heads, name):
    model = load_attention(name, "meta", heads)
    parameters = dict(model.network.named_parameters())
    assert {key.split(".")[0] for key in parameters} == {"features", "head"}
    assert all(parameter.is_meta for parameter in parameters.values())
    assert model.device == torch.device("meta")


#: What may be wrong with a card, as a change of its facts.
CARDS = {
    "no features": lambda facts: facts.pop("features_sha256"),
    "no heads": lambda facts: facts.pop("heads"),
    "no such head": lambda facts: facts["heads"].pop("transformer"),
    "no architecture": lambda facts: facts["heads"]["transformer"].clear(),
    "heads in a list": lambda facts: facts.update(heads=[]),
    "unknown part": lambda facts: facts["heads"]["transformer"]["architecture"].update(dropout=0.1),
    "other width": lambda facts: facts["heads"]["transformer"]["architecture"].update(width=64),
    "other depth": lambda facts: facts["heads"]["transformer"]["architecture"].update(depth=3),
    "no divisor": lambda facts: facts["heads"]["transformer"]["architecture"].update(heads=3),
}


@pytest.mark.parametrize("what", CARDS)
def test_a_card_that_does_not_fit_is_refused(heads, tmp_path, what):
    shutil.copy(heads / module.WEIGHTS.name, tmp_path)
    facts = json.loads((heads / module.CARD.name).read_text())
    card = tmp_path / module.CARD.name
    card.write_text(json.dumps(facts))
    assert load_attention("transformer", "meta", tmp_path).name == "attention transformer"
    CARDS[what](facts)
    card.write_text(json.dumps(facts))
    words = r"attention.json does not fit attention.safetensors; .* python -m training.attention\."
    with pytest.raises(ModelUnavailable, match=words):
        load_attention("transformer", "meta", tmp_path)


def test_a_missing_embedded_card_is_refused(heads, monkeypatch):
    for place, card in ((models, "CARD"), (module, "FEATURES_CARD")):
        monkeypatch.setattr(place, card, models.ASSETS / "gone.json")
    with pytest.raises(ModelUnavailable, match="gone.json is missing"):
        load_attention("pooling", "cpu", heads)


@pytest.mark.parametrize("name", ["mean", None, ["pooling"], {}])
def test_an_unknown_head_is_refused(heads, name):
    with pytest.raises(ModelError, match="There is no head .*; choose one of pooling, transformer"):
        load_attention(name, "cpu", heads)


def test_what_cannot_be_loaded_is_refused(heads, monkeypatch, tmp_path):
    with pytest.raises(ModelUnavailable, match="missing"):
        load_attention("pooling", "cpu", tmp_path)
    card = tmp_path / "embedded.json"
    card.write_text(json.dumps({"sha256": "another"}))
    monkeypatch.setattr(module, "FEATURES_CARD", card)
    with pytest.raises(ModelUnavailable, match="python -m training.attention"):
        load_attention("pooling", "cpu", heads)


# ------------------------------------------------------------ teaching and measuring


@pytest.mark.parametrize(
    ("name", "rate", "epochs"), [("pooling", 0.02, 10), ("transformer", 0.003, 6)]
)
def test_a_head_learns(name, rate, epochs):
    """Which of three channels is the brightest; twice the same, as the seed says."""
    torch.manual_seed(0)
    labels, rows = torch.randint(3, (300,)), torch.arange(300)
    maps = torch.rand(300, 6, 4, 4)
    maps[rows, labels] += 1
    recipe = replace(training.RECIPES[name], epochs=epochs, rate=rate, batch_size=32)
    weights = []
    for _ in range(2):
        head, _ = training.new_head(name, maps, 3)
        untaught = training.accuracy(head, maps, labels)["top1"]
        training.teach(head, maps.half(), labels, rows[:200], 3, recipe)
        assert untaught < 60 and training.accuracy(head, maps[200:], labels[200:])["top1"] > 90
        weights.append(torch.cat([p.detach().flatten() for p in head.parameters()]))
    assert torch.equal(*weights) and not head.training


def test_a_head_learns_from_its_photos_only():
    torch.manual_seed(0)
    maps, labels = torch.rand(40, 6, 4, 4).half(), torch.randint(3, (40,))
    recipe = replace(training.RECIPES["pooling"], epochs=3)
    learnt = []
    for broken in (maps[:10], maps[10:20]):
        changed = maps.clone()
        changed[:10] = broken
        head, _ = training.new_head("pooling", changed, 3)
        training.teach(head, changed, labels, torch.arange(10, 40), 3, recipe)
        learnt.append(head.value.weight.detach().clone())
    assert torch.equal(*learnt)
    assert not torch.equal(learnt[0], training.new_head("pooling", maps, 3)[0].value.weight)


def test_a_transformer_misses_a_share_of_the_tokens(transformer, maps):
    torch.manual_seed(0)
    tokens = transformer.tokens(maps)
    seen = []
    handle = transformer.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    training.unseen(transformer, maps, drop=0.4)
    whole = training.unseen(transformer, maps, drop=0.0)
    handle.remove()
    torch.testing.assert_close(whole, transformer(maps))
    assert seen[0].shape == (2, 1 + 5, 16)  # 9 places less two fifths, and the class
    for got, own in zip(seen[0], tokens, strict=True):
        found = torch.cdist(got, own).argmin(dim=1).tolist()
        torch.testing.assert_close(got, own[found])
        assert found[0] == 0 and len(set(found)) == 6


def test_feature_maps_are_those_of_both_heads(embedded):
    photos = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    found = training.feature_maps(embedded, photos)
    x = embedded.prepare(list(photos))
    for name in HEADS:
        with torch.no_grad():
            want = features_below(embedded.network, name)(x)
        assert want.std() > 0.01 and found[name].dtype == torch.float16
        torch.testing.assert_close(found[name], want.half(), rtol=2e-3, atol=1e-3)


def test_accuracy_counts():
    class Says(nn.Linear):
        def forward(self, maps):
            return maps[:, :, 0, 0]

    scores = torch.arange(7.0).repeat(4, 1)  # the last is the best, the first two are none of five
    labels = torch.tensor([6, 5, 2, 1])
    found = training.accuracy(Says(1, 1), scores[:, :, None, None], labels)
    assert found == {"top1": 25.0, "top5": 75.0}


def test_what_speaks_against(pooling):
    """Counted place by place."""
    maps, c = torch.rand(3, 6, 2, 4, dtype=torch.float64), torch.tensor([0, 3, 1])
    found = training.against(pooling, maps, c)
    for i in range(3):
        pairs = []
        a, parts = pooling.attention(maps)[i], pooling.contributions(maps)[i, c[i]]
        for row in range(2):
            pairs += [(a[row, col].item(), parts[row, col].item()) for col in range(4)]
        high = [part for share, part in pairs if share > 1 / 8]
        assert found["places"][i] == pytest.approx(len(high) / 8)
        assert found["against"][i] == pytest.approx(sum(part < 0 for part in high) / len(high))
        assert found["correlation"][i] == pytest.approx(
            np.corrcoef(*zip(*pairs, strict=True))[0, 1]
        )
    assert 0 < sum(found["against"]) < 3


def test_against_what_a_place_speaks(pooling):
    """The bias for all places, or the mean class beside it: the scores' differences stay."""
    torch.manual_seed(2)
    maps, c = torch.rand(20, 6, 2, 4, dtype=torch.float64), torch.arange(20) % 4
    nn.init.normal_(pooling.bias, std=0.2)
    found = training.against(pooling, maps, c)
    with torch.no_grad():
        a, values = pooling.attention(maps), pooling.value(maps)
    for i in range(20):
        high = a[i] > 1 / 8
        shared = values[i, c[i]] + pooling.bias[c[i]] < 0
        beside = values[i, c[i]] < values[i].mean(dim=0)
        for what, negative in {"bias shared": shared, "mean class": beside}.items():
            want = (negative & high).sum() / high.sum()
            assert found[f"against, {what}"][i] == pytest.approx(want.item())
    kinds = [found[k] for k in ("against", "against, bias shared", "against, mean class")]
    assert all(a != b for a, b in itertools.combinations(kinds, 2))


@pytest.mark.parametrize("name", HEADS)
def test_without_some_places(name, pooling, transformer):
    head = {"pooling": pooling, "transformer": transformer}[name]
    side = 4 if name == "pooling" else 2 * transformer.side
    maps = torch.rand(2, head_channels(head), side, side, dtype=torch.float64)
    c, places = torch.tensor([1, 0]), 16 if name == "pooling" else transformer.side**2
    none = training.without(head, maps, c, torch.zeros(2, 0, dtype=torch.int64))
    with torch.no_grad():
        full = head(maps).softmax(dim=1)[torch.arange(2), c]
    torch.testing.assert_close(none, full)
    # what a missing place holds makes no difference, and what another one holds does
    missing, other = maps.clone(), maps.clone()
    step = side // round(places**0.5)
    missing[0, :, :step, :step] += 1  # place 0
    other[0, :, :step, step : 2 * step] += 1  # place 1
    gone = torch.zeros(2, 1, dtype=torch.int64)
    want = training.without(head, maps, c, gone)
    torch.testing.assert_close(training.without(head, missing, c, gone), want)
    assert not torch.allclose(training.without(head, other, c, gone)[0], want[0])
    assert not torch.allclose(want, full)


def head_channels(head):
    if isinstance(head, AttentionPooling):
        return head.key.in_channels
    return head.embed.in_features // head.fold**2


@pytest.fixture
def folder(tmp_path):
    """Six photos of each of three classes to learn from and two to measure, with a bright corner.

    The held out one of each class is its tenth, so twelve are needed.
    """
    rng = np.random.default_rng(0)
    boxes = ["file,x_min,y_min,x_max,y_max"]
    for split, count in (("train", 12), ("val", 2)):
        with tarfile.open(tmp_path / f"{split}.tar", "w") as tar:
            for label, i in itertools.product(range(3), range(count)):
                photo = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
                photo[:32, :32, label] += 180
                buffer = io.BytesIO()
                Image.fromarray(photo).save(buffer, "JPEG")
                member = tarfile.TarInfo(f"n{label}/{split}_{label}_{i}.JPEG")
                member.size = buffer.tell()
                buffer.seek(0)
                tar.addfile(member, buffer)
                if split == "val":
                    boxes.append(f"{member.name},0,0,31,31")
    (tmp_path / "val_boxes.csv").write_text("\n".join(boxes) + "\n")
    return tmp_path


@pytest.fixture
def small(monkeypatch):
    """A narrow network in the embedded one's place, with three classes and photos of 64 pixels."""
    torch.manual_seed(0)
    network = VGG16(3, widths=(4, 4, 6, 8, 10))
    for layer in network.features:  # so that the last maps know of the photo
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    model = Model.of(network, ["red", "green", "blue"], Preprocess(64, 64), name="embedded")
    for place in (training, module):
        monkeypatch.setattr(place, "load_model", lambda *_: model)
    monkeypatch.setattr(training, "read_classes", lambda: (["n0", "n1", "n2"], model.class_names))
    return model


def test_from_photos_to_numbers(folder, small, capsys):
    """Teaching alone, then measuring alone; heads fit any width and any size of photos."""
    out = folder / "out"
    where = ["--data", str(folder), "--out", str(out)]
    training.main([*where, "--teach-only", "--device", "cpu"])
    assert sorted(path.name for path in out.iterdir()) == [module.CARD.name, module.WEIGHTS.name]
    facts = json.loads((out / module.CARD.name).read_text())
    assert facts["photos"] == 33  # twelve a class, less the tenth
    built = {name: card["architecture"] for name, card in facts["heads"].items()}
    assert built["pooling"]["channels"] == 10
    assert (built["transformer"]["channels"], built["transformer"]["side"]) == (6, 4)
    training.main([*where, "--measure-only"])
    report = json.loads((out / training.MEASURED.name).read_text())
    assert report == json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))
    assert (report["photos"], report["pixels"]) == (6, 64)
    assert report["weights_sha256"] == facts["sha256"]
    rows = {n: r for head in report["heads"].values() for n, r in head["maps"].items()}
    taken = {"without strongest", "without weakest"}
    assert rows.pop("by lot").keys() == taken < rows["rollout"].keys()
    assert list(rows) == [
        "attention", "contribution", "last attention", "rollout", "relevance", "Grad-CAM",
    ]  # fmt: skip
    blind = {n for n, row in rows.items() if row["other class"]["mean"] > 0.999}
    assert blind == {"attention", "last attention", "rollout"}
    assert all(0 <= row[k]["mean"] <= 100 for row in rows.values() for k in ("pointing", "energy"))

    photos, _, _ = read_split(folder, "val", ["n0", "n1", "n2"])
    model = load_attention("pooling", "cpu", out)
    x = model.prepare(list(photos))
    with torch.no_grad():
        attention = model.network.head.attention(model.network.features(x))
    large = F.interpolate(attention[:, None], size=(64, 64), mode="bilinear")[:, 0]
    energy = large[:, :32, :32].sum(dim=(1, 2)) / large.sum(dim=(1, 2))
    assert rows["attention"]["energy"]["mean"] == pytest.approx(100 * energy.mean().item(), abs=0.5)
    assert energy.std() > 1e-4


def test_fewer_photos_are_still_of_both_kinds(folder, small):
    training.main(["--data", str(folder), "--out", str(folder), "--teach-only", "--every", "3"])
    facts = json.loads((folder / module.CARD.name).read_text())
    assert facts["photos"] == 11
    for card in facts["heads"].values():
        assert card["accuracy_percent"]["held out"]["top1"] in (0.0, 100.0)  # the one of three
