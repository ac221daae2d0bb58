"""The package's structure: a flat core and three wings, and which of them may import which."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pixelcnn_helpers"
WINGS = ("page", "studies", "workshop")
MAY_IMPORT = {
    "core": {"core"},
    "studies": {"core", "studies"},
    "page": {"core", "studies", "page"},
    "workshop": {"core", "studies", "page", "workshop"},
    "__main__": {"core", "workshop"},
}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
}


def part_of(module: str) -> str:
    """The wing of a module, or "core"; `__main__` stands alone."""
    first = module.split(".")[0]
    return first if first in (*WINGS, "__main__") else "core"


def imports(module: str) -> set[str]:
    """The modules of the package that a module imports, anywhere in its file."""
    folders = module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folders[: len(folders) - node.level + 1] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                inner = ".".join([*base, alias.name])
                found.add(inner if inner in MODULES else ".".join(base))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            assert not any(name.startswith("pixelcnn_helpers") for name in names), f"{module}: import relatively"
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_what_its_place_allows(module):
    others = {part_of(other) for other in imports(module)}
    assert others <= MAY_IMPORT[part_of(module)], f"{module} imports {sorted(imports(module))}"


def test_no_module_imports_itself_by_way_of_others():
    TopologicalSorter({module: imports(module) for module in MODULES}).prepare()  # raises CycleError


def test_the_core_is_the_layout_that_the_readme_tells():
    core = {"layers", "models", "caching", "likelihood", "sampling", "causality", "training", "data", "pretrained"}
    assert {module for module in MODULES if part_of(module) == "core"} == core | {"checks", "checkpoint", "muon"}


def loaded_by(code: str) -> set[str]:
    """The modules in memory after some code in a fresh interpreter."""
    code += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return set(done.stdout.split())


def test_importing_the_package_loads_the_core_alone():
    loaded = loaded_by("import pixelcnn_helpers")
    assert not loaded & {"accelerate", "ipywidgets", "IPython", "matplotlib", "torchvision", "sklearn"}
    assert not [name for name in loaded if name.startswith(tuple(f"pixelcnn_helpers.{wing}" for wing in WINGS))]


def test_loading_a_model_of_the_core_loads_no_wing():
    loaded = loaded_by("import pixelcnn_helpers as pch; pch.load_pretrained('conditional-mnist')")
    assert not [name for name in loaded if name.startswith(tuple(f"pixelcnn_helpers.{wing}" for wing in WINGS))]


def test_a_name_of_a_wing_loads_no_workshop():
    loaded = loaded_by("import pixelcnn_helpers as pch; pch.sample_between, pch.class_slider, pch.start")
    assert "pixelcnn_helpers.page.sliders" in loaded
    assert not [name for name in loaded if name.startswith("pixelcnn_helpers.workshop")]


def test_a_name_that_is_not_there():
    import pixelcnn_helpers

    with pytest.raises(AttributeError, match="'pixelcnn_helpers' has no attribute 'walk'"):
        _ = pixelcnn_helpers.walk


def test_the_public_names_are_there_and_listed_once():
    import pixelcnn_helpers

    assert sorted(set(pixelcnn_helpers.__all__)) == pixelcnn_helpers.__all__
    assert all(getattr(pixelcnn_helpers, name) for name in pixelcnn_helpers.__all__)
