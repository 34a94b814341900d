"""Fields that a contract marks `debug_redact`: blanked in what is shown, taken out of what is said of them.

An error or a log line may quote what it failed on: while a payload with marked texts is worked on, `scrub` knows them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2

from chassis.errors import Violations

REDACTED: Final = "[redacted]"
#: A shorter text says nothing of itself, and taking it out would spoil the rest.
MIN_SCRUBBED: Final = 4

_guarded: ContextVar[frozenset[str]] = ContextVar("guarded", default=frozenset())


def redacted(payload: AnyMessage) -> AnyMessage:
    """The payload with marked texts replaced and other marked fields cleared; itself where nothing is marked.

    A type that this process does not know is returned as it is: its owner has redacted it.
    """
    message = _sensitive(payload)
    if message is None:
        return payload
    _blank(message)
    answer = AnyMessage()
    answer.Pack(message)
    return answer


def unredacted(edited: AnyMessage, original: AnyMessage, path: str) -> AnyMessage:
    """A payload that was edited as clients see it: what is still blanked is what the original has in that place.

    Raises InvalidArgument, at `path`, for blanked texts in lists and maps that are no longer those of the original:
    nobody knows which was meant.
    """
    message, source = _sensitive(edited), _sensitive(original)
    if message is None or source is None:
        return edited
    found = Violations()
    _fill(message, source, path, found)
    found.raise_if_any()
    answer = AnyMessage()
    answer.Pack(message)
    return answer


def shown(message: Message) -> Message:
    """A copy for people to look at: marked fields are blanked, also within Any of a type that is known here."""
    copied = type(message)()
    copied.CopyFrom(message)
    _blank_all(copied)
    return copied


def guard(payload: Message) -> None:
    """From here on, in this context, `scrub` takes the payload's marked texts out."""
    if is_sensitive(payload.DESCRIPTOR):
        texts = frozenset(text for text in _marked_texts(payload) if len(text) >= MIN_SCRUBBED)
        if texts:
            _guarded.set(_guarded.get() | texts)


@contextmanager
def guarding() -> Iterator[None]:
    """What is guarded within the block is forgotten after it."""
    before = _guarded.set(_guarded.get())
    try:
        yield
    finally:
        _guarded.reset(before)


def scrub(text: str) -> str:
    """The text without what is guarded here, as it is, as Python or JSON quotes it, or one within the other."""
    for secret in _guarded.get():
        for form in _forms(secret):
            text = text.replace(form, REDACTED)
    return text


def _forms(secret: str) -> set[str]:
    """How it may stand in a text; of letters and digits there is one form."""
    plain = {secret, repr(secret)[1:-1]}
    return plain | {json.dumps(each, ensure_ascii=escaped)[1:-1] for each in plain for escaped in (True, False)}


def scrub_status(status: status_pb2.Status) -> None:
    """Take it out of a status, its details included."""
    if not is_guarding():
        return
    status.message = scrub(status.message)
    for packed in status.details:
        inner = _known_message(packed)
        if inner is not None:
            scrub_texts(inner)
            packed.Pack(inner)


def _known_message(packed: AnyMessage) -> Message | None:
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(packed.type_url.rpartition("/")[2])
    except KeyError:
        return None
    return message_factory.GetMessageClass(descriptor).FromString(packed.value)


def scrub_texts(message: Message) -> None:
    """Take it out of every text of the message."""
    for field, value in message.ListFields():
        if isinstance(value, str):
            setattr(message, field.name, scrub(value))
        elif isinstance(value, Mapping) and not any(isinstance(each, Message) for each in value.values()):
            for key in value:
                if isinstance(value[key], str):
                    value[key] = scrub(value[key])  # type: ignore[index]
        else:
            for part in _parts(value) if field.message_type is not None else ():
                scrub_texts(part)


def is_guarding() -> bool:
    """Whether there is anything to take out."""
    return bool(_guarded.get())


