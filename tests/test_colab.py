"""Colab: the set-up cell where nothing is installed, and the repository's address, the same everywhere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from pixelcnn_helpers import __main__, colab

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
needs_git = pytest.mark.skipif(not shutil.which("git"), reason="no git on this machine")


# The set-up cell


def cell(repository: str) -> str:
    """The set-up cell of the first notebook, with another address."""
    cells = nbformat.read(NOTEBOOKS[0], as_version=4).cells
    (source,) = (cell.source for cell in cells if "setup" in cell.metadata.get("tags", []))
    source, changed = re.subn(r'(?m)^REPOSITORY = ".*"$', f'REPOSITORY = "{repository}"', source)
    assert changed == 1
    return source


# Before the cell: a Python that knows torch and the rest but not the helpers, and an IPython as old as Colab's.
BEFORE = """
import subprocess, sys, types
from importlib.machinery import ModuleSpec
from pathlib import Path
import IPython.display

sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
sys.path[:] = [folder for folder in sys.path if not Path(folder, "pixelcnn_helpers").exists()]
{fake_colab}

run, made = subprocess.run, IPython.display.Image.__init__
def logged(command, **options):
    print("RUN", *command[1:])
    return run(command, **options)
def of_7_34(self, *arguments, **options):
    if "alt" in options:
        raise TypeError("__init__() got an unexpected keyword argument 'alt'")
    made(self, *arguments, **options)
