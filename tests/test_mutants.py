"""`make mutants` makes its changes in a copy; what the tests need has to be in it."""

import subprocess
import sys

import pytest

from .mutants import TESTS, changes, copy_to, file_of


@pytest.mark.slow
def test_tests_are_found_in_the_copy(tmp_path):
    copy_to(tmp_path)
    files = sorted({f"tests/test_{name}.py" for names in TESTS.values() for name in names})
    seen = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert seen.returncode == 0, seen.stdout[-2000:] + seen.stderr[-2000:]
    assert all(file in seen.stdout for file in files)


def test_every_module_named_is_there_and_can_be_changed(tmp_path):
    pytest.importorskip("cosmic_ray", reason="make mutants installs it")
    copy_to(tmp_path)
    for module in TESTS:
        code = file_of(module, tmp_path).read_text()
        assert next(changes(code)) != code, module
