"""The schematics of chapters 1 to 4: found by the notebooks, and legible for all."""

import json
import re
import xml.etree.ElementTree as xml

import pytest

from .test_notebooks import NOTEBOOKS, ROOT, address, source

SVG = "{http://www.w3.org/2000/svg}"
FOLDER = ROOT / "book" / "static" / "figures"
NAMES = sorted(path.stem for path in FOLDER.glob("*.svg"))
PHONE = 350  # pixels that a page leaves for a picture on a phone


def pictures(path):
    """Text alternative and address of each picture in a notebook's text, but for the badge."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join(source(cell) for cell in cells if cell["cell_type"] == "markdown")
    return [found for found in re.findall(r"!\[(.*?)\]\((.*?)\)", text) if "badge" not in found[1]]


def test_each_is_shown_once_from_an_address_that_works_in_colab_too():
    raw = address().replace("github.com", "raw.githubusercontent.com")
    shown = [picture for path in NOTEBOOKS for picture in pictures(path)]
    wanted = [f"{raw}/main/book/static/figures/{name}.svg" for name in NAMES]
    assert sorted(url for _, url in shown) == wanted and len(wanted) >= 4
    assert all(len(words) > 40 for words, _ in shown)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_title_and_a_description(name):
    root = xml.parse(FOLDER / f"{name}.svg").getroot()
    words = {
        part.get("id"): part.text for part in (root.find(f"{SVG}title"), root.find(f"{SVG}desc"))
    }
    assert root.get("role") == "img" and root.get("aria-labelledby").split() == list(words)
    assert all(len(text) > 20 for text in words.values())


@pytest.mark.parametrize("name", NAMES)
def test_its_text_is_legible_on_a_phone(name):
    text = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    width = float(re.search(r'viewBox="0 0 ([\d.]+) ', text)[1])
    sizes = [
        float(size) for size in re.findall(r"(?:font|font-size)[:=] ?\"?([\d.]+)(?:px)?", text)
    ]
    assert sizes and min(sizes) * PHONE / width >= 11


def test_no_two_share_an_id_or_style_the_page():
    """They become part of a page, where an id is the page's, and a rule counts everywhere."""
    texts = {name: (FOLDER / f"{name}.svg").read_text(encoding="utf-8") for name in NAMES}
    for name, text in texts.items():
        assert all(i.startswith(f"{name}-") for i in re.findall(r'\bid="(.*?)"', text))
        rules = re.findall(r"^ *(\S.*?) {", re.search(r"<style>(.*?)</style>", text, re.S)[1], re.M)
        assert rules and all(rule.startswith(".sketch ") for rule in rules)
