"""The book's two networks, ``load_model("embedded")`` and ``load_model("vgg16")``, as a `Model`."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from PIL import Image
from torch import nn
from torchvision.models import VGG16_Weights, vgg16

from ..checks import check_any_photos, check_network, evaluating
from ..errors import ModelError, ModelUnavailable
from ..targets import Scores, floats_of, scores_of
from .images import Source
from .preprocess import IMAGENET, Preprocess
from .vgg import VGG16

ASSETS = Path(__file__).parents[1] / "assets"
WEIGHTS = ASSETS / "embedded.safetensors"
CARD = ASSETS / "embedded.json"

#: What `load_model` accepts.
MODELS = ("embedded", "vgg16")

#: House cats among ImageNet's classes; the embedded network knows three of them.
CATS = ("tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat")

#: Of each sample the names that fit it; none for the astronaut, for whom the embedded network has
#: no class.
FITS = {
    "chelsea": CATS,
    "coffee": ("espresso",),
    "grace_hopper": ("military uniform",),
    "rocket": ("projectile", "missile"),
    "astronaut": (),
}


@dataclass(frozen=True)
class Model:
    """A network and all one needs to ask it.

    Attributes
    ----------
    name : str
        One of :data:`MODELS`, or what :meth:`of` was told.
    network : torch.nn.Module
        In eval mode, on ``device``. Those of :func:`load_model` are float32, and have
        ``features``, ``avgpool`` and ``classifier``.
    class_names : tuple of str
        One a score, in order.
    preprocess : Preprocess
        From photos to ``(N, 3, input_size, input_size)``, on the CPU; see :meth:`prepare`.
    input_size : int or (int, int)
        Side of what the network sees, in pixels; or its height and width.
    device : torch.device
        Where the network is.
    """

    name: str
    network: nn.Module
    class_names: tuple[str, ...]
    preprocess: Preprocess
    input_size: int | tuple[int, int]
    device: torch.device

    @classmethod
    def of(
        cls,
        network: nn.Module,
        class_names: Sequence[str] | None = None,
        preprocess: Preprocess | object = IMAGENET,
        scores: Callable | None = None,
        name: str | None = None,
    ) -> Model:
        """A model of any network, where it is, as it is; in eval mode from now on.

        The functions for any network ask it (:func:`helpers.all_maps_any`); the explorer and all
        else that walks through VGG's layers one by one refuses it in words, unless it is a VGG.

        Parameters
        ----------
        network : nn.Module
            From photos to class scores.
        class_names : sequence of str, optional
            One a score; without them the classes are called "0", "1" and so on.
        preprocess : Preprocess or what it reads
            See :meth:`Preprocess.of`; unless given, as torchvision's first networks for ImageNet.
        scores : callable, optional
            From the network's answer to its class scores ``(N, classes)``, where that is a dict, a
            tuple or an object: ``lambda answer: answer.logits``. See :class:`helpers.Scores`.
        name : str, optional
            For titles and messages; else the name of the network's class.

        Raises
        ------
        ModelError
            If it does not answer a photo of that size with finite class scores, or there are not
            as many names as scores.

        Examples
        --------
        >>> import torch
        >>> from helpers import Model, Preprocess, sample
        >>> network = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        ...     torch.nn.Flatten(), torch.nn.Linear(8, 2),
        ... )
        >>> model = Model.of(network, ["cat", "dog"], Preprocess(32, 32))
        >>> x = model.prepare(sample("chelsea"))
        >>> sorted(name for name, probability in model.top(x)[0])
        ['cat', 'dog']
        """
        network = check_network(network)
        name = name or type(network).__name__
        network = Scores(network, scores) if scores else network
        if not isinstance(preprocess, Preprocess):
            preprocess = Preprocess.of(preprocess)
        like = floats_of(network)
        x = preprocess(Image.new("RGB", (64, 64), "grey")).to(like)
        # no inference mode: what a network keeps of its first pass could not be trained later
        with torch.no_grad(), evaluating(network):
            answer = scores_of(network, x)
        if isinstance(class_names, (str, Mapping)):
            raise ModelError("Class names are a list, one a score and in their order.")
        given = range(answer.shape[1]) if class_names is None else class_names
        class_names = tuple(map(str, given))
        if len(class_names) != answer.shape[1]:
            raise ModelError(
                f"{name} has {answer.shape[1]} scores, and {len(class_names)} names are given."
            )
        return cls(name, network.eval(), class_names, preprocess, preprocess.crop, like.device)

    def prepare(self, photos: Source | Iterable[Source]) -> torch.Tensor:
        """Photos preprocessed, on ``device``: ``(N, 3, input_size, input_size)``.

        Of the network's dtype, float32 unless it was converted. One photo, or several as a list or
        whatever else gives one after the other. Errors: :func:`helpers.load_photo`; no photo at all
        is a ``PhotoError``, too.
        """
        return self.preprocess(photos).to(self.device, floats_of(self.network).dtype)

    def class_index(self, name: str) -> int:
        """The index of a class by its name; in upper or lower case, if none is spelled just so.

        Raises
        ------
        KeyError
            If there is none; the message names classes that contain the word, or are like it.
        """
        if name in self.class_names:
            return self.class_names.index(name)
        names = [known.lower() for known in self.class_names]
        if name.lower() in names:
            return names.index(name.lower())
        near = [known for known in self.class_names if name.lower() in known.lower()][:5]
        alike = difflib.get_close_matches(name.lower(), names, n=3)
        near = near or [self.class_names[names.index(one)] for one in alike]
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise KeyError(f"{self.name} knows no class {name!r}; {hint}model.class_names lists them.")

    @torch.no_grad()
    def likeliest(self, x: torch.Tensor, names: Sequence[str]) -> int:
        """Which class in ``names`` has the highest score for one photo ``(1, 3, H, W)``: its index.

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
                f"{self.name} knows none of {', '.join(names)}; "
                "model.class_names lists its classes."
            )
        if len(check_any_photos(x)) != 1:
            raise ValueError(f"Expected one photo, got {len(x)}.")
        with evaluating(self.network):
            scores = scores_of(self.network, x)[0]
        return max(known, key=lambda index: scores[index].item())

    @torch.no_grad()
    def top(self, x: torch.Tensor, k: int = 5) -> list[list[tuple[str, float]]]:
        """The ``k`` most probable classes of each photo: ``[(name, probability), ...]``.

        Errors as :func:`helpers.saliency_any`.
        """
        with evaluating(self.network):
            scores = scores_of(self.network, check_any_photos(x))
        probabilities, indices = scores.softmax(dim=1).topk(min(k, len(self.class_names)))
        return [
            [(self.class_names[i], p) for i, p in zip(row_i, row_p, strict=True)]
            for row_i, row_p in zip(indices.tolist(), probabilities.tolist(), strict=True)
        ]


