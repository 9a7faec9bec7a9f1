"""Photos of every kind a reader may upload, and files that are none."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torchvision.models import VGG16_Weights

from helpers import SAMPLES, PhotoError, Preprocess, load_photo, sample
from helpers.networks.images import remarks

from .comparing import assert_close
from .pictures import BAD, COLOURS, ORIENTATION, RAMP, encoded, header_only, tiff, transparent


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


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_exif_does_not_spoil_whole_pixels(kind):
    picture = Image.fromarray(COLOURS)
    damaged = pixels(encoded(picture, kind, exif=b"Exif\0\0no TIFF at all"))
    assert np.array_equal(damaged, pixels(encoded(picture, kind)))


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
        encoded(Image.fromarray(RAMP).convert("I"), "TIFF"),
        RAMP,
        RAMP.astype(">u2"),
    ):
        assert np.array_equal(pixels(source), want)


def test_16_bit_grey_may_have_a_transparent_value():
    """PNG names one number that stands for "transparent"; here the one that would be darkest."""
    raw = encoded(Image.fromarray(RAMP), transparency=0)
    want = np.repeat((RAMP // 257).astype(np.uint8)[..., None], 3, axis=2)
    assert (want[0, 0] == 0).all() and (RAMP == 0).sum() == 1
    want[0, 0] = 255
    assert np.array_equal(pixels(raw), want)
    assert remarks(raw) == [
        "What is transparent was laid on white.",
        "Its 16 bits a pixel were scaled to 8.",
    ]


def test_12_bit_grey_is_scaled_from_12_bits():
    values = (RAMP // 16).astype(int)  # 0 to 4029
    pairs = values.reshape(-1, 2).tolist()
    packed = b"".join((a << 12 | b).to_bytes(3, "big") for a, b in pairs)
    raw = tiff(12, 1, packed)
    assert np.array_equal(pixels(raw)[..., 0], values * 255 // 4095)
    assert remarks(raw) == ["Its 12 bits a pixel were scaled to 8."]


FLOATS = (np.arange(32 * 48).reshape(32, 48) / 1535).astype(np.float32)  # 0 to 1


@pytest.mark.parametrize(
    "source",
    [
        encoded(Image.fromarray(FLOATS), "TIFF"),
        encoded(Image.fromarray(FLOATS), "TIFF", compression="tiff_lzw"),
        tiff(32, 3, FLOATS.astype("<f4").tobytes()),
        b"Pf\n48 32\n-1\n" + np.flipud(FLOATS).astype("<f4").tobytes(),
        Image.fromarray(FLOATS),
        FLOATS,
        FLOATS.astype(">f8"),
    ],
    ids=["TIFF", "packed TIFF", "TIFF by hand", "PFM", "picture", "float32", "big-endian float64"],
)
def test_floats_from_0_to_1_become_0_to_255(source):
    want = np.rint(FLOATS.astype(np.float64) * 255)
    assert want.min() == 0 and want.max() == 255
    assert np.array_equal(pixels(source), np.repeat(want[..., None], 3, axis=2))
    if isinstance(source, bytes):
        assert remarks(source) == ["Its numbers, from 0 to 1, were scaled to 8 bits a pixel."]


@pytest.mark.parametrize("mode", ["LA", "La", "RGBA", "RGBa"])
def test_what_is_half_transparent_is_half_white(mode):
    """Also with the colours multiplied by the opacity already, as some TIFF files have them."""
    picture = Image.new("LA", (32, 32), (100, 51))  # a fifth of 100 and four fifths of 255
    if mode.startswith("RGB"):
        picture = picture.convert("RGBA")
    assert abs(pixels(picture.convert(mode)).astype(int) - 224).max() <= 2  # of rounding


@pytest.mark.parametrize(
    "mode, value, rgb",
    [("L", 70, (70,) * 3), ("1", 1, (255,) * 3), ("CMYK", (0, 255, 255, 0), (255, 0, 0))],
)
def test_other_modes_become_rgb(mode, value, rgb):
    picture = Image.new(mode, (32, 32), value)
    for source in (picture, encoded(picture, "TIFF")):
        assert (pixels(source) == rgb).all()


FRAMES = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
MOVING, SEVERAL = (
    "It is animated: its first frame was taken.",
    "It holds several pictures: its first was taken.",
)


@pytest.mark.parametrize(
    "format, words",
    [
        ("GIF", MOVING),
        ("PNG", MOVING),
        ("WEBP", MOVING),
        ("AVIF", MOVING),
        ("TIFF", SEVERAL),
        ("MPO", SEVERAL),
    ],
)
def test_of_several_pictures_the_first_is_taken_and_a_remark_says_what_they_are(format, words):
    Image.init()
    if format not in Image.SAVE_ALL:
        pytest.skip(f"this Pillow does not write {format}")
    raw = encoded(FRAMES[0], format, save_all=True, append_images=FRAMES[1:])
    assert abs(pixels(raw).astype(int) - (255, 0, 0)).max() <= 3  # JPEG's rounding
    assert remarks(raw) == [words]
    alone = encoded(FRAMES[0], format)
    assert remarks(alone) == []


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


@pytest.mark.parametrize("size", [(20_000, 20_000), (10_000, 5_001), (2**31 - 1, 2**31 - 1)])
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


def test_photos_may_come_one_after_the_other():
    preprocess, photos = Preprocess(64, 48), [sample("chelsea"), COLOURS]
    want = preprocess(photos)
    assert not torch.equal(want[0], want[1])
    for several in ((p for p in photos), tuple(photos), map(np.asarray, photos)):
        assert torch.equal(preprocess(several), want)
    with io.BytesIO(encoded(photos[0])) as file:  # iterable, too, but one photo
        assert torch.equal(preprocess(file), want[:1])


@pytest.mark.parametrize("photos", [[], (), iter([]), {}], ids=lambda photos: type(photos).__name__)
def test_no_photo_at_all_is_refused(embedded, photos):
    with pytest.raises(PhotoError, match="no photo to prepare: the list is empty"):
        embedded.prepare(photos)


@pytest.mark.parametrize(
    "photos",
    [[[COLOURS]], [COLOURS, [COLOURS]], [None], torch.zeros(1, 3, 32, 32), torch.tensor(1)],
)
def test_lists_of_something_else_are_refused(embedded, photos):
    with pytest.raises(PhotoError, match="is no photo: expected a path.*one flat list"):
        embedded.prepare(photos)


def test_restore_shows_no_more_than_white_and_no_less_than_black():
    beyond = torch.tensor([9.0, -9.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert Preprocess(2, 1).restore(beyond).tolist() == [[[[1, 1, 1], [0, 0, 0]]]]


def test_restore_undoes_preprocessing():
    preprocess = Preprocess(96, 80)
    back = preprocess.restore(preprocess(sample()))
    assert back.dtype == np.float64 and back.min() >= 0 and back.max() <= 1
    np.testing.assert_allclose(back[0], np.asarray(preprocess.cropped(sample())) / 255, atol=1e-6)