subprocess.run, IPython.display.Image.__init__ = logged, of_7_34
"""
IN_COLAB = """
for name in ("google", "google.colab"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__spec__, sys.modules[name].__path__ = ModuleSpec(name, None), []
"""
AFTER = '\nprint("FROM", pch.__file__)\n'


def run_cell(tmp_path: Path, source: str, before: str, **environment: str) -> subprocess.CompletedProcess:
    (tmp_path / "cell.py").write_text(before + source + AFTER, encoding="utf-8")
    ours = ("PIXELCNN_", "PYTHON", "PIP_")
    environment |= {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [sys.executable, "cell.py"]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)


@needs_git
def test_on_colab_the_helpers_are_installed_alone(tmp_path):
    clone, target = tmp_path / "clone", tmp_path / "target"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pixelcnn_helpers", clone / "pixelcnn_helpers", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    git = ["git", "-C", clone, "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    done = run_cell(
        tmp_path,
        cell(f"file://{clone}"),
        BEFORE.format(fake_colab=IN_COLAB),
        PIXELCNN_PROFILE="quick",
        PYTHONPATH=str(target),
        PIP_TARGET=str(target),
        PIP_NO_INDEX="1",
        PIP_NO_BUILD_ISOLATION="0",  # pip's word for "no isolation": the build must not download setuptools
        PIP_CONFIG_FILE=os.devnull,
        PIP_DISABLE_PIP_VERSION_CHECK="1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run, *lines = done.stdout.splitlines()
    assert run == f"RUN -m pip install -q --no-deps git+file://{clone}"
    assert [line.split()[0] for line in lines[:3]] == ["device", "profile", "data"]
    assert lines[-1] == f"FROM {target / 'pixelcnn_helpers' / '__init__.py'}"
    assert {path.name.split("-")[0] for path in target.iterdir()} == {"pixelcnn_helpers"}, "something else came along"


@pytest.mark.parametrize(
    ("where", "repository", "words"),
    [
        (IN_COLAB, "https://github.com/<owner>/pixelcnn", "set REPOSITORY"),
        ("", "https://github.com/a/b", "make lab"),
    ],
    ids=["on Colab, without an address", "elsewhere"],
)
def test_without_the_helpers_one_message_says_what_to_do(tmp_path, where, repository, words):
    done = run_cell(tmp_path, cell(repository), BEFORE.format(fake_colab=where))
    (message,) = done.stderr.splitlines()
    assert done.returncode == 1 and words in message and not done.stdout, "nothing was run"


def test_elsewhere_nothing_is_installed(tmp_path):
    before = "import subprocess\ndef refuse(*_, **__): raise AssertionError\nsubprocess.run = refuse\n"
    done = run_cell(tmp_path, cell("https://github.com/a/b"), before, PYTHONPATH=str(ROOT), PIXELCNN_PROFILE="quick")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[:3]] == ["device", "profile", "data"]


# The address


@pytest.fixture
def tree(tmp_path):
    """A copy of every file that knows the address, as it would be committed."""
    (tmp_path / "notebooks").mkdir()
    for path in (ROOT / "pyproject.toml", ROOT / "README.md", *NOTEBOOKS):
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    return tmp_path


def contents(tree: Path) -> dict[str, str]:
    files = (path for path in tree.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(tree)): path.read_bytes().decode() for path in files}


def test_the_address_is_the_same_everywhere(tree):
    address = colab.read_address(tree)
    for name, text in contents(tree).items():
        found = [match[2] for place in colab.PLACES for match in place.finditer(text)]
        assert set(found) == {address}, name
        if name.endswith(".ipynb"):
            assert f"github/{address}/blob/main/{name})" in text
            assert f'REPOSITORY = \\"https://github.com/{address}\\"' in text


def test_the_command_changes_every_place_and_back(tree, capsys):
    before, address = contents(tree), colab.read_address(tree)
    assert len(colab.write_address(tree, "Some-One/a.name")) == len(before)
    changed = contents(tree)
    for name, text in changed.items():
        assert re.sub(r"Some-One/a\.name", address, text) == before[name] and f"github.com/{address}" not in text
    assert colab.read_address(tree) == "Some-One/a.name" and "README.md: Some-One/a.name" in capsys.readouterr().out
    assert not colab.write_address(tree, "Some-One/a.name"), "the second time nothing changes"
    for path in tree.glob("notebooks/*.ipynb"):
        assert path.read_text(encoding="utf-8") == nbformat.writes(nbformat.read(path, as_version=4)) + "\n"
    colab.write_address(tree, address)
    assert contents(tree) == before


def test_other_links_follow_the_address_and_other_repositories_do_not(tree):
    colab.write_address(tree, "me/mine")
    readme = "https://github.com/me/mine.git, git@github.com:me/mine. Not github.com/me/mine-too, not x.com/me/mine"
    (tree / "README.md").write_text(readme)
    colab.write_address(tree, "you/yours")
    expected = "https://github.com/you/yours.git, git@github.com:you/yours. " + readme[readme.index("Not") :]
    assert (tree / "README.md").read_text() == expected


@needs_git
@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/an-owner/name.x",
        "https://github.com/an-owner/name.x.git",
        "https://user:secret@github.com/an-owner/name.x/",
        "git@github.com:an-owner/name.x.git",
        "ssh://git@github.com/an-owner/name.x.git",
    ],
)
def test_the_address_comes_from_origin(tree, url):
    subprocess.run(["git", "-C", tree, "init", "-q"], check=True)
    subprocess.run(["git", "-C", tree, "remote", "add", "origin", url], check=True)
    colab.write_address(tree)
    assert colab.read_address(tree) == "an-owner/name.x"


@needs_git
def test_without_an_origin_it_must_be_named(tree):
    with pytest.raises(ValueError, match="no git origin"):
        colab.write_address(tree)
    subprocess.run(["git", "-C", tree, "init", "-q"], check=True)
    with pytest.raises(ValueError, match="no git origin"):
        colab.write_address(tree)
    subprocess.run(["git", "-C", tree, "remote", "add", "origin", "https://me:secret@gitlab.com/a/b"], check=True)
    with pytest.raises(ValueError, match="wanted owner/name") as caught:
        colab.write_address(tree)
    assert "secret" not in str(caught.value)


@needs_git
def test_the_origin_of_a_repository_around_this_one_is_not_taken(tree):
    inner = tree / "inner"
    inner.mkdir()
    subprocess.run(["git", "-C", tree, "init", "-q"], check=True)
    subprocess.run(["git", "-C", tree, "remote", "add", "origin", "https://github.com/a/b"], check=True)
    with pytest.raises(ValueError, match="no git origin"):
        colab.origin(inner)


NO_ADDRESSES = ["", "a", "a/", "/b", "a/b/c", "-a/b", "a/b c", 'a/b"', "a/..", "<me>/b", "a/.git", "a/b\n"]


@pytest.mark.parametrize("name", NO_ADDRESSES)
def test_what_is_no_address_is_refused(tree, name):
    before = contents(tree)
    with pytest.raises(ValueError, match="wanted owner/name"):
        colab.write_address(tree, name)
    assert contents(tree) == before


# The command line


def test_the_command_works_on_a_checkout_only(tree):
    __main__.main(["colab", "me/mine"], root=tree)
    assert colab.read_address(tree) == "me/mine"
    with pytest.raises(SystemExit, match="colab: wanted owner/name"):
        __main__.main(["colab", "mine"], root=tree)
    with pytest.raises(SystemExit, match="no notebook is called 99"):
        __main__.main(["notebooks", "99"], root=tree)
    with pytest.raises(SystemExit, match="repository's own files"):
        __main__.main(["colab", "me/mine"], root=tree / "notebooks")
