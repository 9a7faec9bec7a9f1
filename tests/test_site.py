"""The built pages in a real browser."""

import pytest

PAGES = ["book/model", "notebooks/01_grad_cam"]


ICONS = """document.fonts.ready.then(fonts =>
    [...fonts].some(font => /Awesome/.test(font.family) && font.status === "loaded"))"""
BROKEN = """[...document.images]
    .filter(image => !(image.complete && image.naturalWidth)).map(image => image.src)"""
FOREIGN = """[...document.images].map(image => image.src)
    .filter(src => !src.startsWith(location.origin) && !src.startsWith("data:"))"""
ADDRESSES = """async images => {
    await Promise.all(images.map(image => image.decode()));
    return images.map(image => image.src);
}"""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_a_complaint(site, page, name):
    assert page.goto(f"{site}/{name}.html").ok
    assert page.locator("article h1").first.is_visible()
    page.wait_for_load_state("load")
    # book/static/scripts/fontawesome.js takes the theme's second set of icons away; the first stays
    assert page.evaluate(ICONS)
    assert not page.evaluate(BROKEN)
    assert not page.evaluate(FOREIGN)


def shown(page, name):
    """What the player shows now: the addresses of its pictures, and its words."""
    box = page.locator(f"#{name}")
    assert box.locator("img:not([alt]), img[alt='']").count() == 0
    return (
        box.locator("img").evaluate_all(ADDRESSES),
        box.locator(".player-headline").inner_text(),
        box.locator(".player-words").inner_text(),
    )


def test_the_stepper_steps_by_button_slider_and_keyboard(site, page):
    """On the page alone: no kernel, and `page` fails a test at any request that leaves the site."""
    page.goto(f"{site}/notebooks/05_explorer.html")
    seen = [shown(page, "stepper")]
    page.locator("#stepper").get_by_role("button", name="Next").click()
    seen.append(shown(page, "stepper"))
    page.get_by_role("slider", name="Step").focus()
    page.keyboard.press("ArrowRight")
    seen.append(shown(page, "stepper"))
    page.keyboard.press("End")
    seen.append(shown(page, "stepper"))
    page.get_by_role("combobox", name="ReLU rule").select_option("deconvnet")
    seen.append(shown(page, "stepper"))
    assert [headline.split(":")[0] for _, headline, _ in seen] == [
        "Step 31",
        "Step 32",
        "Step 33",
        "Step 62",
        "Step 62",
    ]
    large = [pictures[-1] for pictures, _, _ in seen]
    assert len(set(large)) == 5
    assert "deconvnet" in seen[-1][2] and "guided" in seen[-2][2]


def test_another_class_is_another_picture(site, page):
    page.goto(f"{site}/notebooks/05_explorer.html")
    (left, right), headline, _ = shown(page, "classes")
    page.get_by_role("group", name="Left").get_by_role("radio").nth(2).check()
    (other, same), after, _ = shown(page, "classes")
    assert other not in (left, right) and same == right and after != headline


def test_the_steppers_page_is_light_and_has_no_dead_widget(site, page):
    """Under 3 MB with everything that the page transfers, uncompressed."""
    weights = []
    page.on(
        "response",
        lambda response: (
            weights.append(len(response.body()))
            if response.ok and not response.url.startswith("data:")
            else None
        ),
    )
    page.goto(f"{site}/notebooks/05_explorer.html")
    page.wait_for_load_state("networkidle")
    assert len(weights) > 5 and sum(weights) < 3_000_000
    assert page.locator(".jupyter-widgets, .jp-OutputArea-output .widget-view").count() == 0
    assert page.get_by_role("link", name="Open the notebook in Colab").count() == 1


@pytest.mark.parametrize("width", [390, 1200])
def test_the_players_fit_the_page(site, page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{site}/notebooks/05_explorer.html")
    for name in ("stepper", "classes"):
        wide = page.locator(f"#{name}").evaluate(
            "box => [box.scrollWidth, box.clientWidth, box.getBoundingClientRect().right]"
        )
        assert wide[0] <= wide[1] + 1 and wide[2] <= width


@pytest.mark.parametrize("width", [390, 1200])
def test_a_schematic_follows_the_theme_and_stays_legible(site, page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{site}/notebooks/01_grad_cam.html")
    schematic = page.get_by_role("img", name="Grad-CAM from the photo to the map")
    inks = [
        schematic.evaluate(
            "(drawing, theme) => { document.documentElement.dataset.theme = theme;"
            " return getComputedStyle(drawing.querySelector('text')).fill; }",
            theme,
        )
        for theme in ("light", "dark")
    ]
    assert inks[0] != inks[1]
    heights = schematic.locator("text").evaluate_all(
        "texts => texts.map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"
    )
    assert len(heights) > 10 and min(heights) >= 11
