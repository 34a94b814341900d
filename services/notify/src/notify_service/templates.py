"""Templates of notifications: what is taken, and how they are rendered. Needs no database and no network."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chassis.errors import FieldViolation, InvalidArgument, Violations
from jinja2 import TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.environment import Template as Compiled
from jinja2.exceptions import SecurityError
from waybill.notify.v1 import notify_pb2

from notify_service.identifiers import check_id
from notify_service.sandbox import LimitExceeded, Sandbox, refusals

MAX_SOURCE: Final = 65_536
MAX_SUBJECT: Final = 500
#: Characters of a rendered part.
MAX_OUTPUT: Final = 200_000
#: Variables that the service gives itself.
RESERVED: Final = ("recipient",)

INVALID: Final = "TEMPLATE_INVALID"
ESCAPE: Final = "TEMPLATE_SANDBOX"
UNDEFINED: Final = "TEMPLATE_VARIABLE_UNDEFINED"
TOO_LARGE: Final = "TEMPLATE_LIMIT_EXCEEDED"
FAILED: Final = "TEMPLATE_RENDER_FAILED"

# What Python's operators, filters and tests raise on values that do not suit them.
# Jinja2 asserts some of its filters' arguments: `truncate(2)`.
_FAULTS: Final = (
    TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class RenderError(Exception):
    """The template could not be rendered."""

    def __init__(self, part: str, line: int, description: str, reason: str) -> None:
        super().__init__(f"{part}, line {line}: {description}" if line else f"{part}: {description}")
        self.part = part
        self.line = line
        self.description = description
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rendered:
    """A notification as one recipient gets it; `html` is empty where the template has none."""

    subject: str
    text: str
    html: str


class NotificationTemplate:
    """A template, compiled once to be rendered for any number of recipients, one at a time."""

    def __init__(self, template: notify_pb2.Template) -> None:
        """Raises RenderError for a source that `check` refuses."""
        self.template_id = template.template_id
        self.version = template.version
        self._parts = {part: _Part(part, source) for part, source in _sources(template)}

    def render(self, variables: Mapping[str, Any]) -> Rendered:
        """Raises RenderError; a variable that is not given is one."""
        subject = self._parts["subject"].render(variables).strip()
        _check_subject(subject)
        html = self._parts.get("html")
        return Rendered(subject, self._parts["text"].render(variables), html.render(variables) if html else "")


class _Part:
    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self._environment = Sandbox(autoescape=name == "html")
        self._compiled = self._compile(source)

    def render(self, variables: Mapping[str, Any]) -> str:
        self._environment.begin()
        try:
            return "".join(self._pieces(variables))
        except _FAULTS as error:
            raise self._render_error(error) from error

    def _pieces(self, variables: Mapping[str, Any]) -> Iterator[str]:
        size = 0
        for piece in self._compiled.generate(dict(variables)):
            size += len(piece)
            if size > MAX_OUTPUT:
                raise LimitExceeded(f"the output has more than {MAX_OUTPUT} characters")
            yield piece

    def _compile(self, source: str) -> Compiled:
        environment = self._environment
        try:
            refused = list(refusals(environment.parse(source), environment))
            if not refused:
                code = environment.compile(environment.bounded(source), filename=self._filename)
                return environment.template_class.from_code(environment, code, environment.make_globals(None))
        except TemplateSyntaxError as error:
            raise RenderError(self.name, error.lineno, error.message or "is not a template", INVALID) from error
        except (RecursionError, SyntaxError) as error:
            raise RenderError(self.name, 0, "is nested too deeply", INVALID) from error
        first = next((refusal for refusal in refused if refusal.escape), refused[0])
        raise RenderError(self.name, first.line, first.description, ESCAPE if first.escape else INVALID)

    @property
    def _filename(self) -> str:
        return f"<{self.name}>"

    def _render_error(self, error: Exception) -> RenderError:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == self._filename), None)
        reasons: Mapping[type[Exception], str] = {
            SecurityError: ESCAPE,
            UndefinedError: UNDEFINED,
            LimitExceeded: TOO_LARGE,
        }
        return RenderError(self.name, line or 0, str(error) or type(error).__name__, reasons.get(type(error), FAILED))


def check(template: notify_pb2.Template, path: str, violations: Violations, *, stored: bool = True) -> str:
    """Add everything that is wrong with a template; returns the reason for refusing it, "" for none of its own.

    `stored`: it needs an id.
    """
    if stored:
        check_id(template.template_id, f"{path}.template_id", violations)
    violations.require(template.subject.strip(), f"{path}.subject", "is required: the subject line")
    violations.require(template.text.strip(), f"{path}.text", "is required: the plain text")
    errors = list(_errors(template))
    for error in errors:
        at = f"line {error.line}: " if error.line else ""
        violations.add(f"{path}.{error.part}", f"{at}{error.description}")
    reasons = {error.reason for error in errors}
    return ESCAPE if ESCAPE in reasons else next(iter(reasons), "")


def check_variables(variables: Mapping[str, Any], violations: Violations) -> None:
    """Add a violation for every variable that the service gives itself."""
    for name in RESERVED:
        violations.require(name not in variables, f"variables.{name}", "is given by the service; choose another name")


def invalid(error: RenderError, path: str) -> InvalidArgument:
    """The error as a violation of the field that holds the part."""
    at = f"line {error.line}: " if error.line else ""
    return InvalidArgument([FieldViolation(f"{path}.{error.part}", f"{at}{error.description}")], reason=error.reason)


def _errors(template: notify_pb2.Template) -> Iterator[RenderError]:
    for part, source in _sources(template):
        if len(source) > MAX_SOURCE:
            yield RenderError(part, 0, f"has {len(source)} characters; at most {MAX_SOURCE} are taken", TOO_LARGE)
            continue
        try:
            _Part(part, source)
        except RenderError as error:
            yield error


def _sources(template: notify_pb2.Template) -> list[tuple[str, str]]:
    parts = [("subject", template.subject), ("text", template.text)]
    return [*parts, ("html", template.html)] if template.html else parts


def _check_subject(subject: str) -> None:
    problem = ""
    if not subject:
        problem = "is empty"
    elif len(subject) > MAX_SUBJECT:
        problem = f"has {len(subject)} characters; at most {MAX_SUBJECT} are taken"
    elif not subject.isprintable():
        problem = "has a line break or another control character; a subject is one line of text"
    if problem:
        raise RenderError("subject", 0, problem, FAILED)
