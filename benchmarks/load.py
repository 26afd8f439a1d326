"""Load a server with wrk: one thread, keep-alive connections."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

# The body is read from a file because a Lua string would not keep every byte of it. wrk counts a
# status above 399 as an error and gives latencies in microseconds.
LUA = """
local file = io.open("BODY", "rb")
wrk.method = "POST"
wrk.headers["Content-Type"] = "TYPE"
wrk.body = file:read("*a")
function done(summary, latency)
  io.write(string.format("RESULT %d %d %d %f %f\\n", summary.requests, summary.duration,
    summary.errors.connect + summary.errors.read + summary.errors.status + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Call:
    """One POST request: path and body."""

    path: str
    body: bytes
    content_type: str = "application/json"


@dataclass(frozen=True)
class Load:
    """What wrk measured. `errors` counts requests without a 2xx or 3xx response."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def require_wrk() -> None:
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed: apt-get install wrk")


def load(url: str, call: Call, connections: int, seconds: int) -> Load:
    """Repeat one request over that many connections."""
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder, "body"), Path(folder, "load.lua")
        body.write_bytes(call.body)
        script.write_text(LUA.replace("BODY", str(body)).replace("TYPE", call.content_type))
        answer = subprocess.run(
            [
                "wrk",
                "--threads=1",
                f"--connections={connections}",
                f"--duration={seconds}s",
                "--timeout=10s",
                f"--script={script}",
                url + call.path,
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", answer)
    assert found, answer
    requests, microseconds, errors = map(int, found.groups()[:3])
    p50, p99 = (float(value) / 1000 for value in found.groups()[3:])
    return Load(requests / microseconds * 1e6, p50, p99, errors)
