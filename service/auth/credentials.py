"""Bearer tokens of the settings and of the store. A server keeps only their hashes."""

import hashlib
import math
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import SecretStr

from perceptd.service.errors import ConflictError, StoreError
from perceptd.service.settings import HASHED, TOKEN, Settings, variable_of
from perceptd.service.store import db

FILE = "admin-token"
NAME_IN_STORE = "the store's"  # name of the token in that file
BYTES = 32

Role = Literal["admin", "predict"]
FIELDS: tuple[tuple[str, Role], ...] = (("admin_token", "admin"), ("predict_token", "predict"))


class Credential(NamedTuple):
    """A valid token, known only by its SHA-256 digest."""

    role: Role
    digest: bytes
    name: str  # of the issued token, of the variable that sets it, or `NAME_IN_STORE`
    expires_at: float = math.inf  # seconds since 1970


def new_token() -> str:
    return secrets.token_urlsafe(BYTES)


def digest_of(token: str) -> bytes:
    """No salt and no stretching: a token has 256 random bits and cannot be guessed."""
    return hashlib.sha256(token.encode()).digest()


def hash_of(token: str) -> str:
    """The hash of a token, as settings take it."""
    return f"{HASHED}{digest_of(token).hex()}"


def credentials(settings: Settings) -> list[Credential]:
    """The tokens of the settings, and the store's token if no admin token is set.

    Raises `StoreError` if the store's token cannot be read or created.
    """
    found = [
        Credential(role, bytes.fromhex(entry.removeprefix(HASHED)), variable_of(name))
        for name, role in FIELDS
        for entry in _entries(getattr(hashed(settings), name))
    ]
    if not settings.admin_token:
        digest = digest_of(admin_token(settings).get_secret_value())
        found.append(Credential("admin", digest, NAME_IN_STORE))
    return found


def hashed(settings: Settings) -> Settings:
    """The same settings with hashes in place of tokens."""
    hashes = {
        name: SecretStr(",".join(_hash(entry) for entry in _entries(getattr(settings, name))))
        for name, _ in FIELDS
        if getattr(settings, name)
    }
    return settings.model_copy(update=hashes)


def environment(settings: Settings) -> dict[str, str]:
    """The hashes of the set tokens, as variables for the processes of a server."""
    values = ((name, getattr(hashed(settings), name)) for name, _ in FIELDS)
    return {variable_of(name): value.get_secret_value() for name, value in values if value}


def clear(setting: SecretStr | None) -> str | None:
    """The first token of a setting that is not a hash, for a client to send."""
    return next((entry for entry in _entries(setting) if not entry.startswith(HASHED)), None)


def admin_token(settings: Settings) -> SecretStr:
    """The token for admin routes: the first that is set, or the store's, created if absent.

    Raises `ConflictError` if only hashes are set, `StoreError` if the store's token cannot be read
    or created.
    """
    if settings.admin_token:
        if (token := clear(settings.admin_token)) is None:
            raise ConflictError(
                "PERCEPTD_ADMIN_TOKEN has only hashes: ask whoever created them for the token"
            )
        return SecretStr(token)
    path = settings.data_dir / FILE
    with db.store_errors():
        if not path.exists():
            _make(path)
        token = path.read_text(errors="replace").strip()
    if not TOKEN.fullmatch(token):
        raise StoreError(f"{path} holds no token: remove it, and a new one is made")
    return SecretStr(token)


def _entries(setting: SecretStr | None) -> Iterator[str]:
    if setting:
        yield from (entry.strip() for entry in setting.get_secret_value().split(","))


def _hash(entry: str) -> str:
    return entry.lower() if entry.startswith(HASHED) else hash_of(entry)


def _make(path: Path) -> None:
    """Write a new token atomically, unless another process was faster."""
    db.make_folder(path.parent)
    descriptor, name = tempfile.mkstemp(prefix=f".{FILE}-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{new_token()}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()
