"""The hash of a contract: equal for those that were built alike, another one for any change of what they share."""

from types import SimpleNamespace

import pytest
from chassis.contract import contract_hash
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def message(*fields, package="a.v1"):
    """A request type with these fields, out of a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name="a/v1/a.proto", package=package, syntax="proto3")
    made = file.message_type.add(name="Request")
    for number, name in enumerate(fields, 1):
        made.field.add(name=name, number=number, type="TYPE_STRING", label="LABEL_OPTIONAL")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Request"))


def app(request_type, *tasks):
    task = SimpleNamespace(request_type=request_type, response_type=None)
    return SimpleNamespace(operation_tasks=dict.fromkeys(tasks or ("a.do",), task))


def test_two_that_were_built_alike_have_one_hash():
    """Whichever process asks, and in whichever order its tasks were registered."""
    one, other = app(message("x"), "a.do", "a.undo"), app(message("x"), "a.undo", "a.do")

    assert contract_hash(one) == contract_hash(other)
    assert len(contract_hash(one)) == 12


@pytest.mark.parametrize(
    "changed",
    [app(message("x", "y")), app(message("y")), app(message("x"), "a.do", "a.undo"), app(message("x"), "a.other")],
    ids=["a new field", "a renamed field", "a new task", "a renamed task"],
)
def test_any_change_of_what_gateway_and_worker_share_is_another_hash(changed):
    """Fields and tasks count."""
    assert contract_hash(changed) != contract_hash(app(message("x")))
