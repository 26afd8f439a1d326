"""What is known of a version's inputs -> the body that tells it."""

from perceptd.service.drift.drift import Drift, usable_reference
from perceptd.service.drift.monitor import MIN_ROWS, Report
from perceptd.service.drift.schemas import (
    DriftPublic,
    FeatureDrift,
    PredictionDrift,
    Unwatched,
)
from perceptd.service.inference.engine import LoadedVersion

OFF = "the server does not look at inputs: PERCEPTD_DRIFT is 0"
NO_REFERENCE = (
    "the checkpoint does not say what it was trained on, as one of an earlier release or one "
    "imported without data: train it anew, or see "
    "`perceptd drift-reference --help`"
)
FAILED = (
    "counts could not be kept when the version was loaded, as where a disk is full: the log says "
    "why, and the next load tries again"
)


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
        since=report.windows.since,
        hint=hint(report),
        rows=report.windows.rows,
        window=drift.window,
        features=features,
        predictions=predictions,
    )


def unwatched(loaded: LoadedVersion, drift: Drift) -> tuple[Unwatched, str]:
    """Why nothing is known of a version, and the same in words."""
    if not drift.is_on:
        return "off", OFF
    if usable_reference(loaded.meta) is None:
        return "no_reference", NO_REFERENCE
    return "failed", FAILED


def hint(report: Report) -> str:
    """The verdict in words."""
    match report.verdict:
        case "collecting":
            return f"{MIN_ROWS - report.windows.rows} more rows have to be counted"
        case "stable":
            return "the inputs are like those of the training"
        case "drifted":
            names = [one.name for one in report.measured if one.name and one.drifted]
            return f"{', '.join(names)}: the inputs are not like those of the training"
