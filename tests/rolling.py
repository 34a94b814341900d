"""A service that is deployed while it is used: two gateways behind one list of addresses, and clients that ask once.

What a deploy interrupts is sent again by gRPC itself, by the retry policy of the service config. Nothing here repeats
a call, so that every call that fails is one that a deploy has failed.
"""

import json
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import psutil
from chassis.testing.harness import quiet_port
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from waybill.metrics.v1 import metrics_pb2_grpc
from waybill.notify.v1 import notify_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2_grpc
from waybill_client.connection import service_config

from tests import documents, notices, samples
from tests.stack import unique, until

#: What compose and Kubernetes give a process between SIGTERM and SIGKILL.
GRACE_SECONDS = 45.0
CALL_SECONDS = 30.0
PROGRESS_SECONDS = 90.0
PAUSE_SECONDS = 0.02
CLIENTS = 2
#: So many operations end between two restarts.
BETWEEN = 5


@dataclass(frozen=True)
class Work:
    """What the clients of a service ask of it.

    Attributes:
        submit: accept under this request_id, on this channel.
        effects: how often the work of all operations has been done, by operation or taken together.
    """

    service: str
    submit: Callable[[grpc.Channel, str], Any]
    effects: Callable[[Any], int]


def ingestion(stack):
    """Samples of one metric; what was done is how many of them the rollups hold."""
    metric = unique("rolled")
    return Work(
        "metrics",
        lambda channel, request_id: metrics_pb2_grpc.MetricsServiceStub(channel).IngestSamples(
            samples.batch(metric, 1.0, request_id=request_id), timeout=CALL_SECONDS
        ),
        lambda _: round(samples.counted(stack, metric)),
    )


def notification(stack):
    """Mails to one address; what was done is how many lie in the Maildir."""
    notices.ensure_template(stack)
    address = f"{unique('rolled')}@example.com"
    return Work(
        "notify",
        lambda channel, request_id: notify_pb2_grpc.NotifyServiceStub(channel).SendNotification(
            notices.request(notices.email(address), request_id=request_id), timeout=CALL_SECONDS
        ),
        lambda _: mails_to(stack, address),
    )


def report(stack):
    """Reports; what was done is how many files there are of those that were asked for."""
    return Work(
        "reports",
        lambda channel, request_id: reports_pb2_grpc.ReportsServiceStub(channel).RenderReport(
            documents.of_text(request_id=request_id), timeout=CALL_SECONDS
        ),
        lambda names: sum(1 for name in names for _ in stack.artifacts.rglob(f"{name.rpartition('/')[2]}*")),
    )


def mails_to(stack, address, text=""):
    """How many mails to the address, with this text in them, lie in the Maildir."""
    wanted = (f"To: {address}".encode(), text.encode())
    # Long lines are wrapped: quoted-printable.
    mails = [
        path.read_bytes().replace(b"=\r\n", b"").replace(b"=\n", b"") for path in (stack.maildir / "new").iterdir()
    ]
    return sum(all(part in mail for part in wanted) for mail in mails)


@contextmanager
def beside(stack, service, environment=None):
    """A second gateway of the service, and a channel over the addresses of both, as a client of two replicas has it."""
    address = f"127.0.0.1:{quiet_port()}"
    given = {f"{service.upper()}_LISTEN": address, **(environment or {})}
    with (
        stack.another(service, "gateway", environment=given) as second,
        over(stack.addresses[service], address) as channel,
    ):
        yield second, channel


@contextmanager
def over(*addresses):
    """A stock channel over these addresses, in turn; what fails it sends again as its service config says."""
    config = {**json.loads(service_config()), "loadBalancingConfig": [{"round_robin": {}}]}
    options = (
        ("grpc.service_config", json.dumps(config)),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    )
    with grpc.insecure_channel(f"ipv4:{','.join(addresses)}", options) as channel:
        grpc.channel_ready_future(channel).result(CALL_SECONDS)
        yield channel


class Load:
    """Clients that submit, wait and read, one operation after the other, until the block ends.

    `failed` has every call that failed; `accepted` the name of the operation of each request_id.
    """

    def __init__(self, work, channel):
        self.work = work
        self.accepted = {}
        self.failed = []
        self.ended = []
        self._channel = channel
        self._over = threading.Event()
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._run, name="client", daemon=True) for _ in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.wait_for(CLIENTS)
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(PROGRESS_SECONDS)

    def wait_for(self, more):
        """Until as many more have ended, or a call has failed. Raises AssertionError after a long time."""
        with self._changed:
            goal = len(self.ended) + more
            assert self._changed.wait_for(lambda: len(self.ended) >= goal or self.failed, PROGRESS_SECONDS), (
                f"{self.work.service}: {len(self.accepted)} accepted, {len(self.ended)} ended, {goal} wanted"
            )

    def _run(self):
        while not self._over.wait(PAUSE_SECONDS):
            request_id = unique("rolled")
            try:
                ended = self._one(request_id)
            except grpc.RpcError as error:
                ended = None
                self.failed.append((request_id, error.code().name, error.details()))
            with self._changed:
                if ended:
                    self.ended.append(ended)
                self._changed.notify_all()

    def _one(self, request_id):
        operations = operations_pb2_grpc.OperationsStub(self._channel)
        name = self.work.submit(self._channel, request_id).name
        with self._changed:
            self.accepted[request_id] = name
        wait = operations_pb2.WaitOperationRequest(name=name, timeout=Duration(seconds=int(CALL_SECONDS)))
        operations.WaitOperation(wait, timeout=2 * CALL_SECONDS)
        return operations.GetOperation(operations_pb2.GetOperationRequest(name=name), timeout=CALL_SECONDS)


def redeploy(process):
    """SIGTERM, its end within its grace period, its successor. Raises TimeoutError for one that outstays it."""
    assert process.stop(GRACE_SECONDS) == 0, process.tail()
    process.start()


def redeploy_under(load, process):
    """As `redeploy`; returns once clients are at it again.

    A rolling update waits for as much (`minReadySeconds`): with both of two gateways gone there is nobody to retry at.
    """
    redeploy(process)
    if " gateway" in process.name:
        listen = process.environment[f"{load.work.service.upper()}_LISTEN"]
        until(lambda: connected(int(listen.rpartition(":")[2])), f"clients of {process.name}", timeout=GRACE_SECONDS)
    load.wait_for(BETWEEN)


def connected(port):
    """Whether this process has a connection to that port."""
    connections = psutil.Process().net_connections("tcp")
    return any(
        each.raddr and each.raddr.port == port and each.status == psutil.CONN_ESTABLISHED for each in connections
    )


def judge(stack, load):
    """No call failed; each request_id is one operation that succeeded, lost no attempt, and was done once."""
    assert not load.failed, load.failed
    names = list(load.accepted.values())
    assert len(set(names)) == len(names) == len(load.ended)
    for name in names:
        operation, kept = stack.get(name)
        assert operation.done, kept
        assert operation.HasField("response"), kept
        assert not lost(kept), kept
    assert load.work.effects(names) == len(names)
    return names


def lost(kept):
    """Attempts whose worker died, or whose lease ran out."""
    return [attempt for attempt in kept.attempts if attempt.outcome == ops.ATTEMPT_OUTCOME_LOST]
