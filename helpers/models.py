"""The one way to get a network: ``load_model("embedded")`` or ``load_model("vgg16")``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import nn
from torchvision.models import VGG16_Weights, vgg16

from .errors import ModelError, ModelUnavailable
from .images import Preprocess, Source
from .network import VGG16

ASSETS = Path(__file__).with_name("assets")
WEIGHTS = ASSETS / "embedded.safetensors"
CARD = ASSETS / "embedded.json"

#: What `load_model` accepts.
MODELS = ("embedded", "vgg16")

#: House cats among ImageNet's classes; the embedded network knows three of them.
CATS = ("tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat")


@dataclass(frozen=True)
class Model:
    """A network and all one needs to ask it.

    Attributes
    ----------
    name : str
        One of :data:`MODELS`.
    network : torch.nn.Module
        ``features``, ``avgpool``, ``classifier``; in eval mode, float32, on ``device``.
    class_names : tuple of str
        One a score, in order.
    preprocess : Preprocess
        From photos to ``(N, 3, input_size, input_size)``, on the CPU; see :meth:`prepare`.
    input_size : int
        Side of what the network sees, in pixels.
    device : torch.device
        Where the network is.
    """

    name: str
    network: nn.Module
    class_names: tuple[str, ...]
    preprocess: Preprocess
    input_size: int
    device: torch.device

    def prepare(self, photos: Source | list[Source]) -> torch.Tensor:
        """Preprocessed photos on the network's device: float32 ``(N, 3, input_size, input_size)``."""
        return self.preprocess(photos).to(self.device)

    def class_index(self, name: str) -> int:
        """The index of a class by its name, upper or lower case.

        Raises
        ------
        KeyError
            If there is none; the message names classes that contain the word.
        """
        names = [known.lower() for known in self.class_names]
        if name.lower() in names:
            return names.index(name.lower())
        near = [known for known in self.class_names if name.lower() in known.lower()][:5]
        hint = f"did you mean {', '.join(near)}?" if near else "model.class_names lists them."
        raise KeyError(f"{self.name} knows no class {name!r}; {hint}")

    @torch.inference_mode()
    def likeliest(self, x: torch.Tensor, names: Sequence[str]) -> int:
        """The index of the class in ``names`` with the highest score for the one photo ``x`` ``(1, 3, H, W)``.

        Names that this network does not know are passed over.

        Raises
        ------
        KeyError
            If it knows none of them.
        ValueError
            If ``x`` holds more than one photo.
        """
        known = [self.class_names.index(name) for name in names if name in self.class_names]
        if not known:
            raise KeyError(
                f"{self.name} knows none of {', '.join(names)}; model.class_names lists its classes."
            )
        if len(x) != 1:
            raise ValueError(f"Expected one photo, got {len(x)}.")
        scores = self.network(x)[0]
        return max(known, key=lambda index: scores[index].item())

    @torch.inference_mode()
    def top(self, x: torch.Tensor, k: int = 5) -> list[list[tuple[str, float]]]:
        """For each photo of ``x`` the ``k`` most probable classes: ``[(name, probability), ...]``."""
        probabilities, indices = self.network(x).softmax(dim=1).topk(k)
        return [
            [(self.class_names[i], p) for i, p in zip(row_i, row_p)]
            for row_i, row_p in zip(indices.tolist(), probabilities.tolist())
        ]


def choose_device(name: str | None = None) -> torch.device:
    """The device asked for; else that of ``EXPLAIN_DEVICE``; else CUDA, Apple's MPS or the CPU, the first there is."""
    name = name or os.environ.get("EXPLAIN_DEVICE")
    if name:
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def load_model(name: str = "embedded", device: str | None = None, assets: Path = ASSETS) -> Model:
    """Load a network with its class names and preprocessing.

    Parameters
    ----------
    name : {"embedded", "vgg16"}
        The small network whose weights come with this package, or torchvision's VGG-16
        trained on ImageNet (528 MB, fetched once).
    device : str, optional
        "cpu", "cuda", "mps"; see :func:`choose_device`.
    assets : Path, optional
        Another folder with the embedded network's two files, :data:`WEIGHTS` and :data:`CARD`.

    Raises
    ------
    ModelError
        If the name is another.
    ModelUnavailable
        If VGG-16 cannot be fetched, or the embedded weights are missing or damaged.
    """
    if name not in MODELS:
        raise ModelError(f"There is no model {name!r}; choose one of {', '.join(MODELS)}.")
    network, class_names, preprocess = _embedded(assets) if name == "embedded" else _vgg16()
    target = choose_device(device)
    network = network.to(target).eval()
    return Model(name, network, class_names, preprocess, preprocess.crop, target)


def _embedded(assets: Path) -> tuple[nn.Module, tuple[str, ...], Preprocess]:
    weights, card = assets / WEIGHTS.name, assets / CARD.name
    try:
        facts, raw = json.loads(card.read_text()), weights.read_bytes()
    except OSError as error:
        raise ModelUnavailable(
            f"{error.filename} is missing; install the package again."
        ) from error
    except ValueError as error:
        raise ModelUnavailable(
            f"{card.name} is damaged ({error}); install the package again."
        ) from error
    digest = hashlib.sha256(raw).hexdigest()
    if digest != facts["sha256"]:
        raise ModelUnavailable(
            f"{weights.name} is damaged (SHA-256 {digest[:12]}..., expected {facts['sha256'][:12]}...); install the package again."
        )
    names = tuple(facts["class_names"])
    network = VGG16(len(names), **facts["architecture"])
    # float16 on disk, float32 at work
    network.load_state_dict(
        {key: value.float() for key, value in safetensors.torch.load(raw).items()}
    )
    return network, names, Preprocess(facts["resize"], facts["crop"])


def _vgg16() -> tuple[nn.Module, tuple[str, ...], Preprocess]:
    weights = VGG16_Weights.IMAGENET1K_V1
    try:
        network = vgg16(weights=weights)
    except (OSError, RuntimeError) as error:  # no network; or a download whose hash is wrong
        raise ModelUnavailable(
            f"VGG-16's weights could not be fetched ({error}). They need a network once; "
            'without one, load_model("embedded") works everywhere.'
        ) from error
    transform = weights.transforms()
    return (
        network,
        tuple(weights.meta["categories"]),
        Preprocess(transform.resize_size[0], transform.crop_size[0]),
    )
