"""The RPC that is being served, as the interceptors know it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from chassis.roles import Role
from chassis.telemetry import SpanContext

MAX_MARGIN_SECONDS: Final = 0.5


@dataclass(slots=True)
class Call:
    """One RPC in a gateway."""

    #: `<package>.<Service>/<Method>`
    method: str
    start_us: int
    #: The SERVER span of this RPC.
    context: SpanContext
    #: Empty when the client sent no trace context.
    parent_span_id: bytes
    #: On the running loop's clock.
    deadline: float
    #: The accepted operation's record carries the SERVER span: the engine projects it, the edge does not emit it.
    projected: bool = False
    #: Who calls; empty where the gateway asks nobody, and for what anybody may call.
    principal: str = ""
    roles: frozenset[Role] = frozenset()


def margin_seconds(remaining: float) -> float:
    """How long before its caller gives up a call ends by itself: on a busy machine its answer takes time too."""
    return min(MAX_MARGIN_SECONDS, remaining / 6)


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
