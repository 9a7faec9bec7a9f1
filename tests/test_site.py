"""The built pages in a real browser."""

import io
import itertools
import re
import shutil
import sys

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from PIL import Image

from helpers import show_bars, show_curves, show_row
from helpers.interactive.panels import data_address

from .browser import PAGES, ROOT

ICONS = """document.fonts.ready.then(fonts =>
    [...fonts].some(font => /Awesome/.test(font.family) && font.status === "loaded"))"""
BROKEN = """async () => {
    const images = [...document.images];
    images.forEach((image) => image.loading = "eager");
    await Promise.allSettled(images.map((image) => image.decode()));
    return images.filter((image) => !image.naturalWidth).map((image) => image.src);
}"""
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
    assert page.evaluate(ICONS)
    assert not page.evaluate(BROKEN)
    assert not page.evaluate(FOREIGN)


def test_no_page_tells_where_it_was_built(built):
    """As the default value of a parameter did: it also made the page wider than a phone."""
    pages = [path for path in built.rglob("*") if path.suffix in {".html", ".js", ".json"}]
    assert len(pages) > len(PAGES)
    told = [str(ROOT), str(built.parents[1])]
    assert not [p for p in pages if any(name in p.read_text(encoding="utf-8") for name in told)]


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


@pytest.mark.slow
def test_the_stylesheet_has_every_rule_that_counts(site, page):
    """Nothing looks different with the ten stylesheets that it is made of."""
    choose = """() => {
        const kinds = new Map();  // one of each kind, told by its classes and its parent's
        for (const element of document.querySelectorAll("body *")) {
            const family = [element, element.parentElement];
            const kind = family.map(({ tagName, className }) => [tagName, className]).join();
            if (!kinds.has(kind)) kinds.set(kind, element);
        }
        window.chosen = [...kinds.values()];
    }"""
    look = """() => {
        const look = (element, part) => {
            const style = getComputedStyle(element, part);
            const names = [...style].filter((name) => !name.startsWith("--"));
            return names.map((name) => `${name}: ${style.getPropertyValue(name)}`);
        };
        const parts = [null, "::before", "::after"];
        return window.chosen.flatMap((element) => parts.map((part) => look(element, part)));
    }"""
    for name in ("book/intro", "notebooks/01_grad_cam", "search"):
        page.goto(f"{site}/{name}.html")
        page.wait_for_load_state("networkidle")
        page.evaluate(choose)
        page.add_style_tag(content="* { transition: none !important; animation: none !important }")
        found = page.evaluate(look)
        page.evaluate("""async () => {
            const link = document.querySelector("link[rel=stylesheet]");
            const [words] = (await (await fetch(link.href)).text()).split("*/");
            const whole = words.split(" ").filter((word) => word.endsWith(".css"));
            const folder = link.href.replace(/[^/]*$/, "");
            await Promise.all(whole.map((name) => new Promise((resolve) => {
                const more = Object.assign(document.createElement("link"), {rel: "stylesheet"});
                Object.assign(more, {href: folder + name, onload: resolve});
                link.before(more);
            })));
            link.remove();
            await document.fonts.ready;
        }""")
        whole = page.evaluate(look)
        assert len(found) == len(whole) > 100
        pairs = zip(itertools.chain(*found), itertools.chain(*whole), strict=True)
        assert not [(a, b) for a, b in pairs if a != b], name


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("heatmap", "notebooks/01_grad_cam"),
        ("gradcam", "notebooks/01_grad_cam"),
        ("deconvolution", "notebooks/02_deconvnet"),
        ("license", "book/licences"),
        ("own photo", "book/try"),
    ],
)
def test_the_search_finds_what_is_meant(site, page, words, first):
    page.goto(f"{site}/search.html?q={words}")
    page.get_by_text("Search finished").wait_for()
    links = page.locator("#search-results ul.search li > a").evaluate_all(
        "links => links.map(link => link.pathname)"
    )
    found = list(dict.fromkeys(link.removesuffix(".html")[1:] for link in links))
    assert found[0] == first
    last = [name in ("notebooks/template", "book/contributing") for name in found]
    assert last == sorted(last)


def test_colab_is_offered_where_it_works(site, page):
    for name, count in (("notebooks/01_grad_cam", 1), ("book/intro", 0), ("book/model", 0)):
        page.goto(f"{site}/{name}.html")
        assert page.locator(".dropdown-launch-buttons").count() == count, name


