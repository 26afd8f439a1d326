"""Opens the page in a browser, and records what the browser requests and logs."""

from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, WebError

CLIENT_ERROR = "Failed to load resource: the server responded with a status of 4"
DESKTOP: dict[str, Any] = {"locale": "en-US", "viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "locale": "en-US",
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}


class Visitor:
    """Each page that it opens has a context of its own, like another user's browser."""

    def __init__(self, browser: Browser, url: str, timeout_ms: float) -> None:
        self.url = url
        self.requests: list[Request] = []
        self.console: list[str] = []  # errors and warnings
        self.errors: list[str] = []  # uncaught exceptions
        self.ignored = CLIENT_ERROR  # start of the console messages that are no failure
        self._browser = browser
        self._timeout_ms = timeout_ms
        self._contexts: list[BrowserContext] = []

    def __call__(self, address: str = "/", **options: Any) -> Page:
        """Open an address, such as `/#/plane` or `/docs`, in a new context."""
        return self.open(self.context(**options), address)

    def context(self, **options: Any) -> BrowserContext:
        context = self._browser.new_context(**{**DESKTOP, **options})
        context.set_default_timeout(self._timeout_ms)
        context.on("request", self._add_request)
        context.on("console", self._add_message)
        context.on("weberror", self._add_error)
        self._contexts.append(context)
        return context

    def open(self, context: BrowserContext, address: str = "/") -> Page:
        page = context.new_page()
        page.goto(self.url + address)
        return page

    def failures(self) -> list[str]:
        return self.errors + [text for text in self.console if not text.startswith(self.ignored)]

    def foreign_urls(self) -> list[str]:
        """Requested URLs of other hosts, but for those that the page's policy has blocked."""
        here = urlsplit(self.url).netloc
        urls = [request.url for request in self.requests if request.failure != "csp"]
        return [url for url in urls if urlsplit(url).netloc not in ("", here)]

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    def _add_request(self, request: Request) -> None:
        self.requests.append(request)

    def _add_message(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.console.append(message.text)

    def _add_error(self, error: WebError) -> None:
        self.errors.append(str(error.error))
