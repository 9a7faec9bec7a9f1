"""The examples in the docstrings, run."""

import doctest
import importlib
import pkgutil
import re

import pytest

import helpers

from .chapters import ROOT

MODULES = [
    module.name
    for module in pkgutil.walk_packages(helpers.__path__, "helpers.")
    if module.name != "helpers.__main__"
]


def test_modules_in_rooms_are_found():
    assert {"helpers.scaling", "helpers.explicit.guided"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


PUBLIC = [
    name
    for name in helpers.__all__
    if callable(getattr(helpers, name))
    and not issubclass(type(getattr(helpers, name)), type)
    or name in ("Model", "Preprocess", "Scores", "Deconvnet", "VGG16", "ReluRule")
]


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_has_an_example(name):
    thing = getattr(helpers, name)
    text = (thing.__doc__ or "") + (thing.of.__doc__ if hasattr(thing, "of") else "")
    assert ">>> " in text


def test_everything_public_stands_in_the_reference():
    page = (ROOT / "book" / "reference.md").read_text(encoding="utf-8")
    found = re.findall(
        r"^\.\. auto(?:function|class|exception|data):: (?:helpers\.[\w.]+\.)?(\w+)$", page, re.M
    )
    assert sorted(found) == helpers.__all__
