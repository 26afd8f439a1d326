"""How soon the playground can be used and how much it transfers, in a browser with an empty cache.

    python -m benchmarks.first_view --browser /usr/bin/chromium [--runs 9]

The time runs from the start of the navigation until a page can be used: the playground until both
networks' predictions are beside the sheet, `/docs` of the same server until its operations are
listed, and the floor, a response of one line. The pages take turns, each time with a new profile,
over loopback.
"""

import argparse
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Request, sync_playwright

from benchmarks.machine import describe
from benchmarks.servers import PORT, SERVE, alone, is_ready, running, until

RESULTS = Path(__file__).parent / "results" / "first-view.md"
URL = f"http://127.0.0.1:{PORT}"
# A page can be used once this many elements match this selector: title -> (path, selector, count).
PAGES = {
    "floor: an answer of one line, `/health/live`": ("/health/live", "pre", 1),
    "the playground, `/`": ("/", ".reading .bars li", 20),
    "the API's documentation, `/docs`": ("/docs", ".opblock", 20),
}
WATCH = """
const look = () => {
  if (window.usableAfter || document.querySelectorAll("%s").length < %d) return;
  window.usableAfter = performance.now();
};
new MutationObserver(look).observe(document, { childList: true, subtree: true });
addEventListener("DOMContentLoaded", look);
"""


@dataclass(frozen=True)
class View:
    """Milliseconds from the start of the navigation; bytes over the wire, headers included."""

    usable_ms: float
    transferred: int
    requests: int


def seen(browser: Browser, path: str, selector: str, count: int) -> View:
    """Open a page with a new browser profile."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        context.add_init_script(WATCH % (selector, count))
        requests: list[Request] = []
        context.on("requestfinished", lambda request: requests.append(request))
        page = context.new_page()
        page.goto(URL + path)
        page.wait_for_function("() => window.usableAfter")
        page.wait_for_load_state("networkidle")
        sizes = [request.sizes() for request in requests]
        transferred = sum(one["responseHeadersSize"] + one["responseBodySize"] for one in sizes)
        return View(page.evaluate("window.usableAfter"), transferred, len(requests))
    finally:
        context.close()


def measure(browser: Browser, runs: int) -> dict[str, list[View]]:
    found: dict[str, list[View]] = {name: [] for name in PAGES}
    for _ in range(runs):
        for name, page in PAGES.items():
            found[name].append(seen(browser, *page))
    return found


def table(found: dict[str, list[View]]) -> str:
    floor = statistics.median(view.usable_ms for view in next(iter(found.values())))
    lines = [
        "| page | ms until it can be used, median (min to max) | ratio to floor | kB | requests |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, views in found.items():
        usable = [view.usable_ms for view in views]
        middle = statistics.median(usable)
        kilobytes = statistics.median(view.transferred for view in views) / 1000
        lines.append(
            f"| {name} | {middle:.0f} ({min(usable):.0f} to {max(usable):.0f}) "
            f"| {middle / floor:.1f} | {kilobytes:.1f} "
            f"| {statistics.median(view.requests for view in views):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--browser", required=True, help="A Chromium.")
    parser.add_argument("--runs", type=int, default=9)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as store,
        running(SERVE, alone(Path(store)), errors=subprocess.DEVNULL) as process,
        sync_playwright() as playwright,
    ):
        until(process, lambda: is_ready(URL))
        # Chromium's sandbox works neither as root nor in most containers.
        browser = playwright.chromium.launch(executable_path=given.browser, args=["--no-sandbox"])
        found, version = measure(browser, given.runs), browser.version
        browser.close()
    facts = f"{describe()}; Chromium {version}; {given.runs} runs of each, in turn"
    text = f"{facts}.\n\n{table(found)}\n"
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
