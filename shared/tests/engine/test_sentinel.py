"""A store behind Sentinels: gateways and workers follow a failover by themselves."""

import threading

import grpc
import pytest
from chassis.testing.failover import ReplicatedValkey
from chassis.testing.harness import Harness
from sample_service.gateway import SampleStub
from sample_service.tasks import struct
from waybill.operations.v1 import operations_pb2 as ops

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MANY = 40


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("threads", "replicated"), id="threads-replicated"),
        pytest.param(("prefork", "always"), id="prefork-always", marks=pytest.mark.thorough),
    ],
)
def stack(request, tmp_path_factory, sample):
    """Gateway and worker, which know of Sentinels alone."""
    with ReplicatedValkey(tmp_path_factory.mktemp("replicated")) as servers:
        pool, durability = request.param
        environment = {
            "WAYBILL_DURABILITY": durability,
            "WAYBILL_SHARED_STATE_DIR": "1",
            "WAYBILL_LEASE_SECONDS": "2",
        }
        folder = tmp_path_factory.mktemp("stack")
        with Harness(folder, [sample(pool, 2)], environment=environment, valkey=servers) as harness:
            harness.durability = durability
            harness.start()
            yield harness


class Load(threading.Thread):
    """Submits until it is told to end; notes what was acknowledged. What is refused is not tried again."""

    def __init__(self, stub):
        super().__init__(daemon=True)
        self.acknowledged = []
        self.refused = 0
        self.flowing = threading.Event()
        self.ended = threading.Event()
        self._stub = stub

    def run(self):
        while not self.ended.is_set():
            try:
                accepted = self._stub.Submit(struct(task="sample.echo", payload={}, request_id=""), timeout=3)
            except grpc.RpcError:
                self.refused += 1
                self.ended.wait(0.05)
                continue
            self.acknowledged.append(accepted.name)
            if len(self.acknowledged) >= MANY:
                self.flowing.set()


def test_work_goes_on_when_the_primary_dies(stack, submit):
    """Under load: nobody is restarted, what the replica had is done, nothing is left unfinished, new work flows.

    What was acknowledged and not replicated is gone; with WAYBILL_DURABILITY=replicated there is none of it. With one
    replica promoted, nobody is left to confirm: gateways refuse until a replica has come.
    """
    lives = [process.pid for process in stack.processes]
    until = stack.directory / "until"
    replicated = [submit("sample.echo").name for _ in range(MANY)]
    replicated += [submit("sample.hold", {"until": str(until)}).name for _ in range(2)]
    stack.valkey.replicate()
    load = Load(stack.stub("sample", SampleStub))
    load.start()
    assert load.flowing.wait(60)

    stack.valkey.kill_primary()
    stack.valkey.start()
    stack.wait_until_serving("sample")
    before = len(load.acknowledged)
    until.touch()
    new = [submit("sample.echo").name for _ in range(MANY)]
    load.ended.set()
    load.join()

    assert {ending(stack, name) for name in (*replicated, *new)} == {ops.OPERATION_STATE_SUCCEEDED}
    endings = [ending(stack, name) for name in load.acknowledged]
    lost = [position for position, state in enumerate(endings) if state is None]
    assert set(endings) <= {ops.OPERATION_STATE_SUCCEEDED, None}
    assert all(position < before for position in lost)
    assert not lost or stack.durability == "always"
    assert [process.pid for process in stack.processes if process.running] == lives


def ending(stack, name):
    """The final state; None for an operation that nobody knows any more."""
    try:
        return stack.finished(name, timeout=60)[1].state
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        return None
