"""Failovers under the tests of a suite: WAYBILL_TEST_SENTINEL=1 puts the stack behind Sentinels.

In each test, the moment that its first operation is accepted, the primary is killed with kill -9: the operation and
whatever else is under way go on at the replica, and the killed server comes back as its replica. Tests marked
`own_outage` are left alone.
"""

import os
import threading
import uuid
from contextlib import contextmanager

import grpc
import pytest
from google.longrunning import operations_pb2

from tests.refusals import read

ASKED_FOR = os.environ.get("WAYBILL_TEST_SENTINEL", "") not in {"", "0"}
#: What every process of a stack behind Sentinels is told: nothing that was acknowledged may be lost.
ENVIRONMENT = {"WAYBILL_DURABILITY": "replicated", "WAYBILL_SHARED_STATE_DIR": "1"}
FAILOVER_SECONDS = 90.0
#: What gateways say while there is no primary, or no replica of it.
OF_A_FAILOVER = frozenset({"STORE_UNAVAILABLE", "NOT_REPLICATED", "BACKEND_UNAVAILABLE"})
READING = ("/GetOperation", "/WaitOperation")


#: How many a run has forced, for its summary.
FORCED = pytest.StashKey[int]()


class Failovers(grpc.UnaryUnaryClientInterceptor):
    """Forces failovers, and is a client that outlives them: it does as RetryInfo says, under one request_id.

    Args:
        servers: a ReplicatedValkey.
    """

    def __init__(self, servers):
        self._servers = servers
        self._lock = threading.Lock()
        self._expected = False
        self._thread = None
        self._failed = None
        #: How many there were.
        self.count = 0
        #: Names of what was accepted and not deleted in the last block.
        self.accepted = set()

    @contextmanager
    def one_at_the_first_acceptance(self):
        """Within the block; it ends when the store is whole again."""
        self.accepted.clear()
        self._expected = True
        try:
            yield
        finally:
            self._expected = False
            self.wait()

    def begin(self):
        """Force one now; returns at once."""
        self.count += 1
        self._thread = threading.Thread(target=self._fail_over, name="failover", daemon=True)
        self._thread.start()

    def wait(self):
        """Until the store is whole again."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(FAILOVER_SECONDS)
            assert not thread.is_alive(), "a failover does not end"
        if self._failed is not None:
            raise self._failed

    def intercept_unary_unary(self, continuation, client_call_details, request):
        request = named(request)
        pause, waited = threading.Event(), 0.0
        while True:
            call = continuation(client_call_details, request)
            seconds = self._pause(call)
            if not seconds or waited > FAILOVER_SECONDS:
                break
            pause.wait(seconds)
            waited += seconds
        if call.code() is grpc.StatusCode.OK:
            self._note(client_call_details.method, request, call.result())
        return call

    def _pause(self, call):
        """For how long to wait before the same again; 0: it is answered, or refused for another reason."""
        if self._thread is None or call.code() is not grpc.StatusCode.UNAVAILABLE:
            return 0.0
        refusal = read(call)
        return refusal.retry_after.total_seconds() if refusal.reason in OF_A_FAILOVER else 0.0

    def _note(self, method, request, answer):
        if method.endswith("/DeleteOperation"):
            self.accepted.discard(request.name)
        if method.endswith(READING) or not (accepted := accepted_in(answer)):
            return
        with self._lock:
            self.accepted.update(accepted)
            if self._expected:
                self._expected = False
                self.begin()

    def _fail_over(self):
        try:
            self._servers.kill_primary()
            self._servers.start()
        except Exception as error:  # noqa: BLE001 (the test's thread raises it)
            self._failed = error


def accepted_in(answer):
    """Names of the operations that an answer gives: one, or those of a batch."""
    if isinstance(answer, operations_pb2.Operation):
        return [answer.name]
    if "items" not in answer.DESCRIPTOR.fields_by_name:
        return []
    return [item.operation.name for item in answer.items if item.HasField("operation")]


def named(request):
    """The request with a request_id where it may have one and has none."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name or request.request_id:
        return request
    again = type(request)()
    again.CopyFrom(request)
    again.request_id = str(uuid.uuid4())
    return again
