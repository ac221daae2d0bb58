"""All notebooks run once, as a stranger would run them: elsewhere, offline, without MNIST, in the quick profile."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

FOLDER = Path(__file__).parents[1] / "notebooks"

# Run by every Python of the run at its start. Kernels and pytest talk through ZeroMQ, which does not pass here.
SITECUSTOMIZE = '''
import socket

HERE = (None, "", "localhost", "127.0.0.1", "::1")

def blocked(function, host_of):
    def guarded(*arguments, **options):
        host = host_of(*arguments)
        if host not in HERE:
            raise OSError(f"the network is blocked: {host}")
        return function(*arguments, **options)
    return guarded

for name in ("getaddrinfo", "gethostbyname"):
    setattr(socket, name, blocked(getattr(socket, name), lambda host, *rest: host))
for name in ("connect", "connect_ex"):
    host_of = lambda self, address: address[0] if isinstance(address, tuple) else None  # a path is a local socket's
    setattr(socket.socket, name, blocked(getattr(socket.socket, name), host_of))
'''

# One more notebook in the same run: it finds the network blocked, and its last cell must be found to differ.
CONTROL = """
import socket, urllib.request

for go_out in (
    lambda: urllib.request.urlopen("https://example.org"),
    lambda: socket.create_connection(("192.0.2.1", 80), timeout=5),
    lambda: socket.socket().connect_ex(("192.0.2.1", 80)),
):
    try:
        go_out()
    except OSError as error:
        assert "the network is blocked" in str(error), error
    else:
        raise AssertionError("the network is open")
"""
DIFFERS = new_output("stream", name="stdout", text="3\n")


def test_all_notebooks_run(tmp_path):
    copied, home, site, report = (tmp_path / name for name in ("notebooks", "home", "site", "report.xml"))
    shutil.copytree(FOLDER, copied, ignore=shutil.ignore_patterns(".*"))
    cells = [
        new_code_cell(CONTROL),
        new_code_cell("print(1 + 1)", metadata={"tags": ["nbval-check-output"]}, outputs=[DIFFERS]),
    ]
    nbformat.write(new_notebook(cells=cells), copied / "control.ipynb")
    home.mkdir()
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITECUSTOMIZE)

    ours = ("PIXELCNN_", "PYTEST_", "JUPYTER_", "IPYTHON", "XDG_", "MPL")  # what a stranger has not set
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"PIXELCNN_PROFILE": "quick", "HOME": str(home), "PYTHONPATH": str(site)}
    environment |= {"OMP_NUM_THREADS": "1"}  # threads that wait for a core another test has cost tenfold
    options = f"-c {os.devnull} --rootdir . -p no:xdist -p no:cacheprovider --junitxml {report.name}"
    nbval = "--nbval-lax --nbval-current-env --nbval-cell-timeout=300"
    command = [sys.executable, "-m", "pytest", *options.split(), *nbval.split(), copied.name]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True)

    said = f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert report.exists(), said
    cases = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("classname").removeprefix("notebooks."), case.get("name")
        cases[name] = [child.tag for child in case if child.tag in ("failure", "error")]
    assert {name for name, _ in cases} == {path.name for path in copied.glob("*.ipynb")}, said
    assert cases.pop(("control.ipynb", "Cell 1")) == ["failure"], f"a stored output that differs went unnoticed\n{said}"
    assert not {name: tags for name, tags in cases.items() if tags}, said
