"""Many at once: the operations or dead letters that were chosen, or all that match a filter.

A form that is sent without `confirmed` is answered with a question that says how many it is about.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, cast

import grpc
from chassis.errors import FieldViolation, InvalidArgument, Violations
from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue
from google.protobuf import any_pb2

from dashboard_service import payloads, steering
from dashboard_service.auditing import audited, begun
from dashboard_service.clients import Gateway
from dashboard_service.context import current
from dashboard_service.errands import Errand
from dashboard_service.filters import FIELD, OperationFilter
from dashboard_service.operation_rows import STATES, split_name
from dashboard_service.presentation import ask, done
from dashboard_service.problems import of_call
from dashboard_service.steering import Count, Letters

MAX_CHOSEN = 1_000
MAX_LIMIT = 1_000_000

blueprint = Blueprint("bulk", __name__)

Verb = Literal["cancel", "replay", "discard"]
_ACTIONS: Final = {
    "cancel": "operations.cancel",
    "replay": "dead_letters.replay",
    "discard": "dead_letters.discard",
}
_NOTICES: Final = {"cancel": "cancelled-many", "replay": "replayed-many", "discard": "discarded-many"}
_WHAT: Final = {
    "cancel": ("Cancel", "operation", "What their attempts have done so far stays done."),
    "replay": ("Replay", "dead letter", "New operations run what they were to do."),
    "discard": ("Discard", "dead letter", "Their operations stay failed and can not be replayed from here any more."),
}
_PAGES: Final = {"operations": "operations.page", "dead-letters": "dead_letters.page"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the form asks for: the names that were chosen, or all of these services that match."""

    verb: Verb
    names: Sequence[str]
    services: Sequence[str]
    letters: Letters

    @property
    def chosen(self) -> bool:
        return bool(self.names)


@blueprint.post("/bulk")
def bulk() -> ResponseReturnValue:
    """Ask, and then do it."""
    wish = _wish()
    back = _back()
    if request.form.get("confirmed"):
        return _do_chosen(wish, back) if wish.chosen else _do_matching(wish, back)
    count = Count(len(wish.names)) if wish.chosen else _count(wish)
    if not count.number:
        raise InvalidArgument([FieldViolation("", f"there is no {_WHAT[wish.verb][1]} to {wish.verb}")])
    return ask(_question(wish, count), count.number, back)


def _question(wish: Wish, count: Count) -> str:
    verb, noun, consequence = _WHAT[wish.verb]
    nouns = noun if count.number == 1 and not count.more else f"{noun}s"
    which = "" if wish.chosen else f" of {', '.join(wish.services)}"
    if wish.letters.group:
        which += f" that failed as {wish.letters.group}"
    if wish.letters.expression:
        which += f" where {wish.letters.expression}"
    rate = f" at {wish.letters.rate:g} per second" if wish.verb == "replay" and wish.letters.rate else ""
    patch = ", with changed payloads" if wish.verb == "replay" and wish.letters.patch else ""
    return f"{verb} {count} {nouns}{which}{rate}{patch}? {consequence}"


def _count(wish: Wish) -> Count:
    clients = current().clients
    total = Count(0)
    for service in wish.services:
        gateway = clients.of(service)
        if wish.verb == "cancel":
            total += steering.count_live(gateway, wish.letters.expression)
        else:
            total += steering.count_letters(gateway, wish.letters, fresh=wish.verb == "replay")
    return total


def _do_chosen(wish: Wish, back: str) -> ResponseReturnValue:
    """Each by itself, with an entry of its own; one that is refused stops none of the others."""
    refused: list[str] = []
    steer = _one(wish.verb)
    last: grpc.RpcError | None = None
    for name in wish.names:
        service, operation_id = split_name(name)
        gateway = current().clients.of(service)
        try:
            with audited(_ACTIONS[wish.verb], service, name):
                steer(gateway, name)
        except grpc.RpcError as error:
            last = error
            refused.append(f"{service} {operation_id}: {of_call(error).detail}")
    if last is not None and len(refused) == len(wish.names):
        raise last
    return done(_NOTICES[wish.verb], back, len(wish.names) - len(refused), refused)


