"""The examples in the docstrings, run."""

import doctest
import importlib
import pkgutil

import pytest

import helpers

MODULES = [
    f"helpers.{module.name}"
    for module in pkgutil.iter_modules(helpers.__path__)
    if module.name != "__main__"
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
