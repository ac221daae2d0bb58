"""The notebooks as committed pages: run from a fresh kernel, and clean of all that differs from run to run."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

from ..checkpoint import write_atomically

WIDGET = "application/vnd.jupyter.widget-view+json"
PROGRESS = re.compile(r"\[\d+:\d\d(:\d\d)?[<,]")  # tqdm's "[00:01<00:05, 3.1it/s]"
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")  # <Axes at 0x7f…>
CELL_TIMEOUT = 600  # seconds


def run_all(root: Path, names: list[str]) -> None:
    """Run the notebooks whose names begin with one of `names` (none: all) and write them back, cleaned.

    Raises ValueError for a name that fits no notebook; nbclient's CellExecutionError for a cell that fails without the
    tag raises-exception: its notebook stays as it was.
    """
    there = sorted(root.glob("notebooks/*.ipynb"))
    chosen = [path for path in there if not names or path.stem.startswith(tuple(map(short, names)))]
    unknown = [name for name in names if not any(path.stem.startswith(short(name)) for path in there)]
    if unknown or not there:
        listed = ", ".join(path.stem for path in there) or "none"
        raise ValueError(f"no notebook is called {', '.join(unknown) or 'anything'}: there are {listed}")
    for path in chosen:
        print(f"{path.stem:<24}", end="", flush=True)
        print(f"{run(path, root):6.1f} s", flush=True)


def short(name: str) -> str:
    """`notebooks/01_masks.ipynb` is as good a name as `01_masks`."""
    return Path(name).name.removesuffix(".ipynb")


def run(path: Path, root: Path) -> float:
    """Run one notebook in place, in its own folder; returns the seconds it took."""
    import nbformat
    from nbclient import NotebookClient

    page = nbformat.read(path, as_version=4)
    client = NotebookClient(
        page,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],  # it warns that its loopback sockets are not encrypted
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        store_widget_state=False,
    )
    began = time.perf_counter()
    client.execute(env={"PIXELCNN_PROFILE": "quick", **os.environ})
    seconds = time.perf_counter() - began
    clean(page, machine_folders(root))
    nbformat.validate(page)
    write_atomically(path, nbformat.writes(page) + "\n")
    return seconds


def machine_folders(root: Path) -> tuple[Path, ...]:
    """What tracebacks would tell of this machine: the checkout, Python's own folder and the user's, the way IPython
    writes them too, beginning with `~`."""
    home, folders = Path.home(), (root, Path(sys.prefix))
    return *folders, *(Path("~", path.relative_to(home)) for path in folders if path.is_relative_to(home)), home


def clean(page: dict, folders: tuple[Path, ...] = ()) -> dict:
    """Take out of a notebook, in place, what is of one run, one machine or one editor; `folders` leave no trace.

    A warning on stderr stays: it must be mended, not hidden.
    """
    kept = {key: page["metadata"][key] for key in ("accelerator", "colab") if key in page["metadata"]}  # Colab's GPU
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    page["metadata"] = {**kept, "kernelspec": kernel, "language_info": {"name": "python"}}
    for cell in page["cells"]:
        cell["metadata"] = {key: cell["metadata"][key] for key in ("tags", "jupyter") if key in cell["metadata"]}
        if cell["cell_type"] == "code":
            cell["outputs"] = joined([output for output in cell["outputs"] if clean_output(output, folders)])
    return page


def joined(outputs: list[dict]) -> list[dict]:
    """Printed text in one piece: where it was cut is an accident of timing."""
    whole: list[dict] = []
    for output in outputs:
        if whole and output["output_type"] == "stream" and output["name"] == whole[-1].get("name"):
            whole[-1]["text"] += output["text"]
        else:
            whole.append(output)
    return whole


def clean_output(output: dict, folders: tuple[Path, ...]) -> bool:
    """Clean one output in place; says whether anything is left of it."""

    def plain(text: str) -> str:
        for folder in folders:
            text = text.replace(f"{folder}{os.sep}", "")
        return ADDRESS.sub("", text)

    if output["output_type"] == "stream":
        lines = output["text"] if output["name"] == "stdout" else without_progress(output["text"])
        output["text"] = plain(lines)
        return bool(output["text"])
    if output["output_type"] == "error":
        output["evalue"], output["traceback"] = plain(output["evalue"]), [plain(line) for line in output["traceback"]]
        return True
    data = output["data"]
    if data.pop(WIDGET, None) is not None and set(data) <= {"text/plain"}:
        return False  # what remains is the widget's repr
    for kind in ("text/plain", "text/html", "text/markdown"):
        if kind in data:
            data[kind] = plain(data[kind])
    return True


def without_progress(text: str) -> str:
    """The lines of stderr that are not a progress bar's."""
    lines = re.split(r"[\r\n]+", text)
    return "".join(f"{line}\n" for line in lines if line.strip() and not PROGRESS.search(line))
