"""The Prometheus endpoint of a process: GET /metrics on a listener of its own, where WAYBILL_METRICS_LISTEN is set.

With port 0 it is any free port, and the process writes where into `<state>/scrape/`, in the form that Prometheus reads
by `file_sd_configs`: so that many processes of one machine need one setting.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from redis.exceptions import RedisError

from chassis import instruments, span_sink
from chassis.authority import Authority
from chassis.errors import PermissionDenied, Unauthenticated
from chassis.instruments import SECONDS, Counts, Durations
from chassis.logging import get_logger
from chassis.roles import READERS
from chassis.settings import WaybillSettings, host_and_port, is_loopback

log = get_logger(__name__)

#: Gives metrics when it is asked. Called on a thread of the endpoint; raises RedisError when the store is out of reach.
Source = Callable[[], Iterable[Metric]]
Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Exposition:
    """The endpoint of this process."""

    def __init__(self, service: str, role: str, version: str) -> None:
        self._labels = {"service": service, "role": role, "version": version}
        self._sources: list[Source] = [self._of_process, self._of_instruments]
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._target: Path | None = None

    def add(self, source: Source) -> None:
        self._sources.append(source)

    def start(self, waybill: WaybillSettings) -> None:
        """Listen, where it is set. A listener that cannot be opened is logged: work goes on without it.

        Without TLS it is open to other machines by the operator's word alone, also in a worker of Celery's command.
        Where there are tokens, whoever scrapes shows one whose role may read.
        """
        if not waybill.metrics_listen or self._server is not None:
            return
        host, port = host_and_port(waybill.metrics_listen)
        if not is_loopback(host) and not waybill.tls:
            say = log.warning if waybill.insecure else log.error
            say("metrics.insecure", listen=waybill.metrics_listen, served=waybill.insecure, setting="WAYBILL_INSECURE")
            if not waybill.insecure:
                return
        # Filled once it is guarded.
        registry = CollectorRegistry()
        try:
            guard = _Guard(self._labels["service"], waybill)
            self._server, self._thread = start_http_server(port, host, registry, **_tls(waybill))
        except (OSError, ValueError) as error:
            log.error("metrics.cannot_listen", listen=waybill.metrics_listen, error=str(error))  # noqa: TRY400
            return
        self._server.set_app(guard.around(self._server.get_app()))
        ProcessCollector(registry=registry)
        registry.register(self)
        bound = int(self._server.server_port)
        address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        if not port:
            self._target = write_target(waybill.state_dir / "scrape", address, self._labels)
        log.info("metrics.serving", listen=address)

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        if self._target is not None:
            self._target.unlink(missing_ok=True)

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks a collector."""
        for source in self._sources:
            try:
                yield from source()
            except RedisError as error:
                log.warning("metrics.left_out", source=source.__qualname__, error=str(error))

    def _of_process(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("waybill_process", "The process itself.", labels=list(self._labels))
        info.add_metric(list(self._labels.values()), 1)
        yield info
        yield counted("waybill_spans_dropped", "Spans that nobody took.", span_sink.sink().dropped)

    @staticmethod
    def _of_instruments() -> Iterator[Metric]:
        for instrument in instruments.ALL:
            yield family_of(instrument)


def family_of(instrument: Counts | Durations) -> Metric:
    """What an instrument has counted, for Prometheus."""
    labels = list(instrument.labels)
    if isinstance(instrument, Counts):
        counter = CounterMetricFamily(instrument.name, instrument.about, labels=labels)
        for values, count in tuple(instrument.values.items()):
            counter.add_metric(list(values), count)
        return counter
    histogram = HistogramMetricFamily(instrument.name, instrument.about, labels=labels)
    for values, cells in tuple(instrument.values.items()):
        histogram.add_metric(list(values), *buckets_of(cells))
    return histogram


def buckets_of(cells: list[float]) -> tuple[list[tuple[str, float]], float]:
    """Cumulative counts by upper bound, and the sum."""
    buckets, total = [], 0.0
    for bound, count in zip((*map(str, SECONDS), "+Inf"), cells[:-1], strict=True):
        total += count
        buckets.append((bound, total))
    return buckets, cells[-1]


def counted(name: str, about: str, value: float) -> Metric:
    """A counter without labels."""
    family = CounterMetricFamily(name, about)
    family.add_metric([], value)
    return family


def write_target(folder: Path, address: str, labels: dict[str, str]) -> Path:
    """Say where this process is scraped; what dead processes of this machine left there goes."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.json"):
        pid = left.stem.rpartition("-")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            left.unlink(missing_ok=True)
    target = folder / f"{labels['service']}-{labels['role']}-{os.getpid()}.json"
    # Prometheus reads at any moment: it sees the whole or nothing.
    draft = target.with_suffix(".draft")
    draft.write_text(json.dumps([{"targets": [address], "labels": {k: labels[k] for k in ("service", "role")}}]))
    draft.rename(target)
    return target


def _tls(waybill: WaybillSettings) -> dict[str, Any]:
    """With TLS, whoever scrapes shows a certificate of the same authority where every client does."""
    if not waybill.tls:
        return {}
    files = {"certfile": waybill.tls_cert_file, "keyfile": waybill.tls_key_file, "client_cafile": waybill.tls_ca_file}
    return {**{name: str(path) for name, path in files.items()}, "client_auth_required": waybill.client_certificates}


class _Guard:
    """Asks whoever scrapes for a token, where there are tokens and no certificate has been shown."""

    def __init__(self, service: str, waybill: WaybillSettings) -> None:
        self._asks = waybill.tokens_file is not None and not waybill.client_certificates
        self._authority = Authority(service, waybill)

    def around(self, app: Wsgi) -> Wsgi:
        def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            try:
                if self._asks:
                    self._authority.admit(READERS, {"authorization": environ.get("HTTP_AUTHORIZATION")}, dict)
            except Unauthenticated as error:
                return _refused(start_response, "401 Unauthorized", error.message, ("WWW-Authenticate", "Bearer"))
            except PermissionDenied as error:
                return _refused(start_response, "403 Forbidden", error.message)
            return app(environ, start_response)

        return guarded


def _refused(start_response: Any, status: str, message: str, *headers: tuple[str, str]) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *headers])
    return [message.encode()]


_expositions: Final[dict[int, Exposition]] = {}


def exposition(service: str = "", role: str = "", version: str = "0") -> Exposition:
    """This process's endpoint; named by whoever asks first."""
    return _expositions.setdefault(os.getpid(), Exposition(service, role, version))


def shutdown() -> None:
    """Close this process's endpoint."""
    with contextlib.suppress(KeyError):
        _expositions.pop(os.getpid()).stop()
