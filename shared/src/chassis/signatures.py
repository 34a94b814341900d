"""What a task's function takes and gives, read from its annotations."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any, get_args, get_origin

from google.protobuf.message import Message

from chassis.attempts import FanOut


def signature_of(function: Callable[..., Any]) -> tuple[type[Message], type[Message] | None]:
    """Payload and response types of `(attempt, request) -> response`. Raises TypeError for any other shape."""
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) != 2:  # noqa: PLR2004
        raise TypeError(f"{function.__qualname__} must take (attempt, request)")
    hints = typing.get_type_hints(function)
    request_type = hints.get(parameters[1])
    if not (isinstance(request_type, type) and issubclass(request_type, Message)):
        raise TypeError(f"{function.__qualname__}: annotate {parameters[1]} with its message type")
    answer = hints.get("return")
    if get_origin(answer) is FanOut:
        (answer,) = get_args(answer)
    if isinstance(answer, type) and issubclass(answer, Message):
        return request_type, answer
    if answer is None or answer is type(None):
        return request_type, None
    raise TypeError(f"{function.__qualname__}: the return annotation must be a message type, FanOut[...] or None")
