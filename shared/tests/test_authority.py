"""Who calls and whether that one may, over a real server that has every method of every contract."""

import asyncio
import contextlib
import importlib
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from chassis import credentials
from chassis.authority import Authority
from chassis.call import current_call
from chassis.errors import PermissionDenied, Unauthenticated
from chassis.roles import ANYBODY, AUTHENTICATED, EVERY_ROLE, Role, Rule, RuleMissingError, rule_of
from chassis.rpc_server import RpcServer
from chassis.settings import WaybillSettings
from chassis.statuses import from_status, reason_of, rpc_status
from chassis.testing import contracts
from chassis.testing.callers import NAMES, Callers, expected_refusal
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_loop")]

DENIALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
REPORT = "waybill.reports.v1.ReportsService/GetReport"


class Reports(reports_pb2_grpc.ReportsServiceServicer):
    async def GetReport(self, request, context):
        call = current_call.get()
        return reports_pb2.Report(report_id=",".join(sorted(call.roles)), title=call.principal)


class Events(events_pb2_grpc.EventServiceServicer):
    async def Subscribe(self, request, context):
        yield events_pb2.SubscribeResponse(cursor="1")
        await asyncio.Event().wait()


def every_servicer():
    """The generated servicer of each service: what is let in finds that it does nothing."""
    for service in contracts.services():
        module = service.file.name.removesuffix(".proto").replace("/", ".") + "_pb2_grpc"
        if service.full_name == "google.longrunning.Operations":
            module = "google.longrunning.operations_pb2_grpc"
        elif service.full_name.startswith("grpc."):
            continue  # health and reflection are there already
        generated = importlib.import_module(module)
        yield (
            getattr(generated, f"add_{service.name}Servicer_to_server"),
            getattr(generated, f"{service.name}Servicer")(),
        )


@contextlib.asynccontextmanager
async def serving(callers, *servicers, service="reports", **given):
    server = RpcServer(service, WaybillSettings(**{"routes": {}, "tokens_file": callers.path, **given}))
    for register, servicer in servicers:
        server.add(register, servicer)
    server.add_reflection()
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield server, channel, port
    await server.stop(0)


async def ending(channel, method, metadata):
    call = channel.stream_stream(f"/{method}")(iter([b""]), metadata=metadata, timeout=20)
    try:
        await call.read()
        code = await call.code()
        return code, "" if code is grpc.StatusCode.OK else reason_of(rpc_status(await failure(call)))
    except grpc.aio.AioRpcError as error:
        return error.code(), reason_of(rpc_status(error))


async def failure(call):
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


@pytest.fixture
def callers(tmp_path):
    return Callers.written(tmp_path / "tokens.json")


async def report(channel, metadata):
    return await reports_pb2_grpc.ReportsServiceStub(channel).GetReport(
        reports_pb2.GetReportRequest(), metadata=metadata, timeout=20
    )


async def refused(channel, metadata):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await report(channel, metadata)
    return from_status(rpc_status(raised.value))


async def test_every_method_asks_every_caller_for_what_its_contract_says(callers):
    """Each method, called by each role and by those without one; who is let in reaches the servicer."""
    wrong = {}
    served = {name for name in contracts.methods() if not name.startswith("grpc.health")}
    async with serving(callers, *every_servicer()) as (_, channel, _):
        for method in served:
            for name in NAMES:
                found = await ending(channel, method, callers.metadata(name))
                expected = expected_refusal(rule_of(method), name)
                if (expected and found != expected) or (not expected and found[0] in DENIALS):
                    wrong[method, name] = found, expected

    assert wrong == {}
    assert len(served) > 60


def test_every_method_of_every_contract_says_who_may_call_it():
    """A new RPC without a rule fails here, and its gateway does not start."""
    without = []
    for name in contracts.methods():
        try:
            rule_of(name)
        except RuleMissingError:
            without.append(name)

    assert without == []


def test_a_method_without_a_rule_is_not_served():
    """The gateway refuses to be built, and says which method it is."""
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)

    def register(servicer, server):
        server.add_registered_method_handlers("yard.v1.YardService", {"OpenGate": handler})

    with pytest.raises(RuleMissingError, match=r"yard\.v1\.YardService/OpenGate"):
        RpcServer("yard", WaybillSettings(routes={})).add(register, object())


def test_health_is_open_and_only_an_operator_deletes_an_operation():
    """The rules of others' contracts, where a mistake would cost most."""
    assert rule_of("grpc.health.v1.Health/Check") == ANYBODY
    assert rule_of("grpc.reflection.v1.ServerReflection/ServerReflectionInfo") == AUTHENTICATED
    assert rule_of("google.longrunning.Operations/DeleteOperation").roles == {Role.OPERATOR}


async def test_a_refusal_names_the_role_that_is_wanted(callers):
    """PERMISSION_DENIED with what the caller has and what it would need."""
    async with serving(callers, *every_servicer()) as (_, channel, _):
        call = channel.unary_unary("/waybill.admin.v1.QueueService/PurgeQueue")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(b"", metadata=callers.metadata("viewer"))

    error = from_status(rpc_status(raised.value))
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")
    assert error.metadata == {"principal": "viewer", "roles": "viewer", "roles_wanted": "operator"}


