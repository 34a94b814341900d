"""The source of metrics is a stock SDK in a process of its own, that ends with the demo."""

import asyncio
import functools
import os
import signal
from concurrent import futures
from pathlib import Path

import grpc
import psutil
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from waybill_cli.client import Access
from waybill_cli.demo.incident import CPU, PROCESS
from waybill_cli.demo.source import MetricSource, SourceError
from waybill_client import Tls

CERTIFICATES = Path(__file__).resolve().parents[2] / "shared/tests/certificates"


class Collector(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Any OTLP receiver."""

    def __init__(self, credentials=None):
        self.exports, self.shown = [], []
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(self, self.server)
        anywhere = "127.0.0.1:0"
        port = (
            self.server.add_secure_port(anywhere, credentials)
            if credentials
            else self.server.add_insecure_port(anywhere)
        )
        self.address = f"127.0.0.1:{port}"
        self.server.start()

    def Export(self, request, context):
        self.exports.append(request)
        self.shown.append(dict(context.invocation_metadata()).get("authorization"))
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
async def test_a_closed_stack_is_shown_the_token_over_tls(tmp_path):
    """By the variables that stock exporters read: the authority and a header."""
    pair = ((CERTIFICATES / "reports.key").read_bytes(), (CERTIFICATES / "reports.pem").read_bytes())
    collector = Collector(grpc.ssl_server_credentials([pair]))
    access = Access(Tls(CERTIFICATES / "ca.pem"), "wbt_secret")

    async with MetricSource(collector.address, tmp_path / "source.log", dict(os.environ), access) as source:
        await source.rest()
    collector.server.stop(None).wait()

    assert collector.exports
    assert set(collector.shown) == {"Bearer wbt_secret"}


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
