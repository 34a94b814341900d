"""Requests that nobody should send: made from a descriptor, by a seeded source, some of them no message at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

MAX_DEPTH: Final = 5
_TEXTS: Final = (
    "",
    " ",
    "a",
    "0",
    "-1",
    "../../etc/passwd",
    "a" * 300,
    "ü😀\u202e",
    "\x00\x01\x7f",
    "'; DROP TABLE operations; --",
    "{{ 7 * 7 }}{% for x in range(9) %}{{ x }}{% endfor %}",
    "{{ ''.__class__ }}",
    "((((((((((((((((",
    "NOT state = FAILED AND (labels.a = b OR error:x)",
    'create_time > "2026-01-01T00:00:00Z"',
    "* * * * *",
    "Europe/Berlin",
    "nobody@example.org",
    "http://127.0.0.1:1/",
    "https://example.org/hook",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw5m",
    "2026-11-28T00:00:00Z",
    "1e309",
    "[(a+)+$",
    "cpu.load",
    "%s%n%x",
)
_INTEGERS: Final = (0, 1, -1, 2, 7, 100, 1_000, 1_001, 65_536, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
_DOUBLES: Final = (0.0, -0.0, 1.5, -1e308, 1e308, float("inf"), float("-inf"), float("nan"), 5e-324)
_UNSIGNED: Final = frozenset(
    {
        FieldDescriptor.TYPE_UINT32,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_FIXED32,
        FieldDescriptor.TYPE_FIXED64,
    }
)


class Fuzzer:
    """One source of requests; the same seed gives the same.

    Args:
        seed: of the source.
        hints: values by the name of a field, beside those that any field may get: names of things that are there.
        exemplars: requests that are taken, from which others are made by changing a little.
    """

    def __init__(
        self, seed: int, hints: Mapping[str, Sequence[str]] | None = None, exemplars: Sequence[Message] = ()
    ) -> None:
        self._exemplars = {each.DESCRIPTOR.full_name: each for each in exemplars}
        self._random = random.Random(seed)
        self._hints = {name: list(values) for name, values in (hints or {}).items()}

    def learn(self, field: str, value: str) -> None:
        """One more thing that is there; of each kind a hundred are remembered."""
        known = self._hints.setdefault(field, [])
        if len(known) < 100:
            known.append(value)
        else:
            known[self._random.randrange(len(known))] = value

    def choice(self, options: Sequence[Any]) -> Any:
        return self._random.choice(options)

    def request(self, descriptor: Descriptor) -> bytes:
        """Mostly a message of that type, else one that is damaged, else any bytes."""
        kind = self._random.random()
        if kind < 0.05:
            return self._random.randbytes(self._random.randrange(200))
        data = self._made(descriptor).SerializeToString()
        if kind < 0.15 and data:
            return self._damaged(data)
        return data

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """A message with some of its fields, deep as it may go."""
        message = message_factory.GetMessageClass(descriptor)()
        density = self._random.choice((0.3, 0.6, 0.95)) if depth < MAX_DEPTH else 0.0
        for field in descriptor.fields:
            if self._random.random() < density:
                self._fill(message, field, depth)
        return message

    def _made(self, descriptor: Descriptor) -> Message:
        exemplar = self._exemplars.get(descriptor.full_name)
        if exemplar is None or self._random.random() < 0.3:
            return self.message(descriptor)
        message = message_factory.GetMessageClass(descriptor)()
        message.CopyFrom(exemplar)
        for _ in range(self._random.choice((0, 1, 1, 2))):
            self._change(message)
        return message

    def _change(self, message: Message) -> None:
        """One field, of the message or of one in it."""
        field = self._random.choice(message.DESCRIPTOR.fields)
        inner = getattr(message, field.name) if field.message_type is not None else None
        if isinstance(inner, Message) and message.HasField(field.name) and self._random.random() < 0.7:
            self._change(inner) if inner.DESCRIPTOR.fields else None
            return
        message.ClearField(field.name)
        if self._random.random() < 0.8:
            self._fill(message, field, MAX_DEPTH - 2)

    def _damaged(self, data: bytes) -> bytes:
        position = self._random.randrange(len(data))
        if self._random.random() < 0.5:
            return data[:position]
        return data[:position] + bytes([self._random.randrange(256)]) + data[position + 1 :]

    def _fill(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._fill_map(message, field, depth)
            return
        count = self._random.choice((1, 1, 2, 5, 20)) if field.is_repeated else 1
        values = [self._value(field, depth) for _ in range(count)]
        if field.message_type is not None:
            for value in values:
                target = getattr(message, field.name)
                (target.add() if field.is_repeated else target).CopyFrom(value)
        elif field.is_repeated:
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, values[0])

    def _fill_map(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        entry = field.message_type.fields_by_name
        target = getattr(message, field.name)
        for _ in range(self._random.choice((1, 2, 70))):
            key = self._value(entry["key"], depth)
            if entry["value"].message_type is not None:
                target[key].CopyFrom(self.message(entry["value"].message_type, depth + 1))
            else:
                target[key] = self._value(entry["value"], depth)

    def _value(self, field: FieldDescriptor, depth: int) -> Any:
        if field.message_type is not None:
            return self.message(field.message_type, depth + 1)
        return self._scalars[field.cpp_type](self, field)

    def _text(self, field: FieldDescriptor) -> Any:
        hints = self._hints.get(field.name, ())
        text = self._random.choice(hints) if hints and self._random.random() < 0.7 else self._random.choice(_TEXTS)
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text

    def _integer(self, field: FieldDescriptor) -> int:
        value = self._random.choice(_INTEGERS)
        bits = 32 if field.cpp_type in {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32} else 64
        value %= 1 << (bits if field.type in _UNSIGNED else bits - 1)
        return value if field.type in _UNSIGNED or self._random.random() < 0.7 else -value

    def _enum(self, field: FieldDescriptor) -> int:
        return self._random.choice([*(value.number for value in field.enum_type.values), 99, -1])

    _scalars: Final[Mapping[int, Callable[[Fuzzer, FieldDescriptor], Any]]] = {
        FieldDescriptor.CPPTYPE_STRING: _text,
        FieldDescriptor.CPPTYPE_INT32: _integer,
        FieldDescriptor.CPPTYPE_INT64: _integer,
        FieldDescriptor.CPPTYPE_UINT32: _integer,
        FieldDescriptor.CPPTYPE_UINT64: _integer,
        FieldDescriptor.CPPTYPE_ENUM: _enum,
        FieldDescriptor.CPPTYPE_BOOL: lambda self, field: self.choice((True, False)),
        FieldDescriptor.CPPTYPE_FLOAT: lambda self, field: self.choice(_DOUBLES),
        FieldDescriptor.CPPTYPE_DOUBLE: lambda self, field: self.choice(_DOUBLES),
    }
