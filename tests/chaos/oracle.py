"""What must hold after every experiment, whatever was done: asked of the store, of the journal and of the spans."""

from collections import Counter, defaultdict

import grpc
from chassis.descriptions import FINAL, describe
from chassis.testing.harness import metadata_of
from waybill.operations.v1 import operations_pb2 as ops

from tests.stack import until

SUCCEEDED, FAILED, CANCELLED = (
    ops.OPERATION_STATE_SUCCEEDED,
    ops.OPERATION_STATE_FAILED,
    ops.OPERATION_STATE_CANCELLED,
)
LOST, RETRIED = ops.ATTEMPT_OUTCOME_LOST, ops.ATTEMPT_OUTCOME_RETRIED
SUCCESS, CANCELLED_OUTCOME = ops.ATTEMPT_OUTCOME_SUCCEEDED, ops.ATTEMPT_OUTCOME_CANCELLED
FINAL_SECONDS = 300.0
SPAN_SECONDS = 60.0
#: Where kombu keeps ordinary messages that were delivered and not acknowledged.
UNACKNOWLEDGED = ("celery:unacked", "celery:unacked_index")


def judge(arena, *, failed=(), cancelled=(), forgotten=frozenset()):
    """The metadata of every operation that was accepted, by name, once all of this holds.

    - the ids that the client was told are those in the store, and all are in a final state;
    - each has succeeded, but for the names in `failed` and `cancelled`;
    - one effect per id: what has succeeded was done, no attempt ran twice, every run was a counted attempt;
    - nothing is left leased, queued, due, parked or unacknowledged, and no operation keeps a delivery or a token;
    - one complete trace per id: one send, one process and one settle for each attempt;
    - the workers still have all of their slots.

    A store that was replaced by a replica may have forgotten attempts of the operations in `forgotten`: these may have
    run again under the same number, with the same effect, and left more spans than attempts.
    """
    kept = assert_all_final(arena)
    assert_ends(kept, dict.fromkeys(failed, FAILED) | dict.fromkeys(cancelled, CANCELLED))
    assert_effects(arena, kept, forgotten)
    assert_nothing_is_left(arena, kept)
    assert_traces(arena, kept, forgotten)
    assert_every_slot_works(arena)
    arena.sound = True
    return kept


def assert_all_final(arena):
    """Accepted ids equal ids in a final state."""
    accepted = set(arena.client.accepted.values())
    wait_until_final(arena)
    pipeline = arena.redis.pipeline(transaction=False)
    for id_ in arena.new_ids():
        pipeline.hgetall(arena.keys.operation(id_.decode()))
    kept = {}
    for stored in filter(None, pipeline.execute()):
        operation = describe("chaos", stored)
        kept[operation.name] = metadata_of(operation)
    kept |= archived(arena, accepted - set(kept))
    assert set(kept) == accepted, f"lost {list(accepted - set(kept))[:5]}, unknown {list(set(kept) - accepted)[:5]}"
    assert all(metadata.state in FINAL for metadata in kept.values())
    return kept


def archived(arena, names):
    """Of these, which the store has no more, the metadata of those that the gateway still knows."""
    found = {}
    for name in names:
        try:
            found[name] = arena.finished(name)[1]
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
    return found


def wait_until_final(arena, timeout=FINAL_SECONDS):
    """Until all that the store has taken in has ended. Raises TimeoutError."""
    left = arena.new_ids()

    def unfinished():
        left[:] = _unfinished(arena, left)
        return left

    try:
        until(lambda: not unfinished(), "final states", timeout)
    except TimeoutError:
        raise TimeoutError(f"{len(left)} have not ended after {timeout} s: {left[:5]}") from None


def assert_ends(kept, otherwise):
    wrong = {name: metadata for name, metadata in kept.items() if metadata.state != otherwise.get(name, SUCCEEDED)}
    assert not wrong, list(wrong.items())[:3]


def assert_effects(arena, kept, forgotten):
    """One effect per id, keyed by it; no run that was not counted, and no attempt that ran twice."""
    lines = [line for line in arena.journalled() if line["operation"] in kept]
    runs = Counter((line["operation"], line["attempt"]) for line in lines if line["what"] == "began")
    done = defaultdict(set)
    for line in lines:
        if line["what"] == "done":
            done[line["operation"]].add(line["effect"])
    counted = {run: times for run, times in runs.items() if run[0] not in forgotten}
    assert [run for run, times in counted.items() if times > 1] == [], "an attempt ran twice"
    assert [run for run in counted if run[1] > len(kept[run[0]].attempts)] == [], "an attempt ran that does not count"
    for name, metadata in kept.items():
        expected = {name.rpartition("/")[2]} if metadata.state == SUCCEEDED else set()
        assert done[name] == expected, (name, metadata)


