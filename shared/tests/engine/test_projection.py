"""Spans as a projection of the event log: everything that happened, with ids that do not depend on who projects it."""

from types import SimpleNamespace

import pytest
from chassis import store_calls
from chassis.acceptance import Provenance, Submission, acceptance
from chassis.event_log import Entry
from chassis.outbox import traceparent_of
from chassis.projection import spans_of
from chassis.retries import RetryPolicy
from chassis.store_calls import AttemptError, Settlement
from chassis.telemetry import CLIENT, CONSUMER, PRODUCER, SERVER, SpanContext
from google.protobuf.struct_pb2 import Struct
from waybill.events.v1 import events_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

RPC = SpanContext.parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
CALLER = bytes.fromhex("00f067aa0ba902b7")
KINDS = {SERVER: "SERVER", CLIENT: "CLIENT", PRODUCER: "PRODUCER", CONSUMER: "CONSUMER"}


class History:
    """Makes operations of the service `test` live, and reads the spans of it all."""

    def __init__(self, store):
        self.store = store
        self._fetches = 0

    def accept(self, provenance=None, **options):
        facts = SimpleNamespace(
            name="test.do", policy=RetryPolicy(max_attempts=3), queue_name="test.q", default_priority=2, retention=None
        )
        more = {name: options.pop(name) for name in ("links", "traceparent", "parent") if name in options}
        item = acceptance(Submission(facts, Struct(), **more), provenance or Provenance("", "S/M"))
        item.record.expire_time_us = options.pop("expire_time_us", 0)
        (verdict,) = self.store.run(store_calls.accept([item]))
        assert verdict.verdict == "accepted"
        self.id, self.record = item.record.id, item.record
        return item.record.id

    def begin(self, span=b"\1" * 8):
        self._fetches += 1
        fetch = store_calls.fetch(1, ["test.q"], ["test.do"], session=f"f{self._fetches}")
        (self.delivery,) = self.store.run(fetch).deliveries
        call = store_calls.begin(
            self.delivery.operation_id, self.delivery.delivery, worker="test@h:1", token="t", span=span
        )
        assert isinstance(self.store.run(call), store_calls.Begun)
        return self.delivery.operation_id

    def settle(self, operation_id, outcome, reason="BROKEN"):
        error = AttemptError(14, "it broke", reason) if outcome in {"RETRIED", "FAILED"} else None
        number = ops.AttemptOutcome.Value(f"ATTEMPT_OUTCOME_{outcome}")
        self.store.run(store_calls.settle([Settlement(operation_id, "t", number, error=error)]))

    def entries(self):
        read = self.store.client.xrange(self.store.keys.named("events"))
        return [Entry(cursor.decode(), fields) for cursor, fields in read]

    def spans(self):
        return [span for entry in self.entries() for span in spans_of("test", entry)]

    def outline(self):
        return [(KINDS[span.kind], span.name) for span in self.spans()]

    def named(self, name):
        return [span for span in self.spans() if span.name == name]


@pytest.fixture
def history(store):
    return History(store)


def test_an_accepting_call_is_a_server_span_and_a_send(history):
    """The RPC as the interceptor saw it begin, and below it the send that its acceptance was."""
    server = store_pb2.ServerSpan(method="a.S/M", start_time_us=1_000, parent_span_id=CALLER)
    history.accept(Provenance("", "a.S/M", RPC, server))

    rpc, send = history.spans()

    assert (rpc.name, rpc.kind, rpc.context, rpc.parent_span_id) == ("a.S/M", SERVER, RPC, CALLER)
    assert (rpc.attributes["rpc.service"], rpc.attributes["rpc.method"]) == ("a.S", "M")
    assert rpc.start_us == 1_000
    assert (send.name, send.kind, send.parent_span_id) == ("send test.q", PRODUCER, RPC.span_id)
    assert send.context == SpanContext(RPC.trace_id, history.record.trace.send_span_id)
    assert rpc.start_us <= send.start_us <= send.end_us <= rpc.end_us


def test_an_acceptance_without_a_call_is_a_send_alone(history):
    """A subscriber's, a ticker's, a child's: below what caused it, linked to what it names."""
    other = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    history.accept(traceparent=RPC.traceparent, links=[other])

    (send,) = history.spans()

    assert (send.context.trace_id, send.parent_span_id) == (RPC.trace_id, RPC.span_id)
    assert send.links == (SpanContext.parse(other),)


