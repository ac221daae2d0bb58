"""JupyterLab in a real Chromium, for tests that touch a notebook as its reader does."""

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nbformat
import psutil
import pytest

from pixelcnn_helpers.workshop.film import find_chromium

SECONDS = 60  # timeout for the page to show a change; a busy machine is slow
QUIET = 5  # the same, where a test expects no change
SETTINGS = {  # a question about news would cover the page; a cell out of sight would not be drawn
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}

# "Kernel idle" on the page does not mean that the kernel is ready, but an answer of the kernel does. From then on the
# page records its messages: `unanswered` holds those sent that the kernel and the page have not yet handled
# (iopubMessage comes after the handlers, anyMessage before them), `errors` what cells and callbacks raised.
READY = """async () => {
    const session = jupyterapp.shell.currentWidget.sessionContext;
    await session.ready;
    const kernel = session.session.kernel;
    await kernel.info;
    window.unanswered = new Set();
    window.errors = [];
    kernel.anyMessage.connect((_, {msg, direction}) => {
        if (direction === 'send' && msg.channel === 'shell') unanswered.add(msg.header.msg_id);
    });
    kernel.iopubMessage.connect((_, msg) => {
        if (msg.content.execution_state === 'idle') unanswered.delete(msg.parent_header.msg_id);
        if (msg.header.msg_type === 'error') errors.push(msg.content.traceback.join('\\n'));
    });
}"""
RUN_ALL = "async () => { await jupyterapp.commands.execute('notebook:run-all-cells') }"
ALL_RAN = """() => errors.length || unanswered.size === 0 && jupyterapp.shell.currentWidget.content.widgets.every(
    cell => cell.model.type !== 'code' || cell.model.executionCount || !cell.model.sharedModel.source.trim())"""
DECODED = """async image => {
    for (;;) {
        const src = image.src;
        try {
            await image.decode();  // raises for bytes that are no picture
            const bytes = new Uint8Array(await (await fetch(src)).arrayBuffer());
            if (image.src === src) return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));
        } catch (error) {
            if (image.src === src) throw error;  // otherwise it was replaced meanwhile: look again
        }
    }
}"""
EXECUTE = """async code => {
    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const future = kernel.requestExecute({code, store_history: false});
    let printed = '';
    future.onIOPub = msg => { if (msg.content.name === 'stdout') printed += msg.content.text };
    return [(await future.done).content.status, printed];
}"""


def chromium() -> str:
    """Where Chromium is. Without it the test is skipped, or fails where nothing may be skipped (CI=true)."""
    if path := find_chromium():
        return path
    refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    return refuse("no chromium, chromium-browser or google-chrome on this machine to move a slider in")


def wait(condition, seconds: float, what: str):
    """What `condition()` returns as soon as it is true; TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)
    return result


def at_home_in(folder: Path) -> dict[str, str]:
    """An environment in which Jupyter and Chromium keep their files in `folder` and know nothing of the user's."""
    users = "JUPYTER", "IPYTHON", "XDG_"
    return {name: value for name, value in os.environ.items() if not name.startswith(users)} | {
        "HOME": str(folder),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "PIXELCNN_PROFILE": "quick",
    }


