"""Who may do what. A request is held against hashes in memory; no database is asked."""

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
    """The tokens that count now: those of the settings, and those that were issued.

    Predictions and reads are open where they may be and no token for them is known. One that has
    expired is still known: a server does not open itself because time went by.
    """

    def __init__(self, fixed: Sequence[Credential], *, may_be_open: bool) -> None:
        self._fixed = tuple(fixed)
        self._may_be_open = may_be_open
        self._take(self._fixed)

    def update(self, issued: Iterable[Credential]) -> None:
        """Take these issued tokens for all that there are; from any thread."""
        known = (*self._fixed, *sorted(issued))
        if known != self._tokens.known:
            self._take(known)

    def _take(self, known: tuple[Credential, ...]) -> None:
        self.is_open = self._may_be_open and all(one.role != "predict" for one in known)
        self._tokens = _Tokens(known)

    def may_predict(self, digest: bytes) -> bool:
        """Whether the token of that SHA-256 allows predictions, where they are not open."""
        return time.time() < self._tokens.end(digest)

    def check_predict(self, given: str | None) -> None:
        """Raise `UnauthorizedError` unless predictions are open or a token is given."""
        if not self.is_open:
            self.check_any(given, which=PREDICT)

    def check_any(
        self, given: str | None, which: str = "a predict token where there is one, or the admin's"
    ) -> None:
        """Raise `UnauthorizedError` unless a token of either role is given."""
        if not self._roles(given, which):
            raise UnauthorizedError(f"the token is not valid here ({which})")

    def check_admin(self, given: str | None) -> None:
        """Raise `UnauthorizedError`, or `ForbiddenError` for one that allows predictions only."""
        roles = self._roles(given, ADMIN)
        if not roles:
            raise UnauthorizedError(f"the token is not valid here ({ADMIN})")
        if "admin" not in roles:
            raise ForbiddenError(
                "this token allows predictions and feedback; this needs the admin's"
            )

    def _roles(self, given: str | None, which: str) -> set[Role]:
        if given is None:
            raise UnauthorizedError(f"a token is needed: Authorization: Bearer TOKEN ({which})")
        now = time.time()
        found = [one for one in self._tokens.like(digest_of(given)) if now < one.expires_at]
        if found:
            logs.note(token=found[0].name)
        return {one.role for one in found}


class _Tokens:
    """One set of tokens, and of those that came and are in it until when they count."""

    def __init__(self, known: tuple[Credential, ...]) -> None:
        self.known = known
        self._found: dict[bytes, float] = {}  # no more than there are tokens

    def end(self, digest: bytes) -> float:
        """When the token of this SHA-256 ends, whatever its role; of an unknown one, long ago."""
        if (found := self._found.get(digest)) is not None:
            return found
        end = max((one.expires_at for one in self.like(digest)), default=-math.inf)
        if end > -math.inf:
            self._found[digest] = end
        return end

    def like(self, digest: bytes) -> list[Credential]:
        """Those of this SHA-256. All are compared: how long it takes tells nothing."""
        return [one for one in self.known if hmac.compare_digest(digest, one.digest)]
