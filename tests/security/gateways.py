"""What a gateway serves, and what its service has stored."""

import sqlite3
from contextlib import closing

from chassis.testing import contracts
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

#: Of the traces receiver, which no gateway is.
ELSEWHERE = ("waybill.traces.", "opentelemetry.proto.collector.trace.")


def methods():
    """Every method that some gateway serves."""
    return {name: method for name, method in contracts.methods().items() if not name.startswith(ELSEWHERE)}


def served_by(channel):
    """The methods that a gateway says it has, by reflection."""
    database = ProtoReflectionDescriptorDatabase(channel)
    found = set()
    for service in database.get_services():
        described = FileDescriptorProto()
        described.CopyFrom(database.FindFileContainingSymbol(service))
        package, _, name = service.rpartition(".")
        (kind,) = [each for each in described.service if each.name == name and described.package == package]
        found |= {f"{service}/{method.name}" for method in kind.method}
    return found


def stored(harness, service):
    """What of a service lies in Redis and in its database, as far as a caller can have brought it there."""
    store = harness.store(service)
    keys = {key.decode() for key in store.client.scan_iter(store.keys.named("*"), count=1_000)}
    kept = {key for key in keys if any(f":{kind}:" in key for kind in ("op", "q", "idem", "due", "kids"))}
    with closing(
        sqlite3.connect(f"file:{harness.state_dir / service / f'{service}.db'}?mode=ro", uri=True)
    ) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
    return kept, rows, store.client.xlen(store.keys.named("events"))
