"""Filters as SQL on the archive's tables; says what `chassis.facts.matches` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from chassis.archive_schema import EMPTY
from chassis.archive_schema import LABELS as LABEL_ROWS
from chassis.filters import LABELS, TIMES, And, Comparison, Expression, Not, Or, Search, fold

Condition = sa.ColumnElement[bool]
#: Of `operations`, or of a subquery that has those of them that `columns_of` names.
Columns = Any


def clause(expression: Expression, columns: Columns) -> Condition:
    """Never null."""
    match expression:
        case And(parts):
            return sa.and_(sa.true(), *(clause(part, columns) for part in parts))
        case Or(parts):
            return sa.or_(sa.false(), *(clause(part, columns) for part in parts))
        case Not(part):
            return sa.not_(clause(part, columns))
        case Search(text):
            return _FoldedContains(columns.search_text, _folded(text)) if text else sa.true()
        case Comparison():
            return _comparison(expression, columns)


def _comparison(comparison: Comparison, columns: Columns) -> Condition:
    field, operator, value = comparison.field, comparison.operator, comparison.value
    if field.startswith(LABELS):
        return _label_clause(columns.id, field.removeprefix(LABELS), operator, value)
    if field == "state":
        return columns.state == int(value)  # type: ignore[no-any-return]
    if field in TIMES:
        return time_clause(columns[f"{field}_us"], operator, value)
    return sa.or_(*(_text_clause(columns[name], operator, value) for name in sorted(columns_of(comparison))))


def columns_of(expression: Expression) -> frozenset[str]:
    """The columns of `operations` that its clause names, the id aside."""
    match expression:
        case And(parts) | Or(parts):
            return frozenset().union(*map(columns_of, parts))
        case Not(part):
            return columns_of(part)
        case Search():
            return frozenset({"search_text"})
        case Comparison(field):
            return frozenset() if field.startswith(LABELS) else _COLUMNS.get(field, frozenset({field}))


_COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    "error": frozenset({"error_reason", "error_message"}),
    **{field: frozenset({f"{field}_us"}) for field in TIMES},
}


def time_clause(column: sa.ColumnElement[int], operator: str, value: str) -> Condition:
    """Of an archived operation, which has both times."""
    return sa.true() if operator == ":*" else _COMPARE[operator](column, int(value))


_COMPARE: Final[Mapping[str, Callable[[sa.ColumnElement[int], int], Condition]]] = {
    "=": lambda column, value: column == value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}


def _text_clause(column: sa.ColumnElement[str], operator: str, value: str) -> Condition:
    if operator == ":*":
        return column != EMPTY
    if operator == "=":
        return column == value
    return _Contains(column, _folded(value)) if value else sa.true()


def _label_clause(operation_id: sa.ColumnElement[str], key: str, operator: str, value: str) -> Condition:
    columns = LABEL_ROWS.c
    labelled = sa.select(columns.operation_id).where(columns.operation_id == operation_id, columns.key == key)
    if operator != ":*":
        labelled = labelled.where(_text_clause(columns.value, operator, value))
    return labelled.exists()


def _folded(part: str) -> sa.ColumnElement[str]:
    return sa.literal(fold(part), sa.Text())


class _Contains(FunctionElement[bool]):
    """A text, and a folded part of it: bytewise, the case of ASCII letters aside."""

    type = sa.Boolean()
    inherit_cache = True


class _FoldedContains(FunctionElement[bool]):
    """The same of a text that is folded already."""

    type = sa.Boolean()
    inherit_cache = True


@compiles(_Contains, "sqlite")
def _in_sqlite(element: _Contains, compiler: SQLCompiler, **options: Any) -> str:
    text, part = _sides(element, compiler, options)
    return f"(instr(lower({text}), {part}) > 0)"


@compiles(_FoldedContains, "sqlite")
def _folded_in_sqlite(element: _FoldedContains, compiler: SQLCompiler, **options: Any) -> str:
    text, part = _sides(element, compiler, options)
    return f"(instr({text}, {part}) > 0)"


@compiles(_Contains)
def _in_postgresql(element: _Contains, compiler: SQLCompiler, **options: Any) -> str:
    """By this collation `lower` changes ASCII letters alone, as SQLite's does."""
    text, part = _sides(element, compiler, options)
    return f'(strpos(lower({text} COLLATE "C"), {part}) > 0)'


@compiles(_FoldedContains)
def _folded_in_postgresql(element: _FoldedContains, compiler: SQLCompiler, **options: Any) -> str:
    text, part = _sides(element, compiler, options)
    return f"(strpos({text}, {part}) > 0)"


def _sides(element: FunctionElement[bool], compiler: SQLCompiler, options: Any) -> list[str]:
    return [str(compiler.process(side, **options)) for side in element.clauses]
