"""Operations that have ended, wherever they are by now: in the store, in both, or in the archive alone."""

import asyncio
import multiprocessing
import os
import signal
from datetime import timedelta
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from chassis import archive_calls, history
from chassis.archivist import Archivist
from chassis.database import open_database
from chassis.dead_letters import DeadLetterServicer
from chassis.descriptions import record_of
from chassis.errors import FailedPrecondition, NotFound
from chassis.event_log import EventLog
from chassis.history import Archive
from chassis.listing import list_page, parse_filter
from chassis.operations import Operations
from chassis.operations_rpc import OperationsServicer
from chassis.store import AsyncStore
from chassis.testing.harness import metadata_of
from google.longrunning import operations_pb2
from sqlalchemy.exc import OperationalError
from waybill.admin.v1 import admin_pb2

pytestmark = pytest.mark.anyio

TAIL = timedelta(minutes=10)


@pytest.fixture
def operations(async_store, archive):
    return Operations(async_store, SimpleNamespace(service="test", queue_bound=1000), archive=archive)


@pytest.fixture
def archivist(async_store, archive):
    return Archivist(async_store, archive, tail=TAIL)


@pytest.fixture
def letters(operations):
    return DeadLetterServicer(SimpleNamespace(service="test", queue_bound=1000, queues=[]), operations)


@pytest.fixture
def forget(async_store):
    """Awaited, it ends the tail of whatever is archived."""

    async def end_the_tail():
        index = async_store.keys.named("finished")
        seconds, rest = await async_store.client.time()
        beyond = (seconds + TAIL.total_seconds()) * 1_000_000 + rest
        archived = await async_store.client.zrangebyscore(index, "-inf", beyond)
        if archived:
            await async_store.client.zadd(index, dict.fromkeys(archived, 1))
        while await async_store.run(archive_calls.retire(500)):
            pass

    return end_the_tail


def name(operation_id):
    return f"operations/test/{operation_id}"


async def listed(operations, expression="", size=1000, index="ops"):
    """The ids of all pages in one list."""
    token, found = "", []
    while True:
        page = await list_page(
            operations.store,
            index,
            parse_filter(expression),
            size=size,
            token=token,
            archive=operations.archive,
        )
        found += [record_of(stored).id for stored in page.operations]
        token = page.next_page_token
        if not token:
            return found


async def in_store(operations, operation_id):
    return bool(await operations.store.client.exists(operations.store.keys.operation(operation_id)))


async def test_an_operation_looks_the_same_wherever_it_is(operations, archivist, work, forget):
    """In the store, in both, in the archive alone: Get answers alike, and the list has it once."""
    (operation_id,) = work.fail(labels={"team": "sre"}, request_id="r")
    before = await operations.get(operation_id)

    await archivist.work()
    assert await operations.get(operation_id) == before
    assert await listed(operations) == [operation_id]
    await forget()

    assert not await in_store(operations, operation_id)
    assert await operations.get(operation_id) == before
    assert await listed(operations, "state = FAILED AND labels.team = sre AND request_id = r") == [operation_id]
    assert await listed(operations, "state = SUCCEEDED") == []


async def test_what_is_live_or_kept_briefly_is_not_archived(operations, archivist, archive, work, store):
    """A retention within the tail costs no database."""
    (live,) = work.accept()
    (brief,) = work.accept()
    store.client.hset(store.keys.operation(brief), "ks", int(TAIL.total_seconds() * 1_000_000))
    work.settle(brief, "SUCCEEDED")

    await archivist.work()

    assert [archive.get(operation_id) for operation_id in (live, brief)] == [None, None]
    assert set(await listed(operations)) == {live, brief}


async def test_without_an_archive_everything_stays_in_the_store(async_store, work, store, forget):
    """For all of its retention, as a service without a database has it."""
    operations = Operations(async_store, SimpleNamespace(service="test", queue_bound=1000))
    (kept, past) = work.fail(2)
    store.client.zadd(store.keys.named("finished"), {past: 1})

    await Archivist(async_store, None, tail=TAIL).work()
    await forget()

    assert await listed(operations) == [kept]
    with pytest.raises(NotFound):
        await operations.get(past)


@pytest.mark.parametrize("size", [1, 3, 7])
async def test_pages_join_over_both_sources(operations, archivist, work, forget, size):
    """Old ones that still run stand between archived ones; nothing is missing and nothing comes twice."""
    ids = []
    for _ in range(3):
        ids += work.accept(2)
        ids += work.fail(2)
        await archivist.work()
        await forget()
        ids += work.fail(1)
        await archivist.work()
        ids += work.fail(1)

    found = await listed(operations, size=size)

    assert sorted(found) == sorted(ids)
    assert found == await listed(operations)