def _blank_all(message: Message) -> None:
    if isinstance(message, AnyMessage):
        message.CopyFrom(redacted(message))
        return
    marked, _ = _sensitive_fields(message.DESCRIPTOR)
    for field, value in message.ListFields():
        if field.number in marked:
            _blank_field(message, field)
        elif field.message_type is not None:
            for part in _parts(value):
                _blank_all(part)


def _marked_texts(message: Message) -> Iterator[str]:
    marked, leading = _sensitive_fields(message.DESCRIPTOR)
    for field, value in message.ListFields():
        if field.number in marked:
            values = value if field.is_repeated and not isinstance(value, Mapping) else [value]
            yield from (each for each in values if isinstance(each, str))
        elif field.number in leading:
            for part in _parts(value):
                yield from _marked_texts(part)


def _sensitive(payload: AnyMessage) -> Message | None:
    """The payload's message; None for a type that is unknown here or has nothing marked."""
    try:
        message_class = _sensitive_class(payload.type_url)
    except KeyError:
        return None
    return None if message_class is None else message_class.FromString(payload.value)


@cache
def _sensitive_class(type_url: str) -> type[Message] | None:
    """The class of a type that has something marked. Raises KeyError for a type that is unknown here."""
    descriptor = descriptor_pool.Default().FindMessageTypeByName(type_url.rpartition("/")[2])
    return message_factory.GetMessageClass(descriptor) if is_sensitive(descriptor) else None


@cache
def is_sensitive(descriptor: Descriptor) -> bool:
    """Whether a marked field can be reached from this message type."""
    seen: set[str] = set()
    waiting = [descriptor]
    while waiting:
        current = waiting.pop()
        if current.full_name in seen:
            continue
        seen.add(current.full_name)
        for field in current.fields:
            if field.GetOptions().debug_redact:
                return True
            if field.message_type is not None:
                waiting.append(field.message_type)
    return False


def is_sensitive_method(name: str) -> bool:
    """Whether requests of `<package>.<Service>/<Method>` may have something marked; not, where it is unknown here."""
    try:
        return is_sensitive(descriptor_pool.Default().FindMethodByName(name.replace("/", ".")).input_type)
    except KeyError:
        return False


def _blank(message: Message) -> None:
    marked, leading = _sensitive_fields(message.DESCRIPTOR)
    for field, value in message.ListFields():
        if field.number in marked:
            _blank_field(message, field)
        elif field.number in leading:
            for part in _parts(value):
                _blank(part)


@cache
def _sensitive_fields(descriptor: Descriptor) -> tuple[frozenset[int], frozenset[int]]:
    """Numbers of the marked fields, and of those from which a marked one can be reached."""
    marked = frozenset(field.number for field in descriptor.fields if field.GetOptions().debug_redact)
    messages = (field for field in descriptor.fields if field.message_type is not None)
    return marked, frozenset(field.number for field in messages if is_sensitive(field.message_type))


def _blank_field(message: Message, field: FieldDescriptor) -> None:
    is_text = field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated
    message.ClearField(field.name)
    if is_text:
        setattr(message, field.name, REDACTED)


def _fill(message: Message, source: Message | None, path: str, found: Violations) -> None:
    for field, value in message.ListFields():
        here = f"{path}.{field.name}"
        if field.GetOptions().debug_redact:
            if value == REDACTED and found.require(source is not None, here, "is blanked; give the value"):
                setattr(message, field.name, getattr(source, field.name))
        elif field.message_type is not None:
            parts, sources = _parts(value), _parts(getattr(source, field.name)) if source is not None else []
            same = len(parts) == len(sources)
            for number, part in enumerate(parts):
                _fill(
                    part, sources[number] if same else None, f"{here}[{number}]" if field.is_repeated else here, found
                )


def _parts(value: Any) -> list[Message]:
    """The messages in a message field: one, many, or the values of a map."""
    if isinstance(value, Message):
        return [value]
    values = [value[key] for key in sorted(value)] if isinstance(value, Mapping) else value
    return [part for part in values if isinstance(part, Message)]
