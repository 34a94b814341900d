"""The filter language of lists and of actions on many operations: a subset of AIP-160, read into a value.

`read` gives the expression; `str` of it reads back to the same, and may be longer. The grammar is in docs/filters.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from waybill.operations.v1 import operations_pb2 as ops

from chassis.acceptance import LABEL_KEY
from chassis.errors import FieldViolation, InvalidArgument

MAX_CHARACTERS: Final = 4_096
#: Parentheses and negations within each other.
MAX_DEPTH: Final = 20
#: Comparisons and searched words.
MAX_TERMS: Final = 100

TEXTS: Final = ("task", "queue", "request_id", "trace_id", "parent", "error")
TIMES: Final = ("create_time", "end_time")
LABELS: Final = "labels."
KNOWN: Final = ", ".join(("state", *TEXTS, "labels.<key>", *TIMES))

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SPACE: Final = re.compile(r"\s*")
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_.-]+)?")
_OPERATOR: Final = re.compile(r"\s*(<=|>=|!=|=|<|>|:)\s*")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED: Final = re.compile(r'\\(["\\])')
#: A value stands where nothing else can, so it may hold what a word may not.
_VALUE: Final = re.compile(r'[^\s()"]+')
_WORD: Final = re.compile(r'[^\s()"<>=!:]+')
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field against a value: `=`, `:` (contains) or `:*` (is there) for texts and labels, `=` for the state.

    The value of a state is its number in digits, that of a time its Unix microseconds in digits.
    """

    field: str
    operator: str
    value: str

    def __str__(self) -> str:
        if self.operator == ":*":
            return f"{self.field}:*"
        if self.field == "state":
            return f"state = {ops.OperationState.Name(int(self.value)).removeprefix('OPERATION_STATE_')}"  # type: ignore[arg-type]
        if self.field in TIMES:
            instant = _EPOCH + timedelta(microseconds=int(self.value))
            return f"{self.field} {self.operator} {instant.isoformat()}"
        return f"{self.field} {self.operator} {_quote(self.value)}"


@dataclass(frozen=True, slots=True)
class Search:
    """A text that is contained in the task, the request_id, the error or a label."""

    text: str

    def __str__(self) -> str:
        return _quote(self.text)


@dataclass(frozen=True, slots=True)
class Not:
    """What its part is not true of."""

    part: Expression

    def __str__(self) -> str:
        return f"NOT ({self.part})" if isinstance(self.part, And | Or) else f"NOT {self.part}"


@dataclass(frozen=True, slots=True)
class And:
    """What all parts are true of; without parts, everything."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " AND ".join(map(str, self.parts))


@dataclass(frozen=True, slots=True)
class Or:
    """What at least one part is true of."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " OR ".join(f"({part})" if isinstance(part, And) else str(part) for part in self.parts)


Expression: TypeAlias = Comparison | Search | Not | And | Or
EVERYTHING: Final = And(())


def read(text: str, field: str = "filter") -> Expression:
    """Raises InvalidArgument on `field`, with the position, for what cannot be read. The empty text is everything."""
    try:
        return _Reader(text.replace("\0", "\N{REPLACEMENT CHARACTER}")).whole()
    except _Unreadable as error:
        raise InvalidArgument([FieldViolation(field, f"at position {error.position + 1}: {error.what}")]) from None


def may_match(expression: Expression, state: int) -> bool:
    """Whether it may be true of an operation in that state, whatever else is true of it."""
    return _possible(expression, state)[0]


def _possible(expression: Expression, state: int) -> tuple[bool, bool]:
    """Whether it may be true, and whether it may be false."""
    match expression:
        case Comparison(field="state", value=value):
            return int(value) == state, int(value) != state
        case Not(part):
            true, false = _possible(part, state)
            return false, true
        case And(parts):
            each = [_possible(part, state) for part in parts]
            return all(true for true, _ in each), any(false for _, false in each)
        case Or(parts):
            each = [_possible(part, state) for part in parts]
            return any(true for true, _ in each), all(false for _, false in each)
    return True, True


