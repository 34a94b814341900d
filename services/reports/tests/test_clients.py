"""The metrics service, asked over a real channel."""

import threading
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from chassis.errors import Cancelled, PermanentError
from chassis.statuses import task_failure
from reports_service import clients
from reports_service.clients import Metrics, SeriesNotFound
from reports_service.documents import Window
from reports_service.queries import Aggregation, Matcher, Query
from waybill.events.v1 import events_pb2
from waybill.metrics.v1 import metrics_pb2

BEGIN = datetime(2026, 8, 1, 14, tzinfo=UTC)
WINDOW = Window(BEGIN, BEGIN + timedelta(minutes=30))
CPU = "system.cpu.utilization"


@pytest.fixture
def client(channel):
    return Metrics(lambda: channel)


def soon():
    return datetime.now(UTC) + timedelta(seconds=20)


def ignore(_count):
    pass


def test_an_answer_is_the_series_with_their_samples(client, metrics):
    """Metric, labels, unit, times in UTC, and the width of a bucket."""
    metrics.add(CPU, {"state": "user"}, values=[0.25, 0.5], begin=BEGIN)

    answer = client.answer(Query(CPU, WINDOW), soon())

    (series,) = answer.series
    assert (series.metric, series.labels, series.unit) == (CPU, {"state": "user"}, "1")
    assert [(s.time, s.value) for s in series.samples] == [(BEGIN, 0.25), (BEGIN + timedelta(seconds=10), 0.5)]
    assert answer.step == timedelta(seconds=10)
    assert answer.has_samples


def test_a_query_is_asked_as_it_is(client, metrics):
    """Window, matchers and aggregation arrive."""
    metrics.add(CPU, {"state": "user"}, begin=BEGIN)

    client.answer(Query(CPU, WINDOW, (Matcher("state", "user", 1),), Aggregation.MAX), soon())

    (asked,) = metrics.queries
    assert asked.start_time.ToDatetime(tzinfo=UTC) == WINDOW.start
    assert asked.end_time.ToDatetime(tzinfo=UTC) == WINDOW.end
    assert asked.aggregation == metrics_pb2.TIME_AGGREGATION_MAX
    assert list(asked.matchers) == [
        metrics_pb2.LabelMatcher(label="state", value="user", operator=metrics_pb2.MATCH_OPERATOR_EQUAL)
    ]


def test_values_that_are_not_finite_are_left_out(client, metrics):
    """They have no place on an axis."""
    metrics.add(CPU, values=[0.1, float("nan"), float("inf"), 0.2], begin=BEGIN)

    assert client.answer(Query(CPU, WINDOW), soon()).series[0].values == (0.1, 0.2)


def test_a_metric_that_was_never_seen_is_a_permanent_error(client):
    """Another attempt would not find it either; the reason reaches the client."""
    with pytest.raises(SeriesNotFound, match=r"'no\.such' has never been seen") as caught:
        client.answer(Query("no.such", WINDOW), soon())

    failure = task_failure(caught.value, "reports")
    assert not failure.transient
    assert caught.value.reason == "SERIES_NOT_FOUND"


def test_a_metrics_service_that_is_down_is_a_transient_error():
    """It comes back."""
    with grpc.insecure_channel("127.0.0.1:9") as channel, pytest.raises(grpc.RpcError) as caught:
        Metrics(lambda: channel).answer(Query(CPU, WINDOW), soon())

    assert task_failure(caught.value, "reports").transient


def test_a_call_ends_with_its_deadline(client, metrics):
    """An attempt does not outlast its timeout waiting for another service."""
    metrics.add(CPU, begin=BEGIN)
    metrics.gather = 99

    with pytest.raises(grpc.RpcError) as caught:
        client.answer(Query(CPU, WINDOW), datetime.now(UTC) + timedelta(seconds=0.2))

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_queries_are_asked_side_by_side(client, metrics):
    """The service answers none of them before all three have come."""
    for name in ("a", "b", "c"):
        metrics.add(name, values=[1.0], begin=BEGIN)
    metrics.gather = 3
    heard = []

    answers = client.answers([Query(name, WINDOW) for name in ("a", "b", "c")], soon(), heard.append)

    assert [answer.series[0].metric for answer in answers] == ["a", "b", "c"]
    assert heard == [1, 2, 3]


