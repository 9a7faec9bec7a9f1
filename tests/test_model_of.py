"""A model of any network."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import ResNet18_Weights

from helpers import (
    Model,
    ModelError,
    Preprocess,
    Scores,
    all_maps,
    grad_cam,
    grad_cam_any,
    guided_gradcam,
    load_model,
    saliency_any,
    sample,
)
from helpers.interactive.explorer import Explorer
from helpers.interactive.export import export_onnx

from .comparing import assert_close
from .networks import narrow, randomise

NAMES = ["cat", "dog", "Tiger", "car", "tree"]


def small():
    return randomise(
        nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)
        )
    )


def test_a_model_of_any_network_can_be_asked():
    network, preprocess = small().train(), Preprocess(40, 32, (0.5,) * 3, (0.25,) * 3)
    model = Model.of(network, NAMES, preprocess)
    assert model.network is network and not network.training and model.name == "Sequential"
    x = model.prepare([sample("chelsea"), sample("coffee")])
    assert x.shape == (2, 3, 32, 32) and model.input_size == 32
    scores = network(x)
    assert model.class_index("tiger") == 2
    (first, *_), (other, *_) = model.top(x, 2)
    assert first[0] == NAMES[scores[0].argmax()] and other[0] == NAMES[scores[1].argmax()]
    assert len(model.top(x, 9)[0]) == 5
    assert model.likeliest(x[:1], ["dog", "cat"]) == int(scores[0, :2].argmax())
    assert grad_cam_any(model.network, x).maps.shape == (2, 30, 30)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_photos_have_the_networks_dtype(dtype):
    model = Model.of(small().to(dtype), NAMES, Preprocess(40, 32))
    x = model.prepare(sample("chelsea"))
    assert x.dtype == dtype and len(model.top(x)[0]) == 5
    assert grad_cam_any(model.network, x, classes=1).weights.any()
    model.network.float()  # converted afterwards
    assert model.prepare(sample("chelsea")).dtype == torch.float32
    with pytest.raises(ModelError, match=r"pass x.to\(torch.float32\)"):
        model.top(x)
    with pytest.raises(ModelError, match=r"pass x.to\(torch.float32\)"):
        model.likeliest(x, NAMES)


def test_preprocessing_is_read_and_names_may_be_missing():
    with torch.device("meta"):
        network = torchvision.models.resnet18(weights=None)
    network = randomise(network.to_empty(device="cpu"))
    weights = ResNet18_Weights.DEFAULT
    model = Model.of(network, weights.meta["categories"], weights, name="mine")
    assert model.preprocess == Preprocess(256, 224) and model.name == "mine"
    want = weights.transforms()(sample("coffee"))
    assert_close(model.prepare(sample("coffee"))[0], want, rtol=0, atol=1e-6)
    assert Model.of(small(), preprocess=Preprocess(8, 8)).class_names == ("0", "1", "2", "3", "4")


def test_names_may_be_numbers():
    assert Model.of(small(), range(10, 15), Preprocess(32, 32)).class_index("12") == 2


def test_scores_are_picked():
    class Dict(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small()

        def forward(self, x):
            return {"scores": self.inner(x)}

    model = Model.of(Dict(), NAMES, Preprocess(32, 32), scores=lambda answer: answer["scores"])
    assert isinstance(model.network, Scores) and model.name == "Dict"
    x = model.prepare(sample("rocket"))
    got = grad_cam_any(model.network, x, "inner.1", 3)
    assert_close(got.maps, grad_cam_any(model.network.network.inner, x, "1", 3).maps)


def test_a_grey_network_gets_grey_photos():
    network = small()
    network[0] = nn.Conv2d(1, 6, 3)
    model = Model.of(randomise(network), NAMES, Preprocess(28, 28, (0.5,), (0.5,)))
    x = model.prepare(sample("coffee"))
    assert x.shape == (1, 1, 28, 28) and model.preprocess.restore(x).shape == (1, 28, 28, 3)


def test_a_vgg_of_ones_own_has_all_that_vgg_has():
    network = narrow(classes=5)
    model = Model.of(network, NAMES, Preprocess(64, 64))
    explorer = Explorer(model, sample("coffee"))
    assert explorer.top[0][1] in NAMES
    assert explorer.map(0).shape == (64, 64)


def test_the_explorer_shows_what_was_normalised_otherwise():
    model = Model.of(narrow(classes=5), NAMES, Preprocess(64, 64, (0.1,) * 3, (0.9,) * 3))
    seen = Explorer(model, sample("coffee")).seen
    want = torch.tensor(model.preprocess.restore(model.prepare(sample("coffee")))[0])
    assert_close(torch.tensor(seen), want)
    assert_close(torch.tensor(Explorer(model, sample("coffee")).way.photo), want)


def test_what_only_vgg_can_is_refused_in_words(tmp_path):
    model = Model.of(small(), NAMES, Preprocess(32, 32))
    x = model.prepare(sample("coffee"))
    for refused in (
        lambda: Explorer(model),
        lambda: export_onnx(model.network, tmp_path / "model.onnx", 32),
        lambda: all_maps(model.network, x),
        lambda: guided_gradcam(model.network, x),
        lambda: grad_cam(model.network, x),
    ):
        with pytest.raises(ModelError, match="not VGG-style.*all_maps_any"):
            refused()


class Remembering(nn.Module):
    """Makes its mask at the first pass, as many do with grids of positions."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear, self.mask = nn.LazyConv2d(6, 3), nn.Linear(6, 5), None

    def forward(self, x):
        x = self.conv(x).relu()
        if self.mask is None:
            self.mask = torch.linspace(0, 1, x[0, 0].numel()).view(x.shape[2:])
        return self.linear((x * self.mask).mean((2, 3)))


