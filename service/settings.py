"""Every `PERCEPTD_*` variable of the server, validated once at start."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PostgresDsn, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

TOKEN = re.compile(r"[\x21-\x7e]{16,}")


class Settings(BaseSettings):
    """Read from the environment; each field's docstring is its line in the documentation."""

    model_config = SettingsConfigDict(
        env_prefix="PERCEPTD_", use_attribute_docstrings=True, frozen=True
    )

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs `PERCEPTD_PREDICT_TOKEN` or
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

    max_body_bytes: int = Field(16 * 2**20, ge=1024)
    """Bytes that one request body may have."""

    max_picture_pixels: int = Field(16_000_000, ge=784)
    """Pixels that one uploaded picture may have."""

    busy_poll_us: int = Field(100, ge=0, le=100_000)
    """Microseconds after an answer in which a process looks for the next request instead of
    sleeping: a client that asks one after the other is answered sooner. 0 saves the time."""

    max_pinned_versions: int = Field(4, ge=1, le=1000)
    """Versions besides production kept loaded because requests ask for them by number."""

    predict_token: SecretStr | None = None
    """Token of at least 16 characters that predictions and reads then need, sent as the header
    `Authorization: Bearer TOKEN`. Unset: they are open."""

    admin_token: SecretStr | None = None
    """Token of at least 16 characters for whatever changes something: jobs, promotions, uploads.
    Unset: one is made at first start, and `perceptd token` prints it."""

    open_predictions: bool = False
    """Allow listening on a public address without a predict token."""

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

    access_log: bool = True
    """Log a line per request."""

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: str | None) -> str | None:
        if value is not None:
            PostgresDsn(value)
        return value

    @field_validator("predict_token", "admin_token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError("a token has 16 or more letters, digits or signs, all ASCII, no blank")
        return value

    @model_validator(mode="after")
    def _public_needs_protection(self) -> Self:
        if not (is_loopback(self.host) or self.predict_token or self.open_predictions):
            raise ValueError(
                f"listening on {self.host} would open predictions to the network: set "
                "PERCEPTD_PREDICT_TOKEN, or PERCEPTD_OPEN_PREDICTIONS=1 to allow it"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
