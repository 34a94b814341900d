"""Whether a failed attempt is followed by another, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a task is attempted. `max_attempts` includes the first."""

    max_attempts: int = 5
    min_backoff: timedelta = timedelta(seconds=1)
    max_backoff: timedelta = timedelta(minutes=2)
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.max_attempts <= 100:  # noqa: PLR2004
            raise ValueError("max_attempts must be 1 to 100")
        if not timedelta(0) < self.min_backoff <= self.max_backoff:
            raise ValueError("min_backoff must be positive and at most max_backoff")
        if self.factor < 1:
            raise ValueError("factor must be at least 1")

    def ceiling(self, attempt: int) -> timedelta:
        """The longest wait after `attempt` (from 1): min(max_backoff, min_backoff * factor ** (attempt - 1))."""
        limit = self.max_backoff / self.min_backoff
        return self.min_backoff * min(limit, self.factor ** min(attempt - 1, 64))


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of a failed attempt's error."""

    #: Worth another attempt.
    transient: bool
    reason: str
    #: What the other side asked for; honoured as the shortest wait.
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Another attempt follows after `delay`."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class Fail:
    """No further attempt."""

    reason: str


Decision: TypeAlias = Retry | Fail


def decide(
    attempt: int, max_attempts: int, policy: RetryPolicy, failure: Failure, *, jitter: float | None = None
) -> Decision:
    """Full jitter: uniform between 0 and the ceiling (AWS Architecture Blog, "Exponential Backoff And Jitter").

    `jitter` is the uniform draw in [0, 1); drawn when absent.
    """
    if not failure.transient:
        return Fail(failure.reason)
    if attempt >= max_attempts:
        return Fail(failure.reason)
    draw = random.random() if jitter is None else jitter  # noqa: S311
    delay = policy.ceiling(attempt) * draw
    if failure.retry_after is not None:
        delay = max(delay, failure.retry_after)
    return Retry(delay)
