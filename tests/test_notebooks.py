"""What nbval does not look at: the form of the notebooks. Their outputs are nbval's business."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from .chapters import NOTEBOOKS, ROOT, address, code_cells, source

SECTIONS = [
    "What you will build",
    "What you need to know",
    "Intuition",
    "Code and figure",
    "Check",
    "Exercises",
    "What comes next",
    "References",
]
# what needs a running Python shows nothing on a page; tests/test_explorer.py runs it
WIDGET_TAGS = {"skip-execution", "nbval-skip"}
# a misspelt tag would be ignored in silence, by nbval and by the book alike
KNOWN_TAGS = {"remove-cell", "hide-cell", "hide-input", "nbval-ignore-output", *WIDGET_TAGS}
MACHINE_PATH = re.compile(r"/(?:home|root|Users|tmp|work)/")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_book_has_its_chapters():
    assert len(NOTEBOOKS) >= 4
    toc = (ROOT / "_toc.yml").read_text()
    assert all(f"notebooks/{path.stem}" in toc for path in NOTEBOOKS)


def test_every_chapter_has_the_same_skeleton(notebook):
    text = "\n".join(source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    assert re.findall(r"^## (.*)$", text, re.M) == SECTIONS


def test_every_code_cell_was_run_from_top_to_bottom_without_error(notebook):
    cells = [
        cell
        for cell in code_cells(notebook)
        if not WIDGET_TAGS & set(cell["metadata"].get("tags", []))
    ]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not any(
        output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs
    )


def test_the_chapter_that_the_book_does_not_execute_was_run_with_the_network_from_elsewhere():
    """Without two packages that the book does not require, it would ask the book's own."""
    notebooks = [json.loads(path.read_text(encoding="utf-8")) for path in NOTEBOOKS]
    modes = [each["metadata"].get("mystnb", {}).get("execution_mode") for each in notebooks]
    assert modes.count("off") == 1
    cells = code_cells(notebooks[modes.index("off")])
    outputs = [output for cell in cells for output in cell["outputs"]]
    printed = "".join("".join(output.get("text", "")) for output in outputs)
    assert "EfficientNet-Lite0 says" in printed and "is missing" not in printed


def test_a_widget_is_left_out_by_the_book_and_by_nbval_and_says_so(notebook):
    """A dead widget on a page, or one that nbval would compare, is a mistake."""
    for before, cell in pairwise(notebook["cells"]):
        tags = WIDGET_TAGS & set(cell["metadata"].get("tags", []))
        assert tags in (set(), WIDGET_TAGS)
        if tags:
            assert not cell["outputs"] and before["cell_type"] == "markdown"
        else:
            assert (
                "helpers.interactive.widgets" not in source(cell) or cell["cell_type"] == "markdown"
            )


def test_no_code_cell_is_longer_than_25_lines(notebook):
    assert max(len(source(cell).splitlines()) for cell in code_cells(notebook)) <= 25


def test_no_line_of_code_is_longer_than_80_characters(notebook):
    """What is longer has to be scrolled on the page."""
    lines = [line for cell in code_cells(notebook) for line in source(cell).splitlines()]
    assert [line for line in lines if len(line) > 80] == []


def test_tags_are_known_ones(notebook):
    assert {
        tag for cell in notebook["cells"] for tag in cell["metadata"].get("tags", [])
    } <= KNOWN_TAGS


def test_every_figure_has_a_caption_a_name_and_a_text_alternative(notebook):
    drawn = [
        c
        for c in code_cells(notebook)
        if any("image/png" in o.get("data", {}) for o in c["outputs"])
    ]
    assert drawn
    for cell in drawn:
        settings = cell["metadata"]["mystnb"]
        assert (
            settings["figure"]["caption"]
            and settings["figure"]["name"]
            and len(settings["image"]["alt"]) > 40
        )


def test_every_picture_drawn_is_in_the_notebook(notebook):
    for cell in code_cells(notebook):
        wanted = bool(re.search(r"\bshow_\w+\(", source(cell)))
        assert wanted == any("image/png" in output.get("data", {}) for output in cell["outputs"])


def test_solutions_are_folded(notebook):
    cells = notebook["cells"]
    begin = next(i for i, cell in enumerate(cells) if "## Exercises" in source(cell))
    solutions = [cell for cell in cells[begin:] if cell["cell_type"] == "code"]
    assert solutions and all("hide-cell" in cell["metadata"]["tags"] for cell in solutions)
    for cell, after in zip(cells[begin:], cells[begin + 1 :], strict=False):
        if cell in solutions:
            assert source(after).startswith('<details class="answer"><summary>Answer</summary>')


def test_every_section_with_code_has_something_that_is_compared(notebook):
    """From one heading to the next stands an assert, or a print, whose output nbval compares."""
    section = ""
    for cell in [*notebook["cells"], {"cell_type": "markdown", "source": "## end"}]:
        if cell["cell_type"] == "markdown" and re.search(r"^###? ", source(cell), re.M):
            # a chapter's first cells import and load, and have nothing to show yet
            if section and "load_model(MODEL)" not in section:
                assert re.search(r"assert|print\(", section), section
            section = ""
        elif cell["cell_type"] == "code" and not {"remove-cell", *WIDGET_TAGS} & set(
            cell["metadata"].get("tags", [])
        ):
            section += source(cell) + "\n"


def test_the_model_is_chosen_by_one_variable_and_one_environment_variable(notebook):
    text = "\n".join(source(cell) for cell in code_cells(notebook))
    assert text.count('MODEL = os.environ.get("EXPLAIN_MODEL", "embedded")') == 1
    assert text.count("load_model(") == 1


def test_badge_and_set_up_cell_name_the_repository_of_pyproject(path):
    text = path.read_text(encoding="utf-8")
    repository = address().removeprefix("https://github.com/")
    assert f"colab.research.google.com/github/{repository}/blob/main/notebooks/{path.name}" in text
    assert f"git+{address()}" in text
    assert set(re.findall(r"github(?:\.com)?/([\w.-]+/[\w.-]+)", text.replace("\\n", " "))) == {
        repository
    }


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "_config.yml",
        "book/intro.md",
        "book/contributing.md",
        "book/licences.md",
        "CITATION.cff",
    ],
)
def test_pages_name_the_repository_of_pyproject(name):
    assert address() in (ROOT / name).read_text(encoding="utf-8")


def test_no_path_of_a_machine_is_left_in_a_notebook(path):
    assert not MACHINE_PATH.search(path.read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere():
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.M)[1] == version
    assert f'__version__ = "{version}"' in (ROOT / "helpers" / "__init__.py").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_numbers_follow_the_table_of_contents():
    """A chapter's number in the sidebar, in its file's name and where other pages speak of it."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    numbered = [
        Path(chapter["file"]).name
        for part in toc["parts"]
        if part.get("numbered")
        for chapter in part["chapters"]
    ]
    assert len(numbered) > 10
    assert [int(name[:2]) for name in numbered] == list(range(1, len(numbered) + 1))
    assert sorted(numbered) == [path.stem for path in NOTEBOOKS if path.stem != "template"]
    pages = [*NOTEBOOKS, *(ROOT / "book").glob("*.md"), ROOT / "README.md"]
    links = r"\[[Cc]hapter\s+(\d+)\]\((?:\.\./)?(?:notebooks/)?(\d\d)_\w+\.ipynb"
    found = [pair for page in pages for pair in re.findall(links, page.read_text(encoding="utf-8"))]
    assert len(found) > 10 and all(int(said) == int(file) for said, file in found)
