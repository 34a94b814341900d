"""Supervised processes come up together, come back when they die, drain in order and leave nothing behind."""

import asyncio
import functools
import os
import signal
import sys
from dataclasses import replace
from datetime import timedelta

import psutil
import pytest
from waybill_cli.processes import Backoff, Observer, ProcessSpec, ProcessState, Stage
from waybill_cli.supervisor import MAX_DEATHS_AT_START, NotReadyError, ProcessFailedError, Supervisor

# What a service's process does as far as a supervisor sees it: says that it is up, waits, and ends
# when told to, leaving its name in the journal.
OBEDIENT = """
import pathlib, signal, sys
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
def end(*_):
    with (folder / "journal").open("a") as journal:
        journal.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(folder / name).touch()
print("up", flush=True)
while True:
    signal.pause()
"""
STUBBORN = OBEDIENT.replace("end)", "signal.SIG_IGN)")
WITH_A_CHILD = OBEDIENT.replace(
    "(folder / name)",
    """import subprocess
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
(folder / "child").write_text(str(child.pid))
(folder / name)""",
)
DYING = "import sys; print('cannot go on', flush=True); sys.exit({code})"

QUICK = Backoff(first=timedelta(milliseconds=20))
GRACE = timedelta(seconds=20)


class Journal(Observer):
    """Remembers what it was told."""

    def __init__(self):
        self.deaths = []
        self.lines = []
        self.shown = asyncio.Condition()

    def changed(self, status):
        asyncio.ensure_future(self._tell())  # noqa: RUF006

    def died(self, status):
        self.deaths.append((status.spec.name, status.deaths, status.exit_code))

    def line(self, status, text):
        self.lines.append((status.spec.name, text))

    async def _tell(self):
        async with self.shown:
            self.shown.notify_all()

    async def until(self, condition):
        async with asyncio.timeout(30), self.shown:
            await self.shown.wait_for(condition)


@pytest.fixture
def spec(tmp_path):
    def make(name, program=OBEDIENT, stage=Stage.WORKER):
        async def is_ready(_pid):
            return (tmp_path / name).exists()

        command = (sys.executable, "-c", program, str(tmp_path), name)
        return ProcessSpec(name, command, dict(os.environ), stage, is_ready)

    return make


