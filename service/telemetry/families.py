"""Name, kind and labels of every metric.

Names end with their unit, as Prometheus advises. Label values are few: the template of a route, not
the path; a loaded model and version, not what a caller wrote.
"""

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]

SECONDS = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
JOB_SECONDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)


class Family(NamedTuple):
    """One metric. Values are summed over the processes, unless `pid` is a label."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    hides_zero: bool = False  # label sets whose value is 0 are left out

    @property
    def cells(self) -> int:
        """Numbers per label set. A histogram has one per bucket, one above them, and the sum."""
        return len(self.buckets) + 2 if self.kind == "histogram" else 1


REQUESTS = Family(
    "perceptd_http_requests_total",
    "counter",
    "Answers to requests; model and version are those that answered, if any.",
    ("method", "path", "code", "model", "version"),
)
REQUEST_SECONDS = Family(
    "perceptd_request_duration_seconds",
    "histogram",
    "Time from the arrival of a request to its answer; for a stream, to its first byte.",
    ("method", "path", "model"),
    SECONDS,
)
QUEUE_SECONDS = Family(
    "perceptd_queue_wait_seconds",
    "histogram",
    "Time that a request waited for its first batch.",
    ("model",),
    SECONDS,
)
COMPUTE_SECONDS = Family(
    "perceptd_compute_seconds",
    "histogram",
    "Time of one forward pass.",
    ("model",),
    SECONDS,
)
BATCH_ROWS = Family(
    "perceptd_batch_size_rows", "histogram", "Rows of one forward pass.", ("model",), ROWS
)
ANSWERED_ROWS = Family("perceptd_rows_total", "counter", "Rows computed.", ("model", "version"))
SWAPS = Family(
    "perceptd_swaps_total",
    "counter",
    "Changes of the production version, counted in each process.",
    ("model",),
)
FEEDBACK_ROWS = Family(
    "perceptd_feedback_rows_total", "counter", "Rows of feedback that were stored.", ("model",)
)
CLOSED_CONNECTIONS = Family(
    "perceptd_connections_closed_total",
    "counter",
    "Connections that the server refused, or closed before the client did.",
    ("reason",),
)
QUEUED_ROWS = Family(
    "perceptd_queue_rows", "gauge", "Rows that wait for a forward pass.", ("model",)
)
QUEUE_LIMIT_ROWS = Family(
    "perceptd_queue_limit_rows",
    "gauge",
    "Maximum of waiting rows; requests that exceed it get 429.",
    ("model",),
    hides_zero=True,
)
LOADED = Family(
    "perceptd_version_loaded",
    "gauge",
    "Processes that have loaded this version.",
    ("model", "version"),
    hides_zero=True,
)
PRODUCTION = Family(
    "perceptd_version_in_production",
    "gauge",
    "Processes in which this version is in production.",
    ("model", "version"),
    hides_zero=True,
)
READY = Family("perceptd_ready", "gauge", "1 if the process serves all models, else 0.", ("pid",))
DRAINING = Family("perceptd_draining", "gauge", "1 if the process shuts down, else 0.", ("pid",))
LOOP_LAG = Family(
    "perceptd_event_loop_lag_seconds",
    "histogram",
    "Delay of a timer on the event loop, measured twice a second.",
    (),
    SECONDS,
)
COUNTED = {
    family.name: family
    for family in (
        REQUESTS,
        REQUEST_SECONDS,
        QUEUE_SECONDS,
        COMPUTE_SECONDS,
        BATCH_ROWS,
        ANSWERED_ROWS,
        SWAPS,
        FEEDBACK_ROWS,
        CLOSED_CONNECTIONS,
        QUEUED_ROWS,
        QUEUE_LIMIT_ROWS,
        LOADED,
        PRODUCTION,
        READY,
        DRAINING,
        LOOP_LAG,
    )
}  # by the processes that answer requests

BUILD = Family(
    "perceptd_build_info",
    "gauge",
    "Always 1; the labels say which build runs.",
    ("version", "python", "runtime", "device"),
)
DATABASE = Family(
    "perceptd_database_up", "gauge", "1 if the database answered the last query, else 0."
)
JOBS = Family(
    "perceptd_jobs", "gauge", "Jobs in the database, by kind and status.", ("kind", "status")
)
JOB_DURATION = Family(
    "perceptd_job_duration_seconds",
    "histogram",
    "Working time of the ended jobs in the database, over all attempts.",
    ("kind", "status"),
    JOB_SECONDS,
)
OLDEST_QUEUED = Family(
    "perceptd_job_oldest_queued_seconds",
    "gauge",
    "Time since the oldest queued job was submitted; 0 if none is queued.",
)
DRIFTED = Family(
    "perceptd_drift_detected",
    "gauge",
    "1 if the inputs have drifted from the training data, else 0.",
    ("model", "version"),
)
DRIFT_ROWS = Family(
    "perceptd_drift_rows",
    "gauge",
    "Latest rows that the drift metrics are computed from.",
    ("model", "version"),
)
INPUT_PSI = Family(
    "perceptd_input_drift_psi",
    "gauge",
    "Population stability index of an input: latest rows against training, from 200 rows on.",
    ("model", "version", "feature"),
)
PREDICTION_PSI = Family(
    "perceptd_prediction_drift_psi",
    "gauge",
    "Population stability index of the predicted classes, from 200 rows on.",
    ("model", "version"),
)
DRIFT = (DRIFTED, DRIFT_ROWS, INPUT_PSI, PREDICTION_PSI)
COLLECTED = {
    family.name: family for family in (BUILD, DATABASE, JOBS, JOB_DURATION, OLDEST_QUEUED, *DRIFT)
}  # computed when Prometheus asks
EXAMPLE = f"""\
# HELP {REQUESTS.name} {REQUESTS.help}
# TYPE {REQUESTS.name} counter
{REQUESTS.name}{{code="200",method="POST",model="mnist-cnn",path="/predict",version="1"}} 1024.0
"""
