"""Every view fits a phone. Colours are those of the system, or those that the user chose."""

from typing import Any, Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.parts.sheet import Sheet, drawn
from tests.browser.parts.views import VIEWS, open_details
from tests.browser.parts.visitor import PHONE, Visitor
from tests.waiting import eventually

TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  return [...document.querySelectorAll("body *")]
    .filter((one) => one.getBoundingClientRect().right > width + 0.5)
    .map((one) => one.outerHTML.slice(0, 100));
}"""
IS_LIGHT = """() => {
  const paper = getComputedStyle(document.body).backgroundColor;
  return paper.match(/\\d+/g).every((part) => part > 128);
}"""
Scheme = Literal["light", "dark"]


def phone(width: int) -> dict[str, Any]:
    return {**PHONE, "viewport": {"width": width, "height": 780}}


@pytest.mark.parametrize("width", [360, 390])
@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_no_view_scrolls_sideways_on_a_phone(visit: Visitor, width: int, locale: str) -> None:
    page = visit(**{**phone(width), "locale": locale})
    for view in (*VIEWS, "jobs/1", "plane/dnn/1/2", "versions/mnist-cnn", "train/mnist-cnn"):
        page.evaluate("address => { location.hash = address; }", f"#/{view}")
        expect(page.locator(f".views [href='#/{view.split('/')[0]}']")).to_have_attribute(
            "aria-current", "page"
        )
        page.wait_for_load_state("networkidle")
        assert page.evaluate(TOO_WIDE) == [], view


@pytest.mark.parametrize("width", [360, 390])
def test_request_bar_and_dialogs_fit_a_phone(visit: Visitor, width: int) -> None:
    sheet = Sheet(visit(**phone(width)))
    page = sheet.page
    sheet.button("Example").click()
    sheet.expect_label("3")
    sheet.button("Requests").click()
    expect(page.get_by_role("region", name="Request as code")).to_be_visible()
    assert page.evaluate(TOO_WIDE) == []
    sheet.button("Requests").click()
    page.get_by_role("button", name="Enter token").click()
    assert_dialog_fits(page, width)
    page.keyboard.press("Escape")
    page.evaluate("location.hash = '#/versions/dnn'")
    expect(open_details(page).get_by_role("img", name="Boundary")).to_be_visible()
    assert_dialog_fits(page, width)


def assert_dialog_fits(page: Page, width: int) -> None:
    dialog = page.get_by_role("dialog")
    box = dialog.bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert dialog.evaluate("one => one.scrollWidth <= one.clientWidth")
    assert page.evaluate(TOO_WIDE) == []


@pytest.mark.parametrize(("scheme", "other"), [("light", "dark"), ("dark", "light")])
def test_colours_follow_the_system_until_others_are_chosen(
    visit: Visitor, scheme: Scheme, other: Scheme
) -> None:
    page = visit(color_scheme=scheme)
    expect_scheme(page, scheme)
    page.emulate_media(color_scheme=other)
    expect_scheme(page, other)
    page.emulate_media(color_scheme=scheme)
    expect_scheme(page, scheme)
    page.get_by_role("button", name=f"{other.title()} mode").click()
    expect_scheme(page, other)
    page.reload()
    expect_scheme(page, other)
    page.get_by_role("button", name=f"{scheme.title()} mode").click()
    expect_scheme(page, scheme)


def expect_scheme(page: Page, scheme: Scheme) -> None:
    is_light = scheme == "light"
    page.wait_for_function(f"isLight => ({IS_LIGHT})() === isLight", arg=is_light)
    name = "Dark mode" if is_light else "Light mode"
    expect(page.get_by_role("button", name=name)).to_be_visible()


def test_drawing_changes_its_colours_with_the_page(visit: Visitor) -> None:
    sheet = drawn(visit())
    eventually(lambda: 0 < sheet.brightness() < 60, "the drawing is dark")
    sheet.button("Dark mode").click()
    eventually(lambda: sheet.brightness() > 200, "the drawing is light")
    sheet.expect_label("3")