def in_a_loop(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


@in_a_loop
async def test_start_returns_when_every_process_is_ready(spec):
    """After start each process runs, and what it wrote has reached the observer."""
    journal = Journal()
    supervisor = Supervisor([spec("one"), spec("two")], observer=journal)

    await supervisor.start()

    assert [status.state for status in supervisor.statuses] == [ProcessState.READY] * 2
    assert all(psutil.pid_exists(status.pid) for status in supervisor.statuses)
    await supervisor.drain(GRACE)
    assert {("one", "up"), ("two", "up")} <= set(journal.lines)


@in_a_loop
async def test_a_killed_process_is_started_again_and_the_death_reported(spec):
    """Kill -9 of one process gives a new one under another pid; the others are left alone."""
    journal = Journal()
    supervisor = Supervisor([spec("one"), spec("two")], observer=journal, backoff=QUICK)
    await supervisor.start()
    victim, bystander = supervisor.statuses
    before = victim.pid, bystander.pid

    os.kill(victim.pid, signal.SIGKILL)
    await journal.until(lambda: victim.state is ProcessState.READY and victim.pid != before[0])

    assert journal.deaths == [("one", 1, -signal.SIGKILL)]
    assert bystander.pid == before[1]
    await supervisor.drain(GRACE)


@in_a_loop
async def test_a_process_that_cannot_start_fails_the_stack_with_its_last_words(spec):
    """After a few deaths the start gives up and shows what the process said."""
    supervisor = Supervisor([spec("one"), spec("two", DYING.format(code=1))], backoff=QUICK)

    with pytest.raises(ProcessFailedError, match=r"(?s)two ended with exit code 1.*cannot go on") as failed:
        await supervisor.start()

    assert failed.value.status.deaths == MAX_DEATHS_AT_START
    await supervisor.drain(GRACE)


@in_a_loop
async def test_refused_settings_fail_the_stack_at_once(spec):
    """Exit code 2 says that another start would end the same way."""
    supervisor = Supervisor([spec("one", DYING.format(code=2))])

    with pytest.raises(ProcessFailedError) as failed:
        await supervisor.start()

    assert failed.value.status.deaths == 1
    await supervisor.drain(GRACE)


@in_a_loop
async def test_a_process_that_never_becomes_ready_is_named(spec):
    """The limit of the start names who was late, and only them."""
    early, late = (replace(spec("early"), is_ready=always), replace(spec("late"), is_ready=never))
    supervisor = Supervisor([early, late])

    with pytest.raises(NotReadyError, match=r"not ready within 2 s: late$"):
        await supervisor.start(timedelta(seconds=2))

    await supervisor.drain(GRACE)


async def always(_pid):
    return True


async def never(_pid):
    return False


@in_a_loop
async def test_a_process_that_says_when_it_is_ready_is_waited_for(spec):
    """Ready is what has written the line."""
    journal = Journal()
    specs = [replace(spec("said"), says="up"), replace(spec("silent"), says="something else")]
    supervisor = Supervisor(specs, observer=journal)
    said, silent = supervisor.statuses
    starting = asyncio.create_task(supervisor.start())

    await journal.until(lambda: said.state is ProcessState.READY)

    assert silent.state is ProcessState.STARTING
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await supervisor.drain(GRACE)


@in_a_loop
async def test_a_drain_ends_the_stages_in_order(spec, tmp_path):
    """Intake first, then gateways, workers, the dashboard: each stage has ended before the next is told."""
    supervisor = Supervisor([spec(stage.name, stage=stage) for stage in reversed(Stage)])
    await supervisor.start()

    killed = await supervisor.drain(GRACE)

    assert (tmp_path / "journal").read_text().split() == ["INTAKE", "GATEWAY", "WORKER", "DASHBOARD", "STORE"]
    assert killed == []


@in_a_loop
async def test_a_process_that_ignores_the_drain_is_killed_and_named(spec):
    """After the grace period nothing of it runs any more."""
    supervisor = Supervisor([spec("good"), spec("stubborn", STUBBORN)])
    await supervisor.start()
    pids = [status.pid for status in supervisor.statuses]

    killed = await supervisor.drain(timedelta(seconds=1))

    assert [status.spec.name for status in killed] == ["stubborn"]
    assert not any(psutil.pid_exists(pid) for pid in pids)


@in_a_loop
async def test_the_children_of_a_process_end_with_it(spec, tmp_path):
    """A pool child that its worker left behind is gone after the drain."""
    supervisor = Supervisor([spec("one", WITH_A_CHILD)])
    await supervisor.start()
    child = psutil.Process(int((tmp_path / "child").read_text()))

    await supervisor.drain(GRACE)

    child.wait(10)
    assert not child.is_running()


@in_a_loop
async def test_kill_ends_everything_during_a_drain(spec):
    """The second Ctrl-C: a drain that waits for a stubborn process returns at once."""
    supervisor = Supervisor([spec("stubborn", STUBBORN), spec("good", stage=Stage.DASHBOARD)])
    await supervisor.start()
    pids = [status.pid for status in supervisor.statuses]
    draining = asyncio.create_task(supervisor.drain(timedelta(minutes=10)))
    await asyncio.sleep(0)

    supervisor.kill()
    await draining

    assert not any(psutil.pid_exists(pid) for pid in pids)


@in_a_loop
async def test_a_drain_during_the_start_ends_what_was_started(spec):
    """Ctrl-C before the stack is ready leaves nothing behind."""
    supervisor = Supervisor([replace(spec("one"), is_ready=never)])
    starting = asyncio.create_task(supervisor.start())
    await asyncio.sleep(0)

    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await supervisor.drain(GRACE)

    assert [status.state for status in supervisor.statuses] == [ProcessState.ENDED]
    assert not [child for child in psutil.Process().children() if "one" in child.cmdline()]


@in_a_loop
async def test_a_process_that_is_added_runs_like_the_others(spec):
    """It is started, kept running, and drained in its stage's turn."""
    journal = Journal()
    supervisor = Supervisor([spec("dashboard", stage=Stage.DASHBOARD)], observer=journal, backoff=QUICK)
    await supervisor.start()

    added = supervisor.add(spec("worker"))
    await journal.until(lambda: added.state is ProcessState.READY)
    first = added.pid
    os.kill(first, signal.SIGKILL)
    await journal.until(lambda: added.state is ProcessState.READY and added.pid != first)

    assert [status.spec.name for status in supervisor.statuses] == ["worker", "dashboard"]
    await supervisor.drain(GRACE)
    assert added.state is ProcessState.ENDED


@in_a_loop
async def test_a_process_that_is_retired_ends_for_good_and_is_forgotten(spec):
    """The others are left alone."""
    supervisor = Supervisor([spec("one"), spec("two")])
    await supervisor.start()
    one, two = supervisor.statuses

    await supervisor.retire(one)

    assert (one.state, supervisor.statuses) == (ProcessState.ENDED, [two])
    assert (supervisor.retiring, two.state) == ([], ProcessState.READY)
    await supervisor.drain(GRACE)


@in_a_loop
async def test_a_retired_process_is_never_killed_for_taking_long(spec):
    """Only the end of the stack ends it by force, after its grace."""
    journal = Journal()
    supervisor = Supervisor([spec("stubborn", STUBBORN)], observer=journal)
    await supervisor.start()
    (stubborn,) = supervisor.statuses

    retired = supervisor.retire(stubborn)
    await journal.until(lambda: stubborn.state is ProcessState.DRAINING)

    assert not retired.done()
    assert supervisor.retiring == [stubborn]
    assert psutil.pid_exists(stubborn.pid)
    assert await supervisor.drain(timedelta(seconds=1)) == [stubborn]


def test_backoff_doubles_up_to_its_limit():
    """0.5 s, 1 s, 2 s and so on, never more than 30 s."""
    backoff = Backoff()

    delays = [backoff.delay(deaths).total_seconds() for deaths in (1, 2, 3, 6, 7, 8, 1_000)]

    assert delays == [0.5, 1, 2, 16, 30, 30, 30]
