"""A network by a few words: ``torchvision:resnet50``, ``timm:convnext_tiny``, ``mine.py:make``."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
import torchvision
from torch import nn

from ..errors import ModelError, ModelUnavailable
from .models import MODELS, Model, choose_device, device_wish, load_model

#: What :func:`load_any` takes, in words.
SPELLINGS = f"{', '.join(MODELS)}, torchvision:NAME, timm:NAME, FILE.py:FUNCTION"
#: Modules that the last file loaded has brought from its folder.
_NEIGHBOURS: set[str] = set()


def load_any(spec: str, device: str | None = None) -> Model:
    """A network of any origin, with its class names and its way to prepare photos.

    Parameters
    ----------
    spec : str
        "embedded" or "vgg16", as :func:`helpers.load_model` takes them; "torchvision:NAME", with
        the best weights that torchvision has for it, fetched once; "timm:NAME", with timm's, where
        it is installed; or "FILE.py:FUNCTION". That file is run, and its function, called without
        arguments, returns a :class:`helpers.Model`, or what :meth:`helpers.Model.of` takes: a
        network, or a tuple of network, class names and preprocessing.
    device : str, optional
        See :func:`helpers.choose_device`. A Model from a file goes to the device asked for, here or
        by ``EXPLAIN_DEVICE``; if none is, it stays where the file has put it.

    Raises
    ------
    ModelError
        If there is no such network, or it cannot be asked.
    ModelUnavailable
        If weights cannot be fetched, or timm is not installed.

    Examples
    --------
    >>> load_any("embedded", device="cpu").name
    'embedded'
    """
    if spec in MODELS:
        return load_model(spec, device)
    origin, colon, name = spec.rpartition(":")
    loaders = {"torchvision": _torchvisions, "timm": _timms}
    if not colon or not name or origin not in loaders and not origin.endswith(".py"):
        raise ModelError(f"There is no model {spec!r}; choose one of {SPELLINGS}.")
    target = choose_device(device)
    made = loaders[origin](name) if origin in loaders else _own(Path(origin), name)
    if isinstance(made, Model) and not device_wish(device):
        return made
    if isinstance(made, Model):
        return replace(made, network=made.network.to(target), device=target)
    network, *rest = made or (None,)
    if len(rest) > 2:
        raise ModelError(
            f"{spec} gave {len(made)} things; a network, class names and preprocessing are taken."
        )
    if not isinstance(network, nn.Module):
        raise ModelError(f"{spec} gave a {type(network).__name__} in place of a network.")
    return Model.of(network.to(target), *rest, name=name)


def _torchvisions(name: str) -> tuple:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ModelError(f"torchvision has no network {name!r}{_near(name, known)}.")
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        network = torchvision.models.get_model(name, weights=weights)
    except Exception as error:  # no web; or torch.load, which raises many kinds for damaged files
        raise ModelUnavailable(_not_fetched(f"torchvision:{name}", error)) from error
    return network, weights.meta["categories"], weights


def _timms(name: str) -> tuple:
    try:
        import timm
        from timm.data import ImageNetInfo, infer_imagenet_subset
    except ImportError as error:
        raise ModelUnavailable("timm is not installed: pip install timm.") from error
    known = timm.list_models()
    if name.partition(".")[0] not in known:
        raise ModelError(f"timm has no network {name!r}{_near(name, known)}.")
    try:
        network = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub raises many kinds where there is no web
        raise ModelUnavailable(_not_fetched(f"timm:{name}", error)) from error
    subset = infer_imagenet_subset(network)
    names = ImageNetInfo(subset).label_descriptions() if subset else None
    return network, names, network


def _own(file: Path, name: str):
    if not file.exists():
        raise ModelError(f"There is no file {file}.")
    folder, before = file.parent.resolve(), set(sys.modules) - _NEIGHBOURS
    for neighbour in _NEIGHBOURS:  # of another file, perhaps of the same name
        sys.modules.pop(neighbour, None)
    module_spec = importlib.util.spec_from_file_location(f"explained_{file.stem}", file)
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module.__name__] = module  # dataclasses look for it there
    sys.path.insert(0, str(folder))  # it may import its neighbours
    try:
        module_spec.loader.exec_module(module)
        if not callable(getattr(module, name, None)):
            raise ModelError(f"{file} has no function {name!r} that returns a network.")
        made = getattr(module, name)()
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{file} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(folder))
        _NEIGHBOURS.clear()
        _NEIGHBOURS.update(
            key
            for key, loaded in sys.modules.items()
            if key not in before
            and folder in Path(getattr(loaded, "__file__", None) or "/").parents
        )
    return made if isinstance(made, (Model, tuple)) else (made,)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {', '.join(near)}" if near else ""


def _not_fetched(spec: str, error: Exception) -> str:
    where = torch.hub.get_dir()
    return (
        f"The weights of {spec} could not be fetched ({error}). They need the web once, and are "
        f"then kept in {where} or its neighbour; --model embedded works without."
    )
