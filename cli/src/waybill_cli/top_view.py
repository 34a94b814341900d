"""One screen of `waybill top`: throughput, states, queues, workers, latest. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from waybill.admin.v1 import admin_pb2
from waybill_client import State, WaybillError

from waybill_cli import output as out
from waybill_cli.activity import Activity
from waybill_cli.failures import call_json
from waybill_cli.watch_views import change_text

_BLOCKS = " ▁▂▃▄▅▆▇█"
# Lines that are no rows: throughput and curve, states, blank lines and headings.
_FRAME_LINES = 10
_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """What the services answered, each asked at about the same time."""

    time: datetime
    queues: Sequence[admin_pb2.Queue] = ()
    workers: Sequence[admin_pb2.Worker] = ()
    problems: Mapping[str, WaybillError] = field(default_factory=dict)


def screen(sample: Sample, activity: Activity, now: float, height: int) -> RenderableType:
    """As many rows as fit: of queues and workers the busiest, of changes the latest."""
    rows = max(3 * _FEWEST, height - _FRAME_LINES - len(sample.problems))
    queues = sorted(sample.queues, key=lambda each: (-each.depth - each.in_flight, each.name))
    workers = sorted(sample.workers, key=lambda each: (-len(each.operations), each.name))
    shown_queues, shown_workers = _shares(len(queues), len(workers), rows)
    latest = list(activity.latest)[-max(_FEWEST, rows - shown_queues - shown_workers) :]
    return Group(
        _throughput(sample, activity, now),
        Text(_curve(activity.curve(now)), style="green"),
        _states(sample, activity, now),
        *_problems(sample.problems),
        Text(),
        _table(out.QUEUE_HEADINGS, [out.queue_row(each) for each in queues[:shown_queues]], len(queues)),
        Text(),
        _table(
            out.WORKER_HEADINGS, [out.worker_row(each, sample.time) for each in workers[:shown_workers]], len(workers)
        ),
        Text(),
        *(_fitted(change_text(change)) for change in reversed(latest)),
    )


def document(sample: Sample, activity: Activity, now: float) -> dict[str, Any]:
    """The same as JSON. Rates are per second, over the last five; `last_minute` counts what has happened, by kind."""
    told: dict[str, Any] = {
        "time": sample.time.isoformat(),
        "accept_rate": activity.rate(now, "accepted"),
        "end_rate": activity.ended(now),
        "last_minute": dict(activity.last_minute(now)),
        **out.answers_as_json(sample.queues, "queues"),
        **out.answers_as_json(sample.workers, "workers"),
    }
    if sample.problems:
        told["unavailable"] = {service: call_json(error) for service, error in sample.problems.items()}
    return told


def _throughput(sample: Sample, activity: Activity, now: float) -> Text:
    text = Text(f"{sample.time.astimezone():%H:%M:%S}  ", style="bold")
    text.append(f"{activity.rate(now, 'accepted'):.1f}/s accepted   ")
    text.append(f"{activity.ended(now):.1f}/s ended", style="green")
    failed = activity.rate(now, "failed")
    text.append(f"   {failed:.1f}/s failed", style="bold red" if failed else "dim")
    return text


def _states(sample: Sample, activity: Activity, now: float) -> Text:
    minute = activity.last_minute(now)
    text = Text()
    for name, count, style in (
        ("SCHEDULED or RETRYING", sum(each.waiting for each in sample.queues), out.style_of(State.SCHEDULED)),
        (State.QUEUED, sum(each.depth for each in sample.queues), out.style_of(State.QUEUED)),
        (State.RUNNING, sum(each.in_flight for each in sample.queues), out.style_of(State.RUNNING)),
    ):
        text.append(f"{count} ", style="bold").append(f"{name}   ", style=style)
    text.append("last minute: ", style="dim")
    for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED):
        text.append(f"{minute[state.lower()]} ", style="bold").append(f"{state}   ", style=out.style_of(state))
    text.append(f"{minute['retried']} ", style="bold").append("retried", style=out.style_of(State.RETRYING))
    return text


def _problems(problems: Mapping[str, WaybillError]) -> Iterator[Text]:
    """A line for each; services that say the same, as where the gateway itself is away, share one."""
    services: dict[str, list[str]] = {}
    for service, error in problems.items():
        services.setdefault(f"{error.code.name}: {error.message}", []).append(service)
    for said, names in services.items():
        yield _fitted(Text(f"{', '.join(names)}: {said}", style="red"))


def _shares(queues: int, workers: int, rows: int) -> tuple[int, int]:
    """Rows of queues and of workers; a third each at most, while the other and the changes want theirs."""
    third = max(_FEWEST, rows // 3)
    return min(queues, third), min(workers, third)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str | Text]], total: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for number, heading in enumerate(headings):
        table.add_column(
            heading, no_wrap=True, overflow="ellipsis", justify="right" if 0 < number < len(headings) - 1 else "left"
        )
    for row in rows:
        table.add_row(*row)
    if total > len(rows):
        table.add_row(Text(f"and {total - len(rows)} more", style="dim"))
    return table


def _curve(values: Sequence[int]) -> str:
    highest = max(values, default=0)
    if not highest:
        return _BLOCKS[1] * len(values)
    steps = len(_BLOCKS) - 2
    return "".join(_BLOCKS[1 + round(value / highest * steps)] for value in values) + f"  {highest}/s at most"


def _fitted(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
