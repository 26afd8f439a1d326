"""The sheet to draw on, used as a hand does, and what the page says of the drawing."""

from collections.abc import Callable, Sequence
from math import cos, pi, sin

from playwright.sync_api import Locator, Page, expect

from tests.waiting import eventually

NOTHING = "\N{EN DASH}"
MODELS = ("mnist-cnn", "mnist-mlp")
Point = tuple[float, float]
Stroke = Sequence[Point]

# A canvas is read from a copy: the page's own stays where the browser draws it fastest.
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
    """Angles in turns, from the right, clockwise."""
    angles = [2 * pi * (start + (end - start) * at / 16) for at in range(17)]
    return [(x + width * cos(angle), y + height * sin(angle)) for angle in angles]


THREE = [arc(0.47, 0.35, 0.17, 0.14, -0.45, 0.22) + arc(0.48, 0.63, 0.19, 0.15, -0.22, 0.42)]
ONE = [[(0.55 - 0.006 * at, 0.2 + 0.04 * at) for at in range(16)]]


class Sheet:
    def __init__(self, page: Page) -> None:
        self.page = page
        self.canvas = page.get_by_role("img", name="Sheet to draw on")

    def place(self, point: Point) -> Point:
        """Where a point in 0..1 is on the page."""
        box = self.canvas.bounding_box()
        assert box
        return box["x"] + point[0] * box["width"], box["y"] + point[1] * box["height"]

    def draw(self, strokes: Sequence[Stroke] = THREE) -> None:
        """With the mouse."""
        mouse = self.page.mouse
        self.trace(strokes, mouse.move, mouse.down, mouse.move, mouse.up)

    def trace(
        self,
        strokes: Sequence[Stroke],
        reach: Callable[[float, float], None],
        down: Callable[[], None],
        move: Callable[[float, float], None],
        up: Callable[[], None],
    ) -> None:
        """With whatever has these four motions."""
        self.canvas.scroll_into_view_if_needed()
        for first, *rest in strokes:
            reach(*self.place(first))
            down()
            for point in rest:
                move(*self.place(point))
            up()

    def ink(self) -> float:
        """The share of the sheet that is inked."""
        inked: int = self.canvas.evaluate(INK)
        area: int = self.canvas.evaluate(AREA)
        return inked / area

    def brightness(self) -> int:
        """The brightest part of any colour on the sheet, 0..255; paper is none."""
        brightest: int = self.canvas.evaluate(BRIGHTEST)
        return brightest

    def expect_ink(self, share: float) -> None:
        eventually(lambda: abs(self.ink() - share) < 1e-4)

    def expect_read(self, label: str) -> None:
        """Every model says that it is this digit."""
        for model in MODELS:
            expect(self.answer(model)).to_have_text(label)

    def expect_unread(self) -> None:
        for model in MODELS:
            expect(self.answer(model)).to_have_text(NOTHING)

    def answer(self, model: str) -> Locator:
        return self.reading(model).get_by_role("strong")

    def reading(self, model: str) -> Locator:
        return self.page.get_by_role("region", name=model)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def shades(self) -> int:
        """How many shades the picture of 28 x 28 has that the networks see."""
        glimpse = self.page.get_by_role("img", name="What the networks see")
        count: int = glimpse.evaluate(SHADES)
        return count
