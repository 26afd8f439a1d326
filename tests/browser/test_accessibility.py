"""axe finds nothing serious: views and dialogs, light and dark, on a desk and on a phone."""

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.sheet import Sheet
from tests.browser.visitor import VIEWS, Visitor

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
GRAVE = ("serious", "critical")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZES = ((1280, 800), (390, 844))
axe = Axe()


def faults(page: Page) -> list[str]:
    """What axe holds against a page, with the elements."""
    return [
        f"{one['impact']} {one['id']}: {[node['html'] for node in one['nodes']]}"
        for one in axe.run(page, options=RULES).response["violations"]
        if one["impact"] in GRAVE
    ]


def assert_accessible(page: Page) -> None:
    """In light and in dark, on a desk and on a phone."""
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            assert faults(page) == [], f"{scheme}, {width} pixels wide"


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_accessible(visit: Visitor, view: str) -> None:
    page = visit(f"/#/{view}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert_accessible(page)


def test_a_reading_is_accessible(visit: Visitor) -> None:
    sheet = Sheet(visit())
    sheet.draw()
    sheet.expect_read("3")
    assert_accessible(sheet.page)


def test_the_question_for_a_token_is_accessible(visit: Visitor) -> None:
    page = visit()
    page.get_by_role("button", name="Give a token").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert_accessible(page)


def test_the_details_of_a_version_are_accessible(visit: Visitor) -> None:
    page = visit("/#/versions/dnn")
    page.get_by_role("button", name="Details of version 1").click()
    expect(page.get_by_role("dialog").get_by_role("img", name="Boundary")).to_be_visible()
    assert_accessible(page)


def test_a_job_is_accessible(visit: Visitor) -> None:
    page = visit("/#/jobs/1")
    expect(page.get_by_role("region", name="Verdict")).to_be_visible()
    assert_accessible(page)


def test_the_list_of_requests_is_accessible(visit: Visitor) -> None:
    sheet = Sheet(visit())
    sheet.draw()
    sheet.expect_read("3")
    sheet.button("Requests").click()
    expect(sheet.page.get_by_role("region", name="The request as code")).to_be_visible()
    assert_accessible(sheet.page)


def test_a_mistake_in_the_form_is_accessible(visit: Visitor) -> None:
    page = visit("/#/train/dnn")
    form = page.get_by_role("form", name="Retrain")
    form.get_by_label("Epochs").fill("0")
    form.get_by_role("button", name="Retrain").click()
    expect(form.get_by_label("Epochs")).to_have_attribute("aria-invalid", "true")
    form.get_by_text("More settings").click()
    assert_accessible(page)
