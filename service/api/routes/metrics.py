"""`GET /metrics`."""

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse, Response

from perceptd.service.api.deps import MetricsDep, require_predict_token
from perceptd.service.api.operations import documented
from perceptd.service.errors import UnauthorizedError
from perceptd.service.telemetry.families import EXAMPLE
from perceptd.service.telemetry.metrics import MEDIA_TYPE

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
    """Metrics in the Prometheus text format, summed over all processes of this server."""
    return Response(metrics.render(), media_type=MEDIA_TYPE)
