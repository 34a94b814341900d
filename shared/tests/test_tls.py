"""TLS between clients and gateways: who has no certificate is not heard, who has one is named by it.

`certificates/` holds an authority, a certificate each for two gateways and for `alice`, valid for
100 years on 127.0.0.1, made for these tests alone.
"""

import contextlib
from pathlib import Path

import grpc
import pytest
from chassis.call import current_call
from chassis.roles import Role
from chassis.rpc_server import RpcServer
from chassis.settings import WaybillSettings
from chassis.statuses import reason_of, rpc_status
from chassis.testing.callers import Callers
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_loop")]

FOLDER = Path(__file__).parent / "certificates"


class Reports(reports_pb2_grpc.ReportsServiceServicer):
    async def GetReport(self, request, context):
        return reports_pb2.Report(title=current_call.get().principal)


def secured(service, tokens_file=None, **routes):
    return WaybillSettings(
        routes=routes,
        tokens_file=tokens_file,
        tls_cert_file=FOLDER / f"{service}.pem",
        tls_key_file=FOLDER / f"{service}.key",
        tls_ca_file=FOLDER / "ca.pem",
    )


def credentials(name):
    ca = (FOLDER / "ca.pem").read_bytes()
    if not name:
        return grpc.ssl_channel_credentials(ca)
    return grpc.ssl_channel_credentials(
        ca, (FOLDER / f"{name}.key").read_bytes(), (FOLDER / f"{name}.pem").read_bytes()
    )


@contextlib.asynccontextmanager
async def gateways():
    owner = RpcServer("reports", secured("reports", notify="127.0.0.1:1"))
    owner.add(reports_pb2_grpc.add_ReportsServiceServicer_to_server, Reports())
    owner_port = await owner.start("127.0.0.1:0")
    front = RpcServer("notify", secured("notify", reports=f"127.0.0.1:{owner_port}"))
    yield owner_port, await front.start("127.0.0.1:0")
    await front.stop(0)
    await owner.stop(0)


async def principal(port, name, metadata=()):
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials(name)) as channel:
        stub = reports_pb2_grpc.ReportsServiceStub(channel)
        return (await stub.GetReport(reports_pb2.GetReportRequest(), metadata=metadata, timeout=10)).title


async def test_the_principal_is_the_name_on_the_certificate():
    """Directly, and through another gateway, which passes the name on."""
    async with gateways() as (owner, front):
        assert await principal(owner, "alice") == "alice"
        assert await principal(front, "alice") == "alice"


async def test_only_a_gateway_may_speak_for_somebody():
    """A client that claims to be another is still itself, at both gateways."""
    claim = (("waybill-principal", "bob"), ("waybill-forwarded", "notify"))
    async with gateways() as (owner, front):
        assert await principal(owner, "alice", claim) == "alice"
        assert await principal(front, "alice", claim[:1]) == "alice"


async def test_a_client_without_a_certificate_is_not_heard():
    """TLS with authentication is what opens a listener; encryption alone does not."""
    async with gateways() as (owner, _):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await principal(owner, "")
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE

        async with grpc.aio.insecure_channel(f"127.0.0.1:{owner}") as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await reports_pb2_grpc.ReportsServiceStub(channel).GetReport(reports_pb2.GetReportRequest())


async def test_with_tokens_a_client_needs_no_certificate(tmp_path):
    """TLS encrypts, the token says who calls; a certificate is then not asked for."""
    callers = Callers.written(tmp_path / "tokens.json")
    server = RpcServer("reports", secured("reports", callers.path))
    server.add(reports_pb2_grpc.add_ReportsServiceServicer_to_server, Reports())
    port = await server.start("127.0.0.1:0")

    assert await principal(port, "", callers.metadata("viewer")) == "viewer"
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await principal(port, "alice")
    assert reason_of(rpc_status(raised.value)) == "CREDENTIALS_MISSING"
    await server.stop(0)


async def test_tokens_and_certificates_together(tmp_path):
    """Where both are required, who sends a token is its principal, and who sends none is the certificate's."""
    callers = Callers.written(tmp_path / "tokens.json", {"alice": [Role.SUBMITTER]})
    settings = secured("reports", callers.path).model_copy(update={"tls_client_certificates": "required"})
    server = RpcServer("reports", settings)
    server.add(reports_pb2_grpc.add_ReportsServiceServicer_to_server, Reports())
    port = await server.start("127.0.0.1:0")

    assert await principal(port, "alice") == "alice"
    assert await principal(port, "alice", callers.metadata("viewer")) == "viewer"
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await principal(port, "", callers.metadata("viewer"))
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    await server.stop(0)