async def test_the_principal_and_its_roles_are_those_of_the_token(callers):
    """The servicer sees whom the file names."""
    callers.issue("alice", [Role.VIEWER, Role.SUBMITTER])
    async with serving(callers, (reports_pb2_grpc.add_ReportsServiceServicer_to_server, Reports())) as (_, channel, _):
        answer = await report(channel, callers.metadata("alice"))

    assert (answer.title, answer.report_id) == ("alice", "submitter,viewer")


async def test_only_a_service_speaks_for_somebody(callers):
    """With the roles that it names and no more; anybody else who claims to is still itself."""
    claim = (("waybill-principal", "bob"), ("waybill-roles", "viewer"))
    async with serving(callers, (reports_pb2_grpc.add_ReportsServiceServicer_to_server, Reports())) as (_, channel, _):
        by_service = await report(channel, (*callers.metadata("service"), *claim))
        by_operator = await report(channel, (*callers.metadata("operator"), *claim))
        unnamed = await report(channel, (*callers.metadata("service"), *claim[:1]))
        powerless = await refused(channel, (*callers.metadata("service"), claim[0], ("waybill-roles", "admin")))

    assert (by_service.title, by_service.report_id) == ("bob", "viewer")
    assert (by_operator.title, by_operator.report_id) == ("operator", "operator")
    assert (unnamed.title, unnamed.report_id) == ("bob", "service")
    assert powerless.reason == "ROLE_MISSING"


async def test_a_gateway_passes_on_for_whom_it_speaks_and_shows_its_own_token(callers):
    """The owner sees the caller's name and roles; the caller's token has stayed at the door."""
    owner = (reports_pb2_grpc.add_ReportsServiceServicer_to_server, Reports())
    async with serving(callers, owner) as (_, _, port):
        front = serving(
            callers, service="notify", routes={"reports": f"127.0.0.1:{port}"}, token=callers.tokens["service"]
        )
        async with front as (_, channel, _):
            answer = await report(channel, callers.metadata("viewer"))
            outsider = await refused(channel, callers.metadata("stranger"))

    assert (answer.title, answer.report_id) == ("viewer", "viewer")
    assert outsider.reason == "TOKEN_UNKNOWN"


async def test_a_gateway_that_its_owner_does_not_know_is_no_fault_of_the_caller(callers):
    """UNAVAILABLE: the caller's own credentials are good."""
    owner = (reports_pb2_grpc.add_ReportsServiceServicer_to_server, Reports())
    async with serving(callers, owner) as (_, _, port):
        front = serving(callers, service="notify", routes={"reports": f"127.0.0.1:{port}"})
        async with front as (_, channel, _):
            error = await refused(channel, callers.metadata("viewer"))

    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "GATEWAY_UNAUTHENTICATED")


async def test_a_revoked_token_is_refused_and_a_new_one_is_known(callers):
    """The file is read again when it has changed; nothing is restarted."""
    async with serving(callers, (reports_pb2_grpc.add_ReportsServiceServicer_to_server, Reports())) as (
        server,
        channel,
        _,
    ):
        old = callers.metadata("viewer")
        await report(channel, old)
        callers.revoke("viewer")
        callers.issue("carol", [Role.VIEWER])
        server.edge.authority._file.look()

        assert (await refused(channel, old)).reason == "TOKEN_UNKNOWN"
        assert (await report(channel, callers.metadata("carol"))).title == "carol"


async def test_a_stream_ends_when_its_callers_token_is_revoked(callers):
    """A subscription does not outlive the credentials that opened it."""
    async with serving(callers, (events_pb2_grpc.add_EventServiceServicer_to_server, Events())) as (_, channel, _):
        stream = events_pb2_grpc.EventServiceStub(channel).Subscribe(
            events_pb2.SubscribeRequest(), metadata=callers.metadata("viewer"), timeout=60
        )
        other = events_pb2_grpc.EventServiceStub(channel).Subscribe(
            events_pb2.SubscribeRequest(), metadata=callers.metadata("operator"), timeout=60
        )
        assert (await stream.read()).cursor == (await other.read()).cursor == "1"
        callers.revoke("viewer")

        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stream.read()
        assert not other.done()
        other.cancel()

    assert reason_of(rpc_status(raised.value)) == "TOKEN_UNKNOWN"


def test_a_file_that_is_broken_leaves_the_tokens_in_force(callers):
    """It is said why, and the next good file counts again."""
    authority = Authority("reports", WaybillSettings(routes={}, tokens_file=callers.path))
    header = callers.metadata("viewer")[0][1]
    good = callers.path.read_bytes()

    for broken in (b"{", b'{"tokens": [{"name": "eve", "roles": ["root"], "sha256": "00"}]}', b'{"token": []}'):
        callers.path.write_bytes(broken)
        authority._file.look()
        assert authority.identify(header).name == "viewer"
        assert authority.problem
    callers.path.unlink()
    authority._file.look()
    assert authority.identify(header).name == "viewer"
    assert "FileNotFoundError" in authority.problem

    callers.path.write_bytes(good)
    authority._file.look()
    assert authority.problem == ""


