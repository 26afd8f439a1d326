"""The dialog that asks for a token."""

from playwright.sync_api import Locator, Page, expect

from tests.service.admin import ADMIN


def token_dialog(page: Page, title: str = "Admin token required") -> Locator:
    return page.get_by_role("dialog", name=title)


def enter(dialog: Locator, token: str = ADMIN) -> None:
    dialog.get_by_label("Token").fill(token)
    dialog.get_by_role("button", name="Use token").click()


def enter_admin_token(page: Page) -> None:
    """Enter the admin token before a request needs it."""
    page.get_by_role("button", name="Enter token").click()
    enter(token_dialog(page))
    expect(page.get_by_role("button", name="Remove token")).to_be_visible()