def test_an_attempt_is_a_process_below_the_send_and_a_settle_below_that(history):
    """Attributes say what, where, which attempt, by whom and how long it had waited."""
    history.accept()
    history.begin()
    history.settle(history.id, "SUCCEEDED")

    send, process, settle = history.spans()

    assert [span.name for span in (send, process, settle)] == ["send test.q", "process test.q", "settle test.q"]
    assert (process.kind, settle.kind) == (CONSUMER, CLIENT)
    assert (process.parent_span_id, settle.parent_span_id) == (send.context.span_id, process.context.span_id)
    assert process.context.span_id == b"\1" * 8
    assert len({span.context.trace_id for span in (send, process, settle)}) == 1
    for span, name, type_ in ((send, "send", "send"), (process, "process", "process"), (settle, "settle", "settle")):
        assert span.attributes["messaging.system"] == "redis"
        assert span.attributes["messaging.destination.name"] == "test.q"
        assert span.attributes["messaging.message.id"] == history.id
        assert span.attributes["messaging.message.conversation_id"] == history.id
        assert span.attributes["messaging.operation.name"] == name
        assert span.attributes["messaging.operation.type"] == type_
        assert span.attributes["waybill.operation"] == f"operations/test/{history.id}"
        assert span.attributes["waybill.task"] == "test.do"
        assert span.error == ""
    assert process.attributes["waybill.attempt"] == settle.attributes["waybill.attempt"] == 1
    assert process.attributes["waybill.worker"] == "test@h:1"
    assert process.attributes["waybill.outcome"] == "SUCCEEDED"
    assert process.attributes["waybill.queue_wait_ms"] >= 0
    assert settle.attributes["waybill.state"] == "SUCCEEDED"
    assert process.start_us <= process.end_us <= settle.end_us


def test_retries_are_siblings_and_each_links_to_the_one_before(history):
    """Never nested; the failed ones say why."""
    operation_id = history.accept()
    for number, outcome in enumerate(("RETRIED", "RETRIED", "SUCCEEDED"), start=1):
        assert history.begin(bytes([number]) * 8) == operation_id
        history.settle(operation_id, outcome)

    first, second, third = history.named("process test.q")

    send_id = history.record.trace.send_span_id
    assert [span.parent_span_id for span in (first, second, third)] == [send_id] * 3
    assert [[link.span_id for link in span.links] for span in (first, second, third)] == [[], [b"\1" * 8], [b"\2" * 8]]
    assert [span.error for span in (first, second, third)] == ["it broke", "it broke", ""]
    assert [span.attributes.get("error.type") for span in (first, second, third)] == ["BROKEN", "BROKEN", None]
    assert [span.attributes["waybill.attempt"] for span in (first, second, third)] == [1, 2, 3]


def test_a_killed_attempt_is_there_too(history, store):
    """From its begin to when it was found lost; the next one links to it."""
    operation_id = history.accept()
    history.begin(b"\1" * 8)
    store.run(store_calls.release([(operation_id, history.delivery.delivery)], lost=True))
    history.begin(b"\2" * 8)
    history.settle(operation_id, "SUCCEEDED")

    lost, taken_up = history.named("process test.q")

    assert (lost.attributes["waybill.outcome"], lost.attributes["error.type"]) == ("LOST", "WORKER_LOST")
    assert "died" in lost.error
    assert [link.span_id for link in taken_up.links] == [b"\1" * 8]


def test_a_returned_attempt_is_no_error(history):
    """A drain is nobody's fault."""
    operation_id = history.accept()
    history.begin(b"\1" * 8)
    history.settle(operation_id, "RETRIED")
    history.begin(b"\2" * 8)
    history.settle(operation_id, "RETURNED")

    returned = history.named("process test.q")[-1]

    assert (returned.attributes["waybill.outcome"], returned.error) == ("RETURNED", "")
    assert "error.type" not in returned.attributes


@pytest.mark.parametrize(
    ("end", "state"), [("cancel", "CANCELLED"), ("expire", "EXPIRED"), ("undeliverable", "FAILED")]
)
def test_an_operation_that_never_ran_has_a_settle_that_says_so(history, store, end, state):
    """No trace ends at its send."""
    operation_id = history.accept(expire_time_us=1 if end == "expire" else 0)
    if end == "cancel":
        store.run(store_calls.cancel([operation_id]))
    if end == "expire":
        store.run(store_calls.fetch(1, ["test.q"], ["test.do"], session="x"))
    for number in range(11 if end == "undeliverable" else 0):
        deliveries = store.run(store_calls.fetch(1, ["test.q"], ["test.do"], session=f"u{number}")).deliveries
        store.run(store_calls.release([(d.operation_id, d.delivery) for d in deliveries], lost=True))

    send, settle = history.spans()

    assert (settle.kind, settle.name, settle.parent_span_id) == (CLIENT, "settle test.q", send.context.span_id)
    assert (settle.attributes["waybill.state"], settle.attributes["error.type"]) == (state, state)
    assert settle.error
    assert "waybill.attempt" not in settle.attributes


