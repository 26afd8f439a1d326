"""How fast a queue is worked off, as its batches of late tell."""

import time

MEMORY = 0.9  # of what was seen, with each batch that is


class DrainRate:
    """Seconds that a row takes where one batch follows the other, all that happens in between
    included: reading requests, writing answers, refusing others.

    A batcher that is idle in between says little about that: its rows take as long at most, or an
    estimate from worse days would refuse whoever could prove it wrong.
    """

    def __init__(self) -> None:
        self.row_s = 0.0  # not known yet: nothing is refused for it
        self._rows = 0.0
        self._seconds = 0.0
        self._since = 0.0

    def start(self) -> None:
        """The first batch after a pause begins."""
        self._since = time.perf_counter()

    def ran(self, rows: int, *, more: bool) -> None:
        """A batch of so many rows ended, and another follows at once if there are more."""
        now = time.perf_counter()
        took, self._since = now - self._since, now
        if more:
            self._rows = self._rows * MEMORY + rows
            self._seconds = self._seconds * MEMORY + took
            if self._rows:
                self.row_s = self._seconds / self._rows
        elif took < rows * self.row_s:
            self._rows, self._seconds, self.row_s = rows, took, took / rows

    def left(self, rows: int) -> float:
        """Seconds that the batch of so many rows which runs now still takes."""
        return max(rows * self.row_s - (time.perf_counter() - self._since), 0.0)
