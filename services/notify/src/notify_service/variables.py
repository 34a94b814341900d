"""Variables of a template, as Python values."""

from __future__ import annotations

from typing import Any, Final

_EXACT: Final = 1 << 53


def from_struct(struct: Any) -> dict[str, Any]:
    """A google.protobuf.Struct as a dict; whole numbers become int, so that 3 is not rendered as 3.0."""
    return {name: _plain(value) for name, value in struct.fields.items()}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    if kind == "number_value":
        number: float = value.number_value
        return int(number) if number.is_integer() and abs(number) < _EXACT else number
    return None if kind in {None, "null_value"} else getattr(value, kind)
