"""Every request of the page can be copied as code, which gets the same response."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Response, expect

from tests.browser.parts.sheet import drawn
from tests.browser.parts.site import Site
from tests.browser.parts.token_dialog import enter_admin_token
from tests.browser.parts.views import go, job_panel, open_details
from tests.browser.parts.visitor import Visitor
from tests.service.admin import ADMIN
from tests.waiting import eventually

NEWEST = 5  # responses of a URL that are compared: while drawing there are many
VARYING = {"id", "created_at", "total"}  # fields that differ when a request is repeated


@pytest.fixture(scope="module")
def site(own_site: Site) -> Site:
    return own_site


@pytest.fixture
def page(visit: Visitor) -> Page:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    enter_admin_token(page)
    return page


def clipboard(page: Page, word: str) -> str:
    """The text in the clipboard, once it has this word."""

    def read() -> str:
        text: str = page.evaluate("navigator.clipboard.readText()")
        return text

    eventually(lambda: word in read(), f"the clipboard has {word!r}")
    return read()


def correct(page: Page) -> None:
    drawn(page).button("It is 3").click()
    panel = page.get_by_role("region", name="What the networks see")
    expect(panel.get_by_text("Saved as 3.")).to_be_visible()


def predict(page: Page) -> None:
    go(page, "plane")
    page.get_by_role("img", name="Plane of dnn").click()
    expect(page.get_by_role("table", name="Predictions")).to_be_visible()


def show_details(page: Page) -> None:
    go(page, "versions")
    page.get_by_role("combobox", name="Model").select_option("xor")
    expect(page.get_by_role("table", name="Versions of xor")).to_be_visible()
    open_details(page).get_by_role("button", name="Close").click()


def retrain(page: Page) -> None:
    go(page, "train")
    form = page.get_by_role("form", name="Retrain")
    form.get_by_role("combobox", name="Model").select_option("xor")
    form.get_by_label("Epochs").fill("2")
    form.get_by_label("Promote the result").select_option("never: promote by hand")
    form.get_by_role("button", name="Retrain").click()
    expect(job_panel(page)).to_be_visible()


def promote(page: Page) -> None:
    retrain(page)
    job_panel(page).get_by_role("button", name="Promote version").click(timeout=120_000)
    expect(page.get_by_text("is now in production.")).to_be_visible()


@pytest.mark.parametrize(
    ("act", "line"),
    [
        (drawn, "POST /predict/image"),
        (correct, "POST /feedback"),
        (predict, "POST /predict_proba"),
        (show_details, "GET /models/xor/versions/1"),
        (promote, "PUT /models/xor/aliases/production"),
        (retrain, "POST /jobs"),
    ],
)
def test_copied_request_gets_the_response_of_the_page(
    page: Page, site: Site, act: Callable[[Page], object], line: str
) -> None:
    responses: dict[str, list[Response]] = defaultdict(list)

    def record(response: Response) -> None:
        responses[response.url].append(response)

    page.on("response", record)
    act(page)
    bar = page.get_by_role("region", name="Requests of this page")
    expect(bar.get_by_text(line)).to_be_visible()
    for name, command, word in (
        ("curl", ["bash"], "curl -s"),
        ("Python", [sys.executable, "-"], "import httpx"),
    ):
        page.get_by_role("button", name=f"Copy as {name}").click()
        expect(page.get_by_text("Copied.")).to_be_visible()
        code = clipboard(page, word)
        assert ADMIN not in code
        url = next(url for url in sorted(responses, reverse=True) if url in code)
        expected = [comparable(response.json()) for response in responses[url][-NEWEST:]]
        assert comparable(run(command, code, site)) in expected


def test_earlier_request_is_found_in_the_list(page: Page) -> None:
    show_details(page)
    go(page, "draw")
    drawn(page)
    page.get_by_role("button", name="Requests", exact=True).click()
    page.get_by_role("button", name="GET /models/xor/versions/1").click()
    code = page.get_by_role("region", name="Request as code")
    expect(code).to_contain_text("curl -s")
    expect(code).to_contain_text("/models/xor/versions/1")
    page.get_by_role("button", name="Python", exact=True).click()
    expect(code).to_contain_text("import httpx")


def run(command: list[str], code: str, site: Site) -> Any:
    """The JSON that the code prints on the server's machine."""
    variables = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "PERCEPTD_DATA_DIR": str(site.data_dir),
    }
    done = subprocess.run(
        command, input=code, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def comparable(value: Any) -> Any:
    """A response without its varying fields."""
    if isinstance(value, list):
        return [comparable(one) for one in value]
    if isinstance(value, dict):
        return {name: comparable(one) for name, one in value.items() if name not in VARYING}
    return value
