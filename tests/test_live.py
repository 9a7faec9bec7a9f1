"""The page "Try your own photo" in Chromium.

Its numbers are PyTorch's, and what can go wrong is said in a sentence.
"""

import base64
import io
import json
import re
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import SAMPLES, overlay, sample, scaling
from helpers.interactive.export import OUTPUTS, Explanation
from helpers.methods import RULES, TABLE

from .pictures import REFUSED, TAKEN, encoded

STATIC = Path(__file__).parents[1] / "book" / "static" / "live"


def test_the_code_names_no_other_server():
    for path in STATIC.glob("*.*s*"):
        assert not re.search(r"https?://|//[a-z]+\.", re.sub(r"// .*", "", path.read_text())), (
            path.name
        )


LISTEN = """
    window.answers = [];
    document.addEventListener("explained", ({detail}) => window.answers.push(detail), true);
"""
#: The arrays of the latest answer, as names, types and text: a character a byte.
ARRAYS = """() => {
    const text = (array) =>
        new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
            .reduce((text, byte) => text + String.fromCharCode(byte), "");
    return Object.entries(window.answers.at(-1))
        .filter(([, value]) => ArrayBuffer.isView(value))
        .map(([name, value]) => [name, value.constructor.name, text(value)]);
}"""
#: Drop or paste a photo that lies at an address.
BRING = """async ([kind, property, target, address]) => {
    const photo = await (await fetch(address)).blob();
    const data = new DataTransfer();
    data.items.add(new File([photo], "photo.webp", {type: "image/webp"}));
    const Kind = kind === "drop" ? DragEvent : ClipboardEvent;
    const event = new Kind(kind, {[property]: data, bubbles: true, cancelable: true});
    document.querySelector(target).dispatchEvent(event);
}"""
#: A camera that films a small canvas.
CAMERA = """() => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [64, 48];
    setInterval(() => canvas.getContext("2d").fillRect(0, 0, 9, 9), 50);
    navigator.mediaDevices.getUserMedia = async () => window.stream = canvas.captureStream(5);
}"""
NO_CAMERA = """() => {
    navigator.mediaDevices.getUserMedia = async () => { throw new Error("Permission denied") };
}"""


@pytest.fixture
def live(site, page):
    """The page, with the first sample explained."""
    page.add_init_script(LISTEN)
    page.goto(f"{site}/book/try.html")
    answered(page, 1)
    return page


def answered(page, count):
    """Wait for the answer of that number."""
    page.wait_for_function("count => window.answers.length >= count", arg=count, timeout=60_000)


def ask(page, act):
    """Do something and wait for the answer it brings."""
    count = page.evaluate("window.answers.length")
    act()
    answered(page, count + 1)
    return latest(page)


def latest(page) -> dict[str, np.ndarray]:
    """The arrays of the latest answer, flat.

    They travel as text: Chromium's own way takes seconds for so many numbers.
    """
    raw = page.evaluate(ARRAYS)
    kinds = {"Float32Array": np.float32, "Uint8ClampedArray": np.uint8}
    arrays = {
        name: np.frombuffer(text.encode("latin-1"), kinds[kind]).astype(float)
        for name, kind, text in raw
    }
    return {**arrays, "explained": np.array([page.evaluate("window.answers.at(-1).explained")])}


def said(page):
    return page.locator("#live [data-part=status]").inner_text()


def drawn(page, name):
    """The pixels of a canvas, RGB."""
    address = page.evaluate(
        "name => document.querySelector(`#live canvas[data-map=${name}]`).toDataURL()", name
    )
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB")
    ).astype(int)


def upload(page, content, name="photo.png"):
    page.locator("#live input[type=file]").set_input_files(
        {"name": name, "mimeType": "image/png", "buffer": content}
    )


