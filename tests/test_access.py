"""Every page of the built book, in both themes, on a screen and a phone: axe finds nothing grave.

axe-core is for development only: `npm ci` fetches it, and without it these tests are skipped.
"""

import pytest

from .browser import PAGES, ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = ("serious", "critical")
EVERY = [*PAGES, "search"]
VIEWS = [(theme, width) for theme in ("light", "dark") for width in (1280, 390)]
LOOK = """async () => {
    const { passes, violations } = await axe.run({ resultTypes: ["violations"] });
    return { passes: passes.length, violations };
}"""


def grave(page, theme: str, width: int) -> list[str]:
    """What axe finds on an open page in a theme and a width, one line each."""
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
    page.evaluate("new Promise((done) => setTimeout(done, 400))")  # what moves, and what watches
    found = page.evaluate(LOOK)
    assert found["passes"] > 5  # it has looked
    return [
        f"{theme} {width}: {rule['impact']} {rule['id']}: {node['html'][:200]} "
        f"{node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not there; npm ci fetches it")
@pytest.mark.parametrize(
    ("name", "views"),
    # a Japanese page has the markup of its English twin, and is seen in each theme and width once
    [(name, VIEWS) for name in EVERY]
    + [pytest.param(f"ja/{name}", [VIEWS[0], VIEWS[3]], marks=pytest.mark.slow) for name in EVERY],
)
def test_axe_finds_nothing_grave(site, page, name, views):
    page.goto(f"{site}/{name}.html")
    page.wait_for_load_state("load")
    page.add_script_tag(path=AXE)
    found = [line for view in views for line in grave(page, *view)]
    assert not found, "\n".join(found)


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not there; npm ci fetches it")
def test_what_is_grave_is_found(site, page):
    page.goto(f"{site}/book/references.html")
    page.add_script_tag(path=AXE)
    assert not grave(page, "dark", 390)
    page.evaluate("document.querySelector('article p').style.color = '#333'")
    page.evaluate("document.querySelector('article').append(document.createElement('button'))")
    assert {line.split(": ")[1] for line in grave(page, "dark", 390)} == {
        "serious color-contrast",
        "critical button-name",
    }
