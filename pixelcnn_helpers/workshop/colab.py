"""The command `colab` writes the repository's address into pyproject.toml, the README and the notebooks.

The address stands in pyproject.toml, in the notebooks' set-up cells and in their Colab badges. There are badges only
while the address is known.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

UNKNOWN = "<owner>/pixelcnn"  # no GitHub account can have a name with angle brackets
GITHUB = re.compile(r"(?i)^(https?://([^/@]*@)?(www\.)?github\.com/|(ssh://)?git@(ssh\.)?github\.com(:\d+)?[/:])")
HOME = re.compile(r'(?m)^Repository = "https://github\.com/([^/\s"]+/[^/\s"]+)"')
INSTALL = re.compile(r'(%pip install .*"git\+https://github\.com/)[^"]+(?=")')

# HEAD matches the first two lines of the README's table, ROW matches a notebook's line. Both match with and without
# the column of badges.
HEAD = re.compile(r"(?m)^(\| notebook \|.*?\|)( \|)?(\r?\n)((?:\|-+){3}\|)(?:-+\|)?(?=\r?$)")
ROW = re.compile(r"(?m)^(\| \[\w+\]\((notebooks/\w+\.ipynb)\) \|.*?\|)( \[!\[Open in Colab\].*\|)?(?=\r?$)")


def write_address(root: Path, address: str | None = None) -> list[Path]:
    """Write the repository's address, `owner/name`, into all files that hold it.

    `None` takes the address from git's origin. The placeholder `<owner>/pixelcnn` takes the badges out again. Other
    GitHub links to the old address are changed too. Returns the changed files, and raises ValueError where `address`
    or git's origin is no GitHub repository.
    """
    new = origin(root) if address is None else owner_and_name(address)
    old = re.escape(read_address(root))
    link = re.compile(rf"(github\.com[/:]){old}(?![\w-]|\.(?!git\b)\w)")
    changed = []
    for path in (root / "pyproject.toml", root / "README.md", *sorted(root.glob("notebooks/*.ipynb"))):
        before = path.read_bytes().decode()  # read_text would change the line ends
        after = link.sub(rf"\g<1>{new}", before)
        if path.name == "README.md":
            after = stamp_readme(after, new)
        elif path.suffix == ".ipynb":
            after = stamp_notebook(after, path.name, new)
        if after != before:
            path.write_bytes(after.encode())
            changed.append(path)
            print(f"{path.relative_to(root)}: {new}")
    if not changed:
        print(f"The address is {new} everywhere already.")
    return changed


def stamp_readme(text: str, address: str) -> str:
    """The README with a column of badges in its table of notebooks, or without one for the placeholder."""
    if address == UNKNOWN:
        return ROW.sub(r"\1", HEAD.sub(r"\1\3\4", text))
    text = HEAD.sub(r"\1 |\3\4---|", text)
    return ROW.sub(lambda row: f"{row[1]} {badge(address, row[2])} |", text)


def stamp_notebook(text: str, name: str, address: str) -> str:
    """A notebook's JSON with the address in its set-up cell and the badge in its title cell.

    The badge is the last paragraph but one of the title cell. The placeholder has no badge.
    """
    page = json.loads(text)
    for number, cell in enumerate(page["cells"]):
        source = "".join(cell["source"])
        if "setup" in cell["metadata"].get("tags", []):
            source = INSTALL.sub(rf"\g<1>{address}", source)
        if number == 0 and cell["cell_type"] == "markdown":
            paragraphs = [part for part in source.split("\n\n") if not part.startswith("[![Open in Colab]")]
            if address != UNKNOWN:
                paragraphs.insert(max(1, len(paragraphs) - 1), badge(address, f"notebooks/{name}"))
            source = "\n\n".join(paragraphs)
        cell["source"] = source.splitlines(keepends=True)
    return json.dumps(page, ensure_ascii=False, indent=1) + "\n"  # formatted as nbformat does


def badge(address: str, path: str) -> str:
    """The Markdown of a picture that opens the notebook at `path` in Colab."""
    link = f"https://colab.research.google.com/github/{address}/blob/main/{path}"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({link})"


def read_address(root: Path) -> str:
    """`owner/name` as pyproject.toml has it."""
    found = HOME.search((root / "pyproject.toml").read_text(encoding="utf-8"))
    if not found:
        raise ValueError('pyproject.toml has no line Repository = "https://github.com/owner/name"')
    return found[1]


def origin(root: Path) -> str:
    """`owner/name` of git's origin. Raises ValueError where there is none on GitHub."""
    try:
        top = git(root, "rev-parse", "--show-toplevel")
        url = git(root, "remote", "get-url", "origin")
    except (OSError, subprocess.CalledProcessError):
        top = url = ""
    if not top or not Path(top).samefile(root):  # a repository around this one has the address of another project
        raise ValueError("there is no git origin to take the address from: name it, as owner/name")
    try:
        return owner_and_name(url)
    except ValueError as error:
        raise ValueError(f"git's origin gives no address: {error}") from None


def git(root: Path, *arguments: str) -> str:
    """What git prints in the folder `root`."""
    done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def owner_and_name(address: str) -> str:
    """`owner/name` from `owner/name` itself or from a GitHub address, https or ssh. Raises ValueError otherwise."""
    short = GITHUB.sub("", address).removesuffix("/").removesuffix(".git")
    if short == UNKNOWN or re.fullmatch(r"(?a:[a-z\d](-?[a-z\d_])*/(?!\.{1,2}$)[\w.-]{1,100})", short, re.I):
        return short
    # An https address can hold a password, so the error message leaves out what stands before the last @.
    raise ValueError(f"wanted owner/name on github.com, or its address, got {re.sub(r'//[^/]*@', '//', address)!r}")
