"""Photos: opening them safely, and the samples of the book."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from os import PathLike
from typing import BinaryIO

import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageOps
from skimage import data as skimage_data

from ..errors import PhotoError

#: ImageNet's channel means and standard deviations (R, G, B; photos scaled to [0, 1]).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

#: Photos in the wheels of scikit-image and matplotlib, CC0 or public domain.
SAMPLES = ("chelsea", "coffee", "grace_hopper", "rocket", "astronaut")

MOST_PIXELS = 50_000_000
FEWEST_PIXELS_A_SIDE = 16
ORIENTATION = 0x0112  # of EXIF's tags
BITS_A_SAMPLE = 258  # of TIFF's tags

#: Formats whose further pictures are frames of an animation, as Pillow names them. Those of a TIFF
#: are pages, those of an MPO are other views of what a camera saw.
ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF", "FLI")
COLLECTIONS = ("TIFF", "MPO", "DCX")

Source = str | PathLike | bytes | BinaryIO | np.ndarray | Image.Image
_SOURCES = (str, PathLike, bytes, bytearray, memoryview, np.ndarray, Image.Image)


def sample(name: str = "chelsea") -> Image.Image:
    """A bundled photo as an RGB picture; needs no network.

    Raises
    ------
    PhotoError
        If there is no sample of that name.

    Examples
    --------
    >>> sample("coffee").size
    (600, 400)
    """
    if name not in SAMPLES:
        raise PhotoError(f"There is no sample {name!r}; choose one of {', '.join(SAMPLES)}.")
    if name == "grace_hopper":  # the one that comes with matplotlib
        with get_sample_data("grace_hopper.jpg") as file:
            return Image.open(file).convert("RGB")
    return Image.fromarray(getattr(skimage_data, name)())


def load_photo(source: Source) -> Image.Image:
    """Open any picture as RGB, 8 bits a channel, upright.

    EXIF rotation is applied, transparency is laid on white, grey, palette, CMYK, 16-bit and
    floating-point pictures are converted, and of several frames or pages the first is taken.

    Parameters
    ----------
    source
        A path, the bytes of a file, a file object, a PIL picture, or an array ``(H, W)``,
        ``(H, W, 3)`` or ``(H, W, 4)``: uint8 or uint16, or float in [0, 1].

    Raises
    ------
    PhotoError
        If it is no picture, is damaged, or has too many or too few pixels; the size is read
        from the header, before any pixel is decoded. Also if its numbers lie outside what their
        type means (floats outside [0, 1]), or are all so small that it would be black.

    Examples
    --------
    >>> import numpy as np
    >>> load_photo(np.zeros((20, 30), np.uint8)).mode
    'RGB'
    """
    if not isinstance(source, _SOURCES) and not hasattr(source, "read"):
        raise PhotoError(
            f"{type(source).__name__} is no photo: expected a path, a file or its bytes, a PIL "
            "picture or an array (H, W, 3); several photos come as one flat list."
        )
    if isinstance(source, np.ndarray):
        return load_photo(_from_array(source))
    file = io.BytesIO(source) if isinstance(source, (bytes, bytearray, memoryview)) else source
    name = str(source) if isinstance(source, (str, PathLike)) else "this file"
    try:
        with warnings.catch_warnings():
            # our own limit is lower than the one Pillow warns at
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if isinstance(source, Image.Image):  # opened, but perhaps not yet decoded
                return _to_rgb(source)
            with Image.open(file) as picture:
                return _to_rgb(picture)
    except PhotoError:
        raise
    except FileNotFoundError:
        raise PhotoError(f"There is no file {name}.") from None
    except Image.DecompressionBombError:
        raise PhotoError(
            f"{name} has too many pixels; at most {MOST_PIXELS / 1e6:.0f} million are read. "
            "Scale it down first."
        ) from None
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files
        raise PhotoError(
            f"{name} could not be read as a picture ({error}). "
            "Is it complete? Try saving it as PNG or JPEG."
        ) from error


def remarks(file: bytes) -> list[str]:
    """What :func:`load_photo` does to a file that is not simply a photo, a sentence each.

    For files that it takes; most of them need no remark. Decodes nothing.
    """
    with Image.open(io.BytesIO(file)) as picture:
        mode, several = picture.mode, getattr(picture, "is_animated", False)
        return [
            words
            for holds, words in [
                (
                    several and picture.format in ANIMATIONS,
                    "It is animated: its first frame was taken.",
                ),
                (
                    several and picture.format in COLLECTIONS,
                    "It holds several pictures: its first was taken.",
                ),
                (
                    picture.getexif().get(ORIENTATION) in range(2, 9),
                    "It was turned upright, as its EXIF data ask for.",
                ),
                (_transparent(picture), "What is transparent was laid on white."),
                (mode.startswith("I"), f"Its {_bits(picture)} bits a pixel were scaled to 8."),
                (mode == "F", "Its numbers, from 0 to 1, were scaled to 8 bits a pixel."),
                (
                    mode in ("CMYK", "YCbCr", "LAB", "HSV"),
                    f"Its colours were converted from {mode} to RGB.",
                ),
            ]
            if holds
        ]


def _transparent(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info


def _bits(picture: Image.Image) -> int:
    """How many bits the numbers of a picture of mode "I..." have: 16, or 12 in some TIFF files."""
    return 12 if getattr(picture, "tag_v2", {}).get(BITS_A_SAMPLE) == (12,) else 16


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise PhotoError(
            f"An array of shape {array.shape} is no picture: "
            "expected (H, W), (H, W, 3) or (H, W, 4)."
        )
    if array.size == 0:
        raise PhotoError(f"An array of shape {array.shape} holds no pixel.")
    return Image.fromarray(_to_bytes(array))


def _to_bytes(values: np.ndarray, bits: int = 16) -> np.ndarray:
    """The same picture in uint8; uint16 is taken for ``bits`` bits, and floats for [0, 1]."""
    white = 2**bits - 1
    if np.issubdtype(values.dtype, np.floating):
        white = 1
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise PhotoError(
                "A float picture must lie in [0, 1]; divide by 255, or convert it to uint8."
            )
        scaled = np.rint(values * 255).astype(np.uint8)
    elif values.dtype.newbyteorder("=") == np.uint16:
        scaled = (values.astype(np.uint32) * 255 // white).astype(np.uint8)
    elif values.dtype == np.uint8:
        return values
    else:
        raise PhotoError(
            f"An array of {values.dtype} is no picture: expected uint8, uint16, or float in [0, 1]."
        )
    if scaled.max() == 0 < values.max():
        raise PhotoError(
            f"The picture would be black: its largest number is {values.max()}, where {white} is "
            "white. If its numbers go from 0 to 255, convert it to uint8; else scale it up."
        )
    return scaled


def _from_whole_numbers(picture: Image.Image, bits: int) -> Image.Image:
    """A picture of mode "I..." as 8 bits, scaled; Pillow's own conversion would clip."""
    values = np.asarray(picture)
    if values.min() < 0 or values.max() >= 2**bits:
        raise PhotoError(
            f"The picture's numbers go from {values.min()} to {values.max()}, where {bits} bits go "
            f"from 0 to {2**bits - 1}. Scale it to 8 bits (uint8) first."
        )
    scaled = _to_bytes(values.astype(np.uint16), bits)
    if "transparency" in picture.info:  # one number stands for all that is transparent: white
        scaled = np.where(values == picture.info["transparency"], np.uint8(255), scaled)
    return Image.fromarray(scaled)


def _to_rgb(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise PhotoError(
            f"The picture has {width}x{height} pixels; at most {MOST_PIXELS / 1e6:.0f} million are "
            "read. Scale it down first."
        )
    if min(width, height) < FEWEST_PIXELS_A_SIDE:
        raise PhotoError(
            f"The picture has {width}x{height} pixels; "
            f"at least {FEWEST_PIXELS_A_SIDE} a side are needed."
        )
    bits = _bits(picture)  # what is turned is a copy, which no longer knows its file
    try:
        picture = ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF, of which Pillow makes many kinds: the pixels are whole
        picture.load()
    if picture.mode.startswith("I"):
        picture = _from_whole_numbers(picture, bits)
    elif picture.mode == "F":
        picture = Image.fromarray(_to_bytes(np.asarray(picture)))
    elif picture.mode == "La":  # Pillow takes these two steps one at a time only
        picture = picture.convert("LA")
    if _transparent(picture):
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def several(photos) -> bool:
    """Whether these are photos, not one: a path, bytes, a file or an array are iterable, too."""
    one = isinstance(photos, (*_SOURCES, torch.Tensor)) or hasattr(photos, "read")
    return isinstance(photos, Iterable) and not one
