"""A store URL that names Sentinels, and the one place that asks them where the primary is.

`sentinel://user:password@host:port,host:port/name/db`: user, password and db are the servers', name is what the
Sentinels call the primary. Connections are redis-py's: each asks when it is made, and is made anew when its server
goes away or answers that it is no primary any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

import redis
from redis import sentinel as _sentinel
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

# redis-py leaves it untyped.
_sentinels: Any = _sentinel

SCHEME: Final = "sentinel"
DEFAULT_PORT: Final = 26_379
EXPECTED: Final = (
    "expected sentinel://host:port,host:port/name/db, with user:password@ before the hosts if there is one"
)
#: A Sentinel that is gone or frozen costs a connection no more than this.
ANSWER_SECONDS: Final = 1.0

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """What such a URL says."""

    addresses: tuple[Address, ...]
    name: str
    database: int
    username: str | None
    password: str | None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises ValueError, which says what was expected."""
        parts = urlsplit(url)
        name, _, database = parts.path.removeprefix("/").partition("/")
        login, _, hosts = parts.netloc.rpartition("@")
        username, _, password = login.partition(":")
        if not name or not (database or "0").isdecimal() or parts.query or parts.fragment:
            raise ValueError(EXPECTED)
        return cls(
            addresses=tuple(_address(host) for host in hosts.split(",")),
            name=unquote(name),
            database=int(database or 0),
            username=unquote(username) or None,
            password=unquote(password) or None,
        )

    def login(self) -> dict[str, Any]:
        """Of the servers, as redis-py's connections take it."""
        return {"db": self.database, "username": self.username, "password": self.password}


def names_sentinels(url: str) -> bool:
    """Whether it is such a URL."""
    return url.startswith(f"{SCHEME}:")


def asking_options() -> dict[str, Any]:
    """Options of connections to Sentinels."""
    return {
        "socket_connect_timeout": ANSWER_SECONDS,
        # With them on, redis-py takes a connection that the server has closed for a sound one.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def primary_pool(url: SentinelUrl, **options: Any) -> Any:
    """Blocking connections to whichever server is the primary."""
    asking = {**asking_options(), "socket_timeout": ANSWER_SECONDS, "retry": Retry(NoBackoff(), 0)}
    sentinel = _sentinels.Sentinel(list(url.addresses), sentinel_kwargs=asking)
    return _sentinels.SentinelConnectionPool(url.name, sentinel, **{**options, **url.login()})


def open_blocking(url: str, **options: Any) -> redis.Redis:
    """A client of the store that a URL names, whatever its scheme."""
    if not names_sentinels(url):
        return redis.Redis.from_url(url, **options)
    return redis.Redis.from_pool(primary_pool(SentinelUrl.parse(url), **options))


def _address(text: str) -> Address:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError:
        raise ValueError(EXPECTED) from None
    if not host:
        raise ValueError(EXPECTED)
    return host, port
