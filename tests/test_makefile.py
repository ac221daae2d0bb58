"""The Makefile and its set-up, with stand-ins for Python and uv that log what they are asked for; the CI scripts."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import psutil
import pytest
import yaml
from jupyter_server.serverapp import ServerApp
from jupyterlab import NeverCheckForUpdate
from jupyterlab.labapp import LabApp

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")

# One process writes and waits: a shell loses a Ctrl-C that comes before its child has become `sleep`.
PIP = """import os, pathlib, time
pathlib.Path(os.environ["VENV"], "half").touch()
if (slow := pathlib.Path("slow")).exists():
    time.sleep(float(slow.read_text()))
if pathlib.Path("killed").exists():
    os.kill(os.getpid(), 9)"""
# A real Python runs the script, and the script takes the stand-in for its own executable.
SCRIPT = """import runpy, sys
sys.executable, *sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")"""
PYTHON = f"""#!/bin/sh
case "$1 $2" in
"-m venv") echo venv >> log; mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; touch "$3/pyvenv.cfg" ;;
"-m pip") if [ "$3" = install ]; then echo "$*" >> log; exec '{sys.executable}' -S -c '{PIP}'; fi ;;
".ci/set_up.py "*) exec '{sys.executable}' -c '{SCRIPT}' "$0" "$@" ;;
"-c "*) exec '{sys.executable}' "$@" ;;
*) echo "$*" >> log ;;
esac
"""
UV = """#!/bin/sh
echo "uv $*" >> log
[ ! -e offline ]
"""
PROGRAMS = ["make", "awk", "cp", "false", "find", "id", "mkdir", "touch"]  # all that recipes and stand-ins call


def add_program(folder: Path, name: str, text: str) -> None:
    (folder / "programs" / name).write_text(text)
    (folder / "programs" / name).chmod(0o755)


def make_clone(folder: Path) -> Path:
    """A folder with what the set-up reads. All of PATH is in programs/, so that no uv of this machine is found."""
    (folder / ".ci").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", ".ci/set_up.py"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "programs").mkdir()
    for name in PROGRAMS:
        (folder / "programs" / name).symlink_to(shutil.which(name))
    add_program(folder, "python3", PYTHON)
    return folder


