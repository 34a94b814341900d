"""How the services stand at one moment, as their gateways say it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from grpc_health.v1 import health_pb2
from waybill.admin.v1 import admin_pb2

from dashboard_service.clients import PAGE_TIMEOUT, Answers, Clients
from dashboard_service.problems import Problem

Health = Literal["serving", "not serving", "unreachable"]


@dataclass(frozen=True, slots=True)
class Sample:
    """Per service; one that did not answer is missing from a mapping and named in `problems`."""

    at: datetime
    monotonic: float
    health: Mapping[str, Health]
    queues: Mapping[str, Sequence[admin_pb2.Queue]]
    workers: Mapping[str, Sequence[admin_pb2.Worker]]
    dead_letters: Mapping[str, int]
    # What was asked (`queues`, `workers`, `dead letters`) to service to why it was not answered.
    problems: Mapping[str, Mapping[str, Problem]]

    @property
    def dead_total(self) -> int:
        return sum(self.dead_letters.values())


def take(clients: Clients, letters: Mapping[str, int] | None = None, standing: Sample | None = None) -> Sample:
    """Ask every service everything at the same time, but what is known: a browser that is open asks often.

    Args:
        clients: whom to ask.
        letters: how many dead letters each has; to count them a service looks through its archive.
        standing: whose health and workers still hold.
    """
    seconds = PAGE_TIMEOUT.total_seconds()
    asked_queues = clients.ask(
        lambda each: each.queues.ListQueues.future(admin_pb2.ListQueuesRequest(service=each.service), timeout=seconds)
    )
    health, workers = (standing.health, _workers_of(standing)) if standing else _ask_how_they_stand(clients, seconds)
    counted = Answers(letters, {}) if letters is not None else _count_letters(clients)
    queues = asked_queues.answers()
    return Sample(
        at=datetime.now(UTC),
        monotonic=time.monotonic(),
        health=health,
        queues={service: answer.queues for service, answer in queues.by_service.items()},
        workers=workers.by_service,
        dead_letters=counted.by_service,
        problems={"queues": queues.problems, "workers": workers.problems, "dead letters": counted.problems},
    )


def _workers_of(sample: Sample) -> Answers[Sequence[admin_pb2.Worker]]:
    return Answers(sample.workers, sample.problems["workers"])


def _ask_how_they_stand(
    clients: Clients, seconds: float
) -> tuple[Mapping[str, Health], Answers[Sequence[admin_pb2.Worker]]]:
    asked_health = clients.ask(lambda each: each.health.Check.future(health_pb2.HealthCheckRequest(), timeout=seconds))
    asked_workers = clients.ask(
        lambda each: each.workers.ListWorkers.future(
            admin_pb2.ListWorkersRequest(service=each.service), timeout=seconds
        )
    )
    answers = asked_workers.answers()
    workers = {service: answer.workers for service, answer in answers.by_service.items()}
    return _health(asked_health.answers()), Answers(workers, answers.problems)


def _count_letters(clients: Clients) -> Answers[int]:
    asked = clients.ask(
        lambda each: each.dead_letters.ListDeadLetters.future(
            admin_pb2.ListDeadLettersRequest(service=each.service, page_size=1), timeout=PAGE_TIMEOUT.total_seconds()
        )
    ).answers()
    return Answers({service: answer.total for service, answer in asked.by_service.items()}, asked.problems)


def _health(answers: Answers[health_pb2.HealthCheckResponse]) -> dict[str, Health]:
    found: dict[str, Health] = {
        service: "serving" if answer.status == health_pb2.HealthCheckResponse.SERVING else "not serving"
        for service, answer in answers.by_service.items()
    }
    for service, problem in answers.problems.items():
        found[service] = "not serving" if problem.code == "UNIMPLEMENTED" else "unreachable"
    return dict(sorted(found.items()))
