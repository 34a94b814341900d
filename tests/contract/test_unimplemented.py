"""The README lists what answers UNIMPLEMENTED: all of it, and nothing else."""

import importlib
import re
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.empty_pb2 import Empty

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
SERVED = ("metrics", "notify", "reports")
#: Long streams and waits are there; asking them takes as long as they stay open.
STREAMS = {"Subscribe", "StreamIsActive"}


def methods():
    """Every method of our own contracts that a gateway serves."""
    files = [f"{name}/v1/{name}" for name in (*SERVED, "events", "admin")]
    for file in files:
        module = importlib.import_module(f"waybill.{file.replace('/', '.')}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def documented():
    """Full names of the methods in the README's table."""
    section = README.split("## Not there yet")[1]
    named = set(re.findall(r"`(waybill\.[\w.]+Service/\w+)`", section))
    if "the eight schedule methods" in section:
        service = descriptor_pool.Default().FindServiceByName("waybill.reports.v1.ReportsService")
        schedules = {f"{service.full_name}/{each.name}" for each in service.methods if "Schedule" in each.name}
        assert len(schedules) == 8
        named |= schedules
    return named


@pytest.mark.parametrize("method", list(methods()), ids=lambda each: each.full_name)
def test_a_method_answers_unimplemented_only_if_the_readme_says_so(stack, method):
    """Asked with an empty request; whatever else it says about that, it is implemented."""
    name = f"{method.containing_service.full_name}/{method.name}"
    answer = message_factory.GetMessageClass(method.output_type) if method.output_type.name != "Empty" else Empty
    request = message_factory.GetMessageClass(method.input_type)()
    kind = stack.channel("reports").unary_stream if method.server_streaming else stack.channel("reports").unary_unary
    call = kind(f"/{name}", lambda each: each.SerializeToString(), answer.FromString)

    code = grpc.StatusCode.OK
    if method.name not in STREAMS:
        try:
            answered = call(request, timeout=10)
            if method.server_streaming:
                next(answered, None)
        except grpc.RpcError as error:
            code = error.code()

    assert (code is grpc.StatusCode.UNIMPLEMENTED) == (name in documented())
