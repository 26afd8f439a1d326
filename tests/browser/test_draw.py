"""Digits that are drawn, animated, uploaded, pasted and dropped are read by the models."""

import io
from base64 import b64encode
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Route, expect
from sklearn.datasets import load_digits

from tests.browser.parts.pointers import Finger, Pen
from tests.browser.parts.sheet import MODELS, THREE, UNDERLINE, Point, Sheet, Stroke, drawn
from tests.browser.parts.site import Site
from tests.browser.parts.visitor import PHONE, Visitor
from tests.waiting import eventually

BAR_WIDTH = "bar => bar.querySelector('i').getBoundingClientRect().width"
RECORD_POINTER = """sheet => sheet.addEventListener("pointerdown", (event) => {
  sheet.dataset.kind = event.pointerType;
})"""
HAND_OVER = """(sheet, [encoded, way]) => {
  const bytes = Uint8Array.from(atob(encoded), (one) => one.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "digit.png", { type: "image/png" }));
  const options = { bubbles: true, cancelable: true };
  sheet.dispatchEvent(
    way === "paste"
      ? new ClipboardEvent(way, { ...options, clipboardData: data })
      : new DragEvent(way, { ...options, dataTransfer: data }),
  );
}"""


@pytest.fixture(scope="module")
def seven() -> bytes:
    """A PNG of a handwritten 7: dark ink on light paper."""
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


def test_every_model_reads_a_drawn_digit(visit: Visitor) -> None:
    sheet = Sheet(visit())
    sheet.expect_no_label()
    assert sheet.shades() == 1
    sheet.draw()
    sheet.expect_label("3")
    for model in MODELS:
        bars = sheet.reading(model).get_by_role("listitem")
        expect(bars).to_have_count(10)
        expect(bars.nth(3)).to_contain_text("%")
        widths = [bar.evaluate(BAR_WIDTH) for bar in bars.all()]
        assert max(widths) == widths[3] > 0
    assert sheet.shades() > 20


def test_undo_takes_back_a_stroke_or_clear(visit: Visitor) -> None:
    sheet = Sheet(visit())
    sheet.draw()
    sheet.expect_more_ink(0.05)
    three = sheet.ink()
    sheet.draw(UNDERLINE)
    sheet.expect_more_ink(three + 0.03)
    sheet.button("Undo").click()
    sheet.expect_ink(three)
    sheet.expect_label("3")
    sheet.button("Clear").click()
    sheet.expect_ink(0)
    sheet.expect_no_label()
    assert sheet.shades() == 1
    sheet.button("Undo").click()
    sheet.expect_ink(three)
    sheet.expect_label("3")


def test_unreachable_service_is_reported_once_until_it_responds(visit: Visitor) -> None:
    page = visit()
    sheet = Sheet(page)
    visit.ignored = "Failed to load resource: net::ERR_FAILED"
    notice = page.get_by_text("The service does not respond.")
    page.route("**/predict/image*", lambda route: route.abort())
    sheet.draw()
    expect(notice).to_have_count(1)
    sheet.draw(UNDERLINE)
    expect(notice).to_have_count(1)
    page.unroute("**/predict/image*")
    sheet.button("Undo").click()
    sheet.expect_label("3")
    expect(notice).to_have_count(0)


def test_example_is_drawn_and_read(visit: Visitor) -> None:
    sheet = Sheet(visit())
    for label in ("3", "7"):
        sheet.button("Example").click()
        sheet.expect_label(label)


@pytest.mark.parametrize(("kind", "pointer"), [("touch", Finger), ("pen", Pen)])
def test_finger_and_pen_draw(visit: Visitor, kind: str, pointer: type[Finger | Pen]) -> None:
    sheet = Sheet(visit(**(PHONE if kind == "touch" else {})))
    sheet.canvas.evaluate(RECORD_POINTER)
    hand = pointer(sheet.page)
    sheet.draw_with(hand.reach, hand.down, hand.move, hand.up)
    sheet.expect_label("3")
    assert sheet.canvas.get_attribute("data-kind") == kind


def test_uploaded_image_is_read(visit: Visitor, seven: bytes) -> None:
    sheet = Sheet(visit())
    with sheet.page.expect_file_chooser() as chooser:
        sheet.button("Upload").click()
    chooser.value.set_files({"name": "digit.png", "mimeType": "image/png", "buffer": seven})
    sheet.expect_label("7")
    sheet.button("Undo").click()
    sheet.expect_no_label()


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_pasted_or_dropped_image_is_read(visit: Visitor, seven: bytes, way: str) -> None:
    sheet = Sheet(visit())
    sheet.canvas.evaluate(HAND_OVER, [b64encode(seven).decode(), way])
    sheet.expect_label("7")


def test_file_that_is_no_image_is_reported(visit: Visitor) -> None:
    sheet = Sheet(visit())
    sheet.canvas.evaluate(HAND_OVER, [b64encode(b"no image").decode(), "drop"])
    expect(sheet.page.get_by_text("This browser cannot read digit.png")).to_be_visible()
    drawn(sheet.page)


def with_midpoints(stroke: Stroke) -> list[Point]:
    middles = [((x + u) / 2, (y + v) / 2) for (x, y), (u, v) in pairwise(stroke)]
    return [point for pair in zip(stroke, middles, strict=False) for point in pair]


def test_drawing_does_not_wait_for_responses(visit: Visitor, site: Site) -> None:
    """While responses are held back, drawing goes on; then only the newest drawing is sent."""
    held: dict[str, list[Route]] = {model: [] for model in MODELS}
    sent: dict[str, int] = dict.fromkeys(MODELS, 0)

    def hold(route: Route) -> None:
        (model,) = parse_qs(urlsplit(route.request.url).query)["model"]
        held[model].append(route)
        sent[model] += 1

    sheet = Sheet(visit())
    page = sheet.page
    page.route("**/predict/image?*", hold)
    stroke = with_midpoints(THREE[0])
    assert len(stroke) > 60
    page.mouse.move(*sheet.position(stroke[0]))
    page.mouse.down()
    inks: list[float] = []
    for point in stroke[1:]:
        page.mouse.move(*sheet.position(point))
        if len(inks) < 3 and (ink := sheet.ink()) not in inks:
            inks.append(ink)
        assert max(map(len, held.values())) <= 1
    page.mouse.up()
    sheet.expect_more_ink(0.05)
    assert len(inks) == 3
    assert inks == sorted(inks)
    sheet.expect_no_label()

    last: dict[str, bytes] = {}
    for _ in range(2):  # the first drawing, then the newest
        # `evaluate` lets Playwright handle its events.
        eventually(
            lambda: page.evaluate("1") == 1 and all(held.values()), "each model gets a request"
        )
        for model in MODELS:
            (route,) = held[model]
            held[model].clear()
            last[model] = route.request.post_data_buffer or b""
            route.continue_()
    sheet.expect_label("3")
    for model in MODELS:
        share = site.read(last[model], model)["probabilities"]["3"]
        expect(sheet.reading(model)).to_contain_text(f"{100 * share:.1f} %")
        assert sent[model] == 2
