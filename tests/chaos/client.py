"""A client of the chaos service as clients should be: it repeats what was not answered, with the same request_id."""

import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta

import grpc
from chaos_service.contract import Work
from chaos_service.gateway import ChaosStub

#: Answers after which nobody knows whether the operation was accepted, or that ask to come again.
AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
CALL_SECONDS = 8.0
PATIENCE_SECONDS = 90.0
PAUSE_SECONDS = 0.05
IN_FLIGHT = 64


class Client:
    """Submits through the gateway and keeps what was accepted, by request_id. Safe to use from several threads."""

    def __init__(self, channel, rng):
        self._submit = ChaosStub(channel).Submit
        self._rng = rng
        self._lock = threading.Lock()
        self.accepted: dict[str, str] = {}
        #: Codes of the answers after which it came again.
        self.repeats: list[grpc.StatusCode] = []

    def work(self, task, *, after=None, **fields):
        """A request for this task with a request_id of its own; `after`: not due before that much time has passed."""
        with self._lock:
            request_id = f"{self._rng.getrandbits(64):016x}"
        work = Work(request_id=request_id, task=f"chaos.{task}", **fields)
        if after is not None:
            work.options.schedule_time.FromDatetime(datetime.now(UTC) + timedelta(seconds=after))
        return work

    def submit(self, task, **fields):
        """The name of the operation, once it is accepted."""
        return self.insist(self.work(task, **fields))

    def insist(self, work, patience=PATIENCE_SECONDS):
        """Repeat the request until it is answered. Raises grpc.RpcError for a refusal, or when patience ends."""
        pause, until = threading.Event(), time.monotonic() + patience
        while True:
            try:
                return self.told(work, self._submit(work, timeout=CALL_SECONDS))
            except grpc.RpcError as error:
                if error.code() not in AGAIN or time.monotonic() > until:
                    raise
                self.repeats.append(error.code())
                pause.wait(PAUSE_SECONDS)

    def submit_many(self, task, count, **fields):
        """Names of as many operations, with `IN_FLIGHT` requests on their way at a time."""
        names, flying = [], deque()
        for _ in range(count):
            work = self.work(task, **fields)
            flying.append((work, self._submit.future(work, timeout=CALL_SECONDS)))
            if len(flying) >= IN_FLIGHT:
                names.append(self._landed(*flying.popleft()))
        names.extend(self._landed(*each) for each in flying)
        return names

    def _landed(self, work, future):
        try:
            return self.told(work, future.result())
        except grpc.RpcError as error:
            if error.code() not in AGAIN:
                raise
            self.repeats.append(error.code())
            return self.insist(work)

    def told(self, work, operation):
        """One request_id is one operation, whatever happened between the two answers."""
        with self._lock:
            first = self.accepted.setdefault(work.request_id, operation.name)
        assert first == operation.name, f"request {work.request_id} is {first} and {operation.name}"
        return operation.name


class Load(threading.Thread):
    """Submits one operation after another until the block ends: some at once, some scheduled, some that retry."""

    def __init__(self, client, rng, pause=0.004):
        super().__init__(name="load", daemon=True)
        self._client, self._rng, self._pause = client, rng, pause
        self._over = threading.Event()
        self._changed = threading.Condition()
        self._count = 0
        self._error = None

    def __enter__(self):
        self.start()
        self.wait_for(10)
        return self

    def __exit__(self, *_):
        self._over.set()
        self.join()
        if self._error is not None:
            raise self._error

    def wait_for(self, more, timeout=60.0):
        """Until as many more have been accepted."""
        with self._changed:
            goal = self._count + more
            assert self._changed.wait_for(lambda: self._count >= goal or self._error, timeout), (
                f"{self._count} accepted, {goal} wanted; the last answers were {self._client.repeats[-5:]}"
            )

    def run(self):
        try:
            while not self._over.wait(self._pause):
                self._one()
        except grpc.RpcError as error:
            self._error = error
        with self._changed:
            self._changed.notify_all()

    def _one(self):
        kind = self._rng.random()
        if kind < 0.1:
            self._client.submit("retry_until", times=self._rng.randint(1, 2), delay_ms=self._rng.randint(0, 300))
        elif kind < 0.2:
            self._client.submit("write_effect", after=self._rng.random())
        else:
            self._client.submit("write_effect")
        with self._changed:
            self._count += 1
            self._changed.notify_all()
