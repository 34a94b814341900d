"""Two versions of a service over one store: an older release's processes, out of git's history, beside today's."""

import subprocess
import sys

import pytest
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc

from tests import rolling, skew
from tests.e2e.test_rolling_restarts import WORK
from tests.stack import Stack, until

pytestmark = [pytest.mark.needs("history"), pytest.mark.own_outage, pytest.mark.slow, pytest.mark.thorough]

#: An older release's client: its contracts, stock gRPC, and nothing else of Waybill.
CLIENT = """
import sys
import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

channel = grpc.insecure_channel(sys.argv[1])
section = reports_pb2.Section(text=reports_pb2.TextSection(title="Status", text="All is well."))
request = reports_pb2.RenderReportRequest(template_id="standard", title="Older", sections=[section])
operation = reports_pb2_grpc.ReportsServiceStub(channel).RenderReport(request, timeout=20)
operations = operations_pb2_grpc.OperationsStub(channel)
ended = operations.WaitOperation(operations_pb2.WaitOperationRequest(name=operation.name), timeout=60)
response = reports_pb2.RenderReportResponse()
assert ended.response.Unpack(response), ended
chunks = reports_pb2_grpc.ReportsServiceStub(channel).DownloadReport(
    reports_pb2.DownloadReportRequest(report_id=response.report.report_id)
)
print(reports_pb2.__file__, sum(len(part.chunk) for part in chunks) == response.report.size_bytes)
"""


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """The environment in which a process runs the older release's code."""
    return skew.laid_out(tmp_path_factory.mktemp("older"), skew.reference())


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory):
    """A stack of its own, whose processes tests move from one version to the other."""
    with Stack(tmp_path_factory.mktemp("skew")) as running:
        yield running


def moved(process, older):
    """The process, whose next life is of the older release, or of the work tree where there is none."""
    process.environment.pop("PYTHONPATH", None)
    process.environment.update(older or {})
    return process


def listed(workers, pid):
    """The worker of this process, once its gateway has heard of it."""
    return [each for each in workers.ListWorkers(admin_pb2.ListWorkersRequest()).workers if each.pid == pid]


def versions(channel):
    """Which contract the gateway and the workers have, as the gateway says; empty for an older one."""
    listed = admin_pb2_grpc.WorkerServiceStub(channel).ListWorkers(admin_pb2.ListWorkersRequest(), timeout=20)
    return listed.gateway_contract_hash, {worker.contract_hash for worker in listed.workers}


@pytest.mark.parametrize(
    "service", ["metrics", *(pytest.param(name, marks=pytest.mark.chaos) for name in ("notify", "reports"))]
)
def test_a_service_is_upgraded_and_rolled_back_under_load(two_versions, older, service):
    """Old gateways with a new worker, then new gateways with an old worker: nothing fails, is lost or is repeated."""
    stack = two_versions
    stack.start("metrics", service)
    gateway, worker = stack.process(service, "gateway"), stack.process(service, "worker")
    for process in (gateway, worker):
        rolling.redeploy(moved(process, older))
    work = WORK[service](stack)
    with rolling.beside(stack, service, older) as (second, channel), rolling.Load(work, channel) as load:
        # Up, the worker first; down again, the worker first; up for good, so that today's gateway can be asked.
        for version in (None, older, None):
            for process in (worker, gateway, second):
                rolling.redeploy_under(load, moved(process, version))
    rolling.judge(stack, load)
    ours, workers = versions(stack.channel(service))
    assert ours
    assert workers == {ours}


def test_versions_that_meet_are_told_apart(two_versions, older):
    """An older worker's heartbeat has no contract, or another one; today's gateway says so of it."""
    stack = two_versions
    stack.start("metrics")
    with stack.another("metrics", "worker", environment=older) as late:
        workers = stack.stub("metrics", admin_pb2_grpc.WorkerServiceStub)
        (older_one,) = until(lambda: listed(workers, late.pid), "the heartbeat of the older worker")
        (todays,) = listed(workers, stack.process("metrics", "worker").pid)

    assert older_one.contract_differs
    assert not todays.contract_differs


def test_an_older_client_is_served(two_versions, older):
    """The older release's stubs, in a process of their own: submit, wait, download."""
    stack = two_versions
    stack.start("metrics", "reports")
    command = [sys.executable, "-c", CLIENT, stack.addresses["reports"]]
    done = subprocess.run(
        command, env={**stack.environment, **older}, capture_output=True, text=True, timeout=90, check=False
    )

    assert done.returncode == 0, done.stderr
    module, whole = done.stdout.split()
    assert module.startswith(older["PYTHONPATH"].split("shared/src")[0])
    assert whole == "True"
