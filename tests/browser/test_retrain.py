"""A retraining asked for, watched, judged, promoted and cancelled by the page, with real jobs."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.sheet import PIXELS
from tests.browser.site import Site
from tests.browser.token_dialog import dialog, give, give_ahead
from tests.browser.visitor import Visitor

# Notes what the panel shows while it changes: points of the curve, and each picture of the plane.
WATCH = """panel => {
  window.points = new Set();
  window.watcher = new MutationObserver(() => {
    const curve = panel.querySelector("path.curve")?.getAttribute("d") ?? "";
    window.points.add((curve.match(/[ML]/g) ?? []).length);
  });
  window.watcher.observe(panel, { subtree: true, attributes: true, childList: true });
}"""
SHADES = f"canvas => new Set(new Uint32Array(({PIXELS})(canvas).buffer)).size"


@pytest.fixture(scope="module")
def site(fresh: Site) -> Site:
    return fresh


class Form:
    """The form of a retraining, and the panel of the job that it makes."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.form = page.get_by_role("form", name="Retrain")
        self.job = page.get_by_role("region", name=re.compile(r"^Job \d+"))

    def fill(self, **values: str) -> None:
        for name, value in values.items():
            field = self.form.get_by_label(name.replace("_", " ").capitalize(), exact=True)
            field.fill(value)

    def gate(self, words: str) -> None:
        self.form.get_by_label("Promote the result").select_option(words)

    def submit(self) -> None:
        self.form.get_by_role("button", name="Retrain").click()

    def expect_status(self, status: str) -> None:
        expect(self.job.get_by_text(status, exact=True).first).to_be_visible(timeout=120_000)

    @property
    def verdict(self) -> Locator:
        return self.job.get_by_role("region", name="Verdict")

    @property
    def number(self) -> int:
        found = re.search(r"Job (\d+)", self.job.get_by_role("heading", level=2).inner_text())
        assert found
        return int(found[1])


@pytest.fixture
def form(visit: Visitor) -> Form:
    page = visit("/#/train/dnn")
    give_ahead(page)
    return Form(page)


def production(site: Site, model: str) -> int:
    version: int = site.get(f"/models/{model}")["version"]
    return version


def test_a_job_is_watched_judged_promoted_and_rolled_back(form: Form, site: Site) -> None:
    """One retraining from the form to the button that takes it back."""
    form.fill(epochs="60")
    form.submit()
    expect(form.job).to_be_visible()
    form.job.evaluate(WATCH)
    plane = form.job.get_by_role("img", name="Plane with training points and decision boundary")
    expect(plane).to_be_visible(timeout=120_000)
    form.page.wait_for_function("() => window.points.size > 10")
    form.expect_status("Succeeded")
    counts = form.page.evaluate("[...window.points]")
    assert counts == sorted(counts)
    assert form.page.evaluate(f"({SHADES})(document.querySelector('.job canvas'))") > 50

    job = site.get(f"/jobs/{form.number}")
    assert (job["promotion"], job["plan"]["epochs"]) == ("refused", 60)
    version = job["version"]
    expect(form.verdict).to_contain_text(f"Version {version} was kept, but not promoted")
    for who in ("candidate", "production"):
        expect(form.verdict).to_contain_text(f"{100 * job['gate'][who]:.2f} %")
    before = production(site, "dnn")
    form.job.get_by_role("button", name=f"Promote version {version}").click()
    expect(form.page.get_by_text(f"dnn: version {version} serves now.")).to_be_visible()
    assert production(site, "dnn") == version
    form.job.get_by_role("button", name=f"Roll back to version {before}").click()
    expect(form.page.get_by_text(f"dnn: version {before} serves now.")).to_be_visible()
    assert production(site, "dnn") == before


def test_what_passes_the_gate_serves_without_another_word(visit: Visitor, site: Site) -> None:
    form = Form(visit("/#/train/perceptron"))
    form.fill(epochs="30")
    form.gate("always")
    form.submit()
    give(dialog(form.page))
    form.expect_status("Succeeded")
    version = site.get(f"/jobs/{form.number}")["version"]
    expect(form.verdict).to_contain_text(f"Version {version} was promoted")
    assert production(site, "perceptron") == version
    form.page.get_by_role("link", name="Plane").click()
    expect(form.page.get_by_role("heading", name="The plane")).to_be_visible()
    form.page.get_by_label("Model").select_option("perceptron")
    expect(form.page.get_by_role("combobox", name="Version")).to_have_value(str(version))


def test_a_job_is_found_again_after_a_reload_and_cancelled_by_the_page(
    form: Form, site: Site
) -> None:
    form.form.get_by_label("Model").select_option("xor")
    form.fill(epochs="1000000")
    form.submit()
    expect(form.job.get_by_text(re.compile(r"Epoch [\d,]+ of 1,000,000"))).to_be_visible(
        timeout=120_000
    )
    number = form.number
    form.page.reload()
    form.expect_status("Running")
    assert form.number == number
    form.job.get_by_role("button", name="Cancel the job").click()
    form.expect_status("Cancelled")
    expect(form.verdict).to_contain_text(f"Job {form.number} was cancelled")
    assert site.get(f"/jobs/{form.number}")["status"] == "cancelled"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("epochs", "0", "Enter a whole number from 1 to 1,000,000."),
        ("learning_rate", "-1", "Enter a number from 0.000001"),
        ("hidden_units", "2.5", "Enter a whole number from 1 to "),
    ],
)
def test_a_mistake_is_told_at_its_field(
    form: Form, site: Site, name: str, value: str, told: str
) -> None:
    before = len(site.get("/jobs")["jobs"])
    form.fill(**{name: value})
    form.submit()
    field = form.form.get_by_label(name.replace("_", " ").capitalize(), exact=True)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile(re.escape(told)))
    expect(field).to_be_focused()
    assert len(site.get("/jobs")["jobs"]) == before
    form.fill(**{name: "3"})
    expect(field).not_to_have_attribute("aria-invalid", "true")
