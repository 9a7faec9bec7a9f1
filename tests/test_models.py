"""Getting a network, and what comes with it."""

import dataclasses
import hashlib
import io
import json
import re
import shutil
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from helpers import (
    CATS,
    MODELS,
    VGG16,
    ModelError,
    ModelUnavailable,
    choose_device,
    fold_batch_norm,
    load_model,
    sample,
)
from helpers.networks import models

from .comparing import assert_close
from .networks import noise, randomise, torchvision_vgg


def test_embedded_model_is_ready_to_be_asked(embedded):
    assert embedded.name in MODELS and embedded.device == torch.device("cpu")
    assert not any(module.training for module in embedded.network.modules())
    assert {p.dtype for p in embedded.network.parameters()} == {torch.float32}
    x = embedded.prepare(sample())
    assert x.shape == (1, 3, embedded.input_size, embedded.input_size)
    assert embedded.network(x).shape == (1, len(embedded.class_names))


def test_embedded_model_knows_108_classes(embedded):
    assert len(embedded.class_names) == len(set(embedded.class_names)) == 108


def test_embedded_model_is_small():
    assert models.WEIGHTS.stat().st_size <= 10e6
    # with the twins of chapter 8 and the heads of chapter 12
    assert sum(path.stat().st_size for path in models.ASSETS.iterdir()) <= 13e6


def test_module_names_are_torchvisions(embedded):
    with torch.device("meta"):
        original = torchvision.models.vgg16(init_weights=False)
    assert list(embedded.network.state_dict()) == list(original.state_dict())
    kinds = [
        [(name, type(m)) for name, m in n.named_modules()][1:] for n in (embedded.network, original)
    ]
    assert kinds[0] == kinds[1]


def share(found, is_meant):
    """How many times as probable the first class is as the first that is not meant."""
    assert is_meant(found[0][0]), found[:3]
    return found[0][1] / next(p for name, p in found if not is_meant(name))


@pytest.mark.parametrize("name, meant", [("chelsea", CATS), ("coffee", ("espresso",))])
def test_embedded_model_recognises_the_samples(embedded, name, meant):
    found = embedded.top(embedded.prepare(sample(name)), k=10)[0]
    assert share(found, lambda c: c in meant) >= 1.5


def test_likeliest_is_the_best_of_the_classes_named(embedded, photos):
    scores = embedded.network(photos[:1])[0]
    cats = [embedded.class_index(name) for name in ("tabby", "Persian cat", "Egyptian cat")]
    assert embedded.likeliest(photos[:1], CATS) == max(cats, key=lambda i: scores[i].item())
    with pytest.raises(KeyError, match="knows none of unicorn"):
        embedded.likeliest(photos[:1], ["unicorn"])
    with pytest.raises(ValueError, match="one photo, got 3"):
        embedded.likeliest(photos, CATS)


def test_top_names_the_most_probable_classes(embedded, photos):
    found = embedded.top(photos, k=4)
    probabilities = embedded.network(photos).detach().softmax(1)
    for row, p in zip(found, probabilities, strict=True):
        assert [embedded.class_names.index(name) for name, _ in row] == p.argsort(descending=True)[
            :4
        ].tolist()
        assert [q for _, q in row] == pytest.approx(
            p.sort(descending=True).values[:4].tolist(), rel=1e-4
        )


def test_classes_are_found_by_name_in_any_case(embedded):
    for i, name in enumerate(embedded.class_names):
        assert embedded.class_index(name) == embedded.class_index(name.upper()) == i


@pytest.mark.parametrize(
    "name, message",
    [
        ("CAT", "knows no class 'CAT'; did you mean .*Persian cat"),
        ("unicorn", r"did you mean acorn\? model.class_names lists them\."),
        ("Persain CAT", r"did you mean Persian cat, .*\? model"),
        ("xyz", r"knows no class 'xyz'; model.class_names lists them\."),
        ("tabyb", r"did you mean tabby\? model"),
    ],
)
def test_unknown_classes_are_refused_with_a_hint(embedded, name, message):
    with pytest.raises(KeyError, match=message):
        embedded.class_index(name)


def test_a_hint_names_five_classes_at_most(embedded):
    with pytest.raises(KeyError) as caught:
        embedded.class_index("e")
    hint = caught.value.args[0].split("did you mean ")[1].split("?")[0]
    assert sum("e" in name for name in embedded.class_names) > 5 == len(hint.split(", "))


@pytest.mark.parametrize("name", ["vgg19", "", "Embedded"])
def test_unknown_models_are_refused(name):
    with pytest.raises(
        ModelError, match=f"no model '{name}'; choose one of embedded, vgg16"
    ) as caught:
        load_model(name)
    assert not isinstance(caught.value, ModelUnavailable)


@pytest.fixture
def assets(tmp_path):
    """A copy of the embedded model's files."""
    return shutil.copytree(models.ASSETS, tmp_path / "assets")


