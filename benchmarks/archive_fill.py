"""Fill an archive with operations of a busy week: `archive_fill.py FOLDER COUNT`."""

from __future__ import annotations

import random
import sqlite3
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa
from chassis import history
from chassis.archive_calls import Unarchived
from chassis.archive_schema import LABELS, OPERATIONS, label_rows, row_of
from chassis.database import open_database
from chassis.facts import facts_of
from chassis.telemetry import now_us
from google.protobuf.any_pb2 import Any as AnyMessage
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2
from waybill.store.v1 import store_pb2

WEEK_US = timedelta(days=7) // timedelta(microseconds=1)
KEEP_US = 30 * (WEEK_US // 7)
BATCH = 5_000
TASKS = ["shop.render_invoice"] * 6 + ["shop.send_receipt"] * 3 + ["shop.sync_stock", "shop.close_books"]
TEAMS = ["sre", "sales", "stock", "books"]
#: One operation in twenty-five fails, one in a hundred is cancelled or expires.
ENDS = [ops.OPERATION_STATE_FAILED] * 4 + [ops.OPERATION_STATE_CANCELLED] + [ops.OPERATION_STATE_SUCCEEDED] * 95
FAILURES = [
    ("HTTP_503", "the stock service answered 503: upstream connect error, reset before headers"),
    ("TIMEOUT", "timeout: no answer from 10.0.3.17:5432 within 5 s"),
    ("BAD_ADDRESS", "recipient refused: 550 5.1.1 no such user"),
    ("DISK_FULL", "cannot write the document: no space left on device"),
]


def operation(number: int, count: int, start_us: int, choose: random.Random) -> Unarchived:
    """An operation as the store has it at its end: the `number`th of `count` in a week."""
    created = start_us + WEEK_US * number // count
    random_bits = choose.getrandbits(74)
    uuid = created // 1000 << 80 | 0x7 << 76 | (random_bits >> 62) << 64 | 0x2 << 62 | random_bits & ((1 << 62) - 1)
    trace = f"{choose.getrandbits(128):032x}"
    task, state = choose.choice(TASKS), choose.choice(ENDS)
    record = store_pb2.OperationRecord(
        id=str(UUID(int=uuid)),
        task=task,
        request_id=f"order-{number:08d}",
        labels={"team": choose.choice(TEAMS), "customer": f"c{choose.randrange(20_000)}"},
    )
    record.root = record.effect_id = record.id
    record.trace.trace_id = bytes.fromhex(trace)
    record.request.Pack(reports_pb2.RenderReportRequest(title=f"Order {number}", template_id="invoice"))
    begun, ended = created + choose.randrange(1_000, 900_000), created + choose.randrange(1_000_000, 30_000_000)
    worker = f"shop@host-{choose.randrange(8)}:4711"
    stored = {
        "rec": record.SerializeToString(),
        "task": task,
        "q": "shop.bulk" if task == "shop.close_books" else "shop.default",
        "pr": 2,
        "max": 5,
        "st": state,
        "ct": created,
        "et": ended,
        "qt": created,
        "start": begun,
        "bt": begun,
        "at": 1,
        "w": worker,
        "sp": trace[:16],
        "tr": f"{trace}/{trace[16:]}",
        "xt": 0,
        "ks": KEEP_US,
        "kf": KEEP_US,
        "a1": f"{begun}|{trace[:16]}|{worker}",
        "a1z": f"{ended}|1",
    }
    if state == ops.OPERATION_STATE_SUCCEEDED:
        result = AnyMessage()
        result.Pack(reports_pb2.RenderReportResponse())
        stored["res"] = result.SerializeToString()
    else:
        reason, message = choose.choice(FAILURES)
        stored |= {"ec": 14, "er": reason, "em": message, "a1c": f"14|{reason}|{message}"}
    fields = {
        name.encode(): value
        if isinstance(value, bytes)
        else str(int(value) if isinstance(value, int) else value).encode()
        for name, value in stored.items()
    }
    return Unarchived(record.id, fields)


def batches(count: int) -> Iterator[list[Unarchived]]:
    """All operations, oldest first."""
    choose = random.Random(7)  # noqa: S311 (the same week in every run)
    start_us = now_us() - WEEK_US
    for begin in range(0, count, BATCH):
        yield [operation(number, count, start_us, choose) for number in range(begin, min(count, begin + BATCH))]


def _hurry(connection: sqlite3.Connection, _record: object) -> None:
    """Whoever is interrupted here starts anew; the cache holds the index of the labels."""
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000"):
        connection.execute(f"PRAGMA {pragma}")


def fill(folder: Path, count: int) -> str:
    """The database's URL. The rows are those that `Archive.keep` writes; the indexes are made after them."""
    url = f"sqlite:///{folder / 'shop.db'}"
    metadata = sa.MetaData()
    history.tables(metadata)
    engine = open_database(url, metadata)
    engine.dispose()
    sa.event.listen(engine, "connect", _hurry)
    with engine.begin() as connection:
        for table in metadata.tables.values():
            for index in table.indexes:
                index.drop(connection)
        for batch in batches(count):
            pairs = [(item, facts_of(item.stored)) for item in batch]
            connection.execute(sa.insert(OPERATIONS), [row_of(*pair) for pair in pairs])
            connection.execute(sa.insert(LABELS), [row for pair in pairs for row in label_rows(*pair)])
        for table in metadata.tables.values():
            for index in table.indexes:
                index.create(connection)
    engine.dispose()
    open_database(url, metadata).dispose()
    return url


if __name__ == "__main__":
    print(fill(Path(sys.argv[1]), int(sys.argv[2])))
