"""Requests that nobody should send, to every method of every gateway: each is answered for what it is.

WAYBILL_FUZZ_INPUTS says how many, WAYBILL_FUZZ_SEED repeats a run; `make fuzz` sends 100,000.
"""

import asyncio
import itertools
import os
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import grpc
import psutil
import pytest
from chassis.statuses import reason_of, rpc_status
from google.longrunning import operations_pb2
from waybill.admin.v1 import admin_pb2
from waybill.metrics.v1 import metrics_pb2
from waybill.notify.v1 import notify_pb2

from tests import documents, notices, samples
from tests.security.fuzzing import Fuzzer
from tests.security.gateways import methods, stored
from tests.stack import NAMES

INPUTS = int(os.environ.get("WAYBILL_FUZZ_INPUTS", "3000"))
SEED = int(os.environ.get("WAYBILL_FUZZ_SEED") or random.randrange(1 << 32))
# Calls at a time.
WIDTH = 16
# Ours, whatever the request says.
FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAVAILABLE}
# They have no end of their own; the caller hangs up.
LINGERING = ("/Subscribe", "/Watch", "/WaitOperation", "/StreamIsActive")
MIB = 1 << 20
# What a gateway may grow by after the first third, in which it fills its caches.
GROWTH_BYTES = 48 * MIB


class Run:
    """One run of the fuzzer."""

    def __init__(self, harness, callers):
        self.harness = harness
        self.metadata = callers.metadata("operator")
        self.fuzzer = Fuzzer(SEED, hints_of(harness), list(exemplars()))
        self.codes = Counter()
        self.faults = []
        self.accepted = set()

    async def send(self, count):
        channels = {
            name: grpc.aio.insecure_channel(self.harness.addresses[name], [("grpc.max_receive_message_length", -1)])
            for name in NAMES
        }
        work = itertools.islice(itertools.cycle(sorted(methods().items())), count)
        await asyncio.gather(*(self._worker(work, channels) for _ in range(WIDTH)))
        for channel in channels.values():
            await channel.close()

    async def _worker(self, work, channels):
        for name, method in work:
            gateway = self.fuzzer.choice(NAMES)
            request = self.fuzzer.request(method.input_type)
            code, reason = await self._call(channels[gateway], name, request)
            self.codes[code.name] += 1
            if code in FAULTS and not (code is grpc.StatusCode.UNAVAILABLE and reason == "DRAINING"):
                self.faults.append((gateway, name, code.name, reason, request.hex()[:4_000]))

    async def _call(self, channel, name, request):
        lingers = name.endswith(LINGERING) or "/Watch" in name
        call = channel.stream_stream(f"/{name}")(
            iter([request]), metadata=self.metadata, timeout=0.2 if lingers else 60
        )
        try:
            answer = await call.read()
            while answer is not grpc.aio.EOF and not lingers:
                self._note(name, answer)
                answer = await call.read()
            call.cancel()
        except grpc.aio.AioRpcError as error:
            return error.code(), reason_of(rpc_status(error))
        return grpc.StatusCode.OK, ""

    def _note(self, name, answer):
        """Remember what has been accepted, and ask for it again."""
        operations = []
        if name.endswith("/BatchSendNotifications"):
            results = notify_pb2.BatchSendNotificationsResponse.FromString(answer).items
            operations = [result.operation for result in results if result.HasField("operation")]
        elif methods()[name].output_type.full_name == "google.longrunning.Operation":
            operations = [operations_pb2.Operation.FromString(answer)]
        for operation in operations:
            self.accepted.add(operation.name)
            self.fuzzer.learn("name", operation.name)
            self.fuzzer.learn("operation", operation.name)


