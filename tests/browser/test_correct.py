"""One click says what a digit is; the admin token is asked for once and kept in one tab only."""

import pytest
from playwright.sync_api import expect

from tests.browser.sheet import MODELS, Sheet
from tests.browser.site import Site
from tests.browser.token_dialog import dialog, give
from tests.browser.visitor import Visitor
from tests.service.admin import ADMIN


@pytest.fixture(scope="module")
def site(fresh: Site) -> Site:
    return fresh


def corrections(site: Site) -> list[int]:
    """How many rows each model has kept."""
    return [site.get(f"/models/{model}/trainable")["feedback"] for model in MODELS]


def expect_kept(sheet: Sheet, label: str) -> None:
    seen = sheet.page.get_by_role("region", name="What the networks see")
    expect(seen.get_by_text(f"Kept as a {label}.")).to_be_visible()


@pytest.fixture
def sheet(visit: Visitor) -> Sheet:
    sheet = Sheet(visit())
    sheet.draw()
    sheet.expect_read("3")
    return sheet


def test_one_click_corrects_every_model_and_the_token_is_asked_for_once(
    sheet: Sheet, site: Site
) -> None:
    before = corrections(site)
    sheet.button("It is 8").click()
    expect(dialog(sheet.page)).to_be_visible()
    assert corrections(site) == before
    give(dialog(sheet.page))
    expect_kept(sheet, "8")
    assert corrections(site) == [count + 1 for count in before]

    sheet.button("Clear").click()
    sheet.draw()
    sheet.expect_read("3")
    sheet.button("It is 3").click()
    expect_kept(sheet, "3")
    expect(dialog(sheet.page)).to_have_count(0)
    assert corrections(site) == [count + 2 for count in before]


def test_the_token_is_kept_in_this_tab_alone(sheet: Sheet, visit: Visitor, site: Site) -> None:
    page = sheet.page
    sheet.button("It is 3").click()
    give(dialog(page))
    expect_kept(sheet, "3")
    assert ADMIN in page.evaluate("Object.values(sessionStorage)")
    assert not page.evaluate("Object.values(localStorage)")
    assert not page.context.cookies()
    assert not [request.url for request in visit.requests if ADMIN in request.url]
    assert ADMIN not in page.content()
    page.reload()
    expect(page.get_by_role("button", name="Forget the token")).to_be_visible()

    tab = visit.opened(page.context)
    expect(tab.get_by_role("button", name="Give a token")).to_be_visible()
    assert not tab.evaluate("Object.values(sessionStorage)")

    page.get_by_role("button", name="Forget the token").click()
    expect(page.get_by_role("button", name="Give a token")).to_be_visible()
    assert not page.evaluate("Object.values(sessionStorage)")


def test_a_wrong_token_is_told_and_asked_for_again(sheet: Sheet, site: Site) -> None:
    before = corrections(site)
    sheet.button("It is 3").click()
    give(dialog(sheet.page), "another-token-altogether")
    expect(dialog(sheet.page).get_by_role("alert")).to_have_text(
        "The service did not accept this token."
    )
    assert corrections(site) == before
    give(dialog(sheet.page))
    expect_kept(sheet, "3")
    assert corrections(site) == [count + 1 for count in before]


@pytest.mark.parametrize("way", ["button", "key"])
def test_a_page_goes_on_without_a_token(sheet: Sheet, site: Site, way: str) -> None:
    before = corrections(site)
    sheet.button("It is 3").click()
    if way == "button":
        dialog(sheet.page).get_by_role("button", name="Cancel").click()
    else:
        sheet.page.keyboard.press("Escape")
    expect(dialog(sheet.page)).to_have_count(0)
    expect(sheet.button("It is 3")).to_be_focused()
    sheet.button("Example").click()
    sheet.expect_read("3")
    assert corrections(site) == before
    assert not sheet.page.evaluate("Object.values(sessionStorage)")
