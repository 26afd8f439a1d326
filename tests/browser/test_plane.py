"""The plane of each 2-D model: its points, its probabilities, two versions side by side."""

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.sheet import PIXELS
from tests.browser.site import Site
from tests.browser.visitor import Visitor

MODELS = ("dnn", "perceptron", "xor")
COLORS = ((37, 99, 235), (212, 48, 43))  # of the points of either label, in light colours
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


def share_of(site: Site, model: str, version: int, point: list[float]) -> float:
    body = {"model": model, "version": version, "inputs": [point]}
    (row,) = site.post("/predict_proba", body)["predictions"]
    share: float = row["probabilities"]["1"]
    return share


def places(canvas: Locator, points: list[list[float]], frame: Any) -> list[list[float]]:
    """Where points lie on a canvas, as shares of it from its upper left corner."""
    (left, right), (bottom, top) = frame["x"], frame["y"]
    return [[(x - left) / (right - left), (top - y) / (top - bottom)] for x, y in points]


def hover(page: Page, canvas: Locator, right: float, down: float) -> None:
    box = canvas.bounding_box()
    assert box
    page.mouse.move(box["x"] + right * box["width"], box["y"] + down * box["height"])


def is_near(color: list[int], wanted: tuple[int, ...]) -> bool:
    return all(abs(one - other) < 45 for one, other in zip(color, wanted, strict=True))


@pytest.mark.parametrize("model", MODELS)
def test_the_training_points_are_on_the_plane(visit: Visitor, site: Site, model: str) -> None:
    page = visit(f"/#/plane/{model}")
    expect(planes(page)).to_have_count(1)
    frame = site.get(f"/models/{model}/versions/1/plots/boundary.json")
    assert len(frame["points"]) >= 50
    where = places(planes(page), frame["points"], frame)
    page.wait_for_function("canvas => canvas.width > 300", arg=planes(page).element_handle())
    found = planes(page).evaluate(PIXELS_AT, where)
    colors = [COLORS[target] for target in frame["targets"]]
    shown = sum(map(is_near, found, colors))
    assert shown > 0.8 * len(colors)  # the rest lie under others


def test_a_pointer_is_told_the_probability_under_it(visit: Visitor, site: Site) -> None:
    page = visit("/#/plane/dnn")
    expect(page.get_by_text("Point at the plane to read the probability.")).to_be_visible()
    read = set()
    for right, down in ((0.5, 0.5), (0.9, 0.1), (0.3, 0.6)):
        hover(page, planes(page), right, down)
        expect(readings(page)).to_be_visible()
        x1, x2, share = reading(page)
        assert share == pytest.approx(100 * share_of(site, "dnn", 1, [x1, x2]), abs=3)
        read.add((x1, x2, share))
    assert len(read) == 3
    page.mouse.move(0, 0)
    expect(readings(page)).to_have_count(0)


def reading(page: Page, side: int = 0) -> list[float]:
    """x1, x2 and the percentage that a plane is read at."""
    found = READING.search(readings(page).nth(side).inner_text())
    assert found
    return [float(one) for one in found.groups()]


def test_a_click_is_answered_by_the_service(visit: Visitor, site: Site) -> None:
    page = visit("/#/plane/xor")
    expect(page.get_by_text("Nothing asked yet")).to_be_visible()
    for count, where in enumerate([(0.3, 0.3), (0.7, 0.3)], 1):
        hover(page, planes(page), *where)
        expect(readings(page)).to_be_visible()
        page.mouse.down()
        page.mouse.up()
        expect(rows(page)).to_have_count(count)
    for row in rows(page).all():
        assert_answered(site, "xor", row, [1])
    page.get_by_role("button", name="Clear").click()
    expect(rows(page)).to_have_count(0)


def rows(page: Page) -> Locator:
    return page.get_by_role("table", name="Predictions").locator("tbody").get_by_role("row")


def assert_answered(site: Site, model: str, row: Locator, versions: list[int]) -> None:
    """A row has what the service says of its point, for each version in its turn."""
    x1, x2, *answers = row.get_by_role("cell").all_inner_texts()
    for version, answer in zip(versions, answers, strict=True):
        share = share_of(site, model, version, [float(x1), float(x2)])
        label, sure = ("1", share) if share >= 0.5 else ("0", 1 - share)
        assert answer == f"{label}, {100 * sure:.1f} %"


def test_two_versions_are_read_and_asked_side_by_side(visit: Visitor, site: Site) -> None:
    page = visit("/#/plane/dnn")
    page.get_by_label("Beside it").select_option("2")
    expect(planes(page)).to_have_count(2)
    expect(page).to_have_url(f"{site.url}/#/plane/dnn/1/2")
    hover(page, planes(page).nth(1), 0.5, 0.5)
    expect(readings(page)).to_have_count(2)
    (*one, trained), (*other, hardly) = reading(page, 0), reading(page, 1)
    assert one == other
    assert abs(trained - hardly) > 20
    planes(page).nth(1).click()
    expect(rows(page)).to_have_count(1)
    assert_answered(site, "dnn", rows(page), [1, 2])

    page.reload()
    expect(planes(page)).to_have_count(2)
    page.get_by_label("Beside it").select_option("nothing")
    expect(planes(page)).to_have_count(1)


def test_a_choice_that_is_answered_late_does_not_replace_a_newer_one(visit: Visitor) -> None:
    page = visit()
    late: list[Route] = []

    def hold_the_first(route: Route) -> None:
        late.append(route)
        if len(late) > 1:
            route.continue_()

    page.route("**/models/dnn/versions/1", hold_the_first)
    page.get_by_role("link", name="Plane").click()
    page.get_by_label("Beside it").select_option("2")
    expect(planes(page)).to_have_count(2)
    with page.expect_response("**/boundary.json"):
        late[0].continue_()
    page.evaluate("() => fetch('models').then((answer) => answer.text())")  # it has been read now
    expect(planes(page)).to_have_count(2)


def test_the_arrow_keys_point_and_enter_asks(visit: Visitor, site: Site) -> None:
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
    assert_answered(site, "perceptron", rows(page), [1])


def test_another_model_is_chosen_by_its_name(visit: Visitor, site: Site) -> None:
    page = visit("/#/plane")
    for model in MODELS:
        page.get_by_label("Model").select_option(model)
        expect(page).to_have_url(re.compile(f"#/plane/{model}$"))
        expect(page.get_by_role("heading", level=2, name=model)).to_be_visible()
