"""The player for pages without a kernel: what it holds, and how it behaves in Chromium."""

import json
import re

import numpy as np
import pytest

from helpers.player import Control, player

CONTROLS = [Control("Step", [str(i) for i in range(5)], "slider"), Control("Rule", ["a", "b"]), Control("Class", ["cat </script>", "dog"], "buttons", start=1)]


def shot(step, rule, c):
    return np.full((20, 30, 3), (step + 5 * rule + 10 * c) / 20), f'step {step}: rule {rule}, class {c} <&"'


@pytest.fixture(scope="module")
def text():
    return player("test", "A test", CONTROLS, shot)


def test_it_holds_every_picture_and_fetches_nothing(text):
    packed = json.loads(re.search(r'application/json">(.*?)</script>', text, re.S)[1])
    assert packed["sizes"] == [5, 2, 2] and len(packed["pictures"]) == 20
    assert packed["words"] == [shot(*i)[1] for i in np.ndindex(5, 2, 2)]
    assert not re.search(r"https?:|@import|url\(", text) and "<img alt=" in text


def test_one_picture_is_kept_once():
    text = player("same", "", CONTROLS, lambda *_: (np.zeros((4, 4, 3)), "always the same"))
    assert len(json.loads(re.search(r'application/json">(.*?)</script>', text, re.S)[1])["pictures"]) == 1


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind is"):
        Control("a", ["b"], "knob")


def test_it_is_played_by_mouse_and_by_keyboard(text, page):
    page.set_content(f"<!doctype html><title>t</title>{text}")
    alt = lambda: page.locator("#test img").get_attribute("alt")
    pixel = lambda: page.evaluate("""async () => { const image = document.querySelector("#test img"); await image.decode();
        const canvas = document.createElement("canvas"); canvas.width = canvas.height = 1; const pen = canvas.getContext("2d");
        pen.drawImage(image, 0, 0); return pen.getImageData(0, 0, 1, 1).data[0]; }""")
    assert alt() == shot(0, 0, 1)[1] == page.locator(".player-words").text_content()
    assert abs(pixel() - 10 / 20 * 255) < 4
    page.get_by_role("button", name="On").click()
    page.get_by_role("combobox", name="Rule").select_option("b")
    assert alt() == shot(1, 1, 1)[1] and abs(pixel() - 16 / 20 * 255) < 4
    page.get_by_role("slider", name="Step").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    page.get_by_role("radio", name="cat").focus()
    page.keyboard.press("Space")
    assert alt() == shot(4, 1, 0)[1] and abs(pixel() - 9 / 20 * 255) < 4
    page.get_by_role("button", name="On").click()  # the end is the end
    page.get_by_role("button", name="Back").press("Enter")
    assert alt() == shot(3, 1, 0)[1]
