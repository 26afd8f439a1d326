"""All of the page can be used by keyboard, with a visible focus."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.parts.sheet import Sheet
from tests.browser.parts.token_dialog import token_dialog
from tests.browser.parts.views import VIEWS, heading, wait_until_loaded
from tests.browser.parts.visitor import Visitor

NUMBER_FOCUSABLE = """() => {
  const all = "a[href], button, input, select, summary, textarea, [tabindex]";
  const found = [...document.querySelectorAll(all)].filter(
    (one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility(),
  );
  found.forEach((one, at) => (one.dataset.position = at));
  return found.length;
}"""
FOCUSED = """() => {
  const one = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(one);
  const isMarked = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
  return { position: one.dataset.position, html: one.outerHTML.slice(0, 120), isMarked };
}"""
IS_OUTSIDE = "document.activeElement !== document.body && !document.activeElement.closest('dialog')"


def tab(page: Page) -> Any:
    page.keyboard.press("Tab")
    return page.evaluate(FOCUSED)


@pytest.mark.parametrize("view", VIEWS)
def test_tab_key_reaches_everything_in_order(visit: Visitor, view: str) -> None:
    page = visit(f"/#/{view}")
    wait_until_loaded(page)
    page.evaluate("document.activeElement.blur()")
    count = page.evaluate(NUMBER_FOCUSABLE)
    assert count > 10
    reached = [tab(page) for _ in range(count)]
    assert [int(one["position"] or -1) for one in reached] == list(range(count))
    assert [one["html"] for one in reached if not one["isMarked"]] == []


def test_first_key_skips_to_content(visit: Visitor) -> None:
    page = visit()
    expect(page.get_by_role("region", name="mnist-cnn")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(heading(page)).to_have_text("Draw a digit")
    page.keyboard.press("Tab")
    expect(Sheet(page).canvas).to_be_focused()


def test_digit_is_drawn_by_keys(visit: Visitor) -> None:
    sheet = Sheet(visit())
    sheet.canvas.focus()
    keys = sheet.page.keyboard
    keys.press("Space")
    for _ in range(17):
        keys.press("ArrowDown")
    keys.press("Space")
    for _ in range(6):
        keys.press("ArrowRight")  # draws nothing: the pen is lifted
    sheet.expect_label("1")
    expect(sheet.page.locator("#announcements")).to_contain_text("mnist-cnn: 1")
    keys.press("Control+z")
    sheet.expect_no_label()


def test_view_is_changed_by_keys(visit: Visitor) -> None:
    page = visit()
    expect(page.get_by_role("region", name="mnist-cnn")).to_be_visible()
    for view, title in (("Plane", "The plane"), ("Versions", "Versions"), ("Draw", "Draw a digit")):
        page.get_by_role("navigation", name="Views").get_by_role("link", name=view).focus()
        page.keyboard.press("Enter")
        expect(heading(page)).to_have_text(title)
        expect(page).to_have_title(re.compile(view))
        assert page.evaluate("document.activeElement.closest('main') !== null")


@pytest.mark.parametrize(
    ("address", "opener"), [("/", "Enter token"), ("/#/versions/dnn", "Details of version 1")]
)
def test_dialog_keeps_the_focus_and_returns_it(visit: Visitor, address: str, opener: str) -> None:
    page = visit(address)
    button = page.get_by_role("button", name=opener)
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    for _ in range(12):
        page.keyboard.press("Tab")
        assert not page.evaluate(IS_OUTSIDE)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()


def test_retraining_is_requested_by_keys(visit: Visitor) -> None:
    page = visit("/#/train/dnn")
    epochs = page.get_by_role("form", name="Retrain").get_by_label("Epochs")
    expect(epochs).to_be_visible()
    epochs.focus()
    page.keyboard.type("30")
    page.keyboard.press("Enter")
    dialog = token_dialog(page)
    expect(dialog.get_by_label("Token")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(epochs).to_have_value("30")