def agree(embedded, got, photo, c=-1):
    """Pixels within 2/255 of Python's; on the same pixels, every output as PyTorch computes it."""
    size = embedded.input_size
    want = np.asarray(embedded.preprocess.cropped(photo)).astype(int)
    square = got["square"].reshape(size, size, 3)
    assert np.abs(square - want).max() <= 2
    with torch.no_grad():
        outputs = Explanation(embedded.network)(
            embedded.preprocess(Image.fromarray(square.astype(np.uint8))), torch.tensor([c])
        )
        scores = embedded.network(embedded.preprocess(photo))
    for name, values in zip(OUTPUTS, outputs, strict=True):
        off = np.abs(got[name].reshape(values.shape) - values.numpy()) / values.abs().max().numpy()
        # single pixels where rounding decides about a mask or a switch; see test_export
        assert off.mean() <= 1e-4 and off.max() <= (
            1e-4 if name in ("scores", "explained") else 0.05
        ), name
    # and with Python's own pixels
    assert np.abs(got["scores"] - scores[0].numpy()).max() < 0.1


@pytest.mark.parametrize("name", SAMPLES)
def test_numbers_are_pytorchs(live, embedded, name):
    got = (
        latest(live)
        if name == SAMPLES[0]
        else ask(live, live.get_by_role("button", name=f"sample photo: {name}").click)
    )
    agree(embedded, got, sample(name))
    assert f"“{embedded.top(embedded.prepare(sample(name)), 1)[0][0][0]}”" in said(live)


def test_pictures_are_scaled_and_coloured_as_in_the_book(live):
    got = latest(live)
    size = round((len(got["square"]) / 3) ** 0.5)
    photo = got["square"].reshape(size, size, 3)
    cam = scaling.by_max(got["grad_cam"].reshape(size, size))
    assert np.abs(drawn(live, "photo") - photo).max() == 0
    assert np.abs(drawn(live, "grad_cam") - 255 * overlay(photo / 255, cam)).max() < 1.5
    for name in ("deconvnet", "guided", "guided_grad_cam"):
        want = 255 * scaling.signed(got[name].reshape(3, size, size), 99.5)
        assert np.abs(drawn(live, name) - want).max() < 1


def test_any_size_is_shrunk_as_in_python(live, embedded):
    for width, height in [(300, 200), (97, 640), (128, 128), (61, 40), (1201, 1600)]:
        coarse = np.random.default_rng(1).integers(
            0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8
        )
        photo = Image.fromarray(coarse).resize((width, height))
        agree(embedded, ask(live, partial(upload, live, encoded(photo))), photo)


def test_classes_are_asked_by_mouse_keyboard_and_name(live, embedded):
    before = drawn(live, "guided_grad_cam")
    second = ask(live, lambda: live.locator("#live [data-part=classes] label").nth(1).click())
    agree(embedded, second, sample(SAMPLES[0]), int(second["explained"][0]))
    assert (drawn(live, "guided_grad_cam") != before).any()
    third = ask(live, lambda: live.keyboard.press("ArrowDown"))
    typed = ask(
        live,
        lambda: (
            live.locator("#live [data-part=any]").fill("espresso"),
            live.keyboard.press("Enter"),
        ),
    )
    assert typed["explained"][0] == embedded.class_index("espresso") and "“espresso”" in said(live)
    assert len({second["explained"][0], third["explained"][0], typed["explained"][0]}) == 3
    live.locator("#live [data-part=any]").fill("unicorn")
    live.keyboard.press("Enter")
    assert "knows no class “unicorn”" in said(live)


def test_slider_and_rules_change_the_pictures_without_another_run(live):
    full = drawn(live, "grad_cam")
    live.locator("#live [data-part=strength]").focus()
    live.keyboard.press("Home")
    assert (
        np.abs(drawn(live, "grad_cam") - drawn(live, "photo")).max() == 0
        and (full != drawn(live, "photo")).any()
    )
    pictures = []
    for rule in ("gradient", "deconvnet", "guided"):
        live.locator(f"#live input[value={rule}]").check()
        pictures.append(drawn(live, "ruled"))
        assert (drawn(live, "ruled_grad_cam") != pictures[-1]).any()
    assert all((a != b).any() for a, b in pairwise(pictures))
    assert np.array_equal(pictures[1], drawn(live, "deconvnet")) and np.array_equal(
        pictures[2], drawn(live, "guided")
    )
    assert live.evaluate("window.answers.length") == 1


