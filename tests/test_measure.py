"""Measuring maps on photos with boxes, and the stored figures of the book."""

import csv
import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import grad_cam, load_model, resize_maps, saliency
from helpers.networks.models import CARD
from training import data, measure

from .comparing import assert_close

METHODS = [
    "gradient",
    "Deconvnet",
    "guided backpropagation",
    "Grad-CAM",
    "Guided Grad-CAM",
    "Grad-CAM before pooling",
    "Guided Grad-CAM before pooling",
    "sum of channels",
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
    for row in group["methods"].values():
        for what in ("pointing", "energy"):
            ahead = row[what][0] - group["methods"]["centre"][what][0]
            assert row[f"{what}_lead"][0] == pytest.approx(ahead, abs=0.02)
    assert group["methods"]["centre"]["energy_lead"] == [0, 0]
    assert group["methods"]["edges"]["energy_lead"][0] != 0
    assert list(group["named"]) == ["photo", "box", "surroundings"]


def test_both_layers_and_the_sum_of_the_channels_are_what_the_helpers_say():
    model = load_model("embedded")
    photos = np.random.default_rng(1).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    labels = np.array([3, 50])
    maps = measure.compared(model, photos, labels)
    x, size = model.prepare(list(photos)), (model.input_size, model.input_size)
    for name, layer in (("Grad-CAM", -1), ("Grad-CAM before pooling", -2)):
        small = grad_cam(model.network, x, labels.tolist(), layer=layer).maps
        assert_close(maps[name], resize_maps(small, size), rtol=1e-3, atol=1e-5)
    product = maps["Grad-CAM before pooling"][:, None] * saliency(model.network, x, [3, 50])
    assert_close(maps["Guided Grad-CAM before pooling"], product, rtol=1e-3, atol=1e-5)
    last = model.network.features[:-1](x).detach()
    assert_close(maps["sum of channels"], resize_maps(last.sum(dim=1), size), rtol=1e-4, atol=1e-5)
    assert list(maps) == METHODS and all(len(values) == 2 for values in maps.values())


def test_what_is_hidden_is_grey_and_the_rest_is_shown():
    """A network whose answer says where it was shown something."""

    class Model:
        input_size = 128

        def prepare(self, photos):
            whole = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float()
            return whole.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

        def network(self, x):
            upper, lower = x[:, :, :64].sum(dim=(1, 2, 3)), x[:, :, 64:].sum(dim=(1, 2, 3))
            return torch.stack([upper, lower], dim=1)

    photos = np.ones((3, 64, 64, 3), dtype=np.uint8)
    photos[:, 32:] = 2  # the lower half is the brighter one
    labels = np.array([1, 1, 0])
    boxes = [(0, 32, 64, 64), (0, 0, 64, 32), (0, 32, 64, 64)]
    right = measure.named(Model(), photos, labels, boxes)
    assert {shown: hits.tolist() for shown, hits in right.items()} == {
        "photo": [True, True, False],
        "box": [True, False, False],
        "surroundings": [False, True, True],
    }


def test_the_stored_figures_are_of_these_weights_and_all_photos():
    report = json.loads(measure.MEASURED.read_text())
    assert report["weights_sha256"] == json.loads(CARD.read_text())["sha256"], (
        "run training.measure again"
    )
    assert report["command"] == "python -m training.measure --data path/to/tiny-imagenet-200"
    assert report["groups"]["all"]["photos"] == 5400
    for group in report["groups"].values():
        assert list(group["methods"]) == METHODS
        assert list(group["named"]) == ["photo", "box", "surroundings"]