def assert_nothing_is_left(arena, kept):
    """No index, no lease, no message and no token is left of what has ended."""
    prefix, client = arena.keys.prefix, arena.redis
    keys = [key for pattern in ("q:*", "parked:*") for key in client.keys(prefix + pattern)]
    keys += [prefix + name for name in ("leases", "due", "expiring", "parked", *UNACKNOWLEDGED)]
    left = [key for key in keys if client.exists(key)]
    assert not left, left
    pipeline = client.pipeline(transaction=False)
    for name in kept:
        pipeline.hmget(arena.keys.operation(name.rpartition("/")[2]), "dv", "tok")
    assert [name for name, held in zip(kept, pipeline.execute(), strict=True) if any(held)] == []


def assert_traces(arena, kept, forgotten):
    """Each id has its send span, one process and one settle span per attempt, all in its own trace."""
    complete = set()

    def all_complete(spans):
        of_operation = defaultdict(list)
        for span in spans:
            name = span.attributes.get("waybill.operation")
            if name in kept and name not in complete and "messaging.operation.name" in span.attributes:
                of_operation[name].append(span)
        complete.update(
            name
            for name, found in of_operation.items()
            if is_complete(kept[name], found) or (name in forgotten and holds_a_complete_trace(kept[name], found))
        )
        return len(complete) == len(kept)

    try:
        arena.collector.wait_for(all_complete, SPAN_SECONDS)
    except TimeoutError:
        name = next(iter(set(kept) - complete))
        found = [span for span in arena.collector.spans if span.attributes.get("waybill.operation") == name]
        raise AssertionError(f"{len(kept) - len(complete)} incomplete traces: {kept[name]}\n{found}") from None


def is_complete(metadata, spans):
    """Whether these are exactly the spans that an operation with this record must have."""
    kinds = defaultdict(list)
    for span in spans:
        kinds[span.attributes["messaging.operation.name"]].append(span)
    numbers = [attempt.number for attempt in metadata.attempts]
    (send,) = kinds["send"] if len(kinds["send"]) == 1 else (None,)
    # An attempt that was given back did not count, and has its spans all the same.
    given_back = {span.span_id for span in kinds["process"] if span.attributes["waybill.outcome"] == "RETURNED"}
    process = {
        span.span_id: span.attributes["waybill.attempt"] for span in kinds["process"] if span.span_id not in given_back
    }
    settled = [process.get(span.parent_id) for span in kinds["settle"] if span.parent_id in process]
    outside = [span for span in kinds["settle"] if span.parent_id not in process.keys() | given_back]
    return (
        send is not None
        and {span.trace_id for span in spans} == {metadata.trace_id}
        and sorted(process.values()) == numbers == sorted(settled)
        and all(span.parent_id == send.span_id for span in [*kinds["process"], *outside])
        and len(outside) == (0 if numbers else 1)
    )


def holds_a_complete_trace(metadata, spans):
    """As `is_complete`, beside the spans of attempts that the store has forgotten; all in one trace."""
    kinds = defaultdict(set)
    for span in spans:
        kinds[span.attributes["messaging.operation.name"]].add(span.attributes.get("waybill.attempt"))
    numbers = {attempt.number for attempt in metadata.attempts}
    return (
        bool(kinds["send"])
        and {span.trace_id for span in spans} == {metadata.trace_id}
        and numbers <= kinds["process"]
        and len([span for span in spans if span.attributes["messaging.operation.name"] == "settle"]) >= len(numbers)
    )


def assert_every_slot_works(arena):
    """As many attempts run at a time as there are slots: no credit is lost and no consumer is half open."""
    arena.marshal.close()
    held = arena.hold()
    arena.marshal.let_go(*held)
    for arrival in held:
        arena.finished(arrival.operation)


def _unfinished(arena, ids):
    """What is in the store no more has ended, or is lost: both come out later."""
    pipeline = arena.redis.pipeline(transaction=False)
    for id_ in ids:
        pipeline.hget(arena.keys.operation(id_.decode()), "st")
    states = zip(ids, pipeline.execute(), strict=True)
    return [id_ for id_, state in states if state is not None and int(state) not in FINAL]
