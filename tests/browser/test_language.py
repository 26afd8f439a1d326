"""The page speaks the reader's language: the browser's, or the one that was chosen."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.sheet import Sheet
from tests.browser.visitor import VIEWS, Visitor
from tests.browser.words import ENGLISH, KOREAN, english


def language(page: Page) -> Any:
    return page.evaluate("document.documentElement.lang")


@pytest.mark.parametrize(
    ("locale", "lang", "title"),
    [
        ("ko-KR", "ko", KOREAN["draw.title"]),
        ("en-GB", "en", ENGLISH["draw.title"]),
        ("fr-FR", "en", ENGLISH["draw.title"]),
    ],
)
def test_the_browsers_language_is_spoken(
    visit: Visitor, locale: str, lang: str, title: str
) -> None:
    page = visit(locale=locale)
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    assert language(page) == lang


def test_a_language_that_was_chosen_is_kept(visit: Visitor) -> None:
    page = visit()
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text(ENGLISH["draw.title"])
    page.get_by_role("button", name="한국어").click()
    expect(heading).to_have_text(KOREAN["draw.title"])
    assert language(page) == "ko"
    page.reload()
    expect(heading).to_have_text(KOREAN["draw.title"])
    assert language(page) == "ko"
    page.get_by_role("button", name="English").click()
    expect(heading).to_have_text(ENGLISH["draw.title"])
    page.reload()
    expect(heading).to_have_text(ENGLISH["draw.title"])


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_left_in_english_in_a_korean_view(visit: Visitor, view: str) -> None:
    page = visit(f"/#/{view}", locale="ko-KR")
    expect(page.get_by_role("heading", level=1)).to_have_text(KOREAN[f"{view}.title"])
    page.wait_for_load_state("networkidle")
    assert english(page) == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_changes_its_language_while_it_is_shown(visit: Visitor, view: str) -> None:
    page = visit(f"/#/{view}")
    expect(page.get_by_role("heading", level=1)).to_have_text(ENGLISH[f"{view}.title"])
    page.wait_for_load_state("networkidle")
    assert len(english(page)) > 10
    page.get_by_role("button", name="한국어").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(KOREAN[f"{view}.title"])
    assert english(page) == []


def test_a_reading_is_heard_in_korean(visit: Visitor) -> None:
    page = visit(locale="ko-KR")
    strokes = Sheet(page)
    strokes.canvas = page.get_by_role("img", name="그림판")
    strokes.draw()
    strokes.expect_read("3")
    expect(page.locator("#spoken")).to_contain_text("mnist-cnn: 3")
    assert english(page) == []


def test_a_dialog_is_korean_too(visit: Visitor) -> None:
    page = visit(locale="ko-KR")
    page.get_by_role("button", name=KOREAN["token.give"]).click()
    dialog = page.get_by_role("dialog", name=KOREAN["token.admin"])
    expect(dialog.get_by_role("button", name=KOREAN["token.use"])).to_be_visible()
    assert english(page) == []


def test_the_details_of_a_version_and_a_job_are_korean_too(visit: Visitor) -> None:
    page = visit("/#/versions/dnn", locale="ko-KR")
    page.get_by_role("button", name=KOREAN["versions.details"]).first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("img").first).to_be_visible()
    assert english(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("link", name=KOREAN["shell.jobs"]).click()
    page.get_by_role("link", name="#1").click()
    panel = page.get_by_role("region", name=re.compile(r"^작업 1"))
    expect(panel.get_by_role("region", name=KOREAN["verdict.title"])).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert english(page) == []
