"""The page that draws, opened from a file in a real Chromium without a network."""

import re

import pytest
import torch
from browser import chromium, photographed, wait

import pixelcnn_helpers as pch
from pixelcnn_helpers.studies.judges import ConvClassifier, class_probabilities
from pixelcnn_helpers.workshop import web

SECONDS = 60
LEVELS = """(canvas, levels) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, 28, 28);
    return Array.from({ length: 784 }, (_, i) => Math.round(data[4 * i] * (levels - 1) / 255));
}"""
# The colour of each pixel of a large canvas, at its centre.
CELLS = """canvas => {
    const side = canvas.width / 28;
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const at = i => 4 * (Math.floor((Math.floor(i / 28) + 0.5) * side) * canvas.width + (i % 28 + 0.5) * side);
    return Array.from({ length: 784 }, (_, i) => Array.from(data.slice(at(i), at(i) + 3)));
}"""
MOVES_WITHOUT_END = """() => new Promise((resolve, reject) => {
    const weight = document.getElementById('weight');
    const large = document.getElementById('large');
    let [moves, drawn, label] = [0, 0, large.ariaLabel];
    const timer = setInterval(() => {
        if (large.ariaLabel !== label) [drawn, label] = [drawn + 1, large.ariaLabel];
        if (drawn === 4 || moves > 3000) { clearInterval(timer); resolve(drawn); }
        weight.value = (moves++ % 100) / 100;
        weight.dispatchEvent(new Event('input'));
    }, 10);
})"""
BURST = """async () => {
    const weight = document.getElementById('weight');
    const show = artist.show;
    let drawn = 0;
    artist.show = (digit) => { drawn++; show.call(artist, digit); };
    for (let move = 0; move < 40; move++) {
        weight.value = move / 100;
        weight.dispatchEvent(new Event('input'));
        await new Promise((resume) => setTimeout(resume, 5));
    }
    while (document.getElementById('more').ariaBusy === 'true') await new Promise((resume) => setTimeout(resume, 20));
    artist.show = show;
    return drawn;
}"""
NAMELESS = """() => [...document.querySelectorAll('button, input, select, canvas[role], summary, a')].filter(
    thing => !(thing.ariaLabel || thing.labels?.length || thing.textContent.trim()
               || document.getElementById(thing.getAttribute('aria-labelledby') ?? '')
               || document.getElementById(thing.getAttribute('aria-describedby') ?? ''))
).map(thing => thing.outerHTML)"""

# The contrast of two colours of the page, by their names in its style.
CONTRAST = """([front, back]) => {
    const light = name => {
        const probe = document.body.appendChild(document.createElement('i'));
        probe.style.color = `var(--${name})`;
        const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).map(part => part / 255);
        probe.remove();
        const [r, g, b] = parts.map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    return Math.max(light(front) / light(back), light(back) / light(front));
}"""
NARROW = """() => [...document.querySelectorAll(
    'button, select, input:not([type=radio]), .segments span, summary'
)].filter(thing => thing.offsetParent && (thing.offsetHeight < 44 || thing.offsetWidth < 36)
).map(thing => thing.outerHTML)"""


@pytest.fixture(scope="module")
def browser():
    executable = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--host-resolver-rules=MAP * ~NOTFOUND"]
        yield playwright.chromium.launch(executable_path=executable, args=flags)


