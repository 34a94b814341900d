"""Payloads, results and errors as the text that a page shows, and an edited payload back as a message."""

import base64
import json

from chassis import redaction
from chassis.errors import FieldViolation, InvalidArgument
from google.protobuf import any_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError, Message

from dashboard_service import contracts, json_input


def type_name(packed: any_pb2.Any) -> str:
    """The full name of the message inside; empty for none."""
    return packed.type_url.rpartition("/")[2]


def printed(packed: any_pb2.Any) -> str:
    """As indented protobuf JSON; what no contract here describes is shown as the bytes that it is."""
    if not packed.type_url:
        return ""
    message = _new(type_name(packed))
    try:
        if message is not None and packed.Unpack(message):
            return json_format.MessageToJson(redaction.shown(message), ensure_ascii=False)
    except (DecodeError, json_format.Error):
        pass
    raw = base64.b64encode(packed.value).decode()
    return json.dumps({"@type": packed.type_url, "value": raw}, indent=2)


def edited(original: any_pb2.Any, text: str) -> any_pb2.Any:
    """The text as a message of the original's type; raises InvalidArgument with every violation."""
    message = _new(type_name(original))
    if message is None:
        raise InvalidArgument([FieldViolation("payload", f"{type_name(original)} is not known here: cannot be edited")])
    packed = any_pb2.Any()
    packed.Pack(json_input.parse(text, message))
    return packed


def same(original: any_pb2.Any, text: str) -> bool:
    """Whether the text is what `printed` shows of the original: nothing was edited."""
    return text.replace("\r\n", "\n").strip() == printed(original).strip()


def _new(name: str) -> Message | None:
    contracts.load()
    try:
        return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))()
    except KeyError:
        return None
