"""The repository as a whole: what lies where, what depends on what, and what the package needs."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

import pixelcnn_helpers
from pixelcnn_helpers.studies.records import records_markdown
from pixelcnn_helpers.workshop.tables import networks_markdown

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
README = (ROOT / "README.md").read_text(encoding="utf-8")

def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what belongs to the repository is not known")
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True)
    return listed.stdout.rstrip("\0").split("\0")


def test_the_top_level_holds_nothing_else():
    folders = {"notebooks", "pixelcnn_helpers", "tests", "figures", "checkpoints", ".ci", ".github"}
    files = {"README.md", "LICENSE", "CITATION.cff", "pyproject.toml", "environment.yml", "Makefile"}
    files |= {".gitignore", ".gitattributes"}
    assert {name.split("/")[0] for name in tracked()} <= folders | files


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
    assert from_pip["pip"] == ["-e .[notebooks]"] and "notebooks" in EXTRAS


def test_readers_can_validate_the_notebooks():
    assert "nbval" in {Requirement(text).name for text in EXTRAS["notebooks"]}


def test_each_package_has_one_bound():
    texts = {*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)}
    names = [Requirement(text).name for text in texts]
    assert len(names) == len(set(names)), "two extras name a package with different bounds"


def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    def files(folder: Path) -> set[str]:
        paths = (folder / "pixelcnn_helpers").rglob("*")
        return {str(path.relative_to(folder)) for path in paths if path.is_file()}

    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", ".*", "*.part")
    shutil.copytree(ROOT / "pixelcnn_helpers", source / "pixelcnn_helpers", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    wanted = files(source)
    build = "import sys, setuptools.build_meta as backend; print(backend.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=source, capture_output=True, check=True)
    (wheel,) = tmp_path.glob(f"pixelcnn_helpers-{PROJECT['version']}-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "unpacked")
    assert files(tmp_path / "unpacked") == wanted
    assert {"page", "studies", "workshop", "weights", "measurements"} <= {Path(name).parts[1] for name in wanted}


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert README.startswith(f"# {citation['title']}\n")
    copyright = (ROOT / "LICENSE").read_text(encoding="utf-8").splitlines()[2]
    assert copyright == f"Copyright (c) {citation['date-released'].year} {citation['authors'][0]['name']}"


# The README


def test_the_readme_links_to_files_that_exist():
    links = re.findall(r"\]\(([^)#\s]+)", README)
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_the_readme_links_to_headings_that_exist():
    links = re.findall(r"\]\((notebooks/\w+\.ipynb)#([^)\s]+)\)", README)
    for name, anchor in links:
        cells = nbformat.read(ROOT / name, as_version=4).cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        headings = [heading.replace(" ", "-") for heading in re.findall(r"(?m)^#+ (.+)$", prose)]
        assert anchor in headings, f"{name} has no heading {anchor}"
    assert links


def test_the_readme_says_what_the_cards_say():
    for table in (networks_markdown(), records_markdown()):
        assert f"\n\n{table}\n\n" in README, "python -m pixelcnn_helpers tables writes it anew"


def test_the_readme_lists_the_notebooks_that_exist():
    row = r"(?m)^\| *\[(\w+)\]\((notebooks/\w+\.ipynb)\) *\| *([^|]+?) *\| *(\d+) s *\|"  # and perhaps a badge
    rows, wanted = re.findall(row, README), []
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        name, first = f"notebooks/{path.name}", nbformat.read(path, as_version=4).cells[0].source
        seconds = re.search(r"(?m)^About (\d+) s", first)[1]
        wanted.append((path.stem, name, first.splitlines()[0].removeprefix("# "), seconds))
    assert wanted and rows == wanted
