"""The notebooks as files, and the repository's address."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def address() -> str:
    """The one place where the repository's address stands."""
    return re.search(r'^Repository = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell) -> str:
    return "".join(cell["source"])