@pytest.mark.parametrize("size", [3, 100])
async def test_pages_hold_while_operations_move_into_the_archive(
    operations, archivist, work, forget, monkeypatch, size
):
    """Around every read of the archive operations are archived, or leave the store."""
    monkeypatch.setattr("chassis.listing.CHUNK", 5)
    ids = [operation_id for _ in range(8) for operation_id in (*work.fail(3), *work.accept(1))]
    page_of, loop, reads = Archive.page, asyncio.get_running_loop(), []

    async def move():
        await archivist.work()
        await forget()

    def read_while_operations_move(*arguments, **options):
        asyncio.run_coroutine_threadsafe(move(), loop).result(20)
        page = page_of(*arguments, **options)
        reads.append(asyncio.run_coroutine_threadsafe(move(), loop).result(20))
        return page

    monkeypatch.setattr(Archive, "page", read_while_operations_move)
    monkeypatch.setattr("chassis.archivist.BATCH", 2)

    found = await listed(operations, size=size)

    assert len(reads) > 4
    assert sorted(found) == sorted(ids)


async def test_cancelling_and_deleting_reach_the_archive(operations, archivist, archive, work, forget):
    """Cancelling what has ended is no error; what is deleted is unknown, to a late archivist too."""
    archived, live = work.fail(2)
    late = archivist._store.run(archive_calls.unarchived("late", tail=TAIL, limit=10))
    ended = await late
    await operations.store.client.delete(operations.store.keys.named("archive:turn"))
    await archivist.work()
    await forget()
    (both,) = work.fail(1)
    await archivist.work()

    await operations.cancel(archived)
    for operation_id in (archived, live, both):
        await operations.delete(operation_id)
    archive.keep(ended)

    for operation_id in (archived, live, both, "unknown"):
        for call in (operations.get, operations.delete, operations.cancel):
            with pytest.raises(NotFound):
                await call(operation_id)
    assert await listed(operations) == []
    (waiting,) = work.accept()
    with pytest.raises(FailedPrecondition):
        await operations.delete(waiting)


async def test_waiting_for_an_archived_operation_ends_at_once(operations, archivist, work, forget):
    """It has ended, wherever it is."""
    (operation_id,) = work.fail()
    await archivist.work()
    await forget()
    servicer = OperationsServicer(operations, EventLog(operations.store))
    context = SimpleNamespace(time_remaining=lambda: None)

    answer = await servicer.WaitOperation(operations_pb2.WaitOperationRequest(name=name(operation_id)), context)

    assert answer.done


@pytest.mark.parametrize("where", ["store", "both", "archive"])
async def test_dead_letters_are_served_wherever_they_are(operations, archivist, letters, work, forget, where):
    """Listed by group, shown, replayed with a note of it, discarded."""
    (letter,) = work.fail(reason="DISK_FULL", title="a report")
    (other,) = work.fail(reason="NO_NETWORK")
    if where != "store":
        await archivist.work()
    if where == "archive":
        await forget()

    everything = await letters.ListDeadLetters(admin_pb2.ListDeadLettersRequest(), None)
    group = await letters.ListDeadLetters(admin_pb2.ListDeadLettersRequest(group="test.do/DISK_FULL"), None)
    shown = await letters.GetDeadLetter(admin_pb2.GetDeadLetterRequest(operation=name(letter)), None)
    assert (everything.total, len(everything.groups)) == (2, 2)
    assert {(g.group, g.count) for g in everything.groups} == {("test.do/DISK_FULL", 1), ("test.do/NO_NETWORK", 1)}
    assert [one.operation for one in everything.dead_letters] == [name(other), name(letter)]
    assert [one.operation for one in group.dead_letters] == [name(letter)]
    assert (len(shown.attempt_log), shown.error.message) == (1, "it broke")

    replay = await letters.ReplayDeadLetter(admin_pb2.ReplayDeadLetterRequest(operation=name(letter)), None)
    assert metadata_of(replay).replayed_from == name(letter)
    assert metadata_of(await operations.get(letter)).replayed_by == replay.name
    mass = await letters.ReplayDeadLetters(admin_pb2.ReplayDeadLettersRequest(), None)
    assert [metadata_of(operation).replayed_from for operation in mass.operations] == [name(other)]
    await archivist.work()
    await forget()
    assert metadata_of(await operations.get(letter)).replayed_by == replay.name

    await letters.DiscardDeadLetter(admin_pb2.DiscardDeadLetterRequest(operation=name(letter)), None)
    left = await letters.ListDeadLetters(admin_pb2.ListDeadLettersRequest(), None)
    assert ([one.operation for one in left.dead_letters], left.total) == ([name(other)], 1)
    with pytest.raises(NotFound):
        await letters.GetDeadLetter(admin_pb2.GetDeadLetterRequest(operation=name(letter)), None)
    assert (await operations.get(letter)).error.message == "it broke"


