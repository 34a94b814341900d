"""What the tests of notify share: values with sensible defaults, databases, and real servers to deliver to."""

import asyncio
import base64
import hashlib
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa
from aiosmtpd.smtp import SMTP, AuthResult
from chassis.database import open_database
from chassis.errors import NotFound
from chassis.statuses import STATUS_DETAILS_KEY, to_status
from chassis.testing.loops import grpc_loop
from notify_service.schema import METADATA
from notify_service.settings import NotifySettings
from notify_service.store import Store
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.notify.v1 import notify_pb2
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes....").decode()
CERTIFICATE = Path(__file__).parent / "certificates" / "server.pem"


@pytest.fixture(scope="session")
def secret():
    return SECRET


@pytest.fixture(scope="session")
def a_template():
    def make(template_id="welcome", **given):
        fields = {"subject": "Hello {{ name }}", "text": "Dear {{ recipient.display_name }}, welcome.", **given}
        return notify_pb2.Template(template_id=template_id, **fields)

    return make


@pytest.fixture(scope="session")
def an_email():
    def make(address="ada@example.com"):
        return notify_pb2.Channel(email=notify_pb2.EmailChannel(address=address))

    return make


@pytest.fixture(scope="session")
def a_webhook():
    def make(url="https://example.com/hook", secret=SECRET):
        return notify_pb2.Channel(webhook=notify_pb2.WebhookChannel(url=url, secret=secret))

    return make


@pytest.fixture(scope="session")
def a_recipient(an_email):
    def make(recipient_id="ada", *channels, **given):
        fields = {"display_name": "Ada Lovelace", "channels": channels or [an_email()], **given}
        return notify_pb2.Recipient(recipient_id=recipient_id, **fields)

    return make


@pytest.fixture(scope="session")
def a_subscription():
    def make(subscription_id="on-fire", **given):
        fields = {"event_type": "waybill.metrics.alert.fired", "template_id": "welcome", "recipient_ids": ["ada"]}
        return notify_pb2.EventSubscription(subscription_id=subscription_id, **{**fields, **given})

    return make


@pytest.fixture
def anyio_backend():
    """Tests that are coroutines, `pytest.mark.anyio`, run on asyncio."""
    return "asyncio", {"loop_factory": grpc_loop}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The settings of a service whose state lies in a temporary folder."""

    def make(**given):
        monkeypatch.setenv("WAYBILL_STATE_DIR", str(tmp_path / "state"))
        return NotifySettings(**given)

    return make


@pytest.fixture
def notify_store(database_url) -> Iterator[Store]:
    """An empty store, on each kind of database that the service runs on."""
    engine = open_database(database_url, METADATA)
    yield Store(engine)
    engine.dispose()


@pytest.fixture
def opened(notify_store, monkeypatch):
    """The store that the tasks of this process find."""
    monkeypatch.setattr("notify_service.store.opened", lambda: notify_store)
    return notify_store


@pytest.fixture
def owed(notify_store):
    """Type and subject of every event that the store owes."""

    def events():
        with notify_store.engine.connect() as connection:
            rows = connection.execute(sa.select(METADATA.tables["outbox"])).mappings()
            return [(row["type"], row["subject"]) for row in rows]

    return events


class LoopThread:
    """An event loop in a thread, for servers that a blocking test talks to."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def loop_thread():
    """An event loop that runs beside the tests of a module."""
    running = LoopThread()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def server_tls():
    """What a server shows: a certificate for receiver.test, localhost and 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_suffix(".key"))
    return context


@pytest.fixture(scope="session")
def client_tls():
    """What trusts that certificate and no other."""
    return ssl.create_default_context(cafile=CERTIFICATE)


class MailHandler:
    """Keeps every mail; `replies` answers a command otherwise than the server would."""

    def __init__(self):
        self.mails = []
        self.replies = {}
        self.logins = []

    async def handle_MAIL(self, server, session, envelope, address, options):
        envelope.mail_from = address
        return self.replies.get("MAIL", "250 OK")

    async def handle_RCPT(self, server, session, envelope, address, options):
        reply = self.replies.get("RCPT", "250 OK")
        if reply.startswith("2"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return self.replies.get("DATA", f"250 OK queued as {len(self.mails)}")

    def authenticate(self, server, session, envelope, mechanism, data):
        self.logins.append((data.login.decode(), data.password.decode()))
        known = data.password == b"right"
        # Handled: the reply has been sent.
        return AuthResult(success=known, handled=known)


@pytest.fixture
def mail_server(loop_thread):
    """Starts an SMTP server; gives its handler, with the port. Keywords are aiosmtpd's; `tls`: from the start."""
    servers = []

    def start(*, tls=None, **options):
        handler = MailHandler()
        if options.get("auth_required"):
            options["authenticator"] = handler.authenticate

        async def listen():
            return await loop_thread.loop.create_server(
                lambda: SMTP(handler, loop=loop_thread.loop, **options), "127.0.0.1", 0, ssl=tls
            )

        servers.append(loop_thread.run(listen()))
        handler.port = servers[-1].sockets[0].getsockname()[1]
        return handler

    yield start
    for server in servers:
        loop_thread.loop.call_soon_threadsafe(server.close)


