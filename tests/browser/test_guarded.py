"""Where every request needs a token, the page asks for it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import serving
from tests.browser.parts.sheet import drawn
from tests.browser.parts.site import Site
from tests.browser.parts.token_dialog import enter, token_dialog
from tests.browser.parts.views import expect_image, go, heading, open_details
from tests.browser.parts.visitor import Visitor
from tests.service.admin import PREDICT

TITLE = "Token required"


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with serving(folder, PERCEPTD_WORKERS="0", PERCEPTD_PREDICT_TOKEN=PREDICT) as site:
        yield site


def test_page_asks_for_token_until_it_is_accepted(visit: Visitor) -> None:
    page = visit()
    dialog = token_dialog(page, TITLE)
    enter(dialog, "a-token-of-another-server")
    expect(dialog.get_by_role("alert")).to_be_visible()
    enter(dialog, PREDICT)
    drawn(page)
    go(page, "plane")
    page.get_by_role("img", name="Plane of dnn").click()
    expect(page.get_by_role("table", name="Predictions")).to_be_visible()
    go(page, "versions")
    expect_image(open_details(page).get_by_role("img", name="Boundary"))
    page.reload()
    expect(heading(page)).to_have_text("Versions")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_token_for_predictions_does_not_retrain(visit: Visitor) -> None:
    page = visit("/#/train/dnn")
    enter(token_dialog(page, TITLE), PREDICT)
    form = page.get_by_role("form", name="Retrain")
    form.get_by_label("Epochs").fill("30")
    form.get_by_role("button", name="Retrain").click()
    dialog = token_dialog(page)
    expect(dialog.get_by_role("alert")).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    expect(form.get_by_label("Epochs")).to_have_value("30")


def test_page_without_token_says_what_it_needs_and_asks_again(visit: Visitor) -> None:
    page = visit()
    token_dialog(page, TITLE).get_by_role("button", name="Cancel").click()
    expect(heading(page)).to_have_text(TITLE)
    expect(page.get_by_text("Without a token, this page cannot show anything.")).to_be_visible()
    page.get_by_role("button", name="Try again").click()
    enter(token_dialog(page, TITLE), PREDICT)
    expect(heading(page)).to_have_text("Draw a digit")
    drawn(page)
