"""What the autoscaler sees through a gateway, and whom it drains first."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from chassis.sizing import Load, Policy
from click.testing import CliRunner
from waybill.admin.v1 import admin_pb2
from waybill_cli.__main__ import main
from waybill_cli.autoscale import change, least_held, load_of, look
from waybill_cli.client import open_channel
from waybill_cli.plan import PlanError, make_plan, processes, worker_of
from waybill_cli.processes import ProcessSpec, Stage, Status
from waybill_cli.readiness import runs

STATE = Path("/var/lib/some stack")
REDIS = "redis://127.0.0.1:7000/0"


def queue(name, *, depth=0, in_flight=0, age=0, paused=False):
    made = admin_pb2.Queue(name=name, depth=depth, in_flight=in_flight, paused=paused)
    if depth:
        made.oldest_age.FromSeconds(age)
    return made


def worker(number, pid):
    return Status(ProcessSpec(f"metrics worker {number}", (), {}, Stage.WORKER, runs), pid=pid)


def test_a_load_is_that_of_all_queues_and_the_age_that_of_the_oldest():
    """What waits in a paused queue counts neither as depth nor as age; what runs does."""
    queues = [
        queue("a", depth=3, in_flight=2, age=5),
        queue("b", depth=4, in_flight=1, age=9),
        queue("c", depth=100, in_flight=1, age=1_000, paused=True),
        queue("d"),
    ]

    assert load_of(queues) == Load(depth=7, in_flight=4, oldest_age=timedelta(seconds=9))
    assert load_of([]) == Load()


def test_those_that_hold_least_are_drained_first():
    """Before them those that are not up yet; of equals the newest."""
    workers = [worker(1, 11), worker(2, 12), worker(3, 13), worker(4, None), worker(5, 15)]

    order = [status.spec.name[-1] for status in least_held(workers, {11: 0, 12: 7, 13: 0})]

    assert order == ["5", "4", "3", "1", "2"]


def test_what_a_gateway_says_is_what_is_seen(gateway):
    """Its queues, its workers' slots, and what each holds."""

    async def seen():
        async with open_channel(gateway.address) as channel:
            return await look(channel, "reports")

    sight = asyncio.run(seen())

    assert sight.load == Load()
    assert (sight.slots, sight.held) == (2, {7: 0})


def test_a_plan_starts_with_the_fewest_and_numbers_them_on():
    """So that a worker that is added has a name of its own."""
    plan = make_plan({}, STATE, only=["metrics"], dashboard=False, autoscale=Policy(min_workers=1, max_workers=3))

    named = [spec.name for spec in processes(plan, REDIS) if spec.stage is Stage.WORKER]
    added = worker_of(plan, REDIS, "metrics", 2)

    assert named == ["metrics worker 1"]
    assert (added.name, added.command[1:]) == ("metrics worker 2", ("-m", "metrics_service", "worker"))


def test_a_plan_may_start_without_workers():
    """Up from zero is the autoscaler's first work."""
    plan = make_plan({}, STATE, only=["metrics"], autoscale=Policy(min_workers=0, max_workers=3))

    assert not [spec for spec in processes(plan, REDIS) if spec.stage is Stage.WORKER]
    with pytest.raises(PlanError, match="--min-workers 4 is more than --max-workers 3"):
        make_plan({}, STATE, autoscale=Policy(min_workers=4, max_workers=3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--autoscale", "--workers", "2"], "exclude each other"),
        (["--max-workers", "2"], "belong to --autoscale"),
        (["--down-after", "2"], "belong to --autoscale"),
        (["--autoscale", "--min-workers", "5"], "more than --max-workers 4"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, said):
    """Before anything starts."""
    done = CliRunner().invoke(main, ["up", *options])

    assert done.exit_code == 2
    assert said in done.output


def test_a_change_says_why():
    """From how many to how many, and what there is to do."""
    facts = Load(depth=4_812, in_flight=40, oldest_age=timedelta(seconds=3.2))

    assert change("metrics", 1, 2, facts) == ("metrics: 1 -> 2 workers; 4,812 due, 40 in flight, the oldest for 3 s")
    assert change("metrics", 2, 1, Load()) == "metrics: 2 -> 1 workers; 0 due, 0 in flight"
