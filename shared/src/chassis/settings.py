"""Settings: environment variables, read once, refused all at once.

`WAYBILL_` is for what all services share, a service's own prefix for the rest.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis import credentials
from chassis.sentinels import SentinelUrl, names_sentinels

# A key with a dot is a proto package, and its value the service that owns it.
DEFAULT_ROUTES = (
    "metrics=127.0.0.1:50051,notify=127.0.0.1:50052,reports=127.0.0.1:50053,"
    "opentelemetry.proto.collector.metrics.v1=metrics"
)

_SECRET_WORDS = ("url", "secret", "password", "token", "key")
_SET_TLS = "WAYBILL_TLS_CERT_FILE, WAYBILL_TLS_KEY_FILE and WAYBILL_TLS_CA_FILE"
_MAX_SHOWN = 80
_MAX_PORT = 65_535


class SettingsError(Exception):
    """The settings are wrong."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("\n".join(f"{variable}: {problem}" for variable, problem in self.problems.items()))


def split_list(value: Any) -> Any:
    """`a, b` as ("a", "b"); what is no text is left as it is."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def split_pairs(value: Any) -> Any:
    """`a=1,b=2` as a dict; what is no text is left as it is."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in split_list(value)]
    if not all(key.strip() and equals and item.strip() for key, equals, item in pairs):
        raise ValueError("expected name=value pairs with commas between them")
    return {key.strip(): item.strip() for key, _, item in pairs}


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of `host:port` or `[v6]:port`; raises ValueError for anything else."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= _MAX_PORT):
        raise ValueError("expected host:port with a port from 0 to 65535")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("expected an IPv6 address in brackets: [::1]:50051")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that host; a name other than localhost does not count."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(value: str) -> str:
    if value:
        host_and_port(value)
    return value


def _redis_url(value: str) -> str:
    if names_sentinels(value):
        SentinelUrl.parse(value)
        return value
    parts = urlsplit(value)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError(
            "expected redis://host:port/db, rediss:// for TLS, unix:///path, or sentinel://host:port,host:port/name/db"
        )
    if parts.scheme != "unix" and (not parts.hostname or parts.port == 0):
        raise ValueError("expected a host: redis://host:port/db")
    return value


def _database_url(value: str) -> str:
    scheme = urlsplit(value).scheme
    if value and scheme not in {"sqlite", "postgresql", "postgresql+psycopg"}:
        raise ValueError("expected sqlite:///path or postgresql://user@host/name; empty for the default")
    return value


def _routes(value: dict[str, str]) -> dict[str, str]:
    for key, target in value.items():
        if "." not in key:
            host_and_port(target)
        elif target not in value:
            raise ValueError(f"{key}: its owner {target!r} has no route of its own")
    return value


Address = Annotated[str, AfterValidator(_address)]
CommaList = Annotated[tuple[str, ...], BeforeValidator(split_list)]
Pairs = Annotated[dict[str, str], BeforeValidator(split_pairs)]
# Set to nothing is not set.
File = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
Folder = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class _Settings(BaseSettings):
    # Lists and tables are written with commas, not as JSON: the fields' validators read them.
    model_config = SettingsConfigDict(enable_decoding=False, extra="ignore", frozen=True)


