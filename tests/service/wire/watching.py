"""What a server does with its connections, seen from outside."""

import httpx

from tests.server import unread
from tests.waiting import eventually


def closed(url: httpx.URL | str) -> dict[str, float]:
    """How many connections the server has closed, by reason."""
    text = httpx.get(f"{url}/metrics", timeout=20, trust_env=False).text
    lines = [line for line in text.splitlines() if line.startswith("perceptd_connections_closed")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


def wait_until_read(client: httpx.Client) -> None:
    eventually(lambda: unread(str(client.base_url)) == 0, "the server reads what it was sent")
