"""Colab: the set-up cell in a fresh Python, and the repository's address in every file that holds it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import set_up_cell

from pixelcnn_helpers import __main__
from pixelcnn_helpers.workshop import colab

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
needs_git = pytest.mark.skipif(not shutil.which("git"), reason="no git on this machine")

# The set-up cell

# A Python process runs cell.py in an IPython shell. It has torch and the rest, but not the helpers.
# `make_image_of_7_34` is what Colab's IPython does: its Image knows no `alt`.
SCRIPT = """
import sys
from pathlib import Path
import IPython.display
from IPython.core.interactiveshell import InteractiveShell

sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
sys.path[:] = [folder for folder in sys.path if not Path(folder, "pixelcnn_helpers").exists()]
sys.path += sys.argv[2:]

make_image = IPython.display.Image.__init__
def make_image_of_7_34(self, *arguments, **options):
    if "alt" in options:
        raise TypeError("__init__() got an unexpected keyword argument 'alt'")
    make_image(self, *arguments, **options)
IPython.display.Image.__init__ = make_image_of_7_34

class Shell(InteractiveShell):
    def system(self, command):
        print("SYSTEM", command, flush=True)
        super().system(command)

Shell.__module__ = sys.argv[1]
shell = Shell.instance()
shell.run_cell(Path("cell.py").read_text(encoding="utf-8")).raise_error()
print("FROM", shell.user_ns["pch"].__file__)
"""
COLAB = "google.colab._shell"  # str(get_ipython()) is <google.colab._shell.Shell object at 0x…> on Colab
ELSEWHERE = "ipykernel.zmqshell"


def run_cell(folder: Path, address: str, shell: str, *path: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run the set-up cell with another address in a shell of this name, with `path` added to Python's own."""
    source = nbformat.read(NOTEBOOKS[0], as_version=4).cells[1].source
    source, changed = re.subn(r'(?<="git\+)https://github\.com/[^"]+(?=")', address, source)
    assert changed == 1
    (folder / "cell.py").write_text(source, encoding="utf-8")
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    ours = ("PIXELCNN_", "PYTHON", "PIP_", "IPYTHON")
    environment |= {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"PIXELCNN_PROFILE": "quick", "IPYTHONDIR": str(folder / "ipython"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "script.py", shell, *map(str, path)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@needs_git
def test_on_colab_the_helpers_are_installed_alone(tmp_path):
    """pip really installs the package, without a network: from a git clone of it into a folder of its own."""
    clone, target = tmp_path / "clone", tmp_path / "target"
    ignored = shutil.ignore_patterns("__pycache__", "*.part")
    shutil.copytree(ROOT / "pixelcnn_helpers", clone / "pixelcnn_helpers", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    git = ["git", "-C", clone, "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    target.mkdir()  # as Colab's site-packages: Python looks in it before the cell runs
    done = run_cell(
        tmp_path,
        f"file://{clone}",
        COLAB,
        target,
        PIP_TARGET=str(target),
        PIP_NO_INDEX="1",
        PIP_NO_BUILD_ISOLATION="0",  # pip's way to say "no isolation": the build must not download setuptools
        PIP_CONFIG_FILE=os.devnull,
        PIP_DISABLE_PIP_VERSION_CHECK="1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (pip,) = [line for line in done.stdout.splitlines() if line.startswith("SYSTEM ")]
    assert pip.endswith(f' -m pip install -q --no-deps "git+file://{clone}"')
    words = [line.split()[0] for line in done.stdout.splitlines() if line]
    assert [word for word in words if word in ("device", "profile", "data")] == ["device", "profile", "data"]
    assert done.stdout.splitlines()[-1] == f"FROM {target / 'pixelcnn_helpers' / '__init__.py'}"
    assert {path.name.split("-")[0] for path in target.iterdir()} == {"pixelcnn_helpers"}, "something else came along"
    arrived = {name for name in files(target / "pixelcnn_helpers") if not name.endswith(".pyc")}
    assert arrived == files(clone / "pixelcnn_helpers"), "a subpackage or its data stayed behind"


@pytest.mark.parametrize("address", [colab.UNKNOWN, "Some-One/a.name"])
def test_pip_gets_the_address_as_one_word(tmp_path, address):
    """A shell reads the line of %pip: the placeholder's angle brackets must not redirect anything."""
    (tmp_path / "pip.py").write_text("import sys; print('PIP', sys.argv[1:])")  # `python -m pip` takes this one
    done = run_cell(tmp_path, f"https://github.com/{address}", COLAB)
    said = ["install", "-q", "--no-deps", f"git+https://github.com/{address}"]
    assert f"PIP {said}" in done.stdout.splitlines(), done.stdout + done.stderr
    assert done.returncode == 1 and "No module named 'pixelcnn_helpers'" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"cell.py", "script.py", "pip.py", "ipython"}


def test_elsewhere_nothing_is_installed(tmp_path):
    done = run_cell(tmp_path, "https://github.com/a/b", ELSEWHERE, ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[:3]] == ["device", "profile", "data"]
    assert "SYSTEM" not in done.stdout


def test_elsewhere_python_says_that_the_helpers_are_missing(tmp_path):
    done = run_cell(tmp_path, "https://github.com/a/b", ELSEWHERE)
    assert done.returncode == 1 and "SYSTEM" not in done.stdout
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'pixelcnn_helpers'"


# The address


@pytest.fixture
def tree(tmp_path):
    """A copy of every file that holds the address, as it would be committed."""
    (tmp_path / "notebooks").mkdir()
    for path in (ROOT / "pyproject.toml", ROOT / "README.md", *NOTEBOOKS):
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    return tmp_path


def contents(tree: Path) -> dict[str, str]:
    paths = (path for path in tree.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(tree)): path.read_bytes().decode() for path in paths}


def check(tree: Path, address: str) -> None:
    """The address is the same in every file, and each badge opens its own notebook; the placeholder has no badges."""
    assert colab.read_address(tree) == address
    badges = {}
    for path in sorted(tree.glob("notebooks/*.ipynb")):
        text = path.read_text(encoding="utf-8")
        page = nbformat.reads(text, as_version=4)
        title, set_up = page.cells[:2]
        assert set_up.source == set_up_cell(path.stem, address)
        *_, before, about = title.source.split("\n\n")
        assert about.startswith("About ")
        link = f"https://colab.research.google.com/github/{address}/blob/main/notebooks/{path.name}"
        badges[path.stem] = f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({link})"
        assert (before == badges[path.stem]) == (address != colab.UNKNOWN)
        assert text.count("colab.research.google.com/github/") == (address != colab.UNKNOWN)
        assert text == nbformat.writes(page) + "\n"
    table = re.search(r"(?m)^\| notebook \|.*\n(\|.*\n)+", (tree / "README.md").read_text(encoding="utf-8"))[0]
    head, rule, *rows = (line[1:-1].split("|") for line in table.splitlines())
    assert [re.search(r"\[(\w+)\]", row[0])[1] for row in rows] == list(badges)
    if address == colab.UNKNOWN:
        assert {len(row) for row in (head, rule, *rows)} == {3} and "colab" not in table
    else:
        assert {len(row) for row in (head, rule, *rows)} == {4}
        assert [row[3].strip() for row in rows] == list(badges.values())


def test_the_address_is_the_same_everywhere(tree):
    check(tree, colab.read_address(tree))


def test_the_command_writes_the_address_everywhere_and_takes_it_out_again(tree, capsys):
    colab.write_address(tree, colab.UNKNOWN)
    check(tree, colab.UNKNOWN)
    before = contents(tree)
    for address in ("Some-One/a.name", "another/one"):
        assert len(colab.write_address(tree, address)) == len(before)
        assert f"README.md: {address}" in capsys.readouterr().out
        check(tree, address)
        assert not colab.write_address(tree, address), "the second time nothing changes"
        assert capsys.readouterr().out == f"The address is {address} everywhere already.\n"
    assert not any(word in text for text in contents(tree).values() for word in ("Some-One", "<owner>"))
    colab.write_address(tree, colab.UNKNOWN)
    assert contents(tree) == before


def test_the_command_changes_nothing_else_in_a_notebook(tree):
    colab.write_address(tree, colab.UNKNOWN)
    before = contents(tree)
    colab.write_address(tree, "me/mine")
    for name, text in contents(tree).items():
        if name.endswith(".ipynb"):
            old, new = json.loads(before[name]), json.loads(text)
            for page in (old, new):
                for cell in page["cells"][:2]:
                    del cell["source"]
            assert old == new


def test_a_notebook_from_elsewhere_gets_the_address_too(tree):
    colab.write_address(tree, "me/mine")
    name = f"notebooks/{NOTEBOOKS[0].name}"
    foreign = contents(tree)[name].replace("me/mine", "you/yours")
    (tree / name).write_bytes(foreign.encode())
    assert colab.write_address(tree, "me/mine") == [tree / name]
    check(tree, "me/mine")


@pytest.mark.parametrize("name", ["README.md", "pyproject.toml"])
def test_line_ends_stay(tree, name):
    colab.write_address(tree, colab.UNKNOWN)
    windows = contents(tree)[name].replace("\n", "\r\n")
    (tree / name).write_bytes(windows.encode())
    colab.write_address(tree, "me/mine")
    assert contents(tree)[name].count("\n") == contents(tree)[name].count("\r\n") == windows.count("\n")
    check(tree, "me/mine")
    colab.write_address(tree, colab.UNKNOWN)
    assert contents(tree)[name] == windows


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
    check(tree, "an-owner/name.x")
    assert not any("secret" in text for text in contents(tree).values())


@needs_git
@pytest.mark.parametrize("password", ["secret", "se@secret"])
def test_without_an_origin_it_must_be_named(tree, password):
    with pytest.raises(ValueError, match="no git origin"):
        colab.write_address(tree)
    subprocess.run(["git", "-C", tree, "init", "-q"], check=True)
    with pytest.raises(ValueError, match="no git origin"):
        colab.write_address(tree)
    url = f"https://me:{password}@gitlab.com/a/b"
    subprocess.run(["git", "-C", tree, "remote", "add", "origin", url], check=True)
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


NO_ADDRESSES = ["", "a", "a/", "/b", "a/b/c", "-a/b", "a/b c", 'a/b"', "a/$b", "a/..", "<me>/b", "a/.git", "a/b\n"]


@pytest.mark.parametrize("name", NO_ADDRESSES)
def test_what_is_no_address_is_refused(tree, name):
    before = contents(tree)
    with pytest.raises(ValueError, match="wanted owner/name"):
        colab.write_address(tree, name)
    assert contents(tree) == before


# The command line


def test_the_command_works_on_a_checkout_only(tree):
    __main__.main(["colab", "me/mine"], root=tree)
    check(tree, "me/mine")
    __main__.main(["colab", "<owner>/pixelcnn"], root=tree)
    check(tree, colab.UNKNOWN)
    with pytest.raises(SystemExit, match="colab: wanted owner/name"):
        __main__.main(["colab", "mine"], root=tree)
    with pytest.raises(SystemExit, match="no notebook is called 99"):
        __main__.main(["notebooks", "99"], root=tree)
    with pytest.raises(SystemExit, match="repository's own files"):
        __main__.main(["colab", "me/mine"], root=tree / "notebooks")
