"""Following a service's events as any client does: Subscribe, and a cursor to go on from."""

import threading
import time

import grpc
from waybill.events.v1 import events_pb2

WAIT_SECONDS = 40.0
PAUSE_SECONDS = 0.2


class Followed:
    """One subscription, open once this is made. Iterating gives events; `until` waits for a certain one.

    A stream that an outage ends goes on from its cursor.
    """

    def __init__(self, stub, service, types, cursor="", timeout=WAIT_SECONDS):
        self._what = f"{service}: {', '.join(types)}"
        self._stub, self._service, self._types = stub, service, types
        self._until = time.monotonic() + timeout
        self.seen = []
        self.cursor = cursor
        self._subscribe()

    def __iter__(self):
        return self

    def __next__(self):
        while True:
            try:
                for answer in self._call:
                    self.cursor = answer.cursor
                    if answer.HasField("event"):
                        self.seen.append(answer.event)
                        return answer.event
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                self._subscribe()
            else:
                raise StopIteration

    def _subscribe(self):
        """Raises RpcError when there is no stream in time."""
        request = events_pb2.SubscribeRequest(service=self._service, types=self._types, cursor=self.cursor)
        while True:
            self._call = self._stub.Subscribe(request, timeout=self._left(), wait_for_ready=True)
            try:
                first = next(self._call)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or not self._left():
                    raise
                threading.Event().wait(PAUSE_SECONDS)
                continue
            assert not first.HasField("event"), "the first answer says where the stream begins"
            self.cursor = first.cursor
            return

    def _left(self):
        return max(0.0, self._until - time.monotonic())

    def until(self, kind, wanted=lambda _: True):
        """The data, of this message type, of the next event for which `wanted(data)` holds. Raises TimeoutError."""
        event, data = self.event(kind, wanted)
        del event
        return data

    def event(self, kind, wanted=lambda _: True):
        """As `until`: the event and its data."""
        try:
            for event in self:
                data = kind()
                if event.data.Unpack(data) and wanted(data):
                    return event, data
        except grpc.RpcError as error:
            types = [event.type for event in self.seen]
            raise TimeoutError(f"{self._what}: {error.code().name}; there came {types}") from None
        raise TimeoutError(f"{self._what}: the stream has ended")

    def operation(self, name):
        """The change that a followed event tells of this operation."""
        return self.until(events_pb2.OperationChanged, lambda change: change.operation == name)

    def close(self):
        self._call.cancel()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
