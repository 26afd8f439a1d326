"""Somebody who opens the page, and what the browser saw meanwhile."""

from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, WebError

REFUSED = "Failed to load resource: the server responded with a status of 4"
DESK: dict[str, Any] = {"locale": "en-US", "viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "locale": "en-US",
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
VIEWS = ("draw", "plane", "train", "versions", "jobs")


class Visitor:
    """Each page that it opens is one of a context of its own: another person's browser."""

    def __init__(self, browser: Browser, url: str, patience_ms: float) -> None:
        self.url = url
        self.requests: list[Request] = []
        self.console: list[str] = []
        self.errors: list[str] = []
        self.expected = REFUSED  # how complaints begin that are no failure
        self._browser = browser
        self._patience_ms = patience_ms
        self._contexts: list[BrowserContext] = []

    def __call__(self, address: str = "/", **options: Any) -> Page:
        """Open an address, as `/#/plane` or `/docs`."""
        return self.opened(self.context(**options), address)

    def context(self, **options: Any) -> BrowserContext:
        context = self._browser.new_context(**{**DESK, **options})
        context.set_default_timeout(self._patience_ms)
        context.on("request", self._see)
        context.on("console", self._hear)
        context.on("weberror", self._fail)
        self._contexts.append(context)
        return context

    def opened(self, context: BrowserContext, address: str = "/") -> Page:
        page = context.new_page()
        page.goto(self.url + address)
        return page

    def failures(self) -> list[str]:
        """Exceptions nobody caught, and what else the browser complained of."""
        return self.errors + [text for text in self.console if not text.startswith(self.expected)]

    def foreign(self) -> list[str]:
        """Addresses of other hosts that were asked; what the page's own policy refused was not."""
        here = urlsplit(self.url).netloc
        asked = [request.url for request in self.requests if request.failure != "csp"]
        return [url for url in asked if urlsplit(url).netloc not in ("", here)]

    def leave(self) -> None:
        for context in self._contexts:
            context.close()

    def _see(self, request: Request) -> None:
        self.requests.append(request)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.console.append(message.text)

    def _fail(self, error: WebError) -> None:
        self.errors.append(str(error.error))
