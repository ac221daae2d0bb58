"""The repository's address, in the three places that need it: pyproject.toml (its home), Colab badges, set-up cells."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

UNKNOWN = "<owner>/pixelcnn"  # angle brackets: no account can be called that
NAME = r"[^/\s\"\\]+/[^/\s\"\\]+"  # owner/name, inside an address
HOME = re.compile(rf'(?m)^(Repository = "https://github\.com/)({NAME})(?=")')
GITHUB = re.compile(r"(?i)^(https?://([^/@]*@)?(www\.)?github\.com/|(ssh://)?git@(ssh\.)?github\.com(:\d+)?[/:])")
PLACES = (
    HOME,
    re.compile(rf"(https://colab\.research\.google\.com/github/)({NAME})(?=/blob/main/notebooks/)"),
    re.compile(rf'(REPOSITORY = \\?"https://github\.com/)({NAME})(?=\\?")'),  # in a notebook's JSON: \"
)


def write_address(root: Path, address: str | None = None) -> list[Path]:
    """Write `owner/name` (None: git's origin) wherever the repository's address stands; returns the files it changed.

    Also replaces the old address in any other link to it. Raises ValueError where there is no usable address.
    """
    new, old = origin(root) if address is None else owner_and_name(address), read_address(root)
    link = re.compile(rf"(github\.com[/:])({re.escape(old)})(?![\w-]|\.(?!git\b)\w)")
    changed = []
    for path in (root / "pyproject.toml", root / "README.md", *sorted(root.glob("notebooks/*.ipynb"))):
        before = after = path.read_bytes().decode()  # bytes: line ends stay as they are
        for place in (*PLACES, link):
            after = place.sub(rf"\g<1>{new}", after)
        if after != before:
            path.write_bytes(after.encode())
            changed.append(path)
            print(f"{path.relative_to(root)}: {new}")
    if not changed:
        print(f"The address is {new} everywhere already.")
    return changed


def read_address(root: Path) -> str:
    """`owner/name` as pyproject.toml has it."""
    found = HOME.search((root / "pyproject.toml").read_text(encoding="utf-8"))
    if not found:
        raise ValueError('pyproject.toml has no line Repository = "https://github.com/owner/name"')
    return found[2]


def origin(root: Path) -> str:
    """`owner/name` of git's origin."""
    try:
        top, url = (
            subprocess.run(["git", "-C", root, *command], capture_output=True, text=True, check=True).stdout.strip()
            for command in (["rev-parse", "--show-toplevel"], ["remote", "get-url", "origin"])
        )
    except (OSError, subprocess.CalledProcessError):
        top = url = ""
    if not top or not Path(top).samefile(root):  # the origin of a repository around this one would be another's
        raise ValueError("there is no git origin to take the address from: name it, as owner/name")
    try:
        return owner_and_name(url)
    except ValueError as error:
        raise ValueError(f"git's origin gives no address: {error}") from None


def owner_and_name(address: str) -> str:
    """`owner/name` out of itself or of a GitHub address, https or ssh. Raises ValueError for anything else."""
    short = GITHUB.sub("", address).removesuffix("/").removesuffix(".git")
    if short == UNKNOWN or re.fullmatch(r"(?a:[a-z\d](-?[a-z\d_])*/(?!\.{1,2}$)[\w.-]{1,100})", short, re.I):
        return short
    # An https address can hold a password: what stands before the @ is not repeated.
    raise ValueError(f"wanted owner/name on github.com, or its address, got {re.sub(r'//[^/@]*@', '//', address)!r}")