class WaybillSettings(_Settings):
    """What all services share; prefix WAYBILL_."""

    model_config = SettingsConfigDict(env_prefix="WAYBILL_")

    redis_url: Annotated[str, AfterValidator(_redis_url)] = "redis://127.0.0.1:6379/0"
    # Holds the password of the user in redis_url, instead of one there. Read at the start.
    redis_password_file: File = None
    state_dir: Folder = Path("~/.local/state/waybill")
    # Where the owner of each service, and of each further proto package, listens.
    routes: Annotated[Pairs, AfterValidator(_routes)] = Field(default_factory=lambda: split_pairs(DEFAULT_ROUTES))
    durability: Literal["always", "everysec", "replicated"] = "always"
    # How many replicas must have confirmed an acceptance; for `replicated` alone.
    replicas: int = Field(1, ge=1, le=10)
    insecure: bool = False
    lease_seconds: float = Field(15.0, ge=0.5, le=3_600)
    # Most due operations in one queue; what would be more is refused with RESOURCE_EXHAUSTED.
    queue_bound: int = Field(1_000_000, ge=1, le=100_000_000)
    # Share of maxmemory from which on Redis is given no new work: RESOURCE_EXHAUSTED. The rest is for what is there.
    store_high_water: float = Field(0.85, ge=0.1, le=1)
    # How long an operation that has ended stays in Redis once the service's database has it.
    tail_seconds: float = Field(600.0, ge=1, le=86_400)
    # SQLite files and folders under state_dir are shared by every machine that uses this Redis.
    shared_state_dir: bool = False
    max_payload_bytes: int = Field(1 << 20, ge=1_024, le=64 << 20)
    max_result_bytes: int = Field(1 << 20, ge=1_024, le=64 << 20)
    # How long a process that is told to end lets running calls finish.
    grace_seconds: float = Field(10.0, ge=0, le=600)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    # Where each process answers Prometheus; port 0: any, told in state_dir/scrape. Empty: nowhere.
    metrics_listen: Address = ""
    # PEM files for every listener and every channel between services; all three or none.
    tls_cert_file: File = None
    tls_key_file: File = None
    tls_ca_file: File = None
    # Whether a caller must show a certificate of tls_ca_file. Empty: where there are no tokens.
    tls_client_certificates: Literal["", "required", "none"] = ""
    # Who may come in by which token, and who has which roles; read again when it changes. See docs/security.md.
    tokens_file: File = None
    # What this process shows to other services: the token, or the file that holds it, also read again.
    token: SecretStr = SecretStr("")
    token_file: File = None

    @property
    def store_url(self) -> str:
        """redis_url with the password of redis_password_file; raises OSError and ValueError where that is none."""
        if self.redis_password_file is None:
            return self.redis_url
        password = credentials.parse_secret(self.redis_password_file.read_bytes())
        parts = urlsplit(self.redis_url)
        login, _, hosts = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}:{quote(password, safe='')}@{hosts}").geturl()

    @property
    def awaited_replicas(self) -> int:
        """0 where no acceptance waits for replicas."""
        return self.replicas if self.durability == "replicated" else 0

    @property
    def tail(self) -> timedelta:
        return timedelta(seconds=self.tail_seconds)

    @property
    def targets(self) -> dict[str, str]:
        """Service to address."""
        return {key: target for key, target in self.routes.items() if "." not in key}

    @property
    def packages(self) -> dict[str, str]:
        """Proto package to the service that owns it, beside `waybill.<service>.v1`."""
        return {key: owner for key, owner in self.routes.items() if "." in key}

    @property
    def tls(self) -> bool:
        return self.tls_cert_file is not None

    @property
    def client_certificates(self) -> bool:
        """Whether callers show certificates."""
        return self.tls and (self.tls_client_certificates or ("none" if self.tokens_file else "required")) == "required"

    @property
    def asks_who_calls(self) -> bool:
        return self.tokens_file is not None or self.client_certificates

    @property
    def redis_is_local(self) -> bool:
        """Whether it can only be on this machine; Sentinels may name any."""
        if names_sentinels(self.redis_url):
            return False
        parts = urlsplit(self.redis_url)
        host = parts.hostname or ""
        return parts.scheme == "unix" or is_loopback(host) or host == socket.gethostname().lower()


class ServiceSettings(_Settings):
    """What every service has; a service subclasses it with its own env_prefix."""

    listen: Address
    # Serves health alone, without TLS, for probes. Empty: nowhere.
    health_listen: Address = ""
    # Empty: SQLite in the state directory.
    database_url: Annotated[str, AfterValidator(_database_url)] = ""
    # Empty: what the service's app says.
    worker_pool: Literal["", "prefork", "threads", "solo"] = ""
    # 0: what the service's app says.
    worker_concurrency: int = Field(0, ge=0, le=1_000)
    waybill: WaybillSettings = Field(default_factory=WaybillSettings)

    @property
    def service(self) -> str:
        """The service's name: its prefix in lower case."""
        return prefix_of(type(self)).rstrip("_").lower()

    @property
    def folder(self) -> Path:
        """The service's own part of the state directory."""
        return self.waybill.state_dir / self.service

    @property
    def database(self) -> str:
        """The database's URL, the default filled in."""
        return self.database_url or f"sqlite:///{self.folder / f'{self.service}.db'}"

    def open_listeners(self) -> Iterator[tuple[str, str]]:
        """The variables of listeners that may not be opened as they are, each with what to set (law 11)."""
        return open_listeners(
            self.waybill,
            {f"{prefix_of(type(self))}LISTEN": self.listen, "WAYBILL_METRICS_LISTEN": self.waybill.metrics_listen},
        )

    def stored_locally(self) -> tuple[str, ...]:
        """The variables whose value is a file or folder; a service that has more than the database adds them."""
        local = self.database.startswith("sqlite:")
        return (f"{prefix_of(type(self))}DATABASE_URL",) if local else ()


S = TypeVar("S", bound=_Settings)


def load(cls: type[S]) -> S:
    """The settings of a class from the environment; raises SettingsError with every bad variable."""
    problems: dict[str, str] = {}
    if not issubclass(cls, ServiceSettings):
        return _loaded(_read(cls, problems), problems)
    waybill = _read(WaybillSettings, problems)
    settings = _read(cls, problems, waybill=waybill or WaybillSettings.model_construct())
    if waybill is not None and settings is not None:
        problems.update(contradictions(settings))
    return _loaded(settings, problems)


