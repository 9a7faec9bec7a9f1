"""From photos to what a network was trained on, and back: :class:`Preprocess`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from ..errors import ModelError, PhotoError
from .images import MEAN, MOST_PIXELS, STD, Source, load_photo, several

#: Steps of a ``Compose`` that change the type, not the picture.
_CONVERSIONS = {
    "ToTensor", "MaybeToTensor", "PILToTensor", "ToImage", "ToPureTensor", "ConvertImageDtype",
    "ToDtype",
}  # fmt: skip
#: What timm takes where its data config is silent.
_TIMM = {
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": MEAN,
    "std": STD,
}


@dataclass(frozen=True)
class Preprocess:
    """From photos to what a network was trained on, and back to what it saw.

    Parameters
    ----------
    resize : int or (int, int)
        The length that the shorter side is resized to (antialiased); or height and width, whatever
        the photo's proportion.
    crop : int or (int, int)
        Side, or height and width, of the part in the middle that is kept.
    mean, std : tuple of float
        What each channel of the photo in [0, 1] is shifted and divided by: three for red, green and
        blue, one for a network of grey photos.
    interpolation : str
        "bilinear", "bicubic" or another of torchvision's ``InterpolationMode``.

    Raises
    ------
    ModelError
        If there are not as many means as deviations, neither one nor three, or a deviation is not
        positive; or the interpolation is none.

    Examples
    --------
    >>> from helpers import Preprocess, sample
    >>> lite = Preprocess(224, 224, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    >>> x = lite(sample("coffee"))
    >>> tuple(x.shape), lite.restore(x).shape
    ((1, 3, 224, 224), (1, 224, 224, 3))
    """

    resize: int | tuple[int, int]
    crop: int | tuple[int, int]
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        known = all(map(math.isfinite, (*self.mean, *self.std))) and min(self.std, default=0) > 0
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3) or not known:
            raise ModelError(
                f"Photos have three channels, or one if they are grey, each with a mean and a "
                f"deviation > 0; got {self.mean} and {self.std}. Other inputs are made by your own "
                "function, and go to saliency_any and grad_cam_any as tensors (N, C, H, W)."
            )
        modes = [mode.value for mode in InterpolationMode]
        if self.interpolation not in modes:
            raise ModelError(
                f"There is no interpolation {self.interpolation!r}; choose one of "
                f"{', '.join(modes)}."
            )

    @classmethod
    def of(cls, source) -> Preprocess:
        """The same as torchvision or timm do for a network.

        Parameters
        ----------
        source
            torchvision's weights (``ResNet50_Weights.DEFAULT``) or their ``transforms()``; a
            ``Compose`` of resizing, central cropping, conversions and normalising; a network of
            timm's, or the dict that ``timm.data.resolve_data_config`` gives for it.

        Raises
        ------
        ModelError
            If it holds a step that is none of these, or no size. What can be called is tried on a
            picture, too, and has to give the same.

        Examples
        --------
        >>> from torchvision.models import ResNet50_Weights
        >>> found = Preprocess.of(ResNet50_Weights.IMAGENET1K_V2)
        >>> found.resize, found.crop, found.interpolation
        (232, 224, 'bilinear')
        """
        config = getattr(source, "pretrained_cfg", source)
        if isinstance(config, Mapping):
            return cls(**_timms(config))
        try:
            transforms = source.transforms() if isinstance(source, Enum) else source
            found = cls(**_torchvisions(transforms))
            bands = [Image.effect_noise((97, 64), 64) for _ in found.mean]
            picture = Image.merge("RGB", bands) if len(bands) == 3 else bands[0]
            want, got = transforms(picture), found(picture)[0]
        except ModelError:
            raise
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"These transforms cannot be read ({type(error).__name__}: {error}). Write down "
                "what they do: Preprocess(resize, crop, mean, std, interpolation)."
            ) from error
        same = isinstance(want, torch.Tensor) and want.shape == got.shape
        if not same or (want - got).abs().max() > 1e-3:
            raise ModelError(
                "These transforms do something else than resize, crop, scale to [0, 1] and "
                "normalise, in this order. Write down what they do: Preprocess(resize, crop, mean, "
                "std, interpolation)."
            )
        return found

    def cropped(self, photo: Source) -> Image.Image:
        """The part of the photo that the network sees, as a picture of the size ``crop``."""
        picture = load_photo(photo)
        if len(self.mean) == 1:
            picture = picture.convert("L")
        width, height = picture.size
        whole = isinstance(self.resize, int)
        # a strip of 16 x 3 million pixels passes `load_photo`, and would not fit in memory resized
        if whole and max(width, height) / min(width, height) * self.resize**2 > MOST_PIXELS:
            raise PhotoError(
                f"The picture is too long for its width ({width}x{height} pixels). Crop it first."
            )
        resized = v2.functional.resize(picture, self.resize, InterpolationMode(self.interpolation))
        return v2.functional.center_crop(resized, self.crop)

    def __call__(self, photos: Source | Iterable[Source]) -> torch.Tensor:
        """One photo, or several: float32 ``(N, 3, height, width)`` of the size ``crop``.

        Several are a list, or whatever else gives one after the other. A network of grey photos
        gets ``(N, 1, height, width)``. Errors: :func:`load_photo`; no photo at all is a
        ``PhotoError``, too.
        """
        batch = list(photos) if several(photos) else [photos]
        if not batch:
            raise PhotoError("There is no photo to prepare: the list is empty.")
        pixels = torch.stack([v2.functional.to_image(self.cropped(photo)) for photo in batch])
        scaled = v2.functional.to_dtype(pixels, torch.float32, scale=True)
        return v2.functional.normalize(scaled, list(self.mean), list(self.std))

    def restore(self, x: torch.Tensor) -> np.ndarray:
        """Undo the normalisation, to show ``(N, C, H, W)``: float64 ``(N, H, W, 3)`` in [0, 1].

        Raises
        ------
        ValueError
            If ``x`` has not as many channels as there are means.
        """
        if x.ndim != 4 or x.shape[1] != len(self.mean):
            raise ValueError(
                f"Expected photos (N, {len(self.mean)}, H, W), as they were prepared, "
                f"got {tuple(x.shape)}."
            )
        mean, std = (torch.tensor(c).view(-1, 1, 1) for c in (self.mean, self.std))
        pixels = x.detach().cpu().double() * std + mean
        return pixels.clamp(0, 1).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


#: The book's networks' mean and deviation, whatever the size.
IMAGENET = Preprocess(256, 224)


def _timms(config: Mapping) -> dict:
    """The fields of a :class:`Preprocess` from timm's data config."""
    config = {**_TIMM, **{key: value for key, value in config.items() if value is not None}}
    if "input_size" not in config:
        raise ModelError(
            "This is no data config of timm's: it has no input_size. Pass "
            "timm.data.resolve_data_config(model=network)."
        )
    _, *size = config["input_size"]
    mode, scaled = config["crop_mode"], [math.floor(side / config["crop_pct"]) for side in size]
    if mode == "border" or mode == "center" and size[0] != size[1]:
        raise ModelError(
            f"timm's crop_mode {mode!r} for {size[0]}x{size[1]} pixels is not known here; make the "
            "photos with timm's own transform, and pass tensors to saliency_any and grad_cam_any."
        )
    return {
        "resize": tuple(scaled) if mode == "squash" else scaled[0],
        "crop": size[0] if size[0] == size[1] else tuple(size),
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "interpolation": config["interpolation"],
    }


def _torchvisions(transforms) -> dict:
    """The fields of a :class:`Preprocess` from torchvision's presets, or a ``Compose``."""
    if hasattr(transforms, "resize_size"):
        found = {name: getattr(transforms, name) for name in ("mean", "std", "interpolation")}
        found.update(resize=transforms.resize_size, crop=transforms.crop_size)
    else:
        found = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
        for step in getattr(transforms, "transforms", [transforms]):
            kind = type(step).__name__
            if kind == "Resize":
                found.update(resize=step.size, interpolation=step.interpolation)
            elif kind == "CenterCrop":
                found.update(crop=step.size)
            elif kind == "Normalize":
                found.update(mean=step.mean, std=step.std)
            elif kind not in _CONVERSIONS:
                raise ModelError(
                    f"Transforms of torchvision's or timm's are read, or a data config of timm's; "
                    f"{kind} is none that is known here. Write down what it does: "
                    "Preprocess(resize, crop, mean, std, interpolation)."
                )
    if "resize" not in found:
        raise ModelError("These transforms have no Resize, so that photos may have any size.")
    sizes = found["resize"], found.get("crop", found["resize"])
    resize, crop = ((side,) if isinstance(side, int) else tuple(side) for side in sizes)
    return {
        "resize": resize[0] if len(resize) == 1 else resize,
        "crop": crop[0] if len(set(crop)) == 1 else crop,
        "mean": tuple(map(float, found["mean"])),
        "std": tuple(map(float, found["std"])),
        "interpolation": InterpolationMode(found["interpolation"]).value,
    }
