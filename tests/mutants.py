"""Do the tests notice a change? ``make mutants``, or ``python -m tests.mutants [MODULE ...]``.

cosmic-ray makes one small change at a time (another number, sign, comparison, no decorator ...) in
a copy of the repository, and runs the tests that concern the module. A change that no test notices
has survived: then a test is missing, or the change makes no difference, which only a reader can
tell. An hour or more for a large module.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .chapters import ROOT

#: The taught modules, and the files of tests that have to notice a change in them.
TESTS = {
    "methods": ("walks", "gradcam"),
    "deconvnet": ("steps", "walks", "refusals", "no_trace", "gradcam"),
    "gradcam": ("gradcam", "refusals", "no_trace"),
    "guided": ("gradcam", "walks", "refusals", "no_trace"),
    "any_network": ("any_network", "refusals", "no_trace"),
    "network": ("models",),
    "checks": ("refusals", "no_trace", "gradcam"),
    "scaling": ("scaling",),
    "metrics": ("metrics",),
    "sanity": ("sanity",),
    "images": ("images",),
    "models": ("models",),
}
#: Large networks: they take most of the time, and notice nothing that small ones do not.
SLOW = "not full_vgg16 and not vgg11 and not vgg13 and not vgg19"
#: Of the ten operators that may take another's place, those that a slip of the hand would take;
#: and none in annotations (``A | B``), which are never evaluated.
SKIPPED = [
    "core/ReplaceBinaryOperator_.*_(BitAnd|BitOr|BitXor|LShift|RShift|FloorDiv|Mod|Pow)",
    "core/ReplaceBinaryOperator_BitOr_.*",
    "core/ReplaceComparisonOperator_.*_(Is|IsNot)",
    "core/ReplaceUnaryOperator_USub_.*",
]
CONFIGURATION = """
[cosmic-ray]
module-path = "helpers/{module}.py"
timeout = {timeout}
excluded-modules = []
test-command = "{command}"
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
exclude-operators = {skipped}
"""


def survivors(module: str) -> tuple[int, list[str]]:
    """How many changes of a module were tried, and the differences that no test noticed."""
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import TestOutcome, WorkerOutcome

    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", SLOW]
    command += [f"tests/test_{name}.py" for name in TESTS[module]]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in ("helpers", "tests"):
            shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", root)
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

        def run(*words: str) -> None:
            subprocess.run(words, cwd=root, env=environment, check=True)

        begin = time.monotonic()
        run(*command)  # without a change they have to pass
        configuration = CONFIGURATION.format(
            module=module,
            timeout=60 + 10 * (time.monotonic() - begin),  # an endless loop is noticed too
            command=shlex.join(command),
            skipped=SKIPPED,
        )
        (root / "mutants.toml").write_text(configuration)
        tools = Path(sys.executable).parent
        run(str(tools / "cosmic-ray"), "init", "mutants.toml", "mutants.sqlite")
        run(str(tools / "cr-filter-operators"), "mutants.sqlite", "mutants.toml")
        run(str(tools / "cosmic-ray"), "exec", "mutants.toml", "mutants.sqlite")
        with use_db(root / "mutants.sqlite", WorkDB.Mode.open) as session:
            tried = [
                result
                for _, result in session.results
                if result.worker_outcome == WorkerOutcome.NORMAL
            ]
    return len(tried), [r.diff for r in tried if r.test_outcome == TestOutcome.SURVIVED]


def main(modules: list[str]) -> None:
    unknown = [name for name in modules if name not in TESTS]
    if unknown:
        sys.exit(f"no taught module is called {', '.join(unknown)}; there are {', '.join(TESTS)}")
    scores = []
    for module in modules or TESTS:
        tried, left = survivors(module)
        print(*left, sep="\n\n")
        scores.append(f"{module}: {tried - len(left)} of {tried} changes noticed")
        print(scores[-1], flush=True)
    print("", *scores, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