def prefix_of(cls: type[BaseSettings]) -> str:
    """What the names of its variables begin with."""
    return str(cls.model_config.get("env_prefix", ""))


def contradictions(settings: ServiceSettings) -> Iterator[tuple[str, str]]:
    """Variables that are right alone and wrong together, each with what to set."""
    waybill = settings.waybill
    local = settings.stored_locally()
    if local and not waybill.redis_is_local and not waybill.shared_state_dir:
        yield (
            "WAYBILL_REDIS_URL",
            (
                f"names another machine while {' and '.join(local)} keep state on this one; give those a URL "
                "that every machine reaches, or set WAYBILL_SHARED_STATE_DIR=1 if all of them share the folder"
            ),
        )
    if "replicas" in waybill.model_fields_set and waybill.durability != "replicated":
        yield (
            "WAYBILL_REPLICAS",
            (
                f"means nothing with WAYBILL_DURABILITY={waybill.durability}: set that to replicated, "
                "or leave WAYBILL_REPLICAS out"
            ),
        )
    if waybill.redis_password_file and ":" in urlsplit(waybill.redis_url).netloc.rpartition("@")[0]:
        yield "WAYBILL_REDIS_PASSWORD_FILE", "expected this or a password in WAYBILL_REDIS_URL, not both"
    yield from credential_problems(waybill)
    yield from settings.open_listeners()


def credential_problems(waybill: WaybillSettings) -> Iterator[tuple[str, str]]:
    """What is wrong with the files of TLS, tokens and passwords."""
    files = {name: getattr(waybill, name) for name in ("tls_cert_file", "tls_key_file", "tls_ca_file")}
    for name, path in files.items():
        if any(files.values()) and not (path and path.is_file()):
            yield f"WAYBILL_{name.upper()}", "expected a PEM file; TLS needs certificate, key and CA"
    if waybill.tls_client_certificates and not waybill.tls:
        yield "WAYBILL_TLS_CLIENT_CERTIFICATES", f"means nothing without TLS: set {_SET_TLS}"
    if waybill.tls_client_certificates == "none" and waybill.tokens_file is None:
        yield "WAYBILL_TLS_CLIENT_CERTIFICATES", "none leaves nothing that says who calls: set WAYBILL_TOKENS_FILE too"
    yield from _token_problems(waybill)


def _token_problems(waybill: WaybillSettings) -> Iterator[tuple[str, str]]:
    secret = credentials.parse_secret
    for name, parse in (("tokens_file", credentials.parse), ("token_file", secret), ("redis_password_file", secret)):
        try:
            if path := getattr(waybill, name):
                parse(path.read_bytes())
        except (OSError, ValueError) as error:
            yield f"WAYBILL_{name.upper()}", str(error)
    shown = "WAYBILL_TOKEN_FILE" if waybill.token_file else "WAYBILL_TOKEN"
    token = waybill.token.get_secret_value()
    if token and waybill.token_file:
        yield "WAYBILL_TOKEN", "expected this or WAYBILL_TOKEN_FILE, not both"
    away = [target for target in waybill.targets.values() if not is_loopback(host_and_port(target)[0])]
    if (token or waybill.token_file) and away and not waybill.tls and not waybill.insecure:
        yield shown, f"a token is not sent to {away[0]} without TLS: set {_SET_TLS}, or WAYBILL_INSECURE=1"


def open_listeners(waybill: WaybillSettings, listeners: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables of listeners that other machines reach without TLS or without being asked who they are (law 11)."""
    if waybill.insecure or (waybill.tls and waybill.asks_who_calls):
        return
    for variable, address in listeners.items():
        if address and not is_loopback(host_and_port(address)[0]):
            yield (
                variable,
                (
                    f"{address} is reachable from other machines: set {_SET_TLS}, and WAYBILL_TOKENS_FILE where "
                    "callers have tokens instead of certificates; or WAYBILL_INSECURE=1 to go without"
                ),
            )


def _loaded(settings: S | None, problems: Mapping[str, str]) -> S:
    if problems or settings is None:
        raise SettingsError(problems)
    return settings


def _read(cls: type[S], problems: dict[str, str], **given: Any) -> S | None:
    try:
        return cls(**given)
    except ValidationError as error:
        for found in error.errors():
            variable = str(found["loc"][0]).upper() if found["loc"] else "*"
            problems.setdefault(f"{prefix_of(cls)}{variable}", _problem(variable, found))
    return None


def _problem(variable: str, found: ErrorDetails) -> str:
    if found["type"] == "missing":
        return "is required"
    expected = found["msg"].removeprefix("Value error, ")
    if any(word in variable.lower() for word in _SECRET_WORDS):
        return expected
    return f"{expected} (it is {str(found['input'])[:_MAX_SHOWN]!r})"
