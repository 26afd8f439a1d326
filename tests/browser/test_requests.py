"""Every request of the page can be copied, and what is copied does what the page did."""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Response, expect

from tests.browser.sheet import Sheet
from tests.browser.site import Site
from tests.browser.token_dialog import give_ahead
from tests.browser.visitor import Visitor
from tests.service.admin import ADMIN
from tests.waiting import eventually

NEWEST = 5  # of the answers to one address: while something is drawn it is asked again and again
OF_ITS_OWN = {"id", "created_at", "total"}  # what another request of the same kind gets


@pytest.fixture(scope="module")
def site(fresh: Site) -> Site:
    return fresh


@pytest.fixture
def page(visit: Visitor) -> Page:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    give_ahead(page)
    return page


def copied(page: Page, word: str) -> str:
    """What is in the clipboard, once it is the code that this word is of."""

    def read() -> str:
        text: str = page.evaluate("navigator.clipboard.readText()")
        return text

    eventually(lambda: word in read())
    return read()


def draw(page: Page) -> None:
    Sheet(page).draw()
    Sheet(page).expect_read("3")


def correct(page: Page) -> None:
    draw(page)
    page.get_by_role("button", name="It is 3").click()
    seen = page.get_by_role("region", name="What the networks see")
    expect(seen.get_by_text("Kept as a 3.")).to_be_visible()


def point(page: Page) -> None:
    page.get_by_role("link", name="Plane").click()
    page.get_by_role("img", name="Plane of dnn").click()
    expect(page.get_by_role("table", name="Predictions")).to_be_visible()


def look_up(page: Page) -> None:
    page.get_by_role("link", name="Versions").click()
    page.get_by_role("combobox", name="Model").select_option("xor")
    expect(page.get_by_role("table", name="Versions of xor")).to_be_visible()
    page.get_by_role("button", name="Details of version 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()


def retrain(page: Page) -> None:
    page.get_by_role("link", name="Retrain").click()
    form = page.get_by_role("form", name="Retrain")
    form.get_by_role("combobox", name="Model").select_option("xor")
    form.get_by_label("Epochs").fill("2")
    form.get_by_label("Promote the result").select_option("never: I do it by hand")
    form.get_by_role("button", name="Retrain").click()
    expect(page.get_by_role("region", name=re.compile(r"^Job \d+"))).to_be_visible()


def promote(page: Page) -> None:
    retrain(page)
    job = page.get_by_role("region", name=re.compile(r"^Job \d+"))
    job.get_by_role("button", name="Promote version").click(timeout=120_000)
    expect(page.get_by_text("serves now.")).to_be_visible()


@pytest.mark.parametrize(
    ("act", "line"),
    [
        (draw, "POST /predict/image"),
        (correct, "POST /feedback"),
        (point, "POST /predict_proba"),
        (look_up, "GET /models/xor/versions/1"),
        (promote, "PUT /models/xor/aliases/production"),
        (retrain, "POST /jobs"),
    ],
)
def test_a_copied_request_gets_what_the_page_got(
    page: Page, site: Site, act: Callable[[Page], None], line: str
) -> None:
    answers: dict[str, list[Response]] = defaultdict(list)

    def keep(response: Response) -> None:
        answers[response.url].append(response)

    page.on("response", keep)
    act(page)
    bar = page.get_by_role("region", name="Requests of this page")
    expect(bar.get_by_text(line)).to_be_visible()
    for name, command, word in (
        ("curl", ["bash"], "curl -s"),
        ("Python", [sys.executable, "-"], "import httpx"),
    ):
        page.get_by_role("button", name=f"Copy as {name}").click()
        expect(page.get_by_text("Copied.")).to_be_visible()
        text = copied(page, word)
        assert ADMIN not in text
        url = next(url for url in sorted(answers, reverse=True) if url in text)
        got = [lasting(response.json()) for response in answers[url][-NEWEST:]]
        assert lasting(run(command, text, site)) in got


def test_an_earlier_request_is_found_in_the_list(page: Page) -> None:
    look_up(page)
    page.get_by_role("link", name="Draw").click()
    draw(page)
    page.get_by_role("button", name="Requests", exact=True).click()
    page.get_by_role("button", name="GET /models/xor/versions/1").click()
    code = page.get_by_role("region", name="The request as code")
    expect(code).to_contain_text("curl -s")
    expect(code).to_contain_text("/models/xor/versions/1")
    page.get_by_role("button", name="Python", exact=True).click()
    expect(code).to_contain_text("import httpx")


def run(command: list[str], text: str, site: Site) -> Any:
    """What the copied text prints, run by somebody at the server's own machine."""
    variables = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "PERCEPTD_DATA_DIR": str(site.data_dir),
    }
    done = subprocess.run(
        command, input=text, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def lasting(value: Any) -> Any:
    """An answer without what is another each time."""
    if isinstance(value, list):
        return [lasting(one) for one in value]
    if isinstance(value, dict):
        return {name: lasting(one) for name, one in value.items() if name not in OF_ITS_OWN}
    return value
