"""With TLS a client trusts the authority that it is given, shows its certificate, and refuses another's gateway."""

from concurrent import futures
from pathlib import Path

import grpc
import pytest
import waybill_client
from google.longrunning import operations_pb2, operations_pb2_grpc

FILES = Path(__file__).resolve().parents[2] / "shared/tests/certificates"
NAME = "operations/reports/1"


class Knowing(operations_pb2_grpc.OperationsServicer):
    """Answers with the name of whoever asks."""

    def GetOperation(self, request, context):
        (caller,) = context.auth_context()["x509_common_name"]
        return operations_pb2.Operation(name=f"{request.name} for {caller.decode()}")


@pytest.fixture
def address():
    """A gateway that wants certificates of its own authority."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    operations_pb2_grpc.add_OperationsServicer_to_server(Knowing(), server)
    pair = ((FILES / "reports.key").read_bytes(), (FILES / "reports.pem").read_bytes())
    authority = (FILES / "ca.pem").read_bytes()
    credentials = grpc.ssl_server_credentials([pair], root_certificates=authority, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_both_sides_know_each_other(address):
    """Mutual TLS by three PEM files."""
    tls = waybill_client.Tls(FILES / "ca.pem", FILES / "alice.pem", FILES / "alice.key")

    with waybill_client.connect(address, tls=tls) as client:
        assert client.operations.get(NAME).name == f"{NAME} for alice"


def test_a_name_that_is_not_in_the_certificate_is_refused(address):
    """`server_name` is what the certificate must be for."""
    tls = waybill_client.Tls(FILES / "ca.pem", FILES / "alice.pem", FILES / "alice.key", server_name="elsewhere.test")

    with waybill_client.connect(address, tls=tls) as client, pytest.raises(waybill_client.Unavailable):
        client.operations.get(NAME)


def test_a_file_that_is_not_there_is_found_before_anything_is_sent():
    """OSError from connect, not from the first call."""
    with pytest.raises(FileNotFoundError):
        waybill_client.connect("127.0.0.1:1", tls=waybill_client.Tls(Path("/nothing/here.pem")))
