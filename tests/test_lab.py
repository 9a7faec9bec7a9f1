"""Chapter 5 in a real JupyterLab: its widgets, by mouse and keyboard, in `browser`'s Chromium."""

import json
import os
import subprocess
import sys
import time

import ipywidgets
import pytest

from .browser import ROOT

NAME = "05_explorer.ipynb"
# milliseconds, at most, for all cells of the chapter; a slow machine needs a good part of it
WHOLE_RUN = 240_000
ONE_ANSWER = 60_000  # and for what one click asks of the kernel
OPTIONS = [
    "--no-browser",
    "--allow-root",
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port=0",
    # nothing is asked of the web: no catalogue of extensions, no look for a newer version
    "--LabApp.extension_manager=readonly",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
]
NO_NEWS = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
EVERY_CELL = {"windowingMode": "none"}  # also those out of sight stand in the page


@pytest.fixture
def lab(chromium, tmp_path):
    """Address of chapter 5 in a JupyterLab of this test's own, over a copy of the notebook."""
    pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")
    if int(ipywidgets.__version__.partition(".")[0]) < 8:
        pytest.skip("ipywidgets 7 (that of Colab) has no manager for JupyterLab 4")
    places = {
        name: tmp_path / name.lower()
        for name in (
            "JUPYTER_CONFIG_DIR",
            "JUPYTER_DATA_DIR",
            "JUPYTER_RUNTIME_DIR",
            "JUPYTERLAB_SETTINGS_DIR",
            "JUPYTERLAB_WORKSPACES_DIR",
            "IPYTHONDIR",
        )
    }
    folder, log = tmp_path / "notebooks", tmp_path / "log.txt"
    for file, text in [
        (places["JUPYTER_CONFIG_DIR"] / "labconfig" / "page_config.json", json.dumps(NO_NEWS)),
        (
            places["JUPYTERLAB_SETTINGS_DIR"]
            / "@jupyterlab"
            / "notebook-extension"
            / "tracker.jupyterlab-settings",
            json.dumps(EVERY_CELL),
        ),
        (folder / NAME, (ROOT / "notebooks" / NAME).read_text(encoding="utf-8")),
    ]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    environment = {
        **os.environ,
        **{name: str(place) for name, place in places.items()},
        "PYTHONPATH": str(ROOT),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "EXPLAIN_MODEL": "embedded",
        "EXPLAIN_DEVICE": "cpu",
    }
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *OPTIONS],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        yield address(server, places["JUPYTER_RUNTIME_DIR"], log)
    finally:
        server.terminate()  # and it ends its kernels
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def address(server, runtime, log):
    """Where the server says that it listens, once it does."""
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        for file in runtime.glob("jpserver-*.json"):
            try:
                facts = json.loads(file.read_text())
            except ValueError:  # half written
                continue
            return f"{facts['url']}lab/tree/{NAME}?token={facts['token']}&reset"
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start in a minute: {log.read_text()}")


PIXELS = """async image => { await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const pen = canvas.getContext("2d"); pen.drawImage(image, 0, 0);
    return [...pen.getImageData(0, 0, canvas.width, canvas.height).data].join(); }"""


class Seen:
    """What a widget shows: its last picture, and its words."""

    def __init__(self, box):
        self.box, self.image = box, box.locator(".player img").last
        self.pixels = self.image.evaluate(PIXELS)

    def changes(self, act, words=""):
        """Do something; wait for the words, then for other pixels that are at rest."""
        from playwright.sync_api import expect

        act()
        expect(self.box.locator(".player")).to_contain_text(words, timeout=ONE_ANSWER)
        deadline, pixels = time.monotonic() + ONE_ANSWER / 1000, None
        while time.monotonic() < deadline:
            last, pixels = pixels, self.image.evaluate(PIXELS)
            if last == pixels != self.pixels:
                break
            time.sleep(0.3)
        else:
            raise AssertionError(f"{words!r} is said, but the picture is still the same")
        self.pixels = pixels


@pytest.mark.slow
def test_the_chapter_runs_and_its_widgets_answer(lab, page):
    from playwright.sync_api import expect

    page.goto(lab)
    notebook = json.loads((ROOT / "notebooks" / NAME).read_text(encoding="utf-8"))
    count = sum(cell["cell_type"] == "code" for cell in notebook["cells"])
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    expect(cells).to_have_count(count, timeout=60_000)
    # the notebook's own sign of an idle kernel is up before there is one
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    last = cells.last.locator(".jp-InputPrompt")
    expect(last).to_have_text(f"[{count}]:", timeout=WHOLE_RUN)
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0

    explorer = page.locator(
        ".jp-OutputArea-output", has=page.get_by_role("button", name="Save as PNG")
    )
    explorer.scroll_into_view_if_needed()
    seen = Seen(explorer)
    classes = explorer.locator("button", has_text="%")
    assert classes.count() == 5
    seen.changes(classes.nth(1).click, classes.nth(1).inner_text().rsplit(" ", 1)[0])
    seen.changes(lambda: drag(page, explorer.locator(".noUi-handle"), -40), "Opacity 0.")
    seen.changes(
        lambda: explorer.get_by_label("Method").select_option("Guided Grad-CAM"),
        "Guided Grad-CAM for",
    )
    typed = explorer.get_by_placeholder("type a name")
    seen.changes(lambda: (typed.fill("espresso"), typed.press("Enter")), "espresso")

    with page.expect_file_chooser() as chooser:
        explorer.get_by_role("button", name="Upload a photo").click()
    chooser.value.set_files({"name": "photo.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(explorer.get_by_role("status")).to_contain_text(
        "could not be read as a picture", timeout=20_000
    )
    assert seen.image.evaluate(PIXELS) == seen.pixels

    stepper = page.locator(
        ".jp-OutputArea-output", has=page.get_by_role("button", name="Back", exact=True)
    ).filter(has=page.locator(".noUi-handle"))
    stepper.scroll_into_view_if_needed()
    seen = Seen(stepper)
    seen.changes(stepper.get_by_role("button", name="Next").click, "Step 1: up through features[0]")
    seen.changes(lambda: drag(page, stepper.locator(".noUi-handle"), 100), "down through features")
    seen.changes(lambda: page.keyboard.press("ArrowLeft"), "down through features")


def drag(page, handle, by):
    """Pull a slider's handle, as a hand would, by so many pixels."""
    from playwright.sync_api import expect

    before = handle.get_attribute("aria-valuenow")
    handle.hover()  # in view, at rest, and with nothing above it
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.down()
    page.mouse.move(x + by, y, steps=4)
    page.mouse.up()
    expect(handle).not_to_have_attribute("aria-valuenow", before)
