"""A load on a server: one request again and again, and what it gave."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Call:
    """One POST request. With `close`, each one opens a connection of its own."""

    path: str
    body: bytes
    content_type: str = "application/json"
    close: bool = False

    @property
    def message(self) -> bytes:
        """The bytes of the request."""
        lines = [
            f"POST {self.path} HTTP/1.1",
            "Host: here",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            *(["Connection: close"] if self.close else []),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Load:
    """Answers per second, and latencies. `errors` counts requests without a 2xx or 3xx answer."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def percentile_ms(latencies_s: Sequence[float], percent: int) -> float:
    if len(latencies_s) < 2:
        return float("nan")
    return statistics.quantiles(latencies_s, n=100)[percent - 1] * 1000