def test_one_changed_byte_of_the_weights_is_noticed(assets):
    file = assets / models.WEIGHTS.name
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(
        ModelUnavailable,
        match="embedded.safetensors is damaged.*SHA-256.*install the package again",
    ):
        load_model("embedded", assets=assets)


@pytest.mark.parametrize("name", [models.WEIGHTS.name, models.CARD.name])
def test_a_missing_file_is_named(assets, name):
    (assets / name).unlink()
    with pytest.raises(ModelUnavailable, match=f"{name} is missing; install the package again"):
        load_model("embedded", assets=assets)


def test_a_damaged_card_is_noticed(assets):
    card = assets / models.CARD.name
    card.write_text(card.read_text()[:-40])
    with pytest.raises(
        ModelUnavailable, match="embedded.json is damaged.*install the package again"
    ):
        load_model("embedded", assets=assets)


@pytest.mark.parametrize(
    "fact, value", [("class_names", None), ("architecture", {"widths": [8] * 5})]
)
def test_a_card_of_another_network_is_noticed(assets, fact, value):
    card = assets / models.CARD.name
    facts = json.loads(card.read_text())
    card.write_text(json.dumps({**facts, fact: value}))
    with pytest.raises(ModelUnavailable, match="embedded.json does not fit embedded.safetensors"):
        load_model("embedded", assets=assets)


@pytest.mark.parametrize("text", ["", "<!DOCTYPE html>", "{}", "[]", '"card"'])
def test_a_card_that_is_something_else_is_noticed(assets, text):
    (assets / models.CARD.name).write_text(text)
    with pytest.raises(ModelUnavailable, match="embedded.json is damaged"):
        load_model("embedded", assets=assets)


def test_the_files_of_another_folder_are_read_as_those_of_the_package(assets, embedded):
    card = assets / models.CARD.name
    card.write_text(card.read_text().replace("espresso", "expresso"))
    other = load_model("embedded", device="cpu", assets=assets)
    changed = set(other.class_names) - set(embedded.class_names)
    assert changed == {"expresso"}
    state = other.network.state_dict()
    assert all(
        torch.equal(value, state[key]) for key, value in embedded.network.state_dict().items()
    )


def test_vgg16_without_a_network_points_to_the_embedded_model(monkeypatch, tmp_path):
    def offline(*args, **options):
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        ModelUnavailable, match=r'Name or service not known.*load_model\("embedded"\)'
    ):
        load_model("vgg16")


