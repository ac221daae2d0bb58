"""The notebooks as pages: what every committed one keeps to, and the command that runs and cleans them."""

import base64
import copy
import re
from pathlib import Path

import nbformat
import pytest
from conftest import set_up_cell
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from pixelcnn_helpers.workshop import pages
from pixelcnn_helpers.workshop.colab import read_address

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TAGS = {"nbval-check-output", "nbval-ignore-output", "nbval-skip", "raises-exception", "hide-input"}
TAGS |= {"setup", "slider", "exercise", "check"}

# The rules: each takes a notebook and its path, and yields what is wrong with it.


def code(page) -> list:
    return [cell for cell in page.cells if cell.cell_type == "code"]


def prose(page) -> str:
    return "\n\n".join(cell.source for cell in page.cells if cell.cell_type == "markdown")


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def outputs(page) -> list:
    return [output for cell in code(page) for output in cell.outputs]


def shown(page) -> list[str]:
    """All text that outputs hold; pictures are not text."""
    found = []
    for output in outputs(page):
        found += [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
        found += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return found


def is_in_order(page, path):
    counts = [cell.execution_count for cell in code(page)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts {counts}"


def fails_only_on_purpose(page, path):
    for number, cell in enumerate(code(page), 1):
        if ("raises-exception" in tags(cell)) != any(output.output_type == "error" for output in cell.outputs):
            yield f"cell [{number}] has an error without the tag raises-exception, or the tag without an error"


def has_no_warnings(page, path):
    yield from (output.text[:200] for output in outputs(page) if output.get("name") == "stderr")


def has_no_widgets(page, path):
    if "widgets" in page.metadata:
        yield "metadata.widgets"
    if any(pages.WIDGET in output.get("data", {}) for output in outputs(page)):
        yield "a widget that nothing stands behind"


def has_png_pictures_with_words(page, path):
    for output in outputs(page):
        for kind, data in output.get("data", {}).items():
            if kind.startswith("image/"):
                if kind != "image/png" or not base64.b64decode(data).startswith(b"\x89PNG"):
                    yield f"a picture that is no PNG: {kind}"
                if len(output.metadata.get(kind, {}).get("alt", "")) < 20:
                    yield f"a picture without alt text of 20 characters: {data[:40]}…"
    for text in [prose(page), *shown(page)]:
        yield from (f"another format: {found}" for found in re.findall(r"<svg|data:image/(?!png)\w+", text))
        yield from (f"no alt text: {tag}" for tag in re.findall(r'<img\b(?![^>]*\balt="[^"])[^>]*>', text))
        for alt, target in re.findall(r"!\[(.*?)\]\((\S+?)\)", text):
            if not alt.strip():
                yield f"no alt text: {target}"
            if "://" not in target and not target.endswith(".png"):
                yield f"another format: {target}"


def is_small(page, path):
    size = len(nbformat.writes(page).encode())
    if size > 1.5e6:
        yield f"{size / 1e6:.2f} MB, over 1.5 MB"


def has_known_tags(page, path):
    yield from (f"unknown tag {tag}" for cell in page.cells for tag in tags(cell) if tag not in TAGS)


def has_short_cells(page, path):
    lengths = []
    for cell in code(page):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        lengths.append(len(lines))
        most = 40 if any(line.startswith("class ") for line in lines) else 30
        if len(lines) > most:
            yield f"{len(lines)} lines, over {most}: {lines[0]}"
    if sum(length <= 8 for length in lengths) * 2 < len(lengths):
        yield f"more than half of the cells are longer than 8 lines: {sorted(lengths)}"


def begins_as_all_do(page, path):
    """One set-up cell, the same in every notebook but for the notebook's name."""
    cells = [number for number, cell in enumerate(page.cells) if "setup" in tags(cell)]
    if cells != [1]:
        yield f"the set-up cell is not the second, or there are several: {cells}"
    elif page.cells[1].source != set_up(path.stem):
        yield "the set-up cell differs from the first notebook's, or starts another"


def set_up(name: str) -> str:
    return set_up_cell(name, read_address(FOLDER.parent))


def has_a_title(page, path):
    first = page.cells[0].source if page.cells[0].cell_type == "markdown" else ""
    if not re.match(r"# .*\?\n", first):
        yield "the title is no question"
    if not re.search(r"(?m)^About \d+ s on two CPU cores\b", first):
        yield "no line that begins with: About … s on two CPU cores"


def has_exercises(page, path):
    """At least two, each with a check and a folded solution before the next heading."""
    headings = [i for i, cell in enumerate(page.cells) if cell.cell_type == "markdown" and cell.source.startswith("#")]
    found = [i for i in headings if "Exercise" in page.cells[i].source.splitlines()[0]]
    if len(found) < 2:
        yield f"{len(found)} exercises"
    for start in found:
        cells = page.cells[start : min([i for i in headings if i > start], default=len(page.cells))]
        if not any("check" in tags(cell) for cell in cells):
            yield f"no check: {cells[0].source[:60]}"
        if not any("<details>" in cell.source for cell in cells):
            yield f"no solution: {cells[0].source[:60]}"


def has_an_end(page, path):
    last = page.cells[-1].source if page.cells[-1].cell_type == "markdown" else ""
    if "What you can now do" not in last:
        yield "the last cell does not say: What you can now do"
    later = [other.name for other in NOTEBOOKS if other.name > path.name]
    if later and f"]({later[0]})" not in last:
        yield f"the last cell has no link to {later[0]}"


def links_to_what_is_there(page, path):
    for link in re.findall(r'\]\(([^)\s]+)|(?:href|src)="([^"]+)"', prose(page)):
        target = "".join(link).split("#")[0]
        if target and not re.match(r"\w+:", target) and not (path.parent / target).exists():
            yield f"a link to {target}, which does not exist"


def tells_nothing_of_a_machine(page, path):
    for text in [*(cell.source for cell in page.cells), *shown(page)]:
        yield from re.findall(r"(?<![\w.~])/(?:work|root|home|Users|tmp|opt|usr)\b\S*", text)
        yield from re.findall(r"\b(?:pypi|pythonhosted|anaconda)\.\w+|--(?:extra-)?index-url", text)
        yield from re.findall(r"0x[0-9a-f]{8,}", text)


def is_clean(page, path):
    """What the command `notebooks` would take out is not in it."""
    if pages.clean(copy.deepcopy(page)) != page:
        yield "not as `make notebooks` leaves it"


RULES = [
    is_in_order,
    fails_only_on_purpose,
    has_no_warnings,
    has_no_widgets,
    has_png_pictures_with_words,
    is_small,
    has_known_tags,
    has_short_cells,
    begins_as_all_do,
    has_a_title,
    has_exercises,
    has_an_end,
    links_to_what_is_there,
    tells_nothing_of_a_machine,
    is_clean,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_page_keeps_to(rule, path):
    wrong = list(rule(nbformat.read(path, as_version=4), path))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_page_is_valid_and_formatted_as_jupyter_does(path):
    page = nbformat.read(path, as_version=4)
    nbformat.validate(page)
    assert path.read_text(encoding="utf-8") == nbformat.writes(page) + "\n"


# Negative controls: a page that keeps to every rule, and what breaks each of them.

EXAMPLE = FOLDER / "00_example.ipynb"
PNG = base64.b64encode(b"\x89PNG and so on").decode()
ALT = {"image/png": {"alt": "three words, and then some more"}}


def example():
    cells = [
        new_markdown_cell("# Why?\n\nAbout 5 s on two CPU cores."),
        new_code_cell(set_up(EXAMPLE.stem), metadata={"tags": ["setup"]}),
        new_code_cell("show()", outputs=[picture()]),
        new_code_cell("1", outputs=[printed("in models.py, as a/root/of it")]),
    ]
    for number in (1, 2):
        cells += [
            new_markdown_cell(f"## Exercise {number}: do it\n\nSee [the README](../README.md)."),
            new_code_cell("answer = None", metadata={"tags": ["exercise"]}),
            new_code_cell("answer", metadata={"tags": ["check"]}),
            new_markdown_cell("<details><summary>Solution</summary>None</details>"),
        ]
    cells.append(new_markdown_cell(f"## What you can now do\n\n[Next]({NOTEBOOKS[0].name})"))
    page = new_notebook(cells=cells)
    for number, cell in enumerate(code(page), 1):
        cell.execution_count = number
    return pages.clean(page)


def error():
    return new_output("error", ename="E", evalue="e", traceback=["e"])


def printed(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def picture(kind="image/png", data=PNG, metadata=ALT):
    return new_output("display_data", {kind: data}, metadata=metadata)


def doctored(*rules_and_changes):
    return [pytest.param(rule, change, id=f"{rule.__name__}-{i}") for i, (rule, change) in enumerate(rules_and_changes)]


def replaced(cell, old, new):
    """A change of one cell's source, which must be one."""

    def change(page):
        assert old in page.cells[cell].source
        page.cells[cell].source = page.cells[cell].source.replace(old, new)

    return change


def added(output):
    return lambda page: page.cells[2].outputs.append(output)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_example_keeps_to(rule):
    assert not list(rule(example(), EXAMPLE))


@pytest.mark.parametrize(
    ("rule", "change"),
    doctored(
        (is_in_order, lambda page: page.cells[2].update(execution_count=7)),
        (is_in_order, lambda page: page.cells[2].update(execution_count=None)),
        (fails_only_on_purpose, added(error())),
        (fails_only_on_purpose, lambda page: page.cells[2].metadata.update(tags=["raises-exception"])),
        (has_no_warnings, added(printed("UserWarning: careful", "stderr"))),
        (has_no_widgets, lambda page: page.metadata.update(widgets={})),
        (has_no_widgets, added(picture(pages.WIDGET, {"model_id": "1"}, {}))),
        (has_png_pictures_with_words, added(picture(metadata={}))),
        (has_png_pictures_with_words, added(picture(metadata={"image/png": {"alt": "too short"}}))),
        (has_png_pictures_with_words, added(picture("image/jpeg", metadata={"image/jpeg": ALT["image/png"]}))),
        (has_png_pictures_with_words, added(picture(data=base64.b64encode(b"GIF89a").decode()))),
        (has_png_pictures_with_words, added(new_output("display_data", {"text/html": "<svg></svg>"}))),
        (has_png_pictures_with_words, added(new_output("display_data", {"text/html": '<img src="x.png">'}))),
        (has_png_pictures_with_words, replaced(4, "See ", "![](../figures/x.png)")),
        (has_png_pictures_with_words, replaced(4, "See ", "![a drawing](x.svg)")),
        (is_small, added(printed("a" * 1_500_000))),
        (has_known_tags, lambda page: page.cells[2].metadata.update(tags=["nbval-check-ouput"])),
        (has_short_cells, replaced(2, "show()", "show()\n" * 31)),
        (has_short_cells, replaced(2, "show()", "class A:\n" + "    x = 1\n" * 40)),
        (has_short_cells, lambda page: [cell.update(source="1\n\n" * 9) for cell in page.cells[2:]]),
        (begins_as_all_do, replaced(1, "--no-deps ", "")),
        (begins_as_all_do, replaced(1, EXAMPLE.stem, "01_masks")),
        (begins_as_all_do, lambda page: page.cells.pop(1)),
        (has_a_title, replaced(0, "Why?", "Why")),
        (has_a_title, replaced(0, "About 5 s", "About a while")),
        (has_exercises, replaced(4, "Exercise", "Task")),
        (has_exercises, lambda page: page.cells[6].metadata.update(tags=[])),
        (has_exercises, replaced(7, "details>", "div>")),
        (has_an_end, replaced(-1, "What you can now do", "The end")),
        (has_an_end, replaced(-1, NOTEBOOKS[0].name, "../README.md")),
        (links_to_what_is_there, replaced(4, "README.md", "README.txt")),
        (links_to_what_is_there, replaced(4, "See", '<img alt="a" src="nothing.png">')),
        (tells_nothing_of_a_machine, added(printed("saved to /home/me/x"))),
        (tells_nothing_of_a_machine, added(printed("<Axes at 0x7f0123456789>"))),
        (tells_nothing_of_a_machine, replaced(2, "show()", "open('/root/x')")),
        (is_clean, lambda page: page.cells[2].metadata.update(execution={"iopub.status.busy": "now"})),
        (is_clean, lambda page: page.metadata.language_info.update(version="3.11.7")),
        (is_clean, added(printed("fit:  50%|###  | 1/2 [00:01<00:01,  1.0it/s]", "stderr"))),
    ),
)
def test_a_broken_page_is_caught(rule, change):
    page = example()
    change(page)
    assert list(rule(page, EXAMPLE))


def test_every_rule_has_a_negative_control():
    marks = next(mark for mark in test_a_broken_page_is_caught.pytestmark if mark.name == "parametrize")
    assert {parameter.values[0] for parameter in marks.args[1]} == set(RULES)


# The command


def test_cleaning_twice_changes_nothing_more():
    page = example()
    page.cells[2].outputs += [
        printed("\r 50%|###  | 1/2 [00:01<00:01,  1.0it/s]\rUserWarning: careful\n", "stderr"),
        printed("<Axes at 0x7f0123456789>"),
        new_output("display_data", {pages.WIDGET: {}, "text/plain": "IntSlider()"}),
        printed(" in /a/b/c.py"),
        new_output("display_data", {pages.WIDGET: {}, "text/plain": "Image()", "image/png": PNG}, metadata=ALT),
        new_output("error", ename="E", evalue="/a/b/x", traceback=["in /a/b/c.py", "at <f at 0x7f0123456789>"]),
    ]
    page.metadata.update(accelerator="GPU", widgets={}, vscode={})
    cleaned = pages.clean(page, (Path("/a/b"),))
    _, warning, text, image, failure = cleaned.cells[2].outputs
    assert warning.text == "UserWarning: careful\n" and text.text == "<Axes> in c.py"
    assert set(image.data) == {"text/plain", "image/png"} and image.metadata == ALT
    assert failure.evalue == "x" and failure.traceback == ["in c.py", "at <f>"]
    assert set(cleaned.metadata) == {"accelerator", "kernelspec", "language_info"}
    assert pages.clean(copy.deepcopy(cleaned)) == cleaned


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with one notebook, not yet run."""
    monkeypatch.delenv("PIXELCNN_PROFILE", raising=False)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/helper.py").write_text("def fail(): raise ValueError('on purpose')\n")
    cells = [
        new_code_cell("import os, sys, time\nfrom pathlib import Path\nos.environ['PIXELCNN_PROFILE']"),
        new_code_cell("from tqdm import tqdm\nfor _ in tqdm(range(2)): time.sleep(0.2)"),
        new_code_cell("import ipywidgets\nipywidgets.IntSlider()"),
        new_code_cell("import helper\nhelper.fail()", metadata={"tags": ["raises-exception"], "scrolled": True}),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks/01_first.ipynb")
    return tmp_path


def test_a_notebook_is_run_in_place_and_cleaned(root, capsys):
    path = root / "notebooks/01_first.ipynb"
    before = nbformat.read(path, as_version=4)
    pages.run_all(root, ["notebooks/01_first.ipynb"])
    assert re.fullmatch(r"01_first +\d+\.\d s\n", capsys.readouterr().out)
    page = nbformat.read(path, as_version=4)
    assert [cell.id for cell in page.cells] == [cell.id for cell in before.cells]
    first, bar, slider, failure = page.cells
    assert first.outputs[0].data == {"text/plain": "'quick'"} and not bar.outputs and not slider.outputs
    assert failure.outputs[0].ename == "ValueError" and failure.metadata == {"tags": ["raises-exception"]}
    for rule in (is_in_order, fails_only_on_purpose, has_no_warnings, has_no_widgets, is_clean):
        assert not list(rule(page, path))
    assert str(root) not in path.read_text() and "helper.py" in path.read_text()
    assert path.read_text() == nbformat.writes(page) + "\n" and not list(root.rglob("*.part"))


def test_a_notebook_that_fails_stays_as_it_was(root):
    path = root / "notebooks/01_first.ipynb"
    page = nbformat.read(path, as_version=4)
    page.cells = [new_code_cell("1"), new_code_cell("raise ValueError('by accident')")]
    nbformat.write(page, path)
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="by accident"):
        pages.run_all(root, [])
    assert path.read_bytes() == before


def test_an_unknown_notebook_is_named(root):
    with pytest.raises(ValueError, match="no notebook is called 09: there are 01_first"):
        pages.run_all(root, ["01", "09"])
