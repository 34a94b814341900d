"""OTLP metrics as samples: what each kind of data point becomes, and which points are rejected.

| data                             | samples of one data point                                             |
|----------------------------------|-----------------------------------------------------------------------|
| Gauge, Sum                       | `<name>`                                                              |
| Histogram, ExponentialHistogram  | `<name>.count`; `<name>.sum`, `.min` and `.max` where the point has it |
| Summary                          | `<name>.count`, `<name>.sum`, and `<name>` with the label `quantile`  |

Values are taken as they come: a delta stays a delta, a cumulative sum stays cumulative. Of the
resource only the attributes in RESOURCE_LABELS become labels, of the scope none; a point's own
attributes win over them. A point without a recorded value is skipped, which is not a rejection.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as otlp_pb

from metrics_service.samples import Sample, time_fault, value_fault
from metrics_service.series import NAME_RULE, SeriesKey, is_name, label_faults

# Every further resource attribute would multiply the series by its values.
RESOURCE_LABELS = frozenset({"service.name", "service.instance.id", "host.name"})
MAX_UNIT_LENGTH = 63
_MAX_NAMED_FAULTS = 5
_NO_RECORDED_VALUE = otlp_pb.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK


class Value(NamedTuple):
    """One number of a data point: what its metric is called beyond the point's, its unit, further labels."""

    number: float
    suffix: str = ""
    unit: str | None = None
    labels: Mapping[str, str] = {}


class Rejected(Exception):
    """The data point is rejected."""


@dataclass(slots=True)
class Decoded:
    """What an export holds. `faults` counts the rejected data points by reason."""

    samples: list[Sample] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def rejected(self) -> int:
        return self.faults.total()

    def explanation(self) -> str:
        """Why points were rejected, for the sender's log; empty when none was."""
        named = [f"{count} x {fault}" for fault, count in self.faults.most_common(_MAX_NAMED_FAULTS)]
        if unnamed := self.rejected - sum(count for _, count in self.faults.most_common(_MAX_NAMED_FAULTS)):
            named.append(f"{unnamed} x for other reasons")
        return f"{self.rejected} data points rejected: {'; '.join(named)}" if named else ""


def decode(export: ExportMetricsServiceRequest, now: datetime) -> Decoded:
    """The samples of an export received at `now`; a data point is taken whole or rejected whole."""
    decoded = Decoded()
    for resource_metrics in export.resource_metrics:
        resource = _attributes(a for a in resource_metrics.resource.attributes if a.key in RESOURCE_LABELS)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                _decode_metric(metric, resource, now, decoded)
    return decoded


def _decode_metric(metric: otlp_pb.Metric, resource: Mapping[str, str], now: datetime, decoded: Decoded) -> None:
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    unit = metric.unit if len(metric.unit) <= MAX_UNIT_LENGTH and metric.unit.isprintable() else ""
    for point in getattr(metric, kind).data_points:
        try:
            decoded.samples.extend(_samples(metric.name, unit, resource, point, now))
        except Rejected as rejected:
            decoded.faults[f"{metric.name[:64]!r} {rejected}"] += 1


def _samples(name: str, unit: str, resource: Mapping[str, str], point: Any, now: datetime) -> list[Sample]:
    if point.flags & _NO_RECORDED_VALUE:
        return []
    time_us = point.time_unix_nano // 1000
    if not time_us:
        raise Rejected("has no time")
    if fault := time_fault(time_us, now):
        raise Rejected(f"time {fault}")
    labels = {**resource, **_attributes(point.attributes)}
    if fault := next(label_faults(labels), ""):
        raise Rejected(f"labels: {fault}")
    return [
        Sample(
            SeriesKey.of(_checked_name(name + value.suffix), {**labels, **value.labels}),
            time_us,
            _checked_number(value.number),
            unit if value.unit is None else value.unit,
        )
        for value in _READERS[type(point)](point)
    ]


def _number(point: otlp_pb.NumberDataPoint) -> Iterator[Value]:
    kind = point.WhichOneof("value")
    if kind is None:
        raise Rejected("has no value")
    yield Value(float(getattr(point, kind)))


def _histogram(point: otlp_pb.HistogramDataPoint | otlp_pb.ExponentialHistogramDataPoint) -> Iterator[Value]:
    yield Value(float(point.count), ".count", "1")
    if point.HasField("sum"):
        yield Value(point.sum, ".sum")
    if point.HasField("min"):
        yield Value(point.min, ".min")
    if point.HasField("max"):
        yield Value(point.max, ".max")


def _summary(point: otlp_pb.SummaryDataPoint) -> Iterator[Value]:
    yield Value(float(point.count), ".count", "1")
    yield Value(point.sum, ".sum")
    for at in point.quantile_values:
        yield Value(at.value, labels={"quantile": f"{at.quantile:g}"})


_READERS: Mapping[type, Callable[[Any], Iterator[Value]]] = {
    otlp_pb.NumberDataPoint: _number,
    otlp_pb.HistogramDataPoint: _histogram,
    otlp_pb.ExponentialHistogramDataPoint: _histogram,
    otlp_pb.SummaryDataPoint: _summary,
}


def _checked_name(name: str) -> str:
    if not is_name(name):
        raise Rejected(f"is no metric name; expected {NAME_RULE}")
    return name


def _checked_number(number: float) -> float:
    if fault := value_fault(number):
        raise Rejected(f"value {fault}")
    return number


def _attributes(attributes: Iterable[KeyValue]) -> dict[str, str]:
    return {attribute.key: _text(attribute.value) for attribute in attributes}


def _text(value: AnyValue) -> str:
    """The value as the OpenTelemetry specification maps it to a string: bytes in base64, the rest as JSON."""
    plain = _plain(value)
    if plain is None or isinstance(plain, str):
        return plain or ""
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _plain(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [_plain(each) for each in value.array_value.values]
        case "kvlist_value":
            return {each.key: _plain(each.value) for each in value.kvlist_value.values}
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case kind:
            return getattr(value, kind)
