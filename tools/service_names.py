"""What a new service and its first task may be called, and every form that the two names take."""

import keyword
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

MAX_SERVICE = 20
MAX_TASK = 30

# Names that would mean something else somewhere, each with what they are.
_OTHERS: Mapping[str, str] = {
    **dict.fromkeys(("sample", "chaos", "noop"), "a service of the tests or benchmarks"),
    **dict.fromkeys(("chassis", "waybill", "cli", "proto", "shared"), "a part of the platform"),
    **dict.fromkeys(("archive", "outbox"), "a part of every service's database"),
    **dict.fromkeys(
        (
            "environment",
            "process",
            "setup",
            "authority",
            "stores",
            "postgres",
            "valkey",
            "jaeger",
            "mailpit",
            "mail",
        ),
        "a part of docker-compose.yml",
    ),
    **dict.fromkeys(
        ("otel", "python", "pytest", "ssl", "pip", "uv", "xdg", "grpc", "redis", "docker", "compose"),
        "the prefix of somebody else's environment variables",
    ),
    "seedling": "what the templates call the service",
    "externalscaler": "a contract of KEDA's",
}


@dataclass(frozen=True)
class Names:
    """A service and its first task, `orders` and `place_order`, and the port of the gateway."""

    service: str
    task: str
    port: int

    @property
    def replacements(self) -> Mapping[str, str]:
        """What the templates say, and what stands there instead."""
        return {
            "seedling": self.service,
            "Seedling": self.service.capitalize(),
            "SEEDLING": self.service.upper(),
            "process_item": self.task,
            "process-item": self.task.replace("_", "-"),
            "ProcessItem": "".join(word.capitalize() for word in self.task.split("_")),
            "50999": str(self.port),
        }

    def filled_in(self, template: str) -> str:
        """A template's text, or a path, with these names."""
        placeholders = "|".join(map(re.escape, self.replacements))
        return re.sub(placeholders, lambda found: self.replacements[found[0]], template)


def problems(service: str, task: str, taken: Collection[str]) -> Iterator[str]:
    """Everything that is wrong with the two names, for whoever chose them. `taken`: names that exist."""
    yield from _service_problems(service, taken)
    yield from _task_problems(task)


def _service_problems(service: str, taken: Collection[str]) -> Iterator[str]:
    if not service:
        yield "NAME is not set: make new-service NAME=orders"
    elif not re.fullmatch(r"[a-z][a-z0-9]*", service):
        yield f"NAME={service}: expected lower-case letters and digits, a letter first; host names are made of it"
    elif not 2 <= len(service) <= MAX_SERVICE:  # noqa: PLR2004 - one letter names nothing
        yield f"NAME={service}: expected 2 to {MAX_SERVICE} characters, it has {len(service)}"
    elif keyword.iskeyword(service):
        yield f"NAME={service}: a keyword of Python, which no package can be called"
    elif service in taken:
        yield f"NAME={service}: taken, there is a service or a contract of that name; nothing was overwritten"
    elif service in _OTHERS:
        yield f"NAME={service}: reserved, it is {_OTHERS[service]}"


def _task_problems(task: str) -> Iterator[str]:
    if not re.fullmatch(r"[a-z]+(_[a-z][a-z0-9]*)+", task):
        yield f"TASK={task}: expected a verb and a noun in lower case, place_order"
    elif len(task) > MAX_TASK:
        yield f"TASK={task}: expected at most {MAX_TASK} characters, it has {len(task)}"