def device_wish(name: str | None = None) -> str | None:
    """The device asked for, here or by ``EXPLAIN_DEVICE``; None if none is."""
    return name or os.environ.get("EXPLAIN_DEVICE") or None


def choose_device(name: str | None = None) -> torch.device:
    """The device asked for; else that of ``EXPLAIN_DEVICE``; else CUDA, MPS or the CPU.

    Without a wish it is the first of these three that there is (MPS is Apple's).

    Raises
    ------
    ModelError
        If the device asked for is none, or not one of this machine.

    Examples
    --------
    >>> choose_device("cpu")
    device(type='cpu')
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    choices = [kind for kind, there in available.items() if there] + ["cpu"]
    wish = device_wish(name)
    if not wish:
        return torch.device(choices[0])
    try:
        device = torch.device(wish)
        torch.empty(1, device=device)  # "cuda:7" is a device, but is it here?
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ModelError(
            f"{'The device' if name else 'EXPLAIN_DEVICE'} is {str(wish)!r}, which cannot be used "
            f"here; choose one of {', '.join(choices)}."
        ) from error
    return device


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
        If the name is another, or the device is none of this machine.
    ModelUnavailable
        If VGG-16 cannot be fetched, or any weights are missing or damaged.

    Examples
    --------
    >>> from helpers import load_model, sample
    >>> model = load_model("embedded")
    >>> x = model.prepare(sample("coffee"))
    >>> tuple(x.shape), model.top(x, k=1)[0][0][0] in model.class_names
    ((1, 3, 160, 160), True)
    """
    if name not in MODELS:
        raise ModelError(f"There is no model {name!r}; choose one of {', '.join(MODELS)}.")
    target = choose_device(device)
    network, class_names, preprocess = _embedded(assets) if name == "embedded" else _vgg16()
    network = network.to(target, torch.float32).eval()  # whatever the default dtype is
    return Model(name, network, class_names, preprocess, preprocess.crop, target)


def read_weights(weights: Path, card: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """The facts on a card (JSON) and the weights that it vouches for by their SHA-256, as float32.

    They are float16 on disk. What is missing or damaged is a ``ModelUnavailable``.
    """
    try:
        facts, raw = json.loads(card.read_text()), weights.read_bytes()
        expected = facts["sha256"]
    except OSError as error:
        raise ModelUnavailable(
            f"{error.filename} is missing; install the package again."
        ) from error
    except (ValueError, KeyError, TypeError) as error:  # no JSON, or JSON of another kind
        raise ModelUnavailable(
            f"{card.name} is damaged ({error}); install the package again."
        ) from error
    digest = hashlib.sha256(raw).hexdigest()
    if digest != expected:
        raise ModelUnavailable(
            f"{weights.name} is damaged (SHA-256 {digest[:12]}..., expected {expected[:12]}...); "
            "install the package again."
        )
    return facts, {key: value.float() for key, value in safetensors.torch.load(raw).items()}


def _embedded(assets: Path) -> tuple[nn.Module, tuple[str, ...], Preprocess]:
    facts, state = read_weights(assets / WEIGHTS.name, assets / CARD.name)
    try:
        names = tuple(facts["class_names"])
        network = VGG16(len(names), **facts["architecture"])
        network.load_state_dict(state)
        return network, names, Preprocess(facts["resize"], facts["crop"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelUnavailable(
            f"{CARD.name} does not fit {WEIGHTS.name} ({error}); install the package again."
        ) from error


def _vgg16() -> tuple[nn.Module, tuple[str, ...], Preprocess]:
    weights = VGG16_Weights.IMAGENET1K_V1
    # where torchvision keeps what it has fetched; it looks at the hash of a download, never again
    file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    try:
        network = vgg16(weights=weights)
    except Exception as error:  # torch.load raises many kinds for damaged files
        if not os.access(file, os.R_OK):  # no network; or a download whose hash is wrong
            raise ModelUnavailable(
                f"VGG-16's weights could not be fetched ({error}). They need a network once; "
                'without one, load_model("embedded") works everywhere.'
            ) from error
        if _has_hash_of_its_name(file):
            raise
        raise ModelUnavailable(
            f"{file} is damaged: it does not hold VGG-16's weights. Delete this file, and they are "
            'fetched anew (528 MB); load_model("embedded") works without.'
        ) from error
    return network, tuple(weights.meta["categories"]), Preprocess.of(weights)


def _has_hash_of_its_name(file: Path) -> bool:
    """Whether a file is what its name says: ``name-<first digits of its SHA-256>.pth``."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return digest.startswith(file.stem.rpartition("-")[2])
