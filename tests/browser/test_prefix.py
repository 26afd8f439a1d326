"""The page behind a proxy that takes a prefix away: all of its addresses are relative."""

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

from tests.browser.sheet import Sheet
from tests.browser.site import Site
from tests.browser.visitor import VIEWS, Visitor
from tests.server import listening

PREFIX = "/models/perceptd"
OF_A_HOP = ("host", "connection", "transfer-encoding", "content-length", "content-encoding")


def proxy(behind: str) -> Starlette:
    """Passes on what lies below the prefix, and knows nothing else."""

    async def pass_on(request: Request) -> Response:
        async with httpx.AsyncClient(base_url=behind, trust_env=False, timeout=30) as client:
            answer = await client.request(
                request.method,
                request.url.path.removeprefix(PREFIX),
                params=request.url.query,
                headers=passed(dict(request.headers)),
                content=await request.body(),
            )
        return Response(answer.content, answer.status_code, passed(dict(answer.headers)))

    everything = Route(PREFIX + "/{path:path}", pass_on, methods=["GET", "POST", "PUT"])
    return Starlette(routes=[everything])


def passed(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in OF_A_HOP}


@pytest.fixture(scope="module")
def site(settled: Site) -> Iterator[Site]:
    config = uvicorn.Config(proxy(settled.url), port=0, log_level="warning")
    with listening(config) as url, closing(Site(url + PREFIX, settled.data_dir)) as site:
        yield site


def test_every_view_works_behind_a_prefix(visit: Visitor) -> None:
    sheet = Sheet(visit())
    sheet.draw()
    sheet.expect_read("3")
    page = sheet.page
    for view in VIEWS:
        link = page.get_by_role("navigation", name="Views").locator(f"[href='#/{view}']")
        link.click()
        expect(link).to_have_attribute("aria-current", "page")
        page.wait_for_load_state("networkidle")
    page.goto(f"{visit.url}/#/jobs/1")
    expect(page.get_by_role("region", name="Verdict")).to_be_visible()
    page.goto(f"{visit.url}/#/versions/dnn")
    page.get_by_role("button", name="Details of version 1").click()
    image = page.get_by_role("dialog").get_by_role("img", name="Boundary")
    page.wait_for_function("image => image.naturalWidth > 100", arg=image.element_handle())
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    asked = [request.url for request in visit.requests if not request.url.startswith("blob:")]
    assert [url for url in asked if not url.startswith(f"{visit.url}/")] == []
