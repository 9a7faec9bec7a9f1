"""The rooms of `helpers`: what may import what, and that there is one list of methods."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

import helpers
from helpers.interactive.explorer import CHOICES
from helpers.interactive.export import OUTPUTS
from helpers.methods import REGIONS_FIRST, RULES, TABLE
from helpers.plotting import LINES

HOUSE = Path(helpers.__file__).parent
#: A module imports from its own room and from those before it; "" is what stands beside the rooms.
ORDER = ("", "networks", "explicit", "autograd", "interactive")
MODULES = {
    ".".join(path.relative_to(HOUSE).with_suffix("").parts): ast.parse(path.read_text())
    for path in HOUSE.rglob("*.py")
}
TREES = {name: tree for name, tree in MODULES.items() if not name.endswith("__init__")}
DOORS = {name: tree for name, tree in MODULES.items() if name not in TREES}


def room(module: str) -> str:
    if module == "__main__":  # the command line's door
        return "interactive"
    return module.rpartition(".")[0]


def imported(module: str) -> set[str]:
    """The modules of `helpers` that a module imports, wherever in its text."""
    found, package = set(), module.split(".")[:-1]
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ImportFrom):
            level = node.level and len(package) + 1 - node.level
            whole = [*package[:level], *(node.module or "").split(".")] if node.level else None
            whole = whole or (node.module or "").split(".")
            if node.level or whole[0] == "helpers":
                start = ".".join(part for part in whole if part not in ("", "helpers"))
                named = {".".join(filter(None, [start, alias.name])) for alias in node.names}
                # a name from the package itself would hide which module it is from
                assert start or named <= set(TREES), f"{module} imports {named} from helpers"
                found |= {start, *named} & set(TREES)
        elif isinstance(node, ast.Import):
            assert all(alias.name != "helpers" for alias in node.names), f"{module} imports all"
            found |= {alias.name.removeprefix("helpers.") for alias in node.names} & set(TREES)
    return found


def test_imports_are_found():
    explorer = imported("interactive.explorer")
    assert explorer >= {"scaling", "explicit.guided", "interactive.stepper"}
    assert imported("explicit.guided") >= {"explicit.deconvnet", "methods"}
    assert not imported("errors")
    assert {room(module) for module in TREES} == set(ORDER)


@pytest.mark.parametrize("module", TREES)
def test_no_arrow_goes_back(module):
    allowed = ORDER[: ORDER.index(room(module)) + 1]
    assert {other for other in imported(module) if room(other) not in allowed} == set()


def test_no_arrows_go_round():
    left = {module: imported(module) for module in TREES}
    while free := {module for module, others in left.items() if not others & set(left)}:
        for module in free:
            del left[module]
    assert not left


def test_importing_helpers_imports_nothing_interactive():
    code = "import sys, helpers; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HOUSE.parent
    ).stdout.split()
    assert "helpers.explicit.guided" in loaded
    for name in loaded:
        assert not name.startswith(("helpers.interactive", "ipywidgets", "onnx")), name


def test_the_first_lines_name_every_module_and_room():
    for module in TREES:
        inside, _, name = module.rpartition(".")
        door = ".".join(filter(None, [inside, "__init__"]))
        assert f"`{name}`" in ast.get_docstring(DOORS[door]) or name == "__main__", module
    for inside in ORDER[1:]:
        assert f"`{inside}`" in helpers.__doc__
        assert len(DOORS[f"{inside}.__init__"].body) == 1, f"{inside} does more than say so"


def public(tree: ast.Module) -> set[str]:
    """What a module defines for others."""
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {part.id for target in targets for part in ast.walk(target)
                      if isinstance(part, ast.Name)}  # fmt: skip
    return {name for name in names if name[0] != "_"}


def test_no_module_has_the_name_of_something_public():
    modules = {part for module in MODULES for part in module.split(".")} - {"__init__"}
    names = set(helpers.__all__).union(*map(public, TREES.values()))
    assert "guided_gradcam" in names and {"guided", "explicit"} <= modules
    assert modules & names == set()


def test_all_is_what_is_imported():
    imports = [node for node in MODULES["__init__"].body if isinstance(node, ast.ImportFrom)]
    assert helpers.__all__ == sorted(alias.name for node in imports for alias in node.names)


def test_there_is_one_list_of_methods():
    titles, keys = [row.title for row in TABLE], [row.key for row in TABLE]
    assert (
        list(helpers.METHODS) == list(RULES) == [row.key for row in TABLE if row.kind == "pixels"]
    )
    assert sorted(CHOICES) == sorted(titles) and sorted(OUTPUTS[2:]) == sorted(keys)
    assert list(LINES)[: len(TABLE)] == titles
    assert [row.key for row in REGIONS_FIRST] == ["grad_cam", *(k for k in keys if k != "grad_cam")]
    assert OUTPUTS[2] == "grad_cam" and CHOICES[0] == "Grad-CAM" and keys[0] != "grad_cam"
    for rule, method in zip(RULES.values(), helpers.METHODS.values(), strict=True):
        assert method.relu_down is rule
    # and nobody else writes a title down
    for module, name in itertools.product(TREES, set(titles) - set(keys)):
        if module != "methods":
            strings = [n.value for n in ast.walk(TREES[module]) if isinstance(n, ast.Constant)]
            assert name not in strings, module
