"""The page "Try your own photo" in Chromium.

Its numbers are PyTorch's, and what can go wrong is said in a sentence.
"""

import base64
import gzip
import io
import itertools
import json
import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import SAMPLES, overlay, sample, scaling
from helpers.interactive.export import OUTPUTS, Explanation
from helpers.methods import RULES, TABLE
from helpers.networks.models import FITS

from .browser import open_tab, serve
from .pictures import REFUSED, TAKEN, encoded

STATIC = Path(__file__).parents[1] / "book" / "static" / "live"


def also(value):
    """One more case of a kind that `make test` tries with another."""
    return pytest.param(value, marks=pytest.mark.slow)


def test_the_code_names_no_other_server():
    for path in STATIC.glob("*.*s*"):
        assert not re.search(r"https?://|//[a-z]+\.", re.sub(r"// .*", "", path.read_text())), (
            path.name
        )


FAST_LINE = "Object.defineProperty(navigator, 'connection', {value: {downlink: 10}})"
SLOW_LINE = "Object.defineProperty(navigator, 'connection', {value: {downlink: 1}})"
LISTEN = """window.answers = [];
    document.addEventListener("explained", ({detail}) => window.answers.push(detail), true);"""


@pytest.fixture(scope="module")
def shared():
    """Holds the tab that the tests of an explained photo share: to load the page takes seconds."""
    with ExitStack() as stack:
        yield SimpleNamespace(stack=stack, tab=None)


@pytest.fixture
def live(request, site, chromium, shared):
    """The page, with the first sample explained; after a test that failed, in a tab of its own."""
    if shared.tab is None:
        shared.tab = shared.stack.enter_context(open_tab(chromium))
        start(shared.tab, site, FAST_LINE)
        answered(shared.tab, 1)
    else:
        put_back(shared.tab)
    page, failed = shared.tab, request.session.testsfailed
    yield page
    complaints, page.complaints[:] = page.complaints[:], []
    if complaints or request.session.testsfailed > failed:
        shared.tab = None
    assert not complaints, "\n".join(complaints)


def put_back(page):
    """What a test may have changed, as it was."""
    page.unroute_all()
    page.evaluate("""() => {
        const strength = document.querySelector("#live [data-part=strength]");
        strength.value = strength.defaultValue;
        strength.dispatchEvent(new Event("input"));
    }""")
    ask(page, sample_button(page, SAMPLES[0]).click)
    assert page.locator("#live .trouble").count() == 0
    page.evaluate("window.answers.splice(0, window.answers.length - 1)")


def start(page, site, line=SLOW_LINE, patience=None):
    """Open the page on a line of that kind; ``patience`` seconds make a download a stalled one."""
    page.add_init_script(LISTEN)
    page.add_init_script(line)
    if patience is not None:

        def impatient(route):
            words = route.fetch().text()
            assert 'data-patience="20"' in words
            route.fulfill(content_type="text/html", body=words.replace('="20"', f'="{patience}"'))

        page.route("**/try.html", impatient)
    page.goto(f"{site}/book/try.html", wait_until="domcontentloaded")


def sample_button(page, name):
    return page.get_by_role("button", name=f"sample photo: {name.replace('_', ' ')}")


def expect(page, words):
    """Wait for a status with these words, or of this pattern, shown as trouble."""
    page.locator("#live .trouble", has_text=words).wait_for()


def forgive(page, words):
    """Take out the complaints that the test itself may have caused; a worker's are not heard."""
    page.complaints[:] = [complaint for complaint in page.complaints if words not in complaint]


def answered(page, count):
    """Wait for the answer of that number."""
    page.wait_for_function("count => window.answers.length >= count", arg=count)


def ask(page, act):
    """Do something and wait for the answer it brings."""
    count = page.evaluate("window.answers.length")
    act()
    answered(page, count + 1)
    return latest(page)


def latest(page) -> dict[str, np.ndarray]:
    """The arrays of the latest answer, flat. They travel as text: as numbers they take seconds."""
    raw = page.evaluate("""() => Object.entries(window.answers.at(-1))
        .filter(([, value]) => ArrayBuffer.isView(value))
        .map(([name, value]) => {
            const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
            const text = bytes.reduce((text, byte) => text + String.fromCharCode(byte), "");
            return [name, value.constructor.name, text];
        })""")
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


FIRST = [*SAMPLES[:3], *(pytest.param(n, marks=pytest.mark.slow) for n in SAMPLES[3:])]


