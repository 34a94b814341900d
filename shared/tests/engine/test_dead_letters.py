"""Dead letters: found by what they failed of, replayed as new operations that name them, discarded."""

from types import SimpleNamespace

import pytest
from chassis.dead_letters import DeadLetterServicer
from chassis.descriptions import record_of
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from chassis.operations import Operations
from chassis.testing.harness import metadata_of
from google.longrunning import operations_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.struct_pb2 import Struct
from waybill.admin.v1 import admin_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

pytestmark = pytest.mark.anyio


@pytest.fixture
def app():
    return SimpleNamespace(service="test", queue_bound=1000, queues=[])


@pytest.fixture
async def operations(async_store, app):
    return Operations(async_store, app)


@pytest.fixture
async def servicer(app, operations):
    return DeadLetterServicer(app, operations)


def name(operation_id):
    return f"operations/test/{operation_id}"


async def listed(servicer, **options):
    return await servicer.ListDeadLetters(admin_pb2.ListDeadLettersRequest(**options), None)


async def replayed(servicer, operation_id, **options):
    request = admin_pb2.ReplayDeadLetterRequest(operation=name(operation_id), **options)
    return await servicer.ReplayDeadLetter(request, None)


async def record(operations, operation):
    return record_of(await operations.stored(operation.name.rpartition("/")[2]))


async def test_dead_letters_are_listed_in_groups_that_failed_alike(servicer, work):
    """Task and reason make a group; the largest first; a letter says what happened."""
    work.fail(2, reason="DISK_FULL")
    (other,) = work.fail(1, reason="NO_NETWORK")

    answer = await listed(servicer)
    one_group = await listed(servicer, group="test.do/NO_NETWORK")

    assert answer.total == 3
    assert [(group.group, group.count) for group in answer.groups] == [
        ("test.do/DISK_FULL", 2),
        ("test.do/NO_NETWORK", 1),
    ]
    assert [letter.operation for letter in one_group.dead_letters] == [name(other)]
    (letter,) = one_group.dead_letters
    assert (letter.task, letter.queue, letter.attempts, letter.error.message) == ("test.do", "test.q", 1, "it broke")


async def test_what_did_not_fail_is_no_dead_letter(servicer, work):
    """Waiting, succeeded: FAILED_PRECONDITION; unknown: NOT_FOUND; somebody else's: bad input."""
    waiting, succeeded = work.accept(2)
    work.settle(succeeded, "SUCCEEDED")

    for operation_id in (waiting, succeeded):
        with pytest.raises(FailedPrecondition) as refused:
            await replayed(servicer, operation_id)
        assert refused.value.reason == "NOT_A_DEAD_LETTER"
    with pytest.raises(NotFound):
        await replayed(servicer, "unknown")
    with pytest.raises(InvalidArgument):
        await servicer.GetDeadLetter(admin_pb2.GetDeadLetterRequest(operation="operations/other/1"), None)


async def test_a_letter_shows_its_payload_and_its_attempts(servicer, work):
    """Everything that is needed to judge whether a replay is worth it."""
    (operation_id,) = work.fail(title="a report")

    letter = await servicer.GetDeadLetter(admin_pb2.GetDeadLetterRequest(operation=name(operation_id)), None)

    payload = reports_pb2.RenderReportRequest()
    letter.request.Unpack(payload)
    assert payload.title == "a report"
    assert [(a.number, a.outcome) for a in letter.attempt_log] == [(1, ops.ATTEMPT_OUTCOME_FAILED)]


async def test_a_replay_is_a_new_operation_that_names_the_one_it_replays(servicer, operations, work):
    """Same task, queue, labels and payload; linked in the trace; unedited, it shares the original's effects."""
    (operation_id,) = work.fail(labels={"team": "sre"})

    replay = await replayed(servicer, operation_id)

    metadata = metadata_of(replay)
    new, original = await record(operations, replay), record_of(await operations.stored(operation_id))
    assert new.id != operation_id
    assert (metadata.state, metadata.task, metadata.queue) == (ops.OPERATION_STATE_QUEUED, "test.do", "test.q")
    assert metadata.replayed_from == name(operation_id)
    assert (new.effect_id, new.labels, new.request) == (original.effect_id, original.labels, original.request)
    assert new.trace.trace_id != original.trace.trace_id
    assert [link.span_id for link in new.trace.links] == [original.trace.send_span_id]
    assert metadata_of(await operations.get(operation_id)).replayed_by == replay.name


async def test_an_edited_replay_has_effects_of_its_own(servicer, operations, work):
    """Another payload is other work."""
    (operation_id,) = work.fail()
    edited = AnyMessage()
    edited.Pack(reports_pb2.RenderReportRequest(title="mended"))

    new = await record(operations, await replayed(servicer, operation_id, edited_request=edited))

    assert new.effect_id == new.id
    assert new.request == edited


async def test_an_edit_of_another_type_is_bad_input(servicer, work):
    """The task could not read it."""
    (operation_id,) = work.fail()
    wrong = AnyMessage()
    wrong.Pack(Struct())

    with pytest.raises(InvalidArgument) as refused:
        await replayed(servicer, operation_id, edited_request=wrong)
    assert [violation.field for violation in refused.value.violations] == ["edited_request"]


