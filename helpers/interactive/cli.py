"""``explain PHOTO ...``: where did the network look, and at what? One figure per photo."""

from __future__ import annotations

import argparse
import glob
import json
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
from ..any_network import all_maps_any
from ..errors import ModelError, PhotoError
from ..feature_maps import default_layer, layers
from ..loading import SPELLINGS, load_any
from ..methods import REGIONS_FIRST, TABLE, rows_of
from ..models import Model
from ..plotting import HEAT, overlay, show_row
from ..targets import contrast

#: What clears a terminal's line.
CLEAR = "\r\033[K"
METHODS = ("grad_cam", "guided", "guided_grad_cam")
NOTE = (
    "Grad-CAM divided by its largest value; the others signed, grey is 0, divided by their 99.5th "
    "percentile."
)
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
  explain cat.jpg --layers                         where Grad-CAM can look ...
  explain cat.jpg --layer layer3 --layer layer4    ... and the mean of two of these
  explain photos/ --json > found.jsonl             a line of JSON per photo

exit status: 0, or 1 if a photo or the model could not be used; 2 for a wrong option.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line, ``sys.argv`` unless given. Returns the exit status."""
    options = _parser().parse_args(argv)
    matplotlib.use("agg")  # figures go to files; none needs a screen
    try:
        if hasattr(sys.stdout, "reconfigure"):  # a file's name need not be text
            sys.stdout.reconfigure(errors="backslashreplace")
        rows_of(options.methods)
        if options.top < 1:
            raise ModelError(f"--top is a number of classes, not {options.top}.")
        if options.colours not in matplotlib.colormaps:
            raise ModelError(f"matplotlib has no colours {options.colours!r}; try {HEAT} or jet.")
        model = _resized(load_any(options.model, options.device), options.size)
        if not options.layers:
            options.out.mkdir(parents=True, exist_ok=True)
        return _explain_all(model, options)
    except (ModelError, OSError) as error:
        print(f"explain: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="explain",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="a file, a folder, or a pattern such as '*.jpg'")
    add("--model", default="embedded", help=f"{SPELLINGS}; the last is run (default: embedded)")
    add("--class", dest="classes", action="append", default=[], metavar="CLASS",
        help="a name or a number; again for more (default: the likeliest)")  # fmt: skip
    add("--than", metavar="CLASS", help="explain the classes' difference to this one")
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
    if size < 1:
        raise ModelError(f"--size is a number of pixels, not {size}.")
    old = model.preprocess
    share = (
        old.resize / old.crop if isinstance(old.resize, int) and isinstance(old.crop, int) else 1
    )
    new = replace(old, resize=round(size * share), crop=size)
    return replace(model, preprocess=new, input_size=size)


def find_photos(sources: list[str]) -> Iterator[tuple[str, str | None]]:
    """Files named, in folders or by patterns; for each its path, and what is wrong, or None."""
    suffixes = Image.registered_extensions()
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in suffixes)
        elif not path.exists() and glob.has_magic(source):
            found = sorted(p for p in glob.glob(source, recursive=True) if Path(p).is_file())
        else:
            found = [source]
        yield from ((name, None) for name in found)
        if not found:
            yield source, "There is no photo in it."


class Explainer:
    """One model, one question, and any number of photos; a figure and a record for each."""

    def __init__(
        self, model: Model, options: argparse.Namespace, photos: Iterable[str] = ()
    ) -> None:
        self.model, self.options, self.layer = model, options, options.layer
        self.methods = options.methods or list(METHODS)
        self.targets = _targets(model, options)
        #: Where no figure goes: other figures' places, and the photos themselves.
        self.taken = {Path(photo).resolve() for photo in photos}

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
        with torch.inference_mode():
            found = (
                model.network(x)[0].softmax(0).topk(min(self.options.top, len(model.class_names)))
            )
        top = [
            {"class": model.class_names[i], "index": i, "probability": round(p, 6)}
            for p, i in zip(found.values.tolist(), found.indices.tolist(), strict=True)
        ]
        self.layer = self.layer or [default_layer(model.network, x)]
        asked = self.targets or [(top[0]["class"], top[0]["index"])]
        figure = self.figure(x, asked)
        path = self.path(photo)
        figure.savefig(path)
        plt.close(figure)
        return {
            "photo": photo,
            "top": top,
            "explained": [title.replace("\n", " ") for title, _ in asked],
            "layer": self.layer,
            "methods": self.methods,
            "model": model.name,
            "figure": str(path),
        }

    def figure(self, x: torch.Tensor, asked: list) -> Figure:
        """A row for each class: the photo with Grad-CAM's share, and the other maps."""
        seen, pictures, titles = self.model.preprocess.restore(x)[0], [], []
        for title, target in asked:
            pictures, titles = [*pictures, seen], [*titles, title]
            found = self.maps(x, target)
            for method in (row.title for row in REGIONS_FIRST if row.title in found):
                maps = found[method]
                pictures.append(
                    overlay(
                        seen, scaling.by_max(maps[0]), self.options.opacity, self.options.colours
                    )
                    if maps.ndim == 3
                    else scaling.signed(maps[0].expand(3, -1, -1), 99.5)
                )
                titles.append(method)
        note = f"{self.model.name}, Grad-CAM at {', '.join(self.layer)}. {NOTE}"
        return show_row(pictures, titles, note, columns=len(pictures) // len(asked))

    def maps(self, x: torch.Tensor, target) -> dict[str, torch.Tensor]:
        """The maps asked for; of the default ones those that the network can be asked by."""
        network, strict = self.model.network, not self.options.mixture
        try:
            return all_maps_any(network, x, target, self.methods, self.layer, strict)
        except ModelError as error:
            if self.options.methods:
                raise
            maps = all_maps_any(network, x, target, ["grad_cam"], self.layer)
            self.methods = ["grad_cam"]
            _say(f"only Grad-CAM: {error} (--mixture lets other activations pass.)")
            return maps

    def path(self, photo: str) -> Path:
        """Where the photo's figure goes; with a number if a photo or another figure is there."""
        stem, number = Path(photo).stem, 2
        path = self.options.out / f"{stem}.png"
        while path.resolve() in self.taken:
            path, number = self.options.out / f"{stem}-{number}.png", number + 1
        self.taken.add(path.resolve())
        return path


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
