"""Behind a proxy that removes a prefix, all addresses of the page are below that prefix."""

from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
import uvicorn
from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.browser.parts.sheet import drawn
from tests.browser.parts.site import Site
from tests.browser.parts.views import VIEWS, expect_image, go, open_details
from tests.browser.parts.visitor import Visitor
from tests.server import listening

PREFIX = "/models/perceptd"
HOP_HEADERS = ("host", "connection", "transfer-encoding", "content-length", "content-encoding")


def proxy(upstream: str) -> Starlette:
    """Forwards requests below the prefix, and has no other route."""

    async def forward(request: Request) -> Response:
        async with httpx.AsyncClient(base_url=upstream, trust_env=False, timeout=30) as client:
            response = await client.request(
                request.method,
                request.url.path.removeprefix(PREFIX),
                params=request.url.query,
                headers=end_to_end(dict(request.headers)),
                content=await request.body(),
            )
        headers = end_to_end(dict(response.headers))
        return Response(response.content, response.status_code, headers)

    return Starlette(
        routes=[Route(PREFIX + "/{path:path}", forward, methods=["GET", "POST", "PUT"])]
    )


def end_to_end(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in HOP_HEADERS}


@pytest.fixture(scope="module")
def site(shared_site: Site) -> Iterator[Site]:
    config = uvicorn.Config(proxy(shared_site.url), port=0, log_level="warning")
    with listening(config) as url, closing(Site(url + PREFIX, shared_site.data_dir)) as site:
        yield site


def test_every_view_works_behind_a_prefix(visit: Visitor) -> None:
    page = visit()
    drawn(page)
    for view in VIEWS:
        go(page, view)
        page.wait_for_load_state("networkidle")
    page.goto(f"{visit.url}/#/jobs/1")
    expect(page.get_by_role("region", name="Verdict")).to_be_visible()
    page.goto(f"{visit.url}/#/versions/dnn")
    dialog = open_details(page)
    expect_image(dialog.get_by_role("img", name="Boundary"))
    dialog.get_by_role("button", name="Close").click()
    requests = [one for one in visit.requests if not one.url.startswith("blob:")]
    assert [one.url for one in requests if not one.url.startswith(f"{visit.url}/")] == []
    assert [one.url for one in requests if (got := one.response()) and got.status >= 400] == []
    assert visit.console == []
