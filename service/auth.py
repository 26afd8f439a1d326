"""Bearer tokens: one for predictions and reads, one for whatever changes something."""

import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from service import db
from service.errors import ForbiddenError, StoreError, UnauthorizedError
from service.settings import TOKEN, Settings

FILE = "admin-token"
BYTES = 32


def admin_token(settings: Settings) -> SecretStr:
    """The token for admin routes: the one set, else the store's own, made at first start.

    Raises `StoreError` where the store's cannot be read or made.
    """
    if settings.admin_token:
        return settings.admin_token
    path = settings.data_dir / FILE
    with db.store_errors():
        if not path.exists():
            _make(path)
        token = path.read_text().strip()
    if not TOKEN.fullmatch(token):
        raise StoreError(f"{path} holds no token: remove it, and a new one is made")
    return SecretStr(token)


def check_admin(given: str | None, admin: SecretStr, predict: SecretStr | None) -> None:
    """Raise `UnauthorizedError`, or `ForbiddenError` for a token that allows predictions only."""
    if given is not None and predict and _same(given, predict) and not _same(given, admin):
        raise ForbiddenError("this token allows predictions and feedback; this needs the admin's")
    _check(given, (admin,), "`perceptd token`, run where the server's store is, prints it")


def check_predict(given: str | None, admin: SecretStr, predict: SecretStr | None) -> None:
    """Raise `UnauthorizedError` unless predictions are open or one of the two tokens is given."""
    if predict:
        _check(given, (predict, admin), "the predict or the admin token")


def check_any(given: str | None, admin: SecretStr, predict: SecretStr | None) -> None:
    """Raise `UnauthorizedError` unless one of the two tokens is given."""
    known = (predict, admin) if predict else (admin,)
    _check(given, known, "the predict token where one is set, or the admin's")


def _check(given: str | None, known: tuple[SecretStr, ...], which: str) -> None:
    if given is None:
        raise UnauthorizedError(f"a token is needed: Authorization: Bearer TOKEN ({which})")
    if not any(_same(given, token) for token in known):
        raise UnauthorizedError(f"the token is not valid here ({which})")


def _same(given: str, token: SecretStr) -> bool:
    return hmac.compare_digest(given.encode(), token.get_secret_value().encode())


def _make(path: Path) -> None:
    """Write a new token, whole or not at all, unless another process was faster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{FILE}-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secrets.token_urlsafe(BYTES)}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()
