"""Work that moves by itself over fake gateways, for looking at the dashboard.

`python -m services.dashboard.tests.workload 51051` serves metrics, notify and reports on three ports from there.
"""

import asyncio
import random
import sys
from datetime import timedelta

from google.rpc import code_pb2
from waybill.admin.v1 import admin_pb2
from waybill.metrics.v1 import metrics_pb2
from waybill.notify.v1 import notify_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

from services.dashboard.tests.fake_gateway import FakeGateway
from services.dashboard.tests.fake_service import FakeService, Kept, a_status

STEP_SECONDS = 0.1
ERRORS = (
    (code_pb2.UNAVAILABLE, "metrics gateway: connection refused", "UNAVAILABLE"),
    (code_pb2.DEADLINE_EXCEEDED, "the attempt took longer than its timeout of 30 s", "ATTEMPT_TIMEOUT"),
    (code_pb2.FAILED_PRECONDITION, "SMTP 550 5.1.1: mailbox of ops@example.com does not exist", "RECIPIENT_REFUSED"),
    (code_pb2.UNKNOWN, "KeyError: 'cpu.utilization'", "UNEXPECTED_ERROR"),
)
STAGES = ("querying 4 series", "drawing charts", "typesetting", "storing the artifact")


class Workload:
    """Accepts, begins, moves and settles operations of one service at random, a step at a time."""

    def __init__(self, service: FakeService, seed: int, per_step: float) -> None:
        self.service = service
        self.random = random.Random(seed)
        self.per_step = per_step
        self.steps = 0

    def hire(self, workers: int, pool: str, concurrency: int) -> None:
        for number in range(workers):
            worker = admin_pb2.Worker(
                name=f"{self.service.name}@build-{number + 1}:{4100 + number * 37}",
                host=f"build-{number + 1}",
                pid=4100 + number * 37,
                pool=pool,
                concurrency=concurrency,
                queues=self.service.queues,
                memory_bytes=self.random.randrange(90, 260) << 20,
                version="0.1.0",
                tasks=sorted(self.service.tasks),
            )
            worker.start_time.FromDatetime(self.service.clock() - timedelta(minutes=47 + 13 * number))
            self.service.workers[worker.name] = worker

    def step(self) -> None:
        self.steps += 1
        for worker in self.service.workers.values():
            worker.heartbeat_time.FromDatetime(self.service.clock())
        wave = 1.4 if self.steps // 120 % 2 else 0.7
        for _ in range(self._count(self.per_step * wave)):
            self._accept()
        for kept in self.service.in_state(ops.OPERATION_STATE_SCHEDULED, ops.OPERATION_STATE_RETRYING):
            if kept.metadata.schedule_time.ToNanoseconds() <= self.service.clock().timestamp() * 1e9:
                self._begin(kept)
        for kept in self.service.in_state(ops.OPERATION_STATE_QUEUED):
            if kept.metadata.queue not in self.service.paused:
                self._begin(kept)
        for kept in self.service.in_state(ops.OPERATION_STATE_RUNNING):
            self._move(kept)

    def _count(self, mean: float) -> int:
        return int(mean) + (self.random.random() < mean % 1)

    def _accept(self) -> None:
        task = self.random.choice(sorted(self.service.tasks))
        due_in = timedelta(seconds=self.random.randrange(5, 90)) if self.random.random() < 0.04 else None
        self.service.accept(
            task,
            self._payload(),
            priority=self.random.choices((1, 2, 3), (2, 6, 1))[0],
            due_in=due_in,
            labels={"team": self.random.choice(("sre", "billing", "growth"))},
        )

    def _payload(self) -> object:
        match self.service.name:
            case "metrics":
                sample = metrics_pb2.Sample(metric="system.cpu.utilization", value=self.random.random())
                return metrics_pb2.IngestSamplesRequest(samples=[sample])
            case "notify":
                return notify_pb2.SendNotificationRequest(template_id="alert-fired", recipient_ids=["on-call"])
        return reports_pb2.RenderReportRequest(
            template_id="incident",
            title="CPU utilization above 80 % on build-1",
            facts={"host": "build-1", "duration": "4 min 12 s"},
            sections=[reports_pb2.Section(chart=reports_pb2.ChartSection(metric="system.cpu.utilization"))],
        )

    def _begin(self, kept: Kept) -> None:
        free = [each for each in self.service.workers.values() if len(each.operations) < each.concurrency]
        free = [each for each in free if not each.draining]
        if free:
            self.service.begin(kept, self.random.choice(free).name)

    def _move(self, kept: Kept) -> None:
        chance = self.random.random()
        slow = kept.metadata.task in {"reports.render_report", "reports.render_bulk"}
        if slow and chance < 0.28:
            percent = min(97, kept.metadata.progress.percent + self.random.randrange(3, 14))
            self.service.progress(kept, percent, STAGES[min(3, percent // 25)])
        elif chance < (0.33 if slow else 0.35):
            self._settle(kept)

    def _settle(self, kept: Kept) -> None:
        chance = self.random.random()
        error = a_status(*self.random.choice(ERRORS))
        if chance < 0.88:
            self.service.succeed(kept, self._response(kept))
        elif chance < 0.97 and kept.metadata.attempt < kept.metadata.max_attempts:
            wait = timedelta(seconds=self.random.randrange(1, 12))
            self.service.retry(kept, error, wait, lost=chance > 0.96)
        else:
            self.service.fail(kept, error)

    def _response(self, kept: Kept) -> object:
        if self.service.name != "reports":
            return None
        report = reports_pb2.Report(report_id=kept.id, title="Incident", media_type="application/pdf", charts=2)
        return reports_pb2.RenderReportResponse(report=report)


async def main(first_port: int) -> None:
    """Serve until the process is ended."""
    gateways = {name: FakeGateway(name) for name in ("metrics", "notify", "reports")}
    loads = {
        "metrics": Workload(gateways["metrics"].service, 1, 0.9),
        "notify": Workload(gateways["notify"].service, 2, 0.35),
        "reports": Workload(gateways["reports"].service, 3, 0.08),
    }
    for number, gateway in enumerate(gateways.values()):
        await gateway.start(f"127.0.0.1:{first_port + number}")
    loads["metrics"].hire(1, "threads", 8)
    loads["notify"].hire(2, "threads", 4)
    loads["reports"].hire(1, "prefork", 2)
    while True:
        for load in loads.values():
            load.step()
        if loads["metrics"].steps % 150 == 40:
            gateways["metrics"].service.publish_fact("waybill.metrics.alert.fired", "alerts/cpu-high")
        if loads["metrics"].steps % 150 == 140:
            gateways["metrics"].service.publish_fact("waybill.metrics.alert.resolved", "alerts/cpu-high")
            gateways["reports"].service.publish_fact("waybill.reports.report.completed", "reports/incident-cpu-high")
        await asyncio.sleep(STEP_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
