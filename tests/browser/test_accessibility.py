"""axe finds no serious violation: in light and dark colours, on a desktop and on a phone."""

from collections.abc import Callable
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.parts.sheet import Sheet, drawn
from tests.browser.parts.token_dialog import token_dialog
from tests.browser.parts.views import VIEWS, expect_image, open_details, wait_until_loaded
from tests.browser.parts.visitor import Visitor

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
SERIOUS = ("serious", "critical")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZES = ((1280, 800), (390, 844))
axe = Axe()


def violations(page: Page) -> list[str]:
    return [
        f"{one['impact']} {one['id']}: {[node['html'] for node in one['nodes']]}"
        for one in axe.run(page, options=RULES).response["violations"]
        if one["impact"] in SERIOUS
    ]


def open_token_dialog(page: Page) -> None:
    page.get_by_role("button", name="Enter token").click()
    expect(token_dialog(page)).to_be_visible()


def show_details(page: Page) -> None:
    expect_image(open_details(page).get_by_role("img", name="Boundary"))


def show_job(page: Page) -> None:
    expect(page.get_by_role("region", name="Verdict")).to_be_visible()


def show_requests(page: Page) -> None:
    drawn(page)
    Sheet(page).button("Requests").click()
    expect(page.get_by_role("region", name="Request as code")).to_be_visible()


def submit_invalid_form(page: Page) -> None:
    form = page.get_by_role("form", name="Retrain")
    form.get_by_label("Epochs").fill("0")
    form.get_by_role("button", name="Retrain").click()
    expect(form.get_by_label("Epochs")).to_have_attribute("aria-invalid", "true")
    form.get_by_text("More settings").click()


@pytest.mark.parametrize(
    ("address", "act"),
    [
        *((view, wait_until_loaded) for view in VIEWS),
        ("draw", drawn),
        ("draw", open_token_dialog),
        ("draw", show_requests),
        ("versions/dnn", show_details),
        ("jobs/1", show_job),
        ("train/dnn", submit_invalid_form),
    ],
)
def test_page_is_accessible(visit: Visitor, address: str, act: Callable[[Page], object]) -> None:
    page = visit(f"/#/{address}")
    act(page)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            assert violations(page) == [], f"{scheme}, {width} pixels wide"
