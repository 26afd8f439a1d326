"""The figures of the serving benchmark: measurements, their medians, and the tables of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from benchmarks.load import Load
from benchmarks.report import spread, table

NOTHING = "-"
HEAD = ["server", "answers/s", "of floor", "p50", "p99", "errors"]
EXPLAINED = """\
`answers/s` is by wrk. `p50` and `p99` are milliseconds, by `benchmarks.closed_loop`: of all \
requests, the opening of connections included. `of floor` is the ratio to the floor measured right \
before. Every figure is the median over the rounds, with least and greatest value; errors are \
summed."""


class Cell(NamedTuple):
    """One kind of load: a work, over so many connections, for so many seconds."""

    work: str
    connections: int
    seconds: int

    def __str__(self) -> str:
        return f"{self.work}, {self.connections} conn."


@dataclass(frozen=True)
class Pair:
    """A load on a server, and the same load on the floor right before it."""

    server: str
    cell: Cell
    load: Load
    floor: Load

    @property
    def ratio(self) -> float:
        return self.load.per_second / self.floor.per_second


@dataclass(frozen=True)
class Start:
    """Seconds from the start of a server to its first right answer; MB after its loads."""

    server: str
    seconds: float
    mb: float


@dataclass
class Figures:
    """All measurements of one run. `titles` maps names of servers to titles."""

    titles: dict[str, str]
    cells: list[Cell]
    pairs: list[Pair] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def of(self, server: str, cell: Cell) -> list[Pair]:
        """The measurements of a server. Those of the floor come from all servers' pairs."""
        pairs = [one for one in self.pairs if one.cell == cell and one.server not in self.failures]
        if server == "floor":
            return [Pair("floor", cell, one.floor, one.floor) for one in pairs]
        return [one for one in pairs if one.server == server]

    def short(self) -> str:
        """Rates and ratios of the shortest loads, latencies of W2 and W5, memory, start."""
        rates = [cell for cell in self.cells if cell.seconds == self.cells[0].seconds]
        slow = [cell for cell in rates if cell.connections > 1 and cell.work in ("W2", "W5")]
        head = ["server", *map(str, rates), *(f"{cell}: p50 / p99 ms" for cell in slow)]
        rows = [
            [
                self._title(server),
                *(rate(self.of(server, cell)) for cell in rates),
                *(latency(self.of(server, cell)) for cell in slow),
                *self._start(server),
            ]
            for server in self._ordered(rates)
        ]
        return table([*head, "MB", "s to start"], rows)

    def detailed(self, cell: Cell) -> str:
        """All figures of one kind of load."""
        servers = self._ordered([cell])
        return table(HEAD, [[self._title(one), *full(self.of(one, cell))] for one in servers])

    def _ordered(self, cells: Sequence[Cell]) -> list[str]:
        """The floor, then perceptd, then the others from fast to slow by their ratios."""

        def place(server: str) -> tuple[bool, bool, float]:
            ratios = [one.ratio for cell in cells for one in self.of(server, cell)]
            return server != "floor", server != "perceptd", -median(ratios or [0])

        return sorted(self.titles, key=place)

    def _title(self, server: str) -> str:
        return self.titles[server] + (" (failed)" if server in self.failures else "")

    def _start(self, server: str) -> list[str]:
        """Cells for MB and seconds."""
        found = [one for one in self.starts if one.server == server]
        if not found or server in self.failures:
            return [NOTHING] * 2
        mb, seconds = median(one.mb for one in found), median(one.seconds for one in found)
        return [f"{mb:.0f}", f"{seconds:.2f}"]


def rate(pairs: Sequence[Pair]) -> str:
    """Answers per second, and the ratio to the floor."""
    if not pairs:
        return NOTHING
    answers = median(one.load.per_second for one in pairs)
    return f"{answers:,.0f} / {spread([one.ratio for one in pairs], '.2f')}"


def latency(pairs: Sequence[Pair]) -> str:
    if not pairs:
        return NOTHING
    p99 = spread([one.load.p99_ms for one in pairs], ".1f")
    return f"{median(one.load.p50_ms for one in pairs):.1f} / {p99}"


def full(pairs: Sequence[Pair]) -> list[str]:
    if not pairs:
        return [NOTHING] * (len(HEAD) - 1)
    return [
        spread([one.load.per_second for one in pairs]),
        spread([one.ratio for one in pairs], ".2f"),
        spread([one.load.p50_ms for one in pairs], ".2f"),
        spread([one.load.p99_ms for one in pairs], ".2f"),
        str(sum(one.load.errors for one in pairs)),
    ]