def test_a_fan_out_ends_with_a_settle_of_its_own(history, store):
    """Its attempt fanned out long before; the children's sends are below that attempt."""
    parent = history.accept()
    history.begin(b"\1" * 8)
    attempt = SpanContext(history.record.trace.trace_id, b"\1" * 8)
    child = history.accept(Provenance("", "child", attempt), parent=f"operations/test/{parent}")
    child_send = history.record.trace.send_span_id
    history.settle(parent, "FANNED_OUT")
    store.run(store_calls.cancel([child]))

    outline = [(span.name, span.attributes["waybill.operation"][-4:]) for span in history.spans()]
    ends = [span for span in history.named("settle test.q") if "waybill.attempt" not in span.attributes]
    (send_of_child,) = [span for span in history.named("send test.q") if span.context.span_id == child_send]

    assert outline == [
        ("send test.q", parent[-4:]),
        ("send test.q", child[-4:]),
        ("process test.q", parent[-4:]),
        ("settle test.q", parent[-4:]),
        ("settle test.q", child[-4:]),
        ("settle test.q", parent[-4:]),
    ]
    assert send_of_child.parent_span_id == b"\1" * 8
    assert send_of_child.attributes["messaging.message.conversation_id"] == parent
    assert [(span.attributes["waybill.state"], bool(span.error)) for span in ends] == [
        ("CANCELLED", True),
        ("SUCCEEDED", False),
    ]
    assert len({span.context.span_id for span in ends}) == 2


def test_a_conversation_is_the_whole_fan_out(history):
    """However deep: the conversation's id is the root operation's."""
    root = history.accept()
    history.begin()
    middle = history.accept(parent=f"operations/test/{root}")
    history.begin()
    grandchild = history.accept(parent=f"operations/test/{middle}")
    history.begin()
    history.settle(grandchild, "SUCCEEDED")

    of_grandchild = [span for span in history.spans() if span.attributes["messaging.message.id"] == grandchild]
    assert len(of_grandchild) == 3
    assert {span.attributes["messaging.message.conversation_id"] for span in history.spans()} == {root}
    assert middle != root


def test_a_published_event_is_a_span(history, store):
    """Child of what published it, with the id that subscribers continue, linked to what it names."""
    own = traceparent_of("e1", RPC.traceparent)
    event = events_pb2.Event(id="e1", source="/waybill/test", type="waybill.test.a", subject="s", traceparent=own)
    event.time.FromMicroseconds(5_000_000)
    other = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    published = store_pb2.PublishedEvent(event=event, operation_id="o", parent=RPC.traceparent, links=[other])
    traceless = store_pb2.PublishedEvent(event=events_pb2.Event(id="e2", type="waybill.test.b"))
    store.run(
        store_calls.publish(
            [
                ("e1", "waybill.test.a", published.SerializeToString()),
                ("e2", "waybill.test.b", traceless.SerializeToString()),
            ]
        )
    )

    (span,) = history.spans()

    assert (span.name, span.kind, span.parent_span_id) == ("publish waybill.test.a", PRODUCER, RPC.span_id)
    assert span.context == SpanContext.parse(own)
    assert span.links == (SpanContext.parse(other),)
    assert span.attributes["cloudevents.event_id"] == "e1"
    assert span.start_us == 5_000_000 <= span.end_us


def test_whoever_projects_a_log_gets_the_same_spans(history, store):
    """Ids, times and all: exporting twice, or from another replica, repeats and adds nothing."""
    operation_id = history.accept()
    history.begin()
    history.settle(operation_id, "RETRIED")
    store.run(store_calls.cancel([operation_id]))
    fields = [dict(entry.fields) for entry in history.entries()]

    assert history.spans() == history.spans()
    assert len({(s.context.trace_id, s.context.span_id) for s in history.spans()}) == len(history.spans())
    assert [dict(entry.fields) for entry in history.entries()] == fields


def test_what_says_nothing_of_an_end_is_no_span(history, store):
    """Begin, progress, promotion, parking, a request to cancel, a refused settle."""
    operation_id = history.accept()
    store.run(store_calls.fetch(1, ["test.q"], ["another"], session="x"))
    history.begin()
    store.run(store_calls.progress(operation_id, "t", 10, "m"))
    store.run(store_calls.cancel([operation_id]))
    store.run(store_calls.settle([Settlement(operation_id, "another", 1)]))

    verbs = [entry.verb for entry in history.entries()]
    assert verbs == [b"accepted", b"parked", b"queued", b"began", b"progressed", b"cancel_requested", b"fenced"]
    assert history.outline() == [("PRODUCER", "send test.q")]
