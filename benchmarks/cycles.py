"""The store's calls without a worker: accept, fetch, begin and settle of ten operations, as one caller does it."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from chassis import store_calls
from chassis.acceptance import Provenance, Submission, acceptance, new_operation_id
from chassis.operations import CHUNK
from chassis.store import Store
from chassis.store_calls import Call, Verdict
from driving import TEXT
from google.protobuf.wrappers_pb2 import StringValue
from noop_service.tasks import do_nothing
from waybill.operations.v1 import operations_pb2 as ops

R = TypeVar("R")

#: Operations of one cycle.
SIZE = 10
#: As a gateway accepts a batch: larger calls leave more holes in the server's memory than real ones do.
FILL_BATCH = CHUNK


class Run(Protocol):
    """Runs a call and takes note of what it cost."""

    def __call__(self, call: Call[R]) -> R: ...


def cycle(run: Run, base: str) -> None:
    """SIZE operations from accept to SUCCEEDED; `base` must be new. As many wait afterwards as before."""
    run(accept(SIZE))
    fetched = run(store_calls.fetch(SIZE, ["noop.default"], [do_nothing.name], session=base))
    settlements = []
    for delivery in fetched.deliveries:
        token = delivery.delivery
        run(store_calls.begin(delivery.operation_id, token, worker="bench", token=token, span=b"12345678"))
        settlements.append(store_calls.Settlement(delivery.operation_id, token, ops.ATTEMPT_OUTCOME_SUCCEEDED))
    states = run(store_calls.settle(settlements))
    if states != [ops.OPERATION_STATE_SUCCEEDED] * SIZE:
        raise RuntimeError(f"not every attempt settled: {states}")


def fill(store: Store, waiting: int) -> None:
    """From here on the server neither waits for the disk nor rewrites its file, which would hide what scripts take."""
    store.client.config_set("appendfsync", "no")
    store.client.config_set("auto-aof-rewrite-percentage", 0)
    for first in range(0, waiting, FILL_BATCH):
        store.run(accept(min(FILL_BATCH, waiting - first)))


def accept(count: int) -> Call[list[Verdict]]:
    """One call that accepts so many: the same operation, each under an id of its own."""
    item = acceptance(Submission(do_nothing, StringValue(value=TEXT)), Provenance(principal="", method=""))
    call = store_calls.accept([item])
    stride, old = int(call.arguments[0]), item.record.id
    arguments: list[Any] = [*call.arguments[:-stride]]
    for _ in range(count):
        new = new_operation_id()
        arguments += [_renamed(value, old, new) for value in call.arguments[-stride:]]
    return Call(call.script, arguments, call.read)


def _renamed(value: str | bytes | int, old: str, new: str) -> str | bytes | int:
    if isinstance(value, bytes):
        return value.replace(old.encode(), new.encode())
    return value.replace(old, new) if isinstance(value, str) else value


def script_us(store: Store) -> int:
    """Microseconds in scripts since the start, by the server's own count."""
    return int(store.client.info("commandstats").get("cmdstat_evalsha", {}).get("usec", 0))
