"""A server that asks everybody for a token: the page asks for it, and works with it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import serving
from tests.browser.sheet import Sheet
from tests.browser.site import Site
from tests.browser.token_dialog import dialog, give
from tests.browser.visitor import Visitor
from tests.service.admin import PREDICT

TITLE = "This server asks for a token"


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with serving(folder, PERCEPTD_WORKERS="0", PERCEPTD_PREDICT_TOKEN=PREDICT) as site:
        yield site


def test_the_page_asks_for_the_token_and_works_with_it(visit: Visitor) -> None:
    sheet = Sheet(visit())
    page = sheet.page
    give(dialog(page, TITLE), PREDICT)
    sheet.draw()
    sheet.expect_read("3")
    page.get_by_role("link", name="Plane").click()
    page.get_by_role("img", name="Plane of dnn").click()
    expect(page.get_by_role("table", name="Predictions")).to_be_visible()
    page.get_by_role("link", name="Versions").click()
    page.get_by_role("button", name="Details of version 1").click()
    image = page.get_by_role("dialog").get_by_role("img", name="Boundary")
    page.wait_for_function("image => image.naturalWidth > 100", arg=image.element_handle())
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Versions")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_wrong_token_is_asked_for_again(visit: Visitor) -> None:
    sheet = Sheet(visit())
    give(dialog(sheet.page, TITLE), "a-token-of-somewhere-else")
    expect(dialog(sheet.page, TITLE).get_by_role("alert")).to_be_visible()
    give(dialog(sheet.page, TITLE), PREDICT)
    sheet.draw()
    sheet.expect_read("3")


def test_a_token_for_predictions_does_not_retrain_and_that_is_told(visit: Visitor) -> None:
    page = visit("/#/train/dnn")
    give(dialog(page, TITLE), PREDICT)
    form = page.get_by_role("form", name="Retrain")
    form.get_by_label("Epochs").fill("30")
    form.get_by_role("button", name="Retrain").click()
    asked = dialog(page)
    expect(asked.get_by_role("alert")).to_be_visible()
    asked.get_by_role("button", name="Cancel").click()
    expect(form.get_by_label("Epochs")).to_have_value("30")


def test_without_a_token_the_page_says_what_it_needs_and_asks_again(visit: Visitor) -> None:
    page = visit()
    dialog(page, TITLE).get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(TITLE)
    expect(page.get_by_text("Without one it answers nothing here.")).to_be_visible()
    page.get_by_role("button", name="Try again").click()
    give(dialog(page, TITLE), PREDICT)
    expect(page.get_by_role("heading", level=1)).to_have_text("Draw a digit")
    Sheet(page).draw()
    Sheet(page).expect_read("3")
