"""Answers of a gateway as tables for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from chassis.redaction import shown
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text
from waybill.admin.v1 import admin_pb2
from waybill.operations.v1 import operations_pb2 as waybill_pb2
from waybill_client import State, contracts
from waybill_client.views import OperationView

from waybill_cli.failures import call_text
from waybill_cli.terminal import fitting_console
from waybill_cli.trace_tree import duration_text

_STATE_STYLES = {
    State.SCHEDULED: "blue",
    State.QUEUED: "cyan",
    State.RUNNING: "yellow",
    State.RETRYING: "magenta",
    State.SUCCEEDED: "green",
    State.FAILED: "bold red",
    State.CANCELLED: "dim",
    State.EXPIRED: "dim red",
}


@dataclass
class Output:
    """Prints messages as JSON, or what people read of them."""

    as_json: bool
    console: Console = field(default_factory=fitting_console)

    def json(self, value: object) -> None:
        """One JSON value on one line where a stream is printed, indented otherwise."""
        self.console.print(
            json.dumps(value, ensure_ascii=False, indent=2), soft_wrap=True, highlight=False, markup=False
        )

    def json_line(self, value: object) -> None:
        self.console.print(json.dumps(value, ensure_ascii=False), soft_wrap=True, highlight=False, markup=False)

    def text(self, text: str | Text) -> None:
        self.console.print(Text(text) if isinstance(text, str) else text, soft_wrap=True)

    def message(self, message: Message) -> None:
        """Any message, as JSON either way: there is nothing shorter to say of an unknown type."""
        self.json(contracts.to_json(shown(message)))

    def message_line(self, message: Message) -> None:
        """A message as one line of JSON."""
        self.json_line(contracts.to_json(shown(message)))

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for number, heading in enumerate(headings):
            table.add_column(heading, overflow="fold", no_wrap=number == 0)
        for row in rows:
            table.add_row(*row)
        self.console.print(table)


OPERATION_HEADINGS = ("operation", "state", "task", "queue", "attempt", "progress", "age")


def operation_row(operation: OperationView, now: datetime) -> Sequence[str | Text]:
    """One line under OPERATION_HEADINGS."""
    metadata = operation.metadata
    return (
        operation.name,
        state_text(operation.state),
        metadata.task,
        metadata.queue,
        f"{metadata.attempt}/{metadata.max_attempts}",
        progress_text(metadata),
        age_text(metadata.create_time, now),
    )


def operation_text(operation: OperationView) -> Text:
    """One operation with its attempts and how it ended."""
    metadata = operation.metadata
    text = Text(f"{operation.name}  ").append(state_text(operation.state)).append(f"  {metadata.task}\n")
    facts = {
        "queue": metadata.queue,
        "created": time_text(metadata.create_time) if metadata.HasField("create_time") else "",
        "due": time_text(metadata.schedule_time) if metadata.HasField("schedule_time") else "",
        "ended": time_text(metadata.end_time) if metadata.HasField("end_time") else "",
        "progress": progress_text(metadata),
        "parent": metadata.parent,
        "replays": metadata.replayed_from,
        "replayed by": metadata.replayed_by,
        "trace": metadata.trace_id,
    }
    for key, value in facts.items():
        if value:
            text.append(f"  {key:<12}", style="dim").append(f"{value}\n")
    for attempt in metadata.attempts:
        text.append(f"  attempt {attempt.number:<4}", style="dim").append(f"{_attempt_text(attempt)}\n")
    if operation.error is not None:
        text.append(f"  {call_text(operation.error)}\n", style="red")
    return text


def state_text(state: State) -> Text:
    """`RUNNING`, coloured."""
    return Text(state, style=style_of(state))


def style_of(state: State) -> str:
    """The colour of a state."""
    return _STATE_STYLES.get(state, "")


def progress_text(metadata: waybill_pb2.OperationMetadata) -> str:
    """`40 % drawing charts`; empty until the task has reported."""
    if not metadata.HasField("progress"):
        return ""
    return f"{metadata.progress.percent} % {metadata.progress.message}".strip()


QUEUE_HEADINGS = ("queue", "depth", "waiting", "in flight", "parked", "oldest", "accepted/s", "settled/s", "")


def queue_row(queue: admin_pb2.Queue) -> Sequence[str | Text]:
    """One line under QUEUE_HEADINGS. Parked are operations and plain messages together."""
    oldest = duration_text(queue.oldest_age.ToTimedelta()) if queue.HasField("oldest_age") else ""
    return (
        queue.name,
        str(queue.depth),
        str(queue.waiting),
        str(queue.in_flight),
        str(queue.parked_operations + queue.parked_messages),
        oldest,
        f"{queue.accept_rate:.2f}",
        f"{queue.settle_rate:.2f}",
        Text("paused", style="yellow") if queue.paused else "",
    )


WORKER_HEADINGS = ("worker", "pool", "concurrency", "running", "memory", "up", "heard of", "version", "contract", "")


def worker_row(worker: admin_pb2.Worker, now: datetime) -> Sequence[str | Text]:
    """One line under WORKER_HEADINGS."""
    return (
        worker.name,
        worker.pool,
        str(worker.concurrency),
        str(len(worker.operations)),
        f"{worker.memory_bytes / (1 << 20):.0f} MiB",
        age_text(worker.start_time, now),
        age_text(worker.heartbeat_time, now),
        worker.version,
        Text(worker.contract_hash or "-", style="yellow" if worker.contract_differs else ""),
        Text("draining", style="yellow") if worker.draining else "",
    )


DEAD_LETTER_HEADINGS = ("operation", "task", "attempts", "error", "age", "")


def dead_letter_row(letter: admin_pb2.DeadLetter, now: datetime) -> Sequence[str | Text]:
    """One line under DEAD_LETTER_HEADINGS."""
    return (
        letter.operation,
        letter.task,
        str(letter.attempts),
        Text(letter.error.message, style="red"),
        age_text(letter.end_time, now),
        f"replayed by {letter.replayed_by}" if letter.replayed_by else "",
    )


STATS_HEADINGS = ("from", "task", "state", "count", "attempts", "wait p50", "wait p95", "total p50", "total p95")


def stats_row(stats: admin_pb2.OperationStats) -> Sequence[str | Text]:
    """One line under STATS_HEADINGS."""
    return (
        f"{stats.start_time.ToDatetime(UTC).astimezone():%Y-%m-%d %H:%M}",
        stats.task,
        state_text(State.of(stats.state)),
        str(stats.count),
        str(stats.attempts),
        *(duration_text(each.ToTimedelta()) for each in (stats.wait.p50, stats.wait.p95)),
        *(duration_text(each.ToTimedelta()) for each in (stats.total.p50, stats.total.p95)),
    )


def answers_as_json(messages: Iterable[Message], key: str) -> dict[str, Any]:
    """`{key: [...]}` with every message as protobuf JSON."""
    return {key: [contracts.to_json(shown(message)) for message in messages]}


def age_text(since: Timestamp, now: datetime) -> str:
    """How long ago, to the tenth of a second at best."""
    return duration_text(max(timedelta(seconds=0), now - since.ToDatetime(UTC)))


def time_text(moment: Timestamp) -> str:
    """In local time."""
    return moment.ToDatetime(UTC).astimezone().isoformat(sep=" ", timespec="milliseconds")


def _attempt_text(attempt: waybill_pb2.Attempt) -> str:
    outcome = waybill_pb2.AttemptOutcome.Name(attempt.outcome).removeprefix("ATTEMPT_OUTCOME_").lower()
    shown = [time_text(attempt.begin_time), "running" if outcome == "unspecified" else outcome]
    if attempt.HasField("end_time"):
        shown.append(duration_text(attempt.end_time.ToDatetime(UTC) - attempt.begin_time.ToDatetime(UTC)))
    if attempt.HasField("error"):
        shown.append(attempt.error.message)
    return "  ".join([*shown, attempt.worker])
