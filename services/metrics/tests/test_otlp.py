"""What an OTLP export becomes, and which data points it rejects."""

import math
from datetime import timedelta

import pytest
from metrics_service.instants import to_us
from metrics_service.otlp import decode
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb


@pytest.fixture
def nanos(noon):
    return to_us(noon) * 1000


@pytest.fixture
def export(noon):
    """Decode an export of these metrics, with these attributes of the resource."""

    def make(*metrics, **resource):
        request = ExportMetricsServiceRequest()
        of_resource = request.resource_metrics.add()
        of_resource.resource.attributes.extend(attributes(**resource))
        of_resource.scope_metrics.add().metrics.extend(metrics)
        return decode(request, noon)

    return make


def attributes(**values):
    return [
        KeyValue(
            key=key.replace("__", "."), value=value if isinstance(value, AnyValue) else AnyValue(string_value=value)
        )
        for key, value in values.items()
    ]


def gauge(*points, name="cpu", unit=""):
    return pb.Metric(name=name, unit=unit, gauge=pb.Gauge(data_points=points))


def values_of(decoded):
    return {sample.series.metric: sample.value for sample in decoded.samples}


def test_gauges_and_sums_are_samples_of_their_name(export, nanos):
    """Whole numbers and doubles alike; temporality is left as it came."""
    total = pb.Sum(
        data_points=[pb.NumberDataPoint(time_unix_nano=nanos, as_int=7)],
        aggregation_temporality=pb.AGGREGATION_TEMPORALITY_DELTA,
        is_monotonic=True,
    )

    decoded = export(
        gauge(pb.NumberDataPoint(time_unix_nano=nanos, as_double=0.5), unit="1"), pb.Metric(name="requests", sum=total)
    )

    assert values_of(decoded) == {"cpu": 0.5, "requests": 7.0}
    assert decoded.samples[0].unit == "1"
    assert decoded.samples[0].time_us == nanos // 1000
    assert decoded.rejected == 0
    assert decoded.explanation() == ""


def test_a_histogram_is_a_count_a_sum_and_its_extremes(export, nanos):
    point = pb.HistogramDataPoint(time_unix_nano=nanos, count=3, sum=6.0, min=1.0, max=3.0, bucket_counts=[3])

    decoded = export(pb.Metric(name="latency", unit="ms", histogram=pb.Histogram(data_points=[point])))

    assert values_of(decoded) == {"latency.count": 3.0, "latency.sum": 6.0, "latency.min": 1.0, "latency.max": 3.0}
    assert {sample.series.metric: sample.unit for sample in decoded.samples} == {
        "latency.count": "1",
        "latency.sum": "ms",
        "latency.min": "ms",
        "latency.max": "ms",
    }


@pytest.mark.parametrize(
    "metric",
    [
        lambda nanos: pb.Metric(
            name="latency",
            histogram=pb.Histogram(data_points=[pb.HistogramDataPoint(time_unix_nano=nanos, count=2)]),
        ),
        lambda nanos: pb.Metric(
            name="latency",
            exponential_histogram=pb.ExponentialHistogram(
                data_points=[pb.ExponentialHistogramDataPoint(time_unix_nano=nanos, count=2)]
            ),
        ),
    ],
)
def test_a_histogram_without_sum_and_extremes_is_a_count(export, nanos, metric):
    assert values_of(export(metric(nanos))) == {"latency.count": 2.0}


def test_an_exponential_histogram_has_a_count_and_a_sum(export, nanos):
    point = pb.ExponentialHistogramDataPoint(time_unix_nano=nanos, count=2, sum=5.0, scale=3, max=4.0)

    decoded = export(pb.Metric(name="latency", exponential_histogram=pb.ExponentialHistogram(data_points=[point])))

    assert values_of(decoded) == {"latency.count": 2.0, "latency.sum": 5.0, "latency.max": 4.0}


def test_a_summary_has_its_quantiles_as_a_label(export, nanos):
    quantiles = [pb.SummaryDataPoint.ValueAtQuantile(quantile=0.99, value=9.0)]
    point = pb.SummaryDataPoint(time_unix_nano=nanos, count=2, sum=5.0, quantile_values=quantiles)

    decoded = export(pb.Metric(name="latency", summary=pb.Summary(data_points=[point])))

    assert values_of(decoded) == {"latency.count": 2.0, "latency.sum": 5.0, "latency": 9.0}
    assert decoded.samples[-1].series.labels == (("quantile", "0.99"),)


