"""The event log: one order for everybody, cursors that hold on every replica, no gap and no repeat."""

import asyncio
import contextlib
import threading
import time

import pytest
from chassis import store_calls
from chassis.errors import OutOfRange
from chassis.event_log import Entry, EventLog, is_cursor, order, type_filter, write_state_change
from waybill.events.v1 import events_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000


@pytest.fixture
async def log(async_store):
    return EventLog(async_store)


@pytest.fixture
async def following(log):
    """The log with its reader running, as in a gateway."""
    task = asyncio.create_task(log.run())
    while not log._tail:  # noqa: ASYNC110 (it has none until its first answer)
        await asyncio.sleep(0)
    yield log
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def publish(store, *names):
    """Events of the service, each once."""
    store.run(
        store_calls.publish(
            [
                (name, "waybill.test.a", store_pb2.PublishedEvent(event=events_pb2.Event(id=name)).SerializeToString())
                for name in names
            ]
        )
    )


def name_of(entry):
    return entry.published.event.id


async def first(log, cursor, count):
    """The next `count` entries after the cursor."""
    found = []
    async for entries in log.follow(cursor, patience=10):
        assert entries, f"{len(found)} of {count} entries after 10 s"
        found += entries
        if len(found) >= count:
            return found[:count]
    return found


def write_old_entries(store, hours, count=300):
    """Entries as they were written so many hours ago."""
    written_at = time.time_ns() // 10**6 - hours * HOUR_MS
    pipeline = store.client.pipeline()
    for number in range(count):
        pipeline.xadd(store.keys.named("events"), {"ty": "old", "e": b""}, id=f"{written_at}-{number + 1}")
    pipeline.execute()
    return f"{written_at}-1", f"{written_at}-{count}"


@pytest.mark.parametrize("behind", [0, 3, 40])
async def test_followers_of_the_end_miss_nothing_and_see_nothing_twice(async_store, store, behind):
    """However far behind they are: further than what is kept in memory, within it, or at the end."""
    log = EventLog(async_store, kept=5)
    publish(store, *(f"before{number}" for number in range(behind)))
    expected = [f"before{number}" for number in range(behind)]
    task = asyncio.create_task(log.run())
    cursor, seen = "0-0", []
    for round_ in range(8):
        names = [f"{round_}.{number}" for number in range(7)]
        await asyncio.to_thread(publish, store, *names)
        expected += names
        entries = await first(log, cursor, len(expected) - len(seen))
        cursor, seen = entries[-1].cursor, seen + [name_of(entry) for entry in entries]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert seen == expected
    assert [name_of(entry) for entry in await first(log, "0-0", len(expected))] == expected


async def test_entries_come_in_order_from_the_cursor_on(following, store):
    """The cursor of an entry is where a reader goes on after it, in any process."""
    publish(store, *(f"e{number}" for number in range(5)))
    entries = await first(following, "0-0", 5)
    assert [name_of(entry) for entry in entries] == ["e0", "e1", "e2", "e3", "e4"]

    replica = EventLog(following.store)
    rest = await first(replica, entries[2].cursor, 2)

    assert [name_of(entry) for entry in rest] == ["e3", "e4"]
    assert await replica.end() == entries[-1].cursor
    cursors = [order(entry.cursor) for entry in entries]
    assert cursors == sorted(set(cursors))


async def test_a_quiet_log_says_so(following):
    """Nothing, whenever nothing has come for as long as the reader is patient."""
    async for entries in following.follow("0-0", patience=0.05):
        assert entries == []
        break


async def test_within_its_interval_a_reader_is_left_alone(following, store):
    """The first entries come at once; what the log grows by afterwards waits."""
    publish(store, "first")
    reading = following.follow("0-0", patience=10, min_interval=3600)
    assert [name_of(entry) for entry in await anext(reading)] == ["first"]

    next_answer = asyncio.create_task(anext(reading))
    publish(store, "second")
    await first(following, "0-0", 2)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(next_answer, 0.2)


