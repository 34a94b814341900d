"""Payloads with some fields replaced, as a mass replay wants them."""

from __future__ import annotations

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from chassis.errors import FieldViolation, InvalidArgument
from chassis.redaction import unredacted


def patched(original: AnyMessage, patch: AnyMessage, path: str) -> AnyMessage:
    """The original with what is set in the patch; messages within it field by field, lists and maps as a whole.

    What is blanked in the patch is as the original has it. Raises InvalidArgument, at `path`, for a patch of another
    type, one that cannot be read here, and blanked texts of which nobody knows which was meant.
    """
    if patch.type_url != original.type_url:
        wanted = original.type_url.rpartition("/")[2]
        raise InvalidArgument([FieldViolation(path, f"must be a {wanted}, as all that match")])
    try:
        kind = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(patch.TypeName()))
        changed, source = kind.FromString(patch.value), kind.FromString(original.value)
    except (KeyError, DecodeError) as error:
        raise InvalidArgument([FieldViolation(path, f"is no {patch.TypeName()} that can be read here")]) from error
    _replace(source, changed)
    answer = AnyMessage(type_url=original.type_url, value=source.SerializeToString())
    return unredacted(answer, original, path)


def _replace(target: Message, patch: Message) -> None:
    for field, value in patch.ListFields():
        if field.message_type is not None and not field.is_repeated:
            # A message that is set and empty is set, too.
            getattr(target, field.name).SetInParent()
            _replace(getattr(target, field.name), value)
        else:
            target.ClearField(field.name)
            if field.is_repeated:
                _take_all(target, patch, field.name)
            else:
                setattr(target, field.name, value)


def _take_all(target: Message, patch: Message, name: str) -> None:
    """A repeated field or a map as a whole, whatever its values."""
    part = type(patch)()
    part.CopyFrom(patch)
    for field, _ in patch.ListFields():
        if field.name != name:
            part.ClearField(field.name)
    target.MergeFrom(part)
