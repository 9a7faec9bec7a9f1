"""Sphinx: equations as MathML, which browsers draw, read aloud and print without any script.

LaTeX becomes MathML when the book is built. A font for it comes with the site, cut down to the
signs that the pages use: what systems bring differs, and telephones bring none.
"""

import re
from html import escape, unescape
from pathlib import Path

from docutils import nodes
from fontTools import subset
from fontTools.ttLib import TTFont
from math_core import LatexError, LatexToMathML
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

FONT = Path("book/static/equations/stix-two-math-latin-400-normal.woff")
#: What is drawn and stands in no page: of a single letter in <mi>, its slanted twin; the sign of
#: <msqrt> and <mroot>.
SLANTED = {*range(0x1D434, 0x1D468), 0x210E, *range(0x1D6E2, 0x1D71C)}
ROOT = 0x221A
MATH = re.compile(r"<math\b.*?</math>", re.DOTALL)
#: A letter's prime as a script of it: the font's prime is small and raised already.
PRIME = re.compile("<msup>(<mi>[^<]*</mi>)<mo>([′″‴])</mo></msup>")
CONVERTER = LatexToMathML(fancy_error=False)
logger = logging.getLogger(__name__)


def to_mathml(latex: str, *, block: bool) -> str:
    """LaTeX as a <math> element; LatexError says what is wrong with it."""
    if block and r"\\" in latex and r"\begin" not in latex:
        raise LatexError(r"\\ ends a row only between \begin{aligned} and \end{aligned}")
    drawn = CONVERTER.convert_with_local_state(latex.strip(), displaystyle=block)
    return PRIME.sub(r'<mrow>\1<mo lspace="0" rspace="0">\2</mo></mrow>', drawn)


def draw(node: nodes.Element, *, block: bool) -> str:
    """A node's equation; a warning and its LaTeX where it cannot be converted."""
    try:
        return to_mathml(node.astext(), block=block)
    except LatexError as error:
        logger.warning("%s in the equation %s", error, node.astext(), location=node)
        return escape(node.astext())


def show_inline(translator, node) -> None:
    translator.body.append(f'<span class="math notranslate">{draw(node, block=False)}</span>')
    raise nodes.SkipNode


def show_block(translator, node) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate"))
    if node["number"]:  # where it is first, it can stand beside the equation
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, _("Link to this equation"))
        translator.body.append("</span>")
    translator.body.append(f"{draw(node, block=True)}</div>\n")
    raise nodes.SkipNode


def write_font(app, exception) -> None:
    """After the build: `_static/equations.woff`, with the signs in the equations of all pages."""
    if exception or app.builder.format != "html":
        return
    out = Path(app.outdir)
    signs = set()
    for page in out.rglob("*.html"):
        for found in MATH.findall(page.read_text(encoding="utf-8")):
            signs.update(map(ord, unescape(re.sub("<[^>]*>", "", found))))
    font = TTFont(Path(app.srcdir) / FONT)
    cutter = subset.Subsetter(subset.Options(layout_features=["*"], hinting=False))
    cutter.populate(unicodes=signs | SLANTED | {ROOT})
    cutter.subset(font)
    font.flavor = "woff"
    font.save(out / "_static" / "equations.woff")


def setup(app):
    app.add_html_math_renderer("mathml", (show_inline, None), (show_block, None))
    app.connect("build-finished", write_font)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