@contextmanager
def lab(folder: Path):
    """A JupyterLab that serves `folder`/notebooks, with its home in `folder`/home: yields its URL and token."""
    home, notebooks, log = folder / "home", folder / "notebooks", folder / "lab.log"
    overrides = home / "config" / "labconfig" / "default_setting_overrides.json"
    for path in (overrides.parent, home / "runtime", notebooks):
        path.mkdir(parents=True)
    overrides.write_text(json.dumps(SETTINGS))
    with socket.socket() as probe:  # if someone takes this port before Lab does, Lab takes the next
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--LabApp.expose_app_in_browser=true", "--LabApp.extension_manager=readonly"]
    # Should the tests be killed, Lab ends by itself.
    command += ["--MappingKernelManager.cull_idle_timeout=300", "--ServerApp.shutdown_no_activity_timeout=300"]
    command += ["--allow-root"] * (hasattr(os, "geteuid") and os.geteuid() == 0)
    with log.open("w") as output:  # in a session of its own, so that a Ctrl-C meant for the tests does not reach it
        server = subprocess.Popen(
            command,
            cwd=notebooks,
            env=at_home_in(home),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield wait(lambda: _server_info(server, home / "runtime", log), 240, "JupyterLab to start")
    finally:
        server.terminate()  # Lab then stops its kernels; killed, it leaves that to them, and they do see it go
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _server_info(server: subprocess.Popen, runtime: Path, log: Path) -> dict | None:
    """What a server says of itself once it listens; None before."""
    if server.poll() is not None:
        raise RuntimeError(f"JupyterLab ended with status {server.returncode}:\n{log.read_text()[-2000:]}")
    try:
        return json.loads(next(runtime.glob("jpserver-*.json")).read_text())
    except (StopIteration, json.JSONDecodeError):  # not there yet, or half written
        return None


class Browser:
    """A context manager: JupyterLab in `folder` and a Chromium that opens notebooks in it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self):
        executable = chromium()
        from playwright.sync_api import sync_playwright

        with ExitStack() as stack:
            self.server = stack.enter_context(lab(self.folder))
            playwright = stack.enter_context(sync_playwright())
            # Playwright switches Chromium's sandbox off by itself, which root needs. It must not call home either.
            outside = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
            home = at_home_in(self.folder / "home")
            chrome = playwright.chromium.launch(executable_path=executable, args=[outside], env=home)
            stack.callback(chrome.close)
            self.new_page = lambda: chrome.new_page(viewport={"width": 1200, "height": 1000})
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self.stack.__exit__(*error)

    @contextmanager
    def notebook(self, path: Path, seconds: float = 240):
        """A copy of the notebook, opened and run to its end."""
        shutil.copy(path, self.folder / "notebooks" / path.name)
        page = self.new_page()
        try:
            with photographed(page, path.with_suffix(".failed.png")):
                workspace = f"lab/workspaces/{path.stem}"  # its own, so that no other notebook is opened beside it
                address = f"{self.server['url']}{workspace}/tree/{path.name}?token={self.server['token']}"
                page.goto(address, timeout=1000 * seconds)
                here = "name => window.jupyterapp?.shell?.currentWidget?.context?.path === name"
                page.wait_for_function(here, arg=path.name, timeout=1000 * seconds)
                evaluate(page, READY, seconds=seconds)
                evaluate(page, RUN_ALL, seconds=seconds)
                page.wait_for_function(ALL_RAN, timeout=1000 * seconds)
            yield Notebook(page)
            page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        finally:
            page.close()


@contextmanager
def photographed(page, path: Path):
    """Whatever fails in here leaves a screenshot."""
    try:
        yield
    except Exception as error:
        page.screenshot(path=path)
        error.add_note(f"the page as it was then: {path}\nraised on it: {page.evaluate('window.errors')}")
        raise


def evaluate(page, script: str, argument=None, seconds: float = 60):
    """What the script returns; an error if it takes longer (Playwright by itself would wait for ever)."""
    late = f"new Promise((_, no) => setTimeout(() => no(Error('not done in {seconds} s')), {1000 * seconds}))"
    return page.evaluate(f"argument => Promise.race([({script})(argument), {late}])", argument)


class Notebook:
    """A notebook that has run, and the one set of sliders with a picture in it."""

    def __init__(self, page):
        self.page = page

    def slider(self, description: str):
        return self.page.locator(".jp-OutputArea .widget-slider").filter(
            has=self.page.get_by_text(description, exact=True)
        )

    def value(self, description: str) -> str:
        """What the slider shows as its value."""
        return self.slider(description).locator(".widget-readout").inner_text()

    def move(self, description: str, *keys: str) -> None:
        """Press keys on a slider as fast as they go, and wait until the kernel has worked them all off."""
        handle = self.slider(description).locator(".noUi-handle")
        handle.scroll_into_view_if_needed()
        handle.focus()
        for key in keys:
            self.page.keyboard.press(key)
        self.page.wait_for_function("() => unanswered.size === 0", timeout=60_000)

    def click(self, name: str) -> None:
        """Press a button, and wait until the kernel has worked it off."""
        self.page.locator(".jp-OutputArea").get_by_role("button", name=name, exact=True).click()
        self.page.wait_for_function("() => unanswered.size === 0", timeout=60_000)

    def picture_bytes(self) -> bytes:
        picture = self.page.locator(".jp-OutputArea img.widget-image").element_handle()
        return base64.b64decode(evaluate(self.page, DECODED, picture))

    def words(self) -> str:
        return self.page.locator(".jp-OutputArea .pixelcnn-words").inner_text().strip()

    def errors(self) -> list[str]:
        """Tracebacks of cells and of callbacks alike, since one last asked for them."""
        return self.page.evaluate("errors.splice(0)")

    def execute(self, code: str) -> str:
        """Run code in the notebook's kernel; what it prints."""
        status, printed = evaluate(self.page, EXECUTE, code)
        assert status == "ok", self.errors()
        return printed


@contextmanager
def opened(cells: list[str], folder: Path):
    """A notebook of these code cells, run in JupyterLab; afterwards nothing that was started may still run."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, folder / "slider.ipynb")
    before = set(psutil.Process().children(recursive=True))
    with Browser(folder / "lab") as browser, browser.notebook(folder / "slider.ipynb") as page:
        found = page.errors()
        assert not found, found
        yield page
        started = set(psutil.Process().children(recursive=True)) - before
    assert len(started) > 3  # Lab, its kernel, Playwright, Chromium
    _, left = psutil.wait_procs(started, timeout=20)
    assert [process.name() for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


def shown(page) -> tuple[str, str]:
    """What the page shows: the picture, as a hash of its bytes, and the words."""
    return hashlib.sha256(page.picture_bytes()).hexdigest(), page.words()


def wait_for_picture(page, wanted: tuple[str, str], what: str, seconds: float = SECONDS) -> None:
    """Wait until the page shows this, told as `shown` does."""
    try:
        wait(lambda: shown(page) == wanted, seconds, what)
    except TimeoutError as error:
        raised = page.page.evaluate("errors")  # left there for the test to ask for
        error.add_note(f"the words on the page:\n{page.words()}\nthose waited for:\n{wanted[1]}\n{raised}")
        raise


def step(page, slider: str, key: str, seconds: float = SECONDS) -> tuple[str, str]:
    """Press one key; what is shown then. If the slider moved, both the picture and the words must become new."""
    value, (picture, words) = page.value(slider), shown(page)
    page.move(slider, key)
    if page.value(slider) != value:
        wait(lambda: shown(page)[0] != picture, seconds, f"{key} on {slider} to change the picture")
        wait(lambda: page.words() != words, seconds, f"{key} on {slider} to change the words")
    return shown(page)


def check(page, slider: str, seconds: float = SECONDS) -> None:
    """Walk a slider from its first to its last value, go back and forth, then faster than the kernel can follow."""
    seen = [step(page, slider, "Home", seconds)]
    while (now := step(page, slider, "ArrowRight", seconds)) != seen[-1] and len(seen) < 50:
        seen.append(now)
    assert len(set(seen)) == len(seen) >= 3
    assert step(page, slider, "Home", seconds) == seen[0]
    assert step(page, slider, "End", seconds) == seen[-1]
    page.move(slider, *["ArrowLeft", "ArrowRight"] * 9, "ArrowLeft", "ArrowLeft")
    wait_for_picture(page, seen[-3], f"20 quick keys on {slider} to arrive", seconds)
    assert page.errors() == []
