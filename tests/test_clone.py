"""What a stranger has: a notebook alone in an empty folder, as Colab opens it; and a fork.

The notebook's set-up cell stands unchanged. Git is told, through its environment, that the
repository's address leads to a local clone.
"""

import json
import os
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from .chapters import NOTEBOOKS, ROOT, address, code_cells, source

LIST = """
import importlib.metadata, json
print(json.dumps({d.name: d.version for d in importlib.metadata.distributions()}))
"""


def run(*command, **options) -> str:
    return subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, text=True, **options
    ).stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A repository of the last commit's files, with no history.

    pip never comes to an end with a clone of a shallow one, as CI has.
    """
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("a clone needs git, and this is no checkout or git is missing")
    folder, archive = (
        tmp_path_factory.mktemp("clone") / "repository",
        tmp_path_factory.mktemp("archive") / "head.tar",
    )
    run("git", "archive", "-o", archive, "HEAD", cwd=ROOT)
    shutil.unpack_archive(archive, folder)
    run("git", "init", "-q", cwd=folder)
    run("git", "add", "-A", "-f", cwd=folder)
    run(
        "git",
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@localhost",
        "-c",
        "commit.gpgsign=false",
        "commit",
        "-q",
        "-m",
        "all",
        cwd=folder,
    )
    return folder


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A Python of its own that has all that this one has, but for `helpers`."""
    pytest.importorskip(
        "setuptools", reason="to build helpers without a network, setuptools has to be installed"
    )
    home = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", home)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    for folder in map(Path, site.getsitepackages()):
        for entry in folder.iterdir() if folder.is_dir() else ():
            if (
                not entry.name.startswith(("helpers", "where_did_you_look", "__editable__"))
                and not (packages / entry.name).exists()
            ):
                try:
                    (packages / entry.name).symlink_to(entry)
                except OSError as error:  # Windows allows links to developers only
                    pytest.skip(f"no links can be made here: {error}")
    return python


@pytest.fixture
def bare(python, clone, tmp_path, monkeypatch):
    """Runs a notebook of the clone, alone in an empty folder; gives it back as it was run."""
    kernel = tmp_path / "jupyter" / "kernels" / "bare"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": "bare",
                "language": "python",
            }
        )
    )
    for name, value in {
        "JUPYTER_PATH": kernel.parents[1],
        "EXPLAIN_MODEL": "embedded",
        "GIT_CONFIG_COUNT": 1,
        "GIT_CONFIG_KEY_0": f"url.{clone.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address(),
        # nothing may come from anywhere else, not even what builds the package
        "PIP_NO_INDEX": 1,
        "PIP_NO_BUILD_ISOLATION": 0,
        "PIP_DISABLE_PIP_VERSION_CHECK": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def run_alone(name: str):
        folder = tmp_path / "empty"
        folder.mkdir()
        notebook = nbformat.read(clone / "notebooks" / name, as_version=4)
        return NotebookClient(
            notebook, timeout=300, kernel_name="bare", resources={"metadata": {"path": str(folder)}}
        ).execute()

    return run_alone


def set_up_cells() -> set[str]:
    """The first code of every chapter."""
    return {
        source(code_cells(json.loads(path.read_text(encoding="utf-8")))[0]) for path in NOTEBOOKS
    }


def test_every_chapter_is_set_up_by_the_same_cell():
    (cell,) = set_up_cells()
    assert cell.count("%pip install") == 1 and f"git+{address()}" in cell


#: What lies in the reader's folder, and what the set-up cell makes of it.
FOLDERS = {
    "nothing": ([], "fetched"),
    "a folder of that name": (["helpers/notes.txt"], "fetched"),
    "a module of the reader's own": (["helpers.py"], "{folder}/helpers.py is another `helpers`"),
    "another package": (["helpers/__init__.py"], "helpers/__init__.py is another `helpers`"),
    "another package with assets": (
        ["helpers/__init__.py", "helpers/assets/logo.svg"],
        "helpers/__init__.py is another `helpers`",
    ),
}


@pytest.mark.parametrize("installed", [False, True], ids=["bare", "installed"])
@pytest.mark.parametrize("files, outcome", FOLDERS.values(), ids=FOLDERS.keys())
def test_the_set_up_cell_looks_for_the_helpers_of_this_book(tmp_path, files, outcome, installed):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (cell,) = set_up_cells()
    code = re.sub("%pip install .*", "print('fetched')", cell)
    # -S: without what is installed here
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT) if installed else ""},
        capture_output=True,
        text=True,
    )
    if outcome == "fetched":  # the book's helpers are found wherever nothing hides them
        assert (done.returncode, done.stdout.split()) == (0, [] if installed else ["fetched"])
    else:
        assert done.returncode and not done.stdout
        assert outcome.format(folder=tmp_path) in done.stderr
        assert "rename or uninstall it" in done.stderr


