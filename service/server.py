"""The application on uvicorn."""

from typing import Any

import uvicorn
from fastapi import FastAPI

from service.hot_path import HotPath

# Longer than clients keep an idle connection (httpx 5 s, Node and nginx 60 at most): who closes first
# must not be the server, while a request is on its way.
KEEP_ALIVE_S = 75


def config(app: FastAPI, **options: Any) -> uvicorn.Config:
    """uvicorn's options for an app of `create_app`.

    Any other ASGI server serves it as well, predictions slower.
    """
    options = {"timeout_keep_alive": KEEP_ALIVE_S, **options}
    protocol = type("HotPath", (HotPath,), {"service": app.state})
    return uvicorn.Config(app, http=protocol, **options)
