"""Measuring maps on photos with boxes, and the stored figures of the book."""

import csv
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from helpers.models import CARD
from training import data, measure

METHODS = [
    "gradient",
    "Deconvnet",
    "guided backpropagation",
    "Grad-CAM",
    "Guided Grad-CAM",
    "edges",
    "centre",
]


def test_boxes_are_read_from_both_layouts(tmp_path):
    (tmp_path / "val_boxes.csv").write_text(
        "file,x_min,y_min,x_max,y_max\nn01/val_0.JPEG,0,32,44,62\n"
    )
    folder = tmp_path / "unpacked"
    (folder / "val").mkdir(parents=True)
    (folder / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01\t0\t32\t44\t62\n")
    assert data.read_boxes(tmp_path) == data.read_boxes(folder) == {"val_0.JPEG": (0, 32, 45, 63)}
    with pytest.raises(FileNotFoundError, match="val_boxes.csv or val/val_annotations.txt"):
        data.read_boxes(folder / "val")


@pytest.fixture
def photos_with_boxes(tmp_path):
    wnids, _ = data.read_classes()
    rng = np.random.default_rng(0)
    with (
        tarfile.open(tmp_path / "val.tar", "w") as tar,
        open(tmp_path / "val_boxes.csv", "w", newline="") as file,
    ):
        rows = csv.writer(file)
        rows.writerow(["file", "x_min", "y_min", "x_max", "y_max"])
        for i, wnid in enumerate(wnids):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
            member = tarfile.TarInfo(f"{wnid}/val_{i}.JPEG")
            member.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(member, buffer)
            # the upper left quarter, or the whole
            rows.writerow([f"{wnid}/val_{i}.JPEG", 0, 0, *((31, 31) if i % 2 else (63, 63))])
    return tmp_path


def test_measuring_from_beginning_to_end(photos_with_boxes):
    out = photos_with_boxes / "measured.json"
    measure.main(["--data", str(photos_with_boxes), "--out", str(out), "--limit", "4"])
    report = json.loads(out.read_text())
    assert report["command"].endswith("--limit 4") and report["groups"].keys() == {"all"}
    group = report["groups"]["all"]
    assert group["photos"] == 4 and list(group["methods"]) == METHODS
    # linspace over 108 photos takes 0, 35, 71, 107: the whole once, a quarter three times
    assert group["chance"][0] == pytest.approx(100 * (1 + 3 / 4) / 4)
    # the Gaussian's largest values are the four pixels around the centre, one in the quarter
    assert group["methods"]["centre"]["pointing"][0] == pytest.approx(100 * (1 + 3 / 4) / 4)
    assert group["methods"]["centre"]["energy"][0] == pytest.approx(100 * (1 + 3 / 4) / 4, abs=0.01)


def test_the_stored_figures_are_of_these_weights_and_all_photos():
    report = json.loads(measure.MEASURED.read_text())
    assert report["weights_sha256"] == json.loads(CARD.read_text())["sha256"], (
        "run training.measure again"
    )
    assert report["command"] == "python -m training.measure --data path/to/tiny-imagenet-200"
    assert report["groups"]["all"]["photos"] == 5400
    for group in report["groups"].values():
        assert list(group["methods"]) == METHODS
