"""``explain PHOTO ...``: where did the network look, and at what? One figure per photo."""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from .. import scaling
from ..autograd.any_network import all_maps_any
from ..autograd.cams import GRAD_CAM, WEIGHTS, name_of
from ..autograd.feature_maps import default_layer, layers
from ..checks import evaluating
from ..errors import ModelError, PhotoError
from ..methods import REGIONS_FIRST, TABLE, rows_of
from ..networks.loading import SPELLINGS, load_any
from ..networks.models import Model
from ..plotting import HEAT, overlay, show_row
from ..targets import contrast, scores_of

#: What clears a terminal's line.
CLEAR = "\r\033[K"
METHODS = ("grad_cam", "guided", "guided_grad_cam")
#: What a figure's file says of who wrote it: only such files are written anew.
WRITER = "explain, of where-did-you-look"
#: VGG-16's maps for a larger photo would take more than 10 GB.
MOST_SIDE = 2048
NOTE = (
    "{cam} divided by its largest value; the others signed, grey is 0, divided by their 99.5th "
    "percentile."
)
#: Where no map is Grad-CAM's.
SIGNED = "Signed, grey is 0, divided by the 99.5th percentile."
EXAMPLES = """\
examples:
  explain cat.jpg                                  the likeliest classes, maps of the first
  explain holiday/ 'more/*.png' --out maps         folders and patterns; figures go to maps/
  explain cat.jpg --model torchvision:resnet50     fetches its weights once
  explain cat.jpg --model timm:convnext_tiny       where timm is installed
  explain cat.jpg --model mine.py:make             make() returns your network, or
                                                   (network, class names, preprocessing)
  explain cat.jpg --class tabby --class 'Egyptian cat'    a row of maps for each
  explain cat.jpg --class tabby --than 'Egyptian cat'     why the one rather than the other
  explain cat.jpg --cam HiResCAM                   another of Grad-CAM's kin
  explain cat.jpg --layers                         where Grad-CAM can look ...
  explain cat.jpg --layer layer3 --layer layer4    ... and the mean of two of these
  explain photos/ --json > found.jsonl             a line of JSON per photo
  explain --classes --model torchvision:resnet50   what --class and --than take

exit status: 0, or 1 if a photo or the model could not be used; 2 for a wrong option.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line, ``sys.argv`` unless given. Returns the exit status."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the shell has closed it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    parser = _parser()
    options = parser.parse_args(argv)
    if not options.photos and not options.list_classes:
        parser.error("name a PHOTO: a file, a folder, or a pattern such as '*.jpg'")
    matplotlib.use("agg")  # figures go to files; none needs a screen
    try:
        if hasattr(sys.stdout, "reconfigure"):  # a file's name need not be text
            sys.stdout.reconfigure(errors="backslashreplace")
        status = _run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # "| head" has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's last flush
        return 141  # as of what a SIGPIPE ends
    except KeyboardInterrupt:
        _say("stopped.")
        return 130
    except (ModelError, OSError) as error:
        _say(_in_options(error))
        return 1


def _run(options: argparse.Namespace) -> int:
    _check(options)
    model = _resized(load_any(options.model, options.device), options.size)
    if options.list_classes:
        for number, name in enumerate(model.class_names):
            print(json.dumps({"class": name, "index": number}) if options.json else
                  f"{number:5}  {name}")  # fmt: skip
        return 0
    if not options.layers:
        options.out.mkdir(parents=True, exist_ok=True)
    return _explain_all(model, options)


def _check(options: argparse.Namespace) -> None:
    """A ``ModelError`` for what can be seen to be wrong before a model is loaded."""
    rows_of(options.methods)
    options.cam = name_of(options.cam)
    if options.top < 1:
        raise ModelError(f"--top is a number of classes, not {options.top}.")
    if options.size is not None and not 1 <= options.size <= MOST_SIDE:
        raise ModelError(
            f"--size is a number of pixels, from 1 to {MOST_SIDE}, not {options.size}."
        )
    if not 0 <= options.opacity <= 1:
        raise ModelError(f"--opacity is a number from 0 to 1, not {options.opacity}.")
    if options.colours not in matplotlib.colormaps:
        raise ModelError(f"matplotlib has no colours {options.colours!r}; try {HEAT} or jet.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="explain",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("photos", nargs="*", metavar="PHOTO", help="a file, a folder, or a pattern such as '*.jpg'")
    add("--model", default="embedded", help=f"{SPELLINGS}; the last is run (default: embedded)")
    add("--class", dest="classes", action="append", default=[], metavar="CLASS",
        help="a name or a number; again for more (default: the likeliest)")  # fmt: skip
    add("--classes", dest="list_classes", action="store_true",
        help="only list the classes that --class takes; needs no photo")  # fmt: skip
    add("--than", metavar="CLASS", help="explain the classes' difference to this one")
    add("--cam", default=GRAD_CAM, metavar="NAME",
        help=f"how Grad-CAM weighs the feature maps: {', '.join(WEIGHTS)}")  # fmt: skip
    add("--layer", action="append", metavar="NAME",
        help="where Grad-CAM looks; again for a mean (default: the last with maps)")  # fmt: skip
    add("--layers", action="store_true", help="only list the layers that --layer takes")
    add("--method", dest="methods", action="append", choices=[row.key for row in TABLE],
        help=f"again for more (default: {', '.join(METHODS)})")  # fmt: skip
    add("--mixture", action="store_true",
        help="let other activations than ReLUs pass by their derivative")  # fmt: skip
    add("--size", type=int, metavar="PIXELS", help="side of what the network sees")
    add("--colours", default=HEAT, metavar="NAME", help=f"matplotlib's, for Grad-CAM ({HEAT})")
    add("--opacity", type=float, default=0.7, help="of Grad-CAM on the photo, 0 to 1 (0.7)")
    add("--top", type=int, default=5, metavar="K", help="how many classes to name (5)")
    add("--out", type=Path, default=Path("explained"), metavar="FOLDER",
        help="where the figures go (explained)")  # fmt: skip
    add("--device", help="cpu, cuda, mps (default: the best there is)")
    add(
        "--json",
        action="store_true",
        help="print a line of JSON per photo (or layer) instead of text",
    )
    return parser


def _resized(model: Model, size: int | None) -> Model:
    """The model for photos of another size; what is cut off keeps its share."""
    if size is None:
        return model
    old = model.preprocess
    high, wide = (old.crop, old.crop) if isinstance(old.crop, int) else old.crop
    resize = (
        round(size * old.resize / min(high, wide))
        if isinstance(old.resize, int)
        else (round(size * old.resize[0] / high), round(size * old.resize[1] / wide))
    )
    new = replace(old, resize=resize, crop=size)
    return replace(model, preprocess=new, input_size=size)


def find_photos(sources: list[str]) -> Iterator[tuple[str, str | None]]:
    """Files named, in folders or by patterns; for each its path, and what is wrong, or None."""
    for source in sources:
        path = Path(source)
        try:
            if path.is_dir():
                found = sorted(str(p) for p in path.iterdir() if _looks_like_a_photo(p))
            elif not path.exists() and glob.has_magic(source):
                found = sorted(p for p in glob.glob(source, recursive=True) if Path(p).is_file())
            else:
                found = [source]
        except OSError as error:
            yield source, f"It cannot be read ({error.strerror})."
            continue
        yield from ((name, None) for name in found)
        if not found:
            yield source, "There is no photo in it."


def _looks_like_a_photo(path: Path) -> bool:
    """Has it a name of a kind that Pillow opens? Hidden files, which cameras leave, are passed."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    return kind in Image.OPEN and not path.name.startswith(".") and path.is_file()


