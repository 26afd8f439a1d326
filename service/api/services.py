"""The parts of one application that routes and connections use."""

import threading
from dataclasses import dataclass

from fastapi import FastAPI

from perceptd.service.auth.access import Access
from perceptd.service.drift.drift import Drift
from perceptd.service.inference.arrivals import Arrivals
from perceptd.service.inference.engine import Engine
from perceptd.service.jobs.intake import Intake
from perceptd.service.jobs.planner import Planner
from perceptd.service.jobs.queue import Jobs
from perceptd.service.settings import Settings
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import Repository
from perceptd.service.telemetry.metrics import Metrics
from perceptd.service.telemetry.spans import Spans


@dataclass(frozen=True, slots=True)
class Services:
    """`create_app` builds one for each application and keeps it in `app.state.services`."""

    settings: Settings
    access: Access
    repository: Repository
    engine: Engine
    arrivals: Arrivals
    metrics: Metrics
    spans: Spans | None  # None without tracing
    drift: Drift
    jobs: Jobs
    planner: Planner
    intake: Intake
    feedback: Feedback
    draining: threading.Event  # set once the server is asked to end
    closing: threading.Event  # set when draining is over: streams and connections end


def services_of(app: FastAPI) -> Services:
    services: Services = app.state.services
    return services
