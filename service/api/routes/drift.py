"""`GET /models/{model}/drift`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from perceptd.service.api.deps import DriftDep, EngineDep, require_predict_token
from perceptd.service.api.operations import LOADED_VERSION, READ, documented
from perceptd.service.api.routes.models import ModelName
from perceptd.service.drift.drift import Drift, usable_reference
from perceptd.service.drift.monitor import MIN_ROWS, Report
from perceptd.service.drift.schemas import (
    DriftPublic,
    FeatureDrift,
    PredictionDrift,
    Unwatched,
)
from perceptd.service.inference.loaded_version import LoadedVersion

OFF = "drift is not measured: PERCEPTD_DRIFT is 0"
NO_REFERENCE = (
    "the checkpoint has no statistics of its training data: it is from an earlier release or was "
    "imported without data; retrain it, or see "
    "`perceptd drift-reference --help`"
)
FAILED = (
    "the row counts could not be stored when the version was loaded, for example because the disk "
    "is full: the log has the cause, and the next load tries again"
)

router = APIRouter(
    tags=["models"],
    dependencies=[Depends(require_predict_token)],
    responses=documented(*LOADED_VERSION, *READ),
)


@router.get("/models/{model}/drift")
async def get_drift(
    model: ModelName,
    engine: EngineDep,
    drift: DriftDep,
    version: Annotated[
        int | None,
        Query(ge=1, examples=[1], description="A version number. Default: the production version."),
    ] = None,
) -> DriftPublic:
    """Compare the latest inputs and predictions of a version with its training data."""
    return drift_public(await engine.find(model, version), drift)


def drift_public(loaded: LoadedVersion, drift: Drift) -> DriftPublic:
    watched = drift.find(loaded.model, loaded.version)
    if watched is None:
        verdict, why = unwatched(loaded, drift)
        return DriftPublic(
            model=loaded.model,
            version=loaded.version,
            verdict=verdict,
            since=None,
            hint=why,
            rows=0,
            window=drift.window,
            features=[],
            predictions=None,
        )
    report = watched.report()
    labels = loaded.spec.labels
    features, predictions = [], None
    edges = {one.name: one.edges for one in watched.bins.reference.features}
    for one in report.measured:
        if one.name is None:
            predictions = PredictionDrift(
                psi=one.psi,
                threshold=one.threshold,
                drifted=one.drifted,
                expected=dict(zip(labels, one.expected, strict=True)),
                observed=dict(zip(labels, one.observed, strict=True)),
            )
        else:
            features.append(
                FeatureDrift(
                    name=one.name,
                    psi=one.psi,
                    threshold=one.threshold,
                    drifted=one.drifted,
                    edges=list(edges[one.name]),
                    expected=one.expected,
                    observed=one.observed,
                )
            )
    return DriftPublic(
        model=loaded.model,
        version=loaded.version,
        verdict=report.verdict,
        since=report.window.since,
        hint=hint(report),
        rows=report.window.rows,
        window=drift.window,
        features=features,
        predictions=predictions,
    )


def unwatched(loaded: LoadedVersion, drift: Drift) -> tuple[Unwatched, str]:
    """Why the drift of a version is unknown: the verdict and its sentence."""
    if not drift.is_on:
        return "off", OFF
    if usable_reference(loaded.meta) is None:
        return "no_reference", NO_REFERENCE
    return "failed", FAILED


def hint(report: Report) -> str:
    match report.verdict:
        case "collecting":
            return f"{MIN_ROWS - report.window.rows} more rows are needed"
        case "stable":
            return "the inputs are like those of the training"
        case "drifted":
            names = [one.name for one in report.measured if one.name and one.drifted]
            return f"{', '.join(names)}: the inputs are not like those of the training"
