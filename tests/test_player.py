"""The player for pages without a kernel: what it holds, and how it behaves in Chromium."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from helpers import sample
from helpers.interactive.panels import Panel, encode, light
from helpers.interactive.player import Control, make_player

STOPS = [(1, 1, "photo"), (1, 2, "ReLU"), (1, 3, "ReLU"), (2, 3, "ReLU"), (2, 2, "ReLU")]
CONTROLS = [
    Control("Step", [str(i) for i in range(5)], "slider", stops=STOPS),
    Control("Rule", ["a", "b"]),
    Control("Class", ["cat </script>", "dog"], "buttons", start=1),
]


def shot(step, rule, c):
    """Four tiles, none at step 4, and a large picture that differs from shot to shot."""
    tiles = [(f"tile {k}", np.full((4, 4), k / 4)) for k in range(4 * (step < 4))]
    large = [(f"large {step}{rule}{c}", np.full((20, 30, 3), (step + 5 * rule + 10 * c) / 20))]
    return (
        f"Step {step}.",
        f'Rule {rule}, class {c} <&" <!--<script>',
        [Panel("tiles", f"of step {step}", tiles), Panel("large", "", large, large=True)],
    )


@pytest.fixture(scope="module")
def text():
    return make_player("test", "A test", CONTROLS, shot)


def packed(text):
    return json.loads(re.search(r'application/json">(.*?)</script>', text, re.S)[1])


def test_no_words_end_the_script_early_or_late(text):
    data = text.split('application/json">')[1].split("</script>")[0]
    assert "<!--" not in data and "</" not in data
    assert any("<!--<script>" in words for words in packed(text)["texts"])


def test_it_holds_every_picture_once_and_fetches_nothing(text):
    data = packed(text)
    assert data["sizes"] == [5, 2, 2] and len(data["shots"]) == 20
    assert len(data["pictures"]) == 20 + 4 == len(set(data["pictures"]))
    choices = np.ndindex(5, 2, 2)
    for (headline, words, panels), choice in zip(data["shots"], choices, strict=True):
        want = shot(*choice)
        assert (data["texts"][headline], data["texts"][words]) == want[:2]
        for (title, note, _, pictures), panel in zip(panels, want[2], strict=True):
            assert (data["texts"][title], data["texts"][note]) == (panel.title, panel.note)
            for (number, alt), (words, picture) in zip(pictures, panel.pictures, strict=True):
                kept = (
                    np.asarray(
                        Image.open(io.BytesIO(base64.b64decode(data["pictures"][number]))).convert(
                            "RGB"
                        )
                    )
                    / 255
                )
                assert data["texts"][alt] == words and abs(kept.mean() - picture.mean()) < 0.01
    assert not re.search(r"https?:|@import|url\(", text)


def test_without_script_the_first_pictures_stand_there_with_their_words(text):
    still = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    assert still.count("<img alt=") == 5 and 'alt="large 001"' in still and "Step 0." in still


def test_pictures_are_kept_without_loss_where_that_is_lighter():
    mask = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(float)
    for picture in (mask, mask[:8, :8], np.zeros((128, 128))):
        assert np.array_equal(
            np.asarray(Image.open(io.BytesIO(light(picture))).convert("L")) / 255, picture
        )
    photo = np.asarray(sample().crop((100, 20, 228, 148))) / 255
    assert len(light(photo)) < len(encode(photo)) / 4


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind is"):
        Control("a", ["b"], "knob")


def test_it_is_played_by_mouse_and_by_keyboard(text, page):
    page.set_content(f"<!doctype html><title>t</title>{text}")
    large = page.locator("#test .player-large img")

    def pixel():
        return large.evaluate("""async image => {
            await image.decode();
            const canvas = document.createElement("canvas");
            canvas.width = canvas.height = 1;
            const pen = canvas.getContext("2d");
            pen.drawImage(image, 0, 0);
            return pen.getImageData(0, 0, 1, 1).data[0];
        }""")

    def is_at(step, rule, c):
        headline, words, panels = shot(step, rule, c)
        assert (
            page.locator(".player-headline").text_content() == headline
            and page.locator(".player-words").text_content() == words
        )
        assert page.get_by_role("slider", name="Step").get_attribute("aria-valuetext") == headline
        assert page.locator("#test img").evaluate_all(
            "images => images.map(image => image.alt)"
        ) == [alt for panel in panels for alt, _ in panel.pictures]
        assert (
            page.locator(".player-cells i")
            .evaluate_all("cells => cells.map(cell => cell.hasAttribute('data-here'))")
            .index(True)
            == step
        )
        assert abs(pixel() - (step + 5 * rule + 10 * c) / 20 * 255) < 4

    is_at(0, 0, 1)
    page.get_by_role("button", name="Next").click()
    page.get_by_role("combobox", name="Rule").select_option("b")
    is_at(1, 1, 1)
    page.get_by_role("slider", name="Step").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    page.get_by_role("radio", name="cat").focus()
    page.keyboard.press("Space")
    is_at(4, 1, 0)
    page.get_by_role("button", name="Next").click()  # the end is the end
    page.get_by_role("button", name="Back").press("Enter")
    is_at(3, 1, 0)
    page.locator(".player-cells i").nth(2).click()
    is_at(2, 1, 0)


def test_a_screen_reader_hears_of_the_last_of_many_changes(text, page):
    page.set_content(f"<!doctype html><title>t</title>{text}")
    said = page.get_by_role("status")
    said.evaluate("""said => {
        window.heard = [];
        const listen = () => window.heard.push(said.textContent);
        new MutationObserver(listen).observe(said, {childList: true});
    }""")
    page.get_by_role("slider", name="Step").evaluate("""slider => { for (const step of [1, 2, 3]) {
        slider.value = step; slider.dispatchEvent(new Event("input", {bubbles: true})); } }""")
    page.wait_for_function("window.heard.length > 0")
    assert page.evaluate("window.heard") == [" ".join(shot(3, 0, 1)[:2])]
