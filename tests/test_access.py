"""Every page of the built book, in both themes, on a screen and a phone: axe finds nothing grave.

axe-core is for development only: `npm ci` fetches it, and without it these tests are skipped.
"""

import pytest

from .browser import PAGES, ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = ("serious", "critical")


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not there; npm ci fetches it")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", [*PAGES, "search"])
def test_axe_finds_nothing_grave(site, page, name, width, theme):
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{site}/{name}.html")
    page.wait_for_load_state("load")
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    assert found["passes"]  # it has looked
    grave = [
        f"{rule['impact']} {rule['id']}: {node['html'][:200]} {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]
    assert not grave, "\n".join(grave)
