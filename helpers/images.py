"""Photos: opening them safely, preparing them for a network, and the samples of the book."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from skimage import data as skimage_data
from torchvision.transforms import v2

from .errors import PhotoError

#: ImageNet's channel means and standard deviations (R, G, B; photos scaled to [0, 1]).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

#: Photos in scikit-image's wheel, CC0 or public domain.
SAMPLES = ("chelsea", "coffee", "rocket", "astronaut")

MOST_PIXELS = 50_000_000
FEWEST_PIXELS_A_SIDE = 16
ORIENTATION = 0x0112  # of EXIF's tags

Source = str | PathLike | bytes | BinaryIO | np.ndarray | Image.Image


def sample(name: str = "chelsea") -> Image.Image:
    """A bundled photo as an RGB picture; needs no network.

    Raises
    ------
    PhotoError
        If there is no sample of that name.
    """
    if name not in SAMPLES:
        raise PhotoError(f"There is no sample {name!r}; choose one of {', '.join(SAMPLES)}.")
    return Image.fromarray(getattr(skimage_data, name)())


def load_photo(source: Source) -> Image.Image:
    """Open any picture as RGB, 8 bits a channel, upright.

    EXIF rotation is applied, transparency is laid on white, grey, palette, CMYK and 16-bit
    pictures are converted, and of an animation the first frame is taken.

    Parameters
    ----------
    source
        A path, the bytes of a file, a file object, a PIL picture, or an array ``(H, W)``,
        ``(H, W, 3)`` or ``(H, W, 4)``: uint8 or uint16, or float in [0, 1].

    Raises
    ------
    PhotoError
        If it is no picture, is damaged, or has too many or too few pixels; the size is read
        from the header, before any pixel is decoded.
    """
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
            f"{name} has too many pixels; at most {MOST_PIXELS / 1e6:.0f} million are read. Scale it down first."
        ) from None
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files
        raise PhotoError(
            f"{name} could not be read as a picture ({error}). Is it complete? Try saving it as PNG or JPEG."
        ) from error


def remarks(file: bytes) -> list[str]:
    """What :func:`load_photo` does to a file that is not simply a photo, a sentence each; decodes nothing.

    For files that it takes; most of them need no remark.
    """
    with Image.open(io.BytesIO(file)) as picture:
        mode = picture.mode
        return [
            words
            for holds, words in [
                (
                    getattr(picture, "is_animated", False),
                    "It is animated: its first frame was taken.",
                ),
                (
                    picture.getexif().get(ORIENTATION, 1) != 1,
                    "It was turned upright, as its EXIF data ask for.",
                ),
                (_transparent(picture), "What is transparent was laid on white."),
                (mode.startswith("I"), "Its 16 bits a pixel were scaled to 8."),
                (
                    mode in ("CMYK", "YCbCr", "LAB", "HSV"),
                    f"Its colours were converted from {mode} to RGB.",
                ),
            ]
            if holds
        ]


def _transparent(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise PhotoError(
            f"An array of shape {array.shape} is no picture: expected (H, W), (H, W, 3) or (H, W, 4)."
        )
    if array.size == 0:
        raise PhotoError(f"An array of shape {array.shape} holds no pixel.")
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise PhotoError(
                "A float picture must lie in [0, 1]; divide by 255, or convert it to uint8."
            )
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype == np.uint16:
        array = (array // 257).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise PhotoError(
            f"An array of {array.dtype} is no picture: expected uint8, uint16, or float in [0, 1]."
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _to_rgb(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise PhotoError(
            f"The picture has {width}x{height} pixels; at most {MOST_PIXELS / 1e6:.0f} million are read. Scale it down first."
        )
    if min(width, height) < FEWEST_PIXELS_A_SIDE:
        raise PhotoError(
            f"The picture has {width}x{height} pixels; at least {FEWEST_PIXELS_A_SIDE} a side are needed."
        )
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(
        "I"
    ):  # 16 bits a pixel: Pillow's own conversion would clip, not scale
        picture = _from_array(np.asarray(picture).clip(0, 65535).astype(np.uint16))
    if _transparent(picture):
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


@dataclass(frozen=True)
class Preprocess:
    """From photos to what a network was trained on, and back to what it saw.

    The shorter side is resized to ``resize`` (bilinear, antialiased), the central
    ``crop`` x ``crop`` pixels are kept, and each channel is shifted and scaled by
    ImageNet's :data:`MEAN` and :data:`STD`.
    """

    resize: int
    crop: int

    def cropped(self, photo: Source) -> Image.Image:
        """The part of the photo that the network sees, ``crop`` x ``crop``."""
        picture = load_photo(photo)
        width, height = picture.size
        # a strip of 16 x 3 million pixels passes `load_photo`, and would not fit in memory resized
        if max(width, height) / min(width, height) * self.resize**2 > MOST_PIXELS:
            raise PhotoError(
                f"The picture is too long for its width ({width}x{height} pixels). Crop it first."
            )
        resized = v2.functional.resize(picture, [self.resize], antialias=True)
        return v2.functional.center_crop(resized, [self.crop, self.crop])

    def __call__(self, photos: Source | Sequence[Source]) -> torch.Tensor:
        """One photo, or a list of them: float32 ``(N, 3, crop, crop)``, about -2.1 to 2.6."""
        batch = photos if isinstance(photos, (list, tuple)) else [photos]
        pixels = [
            v2.functional.to_dtype(
                v2.functional.to_image(self.cropped(p)), torch.float32, scale=True
            )
            for p in batch
        ]
        return v2.functional.normalize(torch.stack(pixels), MEAN, STD)

    @staticmethod
    def restore(x: torch.Tensor) -> np.ndarray:
        """Undo the normalisation: ``(N, 3, H, W)`` to float64 ``(N, H, W, 3)`` in [0, 1], for showing."""
        pixels = x.detach().cpu().double() * torch.tensor(STD).view(3, 1, 1) + torch.tensor(
            MEAN
        ).view(3, 1, 1)
        return pixels.clamp(0, 1).permute(0, 2, 3, 1).numpy()
