"""The whole book as one PDF: `make pdf`.

The pages of the built site are joined into one, with their links to each other, and printed by the
Chromium or Chrome that is installed.
"""

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser import PAGES, find_chromium, serve

#: Put the articles of all pages in the place of this one's; a link to another leads to its place.
JOIN = """async (names) => {
    const root = new URL("../", location);
    const page = (url) => url.pathname.slice(root.pathname.length).replace(/[.]html$/, "");
    const joined = [];
    for (const name of names) {
        const address = new URL(`${name}.html`, root);
        const text = await (await fetch(address)).text();
        const source = new DOMParser().parseFromString(text, "text/html");
        const canonical = source.querySelector("link[rel=canonical]").href;
        const article = document.importNode(source.querySelector("article"), true);
        // those in a schematic are its own, and it refers to them
        for (const element of article.querySelectorAll("[id]:not(svg, svg *)"))
            element.id = `${name}:${element.id}`;
        for (const image of article.querySelectorAll("img")) {
            image.loading = "eager";  // on paper nothing comes near
            image.src = new URL(image.getAttribute("src"), address);
        }
        for (const link of article.querySelectorAll("a[href]")) {
            const url = new URL(link.getAttribute("href"), address);
            if (!url.href.startsWith(root)) continue;
            const [target, place] = [page(url), url.hash.slice(1)];
            if (names.includes(target)) link.href = "#" + (place ? `${target}:${place}` : target);
            else link.href = new URL(link.getAttribute("href"), canonical);
        }
        const part = document.createElement("section");
        part.id = name;
        part.style.breakBefore = joined.length ? "page" : "auto";
        part.append(...article.childNodes);
        joined.push(part);
    }
    document.querySelector("article").replaceChildren(...joined);
    document.getElementById("jb-print-docs-body").remove();  // the theme's title of one page
    await Promise.all([...document.fonts].map((font) => font.load()));
    await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
}"""
NUMBER = """<div style="width: 100%; text-align: center; font: 8pt sans-serif; color: #555">
    <span class="pageNumber"></span></div>"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, help="folder of the built book")
    parser.add_argument("pdf", type=Path)
    chosen = parser.parse_args()
    path = find_chromium()
    if path is None:
        parser.exit(1, "error: no Chromium or Chrome is installed; set CHROMIUM=/path/to/chrome\n")
    chosen.pdf.parent.mkdir(parents=True, exist_ok=True)
    with serve(chosen.site) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto(f"{address}/{PAGES[1]}.html")
        page.add_style_tag(content="article h1 { display: block !important }")
        page.evaluate(JOIN, PAGES)
        page.pdf(
            path=chosen.pdf,
            format="A4",
            scale=0.85,
            print_background=True,
            margin={"top": "18mm", "bottom": "20mm", "left": "18mm", "right": "18mm"},
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=NUMBER,
            outline=True,
            tagged=True,
        )
        browser.close()


if __name__ == "__main__":
    main()
