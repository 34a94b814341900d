"""Work that goes on while processes are killed: a client that repeats what was not answered."""

import itertools
import threading

import grpc
import httpx
from google.protobuf.json_format import MessageToJson

from tests import samples

AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
PAUSE_SECONDS = 0.03
CALL_SECONDS = 10


class Load:
    """Ingestions, one after the other, until the block ends; `accepted` has their names, by request_id."""

    def __init__(self, stub):
        self.accepted = {}
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
            request = samples.batch("killed", 1.0, request_id=f"killed-{number}")
            self.accepted[request.request_id] = self._accept(request)

    def _accept(self, request):
        while True:
            try:
                return self._stub.IngestSamples(request, timeout=CALL_SECONDS, wait_for_ready=True).name
            except grpc.RpcError as error:
                if error.code() not in AGAIN:
                    raise
                self._stopped.wait(PAUSE_SECONDS)


class HttpLoad(Load):
    """The same through the dashboard; `refused` has every answer that is none of acceptance."""

    def __init__(self, page):
        super().__init__(None)
        self.refused = []
        self._url = f"{page}/api/v1/metrics/ingest-samples"

    def _accept(self, request):
        headers = {"Content-Type": "application/json", "Idempotency-Key": request.request_id}
        while True:
            try:
                answer = httpx.post(self._url, content=MessageToJson(request), headers=headers, timeout=CALL_SECONDS)
            except httpx.TransportError:
                # Nobody listens, or nobody took the connection up before the end.
                self._stopped.wait(PAUSE_SECONDS)
                continue
            if answer.status_code == httpx.codes.ACCEPTED:
                return answer.json()["name"]
            self.refused.append(answer.text)
            self._stopped.wait(PAUSE_SECONDS)
