"""Sphinx: one stylesheet for the site, of the rules and icons that its pages use.

The theme and its extensions bring ten stylesheets and three icon fonts, nearly 1 MB, and a page is
blank until they are there. At the end of a build they are joined into `_static/site.css`: without
the rules for classes that appear in no page and no script, and with the icons that do.
"""

import base64
import hashlib
import io
import logging
import re
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

#: Loaded by the theme's own template, before all others.
THEME = ("styles/theme.css", "styles/pydata-sphinx-theme.css")
#: Folders of `_static` whose scripts bring styles of their own, or none.
APART = ("live", "locales")
BLOCK = re.compile(r"/\*.*?\*/", re.DOTALL)
STRING = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
#: Selectors may be alternatives or exceptions in these: what stands in them proves nothing.
INNER = re.compile(r":(?:not|is|where|has)\([^()]*(?:\([^()]*\)[^()]*)*\)")
NAME = re.compile(r"[.#](-?[A-Za-z_][\w-]*)")
logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells every step
KEPT_WHOLE = ("@font-face", "@keyframes", "@-webkit-keyframes", "@page", "@property")


def collect(app, pagename, templatename, context, doctree) -> None:
    """Note the stylesheets of a page; its template links to the one that is made of them."""
    noted = app.env.__dict__.setdefault("site_styles", dict.fromkeys(THEME))
    noted.update(dict.fromkeys(str(s.filename) for s in context["css_files"]))
    if not hasattr(app, "site_digest"):
        sources = [Path(app.env.doc2path(name)) for name in sorted(app.env.found_docs)]
        sources += sorted(Path(app.confdir).glob("book/static/*.css"))
        read = b"".join(path.read_bytes() for path in sources)
        app.site_digest = hashlib.sha256(read).hexdigest()[:8]
    context["site_digest"] = app.site_digest


def write(app, exception) -> None:
    """After the build: `_static/site.css`."""
    if exception or app.builder.format != "html":
        return
    out = Path(app.outdir)
    static = out / "_static"
    pages = [path.read_text(encoding="utf-8") for path in out.rglob("*.html")]
    scripts = [
        path.read_text(encoding="utf-8")
        for path in static.rglob("*.js")
        if path.relative_to(static).parts[0] not in APART
    ]
    used = set(re.findall(r"[\w-]+", "\n".join(pages + scripts)))
    files = [static / name.removeprefix("_static/") for name in app.env.site_styles]
    sheet = "\n".join(read(path) for path in files)
    sheet = icons(prune(BLOCK.sub("", sheet), used), static)
    names = " ".join(path.relative_to(static).as_posix() for path in files)
    (static / "site.css").write_text(f"/* made of {names} */\n{sheet}", encoding="utf-8")


def read(path: Path) -> str:
    """A stylesheet, with the ones it imports put in its place."""
    text = path.read_text(encoding="utf-8").removeprefix('@charset "UTF-8";')
    return re.sub(r'@import "(.*?)";', lambda found: read(path.parent / found[1]), text)


def rules(text: str):
    """Pairs of what stands before a pair of braces and what stands in it; None for a statement."""
    at = 0
    while at < len(text):
        prelude, at = scan(text, at, "{;")
        prelude = prelude.strip()
        if at >= len(text):
            break
        if text[at] == ";":
            yield prelude, None
            at += 1
        else:
            body, at = scan(text, at + 1, "}")
            yield prelude, body
            at += 1


def scan(text: str, start: int, ends: str) -> tuple[str, int]:
    """From ``start`` to the first of ``ends`` that is in no string and no braces opened since."""
    depth, at = 0, start
    while at < len(text):
        letter = text[at]
        if letter in "\"'":
            at = STRING.match(text, at).end()
            continue
        if depth == 0 and letter in ends:
            break
        depth += (letter == "{" or letter == "(") - (letter == "}" or letter == ")")
        at += 1
    return text[start:at], at


def prune(text: str, used: set[str]) -> str:
    """Rules whose classes and ids are all among ``used``; also those in rules for media."""
    kept = []
    for prelude, body in rules(text):
        if body is None or prelude.startswith(KEPT_WHOLE):
            kept.append(f"{prelude};" if body is None else f"{prelude}{{{body}}}")
        elif prelude.startswith("@"):
            inside = prune(body, used)
            kept.append(f"{prelude}{{{inside}}}" if inside else "")
        else:
            selectors = [s for s in split(prelude) if is_used(s, used)]
            kept.append(f"{','.join(selectors)}{{{body.strip()}}}" if selectors else "")
    return "\n".join(filter(None, kept))


def split(prelude: str) -> list[str]:
    """The selectors of a rule; a comma in parentheses or strings divides nothing."""
    found, at = [], 0
    while at < len(prelude):
        selector, at = scan(prelude, at, ",")
        found.append(selector.strip())
        at += 1
    return found


def is_used(selector: str, used: set[str]) -> bool:
    if "\\" in selector:  # names with escaped letters
        return True
    while INNER.search(selector):
        selector = INNER.sub("", selector)
    return all(name in used for name in NAME.findall(re.sub(r"\[.*?\]", "", selector)))


def icons(sheet: str, static: Path) -> str:
    """The stylesheet with its icon fonts, cut down to the icons named in it, in itself."""
    letters = {int(code, 16) for code in re.findall(r'content:\s*"\\(f[0-9a-f]{3})"', sheet)}

    def embed(found: re.Match) -> str:
        font = TTFont(static / "vendor/fontawesome/webfonts" / f"{found[1]}.ttf")
        cutter = subset.Subsetter(subset.Options(layout_features=[], hinting=False))
        cutter.populate(unicodes=letters)
        cutter.subset(font)
        font.flavor = "woff"
        packed = io.BytesIO()
        font.save(packed)
        data = base64.b64encode(packed.getvalue()).decode()
        return f'src:url("data:font/woff;base64,{data}") format("woff")'

    return re.sub(r"src:\s*url\([^)]*/(fa-[\w-]+)\.woff2\)[^;}]*", embed, sheet)


def setup(app):
    app.connect("html-page-context", collect, priority=950)
    app.connect("build-finished", write, priority=900)  # the theme writes colours of code then
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
