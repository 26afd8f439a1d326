"""Bearer tokens."""

import hmac

from pydantic import SecretStr

from service.errors import UnauthorizedError


def check_token(given: str | None, expected: SecretStr) -> None:
    """Compare in constant time. Raises `UnauthorizedError`, which repeats neither token."""
    if given is None:
        raise UnauthorizedError("this server asks for a token: Authorization: Bearer TOKEN")
    if not hmac.compare_digest(given.encode(), expected.get_secret_value().encode()):
        raise UnauthorizedError("the token is not valid here")
