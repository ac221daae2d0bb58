"""Set up the virtual environment VENV for this folder. `make` runs this script before its commands.

    python .ci/set_up.py newest|oldest --check           exit status 0 if the environment is ready
    python .ci/set_up.py newest|oldest [pip's options]   install what is missing

`oldest` installs the lower bounds of pyproject.toml, `newest` installs what pip chooses. Two files in the environment
record its state: `.unfinished` exists while a set-up runs, and `.ready` says what the last complete one installed.
"""

import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

SCRIPT, VERSIONS, *OPTIONS = sys.argv
VENV = Path(os.environ["VENV"])
PYTHON, READY, UNFINISHED = VENV / "bin/python", VENV / ".ready", VENV / ".unfinished"
PYPROJECT = Path("pyproject.toml")
# The environment holds this folder's path, so a moved folder needs a new installation.
WANTED = b"\n".join([os.fsencode(Path.cwd()), VERSIONS.encode(), PYPROJECT.read_bytes()])

if OPTIONS == ["--check"]:  # run by the environment's own Python, which loses pip when the Python behind it changes
    complete = READY.exists() and not UNFINISHED.exists() and READY.read_bytes() == WANTED
    sys.exit(not (complete and importlib.util.find_spec("pip")))

# One set-up at a time. The processes below inherit the lock, so a pip that outlives this script still holds it.
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends this script without a traceback
lock = os.open(PYPROJECT, os.O_RDWR)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Another set-up is running in this folder: waiting until it ends.", flush=True)
    fcntl.flock(lock, fcntl.LOCK_EX)


def run(*command, output=None) -> int:
    return subprocess.run(command, stdout=output, stderr=output, pass_fds=[lock]).returncode


def environment_runs(*arguments) -> bool:
    return PYTHON.exists() and run(PYTHON, *arguments, output=subprocess.DEVNULL) == 0


def install() -> int:
    requirements = ["-e", ".[notebooks,test]"]
    if VERSIONS == "oldest":
        project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"]
        bounds = [*project["dependencies"], *extras["notebooks"], *extras["test"]]
        requirements += [bound.replace(">=", "==") for bound in bounds]
    # uv does not know pip's options, so it is used only without them. It does not read pip's configuration either
    # (a company's index, for instance), so pip tries again where uv gives up (status > 0).
    uv = shutil.which("uv")
    if uv and not OPTIONS:
        status = run(uv, "pip", "install", "--python", PYTHON, *requirements)
        if status <= 0:
            return status
    return run(PYTHON, "-m", "pip", "install", *OPTIONS, *requirements)


if environment_runs(SCRIPT, VERSIONS, "--check"):  # the set-up that this one waited for has done the work
    sys.exit()

# An interrupted pip leaves half-written packages, which the next pip takes for installed ones. So an environment with
# the file .unfinished is emptied and made again. Only environments are ever emptied.
is_new = UNFINISHED.exists() or not environment_runs("-m", "pip", "--version")
is_environment = UNFINISHED.exists() or (VENV / "pyvenv.cfg").exists()
if VENV.exists() and not is_environment and (VENV.is_file() or any(VENV.iterdir())):
    sys.exit(f"{VENV} is in the way: it is no virtual environment, and stays as it is")
VENV.mkdir(parents=True, exist_ok=True)
UNFINISHED.touch()
if is_new:
    run("find", f"{VENV}/", "-mindepth", "1", "!", "-name", UNFINISHED.name, "-delete")
    status = run(sys.executable, "-m", "venv", VENV) or install()
else:
    status = install()
    if status > 0:  # pip gave up, without a network for instance, and has undone its changes; a signal gives status < 0
        UNFINISHED.unlink()
if status != 0:
    sys.exit(1)
UNFINISHED.write_bytes(WANTED)
UNFINISHED.replace(READY)
