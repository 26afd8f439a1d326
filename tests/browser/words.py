"""What a page says, and in which language."""

import json
import re

from playwright.sync_api import Page

from perceptd.service.api.page import FOLDER

ENGLISH: dict[str, str] = json.loads((FOLDER / "text" / "en.json").read_text())
KOREAN: dict[str, str] = json.loads((FOLDER / "text" / "ko.json").read_text())

# Every text to be seen or heard, in elements and in their accessible names; but for those that are
# marked as English for everybody, as the service's own sentences are.
SAID = """() => {
  const said = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_ALL);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const isText = node.nodeType === Node.TEXT_NODE;
    const element = isText ? node.parentElement : node;
    if (!element.checkVisibility?.() || element.closest("body [lang=en]")) continue;
    if (isText) said.push(node.textContent);
    else {
      for (const name of ["aria-label", "title", "placeholder", "aria-valuetext"]) {
        if (node.hasAttribute(name)) said.push(node.getAttribute(name));
      }
    }
  }
  return said.map((text) => text.trim()).filter(Boolean);
}"""


def pattern(text: str) -> re.Pattern[str]:
    """A text of the page, whatever its values are."""
    return re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(text)))


# Texts that are alike in both languages tell nothing, nor do those that are a value alone.
TELLING = [
    pattern(text)
    for key, text in ENGLISH.items()
    if text != KOREAN[key] and re.search(r"[A-Za-z]{2}", re.sub(r"\{\w+\}", "", text))
]


def english(page: Page) -> list[str]:
    """What is said in English on a page."""
    said: list[str] = page.evaluate(SAID)
    return [text for text in said if any(one.fullmatch(text) for one in TELLING)]
