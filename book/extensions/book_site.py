"""Sphinx: what the site needs beyond what stands in the repository, and what it does not need."""

import re
import shutil
import textwrap
from pathlib import Path

from docutils import nodes
from languages import SOURCE, Japanese, english_address
from live_page import export_page
from matplotlib.figure import Figure
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.locale import _

from helpers import all_maps, load_model, overlay, sample, scaling
from helpers.methods import REGIONS_FIRST

#: Scripts that are always added, each with the mark of the pages that need it.
NEEDED_BY = {
    "thebe": None,
    "togglebutton": r'class="[^"]*\b(toggle|dropdown)\b',
    "toggle": r'class="[^"]*\b(toggle|dropdown)\b',
    "design-tabs": "sd-tab-set",
}
#: What others write in pages, and what screen readers understand better.
BODY = {
    'role="doc-biblioentry"': 'role="listitem"',  # a list's children are its items
    ' aria-label="Toggle hidden content"': "",  # it differs from the words that are shown
}
PDF = "where-did-you-look.pdf"

SCHEMATIC = re.compile(
    r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/main/(book/static/figures/\w+\.svg)"
)


def write_live_assets(app) -> None:
    """Before the build, into _build/live: what "Try your own photo" loads, and the preview.

    It is made once; `make book` empties _build when the helpers or the weights change.
    """
    if app.builder.format != "html" or app.config.language != SOURCE:  # languages share it
        return
    folder = Path(app.outdir).parent / "live"
    last = folder / "live" / "model.json"
    made_by = max(path.stat().st_mtime for path in Path(__file__).parent.glob("*.py"))
    if not last.exists() or last.stat().st_mtime < made_by:
        shutil.rmtree(folder, ignore_errors=True)
        model = load_model("embedded", device="cpu")
        folder.mkdir(parents=True)
        write_preview(model, folder / "preview.png")
        export_page(model, folder / "live")
    app.config.html_static_path.append(str(folder))


def offer_pdf(app) -> None:
    """Before the build: the whole book as PDF, if `make pdf` has made it."""
    folder = Path(app.outdir).parent / "pdf"
    if (folder / PDF).exists():
        app.config.html_static_path.append(str(folder))


def write_preview(model, path: Path) -> None:
    """What is shown beside a link to a page of the book: 1200 x 630 pixels, as is usual."""
    x = model.prepare(sample("chelsea"))
    maps = all_maps(model.network, x)
    figure = Figure(figsize=(12, 6.3), dpi=100, facecolor="white")
    figure.text(0.5, 0.8, "Where did you look, and at what?", fontsize=38, ha="center")
    methods = [row for row in REGIONS_FIRST if row.key != "gradient"]  # the book's four
    for i, method in enumerate(methods):
        values = maps[method.title][0]
        if method.kind == "regions":
            picture = overlay(model.preprocess.restore(x)[0], scaling.by_max(values))
        else:
            picture = scaling.signed(values, 99.5)
        axis = figure.add_axes((0.02 + 0.245 * i, 0.12, 0.225, 0.225 * 12 / 6.3))
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(method.title, fontsize=16, pad=10)
        axis.axis("off")
    figure.savefig(path)


def own_badge(app, docname, source) -> None:
    """The badge's picture from the site itself; in the notebooks its address works everywhere."""
    source[0] = source[0].replace(
        "https://colab.research.google.com/assets/colab-badge.svg", "/book/static/colab-badge.svg"
    )


def draw_schematics(app, doctree, docname) -> None:
    """A schematic becomes part of its page, so that its colours follow the page's theme.

    In the notebooks it is a picture, at an address that works everywhere.
    """
    for image in list(doctree.findall(nodes.image)):
        found = SCHEMATIC.fullmatch(image["uri"])
        if found and app.builder.format == "html":
            drawing = (Path(app.srcdir) / found[1]).read_text(encoding="utf-8")
            image.replace_self(nodes.raw("", drawing, format="html"))


def add_search_words(app, doctree) -> None:
    """Words under which a reader may look for a page that says it in others, for the search."""
    languages = {SOURCE, app.config.language}  # English words may be typed on any page
    lists = [app.config.search_words.get(code, {}) for code in sorted(languages)]
    words = " ".join(filter(None, (found.get(app.env.docname) for found in lists)))
    if words and app.builder.format == "html":
        doctree.insert(
            0, nodes.meta(name="keywords", content=", ".join(searched(words, app.config.language)))
        )


