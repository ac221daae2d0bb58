"""The repository as a whole: what lies where, what depends on what, and the Makefile's set-up."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

import pixelcnn_helpers

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = [  # of the package, from the ground up: arrows point downwards only
    {"checks", "files"},
    {"masks"},
    {"walks"},
    {"layers", "data"},
    {"models"},
    {"likelihood", "receptive_field", "sampling"},
    {"training"},
    {"classifiers"},
    {"pretrained"},
    {"between"},
    {"self_training"},
    {"plots"},
    {"sliders", "notebook", "recipes", "bench"},
    {"measure"},
    {"figures", "pages", "colab"},
    {"__main__"},
]


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what belongs to the repository is not known")
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True)
    return listed.stdout.rstrip("\0").split("\0")


def test_the_top_level_holds_nothing_else():
    folders = {"notebooks", "pixelcnn_helpers", "tests", "figures", "checkpoints", ".ci", ".github"}
    files = {"README.md", "LICENSE", "pyproject.toml", "environment.yml", "Makefile", ".gitignore"}
    assert {name.split("/")[0] for name in tracked()} <= folders | files


def test_imports_point_downwards_only():
    row = {name: level for level, names in enumerate(ROWS) for name in names}
    modules = {path.stem: path for path in (ROOT / "pixelcnn_helpers").glob("*.py") if path.stem != "__init__"}
    assert set(modules) <= set(row), "a module without a row"
    arrows = [(name, other) for name, path in modules.items() for other in imports(path)]
    assert not [f"{name} imports {other}" for name, other in arrows if row[other] >= row[name]]


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            assert not any(name.startswith("pixelcnn_helpers") for name in names), f"{path.name}: import relatively"
    return found


@pytest.mark.parametrize("name", pixelcnn_helpers.__all__)
def test_every_public_name_has_a_docstring(name):
    text = getattr(pixelcnn_helpers, name).__doc__ or ""
    assert len(text) > 20 and not text.startswith(f"{name}("), "a docstring of its own, not a dataclass's"


# Dependencies


def test_bounds_are_lower_bounds():
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    for text in [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]:
        operators = {part.operator for part in Requirement(text).specifier}
        reason = any(f'"{text}"' in line and "#" in line for line in lines)
        assert ">=" in operators, f"{text} has no lower bound"
        assert operators == {">="} or reason, f"{text} is pinned without a reason beside it"


def test_the_bounds_that_colab_already_meets():
    bounds = {one.name: str(one.specifier) for one in map(Requirement, PROJECT["dependencies"])}
    assert (bounds["torch"], bounds["ipywidgets"], PROJECT["requires-python"]) == (">=2.9", ">=7.7", ">=3.11")


def test_conda_and_pip_agree():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert (environment["name"], environment["channels"]) == ("pixelcnn", ["conda-forge"])
    *from_conda, from_pip = environment["dependencies"]
    python, pip = (Requirement(text) for text in from_conda)  # anything else would be named twice
    assert (python.name, str(python.specifier), str(pip)) == ("python", PROJECT["requires-python"], "pip")
    ((name, extras),) = (re.fullmatch(r"-e (\.)\[(.+)\]", text).groups() for text in from_pip["pip"])
    assert name == "." and set(extras.split(",")) <= set(EXTRAS)


# The README


def test_the_readme_links_to_files_that_exist():
    links = re.findall(r"\]\(([^)#\s]+)", README)
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_the_readme_lists_the_notebooks_that_exist():
    row = r"(?m)^\| *\[(\w+)\]\((notebooks/\w+\.ipynb)\) *\| *([^|]+?) *\| *(\d+) s *\|"  # and perhaps a badge
    rows, wanted = re.findall(row, README), []
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        name, first = f"notebooks/{path.name}", nbformat.read(path, as_version=4).cells[0].source
        seconds = re.search(r"(?m)^About (\d+) s", first)[1]
        wanted.append((path.stem, name, first.splitlines()[0].removeprefix("# "), seconds))
    assert wanted and rows == wanted


# The Makefile, with a stand-in for Python that writes down what it is asked for

# One process writes and waits: a shell's new child loses the Ctrl-C that comes before it becomes `sleep`.
PIP = """import pathlib, time
pathlib.Path(".venv/half").touch()
if (slow := pathlib.Path("slow")).exists():
    time.sleep(float(slow.read_text()))"""
PYTHON = f"""#!/bin/sh
case "$1 $2" in
"-m venv") echo venv >> log; mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; touch "$3/pyvenv.cfg" ;;
"-m pip") if [ "$3" = install ]; then echo "$*" >> log; exec '{sys.executable}' -S -c '{PIP}'; fi ;;
"-c import pip") ;;
"-c "*) exec '{sys.executable}' "$@" ;;
*) echo "$*" >> log ;;
esac
"""
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")


@pytest.fixture
def clone(tmp_path):
    """A folder with a space in its name, with what the set-up reads."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "python").write_text(PYTHON)
    (folder / "python").chmod(0o755)
    return folder


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.Popen(
        ["make", "PYTHON=./python", *arguments],
        cwd=folder,
        env=clean | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def make(folder: Path, *arguments: str, **environment: str) -> tuple[list[str], str]:
    """What Python was asked for, and what make said."""
    (folder / "log").write_text("")
    said, _ = start(folder, *arguments, **environment).communicate(timeout=60)
    return (folder / "log").read_text().splitlines(), said


SET_UP = ["venv", "-m pip install -e .[notebooks,test]"]


@needs_make
def test_make_alone_lists_every_target(clone):
    targets = re.search(r"(?m)^\.PHONY: (.*)", (ROOT / "Makefile").read_text())[1].split()
    log, said = make(clone)
    assert not log and set(re.findall(r"(?m)^make (\w+)", said)) == set(targets) - {"help", "install"}


@needs_make
def test_the_first_call_sets_up_and_the_second_does_not(clone):
    log, _ = make(clone, "test", "PIP_ARGS=--quiet", "ARGS=-k 'one thing'", "TESTS=tests/test_masks.py")
    tests = "-m pytest -k one thing tests/test_masks.py"
    assert log == ["venv", "-m pip install --quiet -e .[notebooks,test]", tests]
    assert make(clone, "test", TESTS="of the environment", ARGS="too")[0] == ["-m pytest"]
    assert make(clone, "notebooks", "ARGS=01 02")[0] == ["-m pixelcnn_helpers notebooks 01 02"]
    assert make(clone, "figures")[0] == ["-m pixelcnn_helpers figures"]
    assert make(clone, "lint")[0] == ["-m ruff check"]


@needs_make
@pytest.mark.parametrize(("browser", "shows"), [("w3m", False), ("firefox %s &", True)])
def test_lab_opens_the_first_notebook(clone, browser, shows):
    make(clone, "setup")
    (log,) = make(clone, "lab", "PORT=8899", "ARGS=--debug", BROWSER=browser)[0]
    assert log.startswith("-m jupyterlab ") and "/lab/tree/notebooks/01_masks.ipynb" in log
    assert log.endswith("--port=8899 --debug") and f"root_dir={clone}" in log
    assert ("--no-browser" not in log) == shows and ("--allow-root" in log) == (os.geteuid() == 0)


@needs_make
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_set_up_starts_afresh(clone, how):
    (clone / "slow").write_text("60")
    running = start(clone, "setup")
    wait_for(clone / ".venv/half")
    os.killpg(running.pid, how)
    running.communicate(timeout=60)
    (clone / "slow").unlink()
    (clone / ".venv/half").rename(clone / ".venv/debris")
    assert make(clone, "setup")[0] == SET_UP and not (clone / ".venv/debris").exists()
    assert not make(clone, "setup")[0]


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


@needs_make
def test_two_set_ups_at_once_are_one(clone):
    (clone / "slow").write_text("1")
    first = start(clone, "setup")
    wait_for(clone / ".venv/half")
    said, _ = start(clone, "setup").communicate(timeout=60)
    assert first.wait(timeout=60) == 0 and "waiting" in said
    assert (clone / "log").read_text().splitlines() == SET_UP


@needs_make
def test_a_changed_pyproject_or_a_moved_folder_is_installed_again(clone):
    make(clone, "setup")
    os.utime(clone / "pyproject.toml")
    assert not make(clone, "setup")[0], "touched, not changed"
    with open(clone / "pyproject.toml", "a") as file:
        file.write("# changed\n")
    assert make(clone, "setup")[0] == SET_UP[1:]
    moved = clone.rename(clone.with_name("moved"))
    assert make(moved, "setup")[0] == SET_UP[1:] and not make(moved, "setup")[0]


@needs_make
def test_an_environment_whose_python_is_gone_is_made_afresh(clone):
    make(clone, "setup")
    (clone / ".venv/bin/python").unlink()
    (clone / ".venv/bin/python").symlink_to("/nowhere/python")
    assert make(clone, "setup")[0] == SET_UP


@needs_make
def test_a_failed_install_is_not_taken_for_one(clone):
    (clone / "slow").write_text("no number")  # which pip fails at
    assert "Error" in make(clone, "lint")[1]
    (clone / "slow").unlink()
    assert make(clone, "lint")[0] == [*SET_UP, "-m ruff check"]


@needs_make
def test_a_failed_update_keeps_the_environment(clone):
    make(clone, "lint")
    (clone / ".venv/mine").touch()
    (clone / "pyproject.toml").write_text((clone / "pyproject.toml").read_text() + "\n# a change\n")
    (clone / "slow").write_text("no number")  # as without a network: pip gives up by itself
    assert "Error" in make(clone, "lint")[1]
    (clone / "slow").unlink()
    log, _ = make(clone, "lint")
    assert log[-1] == "-m ruff check" and not any("venv" in line.split() for line in log)
    assert (clone / ".venv/mine").exists()


@needs_make
@pytest.mark.parametrize("python", ["no-such-python", "false"])
def test_without_a_fitting_python_one_line_says_so(clone, python):
    log, said = make(clone, "lab", f"PYTHON={python}")
    assert not log and not (clone / ".venv").exists()
    said, failed = said.splitlines()
    assert said.startswith(f"{python} is not Python 3.11 or newer") and failed.startswith("make: ***")


@needs_make
def test_a_folder_that_is_no_environment_stays(clone):
    (clone / "mine").mkdir()
    (clone / "mine/letter").touch()
    log, said = make(clone, "setup", "VENV=mine")
    assert not log and "mine is in the way" in said and (clone / "mine/letter").exists()


def test_the_ci_script_can_run():
    assert os.access(ROOT / ".ci/run", os.X_OK)
    subprocess.run(["bash", "-n", ROOT / ".ci/run"], check=True)
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"][0] == PROJECT["requires-python"].removeprefix(">=")
    assert job["steps"][-1]["run"] == ".ci/run"