def fold(text: str) -> str:
    """How texts are compared where case does not matter: of ASCII letters alone, as both databases do."""
    return text.translate(_LOWER)


_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class _Unreadable(Exception):
    """Something else was expected at that position."""

    def __init__(self, position: int, what: str) -> None:
        super().__init__(what)
        self.position = position
        self.what = what


class _Reader:
    """Reads by recursive descent. As in AIP-160, OR binds tighter than AND."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._terms = 0
        self._skip()

    def whole(self) -> Expression:
        if len(self._text) > MAX_CHARACTERS:
            raise _Unreadable(MAX_CHARACTERS, f"there are more than {MAX_CHARACTERS:,} characters")
        if self._ended():
            return EVERYTHING
        expression = self._expression()
        if not self._ended():
            raise self._unexpected("AND, OR or the end")
        return expression

    def _expression(self) -> Expression:
        """Factors joined by AND, or by nothing."""
        parts = [self._factor()]
        while not self._ended() and not self._text.startswith(")", self._at):
            self._keyword("AND")
            parts.append(self._factor())
        return parts[0] if len(parts) == 1 else And(_flat(parts, And))

    def _factor(self) -> Expression:
        parts = [self._term()]
        while self._keyword("OR"):
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else Or(_flat(parts, Or))

    def _term(self) -> Expression:
        if self._keyword("NOT") or self._literal("-"):
            return self._nested(lambda: Not(self._term()))
        if self._literal("("):
            return self._nested(self._parenthesis)
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise _Unreadable(self._at, f"there are more than {MAX_TERMS} comparisons")
        return self._restriction()

    def _nested(self, read_part: Callable[[], Expression]) -> Expression:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Unreadable(self._at, f"nested more than {MAX_DEPTH} deep")
        part = read_part()
        self._depth -= 1
        return part

    def _parenthesis(self) -> Expression:
        inside = self._expression()
        if not self._literal(")"):
            raise self._unexpected("a closing parenthesis")
        return inside

    def _restriction(self) -> Expression:
        begin = self._at
        field = _FIELD.match(self._text, begin)
        operator = _OPERATOR.match(self._text, field.end()) if field else None
        if field is not None and operator is not None:
            self._at = operator.end()
            return self._comparison(field[0], operator[1], begin)
        return Search(self._search())

    def _search(self) -> str:
        if (quoted := self._quoted()) is not None:
            return quoted
        word = _WORD.match(self._text, self._at)
        if word is None or self._is_keyword("AND", "OR", "NOT"):
            raise self._unexpected("a comparison or a word")
        self._at = word.end()
        self._skip()
        return word[0]

    def _comparison(self, field: str, operator: str, begin: int) -> Expression:
        at = self._at
        quoted = self._quoted()
        value = self._value() if quoted is None else quoted
        if operator == ":" and quoted is None and value == "*":
            operator, value = ":*", ""
        compare = _comparison_of(field)
        if compare is None:
            raise _Unreadable(begin, f"{field!r} is not a field of operations; known: {KNOWN}")
        return compare(field, operator, value, (begin, at))

    def _value(self) -> str:
        value = _VALUE.match(self._text, self._at)
        if value is None:
            raise self._unexpected("a value")
        self._at = value.end()
        self._skip()
        return value[0]

    def _quoted(self) -> str | None:
        if not self._text.startswith('"', self._at):
            return None
        quoted = _QUOTED.match(self._text, self._at)
        if quoted is None:
            raise _Unreadable(self._at, "a quote that is not closed")
        self._at = quoted.end()
        self._skip()
        return _ESCAPED.sub(r"\1", quoted[1])

    def _keyword(self, *words: str) -> bool:
        found = self._is_keyword(*words)
        if found:
            self._at += len(found)
            self._skip()
        return bool(found)

    def _is_keyword(self, *words: str) -> str:
        """The one of them that stands here as a word of its own, in capitals; empty for none."""
        word = _WORD.match(self._text, self._at)
        return word[0] if word is not None and word[0] in words else ""

    def _literal(self, character: str) -> bool:
        found = self._text.startswith(character, self._at)
        if found:
            self._at += 1
            self._skip()
        return found

    def _skip(self) -> None:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at

    def _ended(self) -> bool:
        return self._at >= len(self._text)

    def _unexpected(self, wanted: str) -> _Unreadable:
        rest = self._text[self._at : self._at + 20]
        return _Unreadable(self._at, f"expected {wanted}, found {f'{rest!r}' if rest else 'the end'}")


def _flat(parts: list[Expression], kind: type[And | Or]) -> tuple[Expression, ...]:
    """What is joined twice by the same word is joined once."""
    return tuple(_flattened(parts, kind))


def _flattened(parts: list[Expression], kind: type[And | Or]) -> Iterator[Expression]:
    for part in parts:
        yield from part.parts if isinstance(part, kind) else (part,)


#: Field, operator, value, and where field and value begin.
_Compare: TypeAlias = Callable[[str, str, str, tuple[int, int]], Expression]


def _comparison_of(field: str) -> _Compare | None:
    if field == "state":
        return _state
    if field in TIMES:
        return _time
    if field == "labels":
        return _labels
    if field in TEXTS or field.startswith(LABELS):
        return _text
    return None


def _text(field: str, operator: str, value: str, at: tuple[int, int]) -> Expression:
    if field.startswith(LABELS):
        _check_label(field.removeprefix(LABELS), at[0])
    if operator not in {"=", "!=", ":", ":*"}:
        raise _Unreadable(at[0], f"{field} is a text: it takes =, != and :, not {operator}")
    return _negatable(field, operator, value)


def _labels(field: str, operator: str, value: str, at: tuple[int, int]) -> Expression:
    """`labels:team` is `labels.team:*`."""
    if operator != ":":
        raise _Unreadable(at[0], f"{field} takes :<key>; a single one is labels.<key>")
    _check_label(value, at[1])
    return Comparison(f"{LABELS}{value}", ":*", "")


def _check_label(key: str, at: int) -> None:
    if not LABEL_KEY.fullmatch(key):
        raise _Unreadable(at, f"{key!r} is not the key of a label")


def _state(field: str, operator: str, value: str, at: tuple[int, int]) -> Expression:
    if operator not in {"=", "!=", ":"}:
        raise _Unreadable(at[0], f"{field} takes =, != and :, not {operator}")
    name = value.upper().removeprefix("OPERATION_STATE_")
    names = [known.removeprefix("OPERATION_STATE_") for known, number in ops.OperationState.items() if number]
    if name not in names:
        raise _Unreadable(at[1], f"{value!r} is not a state; there are {', '.join(names)}")
    state = ops.OperationState.Value(f"OPERATION_STATE_{name}")
    return _negatable(field, "=" if operator == ":" else operator, str(state))


def _time(field: str, operator: str, value: str, at: tuple[int, int]) -> Expression:
    if operator == ":*":
        return Comparison(field, operator, "")
    if operator == ":":
        raise _Unreadable(at[0], f"{field} takes =, !=, <, <=, >, >= and :*")
    if not _INSTANT.fullmatch(value) or not value.isascii():
        raise _Unreadable(at[1], f"{value!r} is not an instant such as 2026-01-31T12:00:00Z (RFC 3339)")
    try:
        instant = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _Unreadable(at[1], f"{value!r} is not an instant of the calendar") from None
    return _negatable(field, operator, str((instant - _EPOCH) // timedelta(microseconds=1)))


def _negatable(field: str, operator: str, value: str) -> Expression:
    if operator == "!=":
        return Not(Comparison(field, "=", value))
    return Comparison(field, operator, value)
