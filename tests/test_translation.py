"""The book in Japanese: its catalogues belong to the English pages, and what is built from them."""

import json
import re
import subprocess
import sys

import pytest

pytest.importorskip("babel", reason="jupyter-book is not installed")

from babel.messages.catalog import Catalog  # noqa: E402

from book import translate  # noqa: E402
from book.colab import translate_notebook  # noqa: E402

from .browser import ROOT  # noqa: E402

CATALOGUES = translate.catalogues()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


# ---------------------------------------------------------------- catalogues


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """The messages that the pages have now, by catalogue."""
    folder = tmp_path_factory.mktemp("messages")
    program = (
        "import json, pathlib, sys; from book.translate import extract;"
        "folder = pathlib.Path(sys.argv[1]);"
        "(folder / 'found.json').write_text(json.dumps(extract(folder)))"
    )
    made = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr[-3000:]
    return json.loads((folder / "found.json").read_text(encoding="utf-8"))


def test_there_is_a_catalogue_for_every_page(extracted):
    assert extracted.keys() == CATALOGUES.keys(), "make catalogues"


@pytest.mark.parametrize("name", CATALOGUES)
def test_a_catalogue_is_what_the_page_says(extracted, name):
    """If not: `make catalogues`, and then look at what is fuzzy or empty."""
    assert [message.id for message in CATALOGUES[name] if message.id] == extracted.get(name)


@pytest.mark.parametrize("name", CATALOGUES)
def test_a_translation_is_whole_and_keeps_formulas_code_links_and_citations(name):
    assert translate.faults(CATALOGUES[name]) == []


MESSAGE = "**So** $x_1$ is `x`, as {cite:p}`he2016` [says](a.md#b); see {term}`maps <map>` <br>."
GOOD = "**つまり**$x_1$は`x`です{cite:p}`he2016`。[参照](a.md#b){term}`マップ <map>`<br>。"


@pytest.mark.parametrize(
    ("part", "slip", "fault"),
    [
        ("[参照]", "[参考]", None),
        ("`マップ <", "`図 <", None),
        (GOOD, "", "not translated"),
        ("x_1", "x_2", r"lost \['\$x_1\$'\]"),
        ("`x`", "`y`", "lost .*`x`"),
        ("cite:p", "cite:t", "cite:p"),
        ("a.md#b", "a.md", "a.md#b"),
        ("`マップ <map>`", "`マップ`", "{term} map"),
        ("<br>", "", "<br>"),
        ("**つまり**", "**つまり。**だから", "star"),
    ],
)
def test_a_fault_is_found(part, slip, fault):
    assert part in GOOD
    catalogue = Catalog()
    catalogue.add(MESSAGE, GOOD.replace(part, slip))
    found = translate.faults(catalogue)
    assert len(found) == (fault is not None)
    assert fault is None or re.search(fault, found[0])


def test_what_is_fuzzy_is_not_finished():
    catalogue = Catalog()
    catalogue.add(MESSAGE, GOOD, flags=["fuzzy"])
    assert len(translate.faults(catalogue)) == 1


