"""Dead letters, by how they failed: look inside, edit, replay, discard."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from waybill.admin.v1 import admin_pb2

from dashboard_service import payloads, steering
from dashboard_service.auditing import audited
from dashboard_service.clients import CALL_TIMEOUT, PAGE_TIMEOUT, Gateway
from dashboard_service.context import current
from dashboard_service.filters import FIELD, complaint
from dashboard_service.operation_rows import split_name
from dashboard_service.presentation import done

PAGE_SIZE = 50

blueprint = Blueprint("dead_letters", __name__)


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters of one service that failed alike."""

    service: str
    group: admin_pb2.DeadLetterGroup


@blueprint.get("/dead-letters")
def page() -> str:
    """Groups of all services, and the newest dead letters of what is chosen."""
    return render_template("dead_letters.html", **_values())


def panel() -> str:
    """The part of the page that moves with every sample."""
    return render_template("dead_letters_panel.html", **_values())


@blueprint.get("/dead-letters/<service>/<operation_id>")
def detail(service: str, operation_id: str) -> str:
    """One dead letter with its payload."""
    letter = _get(current().clients.of(service), f"operations/{service}/{operation_id}")
    return render_template(
        "dead_letter.html", service=service, operation_id=operation_id, letter=letter, request_id=str(uuid.uuid4())
    )


@blueprint.post("/dead-letters/<service>/<operation_id>/replay")
def replay(service: str, operation_id: str) -> ResponseReturnValue:
    """Accept a new operation with its payload, or with the edited one."""
    gateway, name = current().clients.of(service), f"operations/{service}/{operation_id}"
    text = request.form.get("payload")
    edited = None
    if text is not None:
        original = _get(gateway, name).request
        edited = None if payloads.same(original, text) else payloads.edited(original, text)
    with audited("dead_letters.replay", service, name, edited=edited is not None) as record:
        accepted = steering.replay(gateway, name, request.form.get("request_id", ""), edited)
        record.message = accepted.name
    owner, new_id = split_name(accepted.name)
    return done("replayed", url_for("operations.detail", service=owner, operation_id=new_id))


@blueprint.post("/dead-letters/<service>/<operation_id>/discard")
def discard(service: str, operation_id: str) -> ResponseReturnValue:
    """Take it off the list."""
    gateway, name = current().clients.of(service), f"operations/{service}/{operation_id}"
    with audited("dead_letters.discard", service, name):
        steering.discard(gateway, name)
    return done("discarded", url_for(".page"))


def _values() -> dict[str, Any]:
    service, group = request.args.get("service", ""), request.args.get("group", "")
    expression = request.args.get(FIELD, "").strip()
    chosen = (service,) if service in current().clients.gateways else ()
    token = request.args.get("page_token", "") if chosen else ""
    answers = (
        current()
        .clients.ask(
            lambda each: each.dead_letters.ListDeadLetters.future(
                _list_request(each.service, group if each.service in chosen else "", expression, token),
                timeout=PAGE_TIMEOUT.total_seconds(),
            )
        )
        .answers()
    )
    complaints = {name: complaint(problem) for name, problem in answers.problems.items()}
    return {
        "service": chosen[0] if chosen else "",
        "group": group if chosen else "",
        "expression": expression,
        "complaints": tuple(dict.fromkeys(filter(None, complaints.values()))),
        "groups": _groups(answers.by_service),
        "letters": _letters(answers.by_service, chosen),
        "next_token": answers.by_service[service].next_page_token if service in answers.by_service else "",
        "total": sum(answer.total for answer in answers.by_service.values()),
        "problems": {name: problem for name, problem in answers.problems.items() if not complaints[name]},
    }


def _list_request(service: str, group: str, expression: str, token: str) -> admin_pb2.ListDeadLettersRequest:
    return admin_pb2.ListDeadLettersRequest(
        service=service, group=group, filter=expression, page_size=PAGE_SIZE, page_token=token
    )


def _groups(answers: Mapping[str, admin_pb2.ListDeadLettersResponse]) -> list[Group]:
    """Of all services, the fullest first."""
    groups = [Group(service, group) for service, answer in answers.items() for group in answer.groups]
    return sorted(groups, key=lambda each: (-each.group.count, each.service, each.group.group))


def _letters(
    answers: Mapping[str, admin_pb2.ListDeadLettersResponse], chosen: Sequence[str]
) -> list[admin_pb2.DeadLetter]:
    """Newest first, of the chosen service or of all."""
    letters = [each for name, answer in answers.items() if not chosen or name in chosen for each in answer.dead_letters]
    return sorted(letters, key=lambda each: each.end_time.ToNanoseconds(), reverse=True)[:PAGE_SIZE]


def _get(gateway: Gateway, operation: str) -> admin_pb2.DeadLetter:
    wanted = admin_pb2.GetDeadLetterRequest(service=gateway.service, operation=operation)
    return gateway.dead_letters.GetDeadLetter(wanted, timeout=CALL_TIMEOUT.total_seconds())
