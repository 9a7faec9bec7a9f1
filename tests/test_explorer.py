"""The explorer: its logic against the methods, its widgets under ipywidgets 8 and 7.7.1."""

import datetime
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ImageFile

from helpers import (
    METHODS,
    PhotoError,
    grad_cam,
    guided_gradcam,
    heat_map,
    resize_maps,
    saliency,
    sample,
)
from helpers.interactive.explorer import CHOICES, COLOURS, SCALES, Explorer
from helpers.interactive.stepper import describe, frame, headline

from .comparing import assert_close
from .pictures import REFUSED, TAKEN, header_only

widgets = importlib.import_module("helpers.interactive.widgets")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def asked(embedded):
    return Explorer(embedded, sample("coffee"))


@pytest.fixture
def view(embedded):
    return widgets.ExplorerView(embedded)


def as_upload(content, name="photo.png"):
    """What FileUpload.value is in the ipywidgets at hand."""
    if int(widgets.w.__version__.split(".")[0]) == 7:
        return {name: {"metadata": {"name": name}, "content": content}}
    return (
        {
            "name": name,
            "type": "",
            "size": len(content),
            "content": memoryview(content),
            "last_modified": datetime.datetime.now(datetime.UTC),
        },
    )


@pytest.mark.parametrize("c", [0, 31])
def test_maps_are_those_of_the_methods(embedded, asked, c):
    network, x = embedded.network, asked.x
    close = {"rtol": 1e-3, "atol": 1e-5}
    for layer in (30, 29, 16, -1):
        want = resize_maps(grad_cam(network, x, c, layer).maps, x.shape[-2:])[0]
        assert_close(asked.map(c, "Grad-CAM", layer), want, **close)
    names = ("gradient", "Deconvnet", "guided backpropagation")
    for name, rule in zip(names, METHODS, strict=True):
        assert_close(asked.map(c, name), saliency(network, x, c, rule)[0], **close)
    assert_close(asked.map(c, "Guided Grad-CAM"), guided_gradcam(network, x, c).maps[0], **close)
    assert asked.passes == 1


def test_a_map_that_is_written_over_is_kept_all_the_same(asked):
    want = asked.map(0).clone()
    asked.map(0).zero_()
    assert want.any() and torch.equal(asked.map(0), want)


def test_what_there_is_not_is_refused(asked):
    for layer in (31, -32, 999):
        with pytest.raises(IndexError, match="layers 0 to 30"):
            asked.map(0, "Grad-CAM", layer)
    for method in ("gradient", "Grad-CAM"):
        with pytest.raises(ValueError, match="opacity is a share"):
            asked.picture(0, method, opacity=3.0)


def test_top_classes_are_the_models(embedded, asked):
    assert [(name, pytest.approx(p, abs=1e-5)) for _, name, p in asked.top] == embedded.top(
        asked.x
    )[0]


@pytest.mark.parametrize("method", CHOICES)
@pytest.mark.parametrize("scale", SCALES)
def test_pictures_lie_between_photo_and_map(asked, method, scale):
    args = {"c": asked.top[0][0], "method": method, "scale": scale}
    photo, half, full = (asked.picture(**args, opacity=s) for s in (0, 0.5, 1))
    np.testing.assert_allclose(photo, asked.seen)
    np.testing.assert_allclose(half, (photo + full) / 2, atol=1e-9)
    assert full.min() >= 0 and full.max() <= 1


@pytest.mark.parametrize(
    "scale, share", [("percentile", 99.5), ("largest", 100), ("min-max", None)]
)
def test_a_pictures_scale_is_what_its_words_say(asked, scale, share):
    c, look = asked.top[0][0], {"scale": scale, "opacity": 1}
    cam, signed = asked.map(c), asked.map(c, "gradient").permute(1, 2, 0)
    if share:
        limits = [np.percentile(m.abs().numpy(), share) for m in (cam, signed)]
        cam, signed = (
            (m.double().numpy() / limit).clip(-1, 1)
            for m, limit in zip((cam, signed), limits, strict=True)
        )
        signed = signed / 2 + 0.5
    else:
        cam, signed = ((m - m.min()) / (m.max() - m.min()) for m in (cam, signed))
    for colours in COLOURS:
        want = heat_map(np.asarray(cam, dtype=float), colours)
        got = asked.picture(c, colours=colours, **look)
        # a value on the border of two of the table's 256 colours may take either
        assert (np.abs(got - want).max(axis=2) < 0.02).mean() > 0.999
        assert np.abs(got - want).mean() < 1e-3
    got = asked.picture(c, "gradient", **look)
    np.testing.assert_allclose(got, np.asarray(signed), atol=1e-6)
    assert not np.allclose(got, 0.5)


def test_classes_are_found_by_a_part_of_their_name_if_no_other_has_it(embedded, asked):
    assert asked.find(" Espresso ") == embedded.class_index("espresso")
    assert asked.find("GYPTIAN c") == embedded.class_index("Egyptian cat")
    assert sum("bee" in name for name in embedded.class_names) > 1
    assert asked.find(" bee ") == embedded.class_index("bee")
    for words in ("", " ", "no such thing"):
        with pytest.raises(KeyError, match="knows no class"):
            asked.find(words)
    with pytest.raises(KeyError, match="knows no class 'cat'; did you mean Persian cat"):
        asked.find(" cat ")


