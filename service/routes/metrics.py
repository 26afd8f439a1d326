"""`GET /metrics`."""

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse, Response

from service.deps import MetricsDep, require_predict_token
from service.errors import UnauthorizedError
from service.metric_families import EXAMPLE
from service.metrics import MEDIA_TYPE
from service.problems import documented

router = APIRouter(
    tags=["metrics"],
    dependencies=[Depends(require_predict_token)],
    responses=documented(UnauthorizedError),
)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"example": EXAMPLE}}}},
)
def read_metrics(metrics: MetricsDep) -> Response:
    """What Prometheus counts, over all processes of this server."""
    return Response(metrics.render(), media_type=MEDIA_TYPE)
