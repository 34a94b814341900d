"""A stock client of KEDA's external scaler protocol: it learns of work, of how much, and of its end."""

import json
import math
import subprocess

import grpc
import pytest
from externalscaler import externalscaler_pb2 as keda
from externalscaler import externalscaler_pb2_grpc
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc

from conftest import infrastructure
from tests import documents

QUEUE = "reports.default"
#: As a ScaledObject's trigger gives it.
METADATA = {"scalerAddress": "reports-gateway:50053", "queue": QUEUE, "target": "4"}
WAITING = 9


@pytest.fixture
def idle(stack):
    """The reports service without a worker and with nothing to do."""
    worker = stack.process("reports", "worker")
    worker.terminate()
    worker.wait()
    purge(stack)
    yield stack
    purge(stack)


def purge(stack):
    queues = stack.stub("reports", admin_pb2_grpc.QueueServiceStub)
    queues.PurgeQueue(admin_pb2.PurgeQueueRequest(service="reports", queue=QUEUE), timeout=20)


def submit(stack, count):
    for _ in range(count):
        stack.reports().RenderReport(documents.of_text("KEDA"))


def desired(values, targets):
    """The replicas that a HorizontalPodAutoscaler wants: for AverageValue the sum over the target, rounded up."""
    return max(math.ceil(values[name] / target) for name, target in targets.items())


def test_keda_takes_workers_from_zero_to_what_the_work_needs(idle):
    """All four methods by the generated stub: inactive, then active and told how many, then inactive again."""
    stub = idle.stub("reports", externalscaler_pb2_grpc.ExternalScalerStub)
    reference = keda.ScaledObjectRef(name="reports-worker", namespace="default", scalerMetadata=METADATA)
    stream = stub.StreamIsActive(reference, timeout=60)
    told = [next(stream).result]
    before = stub.IsActive(reference, timeout=10).result

    submit(idle, WAITING)
    told.append(next(stream).result)
    during = stub.IsActive(reference, timeout=10).result
    targets = {spec.metricName: spec.targetSizeFloat for spec in stub.GetMetricSpec(reference, timeout=10).metricSpecs}
    values = {}
    for name in targets:
        request = keda.GetMetricsRequest(scaledObjectRef=reference, metricName=name)
        (value,) = stub.GetMetrics(request, timeout=10).metricValues
        values[value.metricName] = value.metricValueFloat
    purge(idle)
    told.append(next(stream).result)
    stream.cancel()

    assert told == [False, True, False]
    assert (before, during) == (False, True)
    assert values["operations"] == WAITING
    assert desired(values, targets) == math.ceil(WAITING / 4)


def test_a_newer_kedas_stream_of_specs_is_unimplemented(idle):
    """Which KEDA takes for a scaler whose targets do not change."""
    call = idle.channel("reports").unary_stream(
        "/externalscaler.ExternalScaler/StreamMetricSpec",
        request_serializer=keda.ScaledObjectRef.SerializeToString,
        response_deserializer=keda.GetMetricSpecResponse.FromString,
    )

    with pytest.raises(grpc.RpcError) as refused:
        next(call(keda.ScaledObjectRef(scalerMetadata=METADATA), timeout=10))

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.needs("grpcurl")
def test_grpcurl_asks_the_scaler_over_reflection(idle):
    """All four methods from the command line, with nothing but the gateway's address."""
    submit(idle, WAITING)
    address = idle.addresses["reports"]
    reference = {"name": "reports-worker", "namespace": "default", "scalerMetadata": METADATA}

    active = asked(address, "IsActive", reference)
    specs = asked(address, "GetMetricSpec", reference)["metricSpecs"]
    values = asked(address, "GetMetrics", {"scaledObjectRef": reference, "metricName": "operations"})["metricValues"]
    # The stream has no end: grpcurl's own deadline ends it.
    streamed = asked(address, "StreamIsActive", reference, seconds=2)

    assert (active, streamed) == ({"result": True}, {"result": True})
    assert {"metricName": "operations", "targetSize": "4", "targetSizeFloat": 4} in specs
    assert values == [{"metricName": "operations", "metricValue": str(WAITING), "metricValueFloat": WAITING}]


def asked(address, method, data, seconds=20):
    command = [infrastructure("grpcurl"), "-plaintext", "-max-time", str(seconds), "-d", json.dumps(data)]
    done = subprocess.run(
        [*command, address, f"externalscaler.ExternalScaler/{method}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)
