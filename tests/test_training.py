"""Training on a toy set: reading, augmenting, going on after an interruption, exporting."""

import copy
import hashlib
import io
import json
import re
import tarfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from helpers import VGG16, Preprocess, load_model
from helpers.networks import models
from training import data, export, teacher, train, views

WNIDS = [f"n{i:08d}" for i in range(6)]
NAMES = [f"thing {i}" for i in range(6)]


def jpeg(label, i):
    rng = np.random.default_rng(100 * label + i)
    base = np.full((64, 64, 3), 40 * label + 20) + rng.integers(-15, 15, (64, 64, 3))
    picture = Image.fromarray(base.clip(0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    (picture.convert("L") if i == 0 else picture).save(
        buffer, "JPEG"
    )  # Tiny ImageNet has grey ones, too
    return buffer.getvalue()


def photos(count):
    return [
        (wnid, f"{wnid}_{i}.JPEG", jpeg(label, i))
        for label, wnid in enumerate(WNIDS)
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tars")
    for split, count in (("train", 3), ("val", 2)):
        with tarfile.open(folder / f"{split}.tar", "w") as tar:
            for wnid, name, raw in photos(count):
                member = tarfile.TarInfo(f"{split}/{wnid}/{name}")
                member.size = len(raw)
                tar.addfile(member, io.BytesIO(raw))
    return folder


@pytest.fixture(scope="module")
def tiny_imagenet(tmp_path_factory):
    """The layout that Stanford publishes, with one class that we do not use."""
    folder = tmp_path_factory.mktemp("tiny-imagenet-200")
    for wnid, name, raw in [*photos(3), ("n99999999", "other_0.JPEG", jpeg(0, 9))]:
        path = folder / "train" / wnid / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    (folder / "val" / "images").mkdir(parents=True)
    lines = []
    for wnid, name, raw in photos(2):
        (folder / "val" / "images" / name).write_bytes(raw)
        lines.append(f"{name}\t{wnid}\t0\t0\t62\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return folder


@pytest.mark.parametrize("split, count", [("train", 3), ("val", 2)])
@pytest.mark.parametrize("layout", ["tars", "tiny_imagenet"])
def test_both_layouts_are_read(request, layout, split, count):
    array, labels, names = data.read_split(request.getfixturevalue(layout), split, WNIDS)
    assert array.shape == (6 * count, 64, 64, 3) and array.dtype == np.uint8
    assert labels.tolist() == [label for label in range(6) for _ in range(count)]
    assert names == [name for _, name, _ in photos(count)]
    assert [round((photo.mean() - 20) / 40) for photo in array] == labels.tolist()


def test_labels_follow_the_order_of_the_classes(tars):
    _, labels, names = data.read_split(tars, "val", WNIDS[::-1])
    assert [WNIDS[::-1][label] for label in labels] == [name.split("_")[0] for name in names]


@pytest.mark.parametrize(
    "split, order", [("train", [0, 10, 2, 1, 11, 3, 9]), ("val", [0, 1, 2, 3, 9, 10, 11])]
)
def test_the_order_of_photos_is_not_that_of_the_archive(tmp_path, split, order):
    """The photos held out, and those that a measurement picks, go by it."""
    with tarfile.open(tmp_path / f"{split}.tar", "w") as tar:
        for i in (3, 10, 0, 2, 11, 9, 1):
            raw = jpeg(i % 6, i)
            member = tarfile.TarInfo(f"{WNIDS[i % 2]}/{split}_{i}.JPEG")
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    array, labels, names = data.read_split(tmp_path, split, WNIDS[:2])
    assert names == [f"{split}_{i}.JPEG" for i in order]
    assert labels.tolist() == [i % 2 for i in order]
    assert [round((photo.mean() - 20) / 40) for photo in array] == [i % 6 for i in order]


def test_missing_photos_are_named(tmp_path, tars):
    with pytest.raises(FileNotFoundError, match="expected train.tar.*tiny-imagenet-200.*--data"):
        data.read_split(tmp_path, "train", WNIDS)
    with pytest.raises(ValueError, match="1 classes have no 'train' photo, the first is n12345678"):
        data.read_split(tars, "train", [*WNIDS, "n12345678"])


def test_the_classes_are_those_of_the_embedded_model(embedded):
    wnids, names = data.read_classes()
    assert len(set(wnids)) == len(wnids) and tuple(names) == embedded.class_names


def test_a_schedule_is_one_size_an_epoch():
    assert train.Recipe(schedule="48x2,64x3").sizes() == [48, 48, 64, 64, 64]
    assert train.Recipe(schedule="96x1").sizes() == [96]
    for wrong in ("", "48", "48x", "ax2"):
        with pytest.raises(ValueError):
            train.Recipe(schedule=wrong).sizes()


def test_the_learning_rate_rises_for_an_epoch_and_falls_to_zero():
    recipe = train.Recipe(schedule="32x5", lr=0.2)
    rates = [recipe.learning_rate(epoch) for epoch in (0, 0.5, 1, 2, 3, 4, 5)]
    assert rates[:3] == [0, 0.1, 0.2] and rates[-1] == pytest.approx(0)
    assert rates[4] == pytest.approx(0.1)  # half way down the cosine
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_every_tenth_photo_of_each_class_is_held_out():
    labels = np.repeat([2, 0, 1], 25)
    held = data.held_out(labels)
    assert held.sum() == 6 and np.flatnonzero(held).tolist() == [9, 19, 34, 44, 59, 69]


def test_photos_to_learn_from_and_photos_held_out(tars, monkeypatch):
    monkeypatch.setattr(data, "held_out", lambda labels: np.arange(len(labels)) % 3 == 2)
    array, labels, _ = data.read_split(tars, "train", WNIDS)
    array, held = torch.from_numpy(array), torch.arange(len(labels)) % 3 == 2
    for (photos, numbers), kept in zip(data.read_training(tars, WNIDS), (~held, held), strict=True):
        assert torch.equal(photos.permute(0, 2, 3, 1), array[kept])
        assert numbers.dtype == torch.int64 and numbers.tolist() == labels[kept].tolist()


def test_an_epoch_shows_each_photo_once_in_full_batches():
    generator = torch.Generator().manual_seed(0)
    first, second = (data.shuffled(11, 3, generator) for _ in range(2))
    for batches in (first, second):
        assert batches.shape == (3, 3) and len(set(batches.flatten().tolist())) == 9
        assert 0 <= batches.min() and batches.max() <= 10
    assert first.tolist() != second.tolist() and first.flatten().tolist() != list(range(9))
    with pytest.raises(SystemExit, match="11 training photos.*batch of 12.*--batch-size"):
        data.shuffled(11, 12, generator)


def test_targets_mix_smoothed_labels_with_the_teachers_answers():
    labels, answers = torch.tensor([1, 0]), torch.tensor([[0.0, 0, 5], [1, 2, 3]]).half()
    alone = train.targets(labels, None, 3, train.Recipe(smoothing=0.3))
    torch.testing.assert_close(alone, torch.tensor([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]))
    mixed = train.targets(labels, answers, 3, train.Recipe(smoothing=0.3, teacher=0.25))
    torch.testing.assert_close(mixed, 0.75 * alone + 0.25 * answers.float().softmax(1))
    assert not torch.equal(alone, mixed)


class Toy(torch.nn.Module):
    """A teacher as small as possible: answers by the mean colour."""

    def __init__(self, classes):
        super().__init__()
        torch.manual_seed(5)
        self.head = torch.nn.Linear(3, classes)
        self.norm = torch.nn.BatchNorm1d(classes)

    def forward(self, x):
        return self.norm(self.head(x.mean((2, 3))))


def test_the_teacher_learns_and_its_average_is_kept(monkeypatch):
    monkeypatch.setattr(teacher, "SIDE", 32)
    photos = torch.zeros(120, 3, 64, 64, dtype=torch.uint8)
    photos[::2, 0], photos[1::2, 2] = 255, 255  # red ones and blue ones
    labels = torch.arange(120) % 2
    learner = Toy(2)
    before = {key: value.clone() for key, value in learner.state_dict().items()}
    recipe = teacher.Recipe(epochs=60, lr=0.1, average=0.8, batch_size=120)
    kept = teacher.teach(learner, photos, labels, recipe)
    assert not kept.training
    assert views.evaluate(Five(kept), photos, labels, 32)[0] == 100
    for key, value in kept.state_dict().items():
        if value.is_floating_point():
            assert not torch.equal(value, before[key]) and not torch.equal(
                value, learner.state_dict()[key]
            )


def test_the_teachers_recipe_decides_its_crops_and_colours(monkeypatch):
    asked = []

    def augment(photos, *args):
        asked.append(args)
        return views.augment(photos, *args)

    monkeypatch.setattr(teacher, "augment", augment)
    photos = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
    recipe = teacher.Recipe(epochs=1, batch_size=2, area=0.7, jitter=0.06, tint=0.05)
    teacher.teach(Toy(2), photos, torch.arange(4) % 2, recipe)
    assert [(size, *rest) for size, _, *rest in asked] == [(teacher.SIDE, 0.7, 0.06, 0.05)] * 2
    standard = teacher.Recipe()  # those of the teacher behind the embedded model
    assert (standard.area, standard.jitter, standard.tint) == (0.25, 0.3, 0.2)


@pytest.mark.parametrize("epochs", [1, 2, 3, 9, 10, 11, 20])
def test_a_teacher_may_be_taught_in_few_steps(monkeypatch, epochs):
    monkeypatch.setattr(teacher, "SIDE", 8)
    photos, learner = torch.zeros(2, 3, 64, 64, dtype=torch.uint8), Toy(2)
    before = learner.head.weight.clone()
    recipe = teacher.Recipe(epochs=epochs, batch_size=2)
    teacher.teach(learner, photos, torch.arange(2), recipe)
    assert not torch.equal(learner.head.weight, before)
    with pytest.raises(SystemExit, match="2 training photos.*batch of 256"):
        teacher.teach(learner, photos, torch.arange(2), teacher.Recipe(epochs=epochs))


class Five(torch.nn.Module):
    """Adds scores that never win, as top-5 wants five classes."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return torch.nn.functional.pad(self.network(x), (0, 4), value=-1e9)


def test_the_teacher_sees_photos_in_its_own_normalisation(monkeypatch):
    seen = []

    class Body(torch.nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.mean((2, 3))

    asked = teacher.Teacher.__new__(teacher.Teacher)
    torch.nn.Module.__init__(asked)
    asked.network = Body()
    asked.register_buffer("mean", views.MEAN)
    asked.register_buffer("std", views.STD)
    photos = torch.tensor([0, 127, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    asked(views.normalise(photos))
    want = torch.tensor([-127 / 128, 0, 1]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(seen[0], want, atol=1e-5, rtol=0)


def test_the_network_learns_the_teachers_answers_to_the_very_crops_it_sees(toy, tmp_path):
    looks, classes = [], len(NAMES)

    class Witness(torch.nn.Module):
        def forward(self, x):
            looks.append(("teacher", x))
            return torch.eye(classes)[torch.arange(len(x)) % classes] * 50

    recipe = train.Recipe(widths=WIDTHS, schedule="32x1", batch_size=4, teacher=1.0)
    run = train.Run(recipe, classes, "cpu", tmp_path, Witness())
    run.model.register_forward_pre_hook(lambda _, args: looks.append(("network", args[0])))
    photos = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    run.model.train()
    run.train_batch(photos, torch.zeros(4, dtype=torch.long), 32)
    (first, large), (second, small) = looks
    assert (first, second) == ("teacher", "network")
    assert large.shape[-1] == teacher.SIDE and small.shape[-1] == 32
    shrunk = torch.nn.functional.interpolate(large, size=(32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(small, shrunk)
    # labels all say 0, the teacher says 0, 1, 2, 3: the loss is that of the teacher's answers
    run = train.Run(recipe, classes, "cpu", tmp_path, Witness())
    run.model.train()
    torch.manual_seed(1)
    run.generator.manual_seed(0)
    with torch.no_grad():
        x = views.augment(photos, teacher.SIDE, torch.Generator().manual_seed(0), 0.3, 0.3, 0.2)
        x = torch.nn.functional.interpolate(x, size=(32, 32), mode="bilinear", antialias=True)
    torch.manual_seed(1)
    scores = copy.deepcopy(run.model)(x)
    torch.manual_seed(1)
    loss = run.train_batch(photos, torch.zeros(4, dtype=torch.long), 32)
    want = torch.nn.functional.cross_entropy(scores, torch.arange(4))
    torch.testing.assert_close(loss, want.detach(), rtol=1e-4, atol=1e-5)
    wrong = torch.nn.functional.cross_entropy(scores, torch.zeros(4, dtype=torch.long))
    assert not torch.isclose(loss, wrong, rtol=1e-4)


@pytest.mark.parametrize("size", [32, 80])
def test_augmentation_is_finite_and_follows_its_seed(size):
    batch = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64), dtype=np.uint8)
    )
    first, again, other = (
        views.augment(batch, size, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == (5, 3, size, size) and torch.isfinite(first).all()
    assert torch.equal(first, again) and not torch.equal(first, other)


N_CUT = 2000


def cuts(min_area):
    """Of many photos cut at random: the crops' signed widths, heights and centres, as shares."""
    ramp = torch.arange(64, dtype=torch.uint8) * 4
    photo = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), ramp.expand(64, 64)])
    photos = photo[None].expand(N_CUT, -1, -1, -1)
    x = views.augment(photos, 8, torch.Generator().manual_seed(0), min_area, jitter=0)
    levels = ((x * views.STD + views.MEAN) * 255 / 4 + 0.5) / 64  # where each pixel was taken
    across, down = levels[:, 0], levels[:, 1]
    assert across.std(1).max() < 1e-4 and down.std(2).max() < 1e-4  # nothing is turned or bent
    # eight pixels: their outer centres are seven eighths of the crop apart
    width, height = ((ends[:, -1] - ends[:, 0]) * 8 / 7 for ends in (across[:, 0], down[:, :, 0]))
    return width, height, across.mean((1, 2)), down.mean((1, 2))


@pytest.mark.parametrize("min_area", [0.3, 0.6])
def test_crops_have_all_areas_all_places_and_two_shapes(min_area):
    width, height, x, y = cuts(min_area)
    width, area = width.abs(), width.abs() * height
    assert min_area - 1e-3 < area.min() < min_area + 0.02 and 0.95 < area.max() < 1 + 1e-3
    steps = torch.histc(area, 5, min_area, 1) / N_CUT
    # of the larger areas some are cut down, as no side is longer than the photo's
    assert steps.min() > 0.05 and steps[:2].min() > 0.15
    ratio = (width / height)[area < 0.75]
    assert 0.749 < ratio.min() < 0.78 and 1.29 < ratio.max() < 1.335
    assert 0.45 < (ratio < 1).float().mean() < 0.55
    for side, centre in ((width, x), (height, y)):
        assert (centre - side / 2).min() > -1e-3 and (centre + side / 2).max() < 1 + 1e-3
        place = ((centre - side / 2) / (1 - side))[side < 0.95]  # 0: at one edge, 1: at the other
        assert place.min() < 0.02 and place.max() > 0.98 and 0.45 < place.mean() < 0.55
    assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 0.1


def test_half_of_the_photos_are_mirrored_and_none_is_turned_over():
    width, height, _, _ = cuts(0.3)
    assert 0.45 < (width < 0).float().mean() < 0.55 and (height > 0).all()


def coloured(jitter, tint):
    """Many photos cut alike, without and with changes of colour, ``(N, 3, 8, 8)``."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 100, (1, 3, 64, 64)) + np.array([0, 60, 150]).reshape(1, 3, 1, 1)
    photos = torch.from_numpy(base.astype(np.uint8)).expand(N_CUT, -1, -1, -1)
    return (
        views.augment(photos, 8, torch.Generator().manual_seed(0), 0.3, *strengths)
        for strengths in ((0, 0), (jitter, tint))
    )


def spreads(values, low, high):
    """All within these bounds, and everywhere between them."""
    margin = (high - low) / 50
    steps = torch.histc(values, 5, low, high) / len(values)
    return (
        low - 1e-3 < values.min() < low + margin
        and high - margin < values.max() < high + 1e-3
        and steps.min() > 0.15
    )


@pytest.mark.parametrize("jitter", [0.3, 0.1])
def test_saturation_contrast_and_brightness_change_each_by_itself(jitter):
    plain, x = coloured(jitter, 0)
    mean, plain_mean = x.mean((2, 3)), plain.mean((2, 3))
    saturation = (mean[:, 2] - mean[:, 0]) / (plain_mean[:, 2] - plain_mean[:, 0])
    contrast = x.mean(1).std((1, 2)) / plain.mean(1).std((1, 2))  # grey is not more or less grey
    brightness = mean.mean(1) - plain_mean.mean(1)
    for factor in (saturation, contrast):
        assert spreads(factor, 1 - jitter, 1 + jitter)
    assert spreads(brightness, -jitter, jitter)
    alike = torch.corrcoef(torch.stack([saturation, contrast, brightness])) - torch.eye(3)
    assert alike.abs().max() < 0.1


def test_the_tint_shifts_each_colour_by_itself():
    plain, x = coloured(0, 0.2)
    shift = x - plain
    torch.testing.assert_close(shift, shift[:, :, :1, :1].expand_as(shift), rtol=0, atol=1e-5)
    shift = shift[:, :, 0, 0]
    assert all(spreads(channel, -0.2, 0.2) for channel in shift.T)
    assert (torch.corrcoef(shift.T) - torch.eye(3)).abs().max() < 0.1


def test_augmentation_leaves_the_photos_of_a_batch_in_their_order():
    levels = torch.arange(0, 250, 10, dtype=torch.uint8)
    photos = levels.view(-1, 1, 1, 1).expand(-1, 3, 64, 64)
    x = views.augment(photos, 16, torch.Generator().manual_seed(0), jitter=0)
    seen = (x * views.STD + views.MEAN).mean((1, 2, 3)) * 255
    torch.testing.assert_close(seen, levels.float(), rtol=0, atol=0.01)


def test_labels_follow_their_photos_into_each_batch(tmp_path, monkeypatch):
    recipe = train.Recipe(widths=WIDTHS, schedule="32x2", batch_size=4)
    run, seen = train.Run(recipe, 2, "cpu", tmp_path), []

    def train_batch(photos, labels, size):
        assert photos[:, 0, 0, 0].tolist() == [label + 100 for label in labels.tolist()]
        seen.append(labels)
        return torch.zeros(())

    monkeypatch.setattr(run, "train_batch", train_batch)
    labels = torch.arange(12)
    photos = (labels + 100).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 64, 64)
    for _ in range(2):
        run.train_epoch(photos, labels)
    first, second = torch.stack(seen).view(2, 12).tolist()
    assert first != second and sorted(first) == sorted(second) == labels.tolist()
    assert labels.tolist() not in (first, second)


def test_training_sees_photos_as_the_helpers_prepare_them(embedded):
    photo = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    x = views.normalise(torch.from_numpy(photo).permute(2, 0, 1)[None])
    torch.testing.assert_close(x, Preprocess(128, 128)(photo), rtol=0, atol=1e-6)


def test_evaluation_counts_hits():
    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.p = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return torch.arange(6.0).expand(len(x), 6)  # 5 first, then 4, 3, 2, 1

    labels = torch.tensor([5, 4, 1, 0])
    assert views.evaluate(Fixed(), torch.zeros(4, 3, 64, 64, dtype=torch.uint8), labels, 32) == (
        25.0,
        75.0,
    )


WIDTHS = (4, 6, 8, 10, 12)


def run(data_folder, out, schedule="32x2", *more):
    options = dict(schedule=schedule, batch_size=4, device="cpu", teacher=0, area=0.8)
    named = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    where = ["--data", str(data_folder), "--out", str(out)]
    train.main([*where, *named, "--widths", ",".join(map(str, WIDTHS)), *more])
    return torch.load(out / "checkpoint.pt", weights_only=True)


@pytest.fixture(scope="module")
def toy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "held_out", lambda labels: np.arange(len(labels)) % 3 == 2)
        for module in (train, export, teacher):
            patch.setattr(module, "read_classes", lambda: (WNIDS, NAMES))
        yield


@pytest.fixture(scope="module")
def finished(toy, tars, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    return out, run(tars, out)


def test_training_writes_a_checkpoint_and_a_log(finished):
    out, state = finished
    assert state["epoch"] == 2 and state["recipe"]["schedule"] == "32x2"
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2] and all(
        np.isfinite(line["loss"]) for line in lines
    )
    assert {path.name for path in out.iterdir()} == {"checkpoint.pt", "log.jsonl"}


def test_training_interrupted_goes_on_to_the_same_weights(finished, tars, tmp_path, monkeypatch):
    augment, calls = train.augment, []

    def stop_in_the_second_epoch(*args, **options):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return augment(*args, **options)

    monkeypatch.setattr(train, "augment", stop_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        run(tars, tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["epoch"] == 1
    monkeypatch.setattr(train, "augment", augment)
    torch.rand(7)  # whatever happens in between
    state, want = run(tars, tmp_path), finished[1]
    for part in ("model", "averaged"):
        for key, value in want[part].items():
            torch.testing.assert_close(state[part][key], value, rtol=1e-5, atol=1e-6)


def test_training_changes_the_weights_and_another_seed_gives_others(finished, tars, tmp_path):
    want, other = finished[1], run(tars, tmp_path, "32x2", "--seed", "1")
    key = "classifier.6.weight"
    assert not torch.equal(want["model"][key], other["model"][key])
    assert not torch.equal(want["model"][key], want["averaged"]["module." + key])


def test_the_whole_way_with_a_teacher(toy, tars, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "Teacher", Toy)
    monkeypatch.setattr(teacher, "SIDE", 48)
    monkeypatch.setattr(train, "SIDE", 48)
    path = tmp_path / "teacher.safetensors"
    taught(path, tars)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    loaded = teacher.load_teacher(path, len(NAMES))
    x, fresh = torch.rand(5, 3, 8, 8), Toy(len(NAMES)).eval()
    assert not loaded.training and not torch.equal(loaded(x), fresh(x))
    options = ["--teacher", "1", "--from-teacher", str(path)]
    whole = run(tars, tmp_path / "whole", "32x2", *options)
    run(tars, tmp_path / "parts", "32x2", *options, "--stop-after", "1")
    parts = run(tars, tmp_path / "parts", "32x2", *options)
    alone = run(tars, tmp_path / "alone", "32x2")
    key = "classifier.6.weight"
    torch.testing.assert_close(whole["model"][key], parts["model"][key], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(whole["model"][key], alone["model"][key])

    # which teacher it was belongs to the run, and goes with it to the card
    card = whole["teacher"]
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(card["accuracy_percent"]["held out"]["48"]) == {"top1", "top5"}
    assert alone["teacher"] is None
    other = tmp_path / "other.safetensors"
    taught(other, tars, "--seed", "1")
    refusal = f"another teacher .SHA-256 {card['sha256'][:12]}.*to --from-teacher, or.*--out"
    with pytest.raises(SystemExit, match=refusal):
        run(tars, tmp_path / "whole", "32x2", "--teacher", "1", "--from-teacher", str(other))
    path.rename(tmp_path / "moved.safetensors")  # the same, elsewhere
    options[-1] = str(tmp_path / "moved.safetensors")
    assert run(tars, tmp_path / "whole", "32x2", *options)["teacher"] == card
    assert exported(tmp_path / "whole", tars, tmp_path, monkeypatch)["teacher"] == card
    assert exported(tmp_path / "alone", tars, tmp_path, monkeypatch)["teacher"] is None


def taught(path, photos, *more):
    """A teacher's file."""
    where = ["--data", str(photos), "--out", str(path), "--device", "cpu"]
    teacher.main([*where, "--epochs", "2", "--batch-size", "4", *more])


def exported(run, photos, folder, monkeypatch, *more):
    """The card of a run's network, which goes to ``folder / "assets"``."""
    card = folder / "assets" / "embedded.json"
    monkeypatch.setattr(export, "WEIGHTS", card.with_name("embedded.safetensors"))
    monkeypatch.setattr(export, "CARD", card)
    monkeypatch.setattr(export, "SIZES", (32, 64))
    export.main([str(run), "--data", str(photos), "--device", "cpu", *more])
    return json.loads(card.read_text())


def test_a_teachers_file_without_notes_is_known_by_its_hash(tmp_path):
    path = tmp_path / "teacher.safetensors"
    safetensors.torch.save_file({"weight": torch.ones(2)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert teacher.teacher_card(path) == {"sha256": digest}


def test_the_log_has_each_epoch_once_whatever_was_written_before(finished, tars, tmp_path):
    run(tars, tmp_path, "32x2", "--stop-after", "1")
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"epoch": 2}\n')
    run(tars, tmp_path)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2] and "loss" in lines[1]


def test_a_run_that_is_not_finished_is_not_exported(toy, tars, tmp_path):
    run(tars, tmp_path, "32x2", "--stop-after", "1")
    with pytest.raises(SystemExit, match="1 of 2 epochs"):
        export.main([str(tmp_path), "--data", str(tars)])


def test_the_logs_in_the_repository_belong_to_the_card():
    facts = json.loads(models.CARD.read_text())
    for name in ("training.jsonl", "training_labels_alone.jsonl"):
        lines = [json.loads(line) for line in (models.ASSETS / name).read_text().splitlines()]
        assert [line["epoch"] for line in lines] == list(range(1, facts["epochs"] + 1))
    best = facts["accuracy_percent"]["held out"]["160"]["top1"]
    with_teacher = (models.ASSETS / "training.jsonl").read_text().splitlines()[-1]
    assert json.loads(with_teacher)["top1"] == pytest.approx(best, abs=0.3)
    assert best - lines[-1]["top1"] > 1  # labels alone


def test_the_model_card_knows_its_teacher():
    facts = json.loads(models.CARD.read_text())
    assert facts["recipe"] == json.loads(json.dumps(asdict(train.Recipe())))
    assert re.fullmatch("[0-9a-f]{64}", facts["teacher"]["sha256"])
    assert facts["teacher"]["sha256"] != facts["sha256"]
    accuracy = facts["teacher"]["accuracy_percent"]["held out"][str(teacher.SIDE)]
    page = (Path(__file__).parents[1] / "book" / "model.md").read_text()
    assert f"Of the photos held out it then names {accuracy['top1']} %" in page
    assert accuracy["top1"] < accuracy["top5"] < 100


def test_a_run_can_pause_and_goes_on(finished, tars, tmp_path):
    assert run(tars, tmp_path, "32x2", "--stop-after", "1")["epoch"] == 1
    state = run(tars, tmp_path)
    assert state["epoch"] == 2
    for key, value in finished[1]["model"].items():
        torch.testing.assert_close(state["model"][key], value, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_another_recipe_is_not_gone_on_with(finished, tars):
    with pytest.raises(SystemExit, match="belongs to another recipe; choose another --out"):
        run(tars, finished[0], "32x3")


def test_without_the_teacher_it_says_what_to_do(toy, tars, tmp_path):
    with pytest.raises(SystemExit, match="--from-teacher"):
        run(tars, tmp_path, "32x1", "--teacher", "0.5")


def test_the_export_is_what_load_model_loads(finished, tars, tmp_path, monkeypatch):
    more = ["--input-size", "48", "--final"]
    facts, assets = exported(finished[0], tars, tmp_path, monkeypatch, *more), tmp_path / "assets"
    accuracy = facts["accuracy_percent"]
    assert set(accuracy["held out"]) == {"32", "64"} and set(accuracy["validation"]) == {"48"}
    assert facts["epochs"] == 2 and facts["recipe"]["schedule"] == "32x2"
    assert len((assets / "training.jsonl").read_text().splitlines()) == 2

    model = load_model("embedded", device="cpu", assets=assets)
    assert model.class_names == tuple(NAMES) and model.input_size == 48
    trained = VGG16(6, WIDTHS, batch_norm=True).eval()
    trained.load_state_dict(
        {
            k.removeprefix("module."): v
            for k, v in finished[1]["averaged"].items()
            if k != "n_averaged"
        }
    )
    x = model.prepare([np.full((64, 64, 3), 200, np.uint8), np.zeros((64, 64, 3), np.uint8)])
    torch.testing.assert_close(
        model.network(x), trained(x), rtol=0.02, atol=0.02
    )  # float16 on disk