async def test_a_reader_with_an_interval_misses_nothing(following, store):
    """It sees every entry once, in order, while the log grows."""
    names = [f"e{number}" for number in range(60)]
    writing = threading.Thread(target=lambda: [publish(store, name) for name in names])
    writing.start()
    seen = []
    async for entries in following.follow("0-0", patience=10, min_interval=0.005):
        seen += [name_of(entry) for entry in entries]
        if not entries or len(seen) >= len(names):
            break
    writing.join()

    assert seen == names


async def test_readers_miss_nothing_and_see_nothing_twice_while_it_is_written(following, store):
    """Readers that begin anywhere, stop anywhere and go on from their cursor see each later entry exactly once."""
    total, writers = 600, 3

    def write(writer):
        for number in range(0, total // writers, 4):
            publish(store, *(f"{writer}/{n}" for n in range(number, number + 4)))

    async def read(pause_every):
        seen, cursor = [], "0-0"
        while len(seen) < total:
            part = await first(following, cursor, min(pause_every, total - len(seen)))
            seen += [name_of(entry) for entry in part]
            cursor = part[-1].cursor
            await asyncio.sleep(0)
        return seen

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    readers = [asyncio.create_task(read(every)) for every in (1, 7, 50, total)]
    for thread in threads:
        thread.start()
    seen = await asyncio.wait_for(asyncio.gather(*readers), 60)
    for thread in threads:
        thread.join()

    assert all(one == seen[0] for one in seen)
    assert len(set(seen[0])) == total
    for writer in range(writers):
        own = [name for name in seen[0] if name.startswith(f"{writer}/")]
        assert own == sorted(own, key=lambda name: int(name.split("/")[1]))


@pytest.mark.parametrize("text", ["", "x", "1", "1-", "-1", "1-2-3", "1-x", "9" * 17 + "-1", " 1-1"])
async def test_what_is_no_cursor_is_known_by_its_form(text):
    """Two numbers and a dash, as Redis has them."""
    assert not is_cursor(text)
    assert is_cursor("1-0")


async def test_a_cursor_of_this_log_is_valid(log, store):
    """The beginning of an empty log, the end, and every entry."""
    await log.check("0-0")
    assert await log.end() == "0-0"
    publish(store, "a", "b")

    for entry in await first(log, "0-0", 2):
        await log.check(entry.cursor)
    await log.check("0-0")


async def test_a_cursor_behind_which_entries_are_gone_has_expired(log, store):
    """OUT_OF_RANGE, CURSOR_EXPIRED: for one of a day ago, and for the beginning, which is older still."""
    oldest, newest = write_old_entries(store, hours=26)
    publish(store, "new")
    store.run(store_calls.housekeeping())
    assert store.client.xlen(store.keys.named("events")) < 300

    for cursor in (oldest, newest, "0-0"):
        with pytest.raises(OutOfRange) as raised:
            await log.check(cursor)
        assert raised.value.reason == "CURSOR_EXPIRED"
    await log.check(await log.end())


async def test_entries_are_kept_for_a_day(log, store):
    """A cursor of almost 24 hours ago is valid, and everything after it is there."""
    oldest, _ = write_old_entries(store, hours=24)
    store.run(store_calls.housekeeping())

    await log.check(oldest)
    assert len(await first(log, oldest, 299)) == 299


async def test_the_end_of_a_log_that_was_trimmed_to_nothing_is_where_it_was(log, store):
    """A subscriber that has seen everything goes on; nothing that it has not seen is gone."""
    publish(store, "a")
    end = await log.end()
    store.client.xtrim(store.keys.named("events"), maxlen=0)

    assert await log.end() == end
    await log.check(end)


async def test_a_cursor_from_the_future_has_expired(log, store):
    """The log was lost or is another one: what comes would be taken for what has been."""
    publish(store, "a")
    milliseconds, _ = order(await log.end())

    with pytest.raises(OutOfRange):
        await log.check(f"{milliseconds + 1}-0")


async def test_whoever_waits_for_an_operation_hears_of_its_end(following, store):
    """Done at a final state, not before; who does not wait any more costs nothing."""
    key = store.keys.named("events")

    def change(verb, state):
        store.client.xadd(key, {"v": verb, "id": "o1", "st": state})

    with following.finality("o1") as ended, following.finality("o2") as other:
        change("began", 3)
        change("succeeded", 5)
        await asyncio.wait_for(ended, 10)
        assert not other.done()
    assert following._waiters == {}


async def test_the_reader_goes_on_after_an_outage(following, valkey, store):
    """It reconnects by itself."""
    publish(store, "before")
    valkey.restart()
    publish(store, "after")

    with following.finality("o1") as ended:
        store.client.xadd(store.keys.named("events"), {"v": "failed", "id": "o1", "st": 6})
        await asyncio.wait_for(ended, 20)
    assert [name_of(entry) for entry in await first(following, "0-0", 2)] == ["before", "after"]


@pytest.mark.parametrize(
    ("patterns", "wanted", "unwanted"),
    [
        ([], ["waybill.a.b", "x"], []),
        (["waybill.a.b"], ["waybill.a.b"], ["waybill.a.b.c", "waybill.a"]),
        (["waybill.a.*"], ["waybill.a.b", "waybill.a.b.c"], ["waybill.ab.c", "waybill.a"]),
        (["waybill.a.b", "waybill.c.*"], ["waybill.a.b", "waybill.c.d"], ["waybill.a.c"]),
        (["*"], ["waybill.a.b"], []),
    ],
)
async def test_a_filter_takes_types_and_prefixes(patterns, wanted, unwanted):
    """Without patterns everything; `*` only at the end."""
    takes = type_filter(patterns)

    assert all(map(takes, wanted))
    assert not any(map(takes, unwanted))


async def test_an_operation_that_succeeded_has_no_error():
    """Whatever an attempt before left."""
    fields = {b"v": b"succeeded", b"id": b"o1", b"st": b"5", b"ec": b"14", b"em": b"broken"}
    event, data = events_pb2.Event(), events_pb2.OperationChanged()
    write_state_change("test", Entry("1-1", fields), event)

    assert event.data.Unpack(data)
    assert (data.error_code, data.error_message, event.traceparent) == (0, "", "")


async def test_a_state_change_is_a_cloud_event():
    """Id, source, type, subject, trace context and typed data."""
    fields = {
        b"v": b"retried",
        b"id": b"o1",
        b"st": b"4",
        b"task": b"t",
        b"q": b"q",
        b"pr": b"2",
        b"at": b"1",
        b"max": b"3",
        b"w": b"w@h:1",
        b"tr": b"a" * 32 + b"/" + b"b" * 16,
        b"ct": b"1000000",
        b"par": b"p1",
        b"due": b"2500000",
        b"ec": b"14",
        b"em": b"broken",
        b"pct": b"40",
        b"msg": b"half",
    }
    event = events_pb2.Event()
    write_state_change("test", Entry("1700000000123-4", fields), event)

    data = events_pb2.OperationChanged()
    event.data.Unpack(data)
    assert (event.id, event.source) == ("test/1700000000123-4", "/waybill/test")
    assert (event.type, event.subject) == ("waybill.test.operation.retried", "operations/test/o1")
    assert event.traceparent == f"00-{'a' * 32}-{'b' * 16}-01"
    assert event.time.ToMilliseconds() == 1700000000123
    assert (data.state, data.attempt, data.error_code) == (ops.OPERATION_STATE_RETRYING, 1, 14)
    assert (data.parent, data.progress.percent) == ("operations/test/p1", 40)
    assert data.schedule_time.ToMicroseconds() == 2_500_000
