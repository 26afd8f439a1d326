"""Every `PERCEPTD_*` variable of the server, validated once at start."""

import difflib
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PostgresDsn, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "PERCEPTD_"
OPTIONS = ("host", "port", "data_dir", "device", "runtime", "processes")  # of `perceptd serve`
# Read by the command line, the tests and the processes of one server, or set by Kubernetes for a
# service of this name.
OTHER_VARIABLES = re.compile(
    r"PERCEPTD_(URL|TEST_.*|METRICS_DIR|SERVICE_(HOST|PORT)(_.*)?|PORT_\d+_(TCP|UDP)(_.*)?)",
    re.DOTALL,
)

TIMEOUT_S = 5  # of everything that is asked of the database

TOKEN = re.compile(r"[\x21-\x2b\x2d-\x7e]{16,}")  # a comma stands between two
HASHED = "sha256:"  # before the hash of a token, which may stand for it
HASH = re.compile(rf"{HASHED}[0-9a-fA-F]{{64}}")

ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


class Settings(BaseSettings):
    """Read from the environment; each field's docstring is its line in the documentation."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, use_attribute_docstrings=True, frozen=True)

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs a token for predictions, set or issued, or
    `PERCEPTD_OPEN_PREDICTIONS=1`."""

    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""

    data_dir: Path = Path("data")
    """Folder of the store: the SQLite database and `checkpoints/MODEL/VERSION/`."""

    database_url: str | None = Field(None, pattern=r"^postgresql\+psycopg://", repr=False)
    """`postgresql+psycopg://user:password@host/name` instead of SQLite in the data folder."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where models run. `auto` takes CUDA, then MPS, then the CPU."""

    runtime: Literal["auto", "onnx", "torch"] = "auto"
    """What executes a checkpoint. `auto` is ONNX Runtime on the CPU and torch on an accelerator."""

    threads: int = Field(1, ge=1, le=256)
    """Threads of one forward pass on the CPU."""

    max_rows: int = Field(1024, ge=1, le=1_000_000)
    """Rows that one request may carry."""

    max_batch_size: int | None = Field(None, ge=1, le=65536)
    """Rows that one forward pass takes at most; a larger request is answered over several. Unset:
    on the CPU 64 pictures, or as many rows as have the numbers of these; 256 on an accelerator."""

    max_batch_time_ms: float = Field(0, ge=0, le=1000)
    """Milliseconds that a request waits for company while its model is idle. 0: a batch is what
    arrived at the same moment, or while the last one was computed."""

    max_queue_size: int = Field(8192, ge=1, le=10_000_000)
    """Rows that may wait for one version; a request that would be more is refused with 429."""

    max_queue_wait_ms: float = Field(250, ge=1, le=3_600_000)
    """Milliseconds that a prediction may wait for its turn; one that would wait longer, as the
    batches of late tell, is refused with 429 at once."""

    request_timeout_ms: int = Field(30_000, ge=1, le=3_600_000)
    """Milliseconds within which a prediction has its turn, or is answered 504. A request may allow
    less: `X-Request-Timeout-Ms`."""

    max_connections: int = Field(2048, ge=1, le=1_000_000)
    """Connections of one process. One more takes the place of that which has been idle or
    incomplete longest; where all wait for an answer it gets a 503. The system's limit on open
    files may allow fewer."""

    max_header_bytes: int = Field(16_384, ge=1024, le=2**20)
    """Bytes that the head of a request may have, its address included; a longer one gets a 431."""

    read_timeout_s: float = Field(30, gt=0, le=3600)
    """Seconds in which the head of a request has to arrive, and then its body; a slower one gets a
    408."""

    write_timeout_s: float = Field(30, gt=0, le=3600)
    """Seconds after which a connection is dropped whose client takes nothing of what it is sent."""

    drain_s: float = Field(0, ge=0, le=3600)
    """Seconds for which a server that is asked to end still answers everything, while
    `/health/ready` is 503: time for a load balancer to look elsewhere."""

    grace_s: int = Field(30, ge=1, le=3600)
    """Seconds after that in which requests that were accepted are answered."""

    max_body_bytes: int = Field(16 * 2**20, ge=1024)
    """Bytes that one request body may have."""

    max_picture_pixels: int = Field(16_000_000, ge=784)
    """Pixels that one uploaded picture may have."""

    busy_poll_us: int = Field(100, ge=0, le=100_000)
    """Microseconds after an answer in which a process looks for the next request instead of
    sleeping: a client that asks one after the other is answered sooner. 0 saves the time."""

    max_pinned_versions: int = Field(4, ge=1, le=1000)
    """Versions besides production kept loaded because requests ask for them by number."""

    drift: bool = True
    """Compare what models are asked with what they were trained on."""

    drift_window: int = Field(4000, ge=400, le=1_000_000)
    """About how many rows of a version are compared at most: the latest."""

    predict_token: SecretStr | None = None
    """Token of at least 16 characters that predictions and reads then need, sent as the header
    `Authorization: Bearer TOKEN`; or several, with commas between them. Each may be given as
    `sha256:HASH` instead. Unset, and none issued: they are open."""

    admin_token: SecretStr | None = None
    """The same for whatever changes something: jobs, promotions, uploads. Unset: one is made at
    first start, and `perceptd token` prints it."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may ask from a browser, such as `https://app.example.com`, with commas
    between them. Unset: none but the server's own."""

    open_predictions: bool = False
    """Allow listening on a public address without a token for predictions."""

    processes: int | None = Field(None, ge=1, le=64)
    """Processes that answer on the port, each with its own copy of every model. Unset: one per
    core up to 4 on the CPU, one on an accelerator."""

    workers: int | None = Field(None, ge=0, le=64)
    """Worker processes that `perceptd serve` runs beside itself. Unset: one where torch is
    installed."""

    train_threads: int | None = Field(None, ge=1, le=1024)
    """Threads of one training. Unset: one fewer than there are cores, at least one."""

    train_memory_mb: int | None = Field(None, ge=1024)
    """Megabytes of its own that a training may take, on Linux. Unset: three quarters of the
    machine's."""

    train_nice: int = Field(19, ge=0, le=19)
    """How far a training stands back for other processes: 19 takes what they leave over."""

    max_job_s: float = Field(86_400, gt=0, le=31_536_000)
    """Seconds that a job may run where it does not say so itself."""

    max_silence_s: float = Field(600, gt=0, le=86_400)
    """Seconds for which a training may say nothing before it is taken for one that hangs, and is
    ended. It tells of each epoch, and of how far it is in a long one."""

    max_attempts: int = Field(3, ge=1, le=100)
    """Attempts at a job whose worker or training was killed, before it fails."""

    lease_s: float = Field(20, ge=1, le=3600)
    """Seconds after which a worker that is not heard of has lost its job to another."""

    mnist_dir: Path | None = None
    """Folder that holds `MNIST/raw`; MNIST is downloaded there if it is absent. Unset: the data
    folder."""

    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"
    """How much the server logs."""

    log_format: Literal["auto", "text", "json"] = "auto"
    """How a line of the log looks. `auto` is text on a terminal, and JSON elsewhere."""

    access_log: bool = True
    """Log a line per request."""

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
                    "an origin is exact, without a path and in lower case, such as "
                    f"https://app.example.com:8443; {entry!r} is none"
                )
        return value

    @field_validator("predict_token", "admin_token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        for entry in value.get_secret_value().split(",") if value else ():
            if not (HASH if entry.strip().startswith(HASHED) else TOKEN).fullmatch(entry.strip()):
                raise ValueError(
                    "a token has 16 or more letters, digits or signs, all ASCII, no blank and no "
                    f"comma; a hash is {HASHED} and 64 hexadecimal digits"
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
    """The variable of a setting, after its option of `perceptd serve` where it has one."""
    variable = variable_of(field)
    return f"--{field.replace('_', '-')} ({variable})" if field in OPTIONS else variable


def unknown_variable(environment: Mapping[str, str]) -> str:
    """An error that names the first `PERCEPTD_*` variable that is no setting; empty if all are."""
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
