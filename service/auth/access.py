"""Who may do what. Tokens are compared with hashes in memory, without the database."""

import hmac
import math
import time
from collections.abc import Iterable, Sequence

from perceptd.service import logging as logs
from perceptd.service.auth.credentials import Credential, Role, digest_of
from perceptd.service.errors import ForbiddenError, UnauthorizedError

PREDICT = "a predict or the admin token"
ADMIN = "`perceptd token`, run where the server's store is, prints it"


class Access:
    """The valid tokens: those of the settings, and issued ones.

    Predictions and reads are open if `may_be_open` and no predict token is known. An expired token
    is still known, so that the passage of time opens nothing.
    """

    def __init__(self, fixed: Sequence[Credential] = (), *, may_be_open: bool = False) -> None:
        self.begin(fixed, may_be_open=may_be_open)

    def begin(self, fixed: Sequence[Credential], *, may_be_open: bool) -> None:
        """Replace the tokens of the settings."""
        self._fixed = tuple(fixed)
        self._may_be_open = may_be_open
        self._replace(self._fixed)

    def update(self, issued: Iterable[Credential]) -> None:
        """Replace all issued tokens. May be called from any thread."""
        known = (*self._fixed, *sorted(issued))
        if known != self._tokens.known:
            self._replace(known)

    def _replace(self, known: tuple[Credential, ...]) -> None:
        self.is_open = self._may_be_open and all(one.role != "predict" for one in known)
        self._tokens = _Tokens(known)

    def may_predict(self, digest: bytes) -> bool:
        """Whether the token with this SHA-256 digest allows predictions."""
        return time.time() < self._tokens.expiry(digest)

    def check_predict(self, given: str | None) -> None:
        """Raise `UnauthorizedError` unless predictions are open or the token is valid."""
        if not self.is_open:
            self.check_any(given)

    def check_any(self, given: str | None) -> None:
        """Raise `UnauthorizedError` unless the token is valid, in either role."""
        if not self._roles(given, PREDICT):
            raise UnauthorizedError(f"the token is not valid here ({PREDICT})")

    def check_admin(self, given: str | None) -> None:
        """Raise `UnauthorizedError`, or `ForbiddenError` for a predict token."""
        roles = self._roles(given, ADMIN)
        if not roles:
            raise UnauthorizedError(f"the token is not valid here ({ADMIN})")
        if "admin" not in roles:
            raise ForbiddenError(
                "this token allows predictions and feedback; this route needs the admin token"
            )

    def _roles(self, given: str | None, which: str) -> set[Role]:
        if given is None:
            raise UnauthorizedError(f"a token is needed: Authorization: Bearer TOKEN ({which})")
        now = time.time()
        found = [one for one in self._tokens.matching(digest_of(given)) if now < one.expires_at]
        if found:
            logs.note(token=found[0].name)
        return {one.role for one in found}


class _Tokens:
    """A set of tokens, with a cache of the expiry of those that were used."""

    def __init__(self, known: tuple[Credential, ...]) -> None:
        self.known = known
        self._expiries: dict[bytes, float] = {}  # at most one per token

    def expiry(self, digest: bytes) -> float:
        """When the token with this digest expires, in any role; -inf for an unknown one."""
        if (found := self._expiries.get(digest)) is not None:
            return found
        expiry = max((one.expires_at for one in self.matching(digest)), default=-math.inf)
        if expiry > -math.inf:
            self._expiries[digest] = expiry
        return expiry

    def matching(self, digest: bytes) -> list[Credential]:
        """The tokens with this digest. All are compared, so that the time reveals nothing."""
        return [one for one in self.known if hmac.compare_digest(digest, one.digest)]
