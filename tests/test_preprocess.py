"""Preprocessing of other networks, against torchvision's transforms and timm's."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms as v1
from torchvision.models.segmentation import FCN_ResNet50_Weights
from torchvision.transforms import InterpolationMode, v2

from helpers import ModelError, Preprocess, sample

from .comparing import assert_close

#: Of all of torchvision's weights one for each way of preparing photos: (name of the enum, member).
PRESETS = {}
for _name in torchvision.models.list_models(module=torchvision.models):
    for _weights in torchvision.models.get_model_weights(_name):
        PRESETS.setdefault(str(_weights.transforms()), _weights)


@pytest.mark.parametrize("weights", PRESETS.values(), ids=str)
def test_torchvisions_weights_say_how_their_photos_are_prepared(weights):
    photo = sample("coffee")
    want = weights.transforms()(photo)
    for source in (weights, weights.transforms()):
        got = Preprocess.of(source)
        assert_close(got(photo)[0], want, rtol=1e-6, atol=1e-7 * want.abs().max().item() + 1e-6)


COMPOSED = {
    "torchvision's first": v1.Compose(
        [
            v1.Resize(70),
            v1.CenterCrop((64, 48)),
            v1.ToTensor(),
            v1.Normalize((0.5,) * 3, (0.2, 0.3, 0.4)),
        ]
    ),
    "its second": v2.Compose(
        [
            v2.Resize((60, 80), InterpolationMode.BICUBIC),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    ),
    "one step": v2.Compose([v2.Resize([40]), v2.CenterCrop(32), v1.ToTensor()]),
    "conversions": v1.Compose(
        [v1.Resize(64), v1.CenterCrop(64), v1.PILToTensor(), v1.ConvertImageDtype(torch.float32)]
    ),
}


@pytest.mark.parametrize("transforms", COMPOSED.values(), ids=COMPOSED)
def test_composed_transforms_are_read(transforms):
    got = Preprocess.of(transforms)(sample("rocket"))
    assert_close(got[0], torch.as_tensor(transforms(sample("rocket"))), rtol=0, atol=1e-6)


class ToTensor:
    """Of one's own, of a common name, with the colours as OpenCV has them."""

    def __call__(self, picture):
        return torch.from_numpy(np.asarray(picture)[..., ::-1].copy()).permute(2, 0, 1) / 255


BlueFirst = ToTensor

REFUSED = {
    "another step": (
        v1.Compose([v1.Resize(64), v1.RandomCrop(32), v1.ToTensor()]),
        "RandomCrop is none",
    ),
    "a function": (lambda photo: photo, "function is none that is known"),
    "a path": ("weights.pth", "str is none that is known"),
    "no size": (v1.Compose([v1.ToTensor(), v1.Normalize([0.5] * 3, [0.5] * 3)]), "no Resize"),
    "numbers to 255": (
        v2.Compose([v2.Resize(40), v2.CenterCrop(32), v2.PILToTensor(), v2.ToDtype(torch.float32)]),
        "do something else",
    ),
    "another order": (
        v2.Compose([v2.CenterCrop(32), v2.Resize((40, 40)), v1.ToTensor()]),
        "do something else",
    ),
    "other rounding": (
        v2.Compose([v1.ToTensor(), v2.Resize(40, antialias=False), v2.CenterCrop(32)]),
        "do something else",
    ),
    "blue first": (
        v1.Compose([v1.Resize((40, 40)), BlueFirst()]),
        "do something else",
    ),
    "no tensor": (v2.Compose([v2.Resize(64), v2.CenterCrop(32)]), "do something else"),
    "of another task": (FCN_ResNet50_Weights.DEFAULT, "cannot be read .AttributeError"),
    "an enum": (torchvision.models.ResNet50_Weights, "cannot be read|none that is known"),
    "normalised first": (
        v2.Compose([v2.Normalize([0.5] * 3, [0.5] * 3), v2.Resize(64), v1.ToTensor()]),
        "cannot be read .TypeError",
    ),
    "an empty config": ({}, "no input_size"),
    "timm's border": ({"input_size": (3, 32, 32), "crop_mode": "border"}, "'border' for 32x32"),
    "timm's centre of an oblong": ({"input_size": (3, 32, 64)}, "'center' for 32x64"),
    "timm's random": (
        {"input_size": (3, 32, 32), "interpolation": "random"},
        "interpolation 'random'",
    ),
    "six channels": ({"input_size": (6, 32, 32), "mean": (0,) * 6, "std": (1,) * 6}, "tensors"),
}


