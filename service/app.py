"""The application, built from its parts; nothing happens at import."""

import functools
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from anyio import create_task_group, sleep, to_thread
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from perceptd import __version__
from perceptd.models import tracing
from perceptd.models.checkpoint import Meta
from perceptd.service.api import handlers, openapi, page
from perceptd.service.api.compression import Decompression
from perceptd.service.api.middleware import RequestMiddleware
from perceptd.service.api.routers import ROUTERS
from perceptd.service.api.services import Services
from perceptd.service.auth import credentials
from perceptd.service.auth.access import Access
from perceptd.service.auth.tokens import Tokens
from perceptd.service.drift.drift import Drift, DriftMetrics
from perceptd.service.errors import StoreError
from perceptd.service.front.predictions import Predictions
from perceptd.service.inference.arrivals import Arrivals
from perceptd.service.inference.batcher import Observer
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.runtimes import Runtime
from perceptd.service.jobs.intake import Intake
from perceptd.service.jobs.planner import Planner
from perceptd.service.jobs.queue import Jobs
from perceptd.service.jobs.trainables import Trainables
from perceptd.service.jobs.uploads import JOBS, Uploads
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import Repository
from perceptd.service.telemetry import spans
from perceptd.service.telemetry.job_metrics import JobMetrics
from perceptd.service.telemetry.metrics import Metrics
from perceptd.service.telemetry.process_metrics import Build, Processes, ProcessSampler

REFRESH_S = 0.5  # a promotion or a revocation in any process applies here within a second

# Polled by monitoring, so without spans.
UNTRACED = ("/metrics", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")

log = logging.getLogger("perceptd")


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service for these settings, or those of the environment. Models load when it starts.

    Raises `DeviceError` if the configured device is not available.
    """
    knows_host = settings is not None  # else another server may listen on another address
    settings = credentials.hashed(settings or Settings())  # without a token in plain text
    database = db.connect(settings)
    repository = Repository(database, settings.data_dir)
    metrics = Metrics()
    drift = Drift(settings)

    def observers(model: str, version: int, meta: Meta, runtime: Runtime) -> list[Observer]:
        made = [metrics.observer(model, version), *drift.observers(model, version, meta)]
        if traced := spans.of_process():
            made.append(traced.observer(model, version, runtime.name, runtime.device))
        return made

    arrivals = Arrivals(settings.busy_poll_us / 1e6)
    engine = Engine(repository, settings, observers, metrics.swap, arrivals)
    issued = Tokens(database)

    jobs, feedback = Jobs(database), Feedback(database)
    planner = Planner(repository, feedback, Trainables(database), settings)
    uploads = Uploads(settings.data_dir.resolve() / JOBS, jobs)
    services = Services(
        settings=settings,
        access=Access(),  # closed until lifespan reads the tokens
        repository=repository,
        engine=engine,
        arrivals=arrivals,
        metrics=metrics,
        spans=spans.of_process(),
        drift=drift,
        jobs=jobs,
        planner=planner,
        intake=Intake(jobs, planner, uploads),
        feedback=feedback,
        draining=threading.Event(),
        closing=threading.Event(),
    )
    sampler = ProcessSampler(metrics.store, engine, services.draining)
    for collector in (
        Build(engine),
        Processes(metrics.store),
        JobMetrics(database),
        DriftMetrics(drift),
    ):
        metrics.register(collector)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(repository.prepare)
        fixed = await to_thread.run_sync(credentials.credentials, settings)
        may_be_open = settings.is_local or settings.open_predictions
        services.access.begin(fixed, may_be_open=may_be_open)

        def refresh_tokens() -> None:
            services.access.update(issued.credentials())

        await to_thread.run_sync(refresh_tokens)
        if not knows_host and services.access.is_open:
            log.warning("predictions need no token: set PERCEPTD_HOST to the server's address")
        await to_thread.run_sync(engine.refresh)
        async with create_task_group() as tasks:  # waits for threads that still read the database
            tasks.start_soon(sampler.run)
            tasks.start_soon(keep_fresh, lambda: engine.refresh(), "still serving what is loaded")
            tasks.start_soon(keep_fresh, refresh_tokens, "still accepting the known tokens")
            yield
            services.draining.set()
            services.closing.set()
            sampler.sample()
            tasks.cancel_scope.cancel()
        database.dispose()
        await to_thread.run_sync(tracing.stop)

    app = FastAPIOffline(
        title="perceptd",
        summary="Small PyTorch classifiers: predictions, and retraining while they serve.",
        version=__version__,
        lifespan=lifespan,
        max_body_size=settings.max_body_bytes,
        strict_content_type=False,  # a body without a Content-Type is taken for JSON
        telemetry={
            "tracer_provider": tracing.provider(),
            "tracing": tracing.provider() is not None,
            "operation_spans": False,  # they describe FastAPI's own steps
            "metrics": False,  # Prometheus reads ours
            "logs": False,
            "auto_configure": False,
            "exclude": lambda scope: scope.get("path") in UNTRACED,
        },
        swagger_ui_parameters={"validatorUrl": None},  # it would call another server
    )
    app.state.services = services
    for router in ROUTERS:
        app.include_router(router)
    app.router.routes.extend(page.routes())
    handlers.install(app)
    described = functools.lru_cache(maxsize=1)(functools.partial(openapi.document, app))
    app.openapi = lambda: described(engine.schemas)  # type: ignore[method-assign] # as FastAPI documents
    # Only a wrapper of the whole middleware stack sees every response.
    decompressed = Decompression(app.build_middleware_stack(), settings.max_body_bytes)
    app.middleware_stack = Predictions(
        RequestMiddleware(page.shared(decompressed, settings.cors_origins), services), services, app
    )
    return app


async def keep_fresh(refresh: Callable[[], None], fallback: str) -> None:
    """Call `refresh` periodically; log `fallback` once each time the store becomes unavailable."""
    is_unavailable = False
    while True:
        await sleep(REFRESH_S)
        try:
            await to_thread.run_sync(refresh)
            is_unavailable = False
        except StoreError as error:
            if not is_unavailable:
                log.warning("%s: %s", fallback, error)
            is_unavailable = True
        except Exception:  # one fault must not end all later refreshes
            log.exception(fallback)