def searched(words: str, language: str) -> list[str]:
    """The words as the search looks for them: Sphinx takes keywords for single ones."""
    return Japanese.split(Japanese, words) if language == "ja" else words.split()


def picture_first(app, doctree, docname) -> None:
    """A page that begins with folded code begins with its picture, and the code comes after it."""
    for cell in list(doctree.findall(nodes.container)):
        if "tag_hide-input" in cell["classes"] and isinstance(cell.parent[0], nodes.title):
            if cell.parent.index(cell) == 1:
                cell.children.reverse()


def finish_page(app, pagename, templatename, context, doctree) -> None:
    """Before a page is written."""
    body = context.get("body", "")
    for theirs, ours in BODY.items():
        body = body.replace(theirs, ours)
    context["body"] = body
    context["script_files"] = list(scripts(context.get("script_files", []), body))
    context["preview"] = f"{english_address(app.config)}_static/preview.png"
    context["preview_words"] = _(
        "Four methods' pictures of where a network looked in a cat's photo, and at what."
    )
    context["book_title"] = app.config.html_title
    if doctree is not None:
        title = re.sub("<.*?>", "", context["title"])
        same = pagename == app.config.root_doc
        context["page_title"] = title if same else f"{title} — {app.config.html_title}"
        context["description"] = description(doctree) or _("{title} of the book “{book}”").format(
            title=title, book=app.config.html_title
        )
    context["header_buttons"] = list(buttons(app, context))


def buttons(app, context):
    """The buttons at the top of a page: Colab only where it works, and the PDF if there is one."""
    for button in context.get("header_buttons", []):
        label = button.get("label")
        notebook = context.get("page_source_suffix", "").endswith(".ipynb")
        if label == "launch-buttons" and not notebook:
            continue
        if label == "download-buttons" and (Path(app.outdir).parent / "pdf" / PDF).exists():
            book = {
                "type": "link",
                "text": _("The book as PDF"),
                "tooltip": _("All chapters in one file"),
                "icon": "fas fa-book",
                "url": context["pathto"](f"_static/{PDF}", 1),
            }
            button = {**button, "buttons": [*button["buttons"], book]}
        yield in_words(button)


def in_words(button: dict) -> dict:
    """A button, and those under it, with what is said in the page's language."""
    said = {key: _(button[key]) for key in ("text", "tooltip") if button.get(key)}
    below = {"buttons": list(map(in_words, button["buttons"]))} if "buttons" in button else {}
    return {**button, **said, **below}


def scripts(files, body: str):
    """Those that the page needs, none of which keeps it from being shown."""
    for script in files:
        name = str(script.filename or script.attributes.get("body"))
        mark = next((mark for word, mark in NEEDED_BY.items() if word in name), "")
        if mark is None or not re.search(mark, body):
            continue
        if script.filename:
            script.attributes["defer"] = "defer"
        elif "DOCUMENTATION_OPTIONS" in name:  # after the file that declares it
            script.attributes["type"] = "module"
        yield script


def description(doctree) -> str:
    """The page's first paragraph, shortened, for search engines and previews."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if len(text) > 50 and isinstance(paragraph.parent, nodes.section):
            short = textwrap.shorten(text, 160, placeholder=" …")
            return short if len(short) > 50 else f"{text[:118]}…"  # Japanese has no spaces
    return ""


class AuthorYear(BaseLabelStyle):
    """Labels in the list of references like the citations in the text."""

    def format_labels(self, sorted_entries):
        for entry in sorted_entries:
            names = [
                " ".join(map(str, person.rich_last_names)) for person in entry.persons["author"]
            ]
            many = len(names) > 2
            who = f"{names[0]} et al." if many else " and ".join(names)
            yield f"{who}, {entry.fields['year']}"


class AuthorYearStyle(Style):
    default_label_style = AuthorYear
    default_sorting_style = "author_year_title"


def setup(app):
    register_plugin("pybtex.style.formatting", "author_year", AuthorYearStyle)
    app.add_config_value("search_words", {}, "env")
    app.connect("builder-inited", write_live_assets)
    app.connect("builder-inited", offer_pdf)
    app.connect("source-read", own_badge)
    app.connect("doctree-resolved", draw_schematics)
    app.connect("doctree-read", add_search_words)
    app.connect("doctree-resolved", picture_first)
    app.connect("html-page-context", finish_page, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
