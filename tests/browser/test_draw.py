"""Digits drawn, traced, uploaded, pasted and dropped, and read by the models that serve."""

import io
from base64 import b64encode
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Route, expect
from sklearn.datasets import load_digits

from tests.browser.hand import Finger, Pen
from tests.browser.sheet import MODELS, THREE, Point, Sheet, Stroke
from tests.browser.site import Site
from tests.browser.visitor import PHONE, Visitor
from tests.waiting import eventually

BAR = "bar => bar.querySelector('i').getBoundingClientRect().width"
NOTE_KIND = """sheet => sheet.addEventListener("pointerdown", (event) => {
  sheet.dataset.kind = event.pointerType;
})"""
HAND_OVER = """(sheet, [encoded, way, type]) => {
  const bytes = Uint8Array.from(atob(encoded), (one) => one.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "digit.png", { type }));
  const given = { bubbles: true, cancelable: true };
  sheet.dispatchEvent(
    way === "paste"
      ? new ClipboardEvent(way, { ...given, clipboardData: data })
      : new DragEvent(way, { ...given, dataTransfer: data }),
  );
}"""


@pytest.fixture(scope="module")
def seven() -> bytes:
    """The clearest seven of scikit-learn's real digits, as a PNG of dark ink on light paper."""
    digits = load_digits()
    pixels = digits.images[digits.target == 7][0]  # (8, 8) in 0..16
    ink = Image.fromarray((255 - pixels * 15).astype("uint8")).resize(
        (160, 160), Image.Resampling.BICUBIC
    )
    paper = Image.new("L", (240, 240), 255)
    paper.paste(ink, (40, 40))
    data = io.BytesIO()
    paper.save(data, "PNG")
    return data.getvalue()


def test_a_drawn_three_is_read_as_a_three_by_every_model(visit: Visitor) -> None:
    sheet = Sheet(visit())
    sheet.expect_unread()
    assert sheet.shades() == 1
    sheet.draw(THREE)
    sheet.expect_read("3")
    for model in MODELS:
        bars = sheet.reading(model).get_by_role("listitem")
        expect(bars).to_have_count(10)
        expect(bars.nth(3)).to_contain_text("%")
        widths = [bar.evaluate(BAR) for bar in bars.all()]
        assert max(widths) == widths[3] > 0
    assert sheet.shades() > 20


def test_undo_takes_a_stroke_away_and_clear_all_of_them(visit: Visitor) -> None:
    sheet = Sheet(visit())
    sheet.draw(THREE)
    eventually(lambda: sheet.ink() > 0.05)
    three = sheet.ink()
    sheet.draw([[(0.1, 0.9), (0.5, 0.95), (0.9, 0.9)]])
    eventually(lambda: sheet.ink() > three + 0.03)
    sheet.button("Undo").click()
    sheet.expect_ink(three)
    sheet.expect_read("3")
    sheet.button("Clear").click()
    sheet.expect_ink(0)
    sheet.expect_unread()
    assert sheet.shades() == 1
    sheet.button("Undo").click()
    sheet.expect_ink(three)
    sheet.expect_read("3")


def test_a_server_that_is_away_is_told_once_until_it_answers(visit: Visitor) -> None:
    page = visit()
    sheet = Sheet(page)
    visit.expected = "Failed to load resource: net::ERR_FAILED"
    away = page.get_by_text("The service does not answer.")
    page.route("**/predict/image*", lambda route: route.abort())
    sheet.draw(THREE)
    expect(away).to_have_count(1)
    sheet.draw([[(0.1, 0.9), (0.5, 0.95), (0.9, 0.9)]])
    expect(away).to_have_count(1)
    page.unroute("**/predict/image*")
    sheet.button("Undo").click()
    sheet.expect_read("3")
    expect(away).to_have_count(0)


