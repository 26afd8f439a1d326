"""Take screenshots of the playground, with a server, a worker and a store of their own.

python -m scripts.screenshots [--browser /usr/bin/chromium] [--out docs/images]

`draw.png` and `plane.png` go into the manual's folder, all others into `screenshots/`.
"""

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.conftest import TIMEOUT_MS, serving
from tests.browser.parts.sheet import drawn
from tests.browser.parts.site import Site
from tests.browser.parts.token_dialog import enter_admin_token
from tests.browser.parts.views import VIEWS, open_details
from tests.browser.parts.visitor import PHONE, Visitor

ROOT = Path(__file__).parent.parent
OTHERS = ROOT / "screenshots"
IN_MANUAL = ("draw", "plane")
COLORS = 256
KOREAN = {"locale": "ko-KR"}
DARK = {"color_scheme": "dark"}
# Shown once a view has loaded its data.
LOADED = {
    "plane": ".plane-canvas",
    "train": "form .pair select",
    "versions": "tbody tr",
    "jobs": "tbody tr",
}
PLAYED = "() => document.querySelector('.job .chart-drawing')?.ariaLabel?.includes('1,500')"
Take = Callable[[Page, str], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    given = parser.parse_args()

    def take(page: Page, name: str) -> None:
        folder = given.out if name in IN_MANUAL else OTHERS
        folder.mkdir(parents=True, exist_ok=True)
        page.wait_for_load_state("networkidle")
        save(page.screenshot(animations="disabled"), folder / f"{name}.png")
        print(folder / f"{name}.png")

    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as site,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=given.browser, args=["--no-sandbox", "--font-render-hinting=none"]
        )
        visit = Visitor(browser, site.url, TIMEOUT_MS)
        draw(visit, take)
        plane(visit, take)
        retrain(visit, take, site)
        for name, options in {"dark": DARK, "ko": KOREAN, "phone": PHONE}.items():
            all_views(visit, take, name, options)
        all_views(visit, take, "phone-ko", {**PHONE, **KOREAN})
        visit.close()
        browser.close()


def save(data: bytes, path: Path) -> None:
    """Save as a PNG with a palette, which takes a quarter of the bytes."""
    with Image.open(io.BytesIO(data)) as picture:
        few = picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
        few.save(path, optimize=True)


def draw(visit: Visitor, take: Take, name: str = "draw", **options: Any) -> Page:
    page = drawn(visit(**options)).page
    page.mouse.move(0, 0)
    take(page, name)
    return page


def plane(visit: Visitor, take: Take) -> None:
    page = visit("/#/plane/dnn")
    canvas = page.get_by_role("img", name="Plane of")
    expect(canvas).to_be_visible()
    page.wait_for_load_state("networkidle")
    for x, y in ((68, 102), (288, 178), (195, 246)):
        canvas.click(position={"x": x, "y": y})
    expect(page.get_by_role("table").locator("tbody").get_by_role("row")).to_have_count(3)
    page.evaluate("scrollTo(0, 190)")  # the whole plane is in view
    canvas.hover(position={"x": 195, "y": 246})
    take(page, "plane")


def retrain(visit: Visitor, take: Take, site: Site) -> None:
    """A job while it runs and at its end, a refused version, and what they leave in the views."""
    page = visit("/#/train/dnn")
    enter_admin_token(page)
    form = page.get_by_role("form", name="Retrain")
    expect(form.get_by_label("Hidden units")).to_be_visible()
    take(page, "train")
    form.get_by_label("Hidden units").fill("8")
    form.get_by_label("Epochs").fill("1500")
    form.get_by_role("button", name="Retrain").click()
    middle = "() => document.querySelector('.job [role=progressbar]')?.ariaValueNow > 40"
    page.wait_for_function(middle, timeout=300_000)
    take(page, "job-middle")
    expect(page.get_by_role("region", name="Verdict")).to_be_visible(timeout=300_000)
    page.wait_for_function(PLAYED)
    take(page, "job-end")
    site.finished(site.retrain(model="dnn", epochs=40))
    site.finished(site.retrain(model="xor", epochs=300))
    page = visit("/#/jobs/2")
    expect(page.get_by_role("region", name="Verdict")).to_be_visible()
    take(page, "job-refused")
    page = visit("/#/plane/dnn/1/3")
    expect(page.get_by_role("img", name="Plane of")).to_have_count(2)
    take(page, "plane-two")
    page = drawn(visit()).page
    page.get_by_role("button", name="Requests").click()
    take(page, "requests")
    page.get_by_role("button", name="Enter token").click()
    take(page, "token")
    page = visit("/#/versions/dnn")
    take(page, "versions")
    expect(open_details(page).get_by_role("img", name="Boundary")).to_be_visible()
    take(page, "details")


def all_views(visit: Visitor, take: Take, name: str, options: dict[str, Any]) -> None:
    page = draw(visit, take, f"draw-{name}", **options)
    for view in VIEWS[1:]:
        page.goto(f"{visit.url}/#/{view}")
        expect(page.locator(f".views [href='#/{view}']")).to_have_attribute("aria-current", "page")
        expect(page.locator(LOADED[view]).first).to_be_visible()
        take(page, f"{view}-{name}")
    page.goto(f"{visit.url}/#/jobs/1")
    page.wait_for_function(PLAYED)
    take(page, f"job-{name}")
    page.goto(f"{visit.url}/#/versions/dnn")
    page.locator("tbody .actions button").first.click()
    expect(page.locator("dialog img")).to_be_visible()
    take(page, f"details-{name}")


if __name__ == "__main__":
    main()
