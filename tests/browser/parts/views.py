"""The views of the page, and the steps that many tests take in them."""

import re

from playwright.sync_api import Locator, Page, expect

VIEWS = ("draw", "plane", "train", "versions", "jobs")


def go(page: Page, view: str) -> None:
    """Go to a view by its link in the header."""
    link = page.get_by_role("navigation", name="Views").locator(f"[href='#/{view}']")
    link.click()
    expect(link).to_have_attribute("aria-current", "page")
    expect(heading(page)).to_be_visible()


def heading(page: Page) -> Locator:
    return page.get_by_role("heading", level=1)


def wait_until_loaded(page: Page) -> None:
    expect(heading(page)).to_be_visible()
    page.wait_for_load_state("networkidle")


def open_details(page: Page) -> Locator:
    """The dialog with the details of version 1, opened in the view of the versions."""
    page.get_by_role("button", name="Details of version 1").click()
    return page.get_by_role("dialog")


def expect_image(image: Locator) -> None:
    """The image is visible, and its file has been loaded."""
    expect(image).to_be_visible()
    loaded = "image => image.naturalWidth > 100"
    image.page.wait_for_function(loaded, arg=image.element_handle())


def job_panel(page: Page) -> Locator:
    return page.get_by_role("region", name=re.compile(r"^Job \d+"))
