"""The texts of the page, and which of them it shows in English."""

import json
import re

from playwright.sync_api import Page

from perceptd.service.api.page import FOLDER

ENGLISH: dict[str, str] = json.loads((FOLDER / "text" / "en.json").read_text())
KOREAN: dict[str, str] = json.loads((FOLDER / "text" / "ko.json").read_text())

# Visible texts and accessible names, without elements that are in English for everybody.
SHOWN = """() => {
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_ALL);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const isText = node.nodeType === Node.TEXT_NODE;
    const element = isText ? node.parentElement : node;
    if (!element.checkVisibility?.() || element.closest("body [lang=en]")) continue;
    if (isText) texts.push(node.textContent);
    else {
      for (const name of ["aria-label", "title", "placeholder", "aria-valuetext"]) {
        if (node.hasAttribute(name)) texts.push(node.getAttribute(name));
      }
    }
  }
  return texts.map((text) => text.trim()).filter(Boolean);
}"""


def pattern(text: str) -> re.Pattern[str]:
    """Matches a text with any values in it."""
    return re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(text)))


# English texts that differ from the Korean ones and are more than a value.
PATTERNS = [
    pattern(text)
    for key, text in ENGLISH.items()
    if text != KOREAN[key] and re.search(r"[A-Za-z]{2}", re.sub(r"\{\w+\}", "", text))
]


def english_texts(page: Page) -> list[str]:
    """The texts that a page shows in English."""
    shown: list[str] = page.evaluate(SHOWN)
    return [text for text in shown if any(one.fullmatch(text) for one in PATTERNS)]
