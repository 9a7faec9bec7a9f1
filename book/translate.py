"""The book in another language: message catalogues, and what is built from them.

    python -m book.translate catalogues             after an edit of the English text
    python -m book.translate check book/notation    is what a catalogue says whole?

The English pages are the source. Sphinx cuts them into messages, a paragraph, a title or a caption
each, and ``locale/ja/LC_MESSAGES`` holds one catalogue a page, with the same name. The site's own
few words are in ``sphinx.po``, together with words that the theme's catalogue lacks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

import yaml
from babel.messages import pofile
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
LANGUAGE = "ja"
CATALOGUES = ROOT / "locale" / LANGUAGE / "LC_MESSAGES"
#: The catalogue of the words that stand in no page.
SITE = "sphinx"
#: The only header: neither dates nor names, which would differ in every diff.
HEADER = f"""msgid ""
msgstr ""
"Language: {LANGUAGE}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""

#: What the theme's own catalogue lacks, and words in the pages' HTML.
ELSEWHERE = (
    "Answer",
    "Show code",
    "Hide code",
    "Search this book...",
    "Collapse Sidebar",
    "Expand Sidebar",
    "Color mode",
    "System Settings",
    "Home",
    "Main",
    "Page",
    "Toggle primary sidebar",
    "Toggle secondary sidebar",
    "Source repositories",
    "Repository",
    "Open issue",
    "Link to this heading",
    "Link to this term",
    "Link to this image",
    "Link to this table",
    "Link to this code",
)

# What a translation must keep, each kind as it is written in the pages (MyST).
FORMULA = re.compile(r"(?<![\\$])\$(?!\$)(?:\\.|[^$\\])+\$")
CODE = re.compile(r"(?<![`}])(`+)(?!`).+?(?<!`)\1(?!`)")
ROLE = re.compile(r"(\{[\w:-]+\})`(?:[^`<]*<)?([^`>]*)>?`")  # its name and target; not its words
TARGET = re.compile(r"(?<=\])\((?:[^()\s]|\([^()\s]*\))*\)")
IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)")  # the alternative is a message of its own
TAG = re.compile(r"</?\w[^<>]*>")
FIELD = re.compile(r"\{\w+\}")  # to be filled in
SPAN = re.compile(r"(?<=\])\{[^{}`]*\}")

CELL_SETTINGS = re.compile(r"^```\{code-cell\}.*\n---\n(.*?)\n---$", re.MULTILINE | re.DOTALL)


# ---------------------------------------------------------------- messages


def extract(folder: Path) -> dict[str, list[str]]:
    """The messages of every page that need words, in their order, by the catalogue's name.

    ``folder`` is where Sphinx works; no notebook is executed.
    """
    from book.build import run_sphinx

    status = run_sphinx("gettext", folder / "gettext", nb_execution_mode="off")
    if status:
        raise RuntimeError("Sphinx could not read the pages, see above")
    found = {}
    for path in sorted((folder / "gettext").rglob("*.pot")):
        name = path.relative_to(folder / "gettext").with_suffix("").as_posix()
        messages = [message.id for message in read(path)]
        if name != SITE:
            messages += described(ROOT / name)
        found[name] = list(dict.fromkeys(filter(has_words, messages)))
    found[SITE] = list(dict.fromkeys([*found.get(SITE, []), *site_words()]))
    return {name: messages for name, messages in found.items() if messages}


