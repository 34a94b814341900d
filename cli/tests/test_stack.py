"""A stack owns its Valkey: started first, kept alive, ended last; signals drain it, and a second one kills."""

import asyncio
import functools
import os
import signal
import socket

import psutil
import pytest
import redis
from waybill_cli import up
from waybill_cli.plan import Plan
from waybill_cli.processes import ProcessState
from waybill_cli.stack import PortClashError, Stack, valkey_directory
from waybill_cli.supervisor import StackError
from waybill_cli.views import StackView


def in_a_loop(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


@pytest.fixture
def plan(tmp_path):
    """A stack of Valkey alone: the services' processes are the supervisor's tests' business."""
    return Plan(services=(), addresses={}, state_dir=tmp_path, environment=dict(os.environ), redis_url=None)


class Signalled(StackView):
    """Sends this process a signal as soon as the stack is ready, and another when it drains."""

    def __init__(self, *signals):
        self._signals = list(signals)
        self.said = []

    def say(self, event, text):
        self.said.append(event)
        if event in {"stack.ready", "stack.draining"} and self._signals:
            os.kill(os.getpid(), self._signals.pop(0))


@in_a_loop
async def test_valkey_runs_inside_and_has_ended_after(plan):
    """Its files lie in the state directory, its process is gone afterwards."""
    async with Stack(plan) as stack:
        (status,) = stack.statuses
        with redis.Redis.from_url(stack.redis_url) as client:
            assert client.ping()
        pid = status.pid

    assert status.state is ProcessState.ENDED
    assert not psutil.pid_exists(pid)
    assert (valkey_directory(plan.state_dir) / "appendonlydir").is_dir()


@in_a_loop
async def test_a_killed_valkey_comes_back_where_it_was(plan):
    """Same address, same data, and the death is told."""
    died, ready = [], asyncio.Event()

    class Watcher(StackView):
        def died(self, status):
            died.append(status.spec.name)

        def changed(self, status):
            if died and status.state is ProcessState.READY:
                ready.set()

    async with Stack(plan, observer=Watcher()) as stack:
        with redis.Redis.from_url(stack.redis_url) as client:
            client.set("accepted", "yes")
        os.kill(stack.statuses[0].pid, signal.SIGKILL)
        await asyncio.wait_for(ready.wait(), 30)
        with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
            assert client.get("accepted") == "yes"

    assert died == ["valkey"]


@in_a_loop
async def test_nothing_is_started_when_a_port_is_taken(plan):
    """The clash is found first, so there is nothing to end."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        clashing = Plan((), {"metrics": address}, plan.state_dir, plan.environment, None)

        with pytest.raises(PortClashError, match=f"{address} is in use: set METRICS_LISTEN"):
            await Stack(clashing).__aenter__()

    assert not valkey_directory(plan.state_dir).exists()


@in_a_loop
async def test_a_second_stack_on_one_state_directory_is_refused(plan):
    """Two servers never share their files; the first one goes on."""
    async with Stack(plan) as first:
        with pytest.raises(StackError, match=f"in use by another Valkey, pid {first.statuses[0].pid}"):
            await Stack(plan).__aenter__()

        with redis.Redis.from_url(first.redis_url) as client:
            assert client.ping()


@in_a_loop
async def test_a_redis_that_is_configured_is_used_and_left_alone(plan):
    """With WAYBILL_REDIS_URL no Valkey is started."""
    given = Plan((), {}, plan.state_dir, plan.environment, "redis://127.0.0.1:7/0")

    async with Stack(given) as stack:
        assert stack.statuses == []
        assert stack.redis_url == "redis://127.0.0.1:7/0"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_the_stack(plan, number):
    """`up` ends with 0 after an orderly end."""
    view = Signalled(number)

    code = asyncio.run(up.run(plan, view))

    assert code == 0
    assert view.said == ["stack.ready", "stack.draining", "stack.drained"]


def test_a_second_signal_kills(plan):
    """The exit code says that it was no orderly end, and nothing is left."""
    view = Signalled(signal.SIGINT, signal.SIGINT)
    before = set(psutil.Process().children())

    code = asyncio.run(up.run(plan, view))

    assert code == up.EXIT_KILLED
    assert "stack.killed" in view.said
    assert set(psutil.Process().children()) <= before


def test_a_stack_that_cannot_start_ends_with_one_and_says_why(plan):
    """The reason is the last thing that is said."""
    said = []

    class Listener(StackView):
        def say(self, event, text):
            said.append((event, text))

    valkey_directory(plan.state_dir).write_text("a file where a folder should be")

    assert asyncio.run(up.run(plan, Listener())) == 1
    assert said[-1][0] == "stack.failed"