@pytest.mark.parametrize("name", FIRST)
def test_numbers_are_pytorchs(live, embedded, name):
    got = latest(live) if name == SAMPLES[0] else ask(live, sample_button(live, name).click)
    agree(embedded, got, sample(name))
    assert f"“{embedded.top(embedded.prepare(sample(name)), 1)[0][0][0]}”" in said(live)


def test_a_sample_that_is_not_named_rightly_is_labelled(live):
    labels = {name: sample_button(live, name).inner_text() for name in SAMPLES}
    assert {name: label for name, label in labels.items() if label} == {
        "rocket": "wrong",
        "astronaut": "no class",
    }
    remarks = {
        "rocket": "wrong about this photo: it says “obelisk”, though “projectile” is one",
        "astronaut": "None of the network's 108 classes fits this photo",
    }
    for name, remark in remarks.items():
        ask(live, sample_button(live, name).click)
        assert remark in said(live)
        # it is about the photo, whatever class of it is asked about, and about no other photo
        ask(live, live.locator("#live [data-part=classes] label").nth(1).click)
        assert remark in said(live)
    ask(live, partial(upload, live, encoded(sample("rocket"))))
    assert said(live).endswith("seconds.")


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
    size = embedded.input_size
    for width, height in [(300, 200), (97, 640), (size, size), (61, 40), (1201, 1600)]:
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
    assert "knows no class “unicorn”" in hint(live) and "“espresso”" in said(live)


def hint(page):
    return page.locator("#live [data-part=hint]").inner_text()


def test_a_typed_class_belongs_to_its_photo(live, embedded):
    field = live.locator("#live [data-part=any]")

    def type_it():
        field.fill("espresso")
        live.keyboard.press("Enter")

    ask(live, type_it)
    live.keyboard.press("Enter")
    assert "is what is shown" in hint(live)
    top = ask(live, sample_button(live, "rocket").click)["explained"][0]
    assert field.input_value() == "" and top != embedded.class_index("espresso")
    assert ask(live, type_it)["explained"][0] == embedded.class_index("espresso")


def test_the_slider_changes_grad_cam_without_another_run(live):
    full = drawn(live, "grad_cam")
    live.locator("#live [data-part=strength]").focus()
    live.keyboard.press("Home")
    assert (
        np.abs(drawn(live, "grad_cam") - drawn(live, "photo")).max() == 0
        and (full != drawn(live, "photo")).any()
    )
    assert live.evaluate("window.answers.length") == 1


NAMES = ["photo", "grad_cam"] + [
    name
    for rule in RULES
    for name in (rule, f"{rule}_product" if rule != "guided" else "guided_grad_cam")
]


def test_each_walk_stands_above_its_product_and_nothing_twice(live):
    got = latest(live)
    names = live.evaluate("[...document.querySelectorAll('#live canvas')].map(c => c.dataset.map)")
    assert names == NAMES
    for name in RULES:
        product = got[name].reshape(3, -1) * got["grad_cam"]
        want = 255 * scaling.signed(product, 99.5).reshape(
            drawn(live, name).transpose(2, 0, 1).shape
        )
        below = drawn(live, NAMES[NAMES.index(name) + 1]).transpose(2, 0, 1)
        assert np.abs(below - want).max() < 1.5 and (below != 127).any(), name
    assert all(
        (drawn(live, a) != drawn(live, b)).any() for a, b in itertools.combinations(names, 2)
    )


def test_every_picture_has_a_text(live):
    labels = live.evaluate("[...document.querySelectorAll('#live canvas')].map(c => c.ariaLabel)")
    assert len(labels) == len(NAMES) and all(len(label) > 30 for label in labels)