async def test_a_repeated_replay_is_one_operation(servicer, work):
    """The same request_id twice; without one each replay is its own; with another payload it is refused."""
    (operation_id,) = work.fail()
    first, second = [await replayed(servicer, operation_id, request_id="r") for _ in range(2)]
    edited = AnyMessage()
    edited.Pack(reports_pb2.RenderReportRequest(title="other"))

    assert first.name == second.name
    assert (await replayed(servicer, operation_id)).name != first.name
    with pytest.raises(InvalidArgument) as refused:
        await replayed(servicer, operation_id, request_id="r", edited_request=edited)
    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_a_replay_into_a_full_queue_is_refused(servicer, operations, app, work):
    """What is answered as accepted is accepted: RESOURCE_EXHAUSTED, and nothing has been stored."""
    (operation_id,) = work.fail()
    work.accept(2)
    app.queue_bound = 2

    with pytest.raises(ResourceExhausted) as refused:
        await replayed(servicer, operation_id)

    assert (refused.value.reason, refused.value.metadata) == ("QUEUE_FULL", {"queue": "test.q"})
    assert not metadata_of(await operations.get(operation_id)).replayed_by


async def test_many_are_replayed_oldest_first_and_none_twice(servicer, work, monkeypatch):
    """All of a group, up to a limit, however many there are; what has been replayed is left out the next time."""
    monkeypatch.setattr("chassis.listing.SCAN_LIMIT", 2)
    old = work.fail(2, reason="DISK_FULL")
    new = work.fail(1, reason="DISK_FULL")
    work.fail(1, reason="NO_NETWORK")

    async def replay(**options):
        request = admin_pb2.ReplayDeadLettersRequest(group="test.do/DISK_FULL", **options)
        answer = await servicer.ReplayDeadLetters(request, None)
        return [metadata_of(operation).replayed_from for operation in answer.operations]

    assert set(await replay(limit=2)) == {name(id_) for id_ in old}
    assert await replay() == [name(id_) for id_ in new]
    assert await replay() == []


@pytest.mark.parametrize(
    ("options", "field"), [({"limit": -1}, "limit"), ({"limit": 1001}, "limit"), ({"rate": -1}, "rate")]
)
async def test_bounds_of_a_mass_replay(servicer, options, field):
    """Bad input names the field."""
    with pytest.raises(InvalidArgument) as refused:
        await servicer.ReplayDeadLetters(admin_pb2.ReplayDeadLettersRequest(**options), None)
    assert [violation.field for violation in refused.value.violations] == [field]


async def test_a_discarded_letter_is_gone_and_its_operation_stays_failed(servicer, operations, work):
    """It is shown no more, cannot be replayed, and its history is there until retention."""
    (operation_id,) = work.fail()

    await servicer.DiscardDeadLetter(admin_pb2.DiscardDeadLetterRequest(operation=name(operation_id)), None)

    assert (await listed(servicer)).total == 0
    with pytest.raises(NotFound) as refused:
        await replayed(servicer, operation_id)
    assert refused.value.reason == "DEAD_LETTER_NOT_FOUND"
    operation = await operations.get(operation_id)
    assert isinstance(operation, operations_pb2.Operation)
    assert operation.error.message == "it broke"


async def test_many_are_discarded_oldest_first(servicer, operations, work):
    """Of a group, by filter, up to a limit; discarding again goes on with the rest, and none counts twice."""
    old = work.fail(2, reason="DISK_FULL")
    new = work.fail(1, reason="DISK_FULL")
    (labelled,) = work.fail(1, reason="NO_NETWORK", labels={"team": "sre"})
    (other,) = work.fail(1, reason="NO_NETWORK")

    async def discard(**options):
        return (await servicer.DiscardDeadLetters(admin_pb2.DiscardDeadLettersRequest(**options), None)).discarded

    assert await discard(group="test.do/DISK_FULL", limit=2) == 2
    assert {one.operation for one in (await listed(servicer)).dead_letters} == set(map(name, [*new, labelled, other]))
    assert await discard(group="test.do/DISK_FULL") == 1
    assert await discard(filter="labels.team = sre") == 1
    assert [one.operation for one in (await listed(servicer)).dead_letters] == [name(other)]
    assert [await discard(), await discard()] == [1, 0]
    assert (await operations.get(old[0])).error.message == "it broke"


@pytest.mark.parametrize("limit", [-1, 10_001])
async def test_bounds_of_a_mass_discard(servicer, limit):
    """Bad input names the field."""
    with pytest.raises(InvalidArgument) as refused:
        await servicer.DiscardDeadLetters(admin_pb2.DiscardDeadLettersRequest(limit=limit), None)
    assert [violation.field for violation in refused.value.violations] == ["limit"]


async def test_dead_letters_are_listed_by_filter(servicer, work):
    """The filter of ListOperations, together with a group."""
    work.fail(1, reason="DISK_FULL")
    (wanted,) = work.fail(1, reason="DISK_FULL", labels={"team": "sre"})
    work.fail(1, reason="NO_NETWORK", labels={"team": "sre"})

    answer = await listed(servicer, group="test.do/DISK_FULL", filter="labels.team = sre")

    assert [letter.operation for letter in answer.dead_letters] == [name(wanted)]
    assert answer.total == 3
