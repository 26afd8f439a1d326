"""The tables of the serving benchmark: a short one for the README, and one per kind of request."""

from benchmarks.figures import Figures, Medians

NOTHING = "-"
SHORT = (
    ("perceptron, 64 conn.", "W1", 64),
    ("CNN, 1 conn.", "W2", 1),
    ("CNN, 64 conn.", "W2", 64),
    ("64 images, 1 conn.", "W3", 1),
    ("raw image, 64 conn.", "W4", 64),
)
LATENCY = ("W2", 64)
EXPLAINED = """\
`req/s` is answers per second, `p50` and `p99` are milliseconds, `of floor` is the median of the \
ratios to the floor measured right before. Every figure is the median over the rounds; errors are \
summed over the rounds and connections."""


def short(figures: Figures) -> str:
    columns = [title for title, _, _ in SHORT]
    columns.insert(3, "p50 / p99 ms")
    lines = head("server", *columns, "MB", "s to start")
    for server in ordered(figures, *LATENCY):
        cells = [rate(figures.medians(server, work, n)) for _, work, n in SHORT]
        cells.insert(3, latency(figures.medians(server, *LATENCY)))
        lines.append(row(figures, server, *cells, *start(figures, server)))
    return "\n".join(lines)


def detailed(figures: Figures) -> str:
    parts = [f"# Serving, in detail\n\n{figures.facts}\n\n{EXPLAINED}"]
    for work, title in figures.works.items():
        parts.append(f"## {work}: {title}\n\n{of_work(figures, work)}")
    lines = head("server", "s to first answer", "MB after the load")
    for server in figures.titles:
        lines.append(row(figures, server, *reversed(start(figures, server))))
    parts.append("## Start and memory, with the CNN\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def of_work(figures: Figures, work: str) -> str:
    compared = figures.connections[0] if work == "W3" else figures.connections[-1]
    columns = [f"{n}: req/s | p50 | p99" for n in figures.connections]
    lines = head("server", *" | ".join(columns).split(" | "), "errors", f"of floor at {compared}")
    for server in ordered(figures, work, compared):
        medians = [figures.medians(server, work, n) for n in figures.connections]
        cells: list[str] = []
        for one in medians:
            cells += (
                [f"{one.per_second:,.0f}", f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}"]
                if one
                else [NOTHING] * 3
            )
        errors = sum(one.errors for one in medians if one)
        of_floor = figures.medians(server, work, compared)
        cells += [f"{errors:,}", f"{of_floor.of_floor:.2f}"] if of_floor else [NOTHING] * 2
        lines.append(row(figures, server, *cells))
    return "\n".join(lines)


def ordered(figures: Figures, work: str, connections: int) -> list[str]:
    """The floor, then perceptd, then the others from fast to slow."""

    def place(server: str) -> tuple[bool, bool, float]:
        medians = figures.medians(server, work, connections)
        return server != "floor", server != "perceptd", -(medians.per_second if medians else 0)

    return sorted(figures.titles, key=place)


def head(*columns: str) -> list[str]:
    return [f"| {' | '.join(columns)} |", f"| --- |{' ---: |' * (len(columns) - 1)}"]


def row(figures: Figures, server: str, *cells: str) -> str:
    title = figures.titles[server] + (" (failed)" if server in figures.failures else "")
    return f"| {title} | {' | '.join(cells)} |"


def rate(medians: Medians | None) -> str:
    return f"{medians.per_second:,.0f} ({medians.of_floor:.2f})" if medians else NOTHING


def latency(medians: Medians | None) -> str:
    return f"{medians.p50_ms:.1f} / {medians.p99_ms:.1f}" if medians else NOTHING


def start(figures: Figures, server: str) -> tuple[str, str]:
    """Cells for MB and seconds."""
    found = figures.start(server)
    return (f"{found.mb:.0f}", f"{found.seconds:.2f}") if found else (NOTHING, NOTHING)