@pytest.mark.parametrize("source, message", REFUSED.values(), ids=REFUSED)
def test_what_is_something_else_is_refused(source, message):
    with pytest.raises(ModelError, match=message):
        Preprocess.of(source)


@pytest.mark.parametrize(
    "fields",
    [
        {"mean": (0.5, 0.5)},
        {"mean": (0.5,)},
        {"mean": (0.5,) * 3, "std": (1, 0, 1)},
        {"mean": (0.5,) * 3, "std": (-1, 1, 1)},
        {"mean": (0.5,) * 3, "std": (1, np.nan, 1)},
        {"mean": (np.inf,) * 3, "std": (1, 1, 1)},
    ],
)
def test_means_and_deviations_have_to_fit(fields):
    with pytest.raises(ModelError, match="deviation > 0"):
        Preprocess(40, 32, **fields)


CONFIGS = {
    "vit": {
        "input_size": (3, 64, 64),
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
    },
    "silent": {"input_size": (3, 96, 96)},
    "squash": {
        "input_size": (3, 48, 80),
        "crop_mode": "squash",
        "crop_pct": 0.95,
        "interpolation": "bilinear",
    },
    "whole": {"input_size": (3, 80, 80), "crop_pct": 1.0, "interpolation": "lanczos"},
}


#: What timm makes of them: the sides divided by crop_pct (0.875, if none is named), rounded down.
SIZES = {"vit": (71, 64), "silent": (109, 96), "squash": ((50, 84), (48, 80)), "whole": (80, 80)}


@pytest.mark.parametrize("name", CONFIGS)
def test_timms_data_config_says_the_sizes(name):
    found = Preprocess.of(CONFIGS[name])
    assert (found.resize, found.crop) == SIZES[name]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_timms_data_config_says_how_photos_are_prepared(config):
    timm = pytest.importorskip("timm")
    full = timm.data.resolve_data_config(pretrained_cfg=config)
    want = timm.data.create_transform(**full, is_training=False)(sample("astronaut"))
    for source in (config, full):
        assert_close(Preprocess.of(source)(sample("astronaut"))[0], want, rtol=0, atol=1e-6)


def test_timms_networks_carry_theirs():
    timm = pytest.importorskip("timm")
    network = timm.create_model("test_vit", pretrained=False)
    config = timm.data.resolve_data_config(model=network)
    want = timm.data.create_transform(**config, is_training=False)
    got = Preprocess.of(network)
    assert got == Preprocess.of(want)
    assert_close(got(sample("coffee"))[0], want(sample("coffee")), rtol=0, atol=1e-6)


OTHERS = {
    "lite": Preprocess(96, 80, (127 / 255,) * 3, (128 / 255,) * 3, "bicubic"),
    "uneven": Preprocess(96, (64, 80), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
    "grey": Preprocess((40, 60), (32, 48), (0.3,), (0.7,)),
}


@pytest.mark.parametrize("preprocess", OTHERS.values(), ids=OTHERS)
def test_restore_undoes_what_was_done(preprocess):
    x = preprocess([sample("chelsea"), sample("coffee")])
    side = preprocess.crop if isinstance(preprocess.crop, tuple) else (preprocess.crop,) * 2
    assert x.shape == (2, len(preprocess.mean), *side)
    for restored, name in zip(preprocess.restore(x), ("chelsea", "coffee"), strict=True):
        seen = preprocess.cropped(sample(name)).convert("RGB")
        np.testing.assert_allclose(restored, np.asarray(seen) / 255, atol=1e-6)
        assert np.ptp(restored) > 0.5


def test_grey_is_one_channel_of_what_pillow_calls_grey():
    got = Preprocess(64, 64, (0.25,), (0.5,))(sample("coffee"))
    want = Image.fromarray(np.asarray(sample("coffee").convert("L"))).resize(
        (96, 64), Image.BILINEAR
    )
    assert_close(
        got[0, 0],
        v2.functional.to_dtype(v2.functional.to_image(want), torch.float32, scale=True)[0, :, 16:80]
        * 2
        - 0.5,
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (3, 4, 4), (2, 4, 4, 4)])
def test_what_was_not_prepared_is_not_restored(shape):
    with pytest.raises(ValueError, match=r"Expected photos \(N, 3, H, W\), as they were prepared"):
        Preprocess(4, 4).restore(torch.zeros(shape))
