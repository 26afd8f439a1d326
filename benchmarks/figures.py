"""The measurements of the serving benchmark, and their medians."""

import statistics
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.load import Load


@dataclass(frozen=True)
class Pair:
    """A load on a server, and the same load on the floor right before it."""

    server: str
    work: str
    connections: int
    load: Load
    floor: Load


@dataclass(frozen=True)
class Start:
    """Seconds from the start of a CNN server to its first right answer; MB after its loads."""

    server: str
    seconds: float
    mb: float


@dataclass(frozen=True)
class Medians:
    """Medians over the rounds; errors are summed."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    of_floor: float


@dataclass
class Figures:
    """All measurements of one run. `titles` and `works` map names to titles, in run order."""

    facts: str
    titles: dict[str, str]
    works: dict[str, str]
    connections: list[int]
    pairs: list[Pair] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def medians(self, server: str, work: str, connections: int) -> Medians | None:
        """The medians; None without measurements. The floor's come from all servers' pairs."""
        pairs = [
            pair
            for pair in self.pairs
            if (pair.work, pair.connections) == (work, connections)
            and server in ("floor", pair.server)
            and pair.server not in self.failures
        ]
        if not pairs:
            return None
        loads = [pair.floor if server == "floor" else pair.load for pair in pairs]
        ratios = [
            load.per_second / pair.floor.per_second for load, pair in zip(loads, pairs, strict=True)
        ]
        return Medians(
            per_second=statistics.median(load.per_second for load in loads),
            p50_ms=statistics.median(load.p50_ms for load in loads),
            p99_ms=statistics.median(load.p99_ms for load in loads),
            errors=sum(load.errors for load in loads),
            of_floor=statistics.median(ratios),
        )

    def start(self, server: str) -> Start | None:
        """The medians over a server's starts; None if it never started with the CNN."""
        starts = [start for start in self.starts if start.server == server]
        if not starts or server in self.failures:
            return None
        return Start(
            server,
            statistics.median(start.seconds for start in starts),
            statistics.median(start.mb for start in starts),
        )

    def save(self, path: Path) -> None:
        path.write_bytes(TypeAdapter(Figures).dump_json(self, indent=1) + b"\n")

    @staticmethod
    def read(path: Path) -> "Figures":
        return TypeAdapter(Figures).validate_json(path.read_bytes())
