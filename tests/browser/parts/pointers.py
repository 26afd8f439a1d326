"""A finger and a pen that draw, by Chromium's own input events and not by a script."""

from playwright.sync_api import Page


class Finger:
    """One finger on a touch screen."""

    def __init__(self, page: Page) -> None:
        self._input = page.context.new_cdp_session(page)
        self._at = (0.0, 0.0)

    def reach(self, x: float, y: float) -> None:
        self._at = (x, y)

    def down(self) -> None:
        self._send("touchStart", *self._at)

    def move(self, x: float, y: float) -> None:
        self._send("touchMove", x, y)

    def up(self) -> None:
        self._send("touchEnd")

    def _send(self, kind: str, *at: float) -> None:
        points = [{"x": at[0], "y": at[1]}] if at else []
        self._input.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


class Pen:
    """A pen on a tablet."""

    def __init__(self, page: Page) -> None:
        self._input = page.context.new_cdp_session(page)
        self._at = (0.0, 0.0)
        self._is_pressed = False

    def reach(self, x: float, y: float) -> None:
        self.move(x, y)

    def down(self) -> None:
        self._is_pressed = True
        self._send("mousePressed")

    def move(self, x: float, y: float) -> None:
        self._at = (x, y)
        self._send("mouseMoved")

    def up(self) -> None:
        self._is_pressed = False
        self._send("mouseReleased")

    def _send(self, kind: str) -> None:
        x, y = self._at
        pressed = {"button": "left", "buttons": 1} if self._is_pressed else {}
        released = {"button": "left"} if kind == "mouseReleased" else {}
        event = {"type": kind, "x": x, "y": y, "clickCount": 1, "pointerType": "pen", "force": 0.5}
        self._input.send("Input.dispatchMouseEvent", {**event, **pressed, **released})