def test_a_network_can_be_explained_and_trained_after_its_first_pass():
    model = Model.of(Remembering(), NAMES, Preprocess(32, 32))
    x = model.prepare(sample("chelsea"))
    model.top(x)
    assert saliency_any(model.network, x).any()
    model.network(x).sum().backward()
    assert model.network.conv.weight.grad.any()


def test_a_network_in_training_mode_is_asked_as_any_other():
    network = small()
    network.insert(1, nn.BatchNorm2d(6))
    network.insert(5, nn.Dropout(0.5))
    model = Model.of(network, NAMES, Preprocess(32, 32))
    x = model.prepare(sample("chelsea"))
    want, statistics = model.top(x), network[1].running_mean.clone()
    network.train()
    assert model.top(x) == want and model.likeliest(x, NAMES) == NAMES.index(want[0][0][0])
    assert network.training and torch.equal(network[1].running_mean, statistics)


def test_a_name_spelled_just_so_goes_before_one_in_other_letters():
    names = ["Cardigan", "cat", "cardigan", "dog", "tree"]
    model = Model.of(small(), names, Preprocess(32, 32))
    asked = ["cardigan", "Cardigan", "CARDIGAN", "CAT"]
    assert [model.class_index(name) for name in asked] == [2, 0, 0, 1]


def test_a_refused_network_keeps_its_mode():
    network = small().train()
    with pytest.raises(ModelError, match="5 scores, and 1 names"):
        Model.of(network, ["cat"], Preprocess(32, 32))
    assert network.training


def largest():
    network = small()
    network.forward = lambda x: nn.Sequential.forward(network, x).argmax(1, keepdim=True)
    return network


def out_of_range():
    network = small()
    network.forward = lambda x: x.mean(4)
    return network


WRONG = {
    "too few names": (small, {"class_names": ["cat"]}, "5 scores, and 1 names"),
    "no network": (lambda: "resnet", {}, "got a str"),
    "names by number": (small, {"class_names": {0: "cat"}}, "Class names are a list"),
    "one name": (small, {"class_names": "cat"}, "Class names are a list"),
    "no floats": (largest, {}, "1 numbers a photo of torch.int64, not with class scores"),
    "wrong dimensions": (out_of_range, {}, "cannot take photos .*IndexError: Dimension out of"),
    "no scores": (lambda: nn.Conv2d(3, 3, 3), {}, "answers with a tensor"),
    "a model": (lambda: load_model(device="cpu"), {}, "pass model.network"),
    "transforms": (small, {"preprocess": "imagenet"}, "str is none that is known"),
}


@pytest.mark.parametrize("make, options, message", WRONG.values(), ids=WRONG)
def test_what_cannot_be_asked_is_refused(make, options, message):
    with pytest.raises(ModelError, match=message):
        Model.of(make(), **{"preprocess": Preprocess(32, 32), **options})