def test_the_layers_are_named_with_their_sizes_the_last_one_first(embedded, asked):
    side = embedded.input_size
    last, before, *_, first = asked.layers()
    assert last == (f"features[30] MaxPool2d, {side // 32}x{side // 32}", 30)
    assert before == (f"features[29] ReLU, {side // 16}x{side // 16}", 29)
    assert first == (f"features[1] ReLU, {side}x{side}", 1)
    assert len(asked.layers()) == 13 + 5


def test_a_picture_is_told_in_a_sentence(asked):
    c, name, p = asked.top[1]
    assert asked.describe(c, "gradient") == f"gradient for {name!r}, probability {p:.1%}"
    for layer in (30, -1):
        assert asked.describe(c, "Grad-CAM", layer).startswith("Grad-CAM at features[30] for ")
    assert asked.describe(c, "Grad-CAM", -2).startswith("Grad-CAM at features[29] for ")


def test_what_does_not_exist_is_refused(asked):
    with pytest.raises(ValueError, match="choose one of Grad-CAM"):
        asked.map(0, "LIME")
    with pytest.raises(IndexError, match="no class"):
        asked.map(10**6, "gradient")


@pytest.mark.parametrize("data, words", REFUSED.values(), ids=REFUSED)
def test_a_bad_upload_is_explained_and_everything_stays(view, data, words):
    view.choose(view.state.top[2][0])
    before = (view.c, view.state.x, view.state.top, view.pictures.value)
    with pytest.raises(PhotoError, match=words):
        view.state.load(data)
    view.upload.set_trait("value", as_upload(data))
    assert "<p" in view.message.value and len(view.message.value) > 80
    assert (
        view.c,
        view.state.x,
        view.state.top,
        view.pictures.value,
    ) == before and view.state.passes == 1
    view.sample.value = "coffee"
    assert view.message.value == "" and view.state.passes == 2


@pytest.mark.parametrize("data, words", TAKEN.values(), ids=TAKEN)
def test_unusual_photos_are_taken_and_what_was_done_to_them_is_said(view, data, words):
    view.upload.set_trait("value", as_upload(data))
    assert (
        words in view.message.value
        and bool(words) == bool(view.message.value)
        and view.state.passes == 2
    )
    np.testing.assert_allclose(
        view.state.seen, np.asarray(view.state.model.preprocess.cropped(data)) / 255, atol=1e-6
    )
    view.sample.value = "chelsea"  # shown at first; after an upload it can be chosen again
    assert view.message.value == "" and view.state.passes == 3


def test_of_a_huge_upload_nothing_is_decoded(view, monkeypatch):
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append(self.size))
    view.upload.set_trait("value", as_upload(header_only(20_000, 20_000)))
    assert "too many pixels" in view.message.value and not decoded


def test_every_control_draws_again_without_a_second_pass(view):
    for control, values in [
        (view.layer, [29]),
        (view.opacity, [0.3]),
        (view.colours, COLOURS[1:]),
        (view.scale, ["largest", "min-max"]),
        (view.method, CHOICES[1:]),
    ]:
        for value in values:
            before = view.pictures.value
            control.value = value
            assert view.pictures.value != before, value
    for act in (
        view.buttons[1].click,
        lambda: setattr(view.typed, "value", "school bus"),
        lambda: setattr(view.second, "value", view.state.top[0][0]),
    ):
        before = view.pictures.value
        act()
        assert view.pictures.value != before
    assert (
        view.pictures.value.count("<img alt=") == 3
        and view.state.passes == 1
        and view.layer.disabled
    )


def test_an_unknown_class_is_explained(view):
    before = view.pictures.value
    view.typed.value = "unicorn"
    assert "knows no class" in view.message.value and view.pictures.value == before


def test_the_figure_is_saved_as_png(view):
    assert view.make_file().startswith(b"\x89PNG") and 'download="explained.png"' in view.link.value
    view.opacity.value = 0.1
    assert view.link.value == ""  # it would be the last picture's


def test_the_stepper_shows_the_frames(embedded):
    x = embedded.prepare(sample())
    view = widgets.StepperView(embedded, x, 3)
    for step, rule in ((0, "guided"), (35, "guided"), (35, "gradient"), (62, "deconvnet")):
        view.step.value, view.rule.value = step, rule
        shot = frame(view.way, step, rule, 3)
        assert all(
            widgets.html.escape(words) in view.picture.value
            for words in (headline(shot), describe(shot))
        )
    view.on.click()
    assert view.step.value == 62
    view.back.click()
    assert view.step.value == 61


@pytest.mark.slow
@pytest.mark.skipif(
    "EXPLAIN_OTHER_WIDGETS" in os.environ, reason="this is the run under the other version"
)
def test_the_same_under_the_ipywidgets_of_colab(tmp_path):
    """All tests of this file again, with ipywidgets 7.7.1 put before the installed one."""
    fetch = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        str(tmp_path),
        "ipywidgets==7.7.1",
        "ipython_genutils",
    ]
    fetched = subprocess.run(fetch, capture_output=True, text=True, timeout=120)
    if fetched.returncode:
        pytest.skip(
            f"ipywidgets 7.7.1 could not be fetched: {fetched.stderr.strip().splitlines()[-1]}"
        )
    environment = {
        **os.environ,
        "EXPLAIN_OTHER_WIDGETS": "1",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
    }
    check = "import ipywidgets; assert ipywidgets.__version__ == '7.7.1', ipywidgets.__version__"
    subprocess.run([sys.executable, "-c", check], env=environment, check=True)
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))]
    result = subprocess.run(tests, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]
    assert "passed" in result.stdout
