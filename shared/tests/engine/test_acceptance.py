"""From a request to an operation: options checked all at once, ids given, the trace continued."""

import time
import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from chassis.acceptance import Provenance, Submission, acceptance, new_operation_id
from chassis.errors import InvalidArgument
from chassis.retries import RetryPolicy
from chassis.telemetry import SpanContext
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2
from waybill.store.v1 import store_pb2

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-01"
HOUR = 3600
NOBODY = Provenance("", "waybill.test.v1.Test/Do")


def a_task(**options):
    facts = {
        "name": "test.do",
        "policy": RetryPolicy(max_attempts=7),
        "queue_name": "test.q",
        "default_priority": ops.PRIORITY_LOW,
        "retention": None,
    }
    return SimpleNamespace(**facts | options)


def a_request(**options):
    """A request that has request_id and options; times are seconds from now."""
    request = reports_pb2.RenderReportRequest(title="t", request_id=options.pop("request_id", ""))
    for name in ("schedule_time", "expire_time"):
        if name in options:
            getattr(request.options, name).FromNanoseconds(time.time_ns() + options.pop(name) * 10**9)
    request.options.MergeFrom(ops.SubmitOptions(**options))
    return request


def accepted(request, provenance=NOBODY, task=None, **more):
    return acceptance(Submission(task or a_task(), request, **more), provenance)


def violations(request, **more):
    with pytest.raises(InvalidArgument) as raised:
        accepted(request, **more)
    return {violation.field for violation in raised.value.violations}


def test_a_plain_request_takes_the_tasks_defaults():
    """Queue, priority, attempts and retention are the task's; successes are kept 7 days, failures 30."""
    item = accepted(a_request())

    assert (item.queue, item.priority, item.max_attempts) == ("test.q", ops.PRIORITY_LOW, 7)
    assert (item.keep_success, item.keep_failure) == (timedelta(days=7), timedelta(days=30))
    assert (item.due_us, item.record.expire_time_us, item.idempotency_scope) == (0, 0, "")


def test_options_win_over_the_tasks_defaults():
    """And the submission's own priority wins over both; its labels are added."""
    options = {"priority": ops.PRIORITY_NORMAL, "max_attempts": 2, "labels": {"a": "1", "b": "1"}}
    item = accepted(a_request(**options, schedule_time=HOUR, expire_time=2 * HOUR), labels={"b": "2"})

    assert (item.priority, item.max_attempts) == (ops.PRIORITY_NORMAL, 2)
    assert dict(item.record.labels) == {"a": "1", "b": "2"}
    now = time.time_ns() // 1000
    assert abs(item.due_us - now - HOUR * 10**6) < 10**6
    assert abs(item.record.expire_time_us - now - 2 * HOUR * 10**6) < 10**6
    assert accepted(a_request(**options), priority=ops.PRIORITY_HIGH).priority == ops.PRIORITY_HIGH


@pytest.mark.parametrize(("retention", "failures"), [(timedelta(minutes=5), 7), (timedelta(days=60), 60)])
def test_a_tasks_retention_holds_for_successes_and_failures_are_kept_a_week_at_least(retention, failures):
    """A dead letter is never gone before somebody could look at it."""
    item = accepted(a_request(), task=a_task(retention=retention))

    assert (item.keep_success, item.keep_failure) == (retention, timedelta(days=failures))


def test_the_payload_is_the_request_without_what_concerns_acceptance_alone():
    """request_id and options are cleared, so that a repeat with another priority is the same payload."""
    request = a_request(request_id="r", max_attempts=2)
    item = accepted(request)

    payload = reports_pb2.RenderReportRequest()
    item.record.request.Unpack(payload)
    assert payload == reports_pb2.RenderReportRequest(title="t")
    assert request.request_id == "r"
    assert item.record.request_id == "r"


def test_every_violation_is_told_at_once():
    """Seven mistakes, seven fields."""
    request = a_request(
        request_id="x" * 256,
        priority=9,
        max_attempts=101,
        schedule_time=366 * 24 * HOUR,
        expire_time=-HOUR,
        labels={"Bad Key": "v", "long": "v" * 256},
    )

    assert violations(request) == {
        "request_id",
        "options.priority",
        "options.max_attempts",
        "options.schedule_time",
        "options.expire_time",
        "options.labels['Bad Key']",
        "options.labels['long']",
    }


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_attempts": -1}, "options.max_attempts"),
        ({"expire_time": HOUR, "schedule_time": HOUR + 1}, "options.expire_time"),
        ({"labels": {f"k{n}": "" for n in range(33)}}, "options.labels"),
        ({"labels": {"k" * 64: ""}}, f"options.labels[{'k' * 64!r}]"),
        ({"labels": {"": ""}}, "options.labels['']"),
    ],
)
def test_a_bound_that_is_passed_by_one_is_passed(options, field):
    """Each bound is where the contract says."""
    assert violations(a_request(**options)) == {field}


