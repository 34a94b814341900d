"""The message that every task of the service takes, made at run time: nobody else needs its contract."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from waybill.operations.v1 import operations_pb2

NAME = "waybill.chaos.v1.Work"


def _file():
    file = descriptor_pb2.FileDescriptorProto(name="waybill/chaos/v1/chaos.proto", package="waybill.chaos.v1")
    file.syntax = "proto3"
    file.dependency.append(operations_pb2.DESCRIPTOR.name)
    message, field = file.message_type.add(name="Work"), descriptor_pb2.FieldDescriptorProto
    message.field.add(name="request_id", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    options = message.field.add(name="options", number=2, type=field.TYPE_MESSAGE, label=field.LABEL_OPTIONAL)
    options.type_name = ".waybill.operations.v1.SubmitOptions"
    # The registered name of the task that is to run.
    message.field.add(name="task", number=3, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    # In how many of its first attempts the task does its worst.
    message.field.add(name="times", number=4, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    # How long a retry waits.
    message.field.add(name="delay_ms", number=5, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    # What fills the store.
    message.field.add(name="ballast", number=6, type=field.TYPE_BYTES, label=field.LABEL_OPTIONAL)
    return file


descriptor_pool.Default().Add(_file())
Work = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(NAME))