def _one(verb: Verb) -> Callable[[Gateway, str], object]:
    if verb == "replay":
        # However often the form is sent, each is replayed once by it.
        form_id = request.form.get("form_id") or str(uuid.uuid4())
        return lambda gateway, name: steering.replay(gateway, name, f"{form_id}-{split_name(name)[1]}")
    return steering.cancel if verb == "cancel" else steering.discard


def _do_matching(wish: Wish, back: str) -> ResponseReturnValue:
    letters = wish.letters
    said: dict[str, Any] = {"group": letters.group, "limit": letters.limit or None, "rate": letters.rate or None}
    said["patched"] = letters.patch.type_url if letters.patch else None
    detail = {name: value for name, value in said.items() if value}
    errands: list[tuple[Any, Errand]] = []
    for service in wish.services:
        gateway = current().clients.of(service)
        record = begun(f"{_ACTIONS[wish.verb]}_matching", service, letters.expression or "all", **detail)
        errands.append((record, _errand(wish, gateway)))
    progress = current().errands.run(errands)
    return done("going-on" if progress.going_on else _NOTICES[wish.verb], back, progress.count)


def _errand(wish: Wish, gateway: Gateway) -> Errand:
    if wish.verb == "cancel":
        return partial(steering.cancel_matching, gateway, wish.letters.expression)
    steer = steering.replay_matching if wish.verb == "replay" else steering.discard_matching
    return partial(steer, gateway, wish.letters)


def _wish() -> Wish:
    """Raises InvalidArgument with everything that is wrong with the form."""
    form = request.form
    found = Violations()
    verb, state = form.get("action", ""), form.get("state", "")
    found.require(verb in _ACTIONS, "action", f"expected one of {', '.join(_ACTIONS)}")
    names = () if form.get("all") else tuple(dict.fromkeys(form.getlist("operation")))
    found.require(names or form.get("all"), "operation", "nothing is chosen")
    found.require(len(names) <= MAX_CHOSEN, "operation", f"at most {MAX_CHOSEN:,} are chosen at once")
    found.require(all(split_name(name)[1] for name in names), "operation", "expected operations/{service}/{id}")
    found.require(not state or state in STATES, "state", f"expected one of {', '.join(STATES)}")
    limit, rate = _number(form.get("limit", "")), _number(form.get("rate", ""))
    whole = limit is not None and limit == int(limit) and limit <= MAX_LIMIT
    found.require(whole, "limit", f"expected a whole number, at most {MAX_LIMIT:,}, or nothing for all")
    found.require(rate is not None, "rate", "expected replays per second, or nothing for as fast as it goes")
    found.raise_if_any()
    service = form.get("service", "")
    services = (current().clients.of(service).service,) if service else tuple(current().clients.gateways)
    asked = OperationFilter(state=state, expression=form.get(FIELD, "").strip()).asked
    letters = Letters(asked, form.get("group", ""), int(limit or 0), rate or 0)
    patched = form.get("patch", "").strip() if verb == "replay" and not names else ""
    if patched:
        letters = Letters(asked, letters.group, letters.limit, letters.rate, _patch(services, letters, patched))
    return Wish(cast("Verb", verb), names, services, letters)


def _patch(services: Sequence[str], letters: Letters, text: str) -> any_pb2.Any:
    """The fields to replace, as a message of the type that the newest that matches has."""
    if len(services) != 1:
        raise InvalidArgument(
            [FieldViolation("patch", "choose one service: its dead letters have one type of payload")]
        )
    letter = steering.first_letter(current().clients.of(services[0]), letters)
    if letter is None:
        raise InvalidArgument([FieldViolation("patch", "no dead letter matches, so there is nothing to change")])
    return payloads.edited(letter.request, text)


def _number(text: str) -> float | None:
    """0 for no text, None for what is no number from 0 on."""
    try:
        value = float(text or 0)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _back() -> str:
    """The page that the form was on, showing the same."""
    form = request.form
    page = _PAGES.get(form.get("back", ""), "operations.page")
    names = ("service", "state", "text", FIELD) if page == "operations.page" else ("service", "group", FIELD)
    given: dict[str, Any] = {name: form[name] for name in names if form.get(name)}
    return url_for(page, **given)
