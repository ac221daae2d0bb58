"""The slider between classes, moved in JupyterLab by a real Chromium."""

import hashlib

import pytest
from browser import QUIET, SECONDS, check, opened, photographed, shown, step, wait, wait_for_picture

CELLS = [
    "import hashlib, os\nos.environ['OMP_NUM_THREADS'] = '1'\nimport pixelcnn_helpers as pch",
    "from pixelcnn_helpers.page import plots, sliders",
    "model, _ = pch.load_pretrained('conditional-mnist')\njudge, _ = pch.load_pretrained('judge-mnist')",
    "drawn, draw = [], sliders.class_picture\n"
    "sliders.class_picture = lambda *words: drawn.append(words) or draw(*words)\n"
    "pch.class_slider(model, judge=judge, n=2)",
    "figures = {name: plots.axes(width=2 + i, height=1)[0] for i, name in enumerate(('one', 'two', 'three'))}\n"
    "pch.frame_slider(figures, alt='Frames of a test:')",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with opened(CELLS, tmp_path_factory.mktemp("between")) as page:
        yield page


def arrives(page, label: str, temperature: float = 1.0) -> None:
    """Wait for what the plain function draws for a label with the noise of now."""
    wait_for_picture(page, expected(page, label, temperature=temperature), f"the picture of {label}")


def expected(page, label: str, further: int = 0, temperature: float = 1.0) -> tuple[str, str]:
    """That picture and its words, as `shown` tells them; or those with noise so much further."""
    told = page.execute(f"""if 1:
        figure, words = draw(model, pch.soft_label({label}, 10), judge, 2, drawn[-1][4] + {further}, {temperature})
        print(hashlib.sha256(plots.png(figure, crop=False)).hexdigest(), words)""")
    return tuple(told.strip().split(" ", 1))


def test_the_weight(page, tmp_path):
    with photographed(page.page, tmp_path / "failed.png"):
        check(page, "weight")


def test_fifty_quick_moves_end_on_the_right_picture(page):
    page.move("weight", "Home")
    arrives(page, "{1: 1.0}")
    before = int(page.execute("print(len(drawn))"))
    page.move("weight", *["ArrowRight"] * 13, *["ArrowLeft", "ArrowRight"] * 17, *["ArrowRight"] * 3)
    arrives(page, "{1: 0.2, 7: 0.8}")
    assert int(page.execute("print(len(drawn))")) - before < 50  # those that waited were drawn once
    assert page.errors() == []


def test_new_noise_and_all_classes(page):
    page.move("weight", "End")
    arrives(page, "{7: 1.0}")
    other = expected(page, "{7: 1.0}", further=2)
    page.click("new noise")
    wait_for_picture(page, other, "another 7")
    assert not page.slider("3").is_visible() and page.slider("weight").is_visible()
    page.click("all classes")
    assert page.slider("3").is_visible() and not page.slider("weight").is_visible()
    page.move("1", "Home", *["ArrowUp"] * 5)
    page.move("7", "Home", *["ArrowUp"] * 5)
    page.move("3", "End")
    arrives(page, "{1: 0.25, 3: 0.5, 7: 0.25}")
    page.click("two classes")
    arrives(page, "{7: 1.0}")
    assert page.errors() == []


def test_another_pair_by_keyboard(page):
    page.move("weight", "End")
    page.move("pair", "Home", "ArrowRight", "ArrowRight")
    assert page.value("pair") == "4 → 9"
    arrives(page, "{9: 1.0}")
    page.move("pair", "Home")
    arrives(page, "{7: 1.0}")


def test_a_move_while_the_first_one_of_its_slider_is_drawn(page):
    """The kernel handles the first move in its main thread, and the next one in another thread at the same time."""
    page.move("weight", "End")
    arrives(page, "{7: 1.0}")
    page.execute("""if 1:
        import time
        asked, at_once = [], sliders.class_picture
        def slow(*words):
            asked.append(words)
            if len(asked) == 1:
                time.sleep(2)
            return at_once(*words)
        sliders.class_picture = slow""")
    page.move("temperature", "ArrowRight")
    page.page.wait_for_timeout(500)
    page.move("temperature", "ArrowRight")
    assert page.value("temperature") == "1.2"
    arrives(page, "{7: 1.0}", temperature=1.2)
    page.execute("assert len(asked) == 2; sliders.class_picture = at_once")
    page.move("temperature", *["ArrowLeft"] * 2)
    arrives(page, "{7: 1.0}")


def test_a_slider_of_frames_by_keyboard(page):
    frames = page.page.locator(".jp-OutputArea .pixelcnn-frames")
    slider, image = frames.locator("input"), frames.locator("img")
    slider.scroll_into_view_if_needed()
    slider.focus()
    seen = [image.get_attribute("src")]
    for key, name in (("ArrowRight", "two"), ("ArrowRight", "three"), ("ArrowLeft", "two"), ("Home", "one")):
        page.page.keyboard.press(key)
        assert frames.locator("output").inner_text() == slider.get_attribute("aria-valuetext") == name
        assert image.get_attribute("alt") == f"Frames of a test: {name}"
        seen.append(image.get_attribute("src"))
    assert seen[0] == seen[4] and seen[1] == seen[3] and len(set(seen)) == 3
    assert all(source.startswith("data:image/png;base64,") for source in seen)


@pytest.mark.parametrize("broken, told", [("1 / 0", "ZeroDivisionError"), ("(figure, 'the same')", "")])
def test_what_is_broken_is_noticed(page, broken, told):
    page.move("weight", "Home")
    arrives(page, "{1: 1.0}")
    page.execute(f"figure, _ = draw(model, pch.soft_label({{1: 1.0}}, 10), judge, 2, drawn[-1][4])\n"
                 f"sliders.class_picture = lambda *words: {broken}")
    with pytest.raises(TimeoutError, match="to change"):
        step(page, "weight", "ArrowRight", QUIET)
    errors = page.errors()
    assert bool(errors) == bool(told) and all(told in error for error in errors)
    page.execute("sliders.class_picture = lambda *words: drawn.append(words) or draw(*words)")
    page.move("weight", "End")
    wait(lambda: shown(page)[1].startswith("2 digits drawn for 1.00 of 7."), SECONDS, "a 7 again")


def test_pictures_are_told_by_their_bytes(page):
    assert shown(page)[0] == hashlib.sha256(page.picture_bytes()).hexdigest()
