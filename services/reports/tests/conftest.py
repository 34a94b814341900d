"""A metrics service for the tests of reports: the real contract on a real port, with answers that a test gives."""

import asyncio
import math
import threading
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from chassis.errors import NotFound
from chassis.statuses import STATUS_DETAILS_KEY, to_status
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc

RESOLUTION = timedelta(seconds=10)


class FakeMetrics(metrics_pb2_grpc.MetricsServiceServicer, events_pb2_grpc.EventServiceServicer):
    """Holds series that a test adds, answers queries about them as the contract says, and keeps what it was asked."""

    def __init__(self):
        self.events = []
        self.subscribed = threading.Event()
        self.forget()

    def forget(self):
        """Be as new to the next test; whoever is subscribed stays so."""
        self.series = []
        self.queries, self.listed, self.metadata = [], [], []
        # Set: queries wait, until so many of them have come.
        self.gather = 0
        self._gathered = threading.Event()

    def add(self, metric, labels=None, *, values=None, unit="1", begin, count=180):
        """A series with a value each ten seconds."""
        values = values or [0.5 + 0.4 * math.sin(i / 9) for i in range(count)]
        series = metrics_pb2.Series(metric=metric, labels=labels or {}, unit=unit)
        for i, value in enumerate(values):
            series.points.add(value=value).time.FromDatetime(begin + i * RESOLUTION)
        self.series.append(series)

    async def QuerySeries(self, request, context):
        self.queries.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        await self._wait_for_others()
        known = [series for series in self.series if series.metric == request.metric]
        if not known:
            missing = NotFound(f"metric {request.metric} has never been seen", reason="SERIES_NOT_FOUND")
            await refuse(context, missing)
        found = [cut(series, request) for series in known if matches(series, request.matchers)]
        return metrics_pb2.QuerySeriesResponse(
            series=[series for series in found if series.points], resolution=metrics_pb2.RESOLUTION_10_SECONDS
        )

    async def ListSeries(self, request, context):
        self.listed.append(request)
        begin = int(request.page_token or 0)
        known = [series for series in self.series if series.metric.startswith(request.metric_prefix)]
        page = known[begin : begin + 2]
        more = str(begin + 2) if begin + 2 < len(known) else ""
        return metrics_pb2.ListSeriesResponse(series=map(described, page), next_page_token=more)

    async def Subscribe(self, request, context):
        yield events_pb2.SubscribeResponse(cursor="0")
        self.subscribed.set()
        sent = int(request.cursor or 0)
        while True:
            for number, event in enumerate(self.events[sent:], start=sent + 1):
                sent = number
                yield events_pb2.SubscribeResponse(event=event, cursor=str(number))
            await asyncio.sleep(0.02)

    async def _wait_for_others(self):
        if len(self.queries) >= self.gather:
            self._gathered.set()
        await asyncio.to_thread(self._gathered.wait, 10)


async def refuse(context, error):
    status = to_status(error, "metrics")
    context.set_trailing_metadata(((STATUS_DETAILS_KEY, status.SerializeToString()),))
    await context.abort(error.code, error.message)


def matches(series, matchers):
    return all(series.labels.get(matcher.label, "") == matcher.value for matcher in matchers)


def cut(series, request):
    start, end = request.start_time.ToDatetime(), request.end_time.ToDatetime()
    points = [point for point in series.points if start <= point.time.ToDatetime() < end]
    return metrics_pb2.Series(metric=series.metric, labels=series.labels, unit=series.unit, points=points)


def described(series):
    return metrics_pb2.SeriesInfo(
        metric=series.metric,
        labels=series.labels,
        unit=series.unit,
        first_time=series.points[0].time,
        last_time=series.points[-1].time,
        last_value=series.points[-1].value,
    )


class LoopThread:
    """An event loop in a thread, for servers that a blocking test talks to."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def loop_thread():
    """An event loop that runs beside the test."""
    running = LoopThread()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def metrics_service(loop_thread):
    """The fake, served; `address` is where."""
    fake = FakeMetrics()

    async def serve():
        server = grpc.aio.server()
        metrics_pb2_grpc.add_MetricsServiceServicer_to_server(fake, server)
        events_pb2_grpc.add_EventServiceServicer_to_server(fake, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, f"127.0.0.1:{port}"

    server, fake.address = loop_thread.run(serve())
    yield fake
    loop_thread.run(server.stop(None))


@pytest.fixture
def metrics(metrics_service):
    """The fake without a series, and nothing asked of it yet."""
    metrics_service.forget()
    return metrics_service


@pytest.fixture
def channel(metrics):
    """A stock channel to it."""
    with grpc.insecure_channel(metrics.address) as opened:
        yield opened


@pytest.fixture
def now():
    """This instant, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