@pytest.mark.slow
def test_a_notebook_runs_from_a_bare_folder_and_installs_nothing_but_the_helpers(bare, python):
    before = json.loads(run(python, "-c", LIST, cwd=python.parent))
    notebook = bare("01_grad_cam.ipynb")
    after = json.loads(run(python, "-c", LIST, cwd=python.parent))
    assert {name for name in after if after[name] != before.get(name)} == {
        "where-did-you-look"
    } and before.items() <= after.items()
    assert (
        python.parents[1]
        in Path(
            run(python, "-c", "import helpers; print(helpers.__file__)", cwd=python.parent).strip()
        ).parents
    )
    assert not [
        output
        for cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "error"
    ]


def test_the_book_is_built_anew_for_another_network_or_device():
    """What decides about that is the recipe's own line, taken from the Makefile."""
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = re.findall(r"@key=.*-c '(import [^']*)'", make)

    def key(**chosen: str) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "EXPLAIN_DEVICE"}
        return run(
            sys.executable,
            "-c",
            line,
            cwd=ROOT,
            env={**environment, "EXPLAIN_MODEL": "embedded", **chosen},
        )

    plain = key()
    assert len(plain.strip()) == 64 and plain == key() == key(EXPLAIN_DEVICE="")
    others = [
        key(EXPLAIN_DEVICE="cpu"),
        key(EXPLAIN_DEVICE="cuda"),
        key(EXPLAIN_MODEL="vgg16"),
        key(EXPLAIN_MODEL="vgg16", EXPLAIN_DEVICE="cuda"),
    ]
    assert len({plain, *others}) == 5


@pytest.mark.slow
def test_a_fork_changes_the_address_everywhere_by_one_command(clone):
    if shutil.which("make") is None:
        pytest.skip("make is missing")
    old, new = address().removeprefix("https://github.com/"), "some-one/a.fork_2"
    run("make", "-s", "address", f"NEW=https://github.com/{new}.git/", cwd=clone)
    try:
        left = subprocess.run(
            ["git", "grep", "-IlF", "-e", old], cwd=clone, capture_output=True, text=True
        )
        assert left.returncode == 1 and not left.stdout
        tests = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/test_notebooks.py",
        ]
        result = subprocess.run(
            tests,
            cwd=clone,
            env={**os.environ, "PYTHONPATH": str(clone)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout[-3000:]
        assert f'Repository = "https://github.com/{new}"' in (clone / "pyproject.toml").read_text()
    finally:
        run("git", "checkout", "-q", ".", cwd=clone)


def test_what_is_no_address_is_refused(clone):
    if shutil.which("make") is None:
        pytest.skip("make is missing")
    for words in ("", "some-one", "https://example.org/a/b"):
        refused = subprocess.run(
            ["make", "-s", "address", f"NEW={words}"], cwd=clone, capture_output=True, text=True
        )
        assert refused.returncode and "error:" in refused.stderr
    assert not run("git", "status", "--short", cwd=clone)
