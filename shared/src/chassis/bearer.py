"""What this process shows to other services beside its certificate: a token, from the environment or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chassis import credentials
from chassis.authority import AUTHORIZATION_KEY
from chassis.errors import Unauthenticated
from chassis.settings import WaybillSettings, host_and_port, is_loopback
from chassis.watched_file import WatchedFile

_NONE: Final[tuple[tuple[str, str], ...]] = ()


class Bearer:
    """The metadata that authenticates this process; raises OSError and ValueError for a file that holds no token."""

    def __init__(self, waybill: WaybillSettings) -> None:
        self._token = waybill.token.get_secret_value()
        self._file = WatchedFile(waybill.token_file, credentials.parse_secret) if waybill.token_file else None
        self._in_the_open = waybill.insecure
        self._encrypted = waybill.tls

    def metadata(self, target: str) -> Sequence[tuple[str, str]]:
        """For a call to `host:port`; empty where this process has no token.

        Raises Unauthenticated where the token would cross a network in the open.
        """
        token = self._file.value() if self._file else self._token
        if not token:
            return _NONE
        if not (self._encrypted or self._in_the_open or is_loopback(host_and_port(target)[0])):
            raise Unauthenticated(
                f"a token is not sent to {target} without TLS: set WAYBILL_TLS_*, or WAYBILL_INSECURE=1",
                reason="TOKEN_NEEDS_TLS",
            )
        return ((AUTHORIZATION_KEY, f"Bearer {token}"),)
