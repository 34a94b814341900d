"""Gateways are killed and come back: what waits has its result, what follows misses nothing and repeats nothing."""

import queue
import threading
from datetime import timedelta

import pytest
import waybill_client
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill_client import State, aio

LONG = timedelta(seconds=60)


class Watching:
    """Iterates in a thread of its own; `until` waits for a certain value, `rest` for the end."""

    def __init__(self, stream):
        self.seen = []
        self._stream = stream
        self._came = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def until(self, wanted):
        while not wanted(value := self._came.get(timeout=60)):
            pass
        return value

    def rest(self):
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.seen

    def _run(self):
        for value in self._stream:
            self.seen.append(value)
            self._came.put(value)


def log_of(stack, name):
    """Kind and state of every event of an operation, read from the log's begin by a stock stub."""
    stub = stack.stub("sample", events_pb2_grpc.EventServiceStub)
    stream = stub.Subscribe(events_pb2.SubscribeRequest(cursor="0-0"), timeout=30, wait_for_ready=True)
    found = []
    for answer in stream:
        change = events_pb2.OperationChanged()
        if answer.event.subject == name and answer.event.data.Unpack(change):
            found.append((answer.event.type.rpartition(".")[2], State.of(change.state)))
            if found[-1][1].final:
                stream.cancel()
                return found
    return found


def told(changes):
    return [(change.kind, change.state) for change in changes]


def test_a_result_is_awaited_across_the_death_of_the_gateway(stack, client, work, tmp_path):
    """Killed while the wait is open, it comes back after the work has ended; the wait goes on by itself."""
    heard = threading.Event()
    until = tmp_path / "let-go"
    with waybill_client.connect(stack.addresses["sample"], on_outage=lambda _: heard.set()) as waiting:
        operation = waiting.submit(*work("sample.hold", until=str(until)))
        results = queue.Queue()
        threading.Thread(target=lambda: results.put(operation.result(LONG)), daemon=True).start()
        next(change for change in client.operation(operation.name).watch() if change.progress)

        stack.process("sample", "gateway").kill()
        assert heard.wait(60)
        until.touch()
        stack.start()

        assert results.get(timeout=60)["attempt"] == 1


def test_a_watch_goes_on_across_the_death_of_the_gateway(stack, client, work, tmp_path):
    """What happens while no gateway is there is told when there is one again; nothing is missed or repeated."""
    until = tmp_path / "let-go"
    operation = client.submit(*work("sample.hold", until=str(until)))
    watching = Watching(operation.watch())
    watching.until(lambda change: change.progress)

    stack.process("sample", "gateway").kill()
    until.touch()
    stack.start()
    changes = watching.rest()

    assert changes[0].kind == "snapshot"
    log = log_of(stack, operation.name)
    seen = told(changes[1:])
    assert seen == log[len(log) - len(seen) :]
    assert changes[-1].state is State.SUCCEEDED
    assert changes[-1].cursor


def test_a_watch_of_what_retries_tells_every_change_once(stack, client, work):
    """The seam between the first look and the stream has no gap and no repeat, wherever it falls."""
    for _ in range(10):
        operation = client.submit(*work("sample.flaky", failures=3))
        changes = list(operation.watch())
        log = log_of(stack, operation.name)

        seen = told(changes[1:])
        assert seen == log[len(log) - len(seen) :]
        first = len(log) - len(seen)
        assert changes[0].state == log[first - 1][1]
        assert changes[-1].state is State.SUCCEEDED


def test_a_watch_of_what_has_ended_tells_how(client, work):
    """One snapshot and no more."""
    operation = client.submit(*work("sample.echo")).wait(LONG)

    assert told(operation.watch()) == [("snapshot", State.SUCCEEDED)]


def test_events_are_followed_across_the_deaths_of_the_gateway(stack, client, work):
    """Three kills while operations are accepted and run: the subscription ends with exactly the log's events."""
    begin = client.operations.page("sample", page_size=1).cursor
    watching = Watching(client.events("sample", cursor=begin))

    for _ in range(3):
        last = [client.submit(*work("sample.flaky", failures=2)).name for _ in range(10)][-1]
        stack.process("sample", "gateway").kill()
        stack.start()
        watching.until(lambda got, name=last: got.change.operation == name and got.change.state.final)
    end = client.submit(*work("sample.echo")).name
    watching.until(lambda got: got.change.operation == end and got.change.state.final)

    stub = stack.stub("sample", events_pb2_grpc.EventServiceStub)
    stream = stub.Subscribe(events_pb2.SubscribeRequest(cursor=begin), timeout=30)
    log = []
    for answer in stream:
        if answer.HasField("event"):
            log.append(answer.event.id)
        if len(log) >= len(watching.seen):
            break
    stream.cancel()
    assert [got.event.id for got in watching.seen] == log


def test_a_stream_is_closed_from_another_thread(client):
    """The iteration ends, without an error."""
    stream = client.events("sample", heartbeats=True)
    watching = Watching(stream)
    watching.until(lambda got: got.event is None)

    stream.close()

    assert len(watching.rest()) == 1


@pytest.mark.anyio
async def test_asyncio_outlives_the_gateway_alike(stack, work, tmp_path, run_in_thread):
    """`aio`: a watch and a result are open while the gateway is killed and started again."""
    until = tmp_path / "let-go"
    async with aio.connect(stack.addresses["sample"]) as client:
        operation = await client.submit(*work("sample.hold", until=str(until)))
        changes = []
        async for change in operation.watch():
            changes.append(change)
            if change.progress and change.progress.percent == 10 and not until.exists():
                await run_in_thread(stack.process("sample", "gateway").kill)
                until.touch()
                await run_in_thread(stack.start)

        assert (await client.operation(operation.name).result(LONG))["attempt"] == 1
        log = log_of(stack, operation.name)
    seen = told(changes[1:])
    assert seen == log[len(log) - len(seen) :]
    assert changes[-1].state is State.SUCCEEDED


@pytest.mark.anyio
async def test_asyncio_has_the_same_words(stack, work):
    """Submit, list, page, get, cancel and the typed errors."""
    async with aio.connect(stack.addresses["sample"]) as client:
        operation = await client.submit(*work("sample.hold", until=""))
        await operation.cancel()
        await operation.wait(LONG)

        listed = [each.name async for each in client.operations.list("sample", 'task = "sample.hold"', page_size=2)]
        page = await client.operations.page("sample", page_size=1)

        assert operation.state is State.CANCELLED
        assert operation.name in listed
        assert len(page.operations) == 1
        assert (await client.operations.get(operation.name)).state is State.CANCELLED