def test_every_picture_has_a_text(live):
    canvases = live.locator("#live canvas").all()
    labels = [canvas.get_attribute("aria-label") for canvas in canvases]
    assert len(labels) == 7 and all(len(label) > 30 for label in labels)


def test_the_pictures_are_saved_as_png(live):
    with live.expect_download() as download:
        live.get_by_role("button", name="Download the pictures").click()
    picture = Image.open(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert (
        download.value.suggested_filename == "explained.png"
        and picture.format == "PNG"
        and picture.width > 1000
    )


def test_a_bad_file_gets_a_sentence_and_everything_stays(live):
    before = drawn(live, "guided_grad_cam")
    for name, (data, _) in REFUSED.items():
        live.evaluate("document.querySelector('#live [data-part=status]').textContent = ''")
        upload(live, data)
        live.wait_for_function(
            "document.querySelector('#live [data-part=status]').textContent !== ''"
        )
        assert (
            re.search("at most|at least|too long|could not be read", said(live))
            and live.locator("#live .trouble").count() == 1
        ), name
        assert (
            np.array_equal(drawn(live, "guided_grad_cam"), before)
            and live.evaluate("window.answers.length") == 1
        ), name
    ask(live, live.get_by_role("button", name="sample photo: coffee").click)
    assert live.locator("#live .trouble").count() == 0


def test_unusual_photos_are_read_as_in_python(live, embedded):
    for name, (data, _) in TAKEN.items():
        got = ask(live, partial(upload, live, data))
        if name != "CMYK":  # a browser has a colour profile for that, Pillow a formula
            agree(embedded, got, data)


def test_a_photo_is_dropped_or_pasted(live):
    for kind, property, target in (
        ("drop", "dataTransfer", "#live [data-part=drop]"),
        ("paste", "clipboardData", "body"),
    ):
        bring = partial(
            live.evaluate, BRING, [kind, property, target, "../_static/live/rocket.webp"]
        )
        ask(live, bring)


def test_a_photo_is_taken_by_the_camera_or_its_absence_is_explained(live):
    live.evaluate(CAMERA)
    live.get_by_role("button", name="Take a photo").click()
    live.wait_for_function("document.querySelector('#live video').videoWidth > 0")
    ask(live, live.get_by_role("button", name="Take it").click)
    assert live.evaluate("window.stream.getTracks().every(track => track.readyState === 'ended')")
    live.evaluate(NO_CAMERA)
    live.get_by_role("button", name="Take a photo").click()
    live.wait_for_selector("#live .trouble")
    assert "camera could not be used (Permission denied)" in said(live)


def test_opened_from_a_file_it_says_so(built, page):
    page.goto((built / "book" / "try.html").as_uri())
    assert (
        "Serve the folder instead" in said(page)
        and not page.locator("#live [data-part=drop]").count()
    )
    page.complaints[:] = [
        complaint for complaint in page.complaints if "file://" not in complaint
    ]  # the theme's own scripts


def test_without_webassembly_it_says_so(site, page):
    page.add_init_script("delete window.WebAssembly")
    page.goto(f"{site}/book/try.html")
    assert "lacks WebAssembly" in said(page)


def test_a_file_missing_on_the_server_is_named(site, page):
    page.route("**/model.onnx", lambda route: route.fulfill(status=404))
    page.goto(f"{site}/book/try.html")
    page.get_by_text("model.onnx is missing on the server (404)").wait_for()
    page.complaints[:] = [complaint for complaint in page.complaints if "404" not in complaint]


def test_what_the_page_loads_belongs_together(built, embedded):
    facts = json.loads((built / "_static" / "live" / "model.json").read_text())
    assert facts["bytes"] == (built / "_static" / "live" / "model.onnx").stat().st_size
    assert (
        tuple(facts["classNames"]) == embedded.class_names and facts["crop"] == embedded.input_size
    )
    assert [row["key"] for row in facts["methods"]] == [row.key for row in TABLE]
    assert {row["rule"] for row in facts["methods"]} == {None, *RULES}
    for name in SAMPLES:
        assert np.array_equal(
            np.asarray(Image.open(built / "_static" / "live" / f"{name}.webp").convert("RGB")),
            np.asarray(sample(name)),
        )
