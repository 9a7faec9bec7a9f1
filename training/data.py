"""Read Tiny ImageNet photos into two arrays, from tar files or from the original folder."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

CLASSES_CSV = Path(__file__).with_name("classes.csv")
SIDE = 64  # Tiny ImageNet's photos are 64x64 pixels


def read_classes(path: Path = CLASSES_CSV) -> tuple[list[str], list[str]]:
    """WordNet ids and names of the classes, in the order of the model's scores."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["wnid"] for row in rows], [row["name"] for row in rows]


def read_split(
    data: Path, split: str, wnids: list[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Photos ``(N, 64, 64, 3)`` uint8, labels ``(N,)`` int64 and file names of a split.

    ``data`` holds ``train.tar`` and ``val.tar`` with ``WNID/NAME.JPEG`` inside, or is the
    unpacked ``tiny-imagenet-200`` folder as Stanford publishes it (its 200 classes are cut
    down to those of ``classes.csv``). Sorted, however they are stored: :func:`held_out` and the
    measurements pick photos by their number. Training photos go by class and file name (``_10``
    before ``_2``), validation photos by the number in their name, as in ``val_annotations.txt``.

    Raises
    ------
    FileNotFoundError
        If ``data`` is neither.
    ValueError
        If a class of ``classes.csv`` has no photo there.
    """
    archive, folder = data / f"{split}.tar", data / split
    if archive.exists():
        pairs = _from_tar(archive)
    elif (folder / "val_annotations.txt").exists():
        pairs = _from_val_folder(folder)
    elif folder.is_dir():
        pairs = _from_train_folder(folder)
    else:
        raise FileNotFoundError(
            f"No photos for '{split}' in {data}: expected {split}.tar, or the unpacked "
            "tiny-imagenet-200 folder. Point --data at one of them."
        )
    index = {wnid: i for i, wnid in enumerate(wnids)}
    photos, labels, names = [], [], []
    for wnid, name, raw in tqdm(pairs, desc=f"reading {split}", unit=" photos"):
        if wnid not in index:
            continue
        with Image.open(io.BytesIO(raw)) as photo:
            photos.append(np.asarray(photo.convert("RGB")))
        labels.append(index[wnid])
        names.append(name)
    absent = sorted(set(range(len(wnids))) - set(labels))
    if absent:
        raise ValueError(
            f"{len(absent)} classes have no '{split}' photo, the first is {wnids[absent[0]]}."
        )

    def place(i: int) -> tuple:
        wnid, name = wnids[labels[i]], names[i]
        return (wnid, name) if split == "train" else (len(name), name)

    order = sorted(range(len(names)), key=place)
    ordered = np.stack([photos[i] for i in order])
    return ordered, np.array(labels)[order], [names[i] for i in order]


def held_out(labels: np.ndarray) -> np.ndarray:
    """Bool ``(N,)``, every tenth photo of each class: for choices, never trained on."""
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        held[np.flatnonzero(labels == label)[9::10]] = True
    return held


def read_training(
    data: Path, wnids: list[str], device: str = "cpu"
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """The training photos to learn from, and those held out; of each the photos and their labels.

    Photos uint8 ``(N, 3, 64, 64)``, labels int64 ``(N,)``; on a GPU if ``device`` is one, where
    all of them take 0.7 GB. Errors: :func:`read_split`.
    """
    pictures, numbers, _ = read_split(data, "train", wnids)
    held = torch.from_numpy(held_out(numbers))
    photos = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(numbers)
    where = device if device.startswith("cuda") else "cpu"
    learnt, unseen = ((photos[kept].to(where), labels[kept].to(where)) for kept in (~held, held))
    return learnt, unseen


def shuffled(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """An epoch: int64 ``(batches, size)``, numbers of photos in random order, none twice.

    What does not fill a batch is left out. ``SystemExit`` if that is all.
    """
    if count < size:
        raise SystemExit(
            f"The {count} training photos do not fill a batch of {size}; "
            "choose a smaller --batch-size."
        )
    order = torch.randperm(count, generator=generator)
    return order[: count // size * size].view(-1, size)


def read_boxes(data: Path) -> dict[str, tuple[int, int, int, int]]:
    """The box around the object of each validation photo, by file name, in its 64 x 64 pixels.

    ``(left, top, right, bottom)``, right and bottom exclusive (the files count the last pixel in).
    From ``val_boxes.csv``, or from ``val/val_annotations.txt`` of the unpacked folder.

    Raises
    ------
    FileNotFoundError
        If ``data`` has neither.
    """
    table, annotations = data / "val_boxes.csv", data / "val" / "val_annotations.txt"
    if table.exists():
        with open(table, newline="") as file:
            rows = [
                (row["file"].split("/")[-1], row["x_min"], row["y_min"], row["x_max"], row["y_max"])
                for row in csv.DictReader(file)
            ]
    elif annotations.exists():
        rows = [
            (name, *box)
            for name, _, *box in (line.split("\t") for line in annotations.read_text().splitlines())
        ]
    else:
        raise FileNotFoundError(
            f"No boxes in {data}: expected val_boxes.csv or val/val_annotations.txt."
        )
    return {name: (int(x0), int(y0), int(x1) + 1, int(y1) + 1) for name, x0, y0, x1, y1 in rows}


def _from_tar(archive: Path):
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile():
                wnid, name = member.name.split("/")[-2:]
                yield wnid, name, tar.extractfile(member).read()


def _from_train_folder(folder: Path):
    for path in sorted(folder.glob("*/images/*.JPEG")):
        yield path.parts[-3], path.name, path.read_bytes()


def _from_val_folder(folder: Path):
    for line in (folder / "val_annotations.txt").read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        yield wnid, name, (folder / "images" / name).read_bytes()
