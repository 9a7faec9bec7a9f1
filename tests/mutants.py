"""Do the tests notice a change? ``make mutants``, or ``python -m tests.mutants --help``.

cosmic-ray knows the changes, one small one at a time: another number, sign or comparison, no
decorator, an empty loop. Each is made in a copy of the repository, and the tests that concern the
module run. A change that no test notices has survived: then a test is missing, or the change makes
no difference, which only a reader can tell.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .chapters import ROOT

#: The taught modules, and the files of tests that have to notice a change in them.
TESTS = {
    "methods": ("house", "walks", "gradcam"),
    "explicit.deconvnet": ("steps", "walks", "refusals", "no_trace", "gradcam"),
    "explicit.steps": ("steps", "walks", "own_layers"),
    "explicit.self_check": ("own_layers", "refusals"),
    "explicit.gradcam": ("gradcam", "refusals", "no_trace"),
    "explicit.guided": ("gradcam", "walks", "refusals", "no_trace"),
    "autograd.any_network": (
        "any_network",
        "any_misuse",
        "signal_path",
        "feature_maps",
        "refusals",
        "no_trace",
        "targets",
        "cams",
    ),
    "autograd.signal_path": ("signal_path", "any_network", "feature_maps"),
    "autograd.feature_maps": ("feature_maps", "any_misuse"),
    "targets": ("targets", "photos", "feature_maps"),
    "networks.loading": ("cli",),
    "interactive.cli": ("cli",),
    "networks.vgg": ("models", "own_layers"),
    "checks": ("refusals", "photos", "no_trace", "walks", "any_misuse", "any_network", "model_of"),
    "scaling": ("scaling",),
    "metrics": ("metrics",),
    "sanity": ("sanity",),
    "autograd.cams": ("cams",),
    "autograd.mean_gradients": ("cams",),
    "networks.twins": ("twins",),
    "networks.attention": ("attention",),
    "networks.images": ("images",),
    "networks.preprocess": ("preprocess", "images"),
    "networks.models": ("models", "model_of"),
}
#: Large networks: they take most of the time, and notice nothing that small ones do not.
WITHOUT_LARGE = "not full_vgg16 and not vgg11 and not vgg13 and not vgg19"
#: Of all that may take an operator's place, what a slip of the hand would not put there; and the
#: ``|`` of annotations, which are never evaluated.
UNLIKELY = re.compile(
    "core/Replace("
    "BinaryOperator_.*_(BitAnd|BitOr|BitXor|LShift|RShift|FloorDiv|Mod|Pow)|BinaryOperator_BitOr_.*"
    "|ComparisonOperator_.*_(Is|IsNot)|UnaryOperator_USub_.*)"
)


def changes(code: str) -> Iterator[str]:
    """The text of a module with one change, for each change there is."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    for name in sorted(operator_names()):
        operator = get_operator(name)
        if not UNLIKELY.match(name) and not operator.arguments():
            for occurrence in itertools.count():
                try:
                    changed = mutate_code(code, operator(), occurrence)
                except AttributeError:  # cosmic-ray cannot replace a dotted name after `except`
                    continue
                if changed is None:
                    break
                yield changed


def copy_to(folder: Path) -> None:
    """What the tests of the modules need of the repository."""
    for part in ("helpers", "tests", "training", "benchmarks"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=ignore)
    for file in ("pyproject.toml", "_toc.yml"):
        shutil.copy(ROOT / file, folder)


def file_of(module: str, folder: Path) -> Path:
    return Path(folder, "helpers", *module.split(".")).with_suffix(".py")


def noticed(module: str, copy: Path, seconds: float = 0) -> bool:
    """Whether a test of the copy fails, or takes more than so many seconds (0: however many).

    In a fork of this process, where the large packages are imported already. The seconds are the
    processor's: on a busy machine no test fails for having to wait.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    code = 1
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1), os.dup2(silence, 2)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
            del sys.modules[name]  # the copy's are meant
        import pytest

        files = [f"tests/test_{name}.py" for name in TESTS[module]]
        code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-k", WITHOUT_LARGE, *files])
    finally:
        os._exit(code)


def used() -> float:
    """Seconds of the processor that the forks have taken."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def survivors(module: str, every: int) -> tuple[int, list[str]]:
    """How many changes of a module were tried, and as differences those that no test noticed."""
    left, tried = [], 0
    with tempfile.TemporaryDirectory() as folder:
        copy_to(Path(folder))
        file, begin = file_of(module, Path(folder)), used()
        if noticed(module, Path(folder)):
            sys.exit(f"the tests of {module} fail without a change: {', '.join(TESTS[module])}")
        limit = 60 + 10 * (used() - begin)
        code = file.read_text()
        for changed in itertools.islice(changes(code), 0, None, every):
            tried += 1
            file.write_text(changed)
            if not noticed(module, Path(folder), limit):
                lines = difflib.unified_diff(
                    code.splitlines(), changed.splitlines(), module, module, "", "", 0, ""
                )
                left.append("\n".join(lines))
                print(left[-1], end="\n\n", flush=True)
    return tried, left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(TESTS)}; all unless given")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th change")
    options = parser.parse_args()
    if unknown := set(options.modules) - set(TESTS):
        parser.error(f"no taught module is called {', '.join(unknown)}; see --help")
    # what each fork would import again
    import captum.attr  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import scipy.stats  # noqa: F401
    import skimage.metrics  # noqa: F401
    import torch
    import torchvision.transforms.v2  # noqa: F401

    torch.set_num_threads(1)  # a fork has none of its parent's other threads
    scores = []
    for module in options.modules or TESTS:
        tried, left = survivors(module, options.every)
        scores.append(f"{module}: {tried - len(left)} of {tried} changes noticed")
        print(scores[-1], flush=True)
    print("", *scores, sep="\n")


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # two changes of a second would look like one
    main()
