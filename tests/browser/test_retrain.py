"""Real jobs are requested, followed, judged, promoted and cancelled in the page."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.parts.sheet import SHADES
from tests.browser.parts.site import Site
from tests.browser.parts.token_dialog import enter, enter_admin_token, token_dialog
from tests.browser.parts.views import job_panel
from tests.browser.parts.visitor import Visitor

JOB_TIMEOUT_MS = 120_000
# Records how many points the curve has, each time that the panel changes.
RECORD_POINTS = """panel => {
  window.points = new Set();
  window.observer = new MutationObserver(() => {
    const curve = panel.querySelector("path.curve")?.getAttribute("d") ?? "";
    window.points.add((curve.match(/[ML]/g) ?? []).length);
  });
  window.observer.observe(panel, { subtree: true, attributes: true, childList: true });
}"""


@pytest.fixture(scope="module")
def site(own_site: Site) -> Site:
    return own_site


class Form:
    """The form of a retraining, and the panel of its job."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.form = page.get_by_role("form", name="Retrain")
        self.job = job_panel(page)
        self.verdict = self.job.get_by_role("region", name="Verdict")

    def field(self, name: str) -> Locator:
        return self.form.get_by_label(name, exact=True)

    def submit(self, epochs: int) -> None:
        self.field("Epochs").fill(str(epochs))
        self.form.get_by_role("button", name="Retrain").click()

    def expect_status(self, status: str) -> None:
        badge = self.job.get_by_text(status, exact=True).first
        expect(badge).to_be_visible(timeout=JOB_TIMEOUT_MS)

    @property
    def number(self) -> int:
        found = re.search(r"Job (\d+)", self.job.get_by_role("heading", level=2).inner_text())
        assert found
        return int(found[1])


@pytest.fixture
def form(visit: Visitor) -> Form:
    page = visit("/#/train/dnn")
    enter_admin_token(page)
    return Form(page)


def production(site: Site, model: str) -> int:
    version: int = site.get(f"/models/{model}")["version"]
    return version


def test_job_is_followed_judged_promoted_and_rolled_back(form: Form, site: Site) -> None:
    form.submit(epochs=60)
    expect(form.job).to_be_visible()
    form.job.evaluate(RECORD_POINTS)
    plane = form.job.get_by_role("img", name="Plane with training points and decision boundary")
    expect(plane).to_be_visible(timeout=JOB_TIMEOUT_MS)
    form.page.wait_for_function("() => window.points.size > 10")
    form.expect_status("Succeeded")
    counts = form.page.evaluate("[...window.points]")
    assert counts == sorted(counts)
    assert plane.evaluate(SHADES) > 50

    job = site.get(f"/jobs/{form.number}")
    assert (job["promotion"], job["plan"]["epochs"]) == ("refused", 60)
    version = job["version"]
    expect(form.verdict).to_contain_text(f"Version {version} was saved but not promoted")
    for which in ("candidate", "production"):
        expect(form.verdict).to_contain_text(f"{100 * job['gate'][which]:.2f} %")
    before = production(site, "dnn")
    for button, wanted in ((f"Promote version {version}", version), ("Roll back to", before)):
        form.job.get_by_role("button", name=button).click()
        notice = f"dnn: version {wanted} is now in production."
        expect(form.page.get_by_text(notice)).to_be_visible()
        assert production(site, "dnn") == wanted


def test_promoted_version_is_shown_in_the_plane(visit: Visitor, site: Site) -> None:
    form = Form(visit("/#/train/perceptron"))
    form.field("Promote the result").select_option("always")
    form.submit(epochs=30)
    enter(token_dialog(form.page))
    form.expect_status("Succeeded")
    version = site.get(f"/jobs/{form.number}")["version"]
    expect(form.verdict).to_contain_text(f"Version {version} was promoted")
    assert production(site, "perceptron") == version
    form.page.get_by_role("link", name="Plane").click()
    expect(form.page.get_by_role("heading", name="The plane")).to_be_visible()
    form.page.get_by_label("Model").select_option("perceptron")
    expect(form.page.get_by_role("combobox", name="Version")).to_have_value(str(version))


def test_job_is_found_after_a_reload_and_cancelled(form: Form, site: Site) -> None:
    form.field("Model").select_option("xor")
    form.submit(epochs=1_000_000)
    progress = form.job.get_by_text(re.compile(r"Epoch [\d,]+ of 1,000,000"))
    expect(progress).to_be_visible(timeout=JOB_TIMEOUT_MS)
    number = form.number
    form.page.reload()
    form.expect_status("Running")
    assert form.number == number
    form.job.get_by_role("button", name="Cancel job").click()
    form.expect_status("Cancelled")
    expect(form.verdict).to_contain_text(f"Job {number} was cancelled")
    assert site.get(f"/jobs/{number}")["status"] == "cancelled"


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("Epochs", "0", "Enter a whole number from 1 to 1,000,000."),
        ("Learning rate", "-1", "Enter a number from 0.000001"),
        ("Hidden units", "2.5", "Enter a whole number from 1 to "),
    ],
)
def test_invalid_value_is_reported_at_its_field(
    form: Form, site: Site, name: str, value: str, error: str
) -> None:
    before = len(site.get("/jobs")["jobs"])
    field = form.field(name)
    field.fill(value)
    form.form.get_by_role("button", name="Retrain").click()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile(re.escape(error)))
    expect(field).to_be_focused()
    assert len(site.get("/jobs")["jobs"]) == before
    field.fill("3")
    expect(field).not_to_have_attribute("aria-invalid", "true")