def test_bounds_that_are_just_kept_are_kept():
    """The largest values that the contract allows."""
    accepted(
        a_request(
            request_id="x" * 255,
            max_attempts=100,
            schedule_time=364 * 24 * HOUR,
            expire_time=365 * 24 * HOUR,
            labels={"k" * 63: "v" * 255} | {f"k{n}": "" for n in range(31)},
        )
    )


@pytest.mark.parametrize("field", ["schedule_time", "expire_time"])
@pytest.mark.parametrize(
    ("seconds", "nanos"), [(2**62, 0), (-(2**62), 0), (253_402_300_800, 0), (2_000_000_000, 10**9), (0, -1)]
)
def test_an_instant_that_is_none_is_a_violation(field, seconds, nanos):
    """A Timestamp outside of the years 1 to 9999, or with impossible nanos, is bad input and no internal error."""
    request = a_request()
    getattr(request.options, field).seconds = seconds
    getattr(request.options, field).nanos = nanos

    assert f"options.{field}" in violations(request)


def test_a_request_id_is_scoped_to_principal_and_method():
    """The same id of another principal or of another method is another request."""
    request = a_request(request_id="r")
    scopes = {
        accepted(request, Provenance(principal, method)).idempotency_scope
        for principal in ("", "alice", "bob")
        for method in ("S/A", "S/B")
    }

    assert len(scopes) == 6
    assert accepted(request).idempotency_scope == accepted(a_request(request_id="r")).idempotency_scope


def test_the_submissions_request_id_wins_over_the_requests():
    """A subscriber or a ticker names what it accepts itself; a message without the field has none."""
    assert accepted(a_request(request_id="own"), request_id="given").record.request_id == "given"
    assert accepted(Struct()).record.request_id == ""
    assert accepted(Struct(), request_id="given").record.request_id == "given"


def test_the_send_span_is_below_what_accepted_it():
    """Below the RPC's span; below a given traceparent instead; a root where there is neither."""
    rpc = SpanContext.parse(PARENT)
    server = store_pb2.ServerSpan(method="S/A", start_time_us=1)
    of_call = accepted(a_request(), Provenance("", "S/A", rpc, server)).record.trace
    of_event = accepted(a_request(), Provenance("", "S/A", rpc, server), traceparent=OTHER).record.trace
    alone = accepted(a_request()).record.trace

    assert (of_call.trace_id, of_call.parent_span_id) == (rpc.trace_id, rpc.span_id)
    assert of_call.server.method == "S/A"
    assert of_event.trace_id.hex() == "1" * 32
    assert of_event.parent_span_id.hex() == "2" * 16
    assert not of_event.HasField("server")
    assert (len(alone.trace_id), len(alone.send_span_id), alone.parent_span_id) == (16, 8, b"")
    assert len({of_call.send_span_id, of_event.send_span_id, alone.send_span_id}) == 3


def test_links_are_kept_and_malformed_ones_left_out():
    """A trace context that cannot be read refuses nothing."""
    trace = accepted(a_request(), links=[PARENT, "nonsense", OTHER], traceparent="nonsense").record.trace

    assert [link.span_id.hex() for link in trace.links] == [PARENT[36:52], "2" * 16]
    assert trace.parent_span_id == b""


def test_a_child_knows_its_parent_and_its_root():
    """Names and ids as the contract has them."""
    alone = accepted(a_request())
    child = accepted(a_request(), parent="operations/test/p")

    assert (alone.record.root, alone.record.parent, alone.record.effect_id) == (alone.record.id, "", alone.record.id)
    assert (child.record.parent, child.record.root) == ("operations/test/p", "p")


@given(st.integers(1, 5))
def test_operation_ids_are_uuids_of_version_7(count):
    """RFC 9562: version, variant, and the milliseconds of now in front."""
    before = time.time_ns() // 10**6
    ids = [uuid.UUID(new_operation_id()) for _ in range(count)]
    after = time.time_ns() // 10**6

    assert all((id_.version, id_.variant) == (7, uuid.RFC_4122) for id_ in ids)
    assert all(before <= id_.int >> 80 <= after for id_ in ids)
    assert len(set(ids)) == count
