"""The question for a token, answered as somebody at the page does."""

from playwright.sync_api import Locator, Page, expect

from tests.service.admin import ADMIN


def dialog(page: Page, title: str = "This needs the admin token") -> Locator:
    return page.get_by_role("dialog", name=title)


def give(asked: Locator, token: str = ADMIN) -> None:
    asked.get_by_label("Token").fill(token)
    asked.get_by_role("button", name="Use this token").click()


def give_ahead(page: Page) -> None:
    """Give the admin token before anything asks for it."""
    page.get_by_role("button", name="Give a token").click()
    give(dialog(page))
    expect(page.get_by_role("button", name="Forget the token")).to_be_visible()
