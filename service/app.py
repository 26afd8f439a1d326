"""The application, built from its parts; nothing happens at import."""

import functools
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import create_task_group, sleep, to_thread
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from perceptd.models import tracing
from perceptd.service.api import handlers, openapi, page
from perceptd.service.api.compression import Decompression
from perceptd.service.api.middleware import RequestMiddleware
from perceptd.service.api.oip import infer, metadata
from perceptd.service.api.oip import repository as repository_v2
from perceptd.service.api.routes import (
    drift,
    feedback,
    health,
    imports,
    jobs,
    metrics,
    models,
    predict,
)
from perceptd.service.auth import credentials
from perceptd.service.auth.access import Access
from perceptd.service.auth.tokens import Tokens
from perceptd.service.drift.drift import Drift, DriftFigures
from perceptd.service.errors import StoreError
from perceptd.service.inference.engine import Engine
from perceptd.service.jobs.intake import Intake
from perceptd.service.jobs.plans import Planner
from perceptd.service.jobs.queue import Jobs
from perceptd.service.jobs.trainables import Trainables
from perceptd.service.jobs.uploads import JOBS, Uploads
from perceptd.service.settings import Settings, is_loopback
from perceptd.service.store import db
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import Repository
from perceptd.service.telemetry import spans
from perceptd.service.telemetry.job_metrics import JobFigures
from perceptd.service.telemetry.metrics import Metrics
from perceptd.service.telemetry.process_metrics import Build, Processes, Pulse

REFRESH_SECONDS = 0.5  # a promotion or a revocation anywhere counts here within a second

# What asks again and again how the server is.
UNTRACED = ("/metrics", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")

log = logging.getLogger("perceptd")


def create_app(settings: Settings) -> FastAPI:
    """The service for these settings. Models load when it starts.

    Raises `DeviceError` where the device asked for is not here.
    """
    settings = credentials.hashed(settings)  # from here on no token is known
    database = db.connect(settings)
    repository = Repository(database, settings.data_dir)
    figures = Metrics()
    watched = Drift(settings)
    engine = Engine(repository, settings, figures, watched)
    issued = Tokens(database)

    draining, closing = threading.Event(), threading.Event()
    pulse = Pulse(figures.store, engine, draining)
    for collector in (
        Build(engine),
        Processes(figures.store),
        JobFigures(database),
        DriftFigures(watched),
    ):
        figures.collect(collector)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(repository.prepare)
        fixed = await to_thread.run_sync(credentials.credentials, settings)
        may_be_open = is_loopback(settings.host) or settings.open_predictions
        access = app.state.access = Access(fixed, may_be_open=may_be_open)

        def take_issued() -> None:
            access.update(issued.credentials())

        await to_thread.run_sync(take_issued)
        await to_thread.run_sync(engine.refresh)
        async with create_task_group() as tasks:  # waits for a thread that still reads
            tasks.start_soon(pulse.run)
            tasks.start_soon(follow, lambda: engine.refresh(), "still serving what is loaded")
            tasks.start_soon(follow, take_issued, "still taking the tokens known before")
            yield
            draining.set()
            closing.set()
            pulse.sample()
            tasks.cancel_scope.cancel()
        database.dispose()
        await to_thread.run_sync(tracing.stop)

    app = FastAPIOffline(
        title="perceptd",
        summary="Small PyTorch classifiers: predictions, and retraining while they serve.",
        version=version("perceptd"),
        lifespan=lifespan,
        max_body_size=settings.max_body_bytes,
        strict_content_type=False,  # an absent header is taken for JSON
        telemetry={
            "tracer_provider": tracing.provider(),
            "tracing": tracing.provider() is not None,
            "operation_spans": False,  # they say of each request how FastAPI works
            "metrics": False,  # are for Prometheus
            "logs": False,
            "auto_configure": False,
            "exclude": lambda scope: scope.get("path") in UNTRACED,
        },
        swagger_ui_parameters={"validatorUrl": None},  # it would ask a server elsewhere
    )
    app.state.settings = settings
    app.state.repository = repository
    app.state.engine = engine
    app.state.metrics = figures
    app.state.spans = spans.of_process()
    app.state.drift = watched
    app.state.jobs = Jobs(database)
    app.state.feedback = Feedback(database)
    app.state.planner = Planner(repository, app.state.feedback, Trainables(database), settings)
    app.state.intake = Intake(
        app.state.jobs,
        app.state.planner,
        Uploads(settings.data_dir.resolve() / JOBS, app.state.jobs),
    )
    app.state.closing = closing
    app.state.draining = draining
    native = (predict, models, drift, imports, jobs, feedback, health, metrics)
    for routes in (*native, infer, metadata, repository_v2):
        app.include_router(routes.router)
    app.router.routes.extend(page.routes())
    handlers.install(app)
    described = functools.lru_cache(maxsize=1)(functools.partial(openapi.document, app))
    app.openapi = lambda: described(engine.schemas)  # type: ignore[method-assign]
    # Set here because only what wraps the whole stack sees every answer.
    limit = settings.max_body_bytes
    unpacked = Decompression(app.build_middleware_stack(), limit)
    app.middleware_stack = RequestMiddleware(
        page.shared(unpacked, settings.cors_origins), limit, figures
    )
    return app


async def follow(refresh: Callable[[], None], meanwhile: str) -> None:
    """Keep up with what others change in the database; while it is away nothing changes."""
    away = False
    while True:
        await sleep(REFRESH_SECONDS)
        try:
            await to_thread.run_sync(refresh)
            away = False
        except StoreError as error:
            if not away:
                log.warning("%s: %s", meanwhile, error)
            away = True
        except Exception:  # one fault must not end the following of all changes to come
            log.exception(meanwhile)