def test_an_example_is_traced_and_read(visit: Visitor) -> None:
    sheet = Sheet(visit())
    for label in ("3", "7"):
        sheet.button("Example").click()
        sheet.expect_read(label)


@pytest.mark.parametrize(("kind", "hand"), [("touch", Finger), ("pen", Pen)])
def test_a_finger_and_a_pen_draw(visit: Visitor, kind: str, hand: type[Finger | Pen]) -> None:
    sheet = Sheet(visit(**(PHONE if kind == "touch" else {})))
    sheet.canvas.evaluate(NOTE_KIND)
    drawing = hand(sheet.page)
    sheet.trace(THREE, drawing.reach, drawing.down, drawing.move, drawing.up)
    sheet.expect_read("3")
    assert sheet.canvas.get_attribute("data-kind") == kind


def test_an_uploaded_picture_is_read(visit: Visitor, seven: bytes) -> None:
    sheet = Sheet(visit())
    with sheet.page.expect_file_chooser() as chosen:
        sheet.button("Picture").click()
    chosen.value.set_files({"name": "digit.png", "mimeType": "image/png", "buffer": seven})
    sheet.expect_read("7")
    sheet.button("Undo").click()
    sheet.expect_unread()


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_picture_that_is_handed_over_is_read(visit: Visitor, seven: bytes, way: str) -> None:
    sheet = Sheet(visit())
    sheet.canvas.evaluate(HAND_OVER, [b64encode(seven).decode(), way, "image/png"])
    sheet.expect_read("7")


def test_what_is_no_picture_is_told(visit: Visitor) -> None:
    sheet = Sheet(visit())
    sheet.canvas.evaluate(HAND_OVER, [b64encode(b"no picture").decode(), "drop", "image/png"])
    expect(sheet.page.get_by_text("digit.png is no picture")).to_be_visible()
    sheet.draw(THREE)
    sheet.expect_read("3")


def finely(stroke: Stroke) -> list[Point]:
    """The same stroke in twice as many moves."""
    middles = [((x + u) / 2, (y + v) / 2) for (x, y), (u, v) in pairwise(stroke)]
    return [point for pair in zip(stroke, middles, strict=False) for point in pair]


def test_drawing_does_not_wait_for_answers(visit: Visitor, site: Site) -> None:
    """The answers are held back: only the drawing goes on, and the last of it is what is asked."""
    held: dict[str, list[Route]] = {model: [] for model in MODELS}
    asked: dict[str, int] = dict.fromkeys(MODELS, 0)

    def hold(route: Route) -> None:
        (model,) = parse_qs(urlsplit(route.request.url).query)["model"]
        held[model].append(route)
        asked[model] += 1

    sheet = Sheet(visit())
    page = sheet.page
    page.route("**/predict/image?*", hold)
    stroke = finely(THREE[0])
    assert len(stroke) > 60
    page.mouse.move(*sheet.place(stroke[0]))
    page.mouse.down()
    inks: list[float] = []
    for point in stroke[1:]:
        page.mouse.move(*sheet.place(point))
        if len(inks) < 3 and (ink := sheet.ink()) not in inks:
            inks.append(ink)
        assert max(map(len, held.values())) <= 1
    page.mouse.up()
    eventually(lambda: sheet.ink() > 0.05)
    assert len(inks) == 3  # painted, without a single answer
    assert inks == sorted(inks)
    sheet.expect_unread()

    last: dict[str, bytes] = {}
    for _ in range(2):  # what was asked at first, and then what was drawn meanwhile
        eventually(lambda: page.evaluate("1") == 1 and all(held.values()))
        for model in MODELS:
            (route,) = held[model]
            held[model].clear()
            last[model] = route.request.post_data_buffer or b""
            route.continue_()
    sheet.expect_read("3")
    for model in MODELS:
        share = site.read(last[model], model)["probabilities"]["3"]
        expect(sheet.reading(model)).to_contain_text(f"{100 * share:.1f} %")
        assert asked[model] == 2