def hints_of(harness):
    """Names of what there is, so that requests get past the first question."""
    queues = ["metrics.ingest", "metrics.default", "notify.mail", "notify.default", "reports.default"]
    names = ["a", "standard", "cpu.load", "ops"]
    identifiers = ("template_id", "recipient_id", "rule_id", "schedule_id", "subscription_id", "report_id")
    return {
        "service": [*NAMES, ""],
        "queue": queues,
        "name": [*(f"operations/{service}" for service in NAMES), "cpu.load", "operations/reports/x"],
        "event_type": ["waybill.metrics.alert.fired", "waybill.reports.*"],
        "types": ["waybill.metrics.*", "waybill.reports.operation.*"],
        "cursor": ["0-0", "1-1"],
        "timezone": ["UTC", "Europe/Berlin"],
        "cron": ["* * * * *", "0 7 * * MON"],
        "metric": ["cpu.load"],
        "address": ["a@example.org"],
        "url": ["https://example.org/hook"],
        **dict.fromkeys(identifiers, names),
    }


def exemplars():
    """Requests that are taken as they are, of every kind that is kept."""
    options = samples.options(expires=timedelta(days=1), labels={"team": "sre"})
    yield samples.batch("cpu.load", 1.0, 2.0, options=options)
    yield documents.of_text(options=options)
    channel = notices.webhook("https://example.org/hook")
    notification = notices.request(channel, notices.email())
    notification.template_id = "a"
    notification.options.CopyFrom(options)
    yield notification
    yield notify_pb2.BatchSendNotificationsRequest(requests=[notification, notification])
    template = notify_pb2.Template(template_id="a", subject="{{ what }}", text="{{ what }}")
    yield notify_pb2.CreateTemplateRequest(template=template)
    yield notify_pb2.UpdateTemplateRequest(template=template)
    yield notify_pb2.PreviewTemplateRequest(template_id="a", variables=notification.variables)
    recipient = notify_pb2.Recipient(recipient_id="ops", channels=[channel])
    yield notify_pb2.CreateRecipientRequest(recipient=recipient)
    yield notify_pb2.UpdateRecipientRequest(recipient=recipient)
    yield operations_pb2.ListOperationsRequest(name="operations/reports", filter="task = x", page_size=5)
    yield admin_pb2.GetOperationStatsRequest(service="reports")
    query = metrics_pb2.QuerySeriesRequest(metric="cpu.load", aggregation=metrics_pb2.TIME_AGGREGATION_COUNT)
    query.start_time.FromDatetime(datetime.now(UTC) - timedelta(minutes=10))
    query.end_time.GetCurrentTime()
    yield query


def memory_of(process):
    """Resident bytes of the process and of what it has started."""
    root = psutil.Process(process.pid)
    return sum(each.memory_info().rss for each in (root, *root.children(recursive=True)))


@pytest.mark.timeout(7_200)
def test_whatever_is_sent_is_answered_for_what_it_is(closed, callers):
    """No crash, no INTERNAL, no growth of memory, and nothing is stored that was not accepted."""
    print(f"WAYBILL_FUZZ_SEED={SEED} WAYBILL_FUZZ_INPUTS={INPUTS}")
    gateways = {service: closed.process(service, "gateway") for service in NAMES}
    pids = {service: gateway.pid for service, gateway in gateways.items()}
    run = Run(closed, callers)

    asyncio.run(run.send(INPUTS // 3))
    before = {service: memory_of(gateway) for service, gateway in gateways.items()}
    asyncio.run(run.send(INPUTS - INPUTS // 3))

    grown = {service: memory_of(gateway) - before[service] for service, gateway in gateways.items()}
    kept = {
        f"operations/{service}/{key.rpartition(':')[2]}"
        for service in NAMES
        for key in stored(closed, service)[0]
        if ":op:" in key
    }
    print(dict(run.codes), {service: f"{size / MIB:+.0f} MiB" for service, size in grown.items()})
    print(f"{len(run.accepted)} operations accepted, {len(kept)} stored, {len(run.faults)} faults")
    assert run.faults[:20] == []
    assert {service: gateway.pid for service, gateway in gateways.items() if gateway.running} == pids
    assert kept <= run.accepted
    assert {service: size for service, size in grown.items() if size > GROWTH_BYTES} == {}
    assert len(run.codes) > 3
    assert run.accepted
