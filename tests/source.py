"""An application that measures itself: a stock OpenTelemetry SDK and its exporter."""

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

EXPORT_MILLISECONDS = 500


class Source:
    """Exports its load and its memory all the time; the load is what a test says.

    Args:
        gateway: address of any gateway.
        service: the `service.name` by which its series are told apart.
    """

    def __init__(self, gateway, service):
        self.load = 0.2
        self._memory = 0.4
        exporter = OTLPMetricExporter(endpoint=gateway, insecure=True)
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=EXPORT_MILLISECONDS)
        self._provider = MeterProvider([reader], Resource.create({"service.name": service}))
        meter = self._provider.get_meter("shop")
        meter.create_observable_gauge("shop.load", [lambda _: [Observation(self.load)]], unit="1")
        meter.create_observable_gauge("shop.memory", [lambda _: [Observation(self._memory)]], unit="By")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._provider.shutdown()
