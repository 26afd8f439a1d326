"""Every router of the service, in the order of the OpenAPI document."""

from perceptd.service.api.oip import infer, metadata, repository
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

ROUTERS = tuple(
    module.router
    for module in (
        predict,
        models,
        drift,
        imports,
        jobs,
        feedback,
        health,
        metrics,
        infer,
        metadata,
        repository,
    )
)