class Page:
    """The page of one model, opened; what it reports as an error or asks of the network is kept."""

    def __init__(self, browser, path, model, **options):
        self.model, self.problems = model, []
        context = browser.new_context(offline=True, **options)
        self.page = context.new_page()
        self.page.on("console", lambda message: self.told(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.asked(request.url))
        self.page.goto(path.as_uri())
        self.find = self.page.locator

    def told(self, text: str) -> None:
        if not text.startswith("Canvas2D: Multiple readback"):  # these tests read the canvases
            self.problems.append(text)

    def asked(self, url: str) -> None:
        if not url.startswith(("file:", "blob:", "data:")):
            self.problems.append(url)

    def settled(self, *parts: str) -> None:
        """Wait until these parts of the page are drawn."""
        for part in parts or ("#large", "#more"):
            quiet = self.find(f"{part}[aria-busy=false]")
            wait(quiet.count, SECONDS, f"{part} to be drawn")

    def image(self, canvas) -> torch.Tensor:
        """A small canvas as an image `(1, 28, 28)`."""
        return torch.tensor(canvas.evaluate(LEVELS, self.model.levels)).view(1, 28, 28)

    def ten(self) -> torch.Tensor:
        """The large digit and the nine others, in the order of their seeds."""
        self.settled()
        return torch.stack([self.image(canvas) for canvas in (self.find("#large"), *self.find("#more canvas").all())])

    def large(self) -> torch.Tensor:
        self.settled("#large")
        return self.image(self.find("#large"))

    def press(self, part: str, *keys: str) -> None:
        self.find(part).focus()
        for key in keys:
            self.page.keyboard.press(key)

    def choose(self, canvas: str, row: int, col: int) -> None:
        """Click on a pixel of a large canvas."""
        box = self.find(canvas)
        box.scroll_into_view_if_needed()
        side = box.bounding_box()["width"] / 28
        box.click(position={"x": (col + 0.5) * side, "y": (row + 0.5) * side})

    def bars(self, part: str) -> list[float]:
        return [float(bar.evaluate("bar => bar.style.getPropertyValue('--vote')")) for bar in self.find(part).all()]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The page as it ships, with its model and judge."""
    model, judge = (pch.load_pretrained(name)[0] for name in ("between-mnist", "judge-mnist"))
    path = tmp_path_factory.mktemp("page") / "between.html"
    path.write_text(web.build(model, judge), encoding="utf-8")
    return path, model, judge


@pytest.fixture(scope="module")
def page(browser, shipped):
    path, model, _ = shipped
    page = Page(browser, path, model, viewport={"width": 1200, "height": 900})
    with photographed(page.page, path.with_suffix(".failed.png")):
        yield page
    assert page.problems == []


def label(shares: dict) -> torch.Tensor:
    return pch.soft_label(shares, 10)


def equal(found: torch.Tensor, wanted: torch.Tensor) -> int:
    """How many images are the same."""
    return int((found == wanted).flatten(1).all(1).sum())


def test_a_seed_and_a_label_give_the_image_of_sample(page, capsys):
    found, asked = [page.ten()], [label({1: 0.5, 7: 0.5})]
    page.press("#weight", "Home")
    found.append(page.ten())
    asked.append(label({1: 1}))
    wanted = [pch.sample(page.model, 10, labels=one.expand(10, -1), seed=100) for one in asked]
    same = equal(torch.cat(found), torch.cat(wanted))
    told = page.find("#speed").inner_text()
    assert page.page.evaluate("document.documentElement.dataset.kernel") == "simd" and told.startswith("784 pixels")
    with capsys.disabled():
        print(f"\n{same} of 20 images equal; {told}")
    assert same >= 19


def test_a_drag_ends_on_the_right_picture(page):
    box = page.find("#weight").bounding_box()
    page.page.mouse.move(box["x"] + 16, box["y"] + box["height"] / 2)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2, steps=60)
    page.page.mouse.up()
    weight = float(page.find("#weight").input_value())
    assert 0.7 < weight < 0.8
    asked = label({1: 1 - weight, 7: weight})
    assert equal(page.ten(), pch.sample(page.model, 10, labels=asked.expand(10, -1), seed=100)) >= 9
    assert page.find("#asked").inner_text() == f"You ask for {1 - weight:.2f} of 1 and {weight:.2f} of 7."


def test_digits_appear_while_the_slider_keeps_moving(page):
    assert page.page.evaluate(MOVES_WITHOUT_END) == 4


def test_what_nobody_waits_for_is_not_drawn(page):
    drawn = page.page.evaluate(BURST)  # 40 moves in 0.2 s ask for 400 digits
    assert 10 <= drawn < 100
    assert equal(page.ten(), pch.sample(page.model, 10, labels=label({1: 0.61, 7: 0.39}).expand(10, -1), seed=100)) >= 9


def test_the_judge_reads_what_stands_there(page, shipped):
    page.press("#weight", "Home", *["ArrowRight"] * 30)
    votes = class_probabilities(shipped[2], page.large()[None], 8)[0]
    assert page.bars("#bars .bar") == pytest.approx(votes.tolist(), abs=1e-4)
    most = int(votes.argmax())
    verdict = page.find("#verdict")
    told = f"0.70 of 1 and 0.30 of 7. The judge’s votes: {100 * votes[most]:.0f} for {most}"
    wait(lambda: told in verdict.inner_text(), SECONDS, "the words for screen readers")


def test_pairs_noise_temperature_and_enlarging(page):
    page.find("#pairs").get_by_text("5 → 6").click()
    page.press("#weight", "End")
    page.find("#noise").click()
    page.press("#temperature", *["ArrowLeft"] * 4)
    drawn = page.ten()
    wanted = pch.sample(page.model, 10, labels=label({6: 1}).expand(10, -1), seed=110, temperature=0.8)
    assert equal(drawn, wanted) >= 9
    page.find("#more button").nth(2).click()
    assert torch.equal(page.ten()[[0, 3]], drawn[[3, 0]])
    assert "seed=113, temperature=0.8)" in page.find("#python").text_content()
    assert page.find("#title-two").inner_text() == "What lies between a 5 and a 6?"

    image, (row, col) = page.large(), (16, 13)
    page.choose("#slow", row, col)
    shares = (page.model(image[None], label({6: 1}))[0, :, 0, row, col] / 0.8).softmax(0)
    assert page.bars("#shares .bar") == pytest.approx(shares.tolist(), abs=1e-4)
    assert "at temperature 0.80. It sees all that is drawn so far." in page.find("#slow-words").inner_text()
    page.settled("#finished")
    assert "with the same noise at temperature 0.80." in page.find("#half-words").inner_text()
    page.press("#temperature", *["ArrowRight"] * 4)


def test_two_ends_with_the_same_digit_change_places(page):
    page.find("#pairs").get_by_text("1 → 7").click()
    page.find("#from").select_option("7")
    assert page.find("#title-two").inner_text() == "What lies between a 7 and a 1?"
    page.find("#to").select_option("7")
    assert [page.find(end).input_value() for end in ("#from", "#to")] == ["1", "7"]


def test_ten_weights(page):
    page.find("#pairs").get_by_text("1 → 7").click()
    page.press("#weight", "Home")
    page.find("[name=kind][value=ten]").focus()
    page.page.keyboard.press("Space")
    page.press("#part-3", *["ArrowRight"] * 6)
    page.press("#part-1", "Home", *["ArrowRight"] * 4)
    assert page.find("#asked").inner_text() == "You ask for 0.40 of 1 and 0.60 of 3."
    page.settled()
    seed = int(page.find("#python").text_content().split("seed=")[1].rstrip(")"))
    assert torch.equal(page.large(), pch.sample(page.model, labels=label({1: 0.4, 3: 0.6}), seed=seed)[0])
    page.press("#part-1", "Home")
    page.press("#part-3", "Home")
    assert page.find("#asked").inner_text() == "All weights are 0: raise one of them."
    verdict = page.find("#verdict")
    wait(lambda: verdict.inner_text() == "All weights are 0: raise one of them.", SECONDS, "the words to be spoken")
    assert page.page.title() == page.find("#title-ten").inner_text() == "What lies between ten digits?"
    page.find("[name=kind][value=two]").focus()
    page.page.keyboard.press("Space")


def test_a_click_shows_the_shares_at_a_pixel_and_a_bar_decides(page):
    page.press("#weight", "Home", *["ArrowRight"] * 50)
    image, (row, col) = page.large(), (13, 12)
    page.choose("#slow", row, col)
    asked, seed = label({1: 0.5, 7: 0.5}), 113
    shares = page.model(image[None], asked)[0, :, 0, row, col].softmax(0)
    assert page.bars("#shares .bar") == pytest.approx(shares.tolist(), abs=1e-4)
    drawn = int(image[0, row, col])
    told = f"Row 14, column 13 of 28. Chance chose grey {drawn} of 7"
    assert page.find("#slow-words").inner_text().startswith(told)

    other = 7 if drawn < 4 else 0
    page.find("#shares .bar").nth(other).click()
    wait(lambda: "You chose" in page.find("#slow-words").inner_text(), SECONDS, "the rest to be drawn anew")
    place = 28 * row + col
    mask = (torch.arange(784) <= place).view(1, 1, 28, 28)
    known = image.clone()
    known[0, row, col] = other
    wanted = pch.sample(page.model, labels=asked, seed=seed, known=(known[None], mask))[0, 0]
    ends = page.find("#ends canvas")
    assert torch.equal(page.image(ends.nth(0)), image) and torch.equal(page.image(ends.nth(1))[0], wanted)
    page.press("#slow", "End", "ArrowUp")
    cells = torch.tensor(page.find("#slow").evaluate(CELLS)).view(28, 28, 3)
    upper = cells[:26, :, 0]  # all of them seen, tinted
    assert len(set(zip(upper.flatten().tolist(), wanted[:26].flatten().tolist(), strict=True))) <= page.model.levels
    page.choose("#slow", row, col)
    assert f"You chose grey {other} of 7" in page.find("#slow-words").inner_text()
    page.find("#undo").click()
    assert page.find("#slow-words").inner_text().startswith(told)
    assert not page.find("#ends").is_visible() and page.page.evaluate("document.activeElement.id") == "play"


def test_a_drag_over_the_drawing_follows_the_pointer(page):
    page.choose("#slow", 5, 5)
    box = page.find("#slow").bounding_box()
    page.page.mouse.move(box["x"] + 5.5 * box["width"] / 28, box["y"] + 5.5 * box["width"] / 28)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 20.5 * box["width"] / 28, box["y"] + 18.5 * box["width"] / 28, steps=4)
    page.page.mouse.up()
    page.page.mouse.move(box["x"] + 2, box["y"] + 2)
    assert page.find("#slow-words").inner_text().startswith("Row 19, column 21 of 28.")


def test_draw_slowly(page):
    page.press("#slow", "Home")
    assert page.find("#slow-words").inner_text().startswith("Row 1, column 1")
    page.find("#play").click()
    assert page.find("#play").inner_text() == "Stop here"
    page.page.wait_for_timeout(400)
    page.press("#slow", " ")
    wait(lambda: page.find("#play").inner_text() == "Draw slowly", SECONDS, "it to stop")
    row = int(page.find("#slow-words").inner_text().split()[1].rstrip(","))
    assert row > 1
    page.press("#slow", "ArrowDown")
    assert page.find("#slow-words").inner_text().startswith(f"Row {row + 1}, column")
    page.find("#onward").press("Enter")
    page.page.keyboard.press("Enter")  # the focus is on "Stop here" now
    assert int(page.find("#slow-words").inner_text().split()[1].rstrip(",")) >= row + 1
    page.find("#play").click()  # from the top
    page.find("#play").click()
    assert int(page.find("#slow-words").inner_text().split()[1].rstrip(",")) <= row


def test_finish_my_half(page):
    page.find("#half").scroll_into_view_if_needed()
    page.find("#take").click()
    page.choose("#draft", 20, 14)  # the network's half: the drawing stays
    page.settled("#finished")
    assert torch.equal(page.image(page.find("#finished canvas").nth(0))[:, :14], page.large()[:, :14])
    page.find("#clear").click()
    page.settled("#finished")
    assert "Your half is still empty." in page.find("#half-words").inner_text()
    assert page.find("#finished .likeliest").count() == 0
    box = page.find("#draft").bounding_box()
    side = box["width"] / 28
    points = [(9, 8), (6, 14), (9, 18), (13, 14)]
    for index, (row, col) in enumerate(points):
        page.page.mouse.move(box["x"] + col * side, box["y"] + row * side, steps=5)
        if index == 0:
            page.page.mouse.down()
    page.page.mouse.up()
    page.settled("#finished")
    found = torch.stack([page.image(canvas) for canvas in page.find("#finished canvas").all()])
    given = found[:1].clone()
    assert (found[:, :, :14] == given[:, :, :14]).all() and given[:, :, :14].sum() > 100
    mask = torch.zeros(28, 28, dtype=torch.bool)
    mask[:14] = True
    given[:, :, 14:] = 0
    wanted = pch.sample(page.model, labels=torch.eye(10), seed=[100] * 10, known=(given.expand(10, -1, -1, -1), mask))
    assert equal(found, wanted) >= 9
    with torch.no_grad():
        log_p = page.model(given.expand(10, -1, -1, -1), torch.eye(10)).log_softmax(1)
    log_p = log_p.gather(1, given.expand(10, -1, -1, -1)[:, None].long())[..., :14, :].flatten(1).sum(1)
    read = log_p.softmax(0)
    most = int(read.argmax())
    assert f"most likely to {'an' if most == 8 else 'a'} {most}." in page.find("#half-words").inner_text()
    shares = page.find("#finished .as").nth(most).inner_text()
    assert int(shares.split()[-2]) == pytest.approx(100 * float(read[most]), abs=1)


def test_half_by_keyboard_ten_times_one_class(page):
    page.find("#clear").click()
    page.find("#as").select_option("7")
    page.press("#draft", " ", *["ArrowRight"] * 8, *["ArrowDown", "ArrowDown"], " ")
    assert page.find("#draft-words").inner_text() == "The pen is up, row 11, column 18."
    page.settled("#finished")
    found = torch.stack([page.image(canvas) for canvas in page.find("#finished canvas").all()])
    assert found[0, 0, 8, 10] == found[0, 0, 10, 17] == 7  # row 9 from column 10 on, then down to row 11
    assert len({tuple(image.flatten().tolist()) for image in found}) > 5
    assert "Ten times a 7" in page.find("#half-words").inner_text()


def test_everything_has_a_name_and_follows_the_tab_key(page):
    assert page.page.evaluate(NAMELESS) == []
    page.find("#from").focus()
    seen = []
    for _ in range(60):
        seen.append(page.page.evaluate("document.activeElement.id || document.activeElement.parentElement.id"))
        page.page.keyboard.press("Tab")
    wanted = ["from", "weight", "to", "pairs", "temperature", "noise", "more", "slow", "play", "shares", "draft", "as"]
    assert [name for name in dict.fromkeys(seen) if name in wanted] == wanted


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(browser, tmp_path, scheme):
    torch.manual_seed(1)
    path, model = tiny_page(tmp_path)
    size = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme, "reduced_motion": "reduce"}
    page = Page(browser, path, model, has_touch=True, **size)
    page.settled("#large", "#more", "#finished")
    assert page.page.evaluate("document.documentElement.scrollWidth") == 360
    slider = page.find("#weight").bounding_box()
    assert slider["y"] + slider["height"] < 740 and slider["width"] > 320  # in sight from the start, and wide
    assert page.page.evaluate(NARROW) == []
    words = [("ink", "paper"), ("ink", "card"), ("soft", "paper"), ("soft", "card"), ("later-ink", "later")]
    edges = [("control", "paper"), ("control", "card"), ("here", "paper")]
    for pair in words + edges:  # the least contrasts of WCAG
        assert page.page.evaluate(CONTRAST, pair) >= (4.5 if pair in words else 3), pair
    page.find("#draft").scroll_into_view_if_needed()
    box = page.find("#draft").bounding_box()
    page.page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
    page.settled("#finished")
    assert page.image(page.find("#finished canvas").nth(0))[0, :14].max() == model.levels - 1
    page.press("#slow", "Home")
    page.find("#play").click()
    page.page.wait_for_timeout(300)
    page.find("#play").click()
    assert ", column 1 of 28" in page.find("#slow-words").inner_text()  # whole rows, with reduced motion
    assert page.problems == []


def test_a_phone_held_sideways(browser, tmp_path):
    path, model = tiny_page(tmp_path)
    page = Page(browser, path, model, viewport={"width": 740, "height": 360})
    page.settled()
    large, slider = (page.find(part).bounding_box() for part in ("#large", "#weight"))
    assert slider["y"] + slider["height"] - large["y"] < 360  # both at once
    assert page.page.evaluate("document.documentElement.scrollWidth") == 740
    assert page.problems == []


def tiny_page(folder, **options):
    """The page of a small random network."""
    model = pch.GatedPixelCNN(levels=8, features=8, blocks=3, dilations=[1, 2, 1], classes=10, **options).eval()
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    model.size = (28, 28)
    path = folder / "tiny.html"
    path.write_text(web.build(model, ConvClassifier(width=4).eval()), encoding="utf-8")
    return path, model


@pytest.mark.parametrize("embedding", [0, 5])
def test_other_networks(browser, tmp_path, embedding):
    path, model = tiny_page(tmp_path, embedding=embedding)
    page = Page(browser, path, model, viewport={"width": 1200, "height": 900})
    asked = label({1: 0.5, 7: 0.5})
    wanted = pch.sample(model, 10, labels=asked.expand(10, -1), seed=100)
    assert len(wanted.unique()) == 8 and equal(page.ten(), wanted) >= 9
    row, col = 20, 13
    page.choose("#slow", row, col)
    cells = torch.tensor(page.find("#slow").evaluate(CELLS)).view(28, 28, 3)
    seen = cells[..., 0] < cells[..., 2] - 10  # bluish, with ink and without
    field = torch.as_tensor(pch.receptive_field(model, row, col, (28, 28), asked))
    assert torch.equal(seen, field) and 100 < field.sum() < 500
    words = page.find("#slow-words").inner_text()
    assert f"It sees {field.sum()} of the {28 * row + col} pixels drawn so far." in words
    blue = cells[field][page.large()[0][field] == 7]
    assert (blue == torch.tensor([0x56, 0xB4, 0xE9])).all() and len(blue)  # ink is of the legend's blue
    assert page.problems == []


def test_without_the_kernel_the_image_is_the_same(browser, shipped, tmp_path):
    """A browser that cannot run the assembled kernel computes in plain JavaScript."""
    path, model, _ = shipped
    other = tmp_path / "plain.html"
    other.write_text(re.sub('(id="wasm">)[^<]+', r"\1AGFzbQ==", path.read_text(encoding="utf-8")), encoding="utf-8")
    page = Page(browser, other, model)
    assert torch.equal(page.large(), pch.sample(model, labels=label({1: 0.5, 7: 0.5}), seed=100)[0])
    assert page.page.evaluate("document.documentElement.dataset.kernel") == "plain"
    assert "without the browser’s fast arithmetic" in page.find("#speed").inner_text()
    assert page.problems == []
