"""Sphinx: the book in more than one language, and each page's way to its twin in the other.

`python -m book.build` builds the pages of one language after the other, and sets ``twins``; a plain
`jupyter-book build` knows no other language.
"""

import re
from collections.abc import Callable
from pathlib import Path

import yaml
from docutils import nodes
from player_words import speaker, translate_player
from sphinx import addnodes
from sphinx.locale import _ as translated
from sphinx.locale import init
from sphinx.search import SearchLanguage, languages
from sphinx.util.i18n import docname_to_domain

#: What a language calls itself.
NAMES = {"en": "English", "ja": "日本語"}
SOURCE = "en"
#: From a translated page's _static to that of the English pages, which are one folder up.
SHARED = "../../_static/"


def settings_with_words(path: Path) -> list[str]:
    """The settings of ``_config.yml`` that readers see."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [settings["title"], settings["author"], settings["html"]["extra_footer"]]


def speak(app, config) -> None:
    """The settings of another language: words from ``sphinx.po``, addresses below its folder."""
    if config.twins:
        config.html_theme_options["article_header_end"] = [
            "language-switch.html",
            "article-header-buttons.html",
        ]
    if config.language == SOURCE:
        return
    config.html_title = translated(config.html_title)
    config.nb_code_prompt_show = translated("Show code")
    config.nb_code_prompt_hide = translated("Hide code")
    config.author = translated(config.author)
    options = config.html_theme_options
    for name in ("extra_footer", "search_bar_text"):
        options[name] = translated(options[name])
    options["repository_branch"] = config.language  # where Colab finds the translated notebooks
    config.html_baseurl += f"{config.language}/"
    config.html_js_files = [SHARED + name for name in config.html_js_files]


def own_addresses(app, docname, source) -> None:
    """Scripts and weights are shared. Only in lines that are no message: it would not be found."""
    if app.config.language != SOURCE:
        source[0] = (
            source[0]
            .replace("../_static/live/", f"../{SHARED}live/")
            .replace("<summary>Answer</summary>", f"<summary>{translated('Answer')}</summary>")
        )


def words_of(app, page: str) -> Callable[[str], str]:
    """From a message to what a page's catalogue has for it."""
    folders = [Path(app.srcdir, folder) for folder in app.config.locale_dirs]
    name = docname_to_domain(page, app.config.gettext_compact)
    return init(folders, app.config.language, name)[0].gettext


def finish(app, doctree) -> None:
    """What Sphinx leaves in English: the parts' names, and which notebook Colab opens."""
    if app.config.language == SOURCE or app.builder.format != "html":
        return
    for toctree in doctree.findall(addnodes.toctree):
        if toctree.get("caption"):
            toctree["caption"] = words_of(app, app.env.docname)(toctree["caption"])
    for link in doctree.findall(nodes.reference):
        if "refuri" in link:
            link["refuri"] = link["refuri"].replace(
                "/blob/main/notebooks/", f"/blob/{app.config.language}/notebooks/"
            )


def keep(app, doctree) -> None:
    """Equations and the reference's docstrings are for no translator.

    Of a part of a line Sphinx asks whether it is marked at all, so its mark goes.
    """
    for part in doctree.findall(lambda node: isinstance(node, (nodes.math_block, addnodes.desc))):
        for node in part.findall(nodes.TextElement):
            if isinstance(node, nodes.inline):
                node.attributes.pop("translatable", None)
            else:
                node["translatable"] = False


def translate_players(app, doctree, docname) -> None:
    """The players' words in the page's language."""
    if app.config.language == SOURCE or app.builder.format != "html":
        return
    say = speaker(translated)
    for node in list(doctree.findall(nodes.raw)):
        if 'class="player"' in node.astext():
            page = translate_player(node.astext(), say)
            node.replace_self(nodes.raw("", page, format="html"))


def english_address(config) -> str:
    """Where the English pages begin, with a slash at the end."""
    folder = "" if config.language == SOURCE else f"{config.language}/"
    return config.html_baseurl.removesuffix(folder)


def link_twins(app, pagename, templatename, context, doctree) -> None:
    """For the templates: this page in every language, and the one that is not this one."""
    own = app.config.language
    context["alternates"], context["twin"] = {}, None
    if not app.config.twins or doctree is None:
        return
    folders = {code: "" if code == SOURCE else f"{code}/" for code in NAMES}
    context["alternates"] = {
        code: f"{english_address(app.config)}{folder}{pagename}.html"
        for code, folder in folders.items()
    }
    context["alternates"]["x-default"] = context["alternates"][SOURCE]
    other = next(code for code in NAMES if code != own)
    up = "../" if own != SOURCE else ""
    context["twin"] = {
        "code": other,
        "name": NAMES[other],
        "address": context["pathto"](f"{up}{folders[other]}{pagename}"),
    }


class Japanese(SearchLanguage):
    """Search for Japanese: every two letters that stand beside each other are a word.

    Sphinx's own splits the pages into words, but not what the reader types. Pairs need no
    dictionary, and are found wherever the typed words stand in a page.
    """

    lang = "ja"
    language_name = "Japanese"
    js_splitter_code = """
function splitQuery(query) {
  const parts = query.match(/[ぁ-ヺー-ヿ々一-鿿]+|(?:(?![ぁ-ヿ々一-鿿])[\\p{L}\\p{N}])+/gu) ?? [];
  return parts.flatMap((part) =>
    part.length < 3 || !/[ぁ-ヿ々一-鿿]/.test(part)
      ? [part]
      : [...part].slice(1).map((letter, i) => part[i] + letter),
  );
}
"""
    PARTS = re.compile(r"[ぁ-ヺー-ヿ々一-鿿]+|(?:(?![ぁ-ヿ々一-鿿])[^\W_])+")

    def split(self, input: str) -> list[str]:
        words = []
        for part in self.PARTS.findall(input):
            pairs = re.match("[ぁ-ヿ々一-鿿]", part) and len(part) > 2
            words += [a + b for a, b in zip(part, part[1:], strict=False)] if pairs else [part]
        return words

    def word_filter(self, word: str) -> bool:
        return True


def setup(app):
    languages["ja"] = Japanese
    app.add_config_value("twins", False, "html")
    app.connect("config-inited", speak)
    app.connect("source-read", own_addresses)
    app.connect("doctree-read", keep)
    app.connect("doctree-read", finish, priority=400)  # before Sphinx notes the parts' names
    app.connect("doctree-resolved", translate_players)
    app.connect("html-page-context", link_twins)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
