"""Every method of every real gateway, called by every role and by those without one, directly and forwarded."""

import grpc
import pytest
from chassis.roles import rule_of
from chassis.testing.callers import NAMES as CALLERS
from chassis.testing.callers import OUTSIDERS, expected_refusal, refusal

from tests.security.fuzzing import Fuzzer
from tests.security.gateways import methods, served_by, stored
from tests.stack import NAMES

DENIALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


class WithToken(grpc.StreamStreamClientInterceptor):
    def __init__(self, metadata):
        self.metadata = metadata

    def intercept_stream_stream(self, continuation, details, requests):
        return continuation(details._replace(metadata=self.metadata), requests)


@pytest.mark.parametrize("gateway", NAMES)
def test_every_method_is_open_to_the_roles_that_its_contract_names_and_to_nobody_else(closed, callers, gateway):
    """Those of its own service and those that it forwards; who is let in is told of the request, not of the caller."""
    channel = closed.channel(gateway)
    wrong = {}
    for method in methods():
        for name in CALLERS:
            found = refusal(channel, method, callers.metadata(name), b"\xff")
            expected = expected_refusal(rule_of(method), name)
            if (expected and found != expected) or (not expected and found[0] in DENIALS):
                wrong[method, name] = found, expected

    assert wrong == {}


@pytest.mark.parametrize("gateway", NAMES)
def test_no_gateway_serves_what_is_not_among_these_methods(closed, callers, gateway):
    """By its own reflection, so that a method that was added is in the matrix above."""
    channel = grpc.intercept_channel(closed.channel(gateway), WithToken(callers.metadata("viewer")))

    assert served_by(channel) <= set(methods()) | {"grpc.reflection.v1.ServerReflection/ServerReflectionInfo"}


def test_what_is_refused_leaves_nothing_behind(closed, callers):
    """No operation, no idempotency key, no event, no row: whatever the request says, and through any gateway."""
    before = {service: stored(closed, service) for service in NAMES}
    fuzzer = Fuzzer(11)
    for method, described in methods().items():
        rule = rule_of(method)
        unwelcome = [name for name in CALLERS if expected_refusal(rule, name)]
        for number in range(20):
            name = fuzzer.choice(unwelcome) if unwelcome else ""
            if name:
                gateway = NAMES[number % len(NAMES)]
                request = fuzzer.request(described.input_type)
                assert refusal(closed.channel(gateway), method, callers.metadata(name), request)[0] in DENIALS

    assert {service: stored(closed, service) for service in NAMES} == before


def test_no_log_of_a_gateway_has_a_token(closed, callers):
    """Neither of those that were let in nor of those that were not."""
    for name in (*callers.tokens, *OUTSIDERS):
        refusal(closed.channel("reports"), "waybill.admin.v1.QueueService/PurgeQueue", callers.metadata(name))

    logged = "\n".join(text for _, text in closed.logs(10_000))

    assert "ROLE_MISSING" in logged
    assert [name for name, token in callers.tokens.items() if token in logged] == []
    assert "wbt_" not in logged
