"""The application, built from its parts; nothing happens at import."""

import functools
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import create_task_group, sleep, to_thread
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from service import auth, db, openapi, page, problems
from service.compression import Decompression
from service.drift import Drift, DriftFigures
from service.engine import Engine
from service.errors import StoreError
from service.feedback import Feedback
from service.intake import Intake
from service.jobs import Jobs
from service.metrics import Metrics
from service.middleware import Envelope
from service.plans import Planner
from service.repository import Repository
from service.routes import (
    drift,
    feedback,
    health,
    imports,
    infer_v2,
    jobs,
    metadata_v2,
    metrics,
    models,
    predict,
    repository_v2,
)
from service.settings import Settings
from service.trainables import Trainables
from service.uploads import JOBS, Uploads

REFRESH_SECONDS = 0.5  # a promotion anywhere serves here within a second

log = logging.getLogger("perceptd")


def create_app(settings: Settings) -> FastAPI:
    """The service for these settings. Models load when it starts.

    Raises `DeviceError` where the device asked for is not here.
    """
    database = db.connect(settings)
    repository = Repository(database, settings.data_dir)
    figures = Metrics()
    watched = Drift(settings)
    engine = Engine(repository, settings, figures, watched)
    figures.collect(
        DriftFigures(watched, lambda: [(one.model, one.version) for one in engine.loaded()])
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(repository.prepare)
        app.state.admin_token = await to_thread.run_sync(auth.admin_token, settings)
        await to_thread.run_sync(engine.refresh)
        async with create_task_group() as tasks:  # waits for a thread that still reads
            tasks.start_soon(follow, engine)
            yield
            app.state.closing.set()
            tasks.cancel_scope.cancel()
        database.dispose()

    app = FastAPIOffline(
        title="perceptd",
        summary="Small PyTorch classifiers: predictions, and retraining while they serve.",
        version=version("perceptd"),
        lifespan=lifespan,
        max_body_size=settings.max_body_bytes,
        strict_content_type=False,  # an absent header is taken for JSON
        swagger_ui_parameters={"validatorUrl": None},  # it would ask a server elsewhere
    )
    app.state.settings = settings
    app.state.repository = repository
    app.state.engine = engine
    app.state.metrics = figures
    app.state.drift = watched
    app.state.jobs = Jobs(database)
    app.state.feedback = Feedback(database)
    app.state.planner = Planner(repository, app.state.feedback, Trainables(database), settings)
    app.state.intake = Intake(
        app.state.jobs,
        app.state.planner,
        Uploads(settings.data_dir.resolve() / JOBS, app.state.jobs),
    )
    app.state.closing = threading.Event()
    native = (predict, models, drift, imports, jobs, feedback, health, metrics)
    for routes in (*native, infer_v2, metadata_v2, repository_v2):
        app.include_router(routes.router)
    app.router.routes.extend(page.routes())
    problems.install(app)
    described = functools.lru_cache(maxsize=1)(functools.partial(openapi.document, app))
    app.openapi = lambda: described(engine.schemas)  # type: ignore[method-assign]
    # Set here because only what wraps the whole stack sees every answer.
    limit = settings.max_body_bytes
    unpacked = Decompression(app.build_middleware_stack(), limit)
    app.middleware_stack = Envelope(unpacked, limit, figures)
    return app


async def follow(engine: Engine) -> None:
    """Serve what becomes production, whoever promoted it; an absent database changes nothing."""
    away = False
    while True:
        await sleep(REFRESH_SECONDS)
        try:
            await to_thread.run_sync(engine.refresh)
            away = False
        except StoreError as error:
            if not away:
                log.warning("still serving what is loaded: %s", error)
            away = True
        except Exception:  # one fault must not end the following of all promotions to come
            log.exception("still serving what is loaded")
