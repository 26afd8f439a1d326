"""The first view is small, a late view does not replace a newer one, /docs and /redoc work."""

from playwright.sync_api import Request, Route, expect

from tests.browser.parts.views import go, heading
from tests.browser.parts.visitor import Visitor

MAX_BYTES = 150_000
REDOC_LOGO = "Loading the image 'https://cdn.redoc.ly/redoc/logo-mini.svg' violates"


def transferred(requests: list[Request]) -> int:
    """Bytes of all responses on the wire, with headers."""
    sizes = [request.sizes() for request in requests if request.response()]
    return sum(size["responseHeadersSize"] + size["responseBodySize"] for size in sizes)


def test_first_view_is_small(visit: Visitor) -> None:
    page = visit()
    expect(page.get_by_role("region", name="mnist-cnn")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert 10_000 < transferred(visit.requests) < MAX_BYTES


def test_view_that_loads_late_does_not_replace_a_newer_one(visit: Visitor) -> None:
    page = visit()
    views = page.get_by_role("navigation", name="Views")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/js/views/jobs.js", hold)
    with page.expect_request("**/js/views/jobs.js"):
        views.get_by_role("link", name="Jobs").click()
    go(page, "versions")
    (jobs,) = held
    jobs.continue_()
    page.evaluate("() => import('./static/js/views/jobs.js')")  # waits until it is loaded
    expect(heading(page)).to_have_text("Versions")
    expect(views.get_by_role("link", name="Versions")).to_have_attribute("aria-current", "page")


def test_swagger_ui_shows_operations(visit: Visitor) -> None:
    page = visit("/docs")
    page.get_by_role("button", name="predict_proba").first.click()
    expect(page.get_by_role("button", name="Try it out")).to_be_visible()
    assert visit.console == []


def test_redoc_shows_operations(visit: Visitor) -> None:
    visit.ignored = REDOC_LOGO
    page = visit("/redoc")
    expect(page.get_by_role("heading", name="Predict Proba")).to_be_visible()
    page.wait_for_load_state("networkidle")