def test_the_search_icon_leaves_room_for_words(site, page):
    page.goto(f"{site}/search.html")
    icon, field = (
        page.locator(f"#main-content .bd-search {part}").bounding_box() for part in ("i", "input")
    )
    assert icon["width"] > 5 and icon["x"] + icon["width"] <= field["x"]


def test_the_focus_is_seen_in_the_top_bar(site, page):
    page.goto(f"{site}/notebooks/01_grad_cam.html")
    buttons = page.locator(".bd-header-article button:visible")
    assert buttons.count() > 4
    for button in buttons.all():
        page.keyboard.press("Tab")  # so that the focus counts as the keyboard's
        button.focus()
        style = button.evaluate(
            "b => [getComputedStyle(b).outlineStyle, getComputedStyle(b).outlineWidth]"
        )
        assert style == ["solid", "3px"]


HEAD = """() => ({
    title: document.title,
    description: document.querySelector("meta[name=description]")?.content ?? "",
    picture: document.querySelector("meta[property='og:image']")?.content ?? "",
})"""


def test_each_page_has_a_title_and_a_description_of_its_own(site, built, page):
    heads = []
    for name in PAGES:
        page.goto(f"{site}/{name}.html")
        heads.append(page.evaluate(HEAD))
    for key in ("title", "description"):
        assert len({head[key] for head in heads}) == len(PAGES), key
    assert all(40 < len(head["description"]) <= 160 for head in heads)
    assert heads[0]["title"] == "Where did you look, and at what?"
    address = "https://where-did-you-look.github.io/where-did-you-look/"
    assert {head["picture"] for head in heads} == {f"{address}_static/preview.png"}
    with Image.open(built / "_static" / "preview.png") as preview:
        assert preview.size == (1200, 630)


def test_on_paper_it_is_light_and_everything_is_open(site, page):
    page.emulate_media(color_scheme="dark")
    page.goto(f"{site}/notebooks/01_grad_cam.html")
    closed = page.locator("article details:not([open])").count()
    assert closed
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.locator("article details:not([open])").count() == 0
    folds = page.locator("article details.hide > summary")
    assert folds.count() and folds.first.is_visible()
    page.emulate_media(media="print")
    assert not folds.first.is_visible()  # nothing can be folded there
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.locator("article details:not([open])").count() == closed


def test_the_reference_shows_how_to_call_and_its_contents_whole(site, page):
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{site}/book/reference.html")
    call = page.locator("[id='helpers.load_model']").inner_text()
    assert "load_model(name='embedded', device=None" in "".join(call.split("\u200b"))
    cut = """() => [...document.querySelectorAll(".page-toc a")]
        .filter((link) => link.getBoundingClientRect().right
            > document.querySelector(".sidebar-secondary-items").getBoundingClientRect().right)
        .map((link) => link.textContent)"""
    assert page.locator(".page-toc a").count() > 30 and not page.evaluate(cut)


@pytest.mark.parametrize("name", PAGES)
def test_code_is_not_cut_off_and_letters_are_not_tiny(site, page, name):
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{site}/{name}.html")
    page.wait_for_load_state("load")
    cut = """() => [...document.querySelectorAll("article pre")]
        .filter((pre) => pre.scrollWidth > pre.clientWidth).map((pre) => pre.textContent)"""
    assert not page.evaluate(cut)
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    tiny = """() => {
        const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        const found = [];
        while (words.nextNode()) {
            const { parentElement: box, textContent } = words.currentNode;
            const read = textContent.trim() && box.checkVisibility();
            const small = parseFloat(getComputedStyle(box).fontSize) < 11;
            if (read && small && !box.closest("math, sup, sub")) found.push(textContent);
        }
        return found;
    }"""
    assert not page.evaluate(tiny)


@pytest.mark.parametrize("name", ["book/licences", "notebooks/10_cams", "ja/book/licences"])
def test_a_table_is_whole_on_a_phone(site, page, name):
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{site}/{name}.html")
    tables = page.locator("article table").all()
    assert tables
    for table in tables:
        assert table.evaluate("table => table.scrollWidth - table.parentElement.clientWidth") <= 0
    split = """() => { const range = document.createRange();
        const words = document.createTreeWalker(
            document.querySelector("article table"), NodeFilter.SHOW_TEXT);
        const found = [];
        while (words.nextNode()) {
            const text = words.currentNode.textContent;
            for (const { index, 0: word } of text.matchAll(/[a-z]{4,}/gi)) {
                range.setStart(words.currentNode, index);
                range.setEnd(words.currentNode, index + word.length);
                if (range.getClientRects().length > 1) found.push(word);
            }
        }
        return found; }"""
    assert not page.evaluate(split)