def test_an_edit_keeps_its_translation_but_marks_it(tmp_path, monkeypatch):
    """And what no page says any more goes; what another page says is taken from there."""
    monkeypatch.setattr(translate, "CATALOGUES", tmp_path)
    # babel breaks what an edited message was before into lines, and hyphens must survive that
    old = "The low-resolution map is bright where the network found what it wants" + ", at last" * 9
    translate.update({"a": [old, "Check", "Gone altogether, this one."], "b": ["Intuition"]})
    catalogue = translate.read(tmp_path / "a.po")
    catalogue[old].string, catalogue["Check"].string = "マップは明るくなります。", "確認"
    translate.write(catalogue, tmp_path / "a.po")

    new = old.replace("bright", "lighter")
    translate.update({"a": ["New.", new, "Check"], "c": ["Check"]})
    changed = translate.read(tmp_path / "a.po")
    assert [message.id for message in changed if message.id] == ["New.", new, "Check"]
    assert changed[new].fuzzy and changed[new].string == "マップは明るくなります。"
    assert list(changed[new].previous_id) == [old]
    assert not changed["New."].string and not changed["New."].fuzzy
    assert translate.translations(changed) == {"Check": "確認"}
    assert translate.translations(translate.read(tmp_path / "c.po")) == {"Check": "確認"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.po", "c.po"]
    text = (tmp_path / "a.po").read_text(encoding="utf-8")
    translate.update({"a": ["New.", new, "Check"], "c": ["Check"]})
    assert (tmp_path / "a.po").read_text(encoding="utf-8") == text
    assert "POT-Creation-Date" not in text and "#:" not in text


# ---------------------------------------------------------------- notebooks for Colab


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_translated_block_by_block(source):
    """Every message of the page arrives, unless it stands in a caption; no code is touched."""
    page = f"notebooks/{source.stem}"
    wanted = [message.id for message in CATALOGUES[page] if message.id]
    messages = {text: f"〔{i}〕" for i, text in enumerate(wanted)}
    site = "https://example.org/book/ja/"
    before = json.loads(source.read_text(encoding="utf-8"))
    after = json.loads(translate_notebook(source, page, messages, site))
    rest = [cell for cell in before["cells"] if cell["cell_type"] != "markdown"]
    assert [cell for cell in after["cells"] if cell["cell_type"] != "markdown"] == rest
    text = "\n".join("".join(c["source"]) for c in after["cells"] if c["cell_type"] == "markdown")
    captions = json.dumps(rest, ensure_ascii=False)
    missing = [
        words
        for words, mark in messages.items()
        if mark not in text and json.dumps(words, ensure_ascii=False)[1:-1] not in captions
    ]
    assert missing == []
    assert f"/blob/ja/{page}.ipynb" in text and "/blob/main/notebooks/" not in text
    assert not re.search(r"\]\((?!https?:|#)", text)


def test_a_block_keeps_what_is_around_it():
    from book.colab import translate_markdown

    text = "## One\n\n- two\n  lines\n- [three](x.md)\n\n| a | a |\n| - | - |\n| four | $x$ |\n\n"
    text += ":::{admonition} Five\n:class: tip\nSix\nseven.\n:::\n\n```python\nOne\n```\n"
    words = ["One", "two lines", "[three](x.md)", "a", "four", "Five", "Six seven."]
    messages = {word: str(i) for i, word in enumerate(words)}
    wanted = "## 0\n\n- 1\n- 2\n\n| 3 | 3 |\n| - | - |\n| 4 | $x$ |\n\n"
    wanted += ":::{admonition} 5\n:class: tip\n6\n:::\n\n```python\nOne\n```\n"
    assert translate_markdown(text, messages) == wanted


# ---------------------------------------------------------------- words of scripts and players


def test_a_player_speaks_japanese():
    """Names of classes, layers and methods stay; no phrase does."""
    sys.path.append(str(ROOT / "book" / "extensions"))
    from player_words import PHRASES, speaker, translate_player

    notebook = json.loads((ROOT / "notebooks" / "05_explorer.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    pages = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
    pages = [page for page in pages if 'class="player"' in page]
    assert len(pages) == 2
    said = translate.translations(CATALOGUES[translate.SITE])
    assert not set(PHRASES) - said.keys()
    names = "Conv2d|ReLU|MaxPool2d|Grad-CAM|Guided|Deconvnet|deconvnet|guided|features"
    names += "|Persian cat|Egyptian cat|tabby|remote control|computer keyboard"
    for page in pages:
        translated = translate_player(page, speaker(said.get))
        text = re.search(r'"texts":(\[.*?\]),"pictures"', translated)[1]
        text += re.sub(r"(?s)<(script|style).*?</\1>", "", translated)
        words = re.findall(r"[A-Za-z]{2,}", re.sub(names, "", " ".join(spoken(text))))
        assert set(words) <= {"gradient"}, set(words)  # the rule's key, as one types it
        assert translated.count("data:image") == page.count("data:image")


def spoken(page: str) -> list[str]:
    """What is shown and read out: texts, alternatives and labels."""
    strings = re.findall(r'(?<=[\[,])"((?:\\.|[^"])*)"', page.split("<", 1)[0])
    attributes = re.findall(r'\s(?:alt|title|aria-label)="([^"]*)"', page)
    return strings + attributes + re.findall(r">([^<>]+)<", page)


STATIC = ROOT / "book" / "static"
SCRIPTS = [STATIC / "book.js", *sorted((STATIC / "live").glob("*.js"))]


def script_words(language: str) -> dict[str, str]:
    table = (STATIC / "words.js").read_text(encoding="utf-8")
    block = re.search(rf"^    {language}: \{{$(.*?)^    \}},$", table, re.M | re.S)[1]
    entries = re.split(r"^      (\w+):", re.sub(r"//.*", "", block), flags=re.M)[1:]
    joined = ["".join(re.findall(r'"((?:\\.|[^"])*)"', text)) for text in entries[1::2]]
    return dict(zip(entries[::2], joined, strict=True))


def test_both_languages_have_every_word():
    english, japanese = script_words("en"), script_words("ja")
    assert english.keys() == japanese.keys() and len(english) > 50
    for key, sentence in japanese.items():
        assert re.search(r"[ぁ-ヿ一-鿿]|^\{", sentence), key
        fields = {name.replace("man", "most") for name in re.findall(r"\{(\w+)\}", sentence)}
        assert fields == set(re.findall(r"\{(\w+)\}", english[key])), key


def test_every_word_is_asked_for_and_no_other():
    users = [*SCRIPTS, ROOT / "book" / "try.md"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in users)
    asked = re.findall(r'words\(\s*"(\w+)"|data-(?:words|label|placeholder)="(\w+)"', text)
    asked += re.findall(r'\w: words\("(\w+)"\)()', text)
    asked += re.findall(r'\? words\("(\w+)"\)()', text)
    assert {one or other for one, other in asked} == script_words("en").keys()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_sentence_stands_in_a_script(script):
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", script.read_text(encoding="utf-8"), flags=re.S)
    strings = re.findall(r'"[^"\n]*"|`[^`\n]*`', code)
    assert [said for said in strings if re.search(r"[A-Za-z][a-z]+ [a-z]+ [a-z]+", said)] == []


# ---------------------------------------------------------------- the site


@pytest.mark.parametrize("name", ["book/intro", "notebooks/01_grad_cam", "book/try"])
def test_a_page_and_its_twin_lead_to_each_other(site, page, name):
    page.goto(f"{site}/{name}.html")
    assert page.locator("html").get_attribute("lang") == "en"
    links = page.locator("link[rel=alternate][hreflang]")
    addresses = {link.get_attribute("hreflang"): link.get_attribute("href") for link in links.all()}
    assert addresses["x-default"] == addresses["en"]
    assert addresses["en"].endswith(f"/{name}.html") and "/ja/" not in addresses["en"]
    assert addresses["ja"].endswith(f"/ja/{name}.html")
    page.get_by_role("link", name="日本語").click()
    page.wait_for_url(f"{site}/ja/{name}.html")
    assert page.locator("html").get_attribute("lang") == "ja"
    canonical = page.locator("link[rel=canonical]").get_attribute("href")
    assert canonical == addresses["ja"]
    page.get_by_role("link", name="English", exact=True).click()
    page.wait_for_url(f"{site}/{name}.html")


def test_the_glossary_is_in_japanese(site, page):
    page.goto(f"{site}/ja/book/notation.html")
    assert page.locator("article h1").inner_text().startswith("記号と用語集")
    assert "特徴マップ" in page.locator("dl.glossary").inner_text()
    assert page.locator("dl.glossary a[href='#term-max-unpooling']").count() > 0


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("自分の写真", "book/try"),
        ("ヒートマップ", "notebooks/01_grad_cam"),
        ("用語集", "book/notation"),
        ("転置畳み込み", "book/notation"),
        ("逆伝播", "notebooks/03_guided_backpropagation"),
        ("最大アンプーリング", "book/notation"),
    ],
)
def test_the_search_finds_japanese(site, page, words, wanted):
    page.goto(f"{site}/ja/search.html?q={words}")
    page.locator("#search-results ul.search li > a").first.wait_for()
    page.locator(".search-summary", has_text="件見つかりました").wait_for()
    links = page.locator("#search-results ul.search li > a").evaluate_all(
        "links => links.map(link => link.pathname)"
    )
    assert f"/ja/{wanted}.html" in links[:3], links


def test_the_photo_page_speaks_japanese(site, page):
    page.goto(f"{site}/ja/book/try.html")
    page.get_by_role("button", name="サンプルの写真：chelsea").click()
    page.get_by_text("秒で計算しました").wait_for()
    labels = page.locator("#live figcaption").all_inner_texts()
    assert "ガイド付き逆伝播" in labels and "写真に重ねたGrad-CAM" in labels
    words = page.locator("#live").inner_text()
    assert not re.search(r"\b(the|photo|class|network)\b", words), words


def test_the_badge_opens_the_translated_notebook(site, built, page):
    page.goto(f"{site}/ja/notebooks/01_grad_cam.html")
    links = page.locator("a[href*='colab.research']").evaluate_all("all => all.map(a => a.href)")
    assert links and all("/blob/ja/notebooks/01_grad_cam.ipynb" in link for link in links)
    notebook = json.loads(
        (built / "ja" / "_sources" / "notebooks" / "01_grad_cam.ipynb").read_text(encoding="utf-8")
    )
    assert "/blob/ja/notebooks/01_grad_cam.ipynb" in "".join(notebook["cells"][0]["source"])


def test_what_is_large_is_there_once(built):
    assert (built / "_static" / "live" / "model.onnx").exists()
    for name in ("live", "equations", "preview.png"):
        assert not (built / "ja" / "_static" / name).exists()


def test_what_sphinx_leaves_in_english_is_translated_too(site, page):
    """Names of the parts, alternatives of figures, and words around a link to Colab."""
    page.goto(f"{site}/ja/notebooks/05_explorer.html")
    said = page.locator(".bd-sidebar-primary .caption-text").all_inner_texts()
    assert len(said) > 4
    said += page.locator("article .admonition p").all_inner_texts()
    pictures = page.locator("article figure [role=img]")
    said += pictures.evaluate_all("all => all.map((picture) => picture.ariaLabel)")
    assert len(said) > 7 and all(re.search("[ぁ-ん一-鿿]", words) for words in said), said
