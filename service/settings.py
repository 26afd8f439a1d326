"""Every `PERCEPTD_*` variable of the server, validated once at start."""

import difflib
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PostgresDsn, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "PERCEPTD_"
OPTIONS = (  # of `perceptd serve`
    "host",
    "port",
    "uds",
    "tls_cert",
    "tls_key",
    "http2",
    "data_dir",
    "device",
    "runtime",
    "processes",
)
# Read by the command line, by the tests and between the processes of a server, or set by Kubernetes
# for a service named perceptd.
OTHER_VARIABLES = re.compile(
    r"PERCEPTD_(URL|TEST_.*|METRICS_DIR|SERVICE_(HOST|PORT)(_.*)?|PORT_\d+_(TCP|UDP)(_.*)?)",
    re.DOTALL,
)

TIMEOUT_S = 5  # of each database operation

TOKEN = re.compile(r"[\x21-\x2b\x2d-\x7e]{16,}")  # without commas, which separate tokens
HASHED = "sha256:"  # precedes the hash of a token
HASH = re.compile(rf"{HASHED}[0-9a-fA-F]{{64}}")

ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


class Settings(BaseSettings):
    """Read from the environment; each field's docstring is its row in `docs/operate.md`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, use_attribute_docstrings=True, frozen=True)

    host: str = "127.0.0.1"
    """Address to listen on. Any address but loopback requires a predict token, set or issued, or
    `PERCEPTD_OPEN_PREDICTIONS=1`."""

    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 picks a free one. If it is unset, `perceptd serve` takes `PORT`, which
    many platforms set."""

    uds: Path | None = None
    """UNIX socket to listen on instead of a port."""

    tls_cert: Path | None = None
    """File with the certificate for HTTPS, then those of intermediate authorities, as PEM."""

    tls_key: Path | None = None
    """File with the private key of `PERCEPTD_TLS_CERT`, as PEM without a passphrase."""

    http2: bool = False
    """Speak HTTP/2 too, which needs `pip install 'perceptd[http2]'`."""

    data_dir: Path = Path("data")
    """Folder of the store: the SQLite database, checkpoints, jobs and data sets."""

    database_url: str | None = Field(None, pattern=r"^postgresql\+psycopg://", repr=False)
    """PostgreSQL to use instead of SQLite, as `postgresql+psycopg://user:password@host/name`."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device that runs the models. `auto` prefers CUDA, then MPS, then the CPU."""

    runtime: Literal["auto", "onnx", "torch"] = "auto"
    """Runtime of the models. `auto` is ONNX Runtime on the CPU and torch on an accelerator."""

    threads: int = Field(1, ge=1, le=256)
    """Threads per forward pass on the CPU."""

    max_rows: int = Field(1024, ge=1, le=1_000_000)
    """Maximum rows per request."""

    max_batch_size: int | None = Field(None, ge=1, le=65536)
    """Maximum rows per forward pass; a larger request takes several. Unset: 256 on an accelerator;
    on the CPU as many as hold the 50,176 numbers of 64 MNIST images."""

    max_batch_time_ms: float = Field(0, ge=0, le=1000)
    """Milliseconds that a request waits for others to share its batch while the model is idle. 0:
    a batch holds what arrived at the same time or during the last forward pass."""

    max_queue_size: int = Field(8192, ge=1, le=10_000_000)
    """Maximum rows in the queue of a version; a request beyond that gets a 429."""

    max_queue_wait_ms: float = Field(1000, ge=1, le=3_600_000)
    """Maximum milliseconds in the queue. A request gets a 429 at once if it is estimated to wait
    longer, and does not fit into the next batch; the estimate comes from recent batches."""

    request_timeout_ms: int = Field(30_000, ge=1, le=3_600_000)
    """Milliseconds until a prediction that has not started gets a 504. The header
    `X-Request-Timeout-Ms` of a request may lower it."""

    max_connections: int = Field(2048, ge=1, le=1_000_000)
    """Maximum connections per process. A new one beyond that replaces the one that has been idle or
    incomplete for longest, or gets a 503 if all await an answer. The system's limit on open files
    may allow fewer."""

    max_header_bytes: int = Field(16_384, ge=1024, le=2**20)
    """Maximum bytes of a request's head, with its URL; a longer one gets a 431."""

    read_timeout_s: float = Field(30, gt=0, le=3600)
    """Seconds for a request's head to arrive, and then for its body; a slower one gets a 408."""

    write_timeout_s: float = Field(30, gt=0, le=3600)
    """Seconds until a connection is closed whose client does not read its answer."""

    drain_s: float = Field(0, ge=0, le=3600)
    """Seconds after SIGTERM for which a server still accepts requests while `/health/ready` answers
    503, so that a load balancer can take it out."""

    grace_s: int = Field(30, ge=1, le=3600)
    """Seconds after the drain for accepted requests to finish."""

    max_body_bytes: int = Field(16 * 2**20, ge=1024)
    """Maximum bytes of a request body."""

    max_bytes_in_flight: int = Field(128 * 2**20, ge=2**20)
    """Maximum bytes of unfinished requests per process, and at least those of one. Beyond it the
    body that has been incomplete for longest gets a 503."""

    max_picture_pixels: int = Field(16_000_000, ge=784)
    """Maximum pixels of an uploaded image."""

    busy_poll_us: int = Field(100, ge=0, le=100_000)
    """Microseconds for which a process polls for the next request after an answer instead of
    sleeping. It lowers the latency of a client that sends one request after another, and costs CPU
    time; 0 turns it off."""

    max_pinned_versions: int = Field(4, ge=1, le=1000)
    """Maximum versions besides production that stay loaded because requests name them."""

    drift: bool = True
    """Compare the inputs of predictions with the training data."""

    drift_window: int = Field(4000, ge=400, le=1_000_000)
    """Approximate number of latest rows per version that are compared."""

    predict_token: SecretStr | None = None
    """Token of at least 16 characters that predictions and reads require, in the header
    `Authorization: Bearer TOKEN`. Separate several by commas; each may also be given as
    `sha256:HASH`. Unset, and none issued: predictions and reads are open."""

    admin_token: SecretStr | None = None
    """The same for write operations: jobs, promotions, uploads. Unset: the first start creates one,
    and `perceptd token` prints it."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins of other pages that may read answers in a browser, separated by commas, such as
    `https://app.example.com`. Unset: only the server's own page."""

    open_predictions: bool = False
    """Allow a public address without a predict token."""

    processes: int | None = Field(None, ge=1, le=64)
    """Server processes that share the port, each with its own copy of every model. Unset: one per
    core, at most 4, on the CPU; one on an accelerator."""

    workers: int | None = Field(None, ge=0, le=64)
    """Worker processes that `perceptd serve` starts. Unset: one if torch is installed."""

    train_threads: int | None = Field(None, ge=1, le=1024)
    """Threads per training. Unset: one fewer than there are cores, at least one."""

    train_memory_mb: int | None = Field(None, ge=1024)
    """Maximum megabytes of memory per training, on Linux. Unset: three quarters of the machine's
    memory."""

    train_nice: int = Field(19, ge=0, le=19)
    """Niceness of a training; 19 is the lowest priority."""

    max_job_s: float = Field(86_400, gt=0, le=31_536_000)
    """Maximum seconds of a job whose request names no `max_runtime_s`."""

    max_silence_s: float = Field(600, gt=0, le=86_400)
    """Seconds without output after which a training counts as stalled and is stopped. A training
    reports every epoch, and its progress within long ones."""

    max_attempts: int = Field(3, ge=1, le=100)
    """Maximum attempts at a job whose worker or training is killed or stalls."""

    lease_s: float = Field(20, ge=1, le=3600)
    """Seconds without a heartbeat after which a worker loses its job to another."""

    mnist_dir: Path | None = None
    """Folder with `MNIST/raw`, downloaded if it is absent. Unset: the data folder."""

    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"
    """Lowest level that is logged."""

    log_format: Literal["auto", "text", "json"] = "auto"
    """Format of log lines. `auto` is text on a terminal and JSON elsewhere."""

    access_log: bool = True
    """Log one line per request."""

    @property
    def is_local(self) -> bool:
        """Whether the server is reachable from this machine only."""
        return self.uds is not None or is_loopback(self.host)

    @model_validator(mode="after")
    def _has_both_of_tls(self) -> Self:
        fields = ("tls_cert", "tls_key")
        for given, missing in (fields, fields[::-1]):
            if getattr(self, given) and not getattr(self, missing):
                raise ValueError(
                    f"{option_and_variable_of(given)} needs {option_and_variable_of(missing)} too"
                )
        return self

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: str | None) -> str | None:
        if value is not None:
            PostgresDsn(value)
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _separate(cls, value: object) -> object:
        return [entry.strip() for entry in value.split(",")] if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if not ORIGIN.fullmatch(entry):
                raise ValueError(
                    "expected an exact origin in lower case and without a path, such as "
                    f"https://app.example.com:8443; got {entry!r}"
                )
        return value

    @field_validator("predict_token", "admin_token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        for entry in value.get_secret_value().split(",") if value else ():
            if not (HASH if entry.strip().startswith(HASHED) else TOKEN).fullmatch(entry.strip()):
                raise ValueError(
                    "expected at least 16 ASCII letters, digits or punctuation marks per token, "
                    f"or {HASHED} and 64 hexadecimal digits; separate tokens by commas"
                )
        return value


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def variable_of(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


def option_and_variable_of(field: str) -> str:
    """The variable of a setting, after its option of `perceptd serve` if it has one."""
    variable = variable_of(field)
    return f"--{field.replace('_', '-')} ({variable})" if field in OPTIONS else variable


def unknown_variable(environment: Mapping[str, str]) -> str:
    """An error about the first `PERCEPTD_*` variable that is not a setting; empty without one."""
    known = [field.upper() for field in Settings.model_fields]
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name != name.upper():
            return f"{name[:60]} is not a setting: use capitals, {name[:60].upper()}"
        field = name.removeprefix(PREFIX)
        if field != name and field not in known and not OTHER_VARIABLES.fullmatch(name):
            near = difflib.get_close_matches(field, known, 1)
            hint = (
                f"did you mean {PREFIX}{near[0]}?" if near else "docs/operate.md lists all settings"
            )
            return f"{name[:60]} is not a setting: {hint}"
    return ""
