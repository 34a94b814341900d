"""The demo's source of metrics: a stock OpenTelemetry SDK that exports this machine's, and a load on request.

`python -m waybill_cli.demo.probe http://HOST:PORT`, or https:, exports every second until its standard input ends. It
reads `load PROCESSOR` or `load all`, and `rest`; it answers each with the same line once done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from waybill_cli.demo.load import Load

EXPORT_EVERY_SECONDS = 1
EXPORT_TIMEOUT_SECONDS = 5
RESOURCE = {"service.name": "waybill-demo"}


def main(endpoint: str, commands: Iterable[str], answers: TextIO) -> None:
    """Export until `commands` ends."""
    provider = _export_to(endpoint)
    load = Load()
    for command in commands:
        _obey(command.split(), load)
        answers.write(command)
        answers.flush()
    load.stop()
    provider.shutdown()


def _export_to(endpoint: str) -> MeterProvider:
    exporter = OTLPMetricExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_SECONDS)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1_000 * EXPORT_EVERY_SECONDS)
    provider = MeterProvider([reader], resource=Resource.create(RESOURCE))
    SystemMetricsInstrumentor().instrument(meter_provider=provider)
    return provider


def _obey(command: list[str], load: Load) -> None:
    match command:
        case ["load", "all"]:
            load.start(None)
        case ["load", processor]:
            load.start(int(processor))
        case ["rest"]:
            load.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin, sys.stdout)