def described(page: Path) -> list[str]:
    """Captions and alternatives of the figures that a page's code draws; ``page`` has no suffix.

    Sphinx knows the captions of figures that are there already, in notebooks, and no alternative.
    """
    if page.with_suffix(".ipynb").exists():
        cells = json.loads(page.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
        settings = [cell["metadata"] for cell in cells]
    else:
        text = page.with_suffix(".md").read_text(encoding="utf-8")
        settings = [yaml.safe_load(block) for block in CELL_SETTINGS.findall(text)]
    figures = [setting["mystnb"] for setting in settings if "mystnb" in setting]
    return [
        words
        for figure in figures
        for words in (figure.get("figure", {}).get("caption"), figure.get("image", {}).get("alt"))
        if words
    ]


def site_words() -> list[str]:
    """What the extensions say by ``_(...)``, the words of settings that readers see, and others."""
    sys.path.append(str(ROOT / "book" / "extensions"))  # as Sphinx finds them
    from languages import settings_with_words
    from player_words import PHRASES

    said = []
    for path in sorted((ROOT / "book" / "extensions").glob("*.py")):
        said += [message for _, message, _, _ in extract_from_file("python", path)]
    return [*settings_with_words(ROOT / "_config.yml"), *said, *ELSEWHERE, *PHRASES]


def has_words(message: str) -> bool:
    """Whether anything is left for a translator besides links, formulas, code and citations."""
    rest = message
    for kind in (IMAGE, ROLE, TARGET, CODE, FORMULA, TAG):
        rest = kind.sub("", rest)
    return bool(message) and re.search(r"[^\W\d_]{2}", rest) is not None


# ---------------------------------------------------------------- catalogues


def read(path: Path) -> Catalog:
    with path.open("rb") as file:
        catalogue = pofile.read_po(file, locale=LANGUAGE)
    for message in catalogue:  # babel writes what a fuzzy message was before, and reads a comment
        before = [line[1:] for line in message.user_comments if line.startswith("|")]
        message.user_comments = [line for line in message.user_comments if not line.startswith("|")]
        if before:  # it has broken the line, too, wherever a space was
            message.previous_id = [pofile.denormalize("".join(before).strip()[len("msgid ") :])]
    return catalogue


def catalogues() -> dict[str, Catalog]:
    """All catalogues, by the name of their page."""
    return {
        path.relative_to(CATALOGUES).with_suffix("").as_posix(): read(path)
        for path in sorted(CATALOGUES.rglob("*.po"))
    }


def translations(catalogue: Catalog) -> dict[str, str]:
    """What Sphinx takes from a catalogue: by message its translation, if there is one for sure."""
    return {
        message.id: message.string
        for message in catalogue
        if message.id and message.string and not message.fuzzy
    }


def write(catalogue: Catalog, path: Path) -> None:
    """A message is one line, whatever its length: a changed word then changes one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for message in catalogue:
        message.flags &= {"fuzzy"}  # babel takes "100 % of" and "{term}" for formats
    with path.open("wb") as file:
        file.write(HEADER.encode())
        pofile.write_po(
            file, catalogue, width=0, omit_header=True, ignore_obsolete=True, include_previous=True
        )


def update(messages: dict[str, list[str]]) -> None:
    """Bring the catalogues to what the pages say now.

    A message that has changed keeps its translation, marked ``fuzzy``, with the old text beside it:
    Sphinx shows the English text until somebody has looked. A new one that has been translated on
    another page is taken from there. What no page says any more goes.
    """
    old = catalogues()
    known = {}
    for catalogue in old.values():
        known.update(translations(catalogue))
    for name, wanted in messages.items():
        template = Catalog(locale=LANGUAGE)
        for message in wanted:
            template.add(message)
        catalogue = old.pop(name, Catalog(locale=LANGUAGE))
        before = {message.id: message.previous_id for message in catalogue}
        catalogue.update(template)
        for message in catalogue:
            if message.id in known and (message.fuzzy or not message.string):
                message.string = known[message.id]
                message.flags.clear()
            if not message.string:
                message.flags.clear()
            if message.fuzzy:
                message.previous_id = message.previous_id or before.get(message.id, [])
            else:
                message.previous_id = []
        write(catalogue, CATALOGUES / f"{name}.po")
    for name in old:
        (CATALOGUES / f"{name}.po").unlink()


# ---------------------------------------------------------------- checks


def kept(text: str) -> Counter:
    """What a translation must not change: roles, links' targets, code, formulas and tags."""
    found = Counter()
    for kind in (ROLE, TARGET, CODE, FORMULA, TAG, SPAN, FIELD):
        for match in kind.finditer(text):
            found[" ".join(match.groups()) if kind is ROLE else match[0]] += 1
        text = kind.sub(" ", text)
    return found


def stray(text: str) -> bool:
    """Whether stars are left on the page: in Markdown ``**word.**`` needs a space behind it."""
    tokens = MarkdownIt("commonmark").parseInline(FORMULA.sub("x", text))[0].children
    return any("*" in token.content for token in tokens if token.type == "text")


def faults(catalogue: Catalog) -> list[str]:
    """What is missing, and what differs between messages and translations."""
    found = []
    for message in catalogue:
        if not message.id:
            continue
        if not message.string or message.fuzzy:
            what = "to be looked at (fuzzy)" if message.fuzzy else "not translated"
            found.append(f"{what}: {message.id}")
            continue
        before, after = kept(message.id), kept(message.string)
        if before != after:
            lost, more = sorted((before - after).elements()), sorted((after - before).elements())
            found.append(f"lost {lost}, has instead {more}: {message.string}")
        if stray(message.string) and not stray(message.id):
            found.append(f"a star is shown as it is: {message.string}")
    return found


# ---------------------------------------------------------------- commands


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("catalogues", help="bring locale/ to what the pages say now")
    check = commands.add_parser("check", help="what is missing or differs in catalogues")
    check.add_argument("page", nargs="*", help="such as notebooks/01_grad_cam; all unless given")
    chosen = parser.parse_args()
    if chosen.command == "catalogues":
        os.chdir(ROOT)
        update(extract(ROOT / "_build" / "catalogues"))
        return
    every = catalogues()
    count = 0
    for name in chosen.page or every:
        name = re.sub(r"^locale/\w+/LC_MESSAGES/|\.(po|md|ipynb)$", "", name)
        for fault in faults(every[name]):
            count += 1
            print(f"{name}: {fault}")
    sys.exit(count > 0)


if __name__ == "__main__":
    main()
