"""The canvas to draw on, and what the page reads in the drawing."""

import re
from collections.abc import Callable, Sequence
from math import cos, pi, sin

from playwright.sync_api import Locator, Page, expect

from tests.waiting import eventually

NO_LABEL = "\N{EN DASH}"
MODELS = ("mnist-cnn", "mnist-mlp")
Point = tuple[float, float]  # in 0..1
Stroke = Sequence[Point]

# Pixels are read from a copy: reading makes Chromium move a canvas to slower memory.
PIXELS = """canvas => {
  const { width, height } = canvas;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  return context.getImageData(0, 0, width, height).data;
}"""
INK = f"canvas => ({PIXELS})(canvas).reduce((n, v, at) => n + (at % 4 == 3 && v > 0), 0)"
SHADES = f"canvas => new Set(new Uint32Array(({PIXELS})(canvas).buffer)).size"
BRIGHTEST = f"canvas => ({PIXELS})(canvas).reduce((m, v, at) => (at % 4 < 3 && v > m ? v : m), 0)"
AREA = "canvas => canvas.width * canvas.height"


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> list[Point]:
    """Points of an arc; `start` and `end` are in turns: 0 is to the right, 0.25 is down."""
    angles = [2 * pi * (start + (end - start) * at / 16) for at in range(17)]
    return [(x + width * cos(angle), y + height * sin(angle)) for angle in angles]


THREE = [arc(0.47, 0.35, 0.17, 0.14, -0.45, 0.22) + arc(0.48, 0.63, 0.19, 0.15, -0.22, 0.42)]
UNDERLINE = [[(0.1, 0.9), (0.5, 0.95), (0.9, 0.9)]]


class Sheet:
    def __init__(self, page: Page) -> None:
        self.page = page
        self.canvas = page.get_by_role("img", name=re.compile("^(Drawing area|그림판)"))

    def position(self, point: Point) -> Point:
        """A point's coordinates on the page, in pixels."""
        box = self.canvas.bounding_box()
        assert box
        return box["x"] + point[0] * box["width"], box["y"] + point[1] * box["height"]

    def draw(self, strokes: Sequence[Stroke] = THREE) -> None:
        """Draw with the mouse."""
        mouse = self.page.mouse
        self.draw_with(mouse.move, mouse.down, mouse.move, mouse.up, strokes)

    def draw_with(
        self,
        reach: Callable[[float, float], None],
        down: Callable[[], None],
        move: Callable[[float, float], None],
        up: Callable[[], None],
        strokes: Sequence[Stroke] = THREE,
    ) -> None:
        self.canvas.scroll_into_view_if_needed()
        for first, *rest in strokes:
            reach(*self.position(first))
            down()
            for point in rest:
                move(*self.position(point))
            up()

    def ink(self) -> float:
        """The share of the canvas that is drawn on."""
        inked: int = self.canvas.evaluate(INK)
        area: int = self.canvas.evaluate(AREA)
        return inked / area

    def brightness(self) -> int:
        """The brightest colour channel of the drawing, 0..255."""
        brightest: int = self.canvas.evaluate(BRIGHTEST)
        return brightest

    def expect_ink(self, share: float) -> None:
        eventually(lambda: abs(self.ink() - share) < 1e-4, f"{share:.1%} of the canvas is drawn on")

    def expect_more_ink(self, share: float) -> None:
        eventually(lambda: self.ink() > share, f"more than {share:.1%} of the canvas is drawn on")

    def expect_label(self, label: str = "3") -> None:
        """Every model reads this digit."""
        for model in MODELS:
            expect(self.reading(model).get_by_role("strong")).to_have_text(label)

    def expect_no_label(self) -> None:
        self.expect_label(NO_LABEL)

    def reading(self, model: str) -> Locator:
        return self.page.get_by_role("region", name=model)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def shades(self) -> int:
        """The number of colours in the image that the networks see."""
        preview = self.page.get_by_role("img", name="What the networks see")
        count: int = preview.evaluate(SHADES)
        return count


def drawn(page: Page) -> Sheet:
    """The sheet with a 3 that every model has read."""
    sheet = Sheet(page)
    sheet.draw()
    sheet.expect_label("3")
    return sheet
