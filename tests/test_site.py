"""The built pages in a real browser."""

import pytest

PAGES = ["book/model", "notebooks/01_grad_cam"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_a_complaint(site, page, name):
    assert page.goto(f"{site}/{name}.html").ok
    assert page.locator("article h1").first.is_visible()
    page.wait_for_load_state("load")
    assert not page.evaluate("[...document.images].filter(image => !(image.complete && image.naturalWidth)).map(image => image.src)")
