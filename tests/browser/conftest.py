"""A real Chromium, and a real server with a worker for it to visit."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from perceptd.service.auth import credentials
from tests.browser.parts.site import Site
from tests.browser.parts.visitor import Visitor
from tests.service.admin import ADMIN
from tests.service.served import Served

CHROMIUM = "PERCEPTD_TEST_BROWSER"
TIMEOUT_MS = 30_000  # the machine may be busy

expect.set_options(timeout=TIMEOUT_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if not (path := os.environ.get(CHROMIUM)):
        pytest.skip(f"{CHROMIUM} names no Chromium")
    with sync_playwright() as playwright:
        # Chromium's sandbox does not work as root, nor in most containers.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def serving(folder: Path, **variables: str) -> Iterator[Site]:
    """A server with one process and one worker, unless the variables say otherwise."""
    data_dir = folder / "data"
    data_dir.mkdir()
    (data_dir / credentials.FILE).write_text(ADMIN)
    defaults = {
        "PERCEPTD_PROCESSES": "1",
        "PERCEPTD_WORKERS": "1",
        "PERCEPTD_MAX_QUEUE_WAIT_MS": str(TIMEOUT_MS),
    }
    served = Served(folder, **{**defaults, **variables})
    try:
        with closing(Site(served.url, served.data_dir)) as site:
            yield site
    finally:
        served.end()


@pytest.fixture(scope="package")
def shared_site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site for tests that change nothing. Its job 1 has made version 2 of dnn."""
    with serving(tmp_path_factory.mktemp("site")) as site:
        job = site.finished(site.retrain(model="dnn", epochs=30, gate="never"))
        assert (job["id"], job["version"]) == (1, 2)
        yield site


@pytest.fixture(scope="module")
def own_site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site for one module, whose tests may change it."""
    with serving(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def site(shared_site: Site) -> Site:
    """The site that `visit` opens; a module can override it."""
    return shared_site


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visitor]:
    """Opens pages of the site. No page may fail, or request anything from another host."""
    visitor = Visitor(browser, site.url, TIMEOUT_MS)
    yield visitor
    visitor.close()
    assert visitor.failures() == []
    assert visitor.foreign_urls() == []
