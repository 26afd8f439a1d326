"""One click corrects a digit. The admin token is asked for once, and stored in one tab only."""

import pytest
from playwright.sync_api import expect

from tests.browser.parts.sheet import MODELS, Sheet, drawn
from tests.browser.parts.site import Site
from tests.browser.parts.token_dialog import enter, token_dialog
from tests.browser.parts.visitor import Visitor
from tests.service.admin import ADMIN

SESSION_STORAGE = "Object.values(sessionStorage)"


@pytest.fixture(scope="module")
def site(own_site: Site) -> Site:
    return own_site


def corrections(site: Site) -> list[int]:
    """The number of corrections of each model."""
    return [site.get(f"/models/{model}/trainable")["feedback"] for model in MODELS]


def expect_saved(sheet: Sheet, label: str) -> None:
    panel = sheet.page.get_by_role("region", name="What the networks see")
    expect(panel.get_by_text(f"Saved as {label}.")).to_be_visible()


@pytest.fixture
def sheet(visit: Visitor) -> Sheet:
    return drawn(visit())


def test_one_click_corrects_every_model_and_token_is_asked_for_once(
    sheet: Sheet, site: Site
) -> None:
    before = corrections(site)
    sheet.button("It is 8").click()
    expect(token_dialog(sheet.page)).to_be_visible()
    assert corrections(site) == before
    enter(token_dialog(sheet.page))
    expect_saved(sheet, "8")
    assert corrections(site) == [count + 1 for count in before]

    sheet.button("Clear").click()
    drawn(sheet.page)
    sheet.button("It is 3").click()
    expect_saved(sheet, "3")
    expect(token_dialog(sheet.page)).to_have_count(0)
    assert corrections(site) == [count + 2 for count in before]


def test_token_is_stored_in_this_tab_only(sheet: Sheet, visit: Visitor) -> None:
    page = sheet.page
    sheet.button("It is 3").click()
    enter(token_dialog(page))
    expect_saved(sheet, "3")
    assert ADMIN in page.evaluate(SESSION_STORAGE)
    assert not page.evaluate("Object.values(localStorage)")
    assert not page.context.cookies()
    assert not [request.url for request in visit.requests if ADMIN in request.url]
    assert ADMIN not in page.content()
    page.reload()
    expect(page.get_by_role("button", name="Remove token")).to_be_visible()

    other_tab = visit.open(page.context)
    expect(other_tab.get_by_role("button", name="Enter token")).to_be_visible()
    assert not other_tab.evaluate(SESSION_STORAGE)

    page.get_by_role("button", name="Remove token").click()
    expect(page.get_by_role("button", name="Enter token")).to_be_visible()
    assert not page.evaluate(SESSION_STORAGE)


def test_rejected_token_is_asked_for_again(sheet: Sheet, site: Site) -> None:
    before = corrections(site)
    sheet.button("It is 3").click()
    dialog = token_dialog(sheet.page)
    enter(dialog, "another-token-altogether")
    expect(dialog.get_by_role("alert")).to_have_text("The service did not accept this token.")
    assert corrections(site) == before
    enter(dialog)
    expect_saved(sheet, "3")
    assert corrections(site) == [count + 1 for count in before]


@pytest.mark.parametrize("way", ["button", "key"])
def test_page_goes_on_without_token(sheet: Sheet, site: Site, way: str) -> None:
    before = corrections(site)
    sheet.button("It is 3").click()
    dialog = token_dialog(sheet.page)
    if way == "button":
        dialog.get_by_role("button", name="Cancel").click()
    else:
        sheet.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(sheet.button("It is 3")).to_be_focused()
    sheet.button("Example").click()
    sheet.expect_label("3")
    assert corrections(site) == before
    assert not sheet.page.evaluate(SESSION_STORAGE)
