"""A real Chromium, and a real server with a worker for it to visit."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from perceptd.service.auth import credentials
from tests.browser.site import Site
from tests.browser.visitor import Visitor
from tests.service.admin import ADMIN
from tests.service.served import Served

CHROMIUM = "PERCEPTD_TEST_BROWSER"
PATIENCE_MS = 30_000  # the machine may be busy

expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if not (path := os.environ.get(CHROMIUM)):
        pytest.skip(f"{CHROMIUM} names no Chromium")
    with sync_playwright() as playwright:
        # Chromium does not put itself into a sandbox as root, nor in most containers.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def serving(folder: Path, **variables: str) -> Iterator[Site]:
    """A server of one process, with a worker unless the variables say otherwise."""
    data_dir = folder / "data"
    data_dir.mkdir()
    (data_dir / credentials.FILE).write_text(ADMIN)
    usual = {"PERCEPTD_PROCESSES": "1", "PERCEPTD_WORKERS": "1"}
    served = Served(folder, **{**usual, **variables})
    try:
        with closing(Site(served.url, served.data_dir)) as site:
            yield site
    finally:
        served.end()


@pytest.fixture(scope="package")
def settled(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site for tests that change nothing: one job has ended, its version does not serve."""
    with serving(tmp_path_factory.mktemp("site")) as site:
        job = site.ended(site.retrain(model="dnn", epochs=30, gate="never"))
        assert (job["id"], job["version"]) == (1, 2)
        yield site


@pytest.fixture(scope="module")
def fresh(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site of the module's own: what one test leaves there, the next may find."""
    with serving(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def site(settled: Site) -> Site:
    """What is visited; a module that changes it has a fixture of this name that takes another."""
    return settled


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visitor]:
    """Open pages of the site; whatever a test does there, the page must not fail or ask others."""
    visitor = Visitor(browser, site.url, PATIENCE_MS)
    yield visitor
    visitor.leave()
    assert visitor.failures() == []
    assert visitor.foreign() == []