def test_vgg16_with_a_damaged_download_points_to_the_embedded_model(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def damaged(weights):
        raise RuntimeError("invalid hash value")

    monkeypatch.setattr(models, "vgg16", damaged)
    with pytest.raises(ModelUnavailable, match=r'invalid hash.*load_model\("embedded"\)'):
        load_model("vgg16")


def saved(thing, legacy=False) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


#: What may lie where torchvision keeps VGG-16's weights. It is read without a look at its hash.
DAMAGED = {
    "empty": b"",
    "a page": b"<!DOCTYPE html>\n<html><body>Sign in to the network</body></html>",
    "truncated": saved({"features.0.weight": torch.ones(64, 3, 3, 3)})[:-300],
    "truncated, older format": saved({"features.0.weight": torch.ones(64, 3, 3, 3)}, True)[:-300],
    "another network's": saved({"conv1.weight": torch.ones(64, 3, 7, 7)}),
    "something else": saved([1, 2]),
}


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """Where torchvision looks for weights fetched before, in a place that is the test's own."""

    def never(*args, **options):
        raise AssertionError("nothing must be fetched")

    monkeypatch.setattr("torch.hub.urlopen", never)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    file.parent.mkdir(parents=True)
    # its 138 million numbers would take a while to be drawn
    monkeypatch.setattr(models, "vgg16", lambda weights: small_vgg16(weights))
    return file


def small_vgg16(weights):
    with torch.device("meta"):
        network = torchvision.models.vgg16(weights=None, init_weights=False)
    network.load_state_dict(weights.get_state_dict(progress=False, check_hash=True))
    return network


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_of_vgg16_is_named_as_what_to_delete(kept, content):
    kept.write_bytes(content)
    with pytest.raises(
        ModelUnavailable,
        match=rf'{re.escape(str(kept))} is damaged.*Delete.*load_model\("embedded"',
    ):
        load_model("vgg16", device="cpu")
    assert kept.read_bytes() == content  # left to the reader


def test_an_intact_file_of_vgg16_is_not_called_damaged(kept, monkeypatch):
    """Whatever goes wrong then has another cause, such as too little memory."""
    kept.write_bytes(b"as it should be")
    digest = hashlib.sha256(kept.read_bytes()).hexdigest()
    intact = kept.rename(kept.with_name(f"vgg16-{digest[:8]}.pth"))

    def too_large(weights):
        raise RuntimeError("not enough memory: you tried to allocate 553430188 bytes")

    weights = SimpleNamespace(url=f"https://example.org/{intact.name}")
    monkeypatch.setattr(models, "VGG16_Weights", SimpleNamespace(IMAGENET1K_V1=weights))
    monkeypatch.setattr(models, "vgg16", too_large)
    with pytest.raises(RuntimeError, match="not enough memory"):
        load_model("vgg16", device="cpu")


def test_vgg16_comes_with_imagenets_classes_and_sizes(monkeypatch, full_vgg16):
    monkeypatch.setattr(models, "vgg16", lambda weights: full_vgg16)
    model = load_model("vgg16", device="cpu")
    assert (model.preprocess.resize, model.preprocess.crop, model.input_size) == (256, 224, 224)
    assert len(model.class_names) == 1000 and model.class_index("Egyptian cat") == 285
    assert model.network is full_vgg16 and not full_vgg16.training


def test_device_is_the_one_asked_for_else_the_environments(monkeypatch):
    monkeypatch.setenv("EXPLAIN_DEVICE", "meta")
    assert choose_device() == torch.device("meta") and choose_device("cpu") == torch.device("cpu")
    model = load_model("embedded")
    assert model.device.type == next(model.network.parameters()).device.type == "meta"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("EXPLAIN_DEVICE")
    assert choose_device() == torch.device("cpu")


@pytest.mark.parametrize(
    "available, want",
    [
        ((True, True), "cuda"),
        ((True, False), "cuda"),
        ((False, True), "mps"),
        ((False, False), "cpu"),
    ],
)
def test_without_a_wish_the_first_accelerator_is_taken(monkeypatch, available, want):
    monkeypatch.delenv("EXPLAIN_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available[0])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: available[1])
    assert choose_device().type == want


@pytest.fixture
def without_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


NO_DEVICES = ["cdua", "gpu", "cuda:99", "cpu:x", " cpu", "CPU", "0x"]


@pytest.mark.parametrize("wish", NO_DEVICES)
def test_a_device_that_is_none_is_refused_with_the_choices(monkeypatch, without_accelerator, wish):
    with pytest.raises(
        ModelError, match=f"^The device is '{wish}', which cannot be used here; choose one of cpu.$"
    ):
        load_model("embedded", device=wish)
    monkeypatch.setenv("EXPLAIN_DEVICE", wish)
    with pytest.raises(ModelError, match=f"^EXPLAIN_DEVICE is '{wish}'.*choose one of cpu.$"):
        load_model("embedded")


@pytest.mark.parametrize("wish", ["cuda", "mps"])
def test_a_device_that_this_machine_lacks_is_refused(monkeypatch, wish):
    if getattr(torch, wish).is_available():
        pytest.skip(f"there is {wish} here")
    monkeypatch.setenv("EXPLAIN_DEVICE", wish)
    with pytest.raises(ModelError, match=f"EXPLAIN_DEVICE is '{wish}', which cannot be used here"):
        choose_device()


def test_the_choices_are_those_of_the_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ModelError, match="choose one of cuda, mps, cpu"):
        choose_device("cdua")


def test_the_device_is_looked_at_before_anything_is_fetched(monkeypatch):
    monkeypatch.setattr(models, "vgg16", lambda weights: pytest.fail("fetched"))
    with pytest.raises(ModelError, match="'cdua'"):
        load_model("vgg16", device="cdua")


def test_a_model_cannot_be_changed_by_accident(embedded):
    with pytest.raises(dataclasses.FrozenInstanceError):
        embedded.name = "other"


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision_vgg("vgg11_bn"),
        lambda: randomise(VGG16(4, (4, 5, 6, 7, 8), batch_norm=True)),
    ],
    ids=["vgg11_bn", "ours"],
)
def test_folded_batch_normalisation_gives_the_same_scores(make):
    network, x = make().double(), noise(2, 40, dtype=torch.float64)
    want = network(x)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_batch_norm(network.train())
    assert not any(isinstance(m, nn.BatchNorm2d) or m.training for m in folded.modules())
    assert_close(folded(x), want, rtol=1e-9, atol=1e-9)
    assert network.training and all(
        torch.equal(value, before[key]) for key, value in network.state_dict().items()
    )


def test_the_embedded_networks_size_is_the_default():
    network = load_model("embedded", device="cpu").network
    VGG16(108).load_state_dict(network.state_dict())  # strict: all names and shapes


def test_our_layout_at_full_width_takes_torchvisions_weights(full_vgg16):
    with torch.device("meta"):
        ours = VGG16(1000, widths=(64, 128, 256, 512, 512), hidden=4096, pooled=7)
    ours.load_state_dict(full_vgg16.state_dict(), assign=True)
    x = noise(1, 32)
    assert_close(ours.eval()(x), full_vgg16(x), rtol=0, atol=0)
