"""Versions and jobs as they are found afterwards: tables, details with pictures, curves."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.site import Site
from tests.browser.visitor import Visitor


def test_every_version_has_a_row_with_its_figures(visit: Visitor, site: Site) -> None:
    page = visit("/#/versions/dnn")
    rows = page.get_by_role("table", name="Versions of dnn").locator("tbody").get_by_role("row")
    versions = site.get("/models/dnn/versions")["versions"]
    expect(rows).to_have_count(len(versions))
    for version in versions:
        row = rows.filter(has=page.get_by_role("rowheader", name=str(version["version"])))
        expect(row).to_contain_text(f"{100 * version['metrics']['test']['accuracy']:.2f} %")
        expect(row).to_contain_text(f"{version['metrics']['test']['loss']:.4f}")
        expect(row).to_contain_text(version["sha256"][:8])
        for alias in version["aliases"]:
            expect(row).to_contain_text(alias)


@pytest.mark.parametrize(
    ("model", "pictures"), [("dnn", ["Boundary"]), ("mnist-cnn", ["Held-out pictures"])]
)
def test_the_details_of_a_version_have_its_pictures(
    visit: Visitor, site: Site, model: str, pictures: list[str]
) -> None:
    page = visit(f"/#/versions/{model}")
    page.get_by_role("button", name="Details of version 1").click()
    dialog = page.get_by_role("dialog", name=f"{model}, version 1")
    for picture in pictures:
        image = dialog.get_by_role("img", name=picture)
        expect(image).to_be_visible()
        page.wait_for_function("image => image.naturalWidth > 100", arg=image.element_handle())
    expect(dialog.get_by_role("img", name="Loss by epoch")).to_be_visible()
    expect(dialog).to_contain_text(site.get(f"/models/{model}/versions/1")["sha256"])
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)


def test_a_finished_job_has_a_row_and_its_curve(visit: Visitor, site: Site) -> None:
    page = visit("/#/jobs")
    table = page.get_by_role("table", name="Jobs")
    row = table.get_by_role("row").filter(has=page.get_by_role("link", name="#1"))
    for text in ("dnn", "Training", "Succeeded", "Not promoted"):
        expect(row).to_contain_text(text)
    row.get_by_role("link", name="#1").click()
    panel = page.get_by_role("region", name=re.compile(r"^Job \d+"))
    last = site.get("/jobs/1")["curve"][-1]
    words = f"Loss by epoch. At epoch 30: Training {last['loss']:.4f}"
    expect(panel.get_by_role("img", name=words)).to_be_visible()
    expect(panel).to_contain_text("Version 2 is there to be promoted by hand")

    page.goto(f"{site.url}/#/jobs/1")
    page.reload()
    expect(panel.get_by_role("img", name=words)).to_be_visible()


def test_jobs_are_chosen_by_model_and_status(visit: Visitor, site: Site) -> None:
    page = visit("/#/jobs")
    link = page.get_by_role("table", name="Jobs").get_by_role("link", name="#1")
    expect(link).to_be_visible()
    page.get_by_role("combobox", name="Model").select_option("xor")
    expect(page.get_by_text("No job is like that.")).to_be_visible()
    page.get_by_role("combobox", name="Model").select_option("dnn")
    expect(link).to_be_visible()
    page.get_by_role("combobox", name="Status").select_option("Failed")
    expect(page.get_by_text("No job is like that.")).to_be_visible()