def test_of_the_resource_only_what_identifies_it_becomes_labels(export, nanos):
    """Every further attribute would multiply the series; a point's own attribute wins."""
    point = pb.NumberDataPoint(
        time_unix_nano=nanos, as_int=1, attributes=attributes(state="user", host__name="of-the-point")
    )

    decoded = export(gauge(point), service__name="shop", service__instance__id="1", host__name="a", process__pid="17")

    assert decoded.samples[0].series.labels == (
        ("host.name", "of-the-point"),
        ("service.instance.id", "1"),
        ("service.name", "shop"),
        ("state", "user"),
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (AnyValue(bool_value=True), "true"),
        (AnyValue(int_value=3), "3"),
        (AnyValue(double_value=0.5), "0.5"),
        (AnyValue(bytes_value=b"\x00\x01"), "AAE="),
        (AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue(string_value="a")])), '[1,"a"]'),
        (AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="a", value=AnyValue())])), '{"a":null}'),
    ],
)
def test_an_attribute_that_is_no_string_is_told_as_the_specification_says(export, nanos, value, text):
    """OpenTelemetry specification, "Mapping to non-OTLP protocols": base64 for bytes, JSON for the rest."""
    point = pb.NumberDataPoint(time_unix_nano=nanos, as_int=1, attributes=attributes(core=value))

    assert export(gauge(point)).samples[0].series.labels == (("core", text),)


def test_an_empty_attribute_is_no_label(export, nanos):
    point = pb.NumberDataPoint(time_unix_nano=nanos, as_int=1, attributes=attributes(core=AnyValue(), state=""))

    assert export(gauge(point)).samples[0].series.labels == ()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"as_double": math.nan}, "value is nan"),
        ({"as_double": math.inf}, "value is inf"),
        ({"as_double": 1e301}, "at most 1e+300"),
        ({}, "has no value"),
        ({"as_int": 1, "time_unix_nano": 0}, "has no time"),
        (
            {"as_int": 1, "attributes": [KeyValue(key="a b", value=AnyValue(string_value="x"))]},
            "'a b' is no label name",
        ),
        ({"as_int": 1, "attributes": attributes(**{f"l{i}": "x" for i in range(33)})}, "33 labels; at most 32"),
        ({"as_int": 1, "attributes": attributes(core="x" * 1025)}, "1025 characters"),
    ],
)
def test_a_point_that_cannot_be_kept_is_rejected_and_the_others_are_taken(export, nanos, given, reason):
    good = pb.NumberDataPoint(time_unix_nano=nanos, as_int=1)

    decoded = export(gauge(pb.NumberDataPoint(**{"time_unix_nano": nanos, **given}), good))

    assert decoded.rejected == 1
    assert len(decoded.samples) == 1
    assert reason in decoded.explanation()
    assert "'cpu'" in decoded.explanation()


def test_a_point_of_the_future_is_rejected(export, nanos):
    ahead = nanos + int(timedelta(minutes=11).total_seconds() * 1e9)

    assert export(gauge(pb.NumberDataPoint(time_unix_nano=ahead, as_int=1))).rejected == 1


def test_a_metric_that_has_no_name_is_rejected_with_all_its_points(export, nanos):
    point = pb.NumberDataPoint(time_unix_nano=nanos, as_int=1)

    assert export(gauge(point, point, name="größe"), gauge(point, name="")).rejected == 3


def test_a_histogram_is_taken_or_rejected_whole(export, nanos):
    point = pb.HistogramDataPoint(time_unix_nano=nanos, count=3, sum=math.nan)

    decoded = export(pb.Metric(name="latency", histogram=pb.Histogram(data_points=[point])))

    assert decoded.samples == []
    assert decoded.rejected == 1


def test_a_point_without_a_recorded_value_is_skipped(export, nanos):
    """It is no error: the specification's staleness marker."""
    stale = pb.NumberDataPoint(time_unix_nano=nanos, flags=pb.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK)

    decoded = export(gauge(stale))

    assert decoded.samples == []
    assert decoded.rejected == 0


@pytest.mark.parametrize("unit", ["x" * 64, "By\0"])
def test_a_unit_that_is_none_is_dropped(export, nanos, unit):
    point = pb.NumberDataPoint(time_unix_nano=nanos, as_int=1)

    assert export(gauge(point, unit=unit)).samples[0].unit == ""


def test_the_explanation_names_the_commonest_reasons_and_stays_short(export, nanos):
    """A sender logs it; an export with thousands of bad points does not flood that log."""
    bad = [gauge(pb.NumberDataPoint(time_unix_nano=nanos), name=f"cpu{i}") for i in range(1000)]
    worst = gauge(*[pb.NumberDataPoint(as_int=1)] * 3, name="memory")

    explanation = export(*bad, worst).explanation()

    assert explanation.startswith("1003 data points rejected: 3 x 'memory' has no time; ")
    assert explanation.endswith("996 x for other reasons")
    assert len(explanation) < 500


def test_a_metric_without_data_and_an_empty_export_hold_nothing(export):
    assert export(pb.Metric(name="cpu")).samples == []
    assert export().rejected == 0
