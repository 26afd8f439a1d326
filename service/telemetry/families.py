"""What the server tells Prometheus of itself: the name, kind and labels of every figure.

Names carry their unit, as Prometheus advises. Labels are few: a route's template and never a path,
a model and version that are loaded and never what a caller wrote.
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
    """Figures of one name. A gauge with the label `pid` is told for each process, another as the
    sum over the processes; one that `fades` is not told where it is 0.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    fades: bool = False

    @property
    def cells(self) -> int:
        """Numbers that one label set takes: of a histogram each bucket, what is above, the sum."""
        return len(self.buckets) + 2 if self.kind == "histogram" else 1


REQUESTS = Family(
    "perceptd_http_requests_total",
    "counter",
    "Requests answered; model and version are those that answered, if any.",
    ("method", "path", "code", "model", "version"),
)
REQUEST_SECONDS = Family(
    "perceptd_request_duration_seconds",
    "histogram",
    "Time from a request's arrival to its answer; of a stream, to its beginning.",
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
    "Changes of the version in production, in each process.",
    ("model",),
)
FEEDBACK_ROWS = Family(
    "perceptd_feedback_rows_total", "counter", "Corrected rows kept.", ("model",)
)
CLOSED_CONNECTIONS = Family(
    "perceptd_connections_closed_total",
    "counter",
    "Connections that the server refused, or closed before their client did.",
    ("reason",),
)
QUEUED_ROWS = Family(
    "perceptd_queue_rows", "gauge", "Rows that wait for a forward pass.", ("model",)
)
QUEUE_LIMIT_ROWS = Family(
    "perceptd_queue_limit_rows",
    "gauge",
    "Rows that may wait at most; whoever brings more is refused with 429.",
    ("model",),
    fades=True,
)
LOADED = Family(
    "perceptd_version_loaded",
    "gauge",
    "Processes that have this version loaded.",
    ("model", "version"),
    fades=True,
)
PRODUCTION = Family(
    "perceptd_version_in_production",
    "gauge",
    "Processes in which this version answers for its model.",
    ("model", "version"),
    fades=True,
)
READY = Family("perceptd_ready", "gauge", "Whether a process has all its models: 1 or 0.", ("pid",))
DRAINING = Family("perceptd_draining", "gauge", "Whether a process is ending: 1 or 0.", ("pid",))
LOOP_LAG = Family(
    "perceptd_event_loop_lag_seconds",
    "histogram",
    "How much later than asked for the event loop came back, looked at twice a second.",
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
}  # by the processes that answer; what follows is found out when somebody asks

BUILD = Family(
    "perceptd_build_info",
    "gauge",
    "1; the labels say what runs.",
    ("version", "python", "runtime", "device"),
)
DATABASE = Family(
    "perceptd_database_up", "gauge", "Whether the database answered when last asked: 1 or 0."
)
JOBS = Family(
    "perceptd_jobs", "gauge", "Jobs by state, as the database has them.", ("kind", "status")
)
JOB_DURATION = Family(
    "perceptd_job_duration_seconds",
    "histogram",
    "Time of work of jobs that have ended, over all their attempts, as the database has them.",
    ("kind", "status"),
    JOB_SECONDS,
)
OLDEST_QUEUED = Family(
    "perceptd_job_oldest_queued_seconds",
    "gauge",
    "How long the job that has waited longest has been queued; 0 where none is.",
)
DRIFTED = Family(
    "perceptd_drift_detected",
    "gauge",
    "1 where the inputs are not like those of the training.",
    ("model", "version"),
)
DRIFT_ROWS = Family(
    "perceptd_drift_rows",
    "gauge",
    "Latest rows that the drift figures are about.",
    ("model", "version"),
)
INPUT_PSI = Family(
    "perceptd_input_drift_psi",
    "gauge",
    "Population stability index of an input's latest rows against training, from 200 rows on.",
    ("model", "version", "feature"),
)
PREDICTION_PSI = Family(
    "perceptd_prediction_drift_psi",
    "gauge",
    "The same of the latest predicted classes.",
    ("model", "version"),
)
DRIFT = (DRIFTED, DRIFT_ROWS, INPUT_PSI, PREDICTION_PSI)
FOUND_OUT = {
    family.name: family for family in (BUILD, DATABASE, JOBS, JOB_DURATION, OLDEST_QUEUED, *DRIFT)
}
EXAMPLE = f"""\
# HELP {REQUESTS.name} {REQUESTS.help}
# TYPE {REQUESTS.name} counter
{REQUESTS.name}{{code="200",method="POST",model="mnist-cnn",path="/predict",version="1"}} 1024.0
"""