class Receiver(ThreadingHTTPServer):
    """Receives webhooks: keeps requests, and answers with `answers` one after the other, the last one for ever."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), ReceiverHandler)
        self.requests = []
        # Set by each request.
        self.arrived = threading.Event()
        self.answers = [(204, {})]
        # Answers wait for it.
        self.released = threading.Event()
        self.released.set()

    @property
    def port(self):
        return self.server_address[1]

    def url(self, path="/hook", host="127.0.0.1", scheme="http"):
        return f"{scheme}://{host}:{self.port}{path}"


class ReceiverHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers, body))
        self.server.arrived.set()
        self.server.released.wait(10)
        answers = self.server.answers
        status, fields = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    yield from _serving(Receiver())


@pytest.fixture
def tls_receiver(server_tls):
    server = Receiver()
    server.socket = server_tls.wrap_socket(server.socket, server_side=True)
    yield from _serving(server)


def _serving(server):
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


class FakeReports(reports_pb2_grpc.ReportsServiceServicer, events_pb2_grpc.EventServiceServicer):
    """Holds reports and events that a test adds, and serves them as the contracts say."""

    def __init__(self):
        self.reports, self.contents = {}, {}
        self.events = []

    def add(self, report_id, content, **given):
        fields = {
            "title": "Incident",
            "filename": f"{report_id}.pdf",
            "media_type": "application/pdf",
            "size_bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        self.reports[report_id] = reports_pb2.Report(report_id=report_id, **{**fields, **given})
        self.contents[report_id] = content

    def publish(self, data, *, event_id="e1", times=1):
        event = events_pb2.Event(id=event_id, source="/waybill/reports", type="waybill.reports.report.completed")
        event.data.Pack(data)
        self.events += [event] * times

    async def Subscribe(self, request, context):
        sent = int(request.cursor or 0)
        yield events_pb2.SubscribeResponse(cursor=str(sent))
        while True:
            for number, event in enumerate(self.events[sent:], start=sent + 1):
                sent = number
                yield events_pb2.SubscribeResponse(event=event, cursor=str(number))
            await asyncio.sleep(0.02)

    async def GetReport(self, request, context):
        if request.report_id not in self.reports:
            error = NotFound(f"report {request.report_id!r} does not exist", reason="REPORT_NOT_FOUND")
            status = to_status(error, "reports")
            context.set_trailing_metadata(((STATUS_DETAILS_KEY, status.SerializeToString()),))
            await context.abort(error.code, error.message)
        return self.reports[request.report_id]

    async def DownloadReport(self, request, context):
        content = self.contents[request.report_id]
        yield reports_pb2.DownloadReportResponse(report=self.reports[request.report_id], chunk=content[:1_000])
        for begin in range(1_000, len(content), 1_000):
            yield reports_pb2.DownloadReportResponse(chunk=content[begin : begin + 1_000])


@pytest.fixture(scope="module")
def reports_service(loop_thread):
    """The fake, served; `address` is where."""
    fake = FakeReports()

    async def serve():
        server = grpc.aio.server()
        reports_pb2_grpc.add_ReportsServiceServicer_to_server(fake, server)
        events_pb2_grpc.add_EventServiceServicer_to_server(fake, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, f"127.0.0.1:{port}"

    server, fake.address = loop_thread.run(serve())
    yield fake
    loop_thread.run(server.stop(None))


@pytest.fixture
def reports(reports_service):
    """The fake, without the reports of earlier tests."""
    reports_service.reports.clear()
    reports_service.contents.clear()
    return reports_service
