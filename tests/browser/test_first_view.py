"""The first view is small; nothing on any page comes from another host."""

from playwright.sync_api import Request, Route, expect

from tests.browser.sheet import Sheet
from tests.browser.visitor import VIEWS, Visitor

MAX_BYTES = 150_000
MAKERS_LOGO = "Loading the image 'https://cdn.redoc.ly/redoc/logo-mini.svg' violates"


def transferred(requests: list[Request]) -> int:
    """Bytes of the answers, headers included, as they came over the wire."""
    sizes = [request.sizes() for request in requests if request.response()]
    return sum(size["responseHeadersSize"] + size["responseBodySize"] for size in sizes)


def test_the_first_view_is_small(visit: Visitor) -> None:
    page = visit()
    expect(page.get_by_role("region", name="mnist-cnn")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert 10_000 < transferred(visit.requests) < MAX_BYTES


def test_a_walk_through_the_page_fails_nowhere_and_asks_this_host_alone(visit: Visitor) -> None:
    page = visit()
    Sheet(page).draw()
    Sheet(page).expect_read("3")
    for view in VIEWS:
        link = page.get_by_role("navigation", name="Views").locator(f"[href='#/{view}']")
        link.click()
        expect(link).to_have_attribute("aria-current", "page")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.wait_for_load_state("networkidle")
    assert visit.console == []
    assert visit.failures() == []
    assert visit.foreign() == []
    assert not [one.url for one in visit.requests if (got := one.response()) and got.status >= 400]


def test_a_view_that_comes_late_does_not_replace_the_one_gone_to_since(visit: Visitor) -> None:
    page = visit()
    views = page.get_by_role("navigation", name="Views")
    late: list[Route] = []

    def hold(route: Route) -> None:
        late.append(route)

    page.route("**/js/views/jobs.js", hold)
    with page.expect_request("**/js/views/jobs.js"):
        views.get_by_role("link", name="Jobs").click()
    views.get_by_role("link", name="Versions").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Versions")
    (jobs,) = late
    jobs.continue_()
    page.evaluate("() => import('./static/js/views/jobs.js')")  # it is there now
    expect(page.get_by_role("heading", level=1)).to_have_text("Versions")
    expect(views.get_by_role("link", name="Versions")).to_have_attribute("aria-current", "page")


def test_the_documentation_shows_its_operations(visit: Visitor) -> None:
    page = visit("/docs")
    page.get_by_role("button", name="predict_proba").first.click()
    expect(page.get_by_role("button", name="Try it out")).to_be_visible()
    assert visit.console == []


def test_the_other_documentation_shows_them_too(visit: Visitor) -> None:
    visit.expected = MAKERS_LOGO
    page = visit("/redoc")
    expect(page.get_by_role("heading", name="Predict Proba")).to_be_visible()
    page.wait_for_load_state("networkidle")
