"""Tables of versions and jobs, the details of a version, the curves of a job."""

import pytest
from playwright.sync_api import expect

from tests.browser.parts.site import Site
from tests.browser.parts.views import expect_image, job_panel, open_details
from tests.browser.parts.visitor import Visitor


def test_every_version_has_a_row_with_its_metrics(visit: Visitor, site: Site) -> None:
    page = visit("/#/versions/dnn")
    rows = page.get_by_role("table", name="Versions of dnn").locator("tbody").get_by_role("row")
    versions = site.get("/models/dnn/versions")["versions"]
    expect(rows).to_have_count(len(versions))
    for version in versions:
        row = rows.filter(has=page.get_by_role("rowheader", name=str(version["version"])))
        test = version["metrics"]["test"]
        texts = (f"{100 * test['accuracy']:.2f} %", f"{test['loss']:.4f}", version["sha256"][:8])
        for text in (*texts, *version["aliases"]):
            expect(row).to_contain_text(text)


@pytest.mark.parametrize(("model", "plot"), [("dnn", "Boundary"), ("mnist-cnn", "Held-out images")])
def test_details_of_a_version_have_plots_and_hash(
    visit: Visitor, site: Site, model: str, plot: str
) -> None:
    page = visit(f"/#/versions/{model}")
    open_details(page)
    dialog = page.get_by_role("dialog", name=f"{model}, version 1")
    expect_image(dialog.get_by_role("img", name=plot))
    expect(dialog.get_by_role("img", name="Loss by epoch")).to_be_visible()
    expect(dialog).to_contain_text(site.get(f"/models/{model}/versions/1")["sha256"])
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)


def test_finished_job_has_a_row_and_its_curve(visit: Visitor, site: Site) -> None:
    page = visit("/#/jobs")
    table = page.get_by_role("table", name="Jobs")
    row = table.get_by_role("row").filter(has=page.get_by_role("link", name="#1"))
    for text in ("dnn", "Training", "Succeeded", "Not promoted"):
        expect(row).to_contain_text(text)
    row.get_by_role("link", name="#1").click()
    last = site.get("/jobs/1")["curve"][-1]
    description = f"Loss by epoch. At epoch 30: Training {last['loss']:.4f}"
    curve = job_panel(page).get_by_role("img", name=description)
    expect(curve).to_be_visible()
    expect(job_panel(page)).to_contain_text("Version 2 can be promoted by hand")

    page.goto(f"{site.url}/#/jobs/1")
    page.reload()
    expect(curve).to_be_visible()


def test_jobs_are_filtered_by_model_and_status(visit: Visitor) -> None:
    page = visit("/#/jobs")
    link = page.get_by_role("table", name="Jobs").get_by_role("link", name="#1")
    no_match = page.get_by_text("No job matches the filters.")
    expect(link).to_be_visible()
    page.get_by_role("combobox", name="Model").select_option("xor")
    expect(no_match).to_be_visible()
    page.get_by_role("combobox", name="Model").select_option("dnn")
    expect(link).to_be_visible()
    page.get_by_role("combobox", name="Status").select_option("Failed")
    expect(no_match).to_be_visible()
