"""Samples for tests, and what becomes of them."""

from datetime import UTC, datetime, timedelta

from waybill.metrics.v1 import metrics_pb2
from waybill.operations.v1 import operations_pb2 as ops


def batch(metric, *values, request_id="", options=None):
    """An ingestion of values that were measured just now."""
    request = metrics_pb2.IngestSamplesRequest(request_id=request_id, options=options)
    for value in values:
        request.samples.add(metric=metric, value=value).time.GetCurrentTime()
    return request


def options(*, due=None, expires=None, **fields):
    """Submit options; `due` and `expires` are timedeltas from now."""
    made = ops.SubmitOptions(**fields)
    for name, delay in (("schedule_time", due), ("expire_time", expires)):
        if delay is not None:
            getattr(made, name).FromDatetime(datetime.now(UTC) + delay)
    return made


def counted(stack, metric):
    """How many samples of the metric the last minutes hold, by its rollups."""
    return counted_by(stack.metrics(), metric)


def counted_by(stub, metric):
    """The same, asked by any stub of the metrics service."""
    now = datetime.now(UTC)
    query = metrics_pb2.QuerySeriesRequest(metric=metric, aggregation=metrics_pb2.TIME_AGGREGATION_COUNT)
    query.start_time.FromDatetime(now - timedelta(minutes=10))
    query.end_time.FromDatetime(now + timedelta(minutes=1))
    answer = stub.QuerySeries(query)
    return sum(point.value for series in answer.series for point in series.points)
