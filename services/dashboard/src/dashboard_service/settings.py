"""The dashboard's settings; prefix DASHBOARD_."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from chassis.settings import (
    Address,
    CommaList,
    ServiceSettings,
    SettingsError,
    host_and_port,
    is_loopback,
    load,
    open_listeners,
)
from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def _web_url(value: str) -> str:
    parts = urlsplit(value)
    if value and not (parts.scheme in {"http", "https"} and parts.hostname):
        raise ValueError("expected http://host or https://host, or nothing for no link")
    return value.rstrip("/")


def _header_name(value: str) -> str:
    if value and not re.fullmatch(r"[A-Za-z0-9-]+", value):
        raise ValueError("expected the name of a header, such as X-Forwarded-User, or nothing for none")
    return value


class DashboardSettings(ServiceSettings):
    """Both processes read these: `web` serves the pages, `traces` receives spans."""

    model_config = SettingsConfigDict(env_prefix="DASHBOARD_")

    listen: Address = "127.0.0.1:8080"
    # Names under which a browser may reach it, beside those of the loopback interface and the host of `listen`.
    hosts: CommaList = ()
    web_workers: int = Field(1, ge=1, le=64)
    # Threads for pages and calls, per worker; each live stream has a thread beside these.
    threads: int = Field(8, ge=2, le=256)
    # Live streams per worker; one more is refused until one ends.
    max_streams: int = Field(48, ge=1, le=1_000)
    # Traces are asked of Jaeger when set, and pages link to it: the address of its pages, as browsers reach them.
    jaeger_url: Annotated[str, AfterValidator(_web_url)] = ""
    # Where this process reaches Jaeger's query service. Empty: at the same address.
    jaeger_api_url: Annotated[str, AfterValidator(_web_url)] = ""
    # The header in which a proxy that authenticates names who asks: X-Forwarded-User. Empty: no header is believed.
    principal_header: Annotated[str, AfterValidator(_header_name)] = ""
    # Whether browsers show a certificate of WAYBILL_TLS_CA_FILE, whose common name says who asks.
    client_certificates: Literal["", "optional", "required"] = ""
    # How long one stays logged in, at most; less where the token ends before.
    session_hours: float = Field(12, gt=0, le=720)
    # How long an entry of the audit log is kept.
    audit_days: int = Field(90, ge=1, le=3_650)
    traces_listen: Address = "127.0.0.1:50054"
    # Where the web process asks for traces. Empty: it shows none.
    traces_target: Address = "127.0.0.1:50054"
    traces_max_spans: int = Field(100_000, ge=100)
    traces_max_traces: int = Field(10_000, ge=10)

    def stored_locally(self) -> tuple[str, ...]:
        """None that matters beside a Redis elsewhere: the audit log is the dashboard's own, and no other service's."""
        return ()

    def open_listeners(self) -> Iterator[tuple[str, str]]:
        yield from open_listeners(self.waybill, {"DASHBOARD_TRACES_LISTEN": self.traces_listen})
        if self.waybill.insecure or is_loopback(host_and_port(self.listen)[0]):
            return
        if not self.waybill.tls or not (self.waybill.tokens_file or self.client_certificates == "required"):
            yield (
                "DASHBOARD_LISTEN",
                (
                    f"{self.listen} is reachable from other machines: set WAYBILL_TLS_CERT_FILE, WAYBILL_TLS_KEY_FILE "
                    "and WAYBILL_TLS_CA_FILE, and WAYBILL_TOKENS_FILE or DASHBOARD_CLIENT_CERTIFICATES=required; or "
                    "WAYBILL_INSECURE=1 to go without"
                ),
            )

    @property
    def session_lasts(self) -> timedelta:
        return timedelta(hours=self.session_hours)

    @property
    def audit_kept(self) -> timedelta:
        return timedelta(days=self.audit_days)

    @property
    def jaeger_api(self) -> str:
        """Empty where traces are asked of the receiver."""
        return (self.jaeger_api_url or self.jaeger_url) if self.jaeger_url else ""

    @property
    def trusted_hosts(self) -> tuple[str, ...]:
        """Values of the Host header that are answered; another one is a page that borrows this address."""
        host = host_and_port(self.listen)[0]
        own = () if host in {"0.0.0.0", "::"} else (f"[{host}]" if ":" in host else host,)  # noqa: S104
        return tuple(dict.fromkeys((*_LOOPBACK_NAMES, *own, *self.hosts)))


def read() -> DashboardSettings:
    """From the environment; raises SettingsError with every bad variable."""
    settings = load(DashboardSettings)
    if settings.client_certificates and not settings.waybill.tls:
        raise SettingsError(
            {"DASHBOARD_CLIENT_CERTIFICATES": "means nothing without TLS: set WAYBILL_TLS_* or leave it out"}
        )
    return settings
