"""Pages of a list (AIP-158): tokens that say where the next page begins, and the size of a page."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, NamedTuple, Protocol

from chassis.errors import Violations


class PagedRequest(Protocol):
    """Any List request."""

    @property
    def page_size(self) -> int: ...
    @property
    def page_token(self) -> str: ...


class Page(NamedTuple):
    """How many items are wanted, and the position after which they begin; () is the beginning."""

    size: int
    after: tuple[Any, ...]


def page(request: PagedRequest, *shape: type, default: int = 50, maximum: int = 1_000) -> Page:
    """Both paging fields of a List request; raises InvalidArgument with what is wrong with either.

    `shape` gives the types of the position's parts: `page(request, int, str)`. Without it, any
    token that `encode` has written is taken.
    """
    violations = Violations()
    wanted = size(request.page_size, default, maximum, violations)
    after = decode(request.page_token, *shape, violations=violations)
    violations.raise_if_any()
    return Page(wanted, after)


def encode(position: tuple[str | int | float | bool | None, ...]) -> str:
    """A page token; opaque to clients. () gives the empty token."""
    if not position:
        return ""
    text = json.dumps(position, separators=(",", ":"), allow_nan=False)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode(token: str, *shape: type, violations: Violations | None = None) -> tuple[Any, ...]:
    """The position in a token; () for the empty one.

    Raises InvalidArgument on page_token, or adds to the violations given and returns ().
    """
    position = _parse(token) if token else ()
    if position is not None and (not token or not shape or _fits(position, shape)):
        return position
    _refuse("page_token", "is not a token that this method has returned", violations)
    return ()


def size(page_size: int, default: int = 50, maximum: int = 1_000, violations: Violations | None = None) -> int:
    """The page size to use: 0 is the default, more than the maximum is the maximum (AIP-158).

    Raises InvalidArgument on page_size, or adds to the violations given and returns the default.
    """
    if page_size < 0:
        _refuse("page_size", f"is negative; expected 0 (for {default}) or 1 to {maximum}", violations)
        return default
    return min(page_size, maximum) or default


def _parse(token: str) -> tuple[Any, ...] | None:
    try:
        text = base64.b64decode(token.encode() + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        position = json.loads(text)
    except (binascii.Error, ValueError):
        return None
    return tuple(position) if isinstance(position, list) else None


def _fits(position: tuple[Any, ...], shape: tuple[type, ...]) -> bool:
    return len(position) == len(shape) and all(
        isinstance(part, kind) and (kind is bool or not isinstance(part, bool))
        for part, kind in zip(position, shape, strict=True)
    )


def _refuse(field: str, description: str, violations: Violations | None) -> None:
    collected = violations or Violations()
    collected.add(field, description)
    if violations is None:
        collected.raise_if_any()
