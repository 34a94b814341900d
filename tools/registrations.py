"""Where a service is registered beside its own folder and contract: each place a text, before and after.

What can find a service by itself has no entry here: `waybill up` (entry points), the command line and the dashboard
(contracts and routes), the Makefile, the Dockerfile and the checks (folders).
"""

import json
from collections.abc import Callable, Mapping

from service_names import Names

Place = Callable[[str, Names, Mapping[str, str]], str]


class PlaceNotFoundError(LookupError):
    """The file does not have the line that tells where a service is entered."""


def import_rules(text: str, names: Names, templates: Mapping[str, str]) -> str:
    """`.importlinter`: a root package, whom nobody imports, layered, with a contract of its own."""
    package = f"{names.service}_service"
    for section in ("[importlinter]", "[importlinter:contract:independent]", "[importlinter:contract:chassis]"):
        text = _before(text, "    dashboard_service\n", f"    {package}\n", after=section)
    text = _before(text, "forbidden_modules =\n", f"    {package}.*\n", after="[importlinter:contract:frameworks]")
    return _before(text, "[importlinter:contract:clients-only]\n", templates["importlinter.ini"])


def compose(text: str, names: Names, templates: Mapping[str, str]) -> str:
    """`docker-compose.yml`: image, gateway, worker, volumes, route."""
    route = f"{names.service}={names.service}-gateway:{names.port},"
    healthy = f"      {names.service}-gateway: {{condition: service_healthy}}\n"
    text = _before(text, "opentelemetry.proto.collector.metrics.v1=metrics\n", route, after="WAYBILL_ROUTES")
    text = _before(text, "x-after-stores:", templates["compose_settings.yml"])
    credentials = f"    - {names.service}-credentials:/credentials/{names.service}\n"
    text = _before(text, "  logging: *logging\n", credentials, after="x-setup:")
    text = _before(text, "  # A gRPC client: it keeps its audit log", templates["compose_containers.yml"])
    text = _before(text, "\nnetworks:\n", healthy, after="  dashboard-web:\n")
    return f"{text.rstrip()}\n  {names.service}-credentials:\n  {names.service}-state:\n"


def tasks_on_record(text: str, _names: Names, templates: Mapping[str, str]) -> str:
    """`tests/contract/tasks_and_queues.json`: names that are stored and sent."""
    recorded = {**json.loads(text), _names.service: json.loads(templates["tasks_and_queues.json"])}
    return json.dumps(dict(sorted(recorded.items())), indent=2) + "\n"


def store_users(text: str, names: Names, _templates: Mapping[str, str]) -> str:
    """`deploy/redis/users.acl`: what `reports` may do with its keys, the service may do with its own."""
    granted = [line for line in text.splitlines() if line.startswith("user reports")]
    if not granted:
        raise PlaceNotFoundError("no line begins with 'user reports'")
    return "\n".join([text.rstrip(), *(line.replace("reports", names.service) for line in granted)]) + "\n"


def deploying(text: str, names: Names, _templates: Mapping[str, str]) -> str:
    """`docs/deploying.md`: what is published, and what is kept where."""
    service = names.service
    container = f"| `{service}-gateway` | the gRPC door of {service} | {names.port} | `{service.upper()}_PORT` |\n"
    text = _before(text, "| `dashboard-web`", container)
    kept = f"| `{service}-state` | nothing, as long as the database is PostgreSQL |\n"
    return _before(text, "\nThe containers of a service share its volumes", kept)


PLACES: Mapping[str, Place] = {
    ".importlinter": import_rules,
    "docker-compose.yml": compose,
    "tests/contract/tasks_and_queues.json": tasks_on_record,
    "deploy/redis/users.acl": store_users,
    "docs/deploying.md": deploying,
}


def _before(text: str, line: str, added: str, *, after: str = "") -> str:
    """`added` before the first `line` that follows `after`."""
    start = text.find(after)
    place = text.find(line, start) if start >= 0 else -1
    if place < 0:
        raise PlaceNotFoundError(f"no {line.strip()!r}" + (f" after {after.strip()!r}" if after else ""))
    return text[:place] + added + text[place:]