def test_a_file_is_looked_at_once_a_second(callers, monkeypatch):
    """Between two looks a call does not touch the disk."""
    authority = Authority("reports", WaybillSettings(routes={}, tokens_file=callers.path))
    header = callers.metadata("viewer")[0][1]
    now = authority._file._next_look
    looks = []
    monkeypatch.setattr(authority._file, "look", lambda: looks.append(1))

    for elapsed in (-0.5, -0.1, 0.0):
        monkeypatch.setattr("chassis.watched_file.time.monotonic", lambda at=now + elapsed: at)
        authority.identify(header)

    assert looks == [1]


def test_a_token_ends_when_its_time_is_over(callers, monkeypatch):
    """Also one that was used before, whose principal is remembered."""
    authority = Authority("reports", WaybillSettings(routes={}, tokens_file=callers.path))
    callers.issue("guest", [Role.VIEWER], expires=datetime.now(UTC) + timedelta(hours=1))
    authority._file.look()
    header = callers.metadata("guest")[0][1]
    assert authority.identify(header).name == "guest"

    monkeypatch.setattr("chassis.authority.time.time", lambda: datetime.now(UTC).timestamp() + 3_601)

    with pytest.raises(Unauthenticated) as raised:
        authority.identify(header)
    assert raised.value.reason == "TOKEN_EXPIRED"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "bearer x y", "Basic eA==", b"Bearer x", "Bearer \x00"])
def test_what_is_no_token_lets_nobody_in(callers, header):
    """Whatever stands in the header, it is UNAUTHENTICATED and nothing is remembered of it."""
    authority = Authority("reports", WaybillSettings(routes={}, tokens_file=callers.path))

    with pytest.raises(Unauthenticated):
        authority.identify(header)
    assert authority._by_header == {}


def test_without_tokens_and_certificates_whoever_gets_here_may_do_everything():
    """On loopback, as ever."""
    caller = Authority("reports", WaybillSettings(routes={})).admit(Rule(frozenset({Role.OPERATOR})), {}, dict)

    assert (caller.name, caller.roles) == ("", EVERY_ROLE)


def a_certificate(name, *others):
    return {"x509_common_name": [name.encode()], "x509_subject_alternative_name": [each.encode() for each in others]}


def test_a_certificate_has_the_roles_that_the_file_gives_to_its_name(tmp_path):
    """By common name, else by a subject alternative name; one that is not listed has none."""
    listed = {"alice": [Role.VIEWER], "spiffe://waybill/ci": [Role.SUBMITTER]}
    callers = Callers.written(tmp_path / "tokens.json", listed)
    settings = WaybillSettings(
        routes={}, tokens_file=callers.path, tls_cert_file=callers.path, tls_client_certificates="required"
    )
    authority = Authority("reports", settings)
    rule = Rule(frozenset({Role.VIEWER}))

    assert authority.admit(rule, {}, lambda: a_certificate("alice")).name == "alice"
    assert authority.identify(None, lambda: a_certificate("x", "spiffe://waybill/ci")).roles == {Role.SUBMITTER}
    assert authority.admit(AUTHENTICATED, {}, lambda: a_certificate("mallory")).roles == frozenset()
    with pytest.raises(PermissionDenied):
        authority.admit(rule, {}, lambda: a_certificate("mallory"))
    with pytest.raises(Unauthenticated):
        authority.admit(rule, {"authorization": "Bearer no"}, lambda: a_certificate("alice"))


def test_a_name_that_metadata_cannot_carry_is_no_principal(tmp_path):
    """What goes on to another gateway is printable ASCII."""
    callers = Callers.written(tmp_path / "tokens.json")
    settings = WaybillSettings(
        routes={}, tokens_file=callers.path, tls_cert_file=callers.path, tls_client_certificates="required"
    )

    with pytest.raises(Unauthenticated) as raised:
        Authority("reports", settings).identify(None, lambda: a_certificate("Zoë\n"))
    assert raised.value.reason == "CERTIFICATE_NAME_UNUSABLE"


def test_the_file_has_hashes_alone_and_is_its_owners(callers):
    """Whoever reads it cannot come in with what it says."""
    text = callers.path.read_text()

    assert callers.path.stat().st_mode & 0o777 == 0o600
    for token in callers.tokens.values():
        assert token not in text
        assert credentials.hash_of(token) in text


def test_a_token_is_long_and_never_the_same(callers):
    """256 bits: a hash without salt or work is then enough."""
    tokens = {credentials.new_token() for _ in range(100)}

    assert len(tokens) == 100
    assert all(len(token.removeprefix("wbt_")) == 43 for token in tokens)
