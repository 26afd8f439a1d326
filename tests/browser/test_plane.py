"""The plane of each 2-D model: its points, its probabilities, two versions side by side."""

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.parts.sheet import PIXELS
from tests.browser.parts.site import Site
from tests.browser.parts.visitor import Visitor

MODELS = ("dnn", "perceptron", "xor")
COLORS = ((37, 99, 235), (212, 48, 43))  # of the points of each label, in light colours
PIXELS_AT = f"""(canvas, shares) => {{
  const data = ({PIXELS})(canvas);
  return shares.map(([right, down]) => {{
    const left = Math.floor(right * canvas.width), top = Math.floor(down * canvas.height);
    return [...data.slice(4 * (top * canvas.width + left)).slice(0, 3)];
  }});
}}"""
READING = re.compile(r"x1 (\S+)   x2 (\S+)   →   P\(1\) = ([\d.]+) %")


def planes(page: Page) -> Locator:
    return page.get_by_role("img", name="Plane of")


def readings(page: Page) -> Locator:
    return page.get_by_text(READING)


def reading(page: Page, plane: int = 0) -> list[float]:
    """x1, x2 and the percentage that a plane shows."""
    found = READING.search(readings(page).nth(plane).inner_text())
    assert found
    return [float(one) for one in found.groups()]


def rows(page: Page) -> Locator:
    return page.get_by_role("table", name="Predictions").locator("tbody").get_by_role("row")


def probability(site: Site, model: str, version: int, point: list[float]) -> float:
    """The service's probability of the label 1."""
    body = {"model": model, "version": version, "inputs": [point]}
    (row,) = site.post("/predict_proba", body)["predictions"]
    share: float = row["probabilities"]["1"]
    return share


def assert_predicted(site: Site, model: str, row: Locator, versions: list[int]) -> None:
    """A row shows the service's prediction of its point by each version."""
    x1, x2, *predictions = row.get_by_role("cell").all_inner_texts()
    for version, prediction in zip(versions, predictions, strict=True):
        share = probability(site, model, version, [float(x1), float(x2)])
        label, best = ("1", share) if share >= 0.5 else ("0", 1 - share)
        assert prediction == f"{label}, {100 * best:.1f} %"


def positions(points: list[list[float]], plot: Any) -> list[list[float]]:
    """Where points are on the canvas, as shares of it from its upper left corner."""
    (left, right), (bottom, top) = plot["x"], plot["y"]
    return [[(x - left) / (right - left), (top - y) / (top - bottom)] for x, y in points]


def hover(page: Page, canvas: Locator, right: float, down: float) -> None:
    box = canvas.bounding_box()
    assert box
    page.mouse.move(box["x"] + right * box["width"], box["y"] + down * box["height"])


def is_near(color: list[int], wanted: tuple[int, ...]) -> bool:
    return all(abs(one - other) < 45 for one, other in zip(color, wanted, strict=True))


@pytest.mark.parametrize("model", MODELS)
def test_chosen_model_shows_its_training_points(visit: Visitor, site: Site, model: str) -> None:
    page = visit("/#/plane")
    page.get_by_label("Model").select_option(model)
    expect(page).to_have_url(re.compile(f"#/plane/{model}$"))
    expect(page.get_by_role("heading", level=2, name=model)).to_be_visible()
    expect(planes(page)).to_have_count(1)
    plot = site.get(f"/models/{model}/versions/1/plots/boundary.json")
    assert len(plot["points"]) >= 50
    page.wait_for_function("canvas => canvas.width > 300", arg=planes(page).element_handle())
    found = planes(page).evaluate(PIXELS_AT, positions(plot["points"], plot))
    colors = [COLORS[target] for target in plot["targets"]]
    visible = sum(map(is_near, found, colors))
    assert visible > 0.8 * len(colors)  # the rest is covered by others


def test_probability_under_the_pointer_is_shown(visit: Visitor, site: Site) -> None:
    page = visit("/#/plane/dnn")
    expect(
        page.get_by_text("Point at the plane to read a probability.", exact=True)
    ).to_be_visible()
    shown = set()
    for right, down in ((0.5, 0.5), (0.9, 0.1), (0.3, 0.6)):
        hover(page, planes(page), right, down)
        expect(readings(page)).to_be_visible()
        x1, x2, percentage = reading(page)
        expected = 100 * probability(site, "dnn", 1, [x1, x2])
        assert percentage == pytest.approx(expected, abs=3)
        shown.add((x1, x2, percentage))
    assert len(shown) == 3
    page.mouse.move(0, 0)
    expect(readings(page)).to_have_count(0)


def test_click_is_predicted_by_the_service(visit: Visitor, site: Site) -> None:
    page = visit("/#/plane/xor")
    expect(page.get_by_text("No predictions yet")).to_be_visible()
    for count, (right, down) in enumerate([(0.3, 0.3), (0.7, 0.3)], 1):
        hover(page, planes(page), right, down)
        expect(readings(page)).to_be_visible()
        page.mouse.down()
        page.mouse.up()
        expect(rows(page)).to_have_count(count)
    for row in rows(page).all():
        assert_predicted(site, "xor", row, [1])
    page.get_by_role("button", name="Clear").click()
    expect(rows(page)).to_have_count(0)


def test_two_versions_are_compared(visit: Visitor, site: Site) -> None:
    page = visit("/#/plane/dnn")
    page.get_by_label("Compare with").select_option("2")
    expect(planes(page)).to_have_count(2)
    expect(page).to_have_url(f"{site.url}/#/plane/dnn/1/2")
    hover(page, planes(page).nth(1), 0.5, 0.5)
    expect(readings(page)).to_have_count(2)
    (*point, trained), (*other_point, hardly_trained) = reading(page, 0), reading(page, 1)
    assert point == other_point
    assert abs(trained - hardly_trained) > 20
    planes(page).nth(1).click()
    expect(rows(page)).to_have_count(1)
    assert_predicted(site, "dnn", rows(page), [1, 2])

    page.reload()
    expect(planes(page)).to_have_count(2)
    page.get_by_label("Compare with").select_option("None")
    expect(planes(page)).to_have_count(1)


def test_late_response_does_not_replace_a_newer_choice(visit: Visitor) -> None:
    page = visit()
    held: list[Route] = []

    def hold_first(route: Route) -> None:
        held.append(route)
        if len(held) > 1:
            route.continue_()

    page.route("**/models/dnn/versions/1", hold_first)
    page.get_by_role("link", name="Plane").click()
    page.get_by_label("Compare with").select_option("2")
    expect(planes(page)).to_have_count(2)
    with page.expect_response("**/boundary.json"):
        held[0].continue_()
    # Another request has the page handle the late response first.
    page.evaluate("() => fetch('models').then((response) => response.text())")
    expect(planes(page)).to_have_count(2)


def test_arrow_keys_move_the_pointer_and_enter_predicts(visit: Visitor, site: Site) -> None:
    page = visit("/#/plane/perceptron")
    planes(page).focus()
    page.keyboard.press("ArrowRight")
    expect(readings(page)).to_be_visible()
    first = reading(page)
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowUp")
    expect(readings(page)).not_to_have_text(re.compile(f"x1 {first[0]:.2f}"))
    x1, x2, _ = reading(page)
    assert x1 > first[0]
    assert x2 > first[1]
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(1)
    assert_predicted(site, "perceptron", rows(page), [1])
