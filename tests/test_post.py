"""The page for readers of the post: its cells, and whether its assertions notice a slip."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "book" / "from_the_post.md").read_text(encoding="utf-8")
CELL = re.compile(r"```\{code-cell\} ipython3\n(?:---\n.*?\n---\n)?(.*?)```", re.S)


def run(text, until=None):
    """Run the cells, in order, up to the one that holds ``until``."""
    names = {}
    for code in CELL.findall(text):
        exec(code, names)
        if until and until in code:
            return
    assert until is None, "no cell holds it"


@pytest.fixture(autouse=True)
def embedded_network(monkeypatch):
    monkeypatch.setenv("EXPLAIN_MODEL", "embedded")


def test_its_cells_run():
    run(TEXT)


def test_its_cells_fit_the_page():
    cells = [code.splitlines() for code in CELL.findall(TEXT)]
    assert len(cells) == TEXT.count("{code-cell}") > 10
    assert max(map(len, cells)) <= 25 and max(len(line) for lines in cells for line in lines) <= 80


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("conv.bias = layer.bias", "pass"),
        ('biased = "bias down" in slips', "biased = True"),
        ("back.weight = layer.weight", "back.weight = nn.Parameter(layer.weight.flip(2, 3))"),
        ("x = rc(r.pop() * x)", "x = rc(x)"),
        ("alpha = gradient.mean(dim=(2, 3), keepdim=True)", "alpha = gradient"),
        ('if "min-max" in slips', "if True"),
        ('if "dropout" in slips', "if True"),
    ],
)
def test_its_comparison_notices_a_slip(right, wrong):
    assert TEXT.count(right) == 1
    with pytest.raises(AssertionError, match="chelsea"):
        run(TEXT.replace(right, wrong), until="helpers.resize_maps")
