"""The page is in the language of the browser, or in the one that the user has chosen."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.parts.sheet import drawn
from tests.browser.parts.texts import ENGLISH, KOREAN, english_texts
from tests.browser.parts.views import VIEWS, go, heading
from tests.browser.parts.visitor import Visitor


def expect_language(page: Page, language: str, view: str = "draw") -> None:
    title = {"en": ENGLISH, "ko": KOREAN}[language][f"{view}.title"]
    expect(heading(page)).to_have_text(title)
    assert page.evaluate("document.documentElement.lang") == language


@pytest.mark.parametrize(
    ("locale", "language"), [("ko-KR", "ko"), ("en-GB", "en"), ("fr-FR", "en")]
)
def test_page_starts_in_the_browsers_language(visit: Visitor, locale: str, language: str) -> None:
    expect_language(visit(locale=locale), language)


def test_chosen_language_is_stored(visit: Visitor) -> None:
    page = visit()
    expect_language(page, "en")
    for name, language in (("한국어", "ko"), ("English", "en")):
        page.get_by_role("button", name=name).click()
        expect_language(page, language)
        page.reload()
        expect_language(page, language)


@pytest.mark.parametrize("view", VIEWS)
def test_whole_view_is_translated(visit: Visitor, view: str) -> None:
    """From the start, and when the user changes the language."""
    page = visit(f"/#/{view}", locale="ko-KR")
    expect_language(page, "ko", view)
    page.wait_for_load_state("networkidle")
    assert english_texts(page) == []
    page.get_by_role("button", name="English").click()
    expect_language(page, "en", view)
    assert len(english_texts(page)) > 10
    page.get_by_role("button", name="한국어").click()
    expect_language(page, "ko", view)
    assert english_texts(page) == []


def test_view_is_translated_that_was_hidden_at_the_change(visit: Visitor) -> None:
    page = visit()
    go(page, "jobs")
    page.get_by_role("button", name="한국어").click()
    expect_language(page, "ko", "jobs")
    page.get_by_role("link", name=KOREAN["shell.draw"]).click()
    expect_language(page, "ko")
    assert english_texts(page) == []


def test_reading_is_announced_in_korean(visit: Visitor) -> None:
    page = visit(locale="ko-KR")
    drawn(page)
    expect(page.locator("#announcements")).to_contain_text("mnist-cnn: 3")
    assert english_texts(page) == []


def test_token_dialog_is_translated(visit: Visitor) -> None:
    page = visit(locale="ko-KR")
    page.get_by_role("button", name=KOREAN["token.enter"]).click()
    dialog = page.get_by_role("dialog", name=KOREAN["token.admin"])
    expect(dialog.get_by_role("button", name=KOREAN["token.use"])).to_be_visible()
    assert english_texts(page) == []


def test_details_of_a_version_and_a_job_are_translated(visit: Visitor) -> None:
    page = visit("/#/versions/dnn", locale="ko-KR")
    page.get_by_role("button", name=KOREAN["versions.details"]).first.click()
    expect(page.get_by_role("dialog").get_by_role("img").first).to_be_visible()
    assert english_texts(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("link", name=KOREAN["shell.jobs"]).click()
    page.get_by_role("link", name="#1").click()
    panel = page.get_by_role("region", name=re.compile(r"^작업 1"))
    expect(panel.get_by_role("region", name=KOREAN["verdict.title"])).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert english_texts(page) == []
