"""The source of metrics is a stock SDK in a process of its own, that ends with the demo."""

import asyncio
import functools
import os
import signal
from concurrent import futures

import grpc
import psutil
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from waybill_cli.demo.incident import CPU, PROCESS
from waybill_cli.demo.source import MetricSource, SourceError


class Collector(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Any OTLP receiver."""

    def __init__(self):
        self.exports = []
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(self, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def Export(self, request, context):
        self.exports.append(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


@pytest.fixture
def collector():
    running = Collector()
    yield running
    running.server.stop(None).wait()


@pytest.fixture
def source(collector, tmp_path):
    return MetricSource(collector.address, tmp_path / "source.log", dict(os.environ))


def in_a_loop(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


@in_a_loop
async def test_it_exports_what_the_demo_may_breach(source, collector):
    """Processor shares of the machine and of the process arrive by plain OTLP; the load is answered for."""
    before = set(psutil.Process().children())
    async with source:
        await source.load(None)
        await source.rest()
        (process,) = set(psutil.Process().children()) - before

    sent = collector.exports[-1].resource_metrics[0]
    names = {metric.name for scope in sent.scope_metrics for metric in scope.metrics}
    assert {CPU, PROCESS} <= names
    assert not any(name.startswith("process.runtime.") for name in names)
    assert not process.is_running()


@in_a_loop
async def test_a_source_that_has_ended_is_noticed(source):
    """The demo does not wait for samples that nobody sends."""
    before = set(psutil.Process().children())
    async with source:
        await source.rest()
        (process,) = set(psutil.Process().children()) - before
        os.kill(process.pid, signal.SIGKILL)

        with pytest.raises(SourceError, match=r"has ended; see .*source\.log"):
            await source.rest()
