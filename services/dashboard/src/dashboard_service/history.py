"""Pages of the operations of several services as one list, newest first. Pure.

Guarantee: walking the pages to the end shows every operation of every service once, however the services'
own pages interleave (as long as a service's list does not change under the walk).
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

from chassis import paging
from chassis.errors import FieldViolation, InvalidArgument


class Row(Protocol):
    """What is listed, with the time by which it is in order."""

    @property
    def created(self) -> datetime | None: ...


R = TypeVar("R", bound=Row)

_PARTS = 3
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service's list goes on: a token of that service, and how many rows of that page are used up."""

    token: str = ""
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """One page as a service gave it, with the place that it was asked for."""

    place: Place
    rows: Sequence[R]
    next_token: str


@dataclass(frozen=True, slots=True)
class Merged(Generic[R]):
    """One page of all services; `next_token` is empty on the last."""

    rows: Sequence[R]
    next_token: str


def places(token: str, services: Sequence[str]) -> dict[str, Place]:
    """Where each service goes on; one that has ended is left out. Raises InvalidArgument on page_token."""
    if not token:
        return {service: Place() for service in services}
    parts = paging.decode(token)
    found: dict[str, Place] = {}
    for service, page_token, skip in zip(parts[::_PARTS], parts[1::_PARTS], parts[2::_PARTS], strict=False):
        if isinstance(service, str) and isinstance(page_token, str) and isinstance(skip, int) and skip >= 0:
            found[service] = Place(page_token, skip)
    if len(found) * _PARTS != len(parts):
        raise InvalidArgument([FieldViolation("page_token", "is not a token that this page has given")])
    return {service: place for service, place in found.items() if service in services}


def merge(pages: Mapping[str, Page[R]], size: int) -> Merged[R]:
    """At most `size` rows; stops early where a service has more rows that this page does not hold."""
    used = {service: page.place.skip for service, page in pages.items()}
    heap = [_entry(page, service, page.place.skip) for service, page in pages.items()]
    heapq.heapify(heap)
    rows: list[R] = []
    while heap and len(rows) < size:
        _, service, index = heapq.heappop(heap)
        page = pages[service]
        if index >= len(page.rows):
            if page.next_token:
                break
            continue
        rows.append(page.rows[index])
        used[service] = index + 1
        heapq.heappush(heap, _entry(page, service, index + 1))
    return Merged(rows, _next_token(pages, used))


def _entry(page: Page[R], service: str, index: int) -> tuple[float, str, int]:
    """Newest first. Past the page's end it keeps the last row's rank: what follows is no newer than that."""
    if not page.rows:
        return (0.0 if page.next_token else float("inf"), service, index)
    row = page.rows[min(index, len(page.rows) - 1)]
    return (-((row.created or _LONG_AGO) - _LONG_AGO).total_seconds(), service, index)


def _next_token(pages: Mapping[str, Page[R]], used: Mapping[str, int]) -> str:
    parts: list[str | int] = []
    for service, page in sorted(pages.items()):
        if used[service] < len(page.rows):
            parts += [service, page.place.token, used[service]]
        elif page.next_token:
            parts += [service, page.next_token, 0]
    return paging.encode(tuple(parts))