# ------------------------------------------------------------ equations


@pytest.fixture
def equations(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "extensions")
    return pytest.importorskip("equations")


def test_latex_becomes_mathml(equations):
    drawn = equations.to_mathml(r"\alpha_k \big(C' - 1\big)", block=False)
    assert drawn.startswith("<math>") and "<msub><mi>α</mi><mi>k</mi></msub>" in drawn
    assert "′" in drawn and "<msup>" not in drawn  # the sign is raised already
    rows = equations.to_mathml(r"\begin{aligned} a &= b \\ c &= d \end{aligned}", block=True)
    assert 'display="block"' in rows and rows.count("<mtr>") == 2


@pytest.mark.parametrize("latex", [r"\unheard{of}", r"\frac{1}{", r"a \\ b"])
def test_latex_that_cannot_be_drawn_is_refused(equations, latex):
    with pytest.raises(equations.LatexError):
        equations.to_mathml(latex, block=True)


def test_an_equation_has_its_number_and_its_signs_are_in_the_font(equations, tmp_path):
    """And one that cannot be drawn is a warning, which ends a build, and is shown as written."""
    application = pytest.importorskip("sphinx.application")
    source, out, told = tmp_path / "source", tmp_path / "out", io.StringIO()
    (source / equations.FONT.parent).mkdir(parents=True)
    shutil.copy(ROOT / equations.FONT, source / equations.FONT)
    (source / "index.rst").write_text(
        ".. math:: x \\otimes \\sqrt y < 2\n   :label: one\n\n"
        "See :eq:`one` and :math:`\\unheard < 1`.\n"
    )
    app = application.Sphinx(
        source,
        None,
        out,
        tmp_path / "read",
        "html",
        {"extensions": ["equations"], "html_math_renderer": "mathml", "numfig": True},
        status=None,
        warning=told,
    )
    app.build()
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "(1)" in page.split('class="eqno">')[1] and 'href="#equation-one"' in page
    drawn = page[page.index("<math") :]
    assert "⊗</mo>" in drawn and "&lt;</mo>" in drawn and r"\unheard &lt; 1" in drawn
    assert "unheard" in told.getvalue() and "index.rst" in told.getvalue()
    signs = TTFont(out / "_static" / "equations.woff").getBestCmap()
    # the root's sign is drawn for an element, and stands in no text
    assert "√" not in page and "<msqrt>" in page
    assert {ord("⊗"), ord("<"), ord("√"), 0x1D465} <= set(signs) and ord("⊕") not in signs


@pytest.mark.parametrize("name", ["notebooks/01_grad_cam", "notebooks/10_cams", "book/notation"])
def test_equations_are_drawn_in_the_sites_font(site, page, name):
    """Each sign of them: none comes from a font that other systems may not have."""
    page.goto(f"{site}/{name}.html")
    page.evaluate("document.fonts.ready.then(() => 0)")
    assert page.locator("article math").count() > 5
    assert page.locator("script[src*=mathjax]").count() == 0
    protocol = page.context.new_cdp_session(page)
    for domain in ("DOM", "CSS"):
        protocol.send(f"{domain}.enable")
    root = protocol.send("DOM.getDocument")["root"]["nodeId"]
    signs = ", ".join(f"article {part}" for part in ("mi", "mn", "mo", "mtext"))
    nodes = protocol.send("DOM.querySelectorAll", {"nodeId": root, "selector": signs})["nodeIds"]
    used = [
        font
        for node in nodes
        for font in protocol.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
    ]
    assert len(used) > 15 and all(font["isCustomFont"] for font in used), used


