"""Requests to a real HTTP server on loopback: to judged addresses, without redirects, bounded."""

import socket
import threading

import pytest
from chassis.errors import PermanentError, TransientError
from notify_service.allowance import Allowance
from notify_service.posting import MAX_BODY, Poster

LOOPBACK = Allowance.parse(["127.0.0.1"])


def resolver(*answers):
    """Answers each call with the next address, the last one for ever; `resolver.hosts` are those asked for."""
    waiting, hosts = list(answers), []

    def resolve(host, port, **_):
        hosts.append(host)
        address = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    resolve.hosts = hosts
    return resolve


def post(url, *, allowance=LOOPBACK, timeout_seconds=5.0, **given):
    return Poster(allowance, timeout_seconds, **given).post(url, {"content-type": "application/json"}, b'{"a": 1}')


def test_a_request_arrives_as_it_was_sent(receiver):
    """Path, query, headers and body; the answer comes back."""
    receiver.answers = [(202, {"Retry-After": "3"})]

    answer = post(receiver.url("/hook?a=b"))

    ((path, headers, body),) = receiver.requests
    assert (path, body, headers["content-type"]) == ("/hook?a=b", b'{"a": 1}', "application/json")
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert (answer.status, answer.headers["retry-after"]) == (202, "3")


def test_a_private_address_is_not_reached(receiver):
    """Permanent, and the error says what to set."""
    with pytest.raises(PermanentError, match="NOTIFY_WEBHOOK_ALLOW_PRIVATE") as caught:
        post(receiver.url(), allowance=Allowance())

    assert caught.value.reason == "WEBHOOK_ADDRESS_FORBIDDEN"
    assert receiver.requests == []


def test_a_name_is_resolved_once_and_the_judged_address_is_connected_to(receiver):
    """DNS rebinding: a second answer would have led elsewhere. The receiver still sees the name."""
    resolve = resolver("127.0.0.1", "127.0.0.2")

    post(receiver.url(host="hooks.example"), resolve=resolve)

    assert resolve.hosts == ["hooks.example"]
    assert receiver.requests[0][1]["host"] == f"hooks.example:{receiver.port}"


def test_a_name_that_changes_to_a_private_address_is_judged_anew(receiver):
    """Each request resolves for itself: what was public a moment ago is no permission."""
    poster = Poster(LOOPBACK, 5.0, resolve=resolver("127.0.0.1", "10.0.0.1"))
    poster.post(receiver.url(host="hooks.example"), {}, b"")

    with pytest.raises(PermanentError):
        poster.post(receiver.url(host="hooks.example"), {}, b"")

    assert len(receiver.requests) == 1


def test_a_redirect_is_not_followed(receiver):
    """The answer is the redirect itself."""
    receiver.answers = [(307, {"Location": receiver.url("/elsewhere")})]

    assert post(receiver.url()).status == 307
    assert len(receiver.requests) == 1


def test_the_certificate_is_that_of_the_name(tls_receiver, client_tls):
    """The connection goes to a judged address; the certificate is verified against the URL's host."""
    trusted = Poster(LOOPBACK, 5.0, resolve=resolver("127.0.0.1"), tls=client_tls)

    assert trusted.post(tls_receiver.url(host="receiver.test", scheme="https"), {}, b"").status == 204
    with pytest.raises(TransientError, match=r"other\.test|[Hh]ostname"):
        trusted.post(tls_receiver.url(host="other.test", scheme="https"), {}, b"")


def test_an_unknown_certificate_gets_no_request(tls_receiver):
    with pytest.raises(TransientError):
        post(tls_receiver.url(scheme="https"))

    assert tls_receiver.requests == []


def test_a_receiver_that_does_not_answer_is_given_up_in_time(receiver):
    receiver.released.clear()

    with pytest.raises(TransientError, match=r"0\.2 s") as caught:
        post(receiver.url(), timeout_seconds=0.2)

    assert caught.value.reason == "WEBHOOK_TIMEOUT"


@pytest.fixture
def raw_receiver():
    """Answers with the bytes that the test yields, one piece at a time."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def serve(pieces):
        def run():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                try:
                    for piece in pieces:
                        connection.sendall(piece)
                except OSError:
                    return

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield serve
    listener.close()
    for thread in threads:
        thread.join()


def test_a_receiver_that_drips_is_given_up_in_time(raw_receiver):
    """The timeout is for the whole, not for each byte."""
    paused = threading.Event()

    def drip():
        for _ in range(1_000):
            yield b"H"
            paused.wait(0.02)

    with pytest.raises(TransientError) as caught:
        post(raw_receiver(drip()), timeout_seconds=0.3)

    assert caught.value.reason in {"WEBHOOK_TIMEOUT", "WEBHOOK_UNREACHABLE"}


def test_an_endless_body_is_not_read(raw_receiver):
    """Nor does a body that breaks off undo the status."""

    def endless():
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"
        for _ in range(8):
            yield b"x" * MAX_BODY

    def broken():
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"

    assert post(raw_receiver(endless())).status == 200
    assert post(raw_receiver(broken())).status == 200


def test_what_is_not_http_is_worth_another_attempt(raw_receiver):
    with pytest.raises(TransientError) as caught:
        post(raw_receiver([b"220 mail.example.com ESMTP\r\n"]))

    assert caught.value.reason == "WEBHOOK_UNREACHABLE"


def test_a_receiver_that_is_not_there_is_worth_another_attempt():
    with pytest.raises(TransientError) as caught:
        post("http://127.0.0.1:1/")

    assert caught.value.reason == "WEBHOOK_UNREACHABLE"


def test_a_host_without_an_address_is_worth_another_attempt():
    """Name servers fail, too."""

    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")

    with pytest.raises(TransientError) as caught:
        post("http://hooks.example/", resolve=fail)

    assert caught.value.reason == "WEBHOOK_UNREACHABLE"


def test_a_proxy_of_the_environment_is_not_used(receiver, monkeypatch):
    """It would resolve the name by itself."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    assert post(receiver.url()).status == 204
