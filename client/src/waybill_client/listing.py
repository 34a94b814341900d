"""A page of operations. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.longrunning import operations_pb2

from waybill_client.flows import CURSOR_METADATA, Answer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Operations, newest first.

    Attributes:
        operations: at most as many as were asked for.
        next_page_token: empty on the last page.
        cursor: position in the service's events from which to go on; some of what follows it is shown here already.
    """

    operations: Sequence[T]
    next_page_token: str
    cursor: str


def page_of(answer: Answer, handle: Callable[[operations_pb2.Operation], T]) -> Page[T]:
    """A ListOperations answer as a page of handles."""
    cursor = answer.trailing.get(CURSOR_METADATA, "")
    return Page(
        [handle(each) for each in answer.message.operations],
        answer.message.next_page_token,
        cursor if isinstance(cursor, str) else cursor.decode(),
    )
