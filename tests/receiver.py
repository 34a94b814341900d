"""A webhook receiver on loopback: it answers as a test tells it, and keeps what it was sent."""

import base64
import secrets
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from waybill.notify.v1 import notify_pb2

WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """What a request is answered with."""

    status: int = 200
    headers: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Received:
    """One request."""

    headers: dict
    body: bytes


class Endpoint:
    """One path of the receiver. Its answers are used up one by one, the last for ever; without any it is 200."""

    def __init__(self, url):
        self.url = url
        self.secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self.received = []
        self._answers = [Answer()]
        self._changed = threading.Condition()
        self._let_go = threading.Event()
        self._let_go.set()

    @property
    def channel(self):
        """The channel of a recipient that is delivered here."""
        return notify_pb2.Channel(webhook=notify_pb2.WebhookChannel(url=self.url, secret=self.secret))

    def answers(self, *answers):
        with self._changed:
            self._answers = list(answers)
        return self

    def hold(self):
        """Leave requests without an answer until `let_go`."""
        self._let_go.clear()
        return self

    def let_go(self):
        self._let_go.set()

    def wait_for(self, count):
        """The first `count` requests, once they have come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.received) >= count, WAIT_SECONDS):
                raise TimeoutError(f"{self.url} was sent {len(self.received)} of {count} requests")
            return self.received[:count]

    def take(self, request):
        with self._changed:
            self.received.append(request)
            self._changed.notify_all()
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self._let_go.wait(WAIT_SECONDS)
        return answer


class Receiver:
    """`with Receiver() as receiver: endpoint = receiver.endpoint()`."""

    def __init__(self, host="127.0.0.1"):
        self._endpoints = {}
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"{host}:{self._server.server_port}"

    def endpoint(self):
        path = f"/{secrets.token_hex(4)}"
        self._endpoints[path] = Endpoint(f"http://{self.address}{path}")
        return self._endpoints[path]

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        for endpoint in self._endpoints.values():
            endpoint.let_go()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self):
        endpoints = self._endpoints

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = endpoints[self.path].take(Received(headers, body))
                try:
                    self.send_response(answer.status)
                    for name, value in {"content-length": "0", **answer.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                except ConnectionError:
                    self.close_connection = True  # whoever asked was killed meanwhile

            def log_message(self, *_):
                """Requests are kept, not printed."""

        return Handler