class Explainer:
    """One model, one question, and any number of photos; a figure and a record for each."""

    def __init__(
        self, model: Model, options: argparse.Namespace, photos: Iterable[str] = ()
    ) -> None:
        self.model, self.options, self.layer = model, options, options.layer
        self.methods = options.methods or list(METHODS)
        self.targets = _targets(model, options)
        #: Where no figure goes: other figures' places, and the photos themselves.
        self.taken = {os.path.realpath(photo) for photo in photos}

    def explain(self, photo: str) -> dict:
        """The photo's record, as ``--json`` prints it; its figure is written.

        Raises
        ------
        PhotoError, RuntimeError, ValueError
            If this photo cannot be used.
        ModelError
            If none can.
        """
        model, x = self.model, self.model.prepare(photo)
        with torch.no_grad(), evaluating(model.network):
            shares = scores_of(model.network, x)[0].softmax(0)
            found = shares.topk(min(self.options.top, len(shares)))
        top = [
            {"class": model.class_names[i], "index": i, "probability": round(p, 6)}
            for p, i in zip(found.values.tolist(), found.indices.tolist(), strict=True)
        ]
        if self.looks() and not self.layer:
            self.layer = [default_layer(model.network, x)]
        asked = self.targets or [(top[0]["class"], top[0]["index"])]
        figure = self.figure(x, asked)
        path = self.path(photo)
        try:
            figure.savefig(path, metadata={"Software": WRITER})
        except OSError as error:
            raise PhotoError(f"{path} cannot be written ({error.strerror or error}).") from error
        finally:
            plt.close(figure)
        return {
            "photo": photo,
            "top": top,
            "explained": [title.replace("\n", " ") for title, _ in asked],
            "layer": self.layer if self.looks() else None,
            "cam": self.options.cam if self.looks() else None,
            "methods": self.methods,
            "model": model.name,
            "figure": str(path),
        }

    def looks(self) -> bool:
        """Is Grad-CAM among the methods, by itself or as a factor?"""
        return any(row.kind != "pixels" for row in rows_of(self.methods))

    def figure(self, x: torch.Tensor, asked: list) -> Figure:
        """A row for each class: the photo with Grad-CAM's share, and the other maps."""
        seen, pictures, titles = self.model.preprocess.restore(x)[0], [], []
        for title, target in asked:
            pictures, titles = [*pictures, seen], [*titles, title]
            found = self.maps(x, target)
            titles_of_all = (row.title.replace(GRAD_CAM, self.options.cam) for row in REGIONS_FIRST)
            for method in (title for title in titles_of_all if title in found):
                maps = found[method]
                pictures.append(
                    overlay(
                        seen, scaling.by_max(maps[0]), self.options.opacity, self.options.colours
                    )
                    if maps.ndim == 3
                    else scaling.signed(maps[0].expand(3, -1, -1), 99.5)
                )
                titles.append(method)
        note = f"{self.model.name}. {SIGNED}"
        if self.looks():
            cam = self.options.cam
            note = f"{self.model.name}, {cam} at {', '.join(self.layer)}. {NOTE.format(cam=cam)}"
        return show_row(pictures, titles, note, columns=len(pictures) // len(asked))

    def maps(self, x: torch.Tensor, target) -> dict[str, torch.Tensor]:
        """The maps asked for; of the default ones those that the network can be asked by."""
        network, strict, cam = self.model.network, not self.options.mixture, self.options.cam
        try:
            return all_maps_any(network, x, target, self.methods, self.layer, strict, cam=cam)
        except ModelError as error:
            if self.options.methods:
                raise
            maps = all_maps_any(network, x, target, ["grad_cam"], self.layer, cam=cam)
            self.methods = ["grad_cam"]
            _say(f"only {cam}: {_in_options(error)}")
            return maps

    def path(self, photo: str) -> Path:
        """Where the photo's figure goes; with a number if anything but an old figure is there."""
        stem, number = Path(photo).stem, 2
        path = self.options.out / f"{stem}.png"
        while (
            os.path.realpath(path) in self.taken or os.path.lexists(path) and not _is_figure(path)
        ):
            path, number = self.options.out / f"{stem}-{number}.png", number + 1
        self.taken.add(os.path.realpath(path))
        return path


def _is_figure(path: Path) -> bool:
    """Was it written by an earlier run? A link, which leads elsewhere, or a pipe is none."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with Image.open(path) as picture:
            return picture.info.get("Software") == WRITER
    except Exception:  # Pillow raises many kinds for what is no picture
        return False


def _in_options(error: Exception) -> str:
    """What an error says, in words of the command line."""
    words = {"strict=False leaves": "--mixture leaves", "method='gradient'": "--method gradient",
             "helpers.layers(network, x) lists": "--layers lists",
             "model.class_names lists them": "--classes lists them"}  # fmt: skip
    text = str(error)
    for inside, option in words.items():
        text = text.replace(inside, option)
    return text


def _class(model: Model, text: str) -> int:
    try:
        return model.class_index(text)
    except KeyError as error:
        if text.isdecimal() and int(text) < len(model.class_names):
            return int(text)
        raise ModelError(error.args[0]) from error


def _targets(model: Model, options: argparse.Namespace) -> list[tuple[str, object]]:
    """Titles, and what is explained; empty for each photo's likeliest class."""
    named = [(model.class_names[c], c) for c in (_class(model, text) for text in options.classes)]
    if options.than is None:
        return named
    other = _class(model, options.than)
    if not named:
        raise ModelError("--than needs a --class that is explained rather than the other.")
    rather = f"\nrather than {model.class_names[other]}"
    return [(name + rather, contrast(c, other)) for name, c in named]


def _explain_all(model: Model, options: argparse.Namespace) -> int:
    photos, bad = list(find_photos(options.photos)), 0
    explainer = Explainer(model, options, [photo for photo, _ in photos])
    for number, (photo, problem) in enumerate(photos):
        _progress(number, len(photos), photo)
        try:
            if problem:
                raise PhotoError(problem)
            if options.layers:
                _list_layers(model, photo, options.json)
                return 1 if bad else 0
            record = explainer.explain(photo)
        except ModelError:
            raise
        except (PhotoError, RuntimeError, AssertionError, ValueError) as error:
            bad += 1
            _say(f"{photo}: {error}")
            record = {"photo": photo, "error": str(error)}
        if options.json:
            print(json.dumps(record), flush=True)
        elif "error" not in record:
            _report(record)
    _progress(len(photos), len(photos), "")
    return 1 if bad else 0


def _list_layers(model: Model, photo: str, as_json: bool) -> None:
    for layer in layers(model.network, model.prepare(photo)):
        if as_json:
            print(json.dumps(layer._asdict()))
            continue
        maps = " x ".join(map(str, layer.maps)) if layer.maps else f"{layer.output[1]} tokens"
        print(f"{layer.name:40} {layer.kind:20} {maps}{'' if layer.whole else '   (a part)'}")


def _report(record: dict) -> None:
    print(record["photo"])
    for row in record["top"]:
        print(f"  {100 * row['probability']:5.1f} %  {row['class']}")
    print(f"  -> {record['figure']} ({', '.join(record['explained'])})", flush=True)


def _say(text: str) -> None:
    print(f"{CLEAR if sys.stderr.isatty() else ''}explain: {text}", file=sys.stderr)


def _progress(done: int, count: int, photo: str) -> None:
    """A bar on a terminal, from the second photo on; nothing in a file or a pipe."""
    if count < 2 or not sys.stderr.isatty():
        return
    bar = "#" * (20 * done // count)
    end = "\n" if done == count else ""
    print(f"{CLEAR}[{bar:20}] {done}/{count} {photo[-50:]}", end=end, file=sys.stderr, flush=True)