@pytest.fixture
def clone(tmp_path):
    return make_clone(tmp_path / "a clone")


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.Popen(
        ["make", *arguments],
        cwd=folder,
        env=clean | {"PATH": "programs"} | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def make(folder: Path, *arguments: str, **environment: str) -> tuple[list[str], str]:
    """What Python and uv were asked for, and what make printed."""
    (folder / "log").write_text("")
    printed, _ = start(folder, *arguments, **environment).communicate(timeout=60)
    return (folder / "log").read_text().splitlines(), printed


SET_UP = ["venv", "-m pip install -e .[notebooks,test]"]


# The commands


@needs_make
def test_make_alone_lists_every_target(clone):
    targets = re.search(r"(?m)^\.PHONY: (.*)", (ROOT / "Makefile").read_text())[1].split()
    log, printed = make(clone)
    assert not log and set(re.findall(r"(?m)^make (\S+)", printed)) == set(targets) - {"help"}


@needs_make
def test_the_first_call_sets_up_and_the_second_does_not(clone):
    log, _ = make(clone, "test", "PIP_ARGS=--quiet", "ARGS=-k 'one thing'", "TESTS=tests/test_masks.py")
    tests = "-m pytest -k one thing tests/test_masks.py"
    assert log == ["venv", "-m pip install --quiet -e .[notebooks,test]", tests]
    assert make(clone, "test", TESTS="of the environment", ARGS="too")[0] == ["-m pytest"]
    assert make(clone, "notebooks", "ARGS=01 02")[0] == ["-m pixelcnn_helpers notebooks 01 02"]
    assert make(clone, "figures")[0] == ["-m pixelcnn_helpers figures"]
    assert make(clone, "lint", "PYTHON=no-such-python")[0] == ["-m ruff check"]


@needs_make
def test_python_and_the_environment_s_folder_can_be_chosen(clone):
    (clone / "programs/python3").rename(clone / "my python")
    log, _ = make(clone, "test", "PYTHON='./my python'", "VENV=an environment")
    assert log == [*SET_UP, "-m pytest"] and (clone / "an environment/.ready").exists()


def read(app, options: list[str]):
    app.parse_command_line([option for option in options if option.startswith(f"--{type(app).__name__}.")])
    return app


@needs_make
@pytest.mark.parametrize(("browser", "shows"), [("w3m", False), ("firefox %s &", True)])
def test_lab_opens_the_first_notebook(clone, browser, shows):
    make(clone, "setup")
    (log,) = make(clone, "lab", "PORT=8899", "ARGS=--debug", BROWSER=browser)[0]
    assert log.startswith("-m jupyterlab ") and log.endswith("--port=8899 --debug")
    assert ("--no-browser" not in log) == shows and ("--allow-root" in log) == (os.geteuid() == 0)
    lab = read(LabApp(), shlex.split(log))
    assert lab.default_url == "/lab/tree/notebooks/01_masks.ipynb"
    assert lab.news_url is None and lab.check_for_updates_class is NeverCheckForUpdate, "it asks other hosts"


@needs_make
def test_oldest_installs_every_lower_bound_and_leaves_the_browser_out(clone):
    make(clone, "setup")
    (clone / "tests").mkdir()
    for name in ("test_masks.py", "test_browser.py", "test_browser_between.py"):
        (clone / "tests" / name).touch()
    oldest = PROJECT["requires-python"].replace(">=", "python")
    (clone / "programs/python3").rename(clone / "programs" / oldest)

    environment, pip, tests = make(clone, "test-oldest", "PIP_ARGS=--quiet", "ARGS=-x")[0]
    extras = PROJECT["optional-dependencies"]
    bounds = [*PROJECT["dependencies"], *extras["notebooks"], *extras["test"]]
    wanted = ["-m pip install --quiet -e .[notebooks,test]", *(bound.replace(">=", "==") for bound in bounds)]
    assert environment == "venv" and pip == " ".join(wanted)
    ignored = {"--ignore=tests/test_browser.py", "--ignore=tests/test_browser_between.py"}
    assert set(tests.split()) == {"-m", "pytest", "-x"} | ignored
    assert (clone / ".venv-oldest/.ready").exists()
    assert len(make(clone, "test-oldest")[0]) == 1 and not make(clone, "setup")[0]


# Folders whose names a shell or make could execute


@needs_make
@pytest.mark.parametrize(
    "name",
    [
        "a$(touch executed)b",
        "a`touch executed`b",
        "a';touch executed;'b",
        'a";touch executed;"b',
        "a$$(shell touch executed)$(shell touch executed)$HOME ${PATH}b",
        "a\\b\\",
        " #a&touch executed& %s *?[a] ",
        "~=:é!\tb|(c)<d>",
    ],
)
def test_a_folder_s_name_is_never_executed(tmp_path, monkeypatch, name):
    clone = make_clone(tmp_path / name)
    before = {path.name for path in clone.iterdir()}
    assert make(clone, "setup")[0] == SET_UP
    assert make(clone, "test")[0] == ["-m pytest"]
    (log,) = make(clone, "lab", "PORT=8899")[0]
    assert {path.name for path in clone.iterdir()} == before | {".venv", "log"}
    assert not list(tmp_path.rglob("executed"))
    monkeypatch.chdir(clone)
    assert read(ServerApp(), shlex.split(log)).root_dir == str(clone)


# The set-up


@needs_make
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_set_up_starts_afresh(clone, how):
    (clone / "slow").write_text("60")
    running = start(clone, "setup")
    wait_for(clone / ".venv/half")
    os.killpg(running.pid, how)
    assert "set_up.py" not in running.communicate(timeout=60)[0], "no traceback"
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
    printed, _ = start(clone, "setup").communicate(timeout=60)
    assert first.wait(timeout=60) == 0 and "waiting" in printed
    assert (clone / "log").read_text().splitlines() == SET_UP


@needs_make
def test_a_set_up_waits_for_a_pip_that_outlived_its_make(clone):
    (clone / "slow").write_text("2")
    first = start(clone, "setup")
    wait_for(clone / ".venv/half")
    *others, _pip = psutil.Process(first.pid).children(recursive=True)
    for process in [first, *others]:
        process.kill()
    (clone / "slow").unlink()
    printed, _ = start(clone, "setup").communicate(timeout=60)
    assert "waiting" in printed
    assert (clone / "log").read_text().splitlines() == [*SET_UP, *SET_UP]


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
@pytest.mark.parametrize("made_by", ["make", "hand"])
def test_a_failed_update_keeps_the_environment(clone, made_by):
    make(clone, "lint")
    (clone / ".venv/mine").touch()
    if made_by == "hand":
        (clone / ".venv/.ready").unlink()
    (clone / "pyproject.toml").write_text((clone / "pyproject.toml").read_text() + "\n# a change\n")
    (clone / "slow").write_text("no number")  # as without a network: pip gives up by itself
    assert "Error" in make(clone, "lint")[1]
    (clone / "slow").unlink()
    assert make(clone, "lint")[0] == [*SET_UP[1:], "-m ruff check"]
    assert (clone / ".venv/mine").exists()


@needs_make
def test_a_killed_update_starts_afresh(clone):
    make(clone, "setup")
    (clone / "pyproject.toml").write_text((clone / "pyproject.toml").read_text() + "\n# a change\n")
    (clone / "killed").touch()  # pip alone, for its memory say
    assert make(clone, "setup")[0] == SET_UP[1:]
    (clone / "killed").unlink()
    assert make(clone, "setup")[0] == SET_UP


@needs_make
def test_uv_installs_where_it_is_found(clone):
    add_program(clone, "uv", UV)
    uv = "uv pip install --python .venv/bin/python -e .[notebooks,test]"
    assert make(clone, "setup")[0] == ["venv", uv] and not make(clone, "setup")[0]
    shutil.rmtree(clone / ".venv")
    assert make(clone, "setup", "PIP_ARGS=--quiet")[0] == ["venv", "-m pip install --quiet -e .[notebooks,test]"]
    shutil.rmtree(clone / ".venv")
    (clone / "offline").touch()
    assert make(clone, "setup")[0] == ["venv", uv, SET_UP[1]], "pip may know an index that uv does not"


@needs_make
@pytest.mark.parametrize("python", ["no-such-python", "false"])
def test_without_a_fitting_python_one_line_says_so(clone, python):
    log, printed = make(clone, "lab", f"PYTHON={python}")
    assert not log and not (clone / ".venv").exists()
    reason, failed = printed.splitlines()
    assert reason.startswith(f"{python} is not Python 3.11 or newer") and failed.startswith("make: ***")


@needs_make
def test_a_folder_that_is_no_environment_stays(clone):
    (clone / "mine").mkdir()
    (clone / "mine/letter").touch()
    log, printed = make(clone, "setup", "VENV=mine")
    assert not log and "mine is in the way" in printed and os.listdir(clone / "mine") == ["letter"]


# CI


def test_the_ci_script_can_run():
    assert os.access(ROOT / ".ci/run", os.X_OK)
    subprocess.run(["bash", "-n", ROOT / ".ci/run"], check=True)


def test_the_workflow_tests_the_oldest_python_and_the_oldest_versions():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    oldest = PROJECT["requires-python"].removeprefix(">=")
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"][0] == oldest
    assert job["steps"][-1]["run"] == ".ci/run"
    _, python, run = workflow["jobs"]["test-oldest"]["steps"]
    assert python["with"]["python-version"] == oldest and run["run"].startswith("make test-oldest")