def test_progress_is_heard_in_the_thread_that_asks(client, metrics):
    """An attempt is used by one thread."""
    metrics.add("a", begin=BEGIN)
    threads = []

    client.answers([Query("a", WINDOW)], soon(), lambda _: threads.append(threading.current_thread()))

    assert threads == [threading.current_thread()]


def test_a_failed_query_fails_all(client, metrics):
    """A report with a chart missing is not what was asked for."""
    metrics.add("a", begin=BEGIN)

    with pytest.raises(SeriesNotFound):
        client.answers([Query("a", WINDOW), Query("b", WINDOW)], soon(), ignore)


def test_a_cancelled_attempt_asks_no_further(client, metrics):
    """The listener raises, and the error comes out."""
    metrics.add("a", begin=BEGIN)

    def cancelled(_count):
        raise Cancelled

    with pytest.raises(Cancelled):
        client.answers([Query("a", WINDOW)] * 20, soon(), cancelled)


def test_samples_of_an_unknown_metric_are_none(client, metrics):
    """Where a chart may be left out."""
    metrics.add("a", begin=BEGIN)

    known, unknown = client.samples_of([Query("a", WINDOW), Query("b", WINDOW)], soon(), ignore)

    assert known.has_samples
    assert unknown.series == ()


def test_no_query_needs_no_thread(client):
    """A report may have no chart."""
    assert client.answers([], soon(), ignore) == []


def test_known_series_are_listed_page_by_page(client, metrics):
    """All of them, for each prefix."""
    for name in ("system.a", "system.b", "system.c", "process.a", "other"):
        metrics.add(name, {"host.name": "web-1"}, values=[1.0, 2.0], begin=BEGIN)

    known = client.known(("process.", "system."), soon())

    assert [series.metric for series in known] == ["process.a", "system.a", "system.b", "system.c"]
    assert known[0].labels == {"host.name": "web-1"}
    assert (known[0].first_time, known[0].last_time) == (BEGIN, BEGIN + timedelta(seconds=10))


def an_alert(**fields):
    alert = metrics_pb2.Alert(alert_id="a1", rule_id="cpu-high", metric=CPU, threshold=0.8, **fields)
    alert.breach_time.FromDatetime(BEGIN)
    alert.fire_time.FromDatetime(BEGIN + timedelta(minutes=1))
    alert.resolve_time.FromDatetime(BEGIN + timedelta(minutes=9))
    return alert


def test_a_resolved_alert_is_an_incident():
    """A rule without a name is called by its id."""
    incident = clients.incident_of(an_alert(comparison=metrics_pb2.COMPARISON_ABOVE, worst_value=0.9))

    assert (incident.name, incident.above, incident.worst) == ("cpu-high", True, 0.9)
    assert (incident.began, incident.resolved) == (BEGIN, BEGIN + timedelta(minutes=9))
    assert not clients.incident_of(an_alert(comparison=metrics_pb2.COMPARISON_BELOW)).above


def test_an_alert_that_goes_on_has_no_report():
    """Its end is not known."""
    alert = an_alert()
    alert.ClearField("resolve_time")

    with pytest.raises(PermanentError) as caught:
        clients.incident_of(alert)

    assert caught.value.reason == "ALERT_NOT_RESOLVED"


def test_only_a_resolved_event_has_a_resolved_alert():
    """Others are none of ours."""
    event = events_pb2.Event(type=clients.ALERT_RESOLVED)
    event.data.Pack(metrics_pb2.AlertResolved(alert=an_alert()))

    assert clients.resolved_alert(event) == an_alert()
    event.type = "waybill.metrics.alert.fired"
    assert clients.resolved_alert(event) is None