async def test_a_letter_discarded_in_the_store_is_none_in_the_archive(operations, archivist, letters, work, forget):
    """Before it was archived, or after."""
    early, late = work.fail(2)
    await letters.DiscardDeadLetter(admin_pb2.DiscardDeadLetterRequest(operation=name(early)), None)
    await archivist.work()
    await letters.DiscardDeadLetter(admin_pb2.DiscardDeadLetterRequest(operation=name(late)), None)
    await archivist.work()
    await forget()

    assert (await letters.ListDeadLetters(admin_pb2.ListDeadLettersRequest(), None)).total == 0
    assert set(await listed(operations, "state = FAILED")) == {early, late}


async def test_a_replay_that_could_not_be_noted_is_noted_by_the_archivist(
    operations, archivist, archive, letters, work, forget, monkeypatch
):
    """The store remembers it, in the step that accepts the replay."""
    (letter,) = work.fail()
    await archivist.work()
    await forget()
    with monkeypatch.context() as away:
        away.setattr(archive, "note_replays", lambda _: (_ for _ in ()).throw(OperationalError("", {}, Exception())))
        replay = await letters.ReplayDeadLetter(admin_pb2.ReplayDeadLetterRequest(operation=name(letter)), None)

    await archivist.work()

    assert metadata_of(await operations.get(letter)).replayed_by == replay.name
    assert not await operations.store.client.exists(operations.store.keys.named("replays"))


async def test_a_database_that_is_away_delays_the_archive_and_loses_nothing(async_store, operations, work, archive):
    """The archivist waits; what has ended stays in the store until it is committed."""

    class Away(Archive):
        def keep(self, ended):
            raise OperationalError("", {}, Exception("away"))

    ids = work.fail(2)
    waiting = Archivist(async_store, Away(archive._engine), tail=TAIL)
    with pytest.raises(OperationalError):
        await waiting.work()

    assert sorted(await listed(operations)) == sorted(ids)
    assert len(await async_store.run(archive_calls.unarchived(waiting._identity, tail=TAIL, limit=10))) == 2


async def test_a_list_of_what_is_live_needs_no_database(async_store, work, tmp_path):
    """While the database is away, states that are not final are listed from the store; every other list needs it."""
    gone = Archive(lambda: open_database(f"sqlite:///{tmp_path}/gone/history.db", sa.MetaData()))
    running, *queued = work.accept(3)
    work.begin(running)

    async def ids(expression):
        page = await list_page(async_store, "ops", parse_filter(expression), size=10, token="", archive=gone)
        return {record_of(stored).id for stored in page.operations}

    assert await ids("state = RUNNING") == {running}
    assert await ids("task = test.do AND state = QUEUED AND queue = test.q") == set(queued)
    assert await ids("(state = QUEUED OR state = RUNNING) AND NOT state = RUNNING") == set(queued)
    for expression in ("", "task = test.do", "NOT state = QUEUED", "state = SUCCEEDED AND task = test.do"):
        with pytest.raises(OperationalError):
            await ids(expression)


class Killed(Archive):
    """Whoever uses it dies by SIGKILL right after the commit."""

    def keep(self, ended):
        super().keep(ended)
        os.kill(os.getpid(), signal.SIGKILL)


def _archive_once(redis_url, database, kind):
    """One archivist of its own process; killed between commit and mark, or between mark and delete."""
    metadata = sa.MetaData()
    history.tables(metadata)
    archive = kind(open_database(database, metadata))

    async def work():
        store = AsyncStore.connect("test", redis_url)
        await Archivist(store, archive, tail=TAIL).work()
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(work())


@pytest.mark.parametrize("death", ["between commit and mark", "between mark and delete"])
async def test_a_killed_archivist_loses_nothing_and_doubles_nothing(
    operations, archive, archivist, work, valkey, forget, death
):
    """What it had committed is committed once more; the list has each operation once, all the way."""
    ids = [*work.fail(5), *work.accept(2)]
    url = archive._engine.url.render_as_string(hide_password=False)
    kind = Killed if death == "between commit and mark" else Archive
    process = multiprocessing.get_context("spawn").Process(target=_archive_once, args=(valkey.url, url, kind))
    process.start()
    await asyncio.to_thread(process.join, 60)
    assert process.exitcode == -signal.SIGKILL
    assert all(archive.get(operation_id) for operation_id in ids[:5])

    assert sorted(await listed(operations, size=2)) == sorted(ids)
    await forget()
    assert sorted(await listed(operations, size=2)) == sorted(ids)
    assert await in_store(operations, ids[0]) is (death == "between commit and mark")

    await operations.store.client.delete(operations.store.keys.named("archive:turn"))
    await archivist.work()
    await forget()
    assert sorted(await listed(operations, size=2)) == sorted(ids)
    assert not await in_store(operations, ids[0])
