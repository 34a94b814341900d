from dashboard_service import feed as feeds
from dashboard_service.feed import Entry, Feed
from google.protobuf import any_pb2
from hypothesis import given
from hypothesis import strategies as st
from waybill.events.v1 import events_pb2
from waybill.operations.v1 import operations_pb2 as ops


class Recorder:
    """A listener that keeps what it is offered."""

    def __init__(self):
        self.cursors = []
        self.ended = False

    def offer(self, entry):
        self.cursors.append(entry.cursor)


def an_entry(number):
    return Entry("metrics", "change", str(number), "{}")


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 20), st.data())
def test_a_listener_that_attaches_misses_nothing_and_sees_nothing_twice(before, after, kept, data):
    """From any position that is held on, each entry behind it is offered once, in order."""
    feed = Feed("metrics", kept)
    for number in range(before):
        feed.publish(an_entry(number))
    position = data.draw(st.integers(0, max(before, 1) + 2))
    listener = Recorder()

    attached = feed.attach(listener, str(position))
    for number in range(before, before + after):
        feed.publish(an_entry(number))

    assert attached == (max(0, before - kept) <= position < before)
    assert listener.cursors == ([str(each) for each in range(position + 1, before + after)] if attached else [])


def test_the_same_position_twice_is_one_entry():
    """A heartbeat at the position of the last event is no news."""
    feed, listener = Feed("metrics"), Recorder()
    feed.join(listener)

    for _ in range(2):
        feed.publish(Entry("metrics", "position", "7-0"))

    assert listener.cursors == ["7-0"]


def test_a_feed_that_forgot_attaches_nobody():
    """After a break no old position is continued."""
    feed = Feed("metrics")
    feed.publish(an_entry(1))

    feed.forget()

    assert not feed.attach(Recorder(), "1")


def test_a_listener_that_has_ended_is_let_go():
    """A stream whose browser left holds no memory."""
    feed, listener = Feed("metrics"), Recorder()
    feed.join(listener)
    listener.ended = True

    feed.publish(an_entry(1))

    assert feed._listeners == []


def test_an_event_about_an_operation_becomes_a_row_with_what_happened():
    """The browser is given the row's values, the past verb and when."""
    change = events_pb2.OperationChanged(
        operation="operations/reports/0192-abcd", state=ops.OPERATION_STATE_RETRYING, task="reports.render_report"
    )
    change.error_message = "</script><script>alert(1)</script>"
    event = events_pb2.Event(id="reports/1", type="waybill.reports.operation.retried", subject=change.operation)
    event.time.FromMilliseconds(5_000)
    event.data.Pack(change)

    entry = feeds.read("reports", events_pb2.SubscribeResponse(event=event, cursor="1-0"))

    assert (entry.kind, entry.cursor, entry.operation) == ("change", "1-0", change.operation)
    assert '"verb":"retried"' in entry.json
    assert '"at":5000' in entry.json
    assert '"state":"RETRYING"' in entry.json


def test_an_event_about_something_else_is_a_fact_with_its_trace():
    """Alerts and reports carry the trace that they belong to."""
    event = events_pb2.Event(type="waybill.metrics.alert.fired", subject="alerts/1", data=any_pb2.Any())
    event.traceparent = f"00-{'a' * 32}-{'b' * 16}-01"

    entry = feeds.read("metrics", events_pb2.SubscribeResponse(event=event, cursor="2-0"))

    assert entry.kind == "fact"
    assert f'"trace":"{"a" * 32}"' in entry.json


def test_a_heartbeat_moves_the_position_and_shows_nothing():
    """An answer without an event is a position."""
    entry = feeds.read("metrics", events_pb2.SubscribeResponse(cursor="9-0"))

    assert (entry.kind, entry.cursor, entry.json) == ("position", "9-0", "")