def test_the_pictures_are_saved_as_png(live):
    with live.expect_download() as download:
        live.get_by_role("button", name="Download the pictures").click()
    picture = Image.open(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert download.value.suggested_filename == "explained.png" and picture.format == "PNG"
    # a sheet of four columns and two rows, no picture twice; the photo is where it is on the page
    size = len(drawn(live, "photo"))
    pixels, side = np.asarray(picture.convert("RGB")).astype(int), 2 * size
    across, down = side + 16, side + 44
    tiles = [
        pixels[72 + r * down : 72 + r * down + side, 16 + c * across : 16 + c * across + side]
        for c in range(4)
        for r in range(2)
    ]
    assert len({tile.tobytes() for tile in tiles}) == len(NAMES)
    assert (
        np.abs(tiles[0].reshape(size, 2, size, 2, 3).mean((1, 3)) - drawn(live, "photo")).mean() < 3
    )


def test_a_bad_file_gets_a_sentence_and_everything_stays(live, tmp_path):
    before = drawn(live, "guided_grad_cam")
    for name, (data, _) in REFUSED.items():
        live.evaluate("document.querySelector('#live [data-part=status]').textContent = ''")
        file = tmp_path / f"{name}.png"  # as bytes, one of 31 MB takes a minute on a busy machine
        file.write_bytes(data)
        live.locator("#live input[type=file]").set_input_files(file)
        expect(live, re.compile("at most|at least|too long|could not be read"))
        assert (
            np.array_equal(drawn(live, "guided_grad_cam"), before)
            and live.evaluate("window.answers.length") == 1
        ), name
    ask(live, sample_button(live, "coffee").click)
    assert live.locator("#live .trouble").count() == 0


def test_unusual_photos_are_read_as_in_python(live, embedded):
    for name, (data, _) in TAKEN.items():
        got = ask(live, partial(upload, live, data))
        if name != "CMYK":  # a browser has a colour profile for that, Pillow a formula
            agree(embedded, got, data)


ORIENTATIONS = [6, *map(also, (1, 2, 3, 4, 5, 7, 8))]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_kind_of_file_is_turned_as_in_python(live, embedded, orientation):
    """Browsers heed EXIF in JPEG and PNG; in WebP not all do."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = sample("coffee").resize((150, 100))
    for kind, more in (("WEBP", {"lossless": True}), ("PNG", {}), ("JPEG", {"quality": 95})):
        file = encoded(photo, kind, exif=exif, **more)
        got = ask(live, partial(upload, live, file))
        size = embedded.input_size
        off = got["square"].reshape(size, size, 3) - np.asarray(embedded.preprocess.cropped(file))
        assert np.abs(off).max() <= (2 if kind != "JPEG" else 8), kind


GIVE = """async ([kind, property, target, address]) => {
    const data = new DataTransfer();
    const file = async () => new File([await (await fetch(address)).blob()], "photo.webp");
    if (address) data.items.add(await file());
    const Kind = kind === "paste" ? ClipboardEvent : DragEvent;
    const event = new Kind(kind, {[property]: data, bubbles: true, cancelable: true});
    document.querySelector(target).dispatchEvent(event);
    return event.defaultPrevented;
}"""
ROCKET = "../_static/live/rocket.webp"


@pytest.mark.parametrize(
    "target", ["#live [data-part=drop]", "article h1", "#live [data-part=any]"]
)
def test_a_photo_is_dropped_anywhere(live, target):
    """Where a drop were not taken, the browser would leave the page for the file."""
    assert live.evaluate(GIVE, ["dragover", "dataTransfer", target, ROCKET])
    assert live.locator("#live .over").count() == 1
    ask(live, lambda: live.evaluate(GIVE, ["drop", "dataTransfer", target, ROCKET]))
    assert live.locator("#live .over").count() == 0


def test_what_is_dropped_and_is_no_file_is_refused(live):
    assert live.evaluate(GIVE, ["drop", "dataTransfer", "article h1", None])
    assert "That was no file" in said(live)


def test_a_photo_is_pasted(live):
    ask(live, lambda: live.evaluate(GIVE, ["paste", "clipboardData", "body", ROCKET]))


# ------------------------------------------------------------ who comes last, wins


def held(page, pattern):
    """Hold back the requests to an address; what this gives lets them go."""
    waiting = []
    page.route(pattern, lambda route: waiting.append(route))

    def release():
        assert waiting
        for route in waiting:
            route.continue_()
        page.wait_for_timeout(1500)

    return release


def test_a_choice_outranks_the_default_sample(site, page, embedded):
    release = held(page, "**/chelsea.webp")
    start(page, site, FAST_LINE)
    page.wait_for_function("document.querySelectorAll('#live-names option, #live canvas').length")
    own = sample("coffee").resize((200, 150))
    ask(page, lambda: upload(page, encoded(own)))
    release()
    assert page.evaluate("window.answers.length") == 1
    agree(embedded, latest(page), own)


def test_a_choice_before_the_facts_have_come_outranks_it_too(site, page, embedded):
    release = held(page, "**/model.json")
    start(page, site, FAST_LINE)
    page.wait_for_function("document.getElementById('live').dataset.started")
    own = sample("coffee").resize((200, 150))
    upload(page, encoded(own))
    release()
    answered(page, 1)
    page.wait_for_timeout(1000)
    assert page.evaluate("window.answers.length") == 1
    agree(embedded, latest(page), own)


def test_the_last_click_wins(live, embedded):
    release = held(live, "**/coffee.webp")
    live.evaluate("""() => ["coffee", "rocket"].forEach((name) =>
        document.querySelector(`#live img[alt$=${name}]`).click())""")
    answered(live, 2)
    release()
    assert live.evaluate("window.answers.length") == 2
    agree(embedded, latest(live), sample("rocket"))


def test_a_class_asked_while_a_photo_comes_is_that_of_the_photo_shown(live, embedded):
    release = held(live, "**/rocket.webp")
    sample_button(live, "rocket").click()
    second = ask(live, lambda: live.locator("#live [data-part=classes] label").nth(1).click())
    release()
    assert live.evaluate("window.answers.length") == 2
    agree(embedded, latest(live), sample(SAMPLES[0]), int(second["explained"][0]))


def test_a_refusal_while_something_is_computed_stays(live):
    live.evaluate("""() => document.querySelector("#live img[alt$=rocket]").click()""")
    upload(live, b"no picture")
    expect(live, "could not be read as a picture")
    live.wait_for_timeout(1500)
    assert "could not be read as a picture" in said(live)
    assert live.evaluate("window.answers.length") == 1


# ------------------------------------------------------------ the camera

CAMERA = """() => {
    const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    Object.assign(canvas, {width: 64, height: 48});
    window.streams = [];
    window.paint = () => pen.fillRect(0, 0, 64 * Math.random(), 48);
    navigator.mediaDevices.getUserMedia = async () => {
        const stream = canvas.captureStream();
        window.streams.push(stream);
        await new Promise((resolve) => setTimeout(resolve, 50));
        return stream;
    };
}"""
LIVE_TRACKS = (
    "window.streams.flatMap(s => s.getTracks()).filter(t => t.readyState === 'live').length"
)


def test_a_photo_is_taken_by_the_camera_or_its_absence_is_explained(live):
    live.evaluate(CAMERA)
    live.get_by_role("button", name="Take a photo").click()
    take = live.get_by_role("button", name="Take it")
    take.wait_for()
    assert take.is_disabled()  # there is no frame yet
    live.evaluate("setInterval(window.paint, 50)")
    ask(live, take.click)
    assert live.evaluate("window.streams.length") == 1 and live.evaluate(LIVE_TRACKS) == 0
    live.evaluate("""() => {
        navigator.mediaDevices.getUserMedia = async () => { throw new Error("Permission denied"); };
    }""")
    live.get_by_role("button", name="Take a photo").click()
    expect(live, "camera could not be used (Permission denied)")


def test_a_double_click_opens_one_camera_and_escape_closes_it(live):
    live.evaluate(CAMERA)
    live.get_by_role("button", name="Take a photo").dblclick(force=True)
    live.get_by_role("dialog", name="Take a photo").wait_for()
    live.wait_for_timeout(300)
    assert live.evaluate(LIVE_TRACKS) == 1
    live.keyboard.press("Escape")
    live.wait_for_function(f"{LIVE_TRACKS} === 0")
    assert not live.get_by_role("dialog", name="Take a photo").is_visible()


# ------------------------------------------------------------ what is loaded, and when


def test_nothing_large_is_loaded_unasked(site, page):
    """Without a fast line; and what a photo will load is named before."""
    loaded = []
    page.on("response", lambda response: loaded.append((response.url, len(response.body()))))
    start(page, site)
    sample_button(page, SAMPLES[-1]).wait_for()
    page.wait_for_load_state("networkidle")
    ours = [(url, count) for url, count in loaded if "/live/" in url]
    assert len(ours) > 6 and sum(count for _, count in ours) < 60_000
    assert "24 MB (13 MB where the server packs them)" in said(page)
    ask(page, sample_button(page, "coffee").click)
    assert any(url.endswith("model.onnx") for url, _ in loaded)


def test_the_sizes_named_are_those_of_the_files(built):
    files = [
        built / "_static" / "live" / name
        for name in ("model.onnx", "onnxruntime/ort-wasm-simd-threaded.wasm")
    ]
    plain = sum(file.stat().st_size for file in files) / 1e6
    packed = sum(len(gzip.compress(file.read_bytes(), 6)) for file in files) / 1e6
    words = (built / "book" / "try.html").read_text(encoding="utf-8")
    assert f"{plain:.0f} MB ({packed:.0f} MB where the server packs them)" in words


def test_loading_is_announced_seldom(site, page):
    page.add_init_script("""document.addEventListener("DOMContentLoaded", () => {
        window.said = [];
        const status = document.querySelector("#live [data-part=status]");
        const note = () => window.said.push(status.textContent);
        new MutationObserver(note).observe(status, {childList: true});
    })""")
    start(page, site)
    ask(page, sample_button(page, "coffee").click)
    words = page.evaluate("window.said")
    assert 3 <= len(words) <= 5 and words[-1].startswith("“") and "24 MB" in words[-2]
    assert page.locator("#live [data-part=loaded]").text_content() == "24 of 24 MB"
    assert not page.locator("#live progress").is_visible()


def test_threads_where_the_server_allows_them_compute_the_same(built, page, embedded):
    allowed = {
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
    }
    with serve(built, allowed) as site:
        start(page, site)
        got = ask(page, sample_button(page, "coffee").click)
        assert page.evaluate("window.crossOriginIsolated")
        cores = page.evaluate("navigator.hardwareConcurrency")
        assert int(page.locator("#live").get_attribute("data-threads")) == min(4, cores)
        agree(embedded, got, sample("coffee"))


# ------------------------------------------------------------ what can go wrong with the line


@pytest.mark.parametrize("name", ["live.js", "paint.js", "photo.js"])
def test_a_missing_script_is_told(site, page, name):
    page.route(f"**/{name}", lambda route: route.fulfill(status=404))
    start(page, site)
    expect(page, "script could not be loaded")
    forgive(page, "404")


def test_a_script_of_the_wrong_type_is_told(site, page):
    page.route("**/live.js", lambda route: route.fulfill(content_type="text/plain", body="1"))
    start(page, site)
    expect(page, "not served as JavaScript")
    forgive(page, "text/plain")


@pytest.mark.parametrize("name", ["worker.js", also("ort.wasm.bundle.min.js")])
def test_a_missing_worker_is_told_and_another_try_can_work(site, page, name):
    page.route(f"**/{name}", lambda route: route.fulfill(status=404))
    start(page, site)
    sample_button(page, "coffee").click()
    expect(page, "worker could not start")
    page.unroute(f"**/{name}")
    ask(page, sample_button(page, "coffee").click)
    assert page.locator("#live .trouble").count() == 0
    forgive(page, "404")


@pytest.mark.parametrize(
    "name", ["model.onnx", also("coffee.webp"), also("ort-wasm-simd-threaded.wasm")]
)
def test_a_missing_file_is_named_and_another_try_can_work(site, page, name):
    page.route(f"**/{name}", lambda route: route.fulfill(status=404))
    start(page, site)
    sample_button(page, "coffee").click()
    expect(page, f"{name} is missing on the server (404)")
    assert not page.locator("#live progress").is_visible()
    page.unroute(f"**/{name}")
    ask(page, sample_button(page, "coffee").click)
    forgive(page, "404")


def test_missing_facts_are_told(site, page):
    page.route("**/model.json", lambda route: route.fulfill(status=404))
    start(page, site)
    expect(page, "model.json is missing on the server (404)")
    forgive(page, "404")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("live.js", "script does not load"),
        ("model.json", "nothing more of model.json came"),
        ("coffee.webp", "nothing more of coffee.webp came"),
        ("worker.js", "worker does not load"),
        ("model.onnx", "nothing more of model.onnx came"),
    ],
)
def test_a_stalled_line_is_told(site, page, name, words):
    page.route(f"**/{name}", lambda route: None)
    start(page, site, patience=2)
    if name not in ("live.js", "model.json"):
        sample_button(page, "coffee").click()
    expect(page, words)


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


def test_what_the_page_loads_belongs_together(built, embedded):
    facts = json.loads((built / "_static" / "live" / "model.json").read_text())
    assert facts["bytes"] == (built / "_static" / "live" / "model.onnx").stat().st_size
    assert (
        tuple(facts["classNames"]) == embedded.class_names and facts["crop"] == embedded.input_size
    )
    assert [row["key"] for row in facts["methods"]] == [row.key for row in TABLE]
    assert {row["rule"] for row in facts["methods"]} == {None, *RULES}
    assert [row["name"] for row in facts["samples"]] == list(SAMPLES) == list(FITS)
    for row in facts["samples"]:
        says = embedded.top(embedded.prepare(sample(row["name"])), 1)[0][0][0]
        fits = {*FITS[row["name"]]} & {*embedded.class_names}
        assert row["says"] == says and {*row["fits"]} == fits
    for name in SAMPLES:
        assert np.array_equal(
            np.asarray(Image.open(built / "_static" / "live" / f"{name}.webp").convert("RGB")),
            np.asarray(sample(name)),
        )
        assert Image.open(built / "_static" / "live" / f"{name}-small.webp").size == (112, 112)
