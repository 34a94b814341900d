"""What can be done to operations and dead letters: to one by its name, or to all of a service that match."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from waybill.admin.v1 import admin_pb2

from dashboard_service.clients import CALL_TIMEOUT, Gateway
from dashboard_service.filters import LIVE, conjoin
from dashboard_service.operation_rows import of_operation

# What a question says it is about is counted no further than this.
MAX_COUNTED = 10_000
PAGE_SIZE = 1_000
# One call steers at most so many, so that none takes long and one that is told to stop has soon done so.
CHUNK = 1_000
MATCHING_TIMEOUT = timedelta(seconds=60)
# A call that replays at a rate is as long as its replays need: so many seconds' worth go with one.
PACED_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Count:
    """How many match; `more` where there are more than were counted."""

    number: int
    more: bool = False

    def __add__(self, other: "Count") -> "Count":
        return Count(self.number + other.number, self.more or other.more)

    def __str__(self) -> str:
        return f"more than {self.number:,}" if self.more else f"{self.number:,}"


@dataclass(frozen=True, slots=True)
class Letters:
    """Dead letters of a service. `limit` 0: all of them; `rate` in replays per second, 0: as fast as it goes."""

    expression: str = ""
    group: str = ""
    limit: int = 0
    rate: float = 0
    patch: any_pb2.Any | None = None


def cancel(gateway: Gateway, name: str) -> None:
    """Ask for the cancellation of one operation."""
    wanted = operations_pb2.CancelOperationRequest(name=name)
    gateway.operations.CancelOperation(wanted, timeout=CALL_TIMEOUT.total_seconds())


def replay(
    gateway: Gateway, name: str, request_id: str = "", edited: any_pb2.Any | None = None
) -> operations_pb2.Operation:
    """A new operation with the dead letter's payload, or with the edited one."""
    wanted = admin_pb2.ReplayDeadLetterRequest(
        service=gateway.service, operation=name, request_id=request_id, edited_request=edited
    )
    return gateway.dead_letters.ReplayDeadLetter(wanted, timeout=CALL_TIMEOUT.total_seconds())


def discard(gateway: Gateway, name: str) -> None:
    """Take one off the dead letters."""
    wanted = admin_pb2.DiscardDeadLetterRequest(service=gateway.service, operation=name)
    gateway.dead_letters.DiscardDeadLetter(wanted, timeout=CALL_TIMEOUT.total_seconds())


def count_live(gateway: Gateway, expression: str) -> Count:
    """How many that match have not ended."""
    number, token = 0, ""
    while True:
        wanted = operations_pb2.ListOperationsRequest(
            name=f"operations/{gateway.service}",
            filter=conjoin(expression, LIVE),
            page_size=PAGE_SIZE,
            page_token=token,
        )
        answer = gateway.operations.ListOperations(wanted, timeout=CALL_TIMEOUT.total_seconds())
        number += sum(not of_operation(each).final for each in answer.operations)
        token = answer.next_page_token
        if not token or number >= MAX_COUNTED:
            return Count(number, bool(token))


def count_letters(gateway: Gateway, wanted: Letters, *, fresh: bool) -> Count:
    """How many match; `fresh`: of those that have not been replayed yet. No more than the limit."""
    number = 0
    bound = min(wanted.limit or MAX_COUNTED, MAX_COUNTED)
    for page in _letters(gateway, wanted):
        number += sum(not (fresh and each.replayed_by) for each in page.dead_letters)
        if number >= bound:
            # Exactly as many as are wanted are no more than that.
            return Count(bound, more=not wanted.limit and (number > bound or bool(page.next_page_token)))
    return Count(number)


def first_letter(gateway: Gateway, wanted: Letters) -> admin_pb2.DeadLetter | None:
    """The newest that matches, with its payload."""
    for page in _letters(gateway, wanted, size=1):
        for each in page.dead_letters:
            asked = admin_pb2.GetDeadLetterRequest(service=gateway.service, operation=each.operation)
            return gateway.dead_letters.GetDeadLetter(asked, timeout=CALL_TIMEOUT.total_seconds())
    return None


def cancel_matching(gateway: Gateway, expression: str, stopping: threading.Event) -> Iterator[int]:
    """Cancel all that match and have not ended; yields how many with each call."""
    more = True
    while more and not stopping.is_set():
        wanted = admin_pb2.CancelOperationsRequest(service=gateway.service, filter=expression or LIVE, limit=CHUNK)
        answer = gateway.steering.CancelOperations(wanted, timeout=MATCHING_TIMEOUT.total_seconds())
        more = answer.more and answer.cancelled > 0
        yield answer.cancelled


def replay_matching(gateway: Gateway, wanted: Letters, stopping: threading.Event) -> Iterator[int]:
    """Replay those that match and have not been replayed yet, oldest first; yields how many with each call."""
    left = wanted.limit
    while not stopping.is_set():
        chunk = min(CHUNK, max(1, int(wanted.rate * PACED_SECONDS))) if wanted.rate else CHUNK
        chunk = min(chunk, left) if wanted.limit else chunk
        request = admin_pb2.ReplayDeadLettersRequest(
            service=gateway.service,
            group=wanted.group,
            filter=wanted.expression,
            limit=chunk,
            rate=wanted.rate,
            payload_patch=wanted.patch,
        )
        paced = chunk / wanted.rate if wanted.rate else 0
        answer = gateway.dead_letters.ReplayDeadLetters(request, timeout=MATCHING_TIMEOUT.total_seconds() + paced)
        yield len(answer.operations)
        left -= len(answer.operations)
        if len(answer.operations) < chunk or (wanted.limit and left <= 0):
            return


def discard_matching(gateway: Gateway, wanted: Letters, stopping: threading.Event) -> Iterator[int]:
    """Discard those that match, oldest first; yields how many with each call."""
    left = wanted.limit
    while not stopping.is_set():
        chunk = min(CHUNK, left) if wanted.limit else CHUNK
        request = admin_pb2.DiscardDeadLettersRequest(
            service=gateway.service, group=wanted.group, filter=wanted.expression, limit=chunk
        )
        answer = gateway.dead_letters.DiscardDeadLetters(request, timeout=MATCHING_TIMEOUT.total_seconds())
        yield answer.discarded
        left -= answer.discarded
        if answer.discarded < chunk or (wanted.limit and left <= 0):
            return


def _letters(gateway: Gateway, wanted: Letters, size: int = PAGE_SIZE) -> Iterator[admin_pb2.ListDeadLettersResponse]:
    request = admin_pb2.ListDeadLettersRequest(
        service=gateway.service, group=wanted.group, filter=wanted.expression, page_size=size
    )
    while True:
        page = gateway.dead_letters.ListDeadLetters(request, timeout=CALL_TIMEOUT.total_seconds())
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
