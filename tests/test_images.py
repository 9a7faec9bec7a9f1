"""Photos of every kind a reader may upload, and files that are none."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torchvision.models import VGG16_Weights

from helpers import SAMPLES, PhotoError, Preprocess, load_photo, sample

from .comparing import assert_close
from .pictures import BAD, COLOURS, ORIENTATION, RAMP, encoded, header_only, transparent


def pixels(source):
    picture = load_photo(source)
    assert picture.mode == "RGB"
    return np.asarray(picture)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(Image.fromarray(COLOURS)))
    return path


@pytest.mark.parametrize(
    "kind",
    [
        str,
        lambda p: p,
        lambda p: p.read_bytes(),
        lambda p: memoryview(p.read_bytes()),
        lambda p: open(p, "rb"),
        Image.open,
        lambda p: COLOURS,
    ],
)
def test_a_photo_comes_as_path_bytes_file_picture_or_array(file, kind):
    source = kind(file)
    assert np.array_equal(pixels(source), COLOURS)
    if hasattr(source, "close"):
        source.close()


@pytest.mark.parametrize(
    "code, turn",
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (8, np.rot90),
    ],
)
@pytest.mark.parametrize("array", [COLOURS, RAMP], ids=["colour", "16-bit grey"])
def test_exif_rotation_is_applied(code, turn, array):
    exif = Image.Exif()
    exif[ORIENTATION] = code
    upright = pixels(array)
    assert np.array_equal(pixels(encoded(Image.fromarray(array), exif=exif)), turn(upright))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "array"])
@pytest.mark.parametrize("as_file", [True, False])
def test_transparency_is_laid_on_white(mode, as_file):
    picture = np.asarray(transparent("RGBA")) if mode == "array" else transparent(mode)
    source = encoded(picture) if as_file and mode != "array" else picture
    assert (pixels(source)[:, :16] == 0).all() and (pixels(source)[:, 16:] == 255).all()


def test_16_bit_grey_is_scaled_not_clipped():
    want = np.repeat((RAMP // 257).astype(np.uint8)[..., None], 3, axis=2)
    for source in (
        encoded(Image.fromarray(RAMP)),
        encoded(Image.fromarray(RAMP), "TIFF"),
        Image.fromarray(RAMP),
        Image.fromarray(RAMP).convert("I"),
        RAMP,
    ):
        assert np.array_equal(pixels(source), want)


@pytest.mark.parametrize(
    "mode, value, rgb",
    [("L", 70, (70,) * 3), ("1", 1, (255,) * 3), ("CMYK", (0, 255, 255, 0), (255, 0, 0))],
)
def test_other_modes_become_rgb(mode, value, rgb):
    picture = Image.new(mode, (32, 32), value)
    for source in (picture, encoded(picture, "TIFF")):
        assert (pixels(source) == rgb).all()


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
    assert (
        pixels(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)
    ).all()


@pytest.mark.parametrize(
    "array",
    [
        COLOURS[..., 0] / 255,
        (COLOURS[..., 0] / 255).astype(np.float32),
        COLOURS[..., 0].astype(np.uint16) * 257,
        np.asfortranarray(COLOURS[..., 0]),
    ],
    ids=["float64", "float32", "uint16", "fortran"],
)
def test_grey_arrays_of_every_type_mean_the_same(array):
    assert np.array_equal(pixels(array), COLOURS[..., :1].repeat(3, axis=2))


def test_load_photo_leaves_its_source_alone():
    array, picture = COLOURS.copy(), Image.fromarray(COLOURS)
    load_photo(array).putpixel((0, 0), (1, 2, 3))
    load_photo(picture).putpixel((0, 0), (1, 2, 3))
    assert np.array_equal(array, COLOURS) and np.array_equal(np.asarray(picture), COLOURS)


@pytest.mark.parametrize("source, message", BAD.values(), ids=BAD.keys())
def test_what_is_no_photo_is_refused(source, message):
    with pytest.raises(PhotoError, match=message):
        load_photo(source)


@pytest.mark.parametrize("size", [(20_000, 20_000), (8_000, 7_000), (2**31 - 1, 2**31 - 1)])
def test_huge_pictures_are_refused_before_a_pixel_is_decoded(monkeypatch, size):
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append(self.size))
    with pytest.raises(PhotoError, match="at most 50 million|could not be read"):
        load_photo(header_only(*size))
    assert not decoded


def test_long_strips_are_refused_before_they_are_resized():
    with pytest.raises(PhotoError, match="too long for its width"):
        Preprocess(256, 224)(Image.new("L", (200_000, 16)))


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_rgb_photos(name):
    assert sample(name).mode == "RGB" and min(sample(name).size) >= 300


def test_unknown_samples_are_refused():
    with pytest.raises(PhotoError, match="no sample 'dog'; choose one of chelsea"):
        sample("dog")


@pytest.mark.parametrize("name", SAMPLES)
def test_preprocessing_for_vgg16_is_torchvisions(name):
    want = VGG16_Weights.IMAGENET1K_V1.transforms()(sample(name))
    got = Preprocess(256, 224)(sample(name))
    assert got.dtype == torch.float32
    assert_close(got[0], want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (301, 17), (64, 300)])
def test_every_photo_fits(size):
    assert Preprocess(128, 128)(Image.new("RGB", size)).shape == (1, 3, 128, 128)


def test_a_list_of_photos_is_a_batch():
    preprocess, photos = Preprocess(64, 48), [sample("chelsea"), np.asarray(sample("coffee"))]
    batch = preprocess(photos)
    assert batch.shape == (2, 3, 48, 48)
    for i, photo in enumerate(photos):
        assert torch.equal(preprocess(photo)[0], batch[i])


def test_restore_undoes_preprocessing():
    preprocess = Preprocess(96, 80)
    back = preprocess.restore(preprocess(sample()))
    assert back.dtype == np.float64 and back.min() >= 0 and back.max() <= 1
    np.testing.assert_allclose(back[0], np.asarray(preprocess.cropped(sample())) / 255, atol=1e-6)
