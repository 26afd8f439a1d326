"""No view is wider than a phone, and colours are the system's or those that were chosen."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.sheet import Sheet
from tests.browser.visitor import PHONE, VIEWS, Visitor
from tests.waiting import eventually

TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  return [...document.querySelectorAll("body *")]
    .filter((one) => one.getBoundingClientRect().right > width + 0.5)
    .map((one) => one.outerHTML.slice(0, 100));
}"""
LIGHT = """() => {
  const paper = getComputedStyle(document.body).backgroundColor;
  return paper.match(/\\d+/g).every((part) => part > 128);
}"""


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
def test_what_opens_on_a_phone_fits_it(visit: Visitor, width: int) -> None:
    sheet = Sheet(visit(**phone(width)))
    page = sheet.page
    sheet.button("Example").click()
    sheet.expect_read("3")
    sheet.button("Requests").click()
    expect(page.get_by_role("region", name="The request as code")).to_be_visible()
    assert page.evaluate(TOO_WIDE) == []
    sheet.button("Requests").click()
    page.get_by_role("button", name="Give a token").click()
    assert_inside(page, width)
    page.keyboard.press("Escape")
    page.evaluate("location.hash = '#/versions/dnn'")
    page.get_by_role("button", name="Details of version 1").click()
    expect(page.get_by_role("dialog").get_by_role("img", name="Boundary")).to_be_visible()
    assert_inside(page, width)


def assert_inside(page: Page, width: int) -> None:
    """The dialog is whole on the screen, and nothing in it is wider."""
    dialog = page.get_by_role("dialog")
    box = dialog.bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert dialog.evaluate("one => one.scrollWidth <= one.clientWidth")
    assert page.evaluate(TOO_WIDE) == []


@pytest.mark.parametrize("name", ["light", "dark"])
def test_colours_are_those_of_the_system_until_others_are_chosen(visit: Visitor, name: str) -> None:
    page = visit(color_scheme=name)
    light = name == "light"
    expect_light(page, light)
    page.emulate_media(color_scheme="dark" if light else "light")
    expect_light(page, not light)
    page.emulate_media(color_scheme=name)  # type: ignore[arg-type]
    expect_light(page, light)
    page.get_by_role("button", name="Dark colours" if light else "Light colours").click()
    expect_light(page, not light)
    page.reload()
    expect_light(page, not light)
    page.get_by_role("button", name="Light colours" if light else "Dark colours").click()
    expect_light(page, light)


def expect_light(page: Page, light: bool) -> None:
    page.wait_for_function(f"light => ({LIGHT})() === light", arg=light)
    name = "Dark colours" if light else "Light colours"
    expect(page.get_by_role("button", name=name)).to_be_visible()


def test_what_is_painted_follows_the_colours(visit: Visitor) -> None:
    """A drawing is dark on light paper and light on dark paper, also when that changes."""
    sheet = Sheet(visit())
    sheet.draw()
    eventually(lambda: 0 < sheet.brightness() < 60)
    sheet.button("Dark colours").click()
    eventually(lambda: sheet.brightness() > 200)
    sheet.expect_read("3")
