"""All of the page is used by keys alone, and it is seen where one is."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.sheet import Sheet
from tests.browser.visitor import VIEWS, Visitor

REACHABLE = """() => {
  const all = "a[href], button, input, select, summary, textarea, [tabindex]";
  const reached = [...document.querySelectorAll(all)].filter(
    (one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility(),
  );
  reached.forEach((one, at) => (one.dataset.reach = at));
  return reached.length;
}"""
FOCUSED = """() => {
  const one = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(one);
  const seen = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
  return { at: one.dataset.reach, what: one.outerHTML.slice(0, 120), seen };
}"""


def tab(page: Page) -> Any:
    page.keyboard.press("Tab")
    return page.evaluate(FOCUSED)


@pytest.mark.parametrize("view", VIEWS)
def test_the_tab_key_reaches_everything_in_its_order_and_shows_where_it_is(
    visit: Visitor, view: str
) -> None:
    page = visit(f"/#/{view}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.evaluate("document.activeElement.blur()")
    count = page.evaluate(REACHABLE)
    assert count > 10
    reached = [tab(page) for _ in range(count)]
    assert [int(one["at"] or -1) for one in reached] == list(range(count))
    assert [one["what"] for one in reached if not one["seen"]] == []


def test_the_first_key_skips_to_the_content(visit: Visitor) -> None:
    page = visit()
    expect(page.get_by_role("region", name="mnist-cnn")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Draw a digit")
    page.keyboard.press("Tab")
    expect(Sheet(page).canvas).to_be_focused()


def test_a_digit_is_drawn_by_keys(visit: Visitor) -> None:
    sheet = Sheet(visit())
    sheet.canvas.focus()
    keys = sheet.page.keyboard
    keys.press("Space")
    for _ in range(17):
        keys.press("ArrowDown")
    keys.press("Space")
    for _ in range(6):
        keys.press("ArrowRight")  # the pen is up: nothing is drawn
    sheet.expect_read("1")
    expect(sheet.page.locator("#spoken")).to_contain_text("mnist-cnn: 1")
    keys.press("Control+z")
    sheet.expect_unread()


def test_views_are_changed_by_keys(visit: Visitor) -> None:
    page = visit()
    expect(page.get_by_role("region", name="mnist-cnn")).to_be_visible()
    for view, title in (("Plane", "The plane"), ("Versions", "Versions"), ("Draw", "Draw a digit")):
        page.get_by_role("navigation", name="Views").get_by_role("link", name=view).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
        expect(page).to_have_title(re.compile(view))
        assert page.evaluate("document.activeElement.closest('main') !== null")


@pytest.mark.parametrize(
    ("address", "opener"), [("/", "Give a token"), ("/#/versions/dnn", "Details of version 1")]
)
def test_a_dialog_keeps_the_focus_and_gives_it_back(
    visit: Visitor, address: str, opener: str
) -> None:
    page = visit(address)
    button = page.get_by_role("button", name=opener)
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    for _ in range(12):
        page.keyboard.press("Tab")
        outside = (
            "document.activeElement !== document.body && !document.activeElement.closest('dialog')"
        )
        assert not page.evaluate(outside)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()


def test_a_retraining_is_asked_for_by_keys(visit: Visitor) -> None:
    page = visit("/#/train/dnn")
    form = page.get_by_role("form", name="Retrain")
    expect(form.get_by_label("Epochs")).to_be_visible()
    form.get_by_label("Epochs").focus()
    page.keyboard.type("30")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="This needs the admin token")
    expect(dialog.get_by_label("Token")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(form.get_by_label("Epochs")).to_have_value("30")
