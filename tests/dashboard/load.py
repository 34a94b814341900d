"""Work that goes on while processes are killed: a client that repeats what was not answered."""

import itertools
import threading

import grpc

from tests import samples

AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
PAUSE_SECONDS = 0.03
CALL_SECONDS = 10


class Load:
    """Ingestions, one after the other, until the block ends; the names of those that were accepted."""

    def __init__(self, stub):
        self.accepted = []
        self._stub = stub
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._thread.join()

    def _run(self):
        for number in itertools.count():
            if self._stopped.wait(PAUSE_SECONDS):
                return
            self.accepted.append(self._accept(samples.batch("killed", 1.0, request_id=f"killed-{number}")))

    def _accept(self, request):
        while True:
            try:
                return self._stub.IngestSamples(request, timeout=CALL_SECONDS, wait_for_ready=True).name
            except grpc.RpcError as error:
                if error.code() not in AGAIN:
                    raise
                self._stopped.wait(PAUSE_SECONDS)
