"""The built pages in a real browser."""

import pytest

PAGES = ["book/model", "notebooks/01_grad_cam"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_a_complaint(site, page, name):
    assert page.goto(f"{site}/{name}.html").ok
    assert page.locator("article h1").first.is_visible()
    page.wait_for_load_state("load")
    assert not page.evaluate("[...document.images].filter(image => !(image.complete && image.naturalWidth)).map(image => image.src)")


def shown(page, name):
    """What the player's picture shows now."""
    return page.locator(f"#{name} img").evaluate("image => image.src"), page.locator(f"#{name} .player-words").inner_text()


def test_the_stepper_steps_by_button_slider_and_keyboard(site, page):
    """On the page alone: no kernel, and `page` fails a test at any request that leaves the site."""
    page.goto(f"{site}/notebooks/05_explorer.html")
    seen = [shown(page, "stepper")]
    page.locator("#stepper button[data-move='1']").click()
    seen.append(shown(page, "stepper"))
    slider = page.locator("#stepper input[type=range]")
    slider.focus()
    page.keyboard.press("ArrowRight")
    seen.append(shown(page, "stepper"))
    page.keyboard.press("End")
    seen.append(shown(page, "stepper"))
    page.locator("#stepper select").select_option(index=0)
    seen.append(shown(page, "stepper"))
    assert len({picture for picture, _ in seen}) == len({words for _, words in seen}) == 5
    assert page.locator("#stepper img").evaluate("image => image.alt") == seen[-1][1]


def test_another_class_is_another_picture(site, page):
    page.goto(f"{site}/notebooks/05_explorer.html")
    before = shown(page, "classes")
    page.locator("#classes input[type=radio]").nth(2).check()
    picture, words = shown(page, "classes")
    assert picture != before[0] and words != before[1]


def test_the_steppers_page_is_light_and_has_no_dead_widget(site, page):
    response = page.goto(f"{site}/notebooks/05_explorer.html")
    assert len(response.body()) < 3_000_000
    assert page.locator(".jupyter-widgets, .jp-OutputArea-output .widget-view").count() == 0
    assert page.locator("text=Open it in Colab").count() == 1