@pytest.mark.parametrize("width", [390, 1200])
def test_a_wide_equation_scrolls_by_keyboard(site, page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{site}/book/notation.html")
    block = page.locator("article div.math").first
    block.scroll_into_view_if_needed()
    page.evaluate("document.fonts.ready.then(() => 0)")
    page.wait_for_timeout(200)
    hidden = block.evaluate("box => box.scrollWidth - box.clientWidth")
    if width == 1200:
        assert hidden == 0 and block.get_attribute("tabindex") is None
        return
    assert hidden > 10 and block.get_attribute("tabindex") == "0"
    block.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement.scrollLeft > 0")


# ------------------------------------------------------------ figures

RED, GREEN, BLUE = np.eye(3)
FILLED = [np.full((20, wide, 3), colour) for wide, colour in [(20, RED), (30, GREEN), (20, BLUE)]]


@pytest.fixture
def figures(chromium):
    sys.path.insert(0, str(ROOT / "book" / "extensions"))
    yield pytest.importorskip("site_figures")
    sys.path.remove(str(ROOT / "book" / "extensions"))


@pytest.mark.parametrize("width", [1200, 390])
def test_each_panel_shows_its_own_picture(figures, page, tmp_path, width):
    """And no pixel of its neighbours or of the words around it."""
    figure = show_row(
        [*FILLED, *FILLED[::-1]], ["a", "b <\nc", "d", "e", "f", "g"], "a note", columns=3
    )
    figure.savefig(tmp_path / "row.png", bbox_inches="tight")
    words, files = figures.convert(tmp_path / "row.png", tmp_path, "row.png")
    assert words["note"] == "a note" and len({name for name, _ in files}) == 6
    shown = [(data_address((tmp_path / name).read_bytes()), size) for name, size in files]
    style = (ROOT / "book" / "static" / "book.css").read_text(encoding="utf-8")
    page.set_viewport_size({"width": width, "height": 900})
    page.set_content(
        f"<style>{style}</style><figure>{figures.markup(words, shown, 'alt', True)}</figure>"
    )
    assert page.locator(".panel-title").all_inner_texts() == words["titles"]
    assert page.locator(".figure-note").inner_text() == "a note"
    assert page.get_by_role("img", name="alt").count() == 1
    boxes, colours = [], [RED, GREEN, BLUE, BLUE, GREEN, RED]
    for panel, colour in zip(page.locator(".panel img").all(), colours, strict=True):
        boxes.append(panel.bounding_box())
        pixels = np.asarray(Image.open(io.BytesIO(panel.screenshot())).convert("RGB")).astype(int)
        assert pixels.shape[1] > 60 and np.abs(pixels[1:-1, 1:-1] - 255 * colour).max() <= 2
    assert boxes[0]["y"] < boxes[3]["y"] and boxes[0]["x"] < boxes[1]["x"] < boxes[2]["x"]
    heights = [box["height"] for box in boxes]
    assert max(heights) < 1.1 * min(heights) and boxes[1]["width"] > 1.3 * boxes[0]["width"]


@pytest.mark.parametrize(("count", "columns", "row"), [(1, 4, 1), (5, 4, 4), (4, 2, 2), (3, 3, 3)])
def test_a_row_is_as_long_as_in_the_figure(figures, tmp_path, count, columns, row):
    figure = show_row(FILLED[:1] * count, ["a"] * count, columns=columns)
    figure.savefig(tmp_path / "row.png", bbox_inches="tight")
    words, _ = figures.convert(tmp_path / "row.png", tmp_path, "row.png")
    assert figures.row_length(words["panels"]) == row


def test_a_chart_keeps_its_words_and_loses_the_note_below_it(figures, tmp_path):
    figure = show_curves([{"gradient": [1, 2, 3]}], ["one"], [1, 2, 3], note="a note")
    figure.savefig(tmp_path / "chart.png", bbox_inches="tight")
    words, [(name, size)] = figures.convert(tmp_path / "chart.png", tmp_path, "chart.png")
    with Image.open(tmp_path / "chart.png") as whole, Image.open(tmp_path / name) as kept:
        assert kept.size == size and words["panels"] == []
        upper, lower = np.split(np.asarray(whole.convert("RGB")), [size[1]])
        assert np.array_equal(np.asarray(kept.convert("RGB")), upper)  # without loss
        assert (lower < 255).any()


def charts_beside_each_other(kind):
    names = ["Grad-CAM", "guided backpropagation", "edges", "centre", "random"]
    if kind == "bars":
        rows = {name: (20.0 * i, 3.0) for i, name in enumerate(names, 1)}
        return show_bars([rows, rows, rows], ["one", "two", "three"], [20, 30, 40], "%", "a note")
    curves = {name: [i, 5 - i, 3] for i, name in enumerate(names)}
    return show_curves([curves, curves], ["one", "two"], [0, 1, 2], "x", "y", "a note")


LETTER = 10 / 72 * 160  # pixels in a PNG of a chart's letters: 10 points at 160 dots an inch
PLACES = """(chart) => ({
    hidden: chart.scrollWidth - chart.clientWidth,
    pictures: [...chart.querySelectorAll("img")].filter((i) => i.checkVisibility()).map((img) => {
        const { left, right, top, bottom } = img.getBoundingClientRect();
        const kind = img.closest(".legend, .entries, .again")?.className ?? "";
        const scale = (right - left) / img.getAttribute("width");
        return { left, right, top, bottom, scale, kind: kind.split(" ")[0] };
    }),
})"""


def where(chart):
    """A chart's visible pictures: those of its legend, of its panels, and copies of its y axis."""
    chart.page.evaluate(BROKEN)  # all have come
    found = chart.evaluate(PLACES)
    kinds = (("legend", "entries"), ("",), ("again",))
    sorts = [[p for p in found["pictures"] if p["kind"] in kind] for kind in kinds]
    return found["hidden"], *sorts


@pytest.mark.parametrize("kind", ["bars", "curves"])
def test_charts_beside_each_other_are_whole_or_below_each_other(figures, page, tmp_path, kind):
    figure = charts_beside_each_other(kind)
    figure.savefig(tmp_path / "chart.png", bbox_inches="tight")
    words, files = figures.convert(tmp_path / "chart.png", tmp_path, "chart.png")
    shown = [(data_address((tmp_path / name).read_bytes()), size) for name, size in files]
    for (_, size), (name, _) in zip(shown, files, strict=True):
        with Image.open(tmp_path / name) as part:
            assert part.size == size
    style = (ROOT / "book" / "static" / "book.css").read_text(encoding="utf-8")
    page.set_viewport_size({"width": 1300, "height": 900})
    drawn = figures.markup(words, shown, "alt", True)
    page.set_content(f"<style>{style}</style><div class=bd-content><figure>{drawn}</figure></div>")
    assert page.get_by_role("img").count() == page.get_by_role("img", name="alt").count() == 1
    assert page.locator(".figure-note").inner_text() == "a note"
    chart, count = page.locator(".chart"), len(figure.axes)
    # with room for all of it, the pieces are the figure, pixel for pixel
    hidden, legend, panels, copies = where(chart)
    assert hidden == 0 and len(legend) == len(figure.legends) and len(panels) == count
    assert not copies
    seen = Image.open(io.BytesIO(page.locator(".stack").screenshot())).convert("RGB")
    with Image.open(tmp_path / "chart.png") as whole:
        kept = np.asarray(whole.convert("RGB"))[: words["note_top"]]
    assert (kept < 255).any() and np.array_equal(np.asarray(seen), kept)
    page.set_viewport_size({"width": 720, "height": 900})
    hidden, legend, panels, copies = where(chart)
    assert hidden == 0 and not copies
    for one, other in itertools.pairwise(panels):
        assert abs(one["right"] - other["left"]) < 0.1 and one["top"] == other["top"]
    # a phone's
    page.set_viewport_size({"width": 390, "height": 900})
    hidden, legend, panels, copies = where(chart)
    assert hidden == 0 and len(legend) == (5 if figure.legends else 0)
    assert len(copies) == count - 1
    for (above, below), y_axis in zip(itertools.pairwise(panels), copies, strict=True):
        assert below["top"] >= above["bottom"]
        ends = [(y_axis["right"], below["left"])]
        ends += [(y_axis[end], below[end]) for end in ("top", "bottom")]
        assert max(abs(one - other) for one, other in ends) < 0.1
    scales = [part["scale"] for part in [*legend, *panels, *copies]]
    assert min(scales) * LETTER >= 11 and max(scales) - min(scales) < 0.01
    # no letter is larger than the page's, and what is too wide still scrolls
    page.set_viewport_size({"width": 600, "height": 900})
    assert max(part["scale"] for part in where(chart)[2]) * LETTER < 17
    page.set_viewport_size({"width": 240, "height": 900})
    hidden, _, panels, _ = where(chart)
    assert hidden > 10 and min(part["scale"] for part in panels) * LETTER >= 11
    page.emulate_media(media="print")  # paper is wide enough, or the chart is as wide as the paper
    hidden, _, panels, copies = where(chart)
    assert not copies and panels[0]["top"] == panels[1]["top"]
    assert panels[-1]["right"] <= 240


def test_the_words_of_the_y_axis_stand_where_they_stood(figures):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    boxes = {"strip": [0, 6, 5, 9], "entries": [[1, 0, 6, 3], [9, 1, 7, 2]]}
    one, other, words, legend, *entries = figures.cut_chart(
        pixels, [[0, 4, 18, 14], [18, 4, 12, 14]], **boxes
    )
    assert np.array_equal(np.vstack([legend, np.hstack([one, other])]), pixels[:18])
    assert words.shape == (14, 5, 3) and np.array_equal(words[2:11], pixels[6:15, :5])
    assert (words[:2] == 255).all() and (words[11:] == 255).all()
    assert np.array_equal(entries[0], pixels[:3, 1:7])
    assert np.array_equal(entries[1], pixels[1:3, 9:16])
    assert len(figures.cut_chart(pixels, [[0, 0, 30, 20]], [0, 6, 5, 9], [])) == 2


def test_a_picture_from_elsewhere_has_no_words(figures, tmp_path):
    for text in ("", "a description", "[1]", '{"titles": []}'):
        assert figures.read_words(text) == {}


def test_figures_are_webp_of_known_size_and_can_be_enlarged(site, page):
    page.goto(f"{site}/notebooks/01_grad_cam.html")
    sizes = page.locator("article figure img[src$='.webp'][width][height]").evaluate_all(
        "images => images.map(image => image.naturalWidth > 0 || image.loading === 'lazy')"
    )
    assert len(sizes) == page.locator("article figure img").count() > 4 and all(sizes)
    figure = page.locator("article figure").first
    narrow = figure.bounding_box()["width"]
    figure.get_by_role("button", name="Enlarge Fig.").click()
    dialog = page.get_by_role("dialog", name="Enlarged figure")
    assert dialog.locator("figure").bounding_box()["width"] > 1.2 * narrow
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


CHARTS = ["06_sanity_checks", "08_ground_truth", "09_measured", "10_cams"]


@pytest.mark.parametrize("name", CHARTS)
def test_no_chart_scrolls_on_a_phone(site, page, name):
    page.goto(f"{site}/notebooks/{name}.html")
    charts = page.locator("article .chart:visible").all()
    stacks = [chart for chart in charts if chart.locator(".stack").count()]
    assert stacks
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for chart in charts:
            assert chart.evaluate("chart => chart.scrollWidth - chart.clientWidth") == 0
        for chart in stacks:
            _, _, panels, _ = where(chart)
            assert len(panels) > 1 and min(part["scale"] for part in panels) * LETTER >= 11
            beside = [a["right"] - b["left"] for a, b in itertools.pairwise(panels)]
            below = [b["top"] >= a["bottom"] for a, b in itertools.pairwise(panels)]
            assert all(below) if width == 390 else np.abs(beside).max() < 0.1
    page.set_viewport_size({"width": 1280, "height": 900})
    narrow = stacks[0].bounding_box()["width"]
    stacks[0].click()
    large = page.get_by_role("dialog", name="Enlarged figure").locator(".chart")
    _, _, panels, copies = where(large)
    assert not copies and panels[-1]["right"] - panels[0]["left"] > 1.2 * narrow


def test_the_joined_pages_lead_to_each_other(site, page):
    """What is printed as PDF: no two places of one name, no link within it that leads nowhere."""
    join = pytest.importorskip("book.pdf").JOIN
    page.goto(f"{site}/notebooks/01_grad_cam.html")
    names = ["book/intro", "notebooks/01_grad_cam", "notebooks/04_guided_grad_cam"]
    page.evaluate(join, [*names, "book/references"])
    assert page.locator("article h1").count() == 4
    ids = page.locator("article [id]").evaluate_all("all => all.map(element => element.id)")
    assert len(ids) == len(set(ids)) > 30
    inside = page.locator("article a[href^='#']").evaluate_all(
        "links => links.map(link => decodeURIComponent(link.hash.slice(1)))"
    )
    assert len(inside) > 30 and set(inside) <= set(ids)
    drawn = page.locator("article .sketch").evaluate_all("all => all.map(svg => svg.outerHTML)")
    parts = re.findall(r"""(?:url\(|href=")#([\w-]+)""", "".join(drawn))
    assert len(parts) > 3 and set(parts) <= set(ids)  # markers, gradients, what is drawn twice
    assert "book/references" in {link.split(":")[0] for link in inside}
    elsewhere = page.locator("article a[href]:not([href^='#'])").evaluate_all(
        "links => links.map(link => link.href)"
    )
    assert elsewhere and not [link for link in elsewhere if link.startswith(site)]
